"""Sends entries to an engine in batches: while one batch is sent, the next entries gather."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

import gevent
from gevent.hub import Waiter

from .circuit import Deadline
from .entry import Entry
from .pool import Pool

C = TypeVar("C")

#: Batches that are sent at the same time, each on its own connection: while the engine writes one
#: to its disk, it receives the other.
BATCHES: Final = 2
#: Entries that must wait before a batch is sent beside another. Small batches cost more than they
#: gain: with one entry enough, a message to Redis took 15 % more CPU time.
MANY: Final = 16
#: Seconds after which fewer are sent beside a batch, which may be large, or hang.
SLOW: Final = 0.05
#: Octets of a batch, unless its first entry is larger. So a large entry is sent alone.
LARGEST: Final = 256 * 1024


class Job:
    """One *entry* with its *content*."""

    __slots__ = (
        "_has_ended",
        "_waiter",
        "content",
        "entry",
        "failure",
        "is_given_up",
        "is_sent",
        "size",
    )

    def __init__(self, entry: Entry, content: bytes) -> None:
        self.entry = entry
        self.content = content
        self.size = len(entry.head) + len(content)
        #: Why the engine doesn't have it, or may not have it.
        self.failure: Exception | None = None
        #: Whether the engine may have it, even if it answers with an error.
        self.is_sent = False
        #: Whether its caller no longer waits for it.
        self.is_given_up = False
        self._has_ended = False
        self._waiter: Waiter[None] | None = None

    def wait(self) -> None:
        """Wait for its end. An exception in this greenlet gives the job up."""
        if self._has_ended:
            return
        self._waiter = Waiter()
        try:
            self._waiter.get()
        except BaseException:
            self.is_given_up = True
            raise

    def end(self, failure: Exception | None = None) -> None:
        """End it, successfully or with *failure*. A job that has ended doesn't change."""
        if not self._has_ended:
            self._has_ended = True
            self.failure = failure
            if self._waiter is not None:
                self._waiter.hub.loop.run_callback(self._waiter.switch, None)


class _Lane:
    """The waiting jobs of one hub, and the number of batches that it is sending."""

    def __init__(self) -> None:
        self.waiting: deque[Job] = deque()
        self.under_way = 0
        #: Whether what waits is sent in `SLOW` seconds.
        self.is_watched = False

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
        # A greenlet can't wait for one of another hub.
        self._lanes: WeakKeyDictionary[Any, _Lane] = WeakKeyDictionary()

    def hand_over(self, job: Job) -> None:
        """Return once *job* has ended, or with a `failure`."""
        hub = gevent.get_hub()
        lane = self._lanes.get(hub)
        if lane is None:
            lane = self._lanes[hub] = _Lane()
        lane.waiting.append(job)
        self._serve(lane)
        job.wait()

    def _serve(self, lane: _Lane) -> None:
        if not lane.under_way or (lane.under_way < BATCHES and len(lane.waiting) >= MANY):
            self._start(lane)
        elif not lane.is_watched:
            lane.is_watched = True
            gevent.spawn_later(SLOW, self._look_again, lane)

    def _look_again(self, lane: _Lane) -> None:
        lane.is_watched = False
        if lane.waiting and lane.under_way < BATCHES:
            self._start(lane)

    def _start(self, lane: _Lane) -> None:
        lane.under_way += 1
        gevent.spawn(self._work, lane)

    def _work(self, lane: _Lane) -> None:
        # In its own greenlet: an interrupted hook of one message must not interrupt others.
        try:
            while jobs := lane.take():
                self.hand_over_together(jobs)
                if lane.under_way > 1 and len(lane.waiting) < MANY:
                    break
        finally:
            lane.under_way -= 1
            if lane.waiting:
                self._serve(lane)

    def _late(self) -> TimeoutError:
        return TimeoutError(f"it did not answer within {self._timeout:g} s")

    def hand_over_together(self, jobs: Sequence[Job]) -> None:
        """Return once all *jobs* have ended; they go in this order, on one connection."""
        failure: Exception | None = ConnectionError("the hand-over was ended")
        try:
            with Deadline(self._timeout, self._late), self._pool.use() as connection:
                self._send(connection, jobs)
            failure = None
        except Exception as exc:
            failure = exc.with_traceback(None)  # whose frames hold all contents
        finally:
            for job in jobs:
                job.end(failure)
