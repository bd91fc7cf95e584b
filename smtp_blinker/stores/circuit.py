"""A circuit breaker for stores: after some failures in a row, mail is refused unread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

import gevent

from ..smtp.reply import Reject

#: After this many failures in a row mail is refused at once.
FAILURES: Final = 3
#: Mail is refused for this many seconds; then one message is tried.
PAUSE: Final = 5.0


Outcome = Literal["accepted", "refused", "failed"]


class Attempt:
    """One delivery in progress, as a context: see `Circuit.attempt`."""

    # A class, because a generator as a context takes twice the instructions for each message.

    __slots__ = ("_began", "_circuit", "outcome")

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        #: The outcome if the block ends without an exception.
        self.outcome: Outcome = "accepted"

    def __enter__(self) -> Attempt:
        self._began = self._circuit.begin()
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if exc is not None:
            is_refusal = isinstance(exc, Reject) and exc.code >= 500
            self.outcome = "refused" if is_refusal else "failed"
        self._circuit.end(self._began, self.outcome, exc)


class Circuit:
    """It opens after *failures* in a row for *pause* seconds; then one trial decides."""

    def __init__(
        self,
        failures: int = FAILURES,
        pause: float = PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = failures
        self._pause = pause
        self._clock = clock
        self._failures = 0
        self._closed_again = 0.0
        #: Called after each delivery with its outcome and the seconds that it took. They mustn't
        #: raise.
        self.watchers: list[Callable[[Outcome, float], object]] = []

    @property
    def is_open(self) -> bool:
        """Whether mail is refused now."""
        return self._failures >= self._most and self._clock() < self._closed_again

    @property
    def is_failing(self) -> bool:
        """Whether the last *failures* deliveries have failed."""
        return self._failures >= self._most

    def check(self) -> None:
        """Raise `Reject` (451 4.3.0) while it is open."""
        if self.is_open:
            raise away()

    def attempt(self) -> Attempt:
        """One delivery. An exception that leaves the block counts, except a `Reject` of 5yz."""
        return Attempt(self)

    @contextmanager
    def attempt_together(self) -> Iterator[list[Outcome]]:
        """Several deliveries at once. The block appends their outcomes to the list; if all fail,
        that counts as one failure."""
        began = self.begin()
        outcomes: list[Outcome] = []
        yield outcomes
        self.add(self._clock() - began, *outcomes)

    def add(self, seconds: float, *outcomes: Outcome) -> None:
        """Record deliveries that ended together after *seconds*, here or in another process."""
        if "accepted" in outcomes:
            self._failures = 0
        elif "failed" in outcomes:
            self._count_failure()
        for outcome in outcomes:
            self._tell(outcome, seconds)

    def begin(self) -> float:
        """Begin a delivery; returns the time. Raises `Reject` (451 4.3.0) while it is open."""
        now = self._clock()
        if self._failures >= self._most:
            if now < self._closed_again:
                raise away()
            # This is the trial; others are refused until its outcome is known.
            self._closed_again = now + self._pause
        return now

    def end(self, began: float, outcome: Outcome, exc: BaseException | None) -> None:
        """End the delivery that began at *began*, with *exc* or without."""
        if exc is None:
            self._failures = 0
        elif outcome == "failed" and isinstance(exc, (Exception, gevent.Timeout)):
            self._count_failure()  # other exceptions stop the server
        if self.watchers:
            self._tell(outcome, self._clock() - began)

    def _count_failure(self) -> None:
        self._failures += 1
        self._closed_again = self._clock() + self._pause

    def _tell(self, outcome: Outcome, seconds: float) -> None:
        for watcher in self.watchers:
            watcher(outcome, seconds)


def away() -> Reject:
    """The reply to clients while the other side is unreachable."""
    return Reject(451, "Mail can't be stored at the moment, try again later", "4.3.0")


class _TimeIsUp(BaseException):
    """Ends the block of a `Deadline`, where `except Exception` doesn't stop it."""


class Deadline:
    """A context that raises what *late* returns if its block takes longer than *seconds*.

    It does what `gevent.Timeout` does, with a third of the instructions: each message has one.
    """

    __slots__ = ("_late", "_seconds", "_signal", "_timer")

    def __init__(self, seconds: float, late: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._late = late

    def __enter__(self) -> None:
        self._signal = _TimeIsUp()
        self._timer: Any = gevent.get_hub().loop.timer(self._seconds)
        self._timer.start(gevent.getcurrent().throw, self._signal, update=True)

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._timer.stop()
        self._timer.close()
        if exc is self._signal:
            raise self._late() from None


def check_timeout(timeout: object) -> None:
    """Raise TypeError or ValueError for what is not a number of seconds greater than 0."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout takes a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be greater than 0 (seconds), not {timeout!r}")
