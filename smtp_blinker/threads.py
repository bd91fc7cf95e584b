"""A server in a thread, for programs that don't use gevent."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey

if TYPE_CHECKING:
    from .server import SMTPServer


def stop_from_another_thread(
    server: SMTPServer, hub: gevent.hub.Hub, timeout: float | None
) -> None:
    """Have *server*, which serves in *hub*'s thread, stopped there; wait for it here."""
    done = monkey.get_original("threading", "Event")()

    def stop() -> None:
        try:
            server.stop(timeout)
        finally:
            done.set()

    hub.loop.run_callback_threadsafe(gevent.spawn_raw, stop)
    done.wait()


class ServerThread:
    """The context manager that `SMTPServer.run_in_thread` returns; usable once."""

    def __init__(self, server: SMTPServer) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        # Waiting on it keeps the hub running even when nothing listens any more.
        self._stop: Any = None

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
        self._stop.send()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        """The thread: start, wait to be told, stop."""
        hub = gevent.get_hub()
        self._stop = hub.loop.async_()
        try:
            self._server.start()
            self._started.set()
            hub.wait(self._stop)
            self._server.stop()
        except BaseException as exc:
            self._failure = exc
        finally:
            self._started.set()
            self._stop.close()
            hub.destroy(destroy_loop=True)
