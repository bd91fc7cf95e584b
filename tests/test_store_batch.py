"""Entries that are handed over to an engine, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support import poll

from smtp_blinker import Session
from smtp_blinker.stores.batch import BATCHES, LARGEST, MANY, Batches, Job
from smtp_blinker.stores.entry import Entry
from smtp_blinker.stores.pool import Pool


def a_job(content: bytes = b"x") -> Job:
    return Job(Entry.of(Session(), len(content), ""), content)


def end_all(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.end()


class Engine:
    """Its connections are lists with a number; it answers when it may."""

    def __init__(self, timeout: float = 30) -> None:
        self.batches: list[Sequence[Job]] = []
        self.closed: list[Any] = []
        self.may_answer = Event()
        self.answer: Callable[[Sequence[Job]], None] = end_all
        self.connect: Callable[[], object] = object
        pool = Pool(BATCHES, lambda: self.connect(), lambda one: True, self.closed.append)
        self.to = Batches(pool, self._send, timeout)

    def _send(self, connection: object, jobs: Sequence[Job]) -> None:
        self.batches.append(jobs)
        for job in jobs:
            job.is_sent = True
        self.may_answer.wait()
        self.answer(jobs)

    def give(self, *jobs: Job) -> list[gevent.Greenlet[..., None]]:
        """Hand them over, each in a greenlet of its own."""
        greenlets = [gevent.spawn(self.to.hand_over, job) for job in jobs]
        gevent.idle()
        return greenlets

    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.batches]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Each batch needs one entry only."""
    monkeypatch.setattr("smtp_blinker.stores.batch.MANY", 1)
    return Engine()


def busy(engine: Engine) -> list[Job]:
    """As many jobs as there may be batches, each under way."""
    jobs = []
    for number in range(BATCHES):
        jobs.append(a_job())
        engine.give(jobs[-1])
        poll(lambda number=number: len(engine.batches) == number + 1)  # type: ignore[misc]
    return jobs


def test_only_many_entries_are_sent_beside_another_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp_blinker.stores.batch.SLOW", 3600)
    engine = Engine()
    first = engine.give(a_job())
    waiting = engine.give(*(a_job() for _ in range(MANY - 1)))
    assert engine.sizes() == [1]
    waiting += engine.give(a_job())
    assert engine.sizes() == [1, MANY]
    waiting += engine.give(*(a_job() for _ in range(MANY - 1)))
    assert engine.sizes() == [1, MANY]
    engine.may_answer.set()
    gevent.joinall([*first, *waiting], timeout=30, raise_error=True)
    assert engine.sizes() == [1, MANY, MANY - 1]


def test_an_entry_does_not_wait_for_a_batch_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the last one, which no other entry follows."""
    monkeypatch.setattr("smtp_blinker.stores.batch.SLOW", 0.01)
    engine = Engine()
    may_go_on = Event()
    hangs = a_job()

    def answer(jobs: Sequence[Job]) -> None:
        if hangs in jobs:
            may_go_on.wait()
        end_all(jobs)

    engine.answer = answer
    engine.may_answer.set()
    first = engine.give(hangs)
    for _ in range(3):
        gevent.joinall(engine.give(a_job()), timeout=30, raise_error=True)
    assert engine.sizes() == [1, 1, 1, 1]
    may_go_on.set()
    gevent.joinall(first, timeout=30, raise_error=True)


def test_while_some_are_under_way_the_next_ones_gather(engine: Engine) -> None:
    busy(engine)
    waiting = engine.give(*(a_job() for _ in range(5)))
    assert engine.sizes() == [1] * BATCHES
    engine.may_answer.set()
    gevent.joinall(waiting, timeout=30, raise_error=True)
    assert engine.sizes() == [*[1] * BATCHES, 5]
    assert engine.closed == []


def test_a_large_one_goes_alone(engine: Engine) -> None:
    busy(engine)
    waiting = engine.give(a_job(), a_job(bytes(LARGEST)), a_job(), a_job())
    engine.may_answer.set()
    gevent.joinall(waiting, timeout=30, raise_error=True)
    assert sorted(engine.sizes()[BATCHES:]) == [1, 1, 2]


def test_a_failure_is_that_of_those_that_were_not_answered(engine: Engine) -> None:
    engine.may_answer.set()
    busy(engine)
    engine.may_answer.clear()
    busy_again = [a_job() for _ in range(BATCHES)]
    for job in busy_again:
        engine.give(job)
    good, bad, lost = a_job(), a_job(), a_job()
    waiting = engine.give(good, bad, lost)

    def answer(jobs: Sequence[Job]) -> None:
        if good not in jobs:
            return end_all(jobs)
        good.end()
        bad.end(ValueError("refused"))
        raise ConnectionError("gone")

    engine.answer = answer
    engine.may_answer.set()
    gevent.joinall(waiting, timeout=30, raise_error=True)
    assert good.failure is None
    assert isinstance(bad.failure, ValueError)
    assert isinstance(lost.failure, ConnectionError)
    assert lost.is_sent
    assert len(engine.closed) == 1
    # The next one has another connection.
    gevent.joinall(engine.give(one := a_job()), timeout=30, raise_error=True)
    assert one.failure is None


def test_where_no_connection_can_be_had_nothing_was_sent(engine: Engine) -> None:
    def connect() -> object:
        raise ConnectionRefusedError("away")

    engine.connect = connect
    jobs = [a_job() for _ in range(5)]
    gevent.joinall(engine.give(*jobs), timeout=30, raise_error=True)
    assert all(isinstance(job.failure, ConnectionRefusedError) for job in jobs)
    assert not any(job.is_sent for job in jobs)


def test_who_gives_up_is_not_sent_and_cuts_off_no_other(engine: Engine) -> None:
    under_way = a_job()
    [first] = engine.give(under_way)
    poll(lambda: len(engine.batches) == 1)
    for _ in range(BATCHES - 1):
        engine.give(a_job())
    impatient, patient = a_job(), a_job()
    one, other = engine.give(impatient, patient)
    one.kill()
    first.kill()  # its batch goes on
    engine.may_answer.set()
    other.get(timeout=30)
    assert patient.failure is None
    assert [job for batch in engine.batches for job in batch].count(impatient) == 0
    assert under_way.failure is None
    assert engine.closed == []


def test_an_engine_that_does_not_answer_is_given_up() -> None:
    engine = Engine(timeout=0.05)
    job = a_job()
    engine.to.hand_over(job)
    assert isinstance(job.failure, TimeoutError)
    assert job.is_sent
    assert len(engine.closed) == 1
