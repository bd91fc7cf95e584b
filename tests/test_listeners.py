"""The listeners, given events through the signals: no server, no socket."""

from __future__ import annotations

import ast
import errno
import gc
import json
import logging
import re
import ssl
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support import python

from smtp_blinker import signals
from smtp_blinker.listeners import log, metrics, tracking
from smtp_blinker.listeners.lines import MAX_TEXT
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
)
from smtp_blinker.smtp.verbs import VERB_NAMES

LISTENERS = Path(log.__file__).parent


class Sender:
    """Stands for a server: all that the signals ask of one is that it can be held weakly."""

    address = ("127.0.0.1", 2525)


@pytest.fixture
def server() -> Any:
    return Sender()


def connect_event(id: str = "a", **changes: Any) -> Any:
    fields = {
        "id": id,
        "local_address": "192.0.2.1",
        "local_port": 25,
        "remote_address": "192.0.2.9",
        "remote_port": 4321,
        "host_name_appears_as": "client.example",
        "client_hostname": "[192.0.2.9]",
    }
    return ConnectEvent(**{**fields, **changes})


def message_event(id: str = "a", code: int = 250, **changes: Any) -> Any:
    fields = {
        "id": id,
        "transaction": 1,
        "mail_from": "a@example.com",
        "rcpt_to": ("b@example.com",),
        "size": 2000,
        "code": code,
        "reply": "OK",
        "seconds": 0.02,
    }
    return MessageEvent(**{**fields, **changes})


def refused_event(
    command: str = "RCPT", argument: str = "TO:<b@example.com>", code: int = 550, **changes: Any
) -> Any:
    fields = {
        "id": "a",
        "remote_address": "192.0.2.9",
        "command": command,
        "argument": argument,
        "code": code,
        "reply": "relaying denied",
    }
    return RefusedEvent(**{**fields, **changes})


def disconnect_event(id: str = "a", reason: str = "quit", detail: str = "") -> Any:
    return DisconnectEvent(id, "192.0.2.9", 1.5, 1, 100, 200, reason, detail)


def error_event(
    error: Any = None, code: str = "ECONNRESET", remote_address: str = "192.0.2.9", **changes: Any
) -> Any:
    error = ConnectionResetError(errno.ECONNRESET, "reset") if error is None else error
    return ErrorEvent(error, code, remote_address, **changes)


def raised(exc: Any) -> Any:
    """*exc* with a traceback."""
    try:
        raise exc
    except type(exc) as caught:
        return caught


class Records(logging.Handler):
    """A handler that keeps records, and writes them as text the way a program's would."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: Any) -> None:
        self.format(record)
        self.records.append(record)

    @property
    def lines(self) -> Any:
        return [self.format(record) for record in self.records]


@pytest.fixture
def events() -> Any:
    """A logger of this test's own, with its handler."""
    logger = logging.Logger("test.events", logging.DEBUG)
    handler = Records()
    logger.addHandler(handler)
    logger.records = handler  # type: ignore[attr-defined]
    return logger


@pytest.fixture
def event_log(events: Any, server: Any) -> Iterator[Any]:
    listener = log.EventLog(events).attach(server)
    yield events.records
    listener.detach()


@pytest.fixture
def tracker(server: Any) -> Iterator[Any]:
    listener = tracking.ConnectionTracker().attach(server)
    yield listener
    listener.detach()


@pytest.fixture
def registry(server: Any) -> Iterator[Any]:
    registry = CollectorRegistry()
    listener = metrics.EventMetrics(registry).attach(server)
    yield registry
    listener.detach()


# All listeners


@pytest.mark.parametrize("path", sorted(LISTENERS.glob("*.py")), ids=lambda path: path.name)
def test_listeners_import_nothing_of_the_library_but_the_signals(path: Any) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
    of_the_library = {name for name in imported if name.startswith((".", "smtp_blinker"))}
    # That one publishes in a queue, as the stores do, and lets others run between two events.
    stores = {f"smtp_blinker.stores.{name}" for name in ("queue", "amqp", "redis_stream")}
    shared = {*stores, "..turns"}
    allowed = shared if path.name == "fleet.py" else set()
    assert of_the_library <= {"..signals", ".lines", *allowed}


def each_listener() -> Any:
    return [
        log.EventLog(logging.Logger("test")),
        tracking.ConnectionTracker(),
        metrics.EventMetrics(CollectorRegistry()),
    ]


