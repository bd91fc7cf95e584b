"""A server in a thread, for programs that don't use gevent."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING

import gevent
from gevent import monkey
from gevent.event import Event

if TYPE_CHECKING:
    from .server import SMTPServer


class ServerThread:
    """The context manager that `SMTPServer.run_in_thread` returns; usable once."""

    def __init__(self, server: SMTPServer) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._hub: gevent.hub.Hub | None = None
        self._stop: Event | None = None

    def __enter__(self) -> SMTPServer:
        if monkey.is_module_patched("threading"):
            # Threads are greenlets here, and everybody shares this hub.
            self._server.start()
            return self._server
        self._thread = threading.Thread(target=self._run, name="smtp_blinker", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self._server

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is None:
            self._server.stop()
            return
        assert self._hub is not None
        assert self._stop is not None
        self._hub.loop.run_callback_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        """The thread: start, wait to be told, stop."""
        hub = self._hub = gevent.get_hub()
        self._stop = Event()
        try:
            try:
                self._server.start()
            except BaseException as exc:
                self._failure = exc
                return
            finally:
                self._started.set()
            self._stop.wait()
            self._server.stop()
        finally:
            hub.destroy(destroy_loop=True)
