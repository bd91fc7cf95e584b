"""What was said on a connection, for who listens to `dialogue`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support import Client, poll, running

from smtp_blinker import Reject, signals
from smtp_blinker.dialogue import FIRST, LAST, MAX_LINE, Dialogue, DialogueEvent
from smtp_blinker.smtp import reply


@contextmanager
def listening(server: Any) -> Iterator[list[DialogueEvent]]:
    heard: list[DialogueEvent] = []

    def receive(sender: Any, event: DialogueEvent) -> None:
        heard.append(event)

    signals.dialogue.connect(receive, sender=server)
    yield heard
    signals.dialogue.disconnect(receive)


def said(event: DialogueEvent) -> list[tuple[str, str]]:
    return [(line.who, line.text) for line in event.dialogue.lines]


def refuse(*args: Any) -> None:
    raise Reject(550, "relaying denied", "5.7.1")


def test_commands_replies_and_the_end_are_kept() -> None:
    with running(on_rcpt_to=refuse) as server, listening(server) as heard:
        client = Client(server, hello="HELO me")
        client.ok("MAIL FROM:<a@example.org>")
        client.cmd("RCPT TO:<b@example.com>")
        client.cmd("nonsense")
        client.cmd("QUIT")
        [event] = heard
        poll(lambda: "closed" in said(event)[-1][1])
        lines = said(event)
        assert lines[0][1].startswith("connection from 127.0.0.1:")
        assert lines[1:] == [
            ("server", "220 mx.test ESMTP"),
            ("client", "HELO me"),
            ("server", "250 mx.test Nice to meet you, [127.0.0.1]"),
            ("client", "MAIL FROM:<a@example.org>"),
            ("server", "250 2.1.0 Accepted"),
            ("client", "RCPT TO:<b@example.com>"),
            ("server", "550 5.7.1 relaying denied"),
            ("client", "(an unrecognized command of 8 octets)"),
            ("server", "500 5.5.2 Command not recognized"),
            ("client", "QUIT"),
            ("server", "221 2.0.0 Bye"),
            ("", "closed: quit"),
        ]
        seconds = [line.seconds for line in event.dialogue.lines]
        assert seconds == sorted(seconds)
        assert event.as_dict()["lines"][2]["text"] == "HELO me"


def test_the_octets_of_a_message_are_counted_and_not_kept() -> None:
    with running(on_data=lambda stream, session: None) as server, listening(server) as heard:
        client = Client(server, hello="EHLO me")
        client.message(b"Subject: confidential\r\n\r\nHello\r\n")
        assert ("client", "(32 octets of a message)") in said(heard[0])
        assert "confidential" not in repr(said(heard[0]))


def test_credentials_are_masked() -> None:
    secret = base64.b64encode(b"\0me\0secret").decode()
    with (
        running(on_auth=lambda *args: None, auth_optional=True, logger=True) as server,
        listening(server) as heard,
    ):
        client = Client(server, hello="EHLO me")
        client.cmd(f"AUTH PLAIN {secret}")
        client.cmd("AUTH PLAIN")
        client.cmd(secret)
        client.cmd(secret)
        assert secret not in repr(said(heard[0]))
        assert secret not in repr([heard[0].dialogue._first, heard[0].dialogue._last])
        assert ("client", "AUTH PLAIN") in said(heard[0])
        assert ("client", "(a response)") in said(heard[0])


@pytest.mark.parametrize("options", [{"max_clients": 0}, {"on_connect": refuse}])
def test_a_client_that_is_refused_at_once_has_a_dialogue(options: dict[str, Any]) -> None:
    with running(**options) as server, listening(server) as heard:
        Client(server, greet=False).rest()
        poll(lambda: "closed: refused" in said(heard[0])[-1][1])
        assert [who for who, _ in said(heard[0])].count("server") == 1


def test_nothing_is_kept_without_a_listener() -> None:
    signals.dialogue._clear_state()  # pages that other tests have left attached
    with running() as server, running() as other, listening(other) as heard:
        client = Client(server, hello="EHLO me")
        [connection] = server.connections
        assert connection.events._dialogue is None
        assert not connection.is_restricted
        client.cmd("QUIT")
        assert heard == []


def test_ignored_clients_have_no_dialogue() -> None:
    with running(ignored_hosts=["127.0.0.1"]) as server, listening(server) as heard:
        Client(server, hello="EHLO me").cmd("QUIT")
        assert heard == []


def test_the_first_and_the_last_lines_are_kept_and_short() -> None:
    dialogue = Dialogue()
    for number in range(1000):
        dialogue.add("C: %s", f"{number} {'x' * 5000}")
    dialogue.add(reply.BYE)
    lines = dialogue.lines
    assert len(lines) == FIRST + 1 + LAST
    assert lines[FIRST].text == f"({1001 - FIRST - LAST} lines are left out)"
    assert lines[FIRST - 1].text.startswith(f"{FIRST - 1} ")
    assert lines[FIRST + 1].text.startswith(f"{1001 - LAST} ")
    assert lines[-1].text == "221 2.0.0 Bye"
    assert all(len(line.text) <= MAX_LINE + 1 for line in lines)