def receivers() -> Any:
    return sum(
        len(signal.receivers)  # type: ignore[misc]
        for signal in vars(signals).values()
        if isinstance(signal, signals.NamedSignal)  # type: ignore[attr-defined]
    )


@pytest.mark.parametrize("listener", each_listener(), ids=lambda listener: type(listener).__name__)
def test_attach_and_detach_can_be_repeated_and_leave_nothing(listener: Any, server: Any) -> None:
    before = receivers()
    listener.detach()
    assert listener.attach(server) is listener
    attached = receivers()
    listener.attach(server)
    listener.attach()
    assert receivers() == attached > before
    listener.detach()
    listener.detach()
    assert receivers() == before


@pytest.mark.parametrize("listener", each_listener(), ids=lambda listener: type(listener).__name__)
def test_receivers_take_keywords_of_later_versions(listener: Any, server: Any) -> None:
    for _, receiver in listener._receivers:
        event = {
            "_on_connect": connect_event(),
            "_on_secure": SecureEvent("a", None, "TLSv1.3", "AES"),
            "_on_auth": AuthEvent("a", "PLAIN", None, False),
            "_on_message": message_event(),
            "_on_refused": refused_event(),
            "_on_verdict": VerdictEvent("a", 1, "clamav", "clean"),
            "_on_error": error_event(),
            "_on_disconnect": disconnect_event(),
        }.get(receiver.__name__)
        keywords = {} if event is None else {"event": event}
        receiver(server, **keywords, something_new=1)


def test_attached_listener_is_held_and_hears_its_server_only(server: Any) -> None:
    other = Sender()
    tracker = weakref.ref(tracking.ConnectionTracker().attach(server))
    gc.collect()
    emit(signals.connect, server, connect_event("mine"))
    emit(signals.connect, other, connect_event("other"))
    assert list(tracker().connections) == ["mine"]  # type: ignore[union-attr]
    tracker().detach()  # type: ignore[union-attr]
    gc.collect()
    assert tracker() is None


def test_listener_attached_to_all_and_to_one_server_hears_each_event_once(server: Any) -> None:
    tracker = tracking.ConnectionTracker().attach().attach(server)
    emit(signals.connect, server, connect_event("a"))
    emit(signals.connect, Sender(), connect_event("b"))
    tracker.detach()
    emit(signals.connect, server, connect_event("c"))
    assert tracker.total == 2


# Error categories


@pytest.mark.parametrize(
    ("code", "error", "remote_address", "expected"),
    [
        ("ECONNRESET", ConnectionResetError(), "192.0.2.9", "network"),
        ("EPIPE", BrokenPipeError(), "192.0.2.9", "network"),
        ("ETIMEDOUT", OSError(), "192.0.2.9", "network"),
        ("TimeoutError", TimeoutError(), "192.0.2.9", "network"),
        ("ConnectionError", ConnectionError(), "192.0.2.9", "network"),
        ("EIO", OSError(), "192.0.2.9", "network"),
        ("TLSError", ssl.SSLError(), "192.0.2.9", "tls"),
        ("EADDRINUSE", OSError(), None, "listener"),
        ("EACCES", PermissionError(), None, "listener"),
        ("EMFILE", OSError(), None, "listener"),
        ("gaierror", OSError(), None, "listener"),
        ("HookError", KeyError(), "192.0.2.9", "program"),
        ("HookError", ConnectionResetError(), "192.0.2.9", "program"),
        ("HookTimeout", TimeoutError(), "192.0.2.9", "program"),
        ("ListenerError", OSError(), None, "program"),
        ("ProxyError", ValueError(), "192.0.2.9", "proxy"),
        ("AttributeError", AttributeError(), "192.0.2.9", "other"),
    ],
)
def test_error_categories(code: str, error: Any, remote_address: str | None, expected: str) -> None:
    assert log.category(ErrorEvent(error, code, remote_address)) == expected


# log.py


