"""Letting others have their turn at the hub between two pieces of work."""

from __future__ import annotations

from typing import Final

from gevent import get_hub

#: Seconds of a turn of the loop that are long for those who wait for their own.
LONG_TURN: Final = 0.002


def let_others_run() -> None:
    """Go on in the next turn of the hub's loop, after all others that are ready.

    gevent.sleep(0) isn't enough: the loop looks at sockets and timers only after fifty callbacks
    (gevent's CALLBACK_CHECK_COUNT), so that fifty pieces of work come before them.
    """
    hub = get_hub()
    timer = hub.loop.timer(0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


class Share:
    """How much of one kind is done in one turn of the loop, *most* times at most.

    While turns are long it is less. While they are short it is more, as many in one turn cost less
    than one in each.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = 1
        #: What was done in this turn, and when it began.
        self._done = 0
        self._began = 0.0

    def take(self) -> bool:
        """Whether it may be done once more in this turn; False ends it, as `end` does."""
        if not self._done:
            now = get_hub().loop.now()
            if now - self._began > LONG_TURN:
                self._share = max(self._share // 2, 1)
            elif self._share < self._most:
                self._share += 1
            self._began = now
        elif self._done >= self._share:
            self.end()
            return False
        self._done += 1
        if self._done == self._most:
            self.end()  # the caller doesn't ask again in this turn
        return True

    def end(self) -> None:
        """There is nothing more to be done in this turn."""
        self._done = 0
