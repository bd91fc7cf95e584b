"""A store's memory of failures: after some in a row, mail is refused before it is read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import gevent

from ..smtp.reply import Reject

#: Failures in a row after which mail is refused at once.
FAILURES: Final = 3
#: Seconds of that, after which one message is tried.
PAUSE: Final = 5.0


class Circuit:
    """Open after *failures* in a row, for *pause* seconds; then one trial decides."""

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

    @property
    def is_open(self) -> bool:
        """Whether mail is refused now."""
        return self._failures >= self._most and self._clock() < self._closed_again

    def check(self) -> None:
        """Raise `Reject` (451 4.3.0) while it is open."""
        if self.is_open:
            raise away()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """One hand-over: an exception that leaves the block counts, a `Reject` of 5yz doesn't."""
        self.check()
        if self._failures >= self._most:
            # The trial; until it is decided the others are refused.
            self._closed_again = self._clock() + self._pause
        try:
            yield
        except (Exception, gevent.Timeout) as exc:
            if not (isinstance(exc, Reject) and exc.code >= 500):
                self._failures += 1
                self._closed_again = self._clock() + self._pause
            raise
        self._failures = 0


def away() -> Reject:
    """What a client is told while the other side is away."""
    return Reject(451, "Mail can't be stored at the moment, try again later", "4.3.0")