def test_one_line_for_each_event(server: Any, event_log: Any) -> None:
    emit(signals.listening, server)
    emit(signals.connect, server, connect_event("a"))
    emit(signals.secure, server, SecureEvent("a", "mx.example", "TLSv1.3", "AES"))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "ann", True))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", None, False))
    emit(signals.message, server, message_event("a"))
    emit(signals.message, server, message_event("a", 452, reply="no room"))
    emit(signals.refused, server, refused_event())
    emit(signals.refused, server, refused_event("DATA", "", 503, reply="Bad sequence"))
    emit(signals.refused, server, refused_event("", "", 421, reply="Too many connections"))
    emit_error(server, error_event(id="a", response_code=451, meta={"stage": "content"}))
    emit(signals.disconnect, server, disconnect_event("a"))
    emit(signals.disconnect, server, disconnect_event("b", "tls", "the client distrusts us"))
    emit(signals.close, server)
    assert [(record.levelname, record.getMessage()) for record in event_log.records] == [
        ("INFO", "listening on 127.0.0.1:2525"),
        (
            "INFO",
            "[a] connect from 192.0.2.9 port 4321, [192.0.2.9], calls itself client.example",
        ),
        ("DEBUG", "[a] secure with TLSv1.3, AES, server name mx.example"),
        ("INFO", "[a] AUTH PLAIN succeeded, user ann"),
        ("WARNING", "[a] AUTH PLAIN failed, user not given"),
        (
            "INFO",
            "[a] message 1 answered 250, 2000 bytes in 0.020 s, "
            "from <a@example.com> to <b@example.com>: OK",
        ),
        (
            "INFO",
            "[a] message 1 answered 452, 2000 bytes in 0.020 s, "
            "from <a@example.com> to <b@example.com>: no room",
        ),
        (
            "INFO",
            "[a] refused 192.0.2.9, answered 550 relaying denied: RCPT TO:<b@example.com>",
        ),
        ("INFO", "[a] refused 192.0.2.9, answered 503 Bad sequence: DATA"),
        ("INFO", "[a] refused 192.0.2.9, answered 421 Too many connections"),
        (
            "WARNING",
            "[a] error ECONNRESET (network), client 192.0.2.9, answered 451, stage content: "
            "ConnectionResetError: [Errno 104] reset",
        ),
        (
            "INFO",
            "[a] disconnect of 192.0.2.9, quit after 1.500 s, 1 messages, "
            "100 bytes in, 200 bytes out",
        ),
        (
            "INFO",
            "[b] disconnect of 192.0.2.9, tls after 1.500 s, 1 messages, "
            "100 bytes in, 200 bytes out: the client distrusts us",
        ),
        ("INFO", "closed 127.0.0.1:2525"),
    ]


def test_a_client_of_a_unix_socket_has_a_name_too(server: Any, event_log: Any) -> None:
    emit(signals.connect, server, connect_event(remote_address="", remote_port=0))
    emit(signals.refused, server, refused_event(remote_address=""))
    emit(signals.disconnect, server, DisconnectEvent("a", "", 1.0, 0, 1, 2, "quit"))
    assert [line.split(", ")[0] for line in event_log.lines] == [
        "[a] connect from unix port 0",
        "[a] refused unix",
        "[a] disconnect of unix",
    ]


def test_default_logger_is_the_librarys_own(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_blinker.events")
    listener = log.EventLog().attach(server)
    emit(signals.listening, server)
    listener.detach()
    assert caplog.record_tuples == [
        ("smtp_blinker.events", logging.INFO, "listening on 127.0.0.1:2525")
    ]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("::1", 25, 0, 0), "[::1]:25"),
        ("/run/lmtp.sock", "/run/lmtp.sock"),
        (None, "None"),
    ],
)
def test_listening_names_any_kind_of_address(
    server: Any, event_log: Any, address: str | tuple[str, int, int, int] | None, expected: str
) -> None:
    server.address = address
    emit(signals.listening, server)
    assert event_log.records[0].getMessage() == f"listening on {expected}"


def test_fault_of_the_program_is_an_error_with_the_place_it_came_from(
    server: Any, event_log: Any
) -> None:
    emit_error(server, error_event(raised(KeyError("x")), "HookError", meta={"hook": "on_data"}))
    (record,) = event_log.records
    assert record.levelname == "ERROR"
    assert "(program), client 192.0.2.9, hook on_data, at test_listeners.py:" in record.getMessage()
    assert record.getMessage().endswith(": KeyError: 'x'")
    assert record.exc_info is None


def test_tracebacks_come_with_the_programs_faults_when_asked_for(server: Any, events: Any) -> None:
    listener = log.EventLog(events, tracebacks=True).attach(server)
    emit_error(server, error_event(raised(KeyError("x")), "HookError"))
    emit_error(server, error_event(raised(ConnectionResetError())))
    listener.detach()
    ours, clients = events.records.records
    assert ours.exc_info[0] is KeyError
    assert not clients.exc_info


