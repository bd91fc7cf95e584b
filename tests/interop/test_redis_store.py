"""Mail into a Redis stream: what a real server says, and what becomes of mail while it can't."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from support import SECONDS, wait_until

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope
from smtp_blinker.stores.redis_stream import RedisStreamStore, parse_url

from .engines import Redis
from .nodes import CONTENT, Node, Start, accepted_amid_kills, check_silence


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    with Redis(tmp_path_factory.mktemp("redis"), "--proto-max-bulk-len", "3mb") as engine:
        yield engine


@pytest.fixture
def start(engine: Redis, queue: str, stack: ExitStack) -> Start:
    def start(options: dict[str, Any] | None = None, **keywords: Any) -> Node:
        options = {"size": 2 * 2**20} if options is None else options
        keywords = {"stream": queue, **keywords}
        return stack.enter_context(Node("RedisStreamStore", engine.url, keywords, **options))

    return start


def entries(engine: Redis, stream: str) -> list[tuple[Envelope, bytes]]:
    with redis.Redis.from_url(engine.url) as client:
        return [
            (Envelope.from_json(fields[b"envelope"]), fields[b"content"])
            for _, fields in client.xrange(stream)
        ]


def test_a_message_is_an_entry_of_the_stream(engine: Redis, queue: str, start: Start) -> None:
    content = CONTENT + bytes(range(128, 256)) + b"\r\n.\r\n"
    told = start().send(content)
    [(envelope, stored)] = entries(engine, queue)
    assert stored == content
    assert told == f"250 2.0.0 queued as {envelope.id}"
    with redis.Redis.from_url(engine.url) as client:
        [(_, fields)] = client.xrange(queue)
    assert fields[b"content_id"].decode() == envelope.content_id


@pytest.mark.parametrize("setting", ["protocol=3", "decode_responses=yes", "socket_timeout=0.1"])
def test_a_consumer_takes_a_url_with_settings_for_other_programs(
    engine: Redis, queue: str, start: Start, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    """They change how answers look, or how long it may be idle."""
    content = CONTENT + bytes(range(128, 256)) + b"\r\n"
    assert start().send(content).startswith("250 ")
    handled: list[bytes] = []
    stop = threading.Event()

    def handle(envelope: Envelope, content: bytes) -> None:
        handled.append(content)
        if len(handled) == 1:
            raise ValueError("not yet")
        stop.set()

    timer = threading.Timer(SECONDS, stop.set)
    timer.start()
    try:
        consume(f"{engine.url}?{setting}", handle, queue=queue, delays=[1], stop=stop)
    finally:
        timer.cancel()
    assert handled == [content, content]
    assert "is away" not in caplog.text


def test_large_content_is_among_the_contents(
    engine: Redis, queue: str, start: Start, tmp_path: Path
) -> None:
    node = start({"size": 0}, contents=str(tmp_path / "contents"))
    large = b"y" * 8000000 + b"\r\n"
    assert node.send().startswith("250 ")
    assert node.send(large).startswith("250 ")
    (small, content), (referring, nothing) = entries(engine, queue)
    assert (small.content_key, content, nothing) == (None, CONTENT, b"")
    assert referring.content_key is not None
    assert (tmp_path / "contents" / referring.content_key).read_bytes() == large


def test_a_server_that_takes_less_than_we_were_told_refuses_for_good(
    engine: Redis, start: Start
) -> None:
    node = start({"size": 5 * 2**20})
    assert node.send(b"x" * 4000000 + b"\r\n").startswith("552 5.3.4 ")
    assert node.send().startswith("250 ")


def test_out_of_memory_is_451_and_leaves_nothing_of_the_content(
    engine: Redis, queue: str, start: Start, tmp_path: Path
) -> None:
    node = start({"size": 0}, contents=str(tmp_path / "contents"))
    with redis.Redis.from_url(engine.url) as client:
        client.config_set("maxmemory", "1")
        try:
            assert node.send(b"y" * 300000 + b"\r\n").startswith("451 4.3.0 ")
        finally:
            client.config_set("maxmemory", "0")
    node.wait_for("Unavailable: Redis is out of memory (maxmemory)")
    wait_until(lambda: not list((tmp_path / "contents").iterdir()), "the content is removed")
    assert node.send().startswith("250 ")
    assert len(entries(engine, queue)) == 1


def test_a_server_that_became_a_replica_is_left(engine: Redis, start: Start) -> None:
    """The URL's name leads to the new one by then; a kept connection to the old one does not."""
    node = start()
    with redis.Redis.from_url(engine.url) as client:
        ours = client.client_id()

        def theirs() -> set[str]:
            return {one["id"] for one in client.client_list(_type="normal")} - {str(ours)}

        assert node.send().startswith("250 ")
        [before] = theirs()
        client.replicaof("127.0.0.1", 1)
        try:
            assert node.send().startswith("451 4.3.0 ")
            node.wait_for("Unavailable: Redis refused the entry: ")
            wait_until(lambda: before not in theirs(), "the connection is closed")
        finally:
            client.replicaof("NO", "ONE")
        assert node.send().startswith("250 ")


def test_wait_aof_is_obeyed_or_refused_before_anything_is_added(
    engine: Redis, queue: str, start: Start
) -> None:
    with redis.Redis.from_url(engine.url) as client:
        version = tuple(map(int, client.info()["redis_version"].split(".")))
    node = start(wait_aof=[1, 0])
    told = node.send()
    if version >= (7, 2):
        assert told.startswith("250 ")
    else:
        assert told.startswith("451 4.3.0 ")
        node.wait_for("Unavailable: wait_aof can't be used: Redis before 7.2 has no WAITAOF")
        assert entries(engine, queue) == []


def test_a_server_that_does_not_answer_is_451_within_the_deadline_and_then_at_mail(
    engine: Redis, start: Start
) -> None:
    check_silence(start(timeout=0.5), engine, "Redis")


@pytest.mark.timeout(300)  # it waits for the engine's starts
def test_nothing_that_got_250_is_lost_when_the_server_is_killed(
    engine: Redis, queue: str, start: Start
) -> None:
    node = start(timeout=5)
    accepted = accepted_amid_kills(node, engine, 3, lambda *count: b"%d-%d\r\n" % count)
    assert accepted <= {content for _, content in entries(engine, queue)}


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "redis://USER:PASSWORD@HOST:PORT/DB: Redis URL must specify"),
        ("redis://u:secret@h:mail", "redis://USER:PASSWORD@HOST:PORT/DB: Port could not"),
        ("redis://u:secret@h/?colour=red", "the Redis URL has a wrong setting: .*colour"),
        ("redis://u:secret@h/mail", "the path of a Redis URL is the number of a database"),
        (6379, "a Redis URL looks like"),
    ],
)
def test_a_url_that_is_none_is_an_error_that_shows_no_password(url: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        parse_url(url)
    assert "secret" not in str(raised.value)
    for good in ("redis://h", "redis://h/3", "rediss://u:p%40ss@h:1/", "unix:///run/redis.sock"):
        parse_url(good)


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"wait_aof": 1}, "wait_aof is .0 or 1, a number of replicas., not 1"),
        ({"wait_aof": (2, 0)}, "wait_aof is"),
        ({"stream": ""}, "stream must name a stream, not ''"),
    ],
)
def test_a_keyword_that_can_not_be_used_is_an_error(keywords: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RedisStreamStore("redis://h/", **keywords)


def test_an_unpatched_program_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="from gevent import monkey"):
        RedisStreamStore("redis://127.0.0.1/")
