"""RedisStreamStore with `wait_aof`: 250 once the entry is on disks, not when it is in memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis
from support import wait_until

from .engines import Valkey
from .nodes import Node


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as engine:
        yield engine


@pytest.fixture
def start(engine: Valkey, stack: ExitStack) -> Callable[..., Node]:
    def start(*wait_aof: int, timeout: float = 10) -> Node:
        options = {"stream": "mail", "wait_aof": wait_aof, "timeout": timeout}
        return stack.enter_context(Node("RedisStreamStore", engine.url, options, size=2**20))

    return start


def test_250_waits_for_the_disk(engine: Valkey, start: Callable[..., Node]) -> None:
    with redis.Redis.from_url(engine.url) as client:
        # Nothing brings the file to the disk, but the system, when it likes.
        client.config_set("appendfsync", "no")
        try:
            node = start(1, 0, timeout=2)
            assert node.send().startswith("451 4.3.0 ")
            node.wait_for("Unavailable: Redis")
            assert client.xlen("mail") == 1, "which is why it is the client that sends it again"
            client.config_set("appendfsync", "everysec")
            assert start(1, 0).send().startswith("250 ")
        finally:
            client.config_set("appendfsync", "always")


def test_messages_at_the_same_time_all_wait(engine: Valkey, start: Callable[..., Node]) -> None:
    node = start(1, 0)
    with redis.Redis.from_url(engine.url) as client, ThreadPoolExecutor(8) as threads:
        before = client.xlen("mail")
        replies = list(threads.map(lambda number: node.send(b"%d\r\n" % number), range(24)))
        assert all(reply.startswith("250 ") for reply in replies), replies
        assert client.xlen("mail") - before == 24


def test_250_waits_for_a_replica_s_disk(
    engine: Valkey, start: Callable[..., Node], tmp_path: Path
) -> None:
    node = start(1, 1, timeout=3)
    assert node.send().startswith("451 4.3.0 "), "there is none yet"
    follows = "--replicaof", "127.0.0.1", str(engine.port)
    with (
        Valkey(tmp_path / "replica", *follows) as replica,
        redis.Redis.from_url(replica.url) as client,
    ):
        wait_until(lambda: client.info()["master_link_status"] == "up", "it follows")
        wait_until(lambda: node.send().startswith("250 "), "it has it on its disk")
        replica.signal(signal.SIGSTOP)
        assert node.send().startswith("451 4.3.0 ")
        replica.signal(signal.SIGCONT)
        wait_until(lambda: node.send().startswith("250 "), "it has it again")
