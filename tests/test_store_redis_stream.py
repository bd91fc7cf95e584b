"""The commands that add entries to a Redis stream, without a server."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from gevent import monkey
from redis.exceptions import OutOfMemoryError, ResponseError

from smtp_blinker import Session
from smtp_blinker.stores.batch import LARGEST, Job
from smtp_blinker.stores.entry import Entry
from smtp_blinker.stores.redis_stream import RedisStreamStore

STREAM = "m\u00e4il"


class Connection:
    """redis-py's, with these answers."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.sent: list[list[bytes]] = []

    def send_packed_command(self, pieces: list[bytes]) -> None:
        self.sent.append(pieces)

    def read_response(self) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> RedisStreamStore:
    monkeypatch.setattr(monkey, "is_module_patched", lambda name: True)
    return RedisStreamStore("redis://127.0.0.1:1/0", stream=STREAM)


def a_job(content: bytes) -> Job:
    return Job(Entry.of(Session(), len(content), "0" * 64), content)


def as_redis_py_packs(*jobs: Job) -> bytes:
    commands = [
        (
            *("XADD", STREAM, "*", "content_id", job.entry.content_id),
            *("envelope", job.entry.head, "content", job.content),
        )
        for job in jobs
    ]
    connection: Any = redis.Connection
    return b"".join(connection().pack_commands(commands))


@pytest.mark.parametrize("size", [0, 100, LARGEST + 1])
def test_an_entry_is_sent_as_redis_py_packs_it(store: RedisStreamStore, size: int) -> None:
    connection = Connection(b"1-0")
    job = a_job(b"x" * size)
    store._send(connection, [job])
    [pieces] = connection.sent
    assert b"".join(pieces) == as_redis_py_packs(job)
    # A large content isn't copied.
    assert any(piece is job.content for piece in pieces) is (size > LARGEST)


def test_several_entries_are_one_piece_and_each_has_its_answer(store: RedisStreamStore) -> None:
    refusal = OutOfMemoryError("OOM")
    connection = Connection(b"1-0", refusal, ResponseError("WRONGTYPE"))
    jobs = [a_job(b"%d" % number) for number in range(3)]
    store._send(connection, jobs)
    assert connection.sent == [[as_redis_py_packs(*jobs)]]
    assert [type(job.failure) for job in jobs] == [type(None), OutOfMemoryError, ResponseError]
    assert all(job.is_sent for job in jobs)
