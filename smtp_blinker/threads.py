"""A server in a thread, for programs that don't use gevent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

import gevent
from gevent import monkey

#: Seconds between two checks whether the hub that shall call a function still runs.
HUB_CHECK_SECONDS: Final = 0.1


class Startable(Protocol):
    """The part of `SMTPServer` that `ServerThread` needs."""

    #: The hub in which the server starts and stops; None for the caller's hub.
    home: Any

    def start(self) -> None: ...

    def stop(self) -> None: ...


_Server = TypeVar("_Server", bound=Startable)


class HubGone(RuntimeError):
    """The thread in which a server runs has ended."""


def call_in_hub(hub: gevent.hub.Hub, function: Callable[[], None]) -> None:
    """Call *function* in a new greenlet of *hub*, which belongs to another thread, and wait.

    Raises what *function* raises, and `HubGone` if the hub has ended.
    """
    done = monkey.get_original("threading", "Event")()
    failures: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as exc:
            failures.append(exc)
        finally:
            done.set()

    loop = hub.loop
    if loop is None:
        raise HubGone("the thread that the server ran in has ended")
    loop.run_callback_threadsafe(gevent.spawn_raw, call)
    while not done.wait(HUB_CHECK_SECONDS):
        if hub.loop is None or hub.dead:
            raise HubGone("the thread that the server ran in has ended")
    if failures:
        raise failures[0]


class ServerThread(Generic[_Server]):
    """The context manager that `SMTPServer.run_in_thread` returns; usable once."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        # An async watcher: waiting for it keeps the hub running even without a listener.
        self._stop: Any = None

    def __enter__(self) -> _Server:
        if monkey.is_module_patched("threading"):
            # Patched threads are greenlets of this hub.
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
        """Run in the thread: start the server, wait until the block is left, stop the server."""
        hub = gevent.get_hub()
        self._stop = hub.loop.async_()
        self._server.home = hub
        try:
            self._server.start()
            self._started.set()
            hub.wait(self._stop)
            self._server.stop()
        except BaseException as exc:
            self._failure = exc
        finally:
            self._server.home = None
            self._started.set()
            gevent.sleep(0)  # let calls of stop() from other threads return
            self._stop.close()
            hub.destroy(destroy_loop=True)
