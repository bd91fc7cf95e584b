"""A circuit breaker for stores: after some failures in a row, mail is refused unread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

import gevent

from ..smtp.reply import Reject

#: After this many failures in a row mail is refused at once.
FAILURES: Final = 3
#: Mail is refused for this many seconds; then one message is tried.
PAUSE: Final = 5.0


Outcome = Literal["accepted", "refused", "failed"]


@dataclass(slots=True)
class Attempt:
    """One delivery in progress."""

    #: The outcome if the block ends without an exception.
    outcome: Outcome = "accepted"


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

    @contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """One delivery. An exception that leaves the block counts, except a `Reject` of 5yz."""
        self._begin()
        attempt = Attempt()
        began = self._clock()
        try:
            yield attempt
            self._failures = 0
        except (Exception, gevent.Timeout) as exc:
            if isinstance(exc, Reject) and exc.code >= 500:
                attempt.outcome = "refused"
            else:
                attempt.outcome = "failed"
                self._count_failure()
            raise
        except BaseException:  # the server stops
            attempt.outcome = "failed"
            raise
        finally:
            self._tell(attempt.outcome, self._clock() - began)

    @contextmanager
    def attempt_together(self) -> Iterator[list[Outcome]]:
        """Several deliveries at once. The block appends their outcomes to the list; if all fail,
        that counts as one failure."""
        self._begin()
        outcomes: list[Outcome] = []
        began = self._clock()
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

    def _begin(self) -> None:
        self.check()
        if self.is_failing:
            # This is the trial; others are refused until its outcome is known.
            self._closed_again = self._clock() + self._pause

    def _count_failure(self) -> None:
        self._failures += 1
        self._closed_again = self._clock() + self._pause

    def _tell(self, outcome: Outcome, seconds: float) -> None:
        for watcher in self.watchers:
            watcher(outcome, seconds)


def away() -> Reject:
    """The reply to clients while the other side is unreachable."""
    return Reject(451, "Mail can't be stored at the moment, try again later", "4.3.0")


@contextmanager
def within(seconds: float, late: Exception) -> Iterator[None]:
    """Raise *late* in the block if it takes longer than *seconds*."""
    deadline = gevent.Timeout(seconds)
    deadline.start()
    try:
        yield
    except gevent.Timeout as exc:
        if exc is not deadline:
            raise
        raise late from None
    finally:
        deadline.close()


def check_timeout(timeout: object) -> None:
    """Raise TypeError or ValueError for what is not a number of seconds greater than 0."""
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout takes a number of seconds, not {timeout!r}")
    if not timeout > 0:
        raise ValueError(f"timeout must be greater than 0 (seconds), not {timeout!r}")
