"""What several nodes tell, in one exchange or stream; and that mail doesn't wait for it."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from support import SECONDS, Program, wait_until

from smtp_blinker.listeners.fleet import FleetEvents
from smtp_blinker.stores.amqp import Broker

from .engines import Redis

PROGRAM = Path(__file__).parent / "programs" / "fleet_node.py"


class Node(Program):
    def __init__(self, engine: Any, **keywords: Any) -> None:
        super().__init__(PROGRAM, engine.url, json.dumps(keywords))
        self.sent = 0
        self.port = self.number()

    def send(self, sender: str = "bob@example.net") -> None:
        self.sent += 1
        with smtplib.SMTP("127.0.0.1", self.port, "client.example", SECONDS) as smtp:
            smtp.sendmail(sender, ["ann@example.com"], b"Subject: Hi\r\n\r\nHello\r\n")

    def counted(self) -> dict[str, int]:
        """What it prints when it ends."""
        assert self.terminate() == 0, self.output
        return dict(json.loads(self.lines[-1]))


@pytest.fixture
def start(engine: Any, stack: ExitStack) -> Callable[..., Node]:
    return lambda **keywords: stack.enter_context(Node(engine, **keywords))


class Watcher:
    """A program that watches the fleet."""

    def __init__(self, engine: Any, name: str) -> None:
        self.events: list[dict[str, Any]] = []
        self.name = name
        if isinstance(engine, Redis):
            self.client = redis.Redis.from_url(engine.url)
            self.look = self._read_stream
            self.close = self.client.close
        else:
            self.connection = Broker.parse(engine.url).connect()
            self.channel = self.connection.channel()
            self.channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
            self.queue = self.channel.queue_declare(exclusive=True).queue
            for key in ("connect", "message", "disconnect"):
                self.channel.queue_bind(self.queue, name, key)
            self.look = self._read_queue
            self.close = self.connection.close

    def _read_stream(self) -> None:
        self.events = [json.loads(f[b"event"]) for _, f in self.client.xrange(self.name)]  # type: ignore[index, union-attr]

    def _read_queue(self) -> None:
        while message := self.channel.basic_get(self.queue, no_ack=True):
            self.events.append(json.loads(message.body))

    def of(self, signal: str) -> list[dict[str, Any]]:
        self.look()
        return [event for event in self.events if event["signal"] == signal]


def test_events_of_all_nodes_are_in_one_place(engine: Any, start: Callable[..., Node]) -> None:
    watcher = Watcher(engine, "first.events")
    for name in ("a", "b"):
        start(name="first.events", node=name).send()
    wait_until(lambda: len(watcher.of("disconnect")) == 2, "two nodes have told")
    assert sorted(event["node"] for event in watcher.of("message")) == ["a", "b"]
    event = watcher.of("message")[0]["event"]
    assert (event["code"], event["rcpt_to"]) == (250, ["ann@example.com"])
    assert watcher.of("connect")[0]["time"].endswith("+00:00")
    watcher.close()


def test_what_waits_is_published_before_the_end(engine: Any, start: Callable[..., Node]) -> None:
    node = start(name="second.events")
    for _ in range(50):
        node.send()
    assert node.counted() == {"published": 150, "dropped": 0}


def test_mail_does_not_wait_and_what_is_too_much_is_dropped_and_counted(
    engine: Any, start: Callable[..., Node]
) -> None:
    watcher = Watcher(engine, "third.events")
    node = start(name="third.events", buffer=20)
    node.send()
    wait_until(lambda: watcher.of("disconnect"), "the first is there")
    watcher.close()
    engine.kill()
    for _ in range(40):
        node.send()
    engine.start()
    watcher = Watcher(engine, "third.events")
    last = "last@example.net"
    wait_until(
        lambda: node.send(last) or [e for e in watcher.of("message") if last in str(e)],  # type: ignore[func-returns-value]
        "it publishes again",
    )
    watcher.close()
    counts = node.counted()
    assert counts["dropped"] > 0
    assert counts["dropped"] + counts["published"] == 3 * node.sent


def test_a_url_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="FleetEvents takes amqp://"):
        FleetEvents("http://h/")
    with pytest.raises(ValueError, match="wrong setting"):
        FleetEvents("redis://h/?colour=red")


def test_an_unpatched_program_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"FleetEvents needs .* from gevent import monkey"):
        FleetEvents("redis://127.0.0.1/")
