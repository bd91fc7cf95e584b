"""Clients shared out among processes that accept at the same sockets, as gunicorn's workers do."""

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

#: Seconds between two signs of life.
HEARTBEAT_SECONDS: Final = 1.0
#: Seconds that a worker leaves the next client to one with fewer. One that has nothing else to do
#: sleeps a millisecond, libev's shortest time.
YIELD_SECONDS: Final = 0.0002


class Share:
    """How many SMTP clients this worker has, and whether another has fewer.

    A client who connects wakes all the workers, and with little to do the same one is first again
    and again: of ten clients it got up to ten, and they were all served on one core.
    """

    #: Two numbers for each worker: when it last said that it accepts, and how many clients it has.
    #: The arbiter makes this when it imports the module; the workers inherit it, and share it.
    _table = memoryview(mmap(-1, 256 * 16)).cast("d")

    def __init__(self, age: int) -> None:
        """*age* is the worker's number; one 256 older, if it lives, only blurs the counts."""
        self._seen = age * 2 % len(self._table)
        self._count = self._seen + 1
        self._others: list[int] = []
        self._table[self._count] = 0

    def beat(self) -> None:
        """This worker accepts; to be said every HEARTBEAT_SECONDS."""
        now = monotonic()
        self._table[self._seen] = now
        self._others = [
            seen + 1
            for seen in range(0, len(self._table), 2)
            if seen != self._seen and now - self._table[seen] < 3 * HEARTBEAT_SECONDS
        ]

    def leave(self) -> None:
        """It accepts no more clients."""
        self._table[self._seen] = 0

    def add(self, clients: int) -> None:
        self._table[self._count] += clients

    @property
    def is_larger(self) -> bool:
        """Whether another worker that accepts has less than three quarters of these clients."""
        table = self._table
        # Were they to be just equal, workers with short sessions would wait for each other.
        enough = table[self._count] * 0.75
        return any(table[other] < enough for other in self._others)


class Acceptor(StreamServer):
    """Accepts at one socket for an `SMTPServer` that has none."""

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
            with suppress(OSError):  # do_read will see it again
                if client := super().do_read():  # which no other process took
                    self.do_handle(*client)

    def do_read(self) -> Any:
        if self._share.is_larger:
            self.stop_accepting()
            spawn_later(YIELD_SECONDS, self._go_on)
            return None
        try:
            return super().do_read()
        except OSError as exc:
            # Too few descriptors or too little memory: gevent tries again later.
            event = signals.ErrorEvent(exc, signals.error_code(exc), meta={"stage": "accept"})
            spawn_raw(signals.emit_error, self._server, event)
            raise
