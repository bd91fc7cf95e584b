"""Balances clients among processes that accept on the same sockets, as gunicorn's workers do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from time import monotonic
from typing import Any, Final

from gevent import spawn_later, spawn_raw
from gevent.server import StreamServer

from . import signals
from .server import SMTPServer

#: Seconds between two heartbeats.
HEARTBEAT_SECONDS: Final = 1.0
#: Seconds for which a worker leaves the next client to a worker with fewer clients. An idle worker
#: sleeps for 1 ms, libev's shortest time.
YIELD_SECONDS: Final = 0.0002


class Share:
    """Counts the SMTP clients of this worker and compares with the other workers.

    A new client wakes all workers. With little load the same worker often accepts first: it got
    up to ten of ten clients, so that one core served all of them.
    """

    #: Two numbers for each worker: the time of its last heartbeat, and how many clients it has.
    #: The arbiter creates this shared memory at import; its workers inherit it.
    _table = memoryview(mmap(-1, 256 * 16)).cast("d")

    def __init__(self, age: int) -> None:
        """*age* is the worker's number. Two workers whose numbers differ by 256 share an entry,
        which only makes the counts imprecise."""
        self._seen = age * 2 % len(self._table)
        self._count = self._seen + 1
        self._others: list[int] = []
        self._table[self._count] = 0

    def beat(self) -> None:
        """Record that this worker accepts; call it every HEARTBEAT_SECONDS."""
        now = monotonic()
        self._table[self._seen] = now
        self._others = [
            seen + 1
            for seen in range(0, len(self._table), 2)
            if seen != self._seen and now - self._table[seen] < 3 * HEARTBEAT_SECONDS
        ]

    def leave(self) -> None:
        """Record that this worker accepts no more clients."""
        self._table[self._seen] = 0

    def add(self, clients: int) -> None:
        self._table[self._count] += clients

    @property
    def is_larger(self) -> bool:
        """Whether another accepting worker has less than three quarters as many clients."""
        table = self._table
        # If exact balance was the goal, workers with short sessions would wait for each other.
        enough = table[self._count] * 0.75
        return any(table[other] < enough for other in self._others)


class Acceptor(StreamServer):
    """Accepts on one socket for an `SMTPServer` without a listener."""

    def __init__(
        self, sock: Any, server: SMTPServer, share: Share, accepted: Callable[[], None]
    ) -> None:
        super().__init__(sock, server.handle)
        self._server = server
        self._share = share
        self._accepted = accepted

    def do_handle(self, *args: Any) -> None:
        self._accepted()
        self._share.add(1)
        spawn_raw(self._serve, *args)

    def _serve(self, *args: Any) -> None:
        try:
            self._server.handle(*args)
        finally:
            self._share.add(-1)

    def _go_on(self) -> None:
        if self.started:
            self.start_accepting()
            with suppress(OSError):  # do_read will meet and report the same error
                if client := super().do_read():  # no other process took the client
                    self.do_handle(*client)

    def do_read(self) -> Any:
        if self._share.is_larger:
            self.stop_accepting()
            spawn_later(YIELD_SECONDS, self._go_on)
            return None
        try:
            return super().do_read()
        except OSError as exc:
            # Out of file descriptors or memory: gevent tries again later.
            event = signals.ErrorEvent(exc, signals.error_code(exc), meta={"stage": "accept"})
            spawn_raw(signals.emit_error, self._server, event)
            raise