HOSTILE = [
    "x\nINFO forged line",
    "x\r\nINFO forged line",
    "x\x1b[2Jwiped",
    "x\x00y",
    "x\x85y",
    "x\u2028y",
    "x\u202ey",
    "x\udcffy",
    "100%s %(message)s {0}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_a_client_sends_cannot_break_or_forge_a_line(
    server: Any, event_log: Any, text: Any
) -> None:
    emit(
        signals.connect,
        server,
        connect_event(text, host_name_appears_as=text, client_hostname=text),
    )
    emit(signals.secure, server, SecureEvent("a", text, text, text))
    emit(signals.auth, server, AuthEvent("a", text, text, False))
    emit(signals.message, server, message_event(mail_from=text, rcpt_to=(text, text), reply=text))
    emit(signals.refused, server, refused_event(text, text, reply=text))
    emit_error(server, error_event(raised(ValueError(text)), text, meta={text: text}))
    emit(signals.disconnect, server, disconnect_event(reason=text, detail=text))
    lines = event_log.lines
    assert len(lines) == 7
    for line in lines:
        assert line.isprintable()
        line.encode()


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_json_keeps_what_a_client_sent_within_its_line(server: Any, events: Any, text: Any) -> None:
    events.records.setFormatter(log.JSONFormatter())
    listener = log.EventLog(events, tracebacks=True).attach(server)
    emit(signals.connect, server, connect_event(host_name_appears_as=text))
    emit_error(server, error_event(raised(ValueError(text)), "HookError"))
    listener.detach()
    for line in events.records.lines:
        assert line.isascii()
        assert line.isprintable()
    connection, error = map(json.loads, events.records.lines)
    assert connection["smtp"]["host_name_appears_as"] == text
    assert error["smtp"]["error"] == {"type": "ValueError", "message": text}
    assert text in error["traceback"]


def test_text_has_a_bound_and_json_has_all(server: Any, event_log: Any) -> None:
    recipients = tuple(f"user{n}@example.com" for n in range(1000))
    long = "x" * 100_000
    emit(signals.message, server, message_event(rcpt_to=recipients, mail_from=long, reply=long))
    emit(signals.refused, server, refused_event(argument=long, reply=long))
    emit(signals.disconnect, server, disconnect_event(detail=long))
    message, refused, disconnect = event_log.records
    for record in event_log.records:
        assert len(record.getMessage()) < 3 * MAX_TEXT
        assert record.getMessage().endswith("x...")
    assert "<user4@example.com> and 995 more: x" in message.getMessage()
    assert message.smtp["rcpt_to"] == list(recipients)
    assert message.smtp["reply"] == refused.smtp["reply"] == long
    assert refused.smtp["argument"] == disconnect.smtp["detail"] == long


def test_json_line_has_the_events_fields(server: Any, events: Any) -> None:
    events.records.setFormatter(log.JSONFormatter())
    listener = log.EventLog(events).attach(server)
    before = time.time()
    event = error_event(id="a", meta={"stage": "content"})
    emit_error(server, event)
    emit(signals.refused, server, refused_event())
    emit(signals.close, server)
    listener.detach()
    error, refused, closed = map(json.loads, events.records.lines)
    assert refused["smtp"] == {"signal": "refused", **refused_event().as_dict()}
    assert error["smtp"] == {"signal": "error", "category": "network", **event.as_dict()}
    assert error["level"] == "WARNING"
    assert error["logger"] == "test.events"
    assert error["message"].startswith("[a] error ECONNRESET")
    assert error["time"].endswith("+00:00")
    assert log.datetime.fromisoformat(error["time"]).timestamp() == pytest.approx(before, abs=60)  # type: ignore[attr-defined]
    assert closed["smtp"] == {"signal": "close", "address": "127.0.0.1:2525"}


def test_json_formatter_takes_records_of_others() -> None:
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%s left", ("Elvis",), None)
    line = json.loads(log.JSONFormatter().format(record))
    assert line["message"] == "Elvis left"
    assert "smtp" not in line


def test_refused_commands_can_be_switched_off(server: Any, events: Any) -> None:
    events.setLevel(logging.WARNING)
    listener = log.EventLog(events).attach(server)
    emit(signals.refused, server, refused_event())
    listener.detach()
    assert events.records.records == []


