"""Lets other greenlets run between two pieces of work in the hub."""

from __future__ import annotations

from typing import Final

from gevent import get_hub

#: A turn of the loop that takes more seconds than this is long.
LONG_TURN: Final = 0.002


def let_others_run() -> None:
    """Pause this greenlet until the next turn of the hub's loop.

    gevent.sleep(0) isn't enough: the loop runs up to fifty callbacks (gevent's
    CALLBACK_CHECK_COUNT) before it checks sockets and timers, so they would wait for fifty pieces
    of work.
    """
    hub = get_hub()
    timer = hub.loop.timer(0)
    try:
        hub.wait(timer)
    finally:
        timer.close()


class Share:
    """Limits how many times something is done in one turn of the loop: at most *most* times.

    After a long turn it allows half as many in the next, after a short one it allows one more.
    Several in one turn cost less than one in each of several turns.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._share = 1
        #: The number that was done in this turn, and when the turn began.
        self._done = 0
        self._began = 0.0

    def take(self) -> bool:
        """Whether it may be done once more in this turn; False ends the turn, as `end` does."""
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
            self.end()  # the caller doesn't call again in this turn
        return True

    def end(self) -> None:
        """End this turn: there is nothing more to do in it."""
        self._done = 0
