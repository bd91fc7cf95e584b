"""Entries on their way to an engine: while some are under way, the next ones gather."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

import gevent
from gevent.hub import Waiter

from .circuit import within
from .entry import Envelope
from .pool import Pool

C = TypeVar("C")

#: Batches that are under way at a time, each on a connection of its own: while the engine writes
#: one to its disk, it gets the other.
BATCHES: Final = 2
#: Octets of a batch, unless its first entry has more. So a large one goes alone.
LARGEST: Final = 256 * 1024


class Job:
    """One entry: the *envelope*, as JSON the *head*, and the *content*."""

    __slots__ = (
        "_has_ended",
        "_waiter",
        "content",
        "envelope",
        "failure",
        "head",
        "is_given_up",
        "is_sent",
    )

    def __init__(self, envelope: Envelope, head: bytes, content: bytes) -> None:
        self.envelope = envelope
        self.head = head
        self.content = content
        #: Why the engine hasn't got it, or may not have it.
        self.failure: Exception | None = None
        #: Whether the engine may have it, whatever it answers.
        self.is_sent = False
        #: Whether its caller has stopped waiting for it.
        self.is_given_up = False
        self._has_ended = False
        self._waiter: Waiter[None] | None = None

    @property
    def size(self) -> int:
        return len(self.head) + len(self.content)

    def wait(self) -> None:
        """Until it has ended. What interrupts this gives the job up."""
        if self._has_ended:
            return
        self._waiter = Waiter()
        try:
            self._waiter.get()
        except BaseException:
            self.is_given_up = True
            raise

    def end(self, failure: Exception | None = None) -> None:
        """Let it end, with *failure* or well. One that has ended stays as it is."""
        if not self._has_ended:
            self._has_ended = True
            self.failure = failure
            if self._waiter is not None:
                self._waiter.hub.loop.run_callback(self._waiter.switch, None)


class _Lane:
    """What waits in one hub, and how many batches are under way there."""

    def __init__(self) -> None:
        self.waiting: deque[Job] = deque()
        self.under_way = 0

    def take(self) -> list[Job]:
        """The next batch; empty if nothing waits."""
        jobs: list[Job] = []
        size = 0
        while self.waiting and (not jobs or size + self.waiting[0].size <= LARGEST):
            job = self.waiting.popleft()
            if not job.is_given_up:
                jobs.append(job)
                size += job.size
        return jobs


class Batches(Generic[C]):
    """Gives jobs to *send*, with a connection of *pool*; *timeout* is seconds for a batch.

    *send* sets `is_sent` of a job before it sends it, and ends it when the engine has answered.
    What it raises closes the connection and is the failure of all that haven't ended.
    """

    def __init__(
        self, pool: Pool[C], send: Callable[[C, Sequence[Job]], None], timeout: float
    ) -> None:
        self._pool = pool
        self._send = send
        self._timeout = timeout
        # A greenlet of another hub can't be waited for.
        self._lanes: WeakKeyDictionary[Any, _Lane] = WeakKeyDictionary()

    def hand_over(self, job: Job) -> None:
        """Return once *job* has ended, or with a `failure`."""
        lane = self._lanes.setdefault(gevent.get_hub(), _Lane())
        lane.waiting.append(job)
        if lane.under_way < BATCHES:
            lane.under_way += 1
            gevent.spawn(self._work, lane)
        job.wait()

    def _work(self, lane: _Lane) -> None:
        # In a greenlet of its own: what interrupts one message's hook must not cut off others.
        try:
            while jobs := lane.take():
                self.hand_over_together(jobs)
        finally:
            lane.under_way -= 1

    def hand_over_together(self, jobs: Sequence[Job]) -> None:
        """Return once all *jobs* have ended; they go in this order, on one connection."""
        failure: Exception | None = ConnectionError("the hand-over was ended")
        late = TimeoutError(f"it did not answer within {self._timeout:g} s")
        try:
            with within(self._timeout, late), self._pool.use() as connection:
                self._send(connection, jobs)
            failure = None
        except Exception as exc:
            failure = exc.with_traceback(None)  # whose frames hold all contents
        finally:
            for job in jobs:
                job.end(failure)
