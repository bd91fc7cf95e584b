"""Signals: what a listener may do wrong, and that nothing else suffers for it."""

from __future__ import annotations

import dataclasses
import errno
import gc
import json
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import blinker
import gevent
import pytest
from support import raising

from smtp_blinker import signals
from smtp_blinker.signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    VerdictEvent,
    emit,
    emit_error,
    error_code,
)


class Server:
    """Stands for a server: a sender that can be referred to weakly."""


class Heard(list[Any]):
    """What `event`, a receiver, was sent; it is held as weakly as any."""

    def event(self, sender: Any, event: Any) -> None:
        self.append(event)


EVENTS: list[Any] = [
    ConnectEvent("id", "127.0.0.1", 25, "192.0.2.1", 4711, None, "[192.0.2.1]"),
    ConnectEvent("id", "::1", 25, "2001:db8::1", 4711, "helo.example", "mail.example"),
    ErrorEvent(ValueError("x"), "HookError"),
    ErrorEvent(
        OSError(errno.ECONNRESET, "reset", b"\xff"),
        "ECONNRESET",
        "192.0.2.1",
        451,
        {"stage": "MAIL", "odd": {1: b"\xff", "set": {1}}, "exc": KeyError("k"), "n": (None, True)},
        "id",
    ),
    SecureEvent("id", "mx.example", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
    SecureEvent("id", None, "TLSv1.2", "x"),
    AuthEvent("id", "PLAIN", None, False),
    AuthEvent("id", "LOGIN", "alice", True),
    MessageEvent("id", 1, "", ("b@example.com", "\udcff@example.com"), 5, 250, "OK", 0.25),
    DisconnectEvent("id", "192.0.2.1", 1.5, 0, 10, 20, "tls", "no TLS handshake within 30 s"),
    RefusedEvent("id", "192.0.2.1", "RCPT", "TO:<x@example.com>", 550, "no"),
    VerdictEvent("id", 1, "clamav", "infected", {"verdict": "infected", "names": ("a", "b")}),
]
NAMES = [
    *("connect", "error", "close", "listening", "secure", "auth", "message", "refused", "verdict"),
    *("disconnect",),
]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(autouse=True)
def nothing_stays_connected() -> Iterator[None]:
    yield
    for name in NAMES:
        signal = getattr(signals, name)
        for receiver in list(signal.receivers_for(object())):
            signal.disconnect(receiver)


@pytest.mark.parametrize("name", NAMES)
def test_signals_have_their_names(name: Any) -> None:
    assert getattr(signals, name).name == name


def test_namespace_is_the_librarys_own() -> None:
    for name in NAMES:
        assert blinker.signal(name) is not getattr(signals, name)


FIELDS: dict[Any, str] = {
    ConnectEvent: "id local_address local_port remote_address remote_port host_name_appears_as "
    "client_hostname",
    ErrorEvent: "error code remote_address response_code meta id",
    SecureEvent: "id servername protocol cipher",
    AuthEvent: "id method username success",
    MessageEvent: "id transaction mail_from rcpt_to size code reply seconds",
    DisconnectEvent: "id remote_address seconds messages bytes_in bytes_out reason detail",
    RefusedEvent: "id remote_address command argument code reply",
    VerdictEvent: "id transaction policy verdict result",
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_have_slots_and_are_json_ready(event: Any) -> None:
    plain = event.as_dict()
    assert list(plain) == FIELDS[type(event)].split()
    assert set(plain) == {field.name for field in dataclasses.fields(event)}
    assert set(json.loads(json.dumps(plain))) == set(plain)
    assert not hasattr(event, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.id = "other"


def test_error_event_tells_the_exception_in_json() -> None:
    plain = ErrorEvent(ValueError("bad thing"), "HookError").as_dict()
    assert plain["error"] == {"type": "ValueError", "message": "bad thing"}
    assert plain["code"] == "HookError"


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (ConnectionResetError(errno.ECONNRESET, "x"), "ECONNRESET"),
        (OSError(errno.EADDRINUSE, "x"), "EADDRINUSE"),
        (ssl.SSLError(1, "x"), "TLSError"),
        (ssl.SSLCertVerificationError(1, "x"), "TLSError"),
        (ConnectionError("no errno"), "ConnectionError"),
        (OSError(99999, "x"), "OSError"),
        (ValueError("x"), "ValueError"),
    ],
)
def test_code_of_an_error(exc: Any, code: str) -> None:
    assert error_code(exc) == code


def test_receiver_gets_the_server_and_the_event(server: Any) -> None:
    heard = []
    event = EVENTS[0]

    def receive(sender: Any, event: Any) -> None:
        heard.append((sender, event))

    signals.connect.connect(receive)
    emit(signals.connect, server, event)
    assert heard == [(server, event)]


def test_signals_without_an_event_carry_no_keyword(server: Any) -> None:
    heard = []

    def receive(sender: Any, **keywords: Any) -> None:
        heard.append((sender, keywords))

    signals.close.connect(receive)
    emit(signals.close, server)
    assert heard == [(server, {})]


def test_plainly_connected_receivers_are_held_weakly(server: Any) -> None:
    heard = []
    signals.connect.connect(lambda sender, event: heard.append(event))

    def kept(sender: Any, event: Any) -> None:
        heard.append("kept")

    signals.connect.connect(kept)
    gc.collect()
    emit(signals.connect, server, EVENTS[0])
    assert heard == ["kept"]


def test_connect_via_holds_strongly_and_hears_one_server(server: Any) -> None:
    heard = []

    def attach() -> None:
        @signals.connect.connect_via(server)
        def receive(sender: Any, event: Any) -> None:
            heard.append(sender)

    attach()
    gc.collect()
    other = Server()
    emit(signals.connect, other, EVENTS[0])
    emit(signals.connect, server, EVENTS[0])
    assert heard == [server]


@pytest.mark.parametrize(
    "failure", [ValueError("x"), SystemExit(3), gevent.GreenletExit(), gevent.Timeout(1), OSError()]
)
def test_receiver_that_raises_is_reported_and_the_others_still_run(
    server: Any, failure: Any
) -> None:
    # Which of them is called first is not for sure, so there are several.
    first, second, errors = Heard(), Heard(), Heard()

    def broken(sender: Any, event: Any) -> None:
        raise failure

    for receiver in (first.event, broken, second.event):
        signals.connect.connect(receiver)
    signals.error.connect(errors.event)
    # As in a session: not in the program's main greenlet.
    gevent.spawn(emit, signals.connect, server, EVENTS[0]).get()
    assert first == second == [EVENTS[0]]
    assert [event.error for event in errors] == [failure]
    assert errors[0].code == "ListenerError"
    assert errors[0].meta["signal"] == "connect"
    assert "broken" in errors[0].meta["listener"]
    json.dumps(errors[0].as_dict())


def test_keyboard_interrupt_is_for_the_program(server: Any) -> None:
    interrupted = raising(KeyboardInterrupt)
    signals.connect.connect(interrupted)
    with pytest.raises(KeyboardInterrupt):
        emit(signals.connect, server, EVENTS[0])


def test_system_exit_in_the_main_greenlet_is_for_the_program(server: Any) -> None:
    leave = raising(SystemExit(3))
    signals.listening.connect(leave)
    with pytest.raises(SystemExit):
        emit(signals.listening, server)


def test_receiver_that_raises_inside_error_is_logged(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()

    broken = raising(RuntimeError("listener of errors"))
    signals.error.connect(broken)
    signals.error.connect(heard.event)
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, EVENTS[2])
    assert heard == [EVENTS[2]]
    assert "listener of errors" in caplog.text
    assert [record.name for record in caplog.records] == ["smtp_blinker"]


@pytest.mark.filterwarnings("error")
def test_coroutine_function_as_a_receiver_is_reported(server: Any) -> None:
    errors = Heard()

    async def receive(sender: Any, event: Any) -> None:
        raise AssertionError("nobody runs it")

    signals.connect.connect(receive)
    signals.error.connect(errors.event)
    emit(signals.connect, server, EVENTS[0])
    gc.collect()
    assert [type(event.error) for event in errors] == [TypeError]
    assert errors[0].code == "ListenerError"


def test_error_nobody_listens_to_is_logged(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, EVENTS[3])
    record = caplog.records[0]
    assert (record.name, record.levelname) == ("smtp_blinker", "ERROR")
    assert "ECONNRESET" in record.getMessage()
    assert "192.0.2.1" in record.getMessage()
    json.dumps(record.smtp)  # type: ignore[attr-defined]


def test_fault_of_the_program_is_logged_with_its_traceback(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise ValueError("the hook's own")
    except ValueError as exc:
        event = ErrorEvent(exc, "HookError")
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, event)
    assert "Traceback" in caplog.text
    assert "the hook's own" in caplog.text


FORGED = "x\r\n2026-11-22 INFO forged\n\x1b[31m\0\x85\u2028\u202e\ud800"


def formatted(record: Any) -> Any:
    return logging.Formatter("%(asctime)s %(levelname)s %(message)s").format(record)


def test_text_of_an_exception_forges_no_line_of_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    try:
        try:
            raise KeyError(FORGED)
        except KeyError:
            raise ValueError(FORGED) from OSError(FORGED)
    except ValueError as exc:
        event = ErrorEvent(exc, "HookError", FORGED.encode("ascii", "replace").decode("ascii")[:1])

    broken = raising(RuntimeError(FORGED))
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, event)
        signals.error.connect(broken)
        emit_error(server, event)
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.exc_info is not None
        text = formatted(record)
        assert all(char == "\n" or char.isprintable() for char in text)
        # Each line is the record's, a frame's, or begins as lines of tracebacks do.
        for line in text.splitlines()[1:]:
            assert re.match(r"Traceback |  |\w+Error: |Which led to:|$", line), line
        assert "forged" in text
        assert not any(line.startswith("2026-11-22 INFO") for line in text.splitlines())


