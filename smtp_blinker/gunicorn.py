"""Serves SMTP and LMTP from several processes. Needs ``pip install 'smtp_blinker[gunicorn]'``.

    gunicorn -k smtp_blinker.gunicorn.SMTPWorker -w 4 -b 0.0.0.0:2525 myapp:server

``server`` is an `SMTPServer` with the listener None, because gunicorn opens the sockets.
docs/gunicorn.md describes what each signal does, and which limits count per worker.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from signal import SIGINT, SIGQUIT, SIGTERM, SIGUSR1
from time import monotonic
from typing import Any, Final, NoReturn

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.socket import socket as gevent_socket

from . import held_signals, signals
from .server import SMTPServer
from .session import Session
from .sharing import HEARTBEAT_SECONDS, Acceptor, Share
from .smtp.reply import Reject

try:
    # The package gunicorn; this module only has the same last name.
    from gunicorn.app.base import BaseApplication
    from gunicorn.config import Config
    from gunicorn.errors import AppImportError
    from gunicorn.http.wsgi import base_environ
    from gunicorn.workers.base import Worker
    from gunicorn.workers.ggevent import PyWSGIHandler, PyWSGIServer
except ModuleNotFoundError as exc:
    raise ImportError(
        f"smtp_blinker.gunicorn needs {exc.name}: pip install 'smtp_blinker[gunicorn]'"
    ) from exc

#: Seconds between the moment when a worker stops accepting and the 421 to its idle clients. Most
#: sessions end by themselves in this time.
SETTLE_SECONDS: Final = 1.0
#: The arbiter kills a worker after graceful_timeout. The worker ends the remaining sessions this
#: many seconds earlier (or at half of the time, if that is later), so that clients get a 421.
FAREWELL_SECONDS: Final = 2.0

WSGIApplication = Callable[..., Any]
#: What serves the clients of one or more sockets.
Service = SMTPServer | WSGIApplication
#: What a worker serves: one server for all sockets, or one service for each.
Services = SMTPServer | Sequence[Service]


class _HTTPServer(PyWSGIServer):
    """gunicorn's HTTP server, which also counts the requests in progress."""

    busy = 0


class _HTTPHandler(PyWSGIHandler):
    server: _HTTPServer

    def handle_one_response(self) -> None:
        self.server.busy += 1
        try:
            super().handle_one_response()
        finally:
            self.server.busy -= 1