def test_switched_off_log_builds_nothing(server: Any, events: Any) -> None:
    events.setLevel(logging.CRITICAL + 1)
    listener = log.EventLog(events, alert_after=1).attach(server)

    class Unprintable(Exception):
        def __str__(self) -> str:
            pytest.fail("built a line that nobody reads")

    emit(signals.connect, server, connect_event())
    emit_error(server, error_event(Unprintable()))
    listener.detach()
    assert events.records.records == []


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        (logging.DEBUG, {"connect", "secure", "auth", "message", "error"}),
        (logging.INFO, {"connect", "auth", "message", "error"}),
        (logging.WARNING, {"auth", "error"}),
        (logging.ERROR, {"error"}),
    ],
)
def test_a_log_listens_to_what_reaches_its_level(
    server: Any, events: Any, level: int, heard: set[str]
) -> None:
    listener = log.EventLog(events, level=level).attach(server)
    names = ("connect", "secure", "auth", "message", "error")
    assert {name for name in names if getattr(signals, name).receivers_of(server)} == heard
    listener.detach()
    assert not any(getattr(signals, name).receivers_of(server) for name in names)


class Clock:
    now = 1000.0

    def __call__(self) -> Any:
        return self.now


@pytest.fixture
def alerts(events: Any, server: Any) -> Iterator[Any]:
    """A function that makes an error happen at a time and tells the alerts so far."""
    clock = Clock()
    listener = log.EventLog(events, alert_after=3, alert_per=10, clock=clock).attach(server)

    def error_at(now: Any) -> Any:
        clock.now = 1000.0 + now
        emit_error(server, error_event())
        return [r.getMessage() for r in events.records.records if r.levelname == "CRITICAL"]

    yield error_at
    listener.detach()


def test_alert_comes_with_the_error_that_is_too_many(alerts: Any) -> None:
    assert alerts(0) == []
    assert alerts(5) == []
    assert alerts(10) == ["ALERT: 3 errors within 10 seconds"]


def test_slow_errors_raise_no_alert(alerts: Any) -> None:
    for n in range(20):
        assert alerts(n * 5.1) == []


def test_a_flood_is_one_alert_however_long_it_lasts(alerts: Any) -> None:
    for n in range(200):
        said = alerts(n)
    assert len(said) == 1


def test_alert_comes_again_after_it_has_calmed_down(alerts: Any) -> None:
    for n in range(10):
        alerts(n)
    assert len(alerts(25)) == 1
    assert len(alerts(26)) == 1
    assert len(alerts(27)) == 2


def test_alerts_can_be_switched_off(server: Any, events: Any) -> None:
    listener = log.EventLog(events, alert_after=None).attach(server)
    for _ in range(500):
        emit_error(server, error_event())
    listener.detach()
    assert {record.levelname for record in events.records.records} == {"WARNING"}


def test_alert_after_no_errors_is_refused() -> None:
    with pytest.raises(ValueError, match="alert_after"):
        log.EventLog(alert_after=0)


def test_records_are_those_that_logging_makes(server: Any, events: Any, event_log: Any) -> None:
    emit(signals.message, server, message_event("a"))
    emit(signals.message, server, message_event("b"))
    emit(signals.auth, server, AuthEvent("b", "PLAIN", None, False))
    first, second, warning = event_log.records
    real = events.makeRecord(events.name, logging.INFO, log.__file__, 0, "text", (), None)
    made = {"message", "smtp"}  # by the handler's formatter, and by us
    for record in event_log.records:
        assert type(record) is logging.LogRecord
        assert set(vars(record)) == set(vars(real)) | made
        assert abs(record.created - time.time()) < 30
        assert record.msecs == int(record.created % 1 * 1000)
        assert abs(record.relativeCreated - real.relativeCreated) < 30_000
    for name in set(vars(real)) - {"msg", "args", "created", "msecs", "relativeCreated"}:
        assert getattr(second, name) == getattr(real, name), name
    assert first.getMessage() != second.getMessage()
    assert first.msg == second.msg, "who groups records by their text can't"
    assert second.args[0] == "b"
    assert (first.smtp["id"], second.smtp["id"]) == ("a", "b")
    assert first.created <= second.created <= warning.created
    assert (warning.levelno, warning.levelname) == (logging.WARNING, "WARNING")