def test_exception_without_a_text_is_logged_too(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        for code in ("HookError", "ECONNRESET"):
            event = ErrorEvent(Mute(), code)
            emit_error(server, event)
            json.dumps(event.as_dict())
    assert [record.getMessage()[:9] for record in caplog.records] == ["HookError", "ECONNRESE"]
    assert "Mute" in formatted(caplog.records[0])


def test_listener_of_another_server_does_not_silence_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = Server()
    heard = Heard()
    signals.error.connect(heard.event, sender=other)
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, EVENTS[2])
    assert heard == []
    assert len(caplog.records) == 1
    emit_error(other, EVENTS[2])
    assert len(heard) == len(caplog.records) == 1


def test_last_listener_that_left_leaves_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    signals.error.connect(heard.event, sender=server)
    signals.error.disconnect(heard.event, sender=server)
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, EVENTS[2])
    assert len(caplog.records) == 1


def test_receivers_may_disconnect_while_they_are_called(server: Any) -> None:
    heard = []

    def once(sender: Any, event: Any) -> None:
        heard.append("once")
        signals.connect.disconnect(once)
        signals.connect.disconnect(other)

    def other(sender: Any, event: Any) -> None:
        heard.append("other")
        signals.connect.disconnect(once)
        signals.connect.disconnect(other)

    signals.connect.connect(once)
    signals.connect.connect(other)
    emit(signals.connect, server, EVENTS[0])
    assert len(heard) == 1, "one that was disconnected meanwhile was called"
    before = list(heard)
    emit(signals.connect, server, EVENTS[0])
    assert heard == before


