"""Events of other processes: told over a UNIX socket, and sent again as signals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from support import poll

from smtp_blinker import SMTPServer, signals
from smtp_blinker.dialogue import Dialogue, DialogueEvent
from smtp_blinker.signals import (
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    Event,
    MessageEvent,
    RefusedEvent,
)
from smtp_blinker.web import remote
from smtp_blinker.web.live import Feed
from smtp_blinker.web.refused import Refusals
from smtp_blinker.web.remote import EventReceiver, EventSender, RemoteServer

CONNECT = ConnectEvent("a" * 16, "127.0.0.1", 25, "192.0.2.1", 50000, "x", "[192.0.2.1]")
MESSAGE = MessageEvent("a" * 16, 1, "", ("b@example.com",), 3, 250, "ok", 0.1)
REFUSED = RefusedEvent("a" * 16, "192.0.2.1", "RCPT", "TO:<x>", 550, "no")
DISCONNECT = DisconnectEvent("a" * 16, "192.0.2.1", 1.0, 1, 2, 3, "quit")


class Server:
    started = True


@dataclass
class Heard:
    """What came out at the other end."""

    path: str
    servers: list[RemoteServer]
    events: list[tuple[str, object, Event | None]] = field(default_factory=list)

    def wait(self, count: int) -> None:
        with gevent.Timeout(30):
            while len(self.events) < count:
                gevent.sleep(0.005)


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[Heard]:
    listener = socket.socket(socket.AF_UNIX)
    path = os.path.join(tmp_path, "events")
    listener.bind(path)
    listener.listen(8)
    local = SMTPServer(None)
    found = Heard(path, [RemoteServer("one", local), RemoteServer("two", local)])
    receiver = EventReceiver(listener, found.servers)
    receivers = []
    for signal, _ in remote._EVENTS:
        for server in found.servers:

            def hear(
                sender: object, event: Event | None = None, *, name: str = signal.name
            ) -> None:
                found.events.append((name, sender, event))

            signal.connect(hear, server, weak=False)
            receivers.append((signal, hear, server))
    receiver.start()
    yield found
    receiver.stop(timeout=1)
    for signal, hear, server in receivers:
        signal.disconnect(hear, server)


def test_events_come_from_the_server_in_that_place(heard: Heard) -> None:
    servers = [Server(), Server()]
    sender = EventSender(heard.path, servers)
    for signal, event in (
        (signals.connect, CONNECT),
        (signals.message, MESSAGE),
        (signals.refused, REFUSED),
        (signals.disconnect, DISCONNECT),
    ):
        signals.emit(signal, servers[1], event)
    signals.emit(signals.close, servers[0])
    heard.wait(5)
    sender.close()
    one, two = heard.servers
    assert heard.events == [
        ("connect", two, CONNECT),
        ("message", two, MESSAGE),
        ("refused", two, REFUSED),
        ("disconnect", two, DISCONNECT),
        ("close", one, None),
    ]


def test_what_a_store_handed_over_is_told(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    path = os.path.join(tmp_path, "events")
    listener.bind(path)
    listener.listen(8)
    told: list[tuple[float, str]] = []
    receiver = EventReceiver(listener, [], lambda seconds, outcome: told.append((seconds, outcome)))
    receiver.start()
    sender = EventSender(path, [])
    sender.tell_hand_over("accepted", 0.25)
    sender.tell_hand_over("failed", 30)
    with gevent.Timeout(30):
        while len(told) < 2:
            gevent.sleep(0.005)
    sender.close()
    receiver.stop(timeout=1)
    assert told == [(0.25, "accepted"), (30.0, "failed")]


def test_how_many_events_were_dropped_is_told(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    path = os.path.join(tmp_path, "events")
    listener.bind(path)
    listener.listen(8)
    told: list[int] = []
    receiver = EventReceiver(listener, [])
    receiver.on_dropped = told.append
    receiver.start()
    sender = EventSender(path, [])
    sender.tell_dropped(1)
    sender.tell_dropped(100)
    poll(lambda: len(told) == 2)
    sender.close()
    receiver.stop(timeout=1)
    assert told == [1, 100]


def test_an_error_keeps_its_name_and_its_text(heard: Heard) -> None:
    server = Server()
    sender = EventSender(heard.path, [server])
    event = ErrorEvent(ConnectionResetError(104, "reset"), "ECONNRESET", "192.0.2.1", None)
    signals.emit(signals.error, server, event)
    heard.wait(1)
    sender.close()
    _, _, found = heard.events[0]
    assert found is not None
    assert found.as_dict() == event.as_dict()


def test_a_message_to_a_thousand_is_short_and_is_still_one_to_a_thousand(heard: Heard) -> None:
    feed = Feed().attach(heard.servers[0])
    server = Server()
    sender = EventSender(heard.path, [server])
    names = tuple(f"{number}@example.com" for number in range(1000))
    signals.emit(signals.message, server, MessageEvent("a" * 16, 1, "", names, 3, 250, "ok", 0.1))
    heard.wait(1)
    sender.close()
    feed.detach()
    shown = feed.since(0)[-1].as_dict()
    assert shown["recipients"] == 1000
    assert shown["rcpt_to"] == list(names[:5])


def test_a_server_is_ready_while_a_process_accepts(heard: Heard) -> None:
    servers = [Server(), Server()]
    senders = [EventSender(heard.path, [server]) for server in servers]

    def are_so_many(count: int) -> None:
        with gevent.Timeout(30):
            while heard.servers[0].processes != count:
                gevent.sleep(0.005)
        assert [each.started for each in heard.servers] == [count > 0, False]

    are_so_many(2)
    senders[0].close()
    are_so_many(1)
    servers[1].started = False
    are_so_many(0)
    senders[1].close()


def test_connections_of_a_process_that_has_ended_end(heard: Heard) -> None:
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(heard.path)
        worker.sendall(remote._line("connect", 0, CONNECT))
        heard.wait(1)
    heard.wait(2)
    name, _, event = heard.events[1]
    assert name == "disconnect"
    assert isinstance(event, DisconnectEvent)
    assert (event.id, event.reason) == (CONNECT.id, "error")


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b'["nothing", 0, {}]\n',
        b'["connect", 9, {}]\n',
        b'["connect", 0, {"id": 1}]\n',
        b'["error", 0, {}]\n',
        b"x" * 100_000,
    ],
)
def test_what_is_no_event_ends_only_who_said_it(heard: Heard, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(heard.path)
        worker.sendall(line)
        worker.shutdown(socket.SHUT_WR)
        assert worker.recv(1) == b""
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(heard.path)
        other.sendall(remote._line("connect", 0, CONNECT))
        heard.wait(1)


def test_mail_does_not_wait_for_a_page_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BUFFER", 10)
    server: Any = Server()
    sender = EventSender(str(tmp_path / "nothing"), [server])
    for _ in range(15):
        signals.emit(signals.message, server, MESSAGE)
    assert sender.dropped == 5
    sender.close(0.01)
    signals.emit(signals.message, server, MESSAGE)
    assert sender.dropped == 5


def test_what_was_said_is_told_where_something_was_refused(heard: Heard) -> None:
    refusals = Refusals().attach(heard.servers[0])
    server = Server()
    sender = EventSender(heard.path, [server])
    said = Dialogue()
    for id in ("a" * 16, "b" * 16):
        signals.emit(signals.dialogue, server, DialogueEvent(id, "192.0.2.1", said))
    said.add("C: RCPT TO:<x>")
    signals.emit(signals.refused, server, REFUSED)
    said.add("C: QUIT")
    signals.emit(signals.disconnect, server, DISCONNECT)
    heard.wait(4)
    sender.close()
    refusals.detach()
    [talk] = refusals.kept
    assert [each["text"] for each in talk.with_lines()["lines"]] == ["RCPT TO:<x>", "QUIT"]