def test_record_is_the_programs_own_where_it_has_a_factory(
    server: Any, events: Any, event_log: Any
) -> None:
    class Own(logging.LogRecord):
        pass

    emit(signals.message, server, message_event("a"))
    logging.setLogRecordFactory(Own)
    try:
        emit(signals.message, server, message_event("b"))
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    emit(signals.message, server, message_event("c"))
    kinds = [type(record) for record in event_log.records]
    assert kinds == [logging.LogRecord, Own, logging.LogRecord]


FORKING = """
import logging, os
from smtp_blinker import signals
from smtp_blinker.listeners.log import EventLog

class Sender:
    pass

logging.basicConfig(format="%(process)d", level=logging.INFO)
server = Sender()
log = EventLog().attach(server)
event = signals.MessageEvent("a", 1, "", (), 0, 250, "OK", 0.0)
signals.emit(signals.message, server, event)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    signals.emit(signals.message, server, event)
else:
    os.wait()
"""


def test_record_of_a_forked_process_names_it() -> None:
    done = python("-c", FORKING)
    logged = done.stderr.split()
    assert logged[1] == done.stdout.strip(), done.stderr
    assert logged[0] != logged[1]


# tracking.py


def test_entry_lives_from_connect_to_disconnect(server: Any, tracker: Any) -> None:
    before = time.time()
    emit(signals.connect, server, connect_event("a"))
    entry = tracker.connections["a"]
    assert entry == tracking.Connection(
        id="a",
        local_address="192.0.2.1",
        local_port=25,
        remote_address="192.0.2.9",
        remote_port=4321,
        host_name_appears_as="client.example",
        client_hostname="[192.0.2.9]",
        since=entry.since,
    )
    assert before <= entry.since <= time.time()
    assert len(tracker) == tracker.total == 1
    emit(signals.disconnect, server, disconnect_event("a"))
    assert tracker.connections == {}
    assert (len(tracker), tracker.total) == (0, 1)
    assert tracker, "an empty tracker isn't a missing one"


def test_accepted_messages_are_counted(server: Any, tracker: Any) -> None:
    emit(signals.connect, server, connect_event("a"))
    for code in (250, 550, 451, 250):
        emit(signals.message, server, message_event("a", code))
    assert tracker.connections["a"].messages == 2
    emit(signals.disconnect, server, disconnect_event("a"))
    assert tracker.total_messages == 2


def test_tls_and_auth_before_connect_are_kept_for_it(server: Any, tracker: Any) -> None:
    emit(signals.secure, server, SecureEvent("a", None, "TLSv1.3", "AES"))
    emit(signals.auth, server, AuthEvent("a", "XCLIENT", "ann", True))
    assert tracker.connections == {}
    emit(signals.connect, server, connect_event("a"))
    entry = tracker.connections["a"]
    assert (entry.tls, entry.user, entry.authenticated) == ("TLSv1.3", "ann", True)


def test_tls_and_auth_after_connect_show_in_the_entry(server: Any, tracker: Any) -> None:
    emit(signals.connect, server, connect_event("a"))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "eve", False))
    entry = tracker.connections["a"]
    assert (entry.tls, entry.user, entry.authenticated) == (None, None, False)
    emit(signals.secure, server, SecureEvent("a", None, "TLSv1.2", "AES"))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "ann", True))
    now = tracker.connections["a"]
    assert (now.tls, now.user, now.authenticated) == ("TLSv1.2", "ann", True)
    assert not entry.authenticated, "a snapshot stays as it was"


def test_second_connect_of_a_connection_names_its_new_client(server: Any, tracker: Any) -> None:
    emit(signals.connect, server, connect_event("a"))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "ann", True))
    emit(signals.message, server, message_event("a"))
    first = tracker.connections["a"]
    emit(signals.connect, server, connect_event("a", remote_address="198.51.100.7", remote_port=7))
    entry = tracker.connections["a"]
    assert (entry.remote_address, entry.remote_port) == ("198.51.100.7", 7)
    assert (entry.since, entry.user, entry.messages) == (first.since, "ann", 1)
    assert tracker.total == len(tracker) == 1


def test_connections_that_never_say_hello_leave_nothing(server: Any, tracker: Any) -> None:
    for n in range(100):
        emit(signals.secure, server, SecureEvent(str(n), None, "TLSv1.3", "AES"))
        emit(signals.disconnect, server, disconnect_event(str(n), "tls"))
    emit(signals.disconnect, server, disconnect_event("unknown"))
    assert not tracker._early
    assert not tracker._open
    assert tracker.total == 0


