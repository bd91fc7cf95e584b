"""Consumers of both engines: what is handled, again, and never lost."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import amqp
import pytest
import redis
from support import SECONDS, Program, wait_until

from smtp_blinker import Session
from smtp_blinker.consumers import amqp as amqp_engine
from smtp_blinker.consumers import consume, redis_stream
from smtp_blinker.session import Address
from smtp_blinker.stores import Envelope, FolderContents
from smtp_blinker.stores.amqp import Broker, declare

from .engines import RabbitMQ, Redis

PROGRAM = Path(__file__).parent / "programs" / "queue_consumer.py"


class Queue:
    """A queue of *engine* as a store fills it and as an operator looks into it."""

    def __init__(self, engine: Any, name: str) -> None:
        self.engine = engine
        self.name = name

    def put(self, content: bytes, key: str | None = None, head: bytes | None = None) -> Envelope:
        session = Session()
        session.envelope.mail_from = Address("bob@example.net")
        session.envelope.rcpt_to = [Address("ann@example.com")]
        session.client_hostname = "client.example"
        envelope = Envelope.of(session, len(content), hashlib.sha256(content).hexdigest(), key)
        inside = b"" if key else content
        self.add(envelope.as_json() if head is None else head, inside)
        return envelope

    def add(self, head: bytes, content: bytes) -> None:
        if isinstance(self.engine, Redis):
            with redis.Redis.from_url(self.engine.url) as client:
                client.xadd(self.name, {"envelope": head, "content": content})
            return
        with Broker.parse(self.engine.url).connect(confirm_publish=True) as connection:
            channel = declare(connection, connection.channel(), self.name)
            message = amqp.Message(b"\n".join((head, content)), delivery_mode=2)
            channel.basic_publish(message, routing_key=self.name, mandatory=True)

    def dead(self) -> list[tuple[bytes, str]]:
        """Contents and reasons of the dead letters, which are left there."""
        if isinstance(self.engine, Redis):
            with redis.Redis.from_url(self.engine.url) as client:
                found = [fields for _, fields in client.xrange(f"{self.name}.dead")]
                return [(each[b"content"], each[b"reason"].decode()) for each in found]
        letters = []
        with Broker.parse(self.engine.url).connect() as connection:
            channel = connection.channel()
            while message := channel.basic_get(f"{self.name}.dead"):
                content = bytes(message.body).partition(b"\n")[2]
                letters.append((content, message.properties["application_headers"]["reason"]))
        return letters

    def is_empty(self) -> bool:
        """Whether nothing is waiting, in hand, or waiting to come back."""
        if isinstance(self.engine, Redis):
            with redis.Redis.from_url(self.engine.url) as client:
                keys = client.keys(f"{self.name}*")
                return not any(client.xlen(key) for key in keys if not key.endswith(b".dead"))
        rows = self.engine.control("list_queues", "--quiet", "name", "messages").splitlines()
        counts = dict(row.split("\t") for row in rows[1:])
        return not any(
            int(count)
            for name, count in counts.items()
            if name.startswith(self.name) and not name.endswith(".dead")
        )


@pytest.fixture
def queue(request: pytest.FixtureRequest, engine: Any) -> Queue:
    return Queue(engine, re.sub(r"\W", "-", request.node.name))


class Process(Program):
    """A consumer in a process of its own, and what it has printed."""

    def __init__(self, queue: Queue, **keywords: Any) -> None:
        words = json.dumps({"queue": queue.name, "delays": [1, 1], **keywords})
        super().__init__(PROGRAM, queue.engine.url, words)

    def handled(self) -> list[str]:
        """The content ids, in order."""
        return [line.split()[0] for line in self.lines if re.match("[0-9a-f]{64} ", line)]


@pytest.fixture
def start(queue: Queue, stack: ExitStack) -> Callable[..., Process]:
    return lambda **keywords: stack.enter_context(Process(queue, **keywords))


def test_entries_are_handled_in_order_and_gone_and_sigterm_ends_it(
    queue: Queue, start: Callable[..., Process]
) -> None:
    ids = [queue.put(b"number %d\r\n" % number).content_id for number in range(3)]
    process = start()
    process.wait_for("number 2")
    ids.append(queue.put(b"\x80\xff\0 binary").content_id)
    process.wait_for("binary")
    assert process.terminate() == 0
    process.wait_for("ended")
    assert process.handled() == ids
    assert queue.is_empty()


def test_what_fails_comes_back_later_and_what_fails_too_often_is_a_dead_letter(
    queue: Queue, start: Callable[..., Process]
) -> None:
    process = start()
    process.wait_for("consuming from")
    once, often = queue.put(b"fail 1 times"), queue.put(b"fail 9 times")
    other = queue.put(b"fine")
    process.wait_for(once.content_id)
    assert process.handled() == [other.content_id, once.content_id]
    wait_until(lambda: [one for one, _ in queue.dead()] == [b"fail 9 times"], "a dead letter")
    assert queue.dead()[0][1] == "RuntimeError: as asked"
    assert process.lines.count(f"failing {often.id}") == 3
    wait_until(queue.is_empty, "nothing is left")


def test_a_duplicate_is_dropped_and_remembered_only_so_long(
    queue: Queue, start: Callable[..., Process]
) -> None:
    for content in (b"one", b"one", b"two", b"three", b"one"):
        queue.put(content)
    process = start(remember=2)
    process.wait_for("'three'")
    process.wait_for("'one'", times=2)
    assert process.terminate() == 0
    assert [line.split("'")[1] for line in process.lines if "'" in line] == [
        "one",
        "two",
        "three",
        "one",
    ]
    assert queue.is_empty()


def test_large_content_comes_from_the_contents_and_is_deleted(
    queue: Queue, start: Callable[..., Process], tmp_path: Path
) -> None:
    contents = FolderContents(tmp_path / "contents")
    large = b"large " + b"x" * 300000
    draft = contents.draft()
    draft.write(large)
    draft.finish("key-1", b"")
    queue.put(large, key="key-1")
    process = start(contents=str(tmp_path / "contents"))
    process.wait_for(f" {len(large)} b'large ")
    wait_until(lambda: not list((tmp_path / "contents").iterdir()), "it is deleted")
    assert process.terminate() == 0


@pytest.mark.parametrize("trouble", ["missing", "changed", "no contents"])
def test_content_that_cannot_be_had_is_never_handled_and_goes_to_the_dead_letters(
    queue: Queue, start: Callable[..., Process], tmp_path: Path, trouble: str
) -> None:
    contents = FolderContents(tmp_path / "contents")
    if trouble == "changed":
        (tmp_path / "contents" / "key-1").write_bytes(b"another")
    queue.put(b"original", key="key-1")
    more = {} if trouble == "no contents" else {"contents": contents.path}
    process = start(delays=[], **more)
    wait_until(queue.dead, "a dead letter")
    assert process.handled() == []
    assert (tmp_path / "contents" / "key-1").exists() == (trouble == "changed")


def test_what_is_no_entry_goes_to_the_dead_letters_at_once(
    queue: Queue, start: Callable[..., Process]
) -> None:
    queue.put(b"Hello", head=b"no JSON")
    fine = queue.put(b"fine")
    process = start()
    process.wait_for(fine.content_id)
    assert [content for content, _ in queue.dead()] == [b"Hello"]


def test_sigterm_lets_the_handler_end(
    queue: Queue, start: Callable[..., Process], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    slow = queue.put(b"slow %s" % bytes(gate))
    next_one = queue.put(b"next")
    process = start()
    process.wait_for(f"waiting {slow.id}")
    process.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.process.wait(0.3)
    gate.touch()
    assert process.process.wait(SECONDS) == 0
    process.wait_for("ended")
    assert process.handled() == [slow.content_id]
    after = start()
    after.wait_for(next_one.content_id)
    assert after.handled() == [next_one.content_id]


def test_an_engine_that_does_not_answer_holds_no_consumer(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends when it is told to, and doesn't wait for ever for an answer to an acknowledgement."""
    monkeypatch.setattr(amqp_engine, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(redis_stream, "ANSWER_SECONDS", 2.0)  # longer than it waits for an entry
    entry = queue.put(b"content")
    stop = threading.Event()
    handled: list[str] = []

    def handle(envelope: Envelope, content: bytes) -> None:
        if not handled:
            queue.engine.signal(signal.SIGSTOP)
            stop.set()
        handled.append(envelope.content_id)

    try:
        keywords = {"queue": queue.name, "stop": stop}
        thread = threading.Thread(
            target=consume, args=(queue.engine.url, handle), kwargs=keywords, daemon=True
        )
        thread.start()
        thread.join(SECONDS)
        assert not thread.is_alive()
    finally:
        queue.engine.signal(signal.SIGCONT)
    assert handled == [entry.content_id]


@pytest.mark.timeout(300)  # it waits for the engine's starts
def test_a_consumer_survives_the_death_of_its_engine(
    queue: Queue, start: Callable[..., Process]
) -> None:
    process = start()
    first = queue.put(b"before")
    process.wait_for(first.content_id)
    if isinstance(queue.engine, RabbitMQ):
        queue.engine.restart()  # with the names of its new queues on its disk
        process.wait_for("consuming from", times=2)
    queue.engine.kill()
    process.wait_for("is away, again in")
    queue.engine.start()
    second = queue.put(b"after")
    process.wait_for(second.content_id)
    assert process.handled() == [first.content_id, second.content_id]


def test_an_entry_of_a_consumer_that_died_is_handled_by_another(
    queue: Queue, start: Callable[..., Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    entry = queue.put(b"die %s" % bytes(flag))
    victim = start()
    assert victim.process.wait(SECONDS) == 1
    # In this process, with less patience than a minute.
    monkeypatch.setattr(redis_stream, "DEAD_SECONDS", 0.2)
    handled: list[str] = []
    stop = threading.Event()

    def handle(envelope: Envelope, content: bytes) -> None:
        handled.append(envelope.content_id)
        stop.set()

    thread = threading.Thread(
        target=consume,
        args=(queue.engine.url, handle),
        kwargs={"queue": queue.name, "stop": stop},
    )
    thread.start()
    wait_until(lambda: handled, "it is handled")
    thread.join(SECONDS)
    assert handled == [entry.content_id]
    assert queue.is_empty()


def test_signs_of_life_keep_an_entry_that_is_being_handled(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_stream, "DEAD_SECONDS", 1)
    monkeypatch.setattr("smtp_blinker.consumers.amqp.HEARTBEAT", 1)
    monkeypatch.setattr("smtp_blinker.consumers.loop.BEAT", 0.1)
    queue.put(b"long")
    calls: list[int] = []
    stop = threading.Event()
    proceed = threading.Event()

    def handle(number: int) -> Callable[[Envelope, bytes], None]:
        def call(envelope: Envelope, content: bytes) -> None:
            calls.append(number)
            proceed.wait(SECONDS)

        return call

    threads = [
        threading.Thread(
            target=consume,
            args=(queue.engine.url, handle(number)),
            kwargs={"queue": queue.name, "stop": stop},
        )
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: calls, "one has it")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() > began + 4, "four times what the other waits")
    assert len(calls) == 1
    proceed.set()
    stop.set()
    for thread in threads:
        thread.join(SECONDS)
    assert queue.is_empty()


@pytest.mark.parametrize("url", ["amqp://h/", "redis://h/"])
@pytest.mark.parametrize("queue", ["", None])
def test_a_queue_without_a_name_is_an_error(url: str, queue: Any) -> None:
    with pytest.raises(ValueError, match="queue must name a queue or stream"):
        consume(url, print, queue=queue)


def test_a_url_or_delay_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"takes amqp://.*not 'http'"):
        consume("http://127.0.0.1/", print)
    with pytest.raises(ValueError, match="whole numbers of seconds"):
        consume("redis://127.0.0.1/", print, delays=[0.5])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="wrong setting"):
        consume("redis://127.0.0.1/?colour=red", print)
    with pytest.raises(TypeError, match="handler must be callable"):
        consume("redis://127.0.0.1/", "print")  # type: ignore[arg-type]