def test_receivers_may_connect_others_while_they_are_called(server: Any) -> None:
    heard = []

    def late(sender: Any, event: Any) -> None:
        heard.append("late")

    def receive(sender: Any, event: Any) -> None:
        heard.append("first")
        signals.connect.connect(late)

    signals.connect.connect(receive)
    emit(signals.connect, server, EVENTS[0])
    emit(signals.connect, server, EVENTS[0])
    assert heard.count("first") == 2
    assert heard.count("late") in (1, 2)


def test_muted_signals_say_nothing(server: Any) -> None:
    heard = Heard()
    signals.connect.connect(heard.event)
    with signals.connect.muted():
        emit(signals.connect, server, EVENTS[0])
    assert heard == []
    emit(signals.connect, server, EVENTS[0])
    assert heard == [EVENTS[0]]


def test_receiver_with_a_wrong_signature_is_reported(server: Any) -> None:
    errors = Heard()

    def no_event(sender: Any) -> None:
        pass

    signals.connect.connect(no_event)
    signals.error.connect(errors.event)
    emit(signals.connect, server, EVENTS[0])
    assert [type(event.error) for event in errors] == [TypeError]


def test_bound_methods_are_receivers(server: Any) -> None:
    heard = Heard()
    signals.connect.connect(heard.event)
    gc.collect()
    emit(signals.connect, server, EVENTS[0])
    assert heard == [EVENTS[0]]