class _Sockets:
    """gunicorn's listening sockets, each with the service for its clients."""

    def __init__(
        self,
        services: Sequence[tuple[Any, Service]],
        worker: Worker,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        #: Each SMTPServer once.
        self.servers: list[SMTPServer] = []
        self._share = Share(worker.age)
        self._http: list[_HTTPServer] = []
        self._acceptors: list[Acceptor] = []
        for sock, service in services:
            # gunicorn wraps the socket; its gevent worker has unwrapped it already.
            sock = getattr(sock, "sock", sock)
            listener = gevent_socket(sock.family, sock.type, fileno=sock.detach())
            if isinstance(service, SMTPServer):
                if service.family is not None:
                    raise RuntimeError(
                        f"{service!r} has a listener of its own; use SMTPServer(None, …)"
                    )
                if service not in self.servers:
                    self.servers.append(service)
                    service.address = listener.getsockname()  # for logs and `server_port`
                self._acceptors.append(Acceptor(listener, service, self._share, accepted))
            else:
                self._http.append(_http_server(listener, service, worker))
        if worker.cfg.workers > 1:
            for http in self._http:
                http.max_accept = 1  # leave the next client to another worker

    def start(self) -> None:
        self._beating = gevent.spawn(self._beat)
        for server in self.servers:
            server.start()
        for acceptor in (*self._acceptors, *self._http):
            acceptor.start()
        for server in self.servers:
            signals.emit(signals.listening, server)

    def drain(self, seconds: float) -> None:
        """Stop accepting, let sessions and requests end, and send the signal `close`.

        Returns after *seconds* at the latest, unless a hook swallows GreenletExit.
        """
        deadline = monotonic() + seconds
        self._beating.kill()
        self._share.leave()
        for acceptor in (*self._acceptors, *self._http):
            acceptor.close()
        gevent.sleep(0)  # let clients that were just accepted begin
        settled = min(monotonic() + SETTLE_SECONDS, deadline)
        while monotonic() < settled and any(server.connections for server in self.servers):
            gevent.sleep(0.02)
        left = max(0.0, deadline - monotonic())
        stopping = [gevent.spawn(server.stop, left) for server in self.servers]
        while monotonic() < deadline and any(server.busy for server in self._http):
            gevent.sleep(0.02)
        for http in self._http:
            http.stop(timeout=0)
        gevent.joinall(stopping)

    def cut(self) -> None:
        """End every session now, with a 421 if it can be sent; `drain` then returns soon."""
        for server in self.servers:
            for connection in list(server.connections):
                connection.kill()

    def _beat(self) -> None:
        while True:
            self._share.beat()
            gevent.sleep(HEARTBEAT_SECONDS)


def _http_server(listener: Any, application: WSGIApplication, worker: Any) -> _HTTPServer:
    return _HTTPServer(
        listener,
        application=application,
        spawn=Pool(worker.cfg.worker_connections),
        log=worker.log,
        handler_class=_HTTPHandler,
        environ={**base_environ(worker.cfg), "wsgi.multithread": True},
    )


def _drain_seconds(cfg: Config) -> float:
    seconds: int = cfg.graceful_timeout
    return max(seconds - FAREWELL_SECONDS, seconds / 2)


def _refuse(session: Session) -> None:
    raise Reject(421, "Service not available", "4.3.0")


class SMTPWorker(Worker):
    """The worker class. The object that gunicorn loads must be one of these:

    * an `SMTPServer` with the listener None: it gets every socket of ``--bind``;
    * a list with a service for each socket, in the order of ``--bind``: an `SMTPServer` (the list
      may have it more than once) or a WSGI application, which gevent.pywsgi serves;
    * a function without arguments that returns one of these; it runs in the worker.

    The default name in the module is ``server``. Nothing is monkey patched.

    On TERM the worker stops accepting, and sessions have `SETTLE_SECONDS` to end by themselves.
    Then idle clients get 421, and transactions may go on until graceful_timeout is nearly over.
    On QUIT and INT every client gets 421 at once. ``max_requests`` counts clients.
    """

    _ending: Event
    _sockets: _Sockets | None = None
    _quick = False

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """The arbiter calls this at the start; a RuntimeError ends it."""
        if cfg.is_ssl:
            raise RuntimeError(
                "gunicorn's certfile and keyfile are for HTTP; give certificates to SMTPServer"
            )
        if cfg.reuse_port:
            log.warning("reuse_port: when a worker ends, clients in its backlog are lost")

    # Called by the arbiter and by gunicorn's base class

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        held_signals.hold_in_next_child()  # the arbiter's next step is fork

    def init_process(self) -> None:
        gevent.reinit()
        self._ending = Event()
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        # Python's handlers run only when the hub does something; gevent's wake it. SIGABRT stays
        # with Python, because the arbiter sends it when the hub is stuck.
        gevent.signal_handler(SIGTERM, self.handle_exit, SIGTERM, None)
        gevent.signal_handler(SIGINT, self.handle_quit, SIGINT, None)
        gevent.signal_handler(SIGQUIT, self.handle_quit, SIGQUIT, None)
        gevent.signal_handler(SIGUSR1, self.handle_usr1, SIGUSR1, None)

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._end()

    def handle_quit(self, sig: int, frame: Any) -> None:
        self._quick = True
        self._end()
        self.cfg.worker_int(self)
        if self._sockets is not None:
            self._sockets.cut()

    def load_wsgi(self) -> None:
        held_signals.release()  # init_signals has set the handlers
        try:
            services = self._load()
        except SyntaxError as exc:
            if not self.cfg.reload:
                raise
            # As gunicorn does for HTTP, refuse all clients until the file is fixed.
            self.log.exception(exc)
            if self.reloader is not None and exc.filename is not None:
                self.reloader.add_extra_file(exc.filename)
            services = SMTPServer(None, on_connect=_refuse)
        if isinstance(services, SMTPServer):
            services = [services] * len(self.sockets)
        if len(services) != len(self.sockets):
            raise RuntimeError(
                f"{len(services)} services for {len(self.sockets)} sockets: there must be one each"
            )
        pairs = list(zip(self.sockets, services, strict=True))
        self._sockets = _Sockets(pairs, self, self._accepted)

    def run(self) -> None:
        assert self._sockets is not None
        heart = gevent.spawn(self._beat)
        try:
            if self.age == 1:
                self._tell_limits(self._sockets.servers)
            self._sockets.start()
            while self.alive:
                # Wake up regularly, because the reloader's thread only clears `alive`.
                self._ending.wait(HEARTBEAT_SECONDS)
            self._sockets.drain(0 if self._quick else _drain_seconds(self.cfg))
        finally:
            heart.kill()

    # Internal

    def _load(self) -> Any:
        uri = getattr(self.app, "app_uri", None)
        # gunicorn's own loading accepts callables only, so it is used only for a preloaded
        # application and for applications without a URI.
        loaded: Any = self.app.wsgi() if uri is None or self.app.callable else load(uri)
        return loaded() if callable(loaded) and not isinstance(loaded, SMTPServer) else loaded

    def _beat(self) -> None:
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                self._end()
            # self.timeout is half of the arbiter's timeout; 0 means no timeout.
            gevent.sleep(min(HEARTBEAT_SECONDS, self.timeout or HEARTBEAT_SECONDS))

    def _accepted(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after %s clients.", self.nr)
            self._end()

    def _end(self) -> None:
        self.alive = False
        self._ending.set()

    def _tell_limits(self, servers: Sequence[SMTPServer]) -> None:
        """Log what the limits per worker amount to for all workers together."""
        workers = self.cfg.workers
        for server in servers if workers > 1 else ():
            for name in ("max_clients", "max_clients_per_ip"):
                limit = getattr(server.options, name)
                if limit is not None:
                    self.log.info(
                        "%s=%s counts per worker: %s workers take up to %s",
                        *(name, limit, workers, limit * workers),
                    )


class Beside:
    """An SMTP server in gunicorn's gevent worker, next to the WSGI application.

    In gunicorn's configuration file::

        worker_class = "gevent"
        bind = ["127.0.0.1:8000", "127.0.0.1:2525"]
        smtp = Beside("myapp:server", sockets=[1])
        post_worker_init, worker_int, worker_exit = smtp.hooks

    *uri* names an `SMTPServer` with the listener None, or a function that returns one. It is
    loaded in the worker, after monkey patching. *sockets* are the indexes in ``bind`` of the
    sockets for SMTP; gunicorn keeps the others. Signals have the same effect as in `SMTPWorker`.
    """

    def __init__(self, uri: str, sockets: Sequence[int]) -> None:
        self._uri = uri
        self._indexes = frozenset(sockets)
        self._sockets: _Sockets | None = None
        self._quick = False
        self._drain: gevent.Greenlet[..., None] | None = None

    @property
    def hooks(self) -> tuple[Callable[[Any], None], Callable[[Any], None], Callable[..., None]]:
        """The settings post_worker_init, worker_int and worker_exit."""
        return self.post_worker_init, self.worker_int, self.worker_exit

    def post_worker_init(self, worker: Any) -> None:
        server = load(self._uri)
        if not isinstance(server, SMTPServer):
            server = server()
        ours = [sock for n, sock in enumerate(worker.sockets) if n in self._indexes]
        if len(ours) != len(self._indexes):
            raise RuntimeError(f"bind has no such sockets: {sorted(self._indexes)}")
        worker.sockets = [sock for n, sock in enumerate(worker.sockets) if n not in self._indexes]
        self._sockets = _Sockets([(sock, server) for sock in ours], worker)
        self._sockets.start()
        self._drain = gevent.spawn(self._wait_and_drain, worker, self._sockets)

    def worker_int(self, worker: Any) -> None:
        self._quick = True
        if self._sockets is not None:
            self._sockets.cut()

    def worker_exit(self, arbiter: Any, worker: Any) -> None:
        worker.alive = False
        if self._drain is not None:
            self._drain.join()

    def _wait_and_drain(self, worker: Any, sockets: _Sockets) -> None:
        while worker.alive:
            gevent.sleep(0.1)
        sockets.drain(0 if self._quick else _drain_seconds(worker.cfg))


def child_exit(arbiter: Any, worker: Any) -> None:
    """For gunicorn's setting child_exit: removes the gauges of a worker that has ended.

    It is for prometheus_client's multi-process mode, and does nothing unless the environment has
    PROMETHEUS_MULTIPROC_DIR.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def load(uri: str) -> Any:
    """Import the object ``module:name``; the default name is ``server``.

    Raises gunicorn's AppImportError if the module has no such name, and whatever the import raises.
    """
    module, _, name = uri.partition(":")
    name = name or "server"
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise AppImportError(f"Failed to find attribute {name!r} in {module!r}.") from None


class _Application(BaseApplication):
    """The application of `run`. It makes the servers in the arbiter, which may have the permission
    to read files that the workers can't read."""

    def __init__(self, factory: Callable[[], Services], settings: Mapping[str, Any]) -> None:
        self._factory = factory
        self._settings = settings
        super().__init__()
        self.callable: Any = factory()

    def load_config(self) -> None:
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return self.callable

    def reload(self) -> None:
        super().reload()
        try:
            self.callable = self._factory()
        except Exception:
            logging.getLogger("gunicorn.error").exception("HUP failed: the servers are unchanged")


def run(
    factory: Callable[[], Services],
    addresses: Sequence[tuple[str, int] | str],
    workers: int = 1,
    **settings: Any,
) -> NoReturn:
    """Serve at *addresses* with *workers* processes until a signal ends it; raises SystemExit.

    *factory* returns what `SMTPWorker` serves; a list is in the order of *addresses*. It is called
    here, in the process that starts the workers, and what it raises is raised here. Each HUP calls
    it again, for new workers; if it raises then, they get the earlier servers. An address is
    ``(host, port)`` or ``"unix:/path"``; the mode of that socket depends on the process's umask.
    *settings* are gunicorn's. Log lines go to gunicorn's logger (by default to standard error).
    """
    settings = {
        "bind": [_bind(address) for address in addresses],
        "workers": workers,
        "worker_class": SMTPWorker,
        "child_exit": child_exit,
        # gunicorn's default, 0, would let every user write to a UNIX socket.
        "umask": _umask(),
        # Otherwise gunicorn makes a socket for `gunicornc` in the current directory.
        "control_socket_disable": True,
        **settings,
    }
    _Application(factory, settings).run()
    raise SystemExit(0)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _bind(address: tuple[str, int] | str) -> str:
    if isinstance(address, str):
        return address
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
