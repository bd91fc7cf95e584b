"""Connections to an engine, which greenlets use one at a time."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

import gevent
from gevent import monkey
from gevent.lock import BoundedSemaphore

C = TypeVar("C")

# gevent's own poll goes through the hub.
_poll: Final = monkey.get_original("select", "poll")

#: Seconds after which an idle connection isn't used again: a firewall may have dropped it.
IDLE_SECONDS: Final = 60.0


class Pool(Generic[C]):
    """Up to *most* connections in use at a time.

    *connect* makes one; *is_alive* says whether one that has waited can be used; *close* ends it
    and raises nothing.
    """

    def __init__(
        self,
        most: int,
        connect: Callable[[], C],
        is_alive: Callable[[C], bool],
        close: Callable[[C], None],
    ) -> None:
        self._free = BoundedSemaphore(most)
        self._connect = connect
        self._is_alive = is_alive
        self._close = close
        # Idle connections and the times since when they are idle, the latest last. A socket belongs
        # to the hub that made it.
        self._idle: WeakKeyDictionary[Any, deque[tuple[float, C]]] = WeakKeyDictionary()

    @contextmanager
    def use(self) -> Iterator[C]:
        """A connection for the block. If the block raises, the connection is closed."""
        idle = self._idle.setdefault(gevent.get_hub(), deque())
        with self._free:
            connection = self._waiting(idle)
            if connection is None:
                connection = self._connect()
            try:
                yield connection
            except BaseException:
                self._close(connection)
                raise
            idle.append((time.monotonic(), connection))

    def _waiting(self, idle: deque[tuple[float, C]]) -> C | None:
        while idle:
            since, connection = idle.pop()
            try:
                if time.monotonic() - since < IDLE_SECONDS and self._is_alive(connection):
                    return connection
            except BaseException:
                self._close(connection)
                raise
            self._close(connection)
        return None

    def close(self) -> None:
        """Close the idle connections of this hub."""
        idle = self._idle.get(gevent.get_hub(), ())
        while idle:
            self._close(idle.pop()[1])


def has_input(sock: Any) -> bool:
    """Whether *sock* can be read, also if it has ended. Doesn't wait."""
    poll = _poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