def test_events_of_a_connection_from_before_attach_leave_nothing(server: Any, tracker: Any) -> None:
    emit(signals.message, server, message_event("old"))
    emit(signals.auth, server, AuthEvent("old", "PLAIN", "ann", True))
    emit(signals.disconnect, server, disconnect_event("old"))
    assert (tracker.total, tracker.total_messages) == (0, 0)
    assert not tracker._early


def test_snapshot_is_the_callers_own(server: Any, tracker: Any) -> None:
    emit(signals.connect, server, connect_event("a"))
    tracker.connections.clear()
    assert len(tracker) == 1


def test_detached_tracker_claims_no_open_connections(server: Any, tracker: Any) -> None:
    emit(signals.connect, server, connect_event("a"))
    tracker.detach()
    assert len(tracker) == 0


def test_snapshots_can_be_taken_from_another_thread(server: Any, tracker: Any) -> None:
    done = threading.Event()
    failures = []

    def look() -> None:
        try:
            while not done.is_set():
                for entry in tracker.connections.values():
                    assert entry.id
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(2000):
        emit(signals.connect, server, connect_event(str(n)))
        if n % 2:
            emit(signals.disconnect, server, disconnect_event(str(n)))
    done.set()
    thread.join()
    assert failures == []
    assert len(tracker) == 1000


# metrics.py


def test_connections_open_and_ended_are_counted(server: Any, registry: Any) -> None:
    get = registry.get_sample_value
    assert get("smtp_connections_total") == 0
    emit(signals.connect, server, connect_event("a"))
    emit(signals.connect, server, connect_event("a"))  # XFORWARD
    emit(signals.connect, server, connect_event("b"))
    assert (get("smtp_connections_total"), get("smtp_connections_open")) == (2, 2)
    emit(signals.disconnect, server, disconnect_event("a"))
    emit(signals.disconnect, server, disconnect_event("never connected", "tls"))
    assert (get("smtp_connections_total"), get("smtp_connections_open")) == (2, 1)
    assert get("smtp_disconnects_total", {"reason": "quit"}) == 1
    assert get("smtp_disconnects_total", {"reason": "tls"}) == 1
    assert get("smtp_received_bytes_total") == 200
    assert get("smtp_sent_bytes_total") == 400


def test_what_alerts_wait_for_is_counted_from_zero(registry: Any) -> None:
    get = registry.get_sample_value
    assert get("smtp_messages_total", {"code": "250"}) == 0
    faults = (
        *("HookError", "HookTimeout", "ListenerError"),
        *("CountersAway", "PolicyFailure", "StoreAway", "SpoolFailed"),
    )
    for code in faults:
        assert get("smtp_errors_total", {"code": code}) == 0
    for protocol in ("TLSv1.2", "TLSv1.3"):
        assert get("smtp_tls_total", {"protocol": protocol}) == 0
    reasons = (Path(__file__).parent.parent / "docs/signals.md").read_text()
    reasons = reasons.split("| reason |")[1].split("\n\n")[0]
    for reason in re.findall(r"^\| `(\w+)`", reasons, re.M):
        assert get("smtp_disconnects_total", {"reason": reason}) == 0, reason


def test_messages_are_counted_by_reply_and_measured(server: Any, registry: Any) -> None:
    get = registry.get_sample_value
    emit(signals.message, server, message_event())
    emit(signals.message, server, message_event(code=552, size=10**9, seconds=1000.0))
    assert get("smtp_messages_total", {"code": "250"}) == 1
    assert get("smtp_messages_total", {"code": "552"}) == 1
    assert get("smtp_message_size_bytes_sum") == 10**9 + 2000
    assert get("smtp_message_size_bytes_bucket", {"le": "4096.0"}) == 1
    assert get("smtp_message_size_bytes_bucket", {"le": "+Inf"}) == 2
    assert get("smtp_message_seconds_bucket", {"le": "0.025"}) == 1
    assert get("smtp_message_seconds_count") == 2