def test_who_hears_is_found_out_anew_after_every_change(server: Any) -> None:
    heard = []

    def receive(sender: Any, event: Any) -> None:
        heard.append("everybody's")

    def receive_ours(sender: Any, event: Any) -> None:
        heard.append("ours")

    def emit_to(sender: Any) -> Any:
        heard.clear()
        emit(signals.connect, sender, EVENTS[0])
        return sorted(heard)

    other = Server()
    assert emit_to(server) == emit_to(other) == []
    signals.connect.connect(receive)
    assert emit_to(server) == emit_to(other) == ["everybody's"]
    signals.connect.connect(receive_ours, sender=server)
    assert emit_to(server) == ["everybody's", "ours"]
    assert emit_to(other) == ["everybody's"]
    signals.connect.disconnect(receive_ours, sender=server)
    assert emit_to(server) == ["everybody's"]
    with signals.connect.connected_to(receive_ours, sender=other):
        assert emit_to(other) == ["everybody's", "ours"]
    assert emit_to(other) == ["everybody's"]
    del receive
    gc.collect()
    assert emit_to(server) == emit_to(other) == []
    assert signals.connect.receivers_of(server) == ()


def test_cleared_signal_has_no_receivers(server: Any) -> None:
    heard = Heard()
    signals.connect.connect(heard.event)
    emit(signals.connect, server, EVENTS[0])
    signals.connect._clear_state()
    emit(signals.connect, server, EVENTS[0])
    assert heard == [EVENTS[0]]


def test_last_listener_that_died_leaves_the_log(
    server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    signals.error.connect(heard.event)
    emit_error(server, EVENTS[2])
    assert caplog.records == []
    del heard
    gc.collect()
    with caplog.at_level(logging.ERROR, "smtp_blinker"):
        emit_error(server, EVENTS[2])
    assert len(caplog.records) == 1


def test_server_in_the_place_of_an_earlier_one_has_its_own_listeners() -> None:
    heard = []

    def receive(sender: Any, event: Any) -> None:
        heard.append(sender)

    places = set()
    for _ in range(50):
        server = Server()
        places.add(id(server))
        signals.connect.connect(receive, sender=server)
        emit(signals.connect, server, EVENTS[0])
        assert heard.pop() is server
        del server
        server = Server()
        emit(signals.connect, server, EVENTS[0])
        assert heard == []
        places.add(id(server))
        del server
    assert len(places) < 100, "no object came to stand where another had stood"


def test_receiver_that_connects_while_others_are_looked_up_is_heard(server: Any) -> None:
    # Another thread may connect between the looking up and the remembering.
    heard = Heard()

    class Signal(signals.EventSignal):
        def receivers_for(self, sender: Any) -> Iterator[Any]:  # type: ignore[override]
            yield from super().receivers_for(sender)
            if not late_is_there:
                late_is_there.append(True)
                self.connect(heard.event)

    late_is_there: list[bool] = []
    signal = Signal("late")
    emit(signal, server, EVENTS[0])
    assert heard == []
    emit(signal, server, EVENTS[0])
    assert heard == [EVENTS[0]]


def test_sender_that_cannot_be_referred_to_weakly_is_heard() -> None:
    heard = Heard()
    signals.connect.connect(heard.event)
    emit(signals.connect, 25, EVENTS[0])
    assert heard == [EVENTS[0]]


def test_signals_may_be_sent_from_any_thread(server: Any) -> None:
    heard = Heard()
    signals.connect.connect(heard.event)
    thread = threading.Thread(target=emit, args=(signals.connect, server, EVENTS[0]))
    thread.start()
    thread.join(15)
    assert heard == [EVENTS[0]]