def test_refused_commands_are_counted_by_verb_and_reply(server: Any, registry: Any) -> None:
    get = registry.get_sample_value
    assert get("smtp_refused_total", {"verb": "RCPT", "code": "451"}) == 0
    assert get("smtp_refused_total", {"verb": "RCPT", "code": "550"}) == 0
    emit(signals.refused, server, refused_event())
    emit(signals.refused, server, refused_event(argument="TO:<c@example.com>"))
    emit(signals.refused, server, refused_event("AUTH", "PLAIN", 535))
    emit(signals.refused, server, refused_event("", "", 421))
    emit(signals.message, server, message_event(code=550))
    assert get("smtp_refused_total", {"verb": "RCPT", "code": "550"}) == 2
    assert get("smtp_refused_total", {"verb": "AUTH", "code": "535"}) == 1
    assert get("smtp_refused_total", {"verb": "none", "code": "421"}) == 1
    text = generate_latest(registry).decode()
    assert text.count("smtp_refused_total{") == 4


def test_every_verb_has_room_for_its_codes(server: Any, registry: Any) -> None:
    codes = range(500, 515)  # more than any verb has
    for verb in VERB_NAMES:
        for code in codes:
            emit(signals.refused, server, refused_event(verb, "", code))
    get = registry.get_sample_value
    for verb in VERB_NAMES:
        for code in codes:
            labels = {"verb": verb, "code": str(code)}
            assert get("smtp_refused_total", labels) == 1, labels


def test_errors_auth_and_tls_are_counted(server: Any, registry: Any) -> None:
    get = registry.get_sample_value
    emit_error(server, error_event())
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "ann", True))
    emit(signals.auth, server, AuthEvent("a", "PLAIN", "ann", False))
    emit(signals.secure, server, SecureEvent("a", None, "TLSv1.3", "AES"))
    assert get("smtp_errors_total", {"code": "ECONNRESET"}) == 1
    assert get("smtp_auth_total", {"method": "PLAIN", "outcome": "success"}) == 1
    assert get("smtp_auth_total", {"method": "PLAIN", "outcome": "failure"}) == 1
    assert get("smtp_tls_total", {"protocol": "TLSv1.3"}) == 1


def test_no_client_can_invent_label_values_without_bound(server: Any, registry: Any) -> None:
    for n in range(5 * metrics.MAX_LABEL_VALUES):
        emit(signals.auth, server, AuthEvent("a", f"X-{n}", None, False))
        emit_error(server, error_event(code=f"Error{n}"))
        emit(signals.refused, server, refused_event(code=n))
        emit(signals.refused, server, refused_event("MAIL", code=n))
    get = registry.get_sample_value
    assert get("smtp_auth_total", {"method": "other", "outcome": "failure"}) == 500
    # Seven codes have their places from the start.
    assert get("smtp_errors_total", {"code": "other"}) == 407
    emit_error(server, error_event(code="Error1"))
    assert get("smtp_errors_total", {"code": "Error1"}) == 2
    text = generate_latest(registry).decode()
    assert text.count("smtp_errors_total{") == metrics.MAX_LABEL_VALUES + 1
    assert text.count("smtp_refused_total{") == metrics.MAX_VERBS_AND_CODES + 1
    assert 'smtp_refused_total{code="other",verb="other"}' in text


def test_detached_metrics_keep_their_counts_and_count_nobody_as_open(server: Any) -> None:
    registry = CollectorRegistry()
    listener = metrics.EventMetrics(registry).attach(server)
    emit(signals.connect, server, connect_event("a"))
    listener.detach()
    assert registry.get_sample_value("smtp_connections_open") == 0
    listener.attach(server)
    emit(signals.disconnect, server, disconnect_event("a"))
    listener.detach()
    assert registry.get_sample_value("smtp_connections_open") == 0
    assert registry.get_sample_value("smtp_connections_total") == 1


def test_default_registry_is_that_of_prometheus_client() -> None:
    ran = python(
        "-c",
        "import prometheus_client\n"
        "from smtp_blinker.listeners.metrics import EventMetrics\n"
        "EventMetrics()\n"
        "print(prometheus_client.generate_latest().decode())\n",
    )
    assert "smtp_connections_total 0.0" in ran.stdout


def test_without_prometheus_client_the_error_says_what_to_install() -> None:
    ran = python(
        "-c",
        "import sys\n"
        "sys.modules['prometheus_client'] = None\n"
        "import smtp_blinker.listeners.log, smtp_blinker.listeners.tracking\n"
        "import smtp_blinker.listeners.metrics\n",
    )
    assert ran.returncode == 1
    assert "pip install 'smtp_blinker[metrics]'" in ran.stderr
