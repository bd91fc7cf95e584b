"""SMTP and LMTP from more than one process. Needs ``pip install 'smtp_blinker[gunicorn]'``.

    gunicorn -k smtp_blinker.gunicorn.SMTPWorker -w 4 -b 0.0.0.0:2525 myapp:server

``server`` is an `SMTPServer` made with the listener None: gunicorn has the sockets.
docs/gunicorn.md says what each signal does, and what counts per worker.
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

from . import signals
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

#: Seconds for which a worker that stops lets its sessions continue before it sends 421 to the idle
#: ones: most sessions end by themselves.
SETTLE_SECONDS: Final = 1.0
#: The arbiter kills after graceful_timeout; this many seconds before that (or at half of the
#: time, if that is later) the worker ends what is left, so that clients get a 421.
FAREWELL_SECONDS: Final = 2.0

WSGIApplication = Callable[..., Any]
#: A service for one or more sockets.
Service = SMTPServer | WSGIApplication
#: The services of a worker: one server for all the sockets, or one service for each.
Services = SMTPServer | Sequence[Service]


class _HTTPServer(PyWSGIServer):
    """gunicorn's handler, which also counts the requests that are being answered."""

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
    """Listening sockets of gunicorn's, each with the service that its clients get."""

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
                        f"{service!r} listens itself; gunicorn serves SMTPServer(None, …)"
                    )
                if service not in self.servers:
                    self.servers.append(service)
                    service.address = listener.getsockname()  # for logs and `server_port`
                self._acceptors.append(Acceptor(listener, service, self._share, accepted))
            else:
                self._http.append(_http_server(listener, service, worker))
        if worker.cfg.workers > 1:
            for http in self._http:
                http.max_accept = 1  # leave the next one to another worker

    def start(self) -> None:
        self._beating = gevent.spawn(self._beat)
        for server in self.servers:
            server.start()
        for acceptor in (*self._acceptors, *self._http):
            acceptor.start()
        for server in self.servers:
            signals.emit(signals.listening, server)

    def drain(self, seconds: float) -> None:
        """Accept no new client, let what is under way end; returns *seconds* later at the latest,
        but for hooks that swallow GreenletExit. `close` has been sent then."""
        deadline = monotonic() + seconds
        self._beating.kill()
        self._share.leave()
        for acceptor in (*self._acceptors, *self._http):
            acceptor.close()
        gevent.sleep(0)  # sessions that were accepted just now begin
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
        """End every session now, with a 421 where it can be sent; `drain` doesn't wait then."""
        for server in self.servers:
            for connection in list(server.connections):
                connection.kill()

    def _beat(self) -> None:
        while True:
            self._share.beat()
            gevent.sleep(HEARTBEAT_SECONDS)


def _http_server(listener: Any, application: WSGIApplication, worker: Any) -> _HTTPServer:
    environ: dict[str, Any] = dict(base_environ(worker.cfg))
    environ["wsgi.multithread"] = True
    server: _HTTPServer = _HTTPServer(
        listener,
        application=application,
        spawn=Pool(worker.cfg.worker_connections),
        log=worker.log,
        handler_class=_HTTPHandler,
        environ=environ,
    )
    return server


def _drain_seconds(cfg: Config) -> float:
    seconds: int = cfg.graceful_timeout
    return max(seconds - FAREWELL_SECONDS, seconds / 2)


def _refuse(session: Session) -> None:
    raise Reject(421, "Service not available", "4.3.0")


class SMTPWorker(Worker):
    """The worker class. What gunicorn loads is

    * an `SMTPServer` whose listener is None: it gets every socket of ``--bind``;
    * a list with a service for each socket in the order of ``--bind``: an `SMTPServer` (the same
      one may stand there twice) or a WSGI application, which gevent.pywsgi then serves;
    * a function without arguments that returns one of these; it runs in the worker.

    Without a name after the module it is ``server``. Nothing is monkey patched.

    TERM: no new client is accepted, sessions may end by themselves for `SETTLE_SECONDS`, then idle
    clients get 421 and transactions may end until graceful_timeout is nearly over. QUIT and
    INT: every client gets 421 now. ``max_requests`` counts clients.
    """

    _ending: Event
    _sockets: _Sockets | None = None
    _quick = False

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Called by the arbiter; a RuntimeError ends it."""
        if cfg.is_ssl:
            raise RuntimeError(
                "gunicorn's certfile and keyfile are for HTTP; give certificates to SMTPServer"
            )
        if cfg.reuse_port:
            log.warning("reuse_port: a worker that ends loses those who wait to be accepted")

    # What the arbiter and gunicorn's base class call

    def init_process(self) -> None:
        gevent.reinit()
        self._ending = Event()
        super().init_process()

    def init_signals(self) -> None:
        super().init_signals()
        # Python's own handlers wait for the hub; these wake it. SIGABRT stays Python's: it comes
        # when the hub is stuck.
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
        try:
            services = self._load()
        except SyntaxError as exc:
            if not self.cfg.reload:
                raise
            # As gunicorn does for HTTP: refuse all clients until the file is fixed.
            self.log.exception(exc)
            if self.reloader is not None and exc.filename is not None:
                self.reloader.add_extra_file(exc.filename)
            services = SMTPServer(None, on_connect=_refuse)
        if isinstance(services, SMTPServer):
            services = [services] * len(self.sockets)
        if len(services) != len(self.sockets):
            raise RuntimeError(f"{len(services)} services for {len(self.sockets)} sockets")
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
                # The reloader's thread sets `alive` only.
                self._ending.wait(HEARTBEAT_SECONDS)
            self._sockets.drain(0 if self._quick else _drain_seconds(self.cfg))
        finally:
            heart.kill()

    # Below it

    def _load(self) -> Any:
        uri = getattr(self.app, "app_uri", None)
        # A preloaded application is there; gunicorn's own loading takes nothing but callables.
        loaded: Any = self.app.wsgi() if uri is None or self.app.callable else load(uri)
        return loaded() if callable(loaded) and not isinstance(loaded, SMTPServer) else loaded

    def _beat(self) -> None:
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self.log.info("Parent changed, shutting down: %s", self)
                self._end()
            # self.timeout is half of what the arbiter allows, 0 when it allows everything.
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
        """Log once the total of a limit over all workers."""
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
    """An SMTP server in gunicorn's gevent worker, beside the WSGI application.

    In gunicorn's configuration file::

        worker_class = "gevent"
        bind = ["127.0.0.1:8000", "127.0.0.1:2525"]
        smtp = Beside("myapp:server", sockets=[1])
        post_worker_init, worker_int, worker_exit = smtp.hooks

    *uri* names the `SMTPServer` with the listener None, or a function that returns one; it is
    loaded in the worker, after the monkey patching. *sockets* are indexes into ``bind``, of the
    sockets that are for SMTP; the others stay gunicorn's. Signals do what they do to `SMTPWorker`.
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
    """gunicorn's setting child_exit: gauges of a worker that has ended count no longer.

    For prometheus_client's multi-process mode; without PROMETHEUS_MULTIPROC_DIR it does nothing.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def load(uri: str) -> Any:
    """The object that ``module:name`` names; the name is ``server`` if not given.

    Raises gunicorn's AppImportError when the module has no such name, and what importing raises.
    """
    module, _, name = uri.partition(":")
    name = name or "server"
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        raise AppImportError(f"Failed to find attribute {name!r} in {module!r}.") from None


class _Application(BaseApplication):
    """The application of `run`. The arbiter makes the servers: workers can't read all files."""

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
            logging.getLogger("gunicorn.error").exception("HUP: the servers stay as they were")


def run(
    factory: Callable[[], Services],
    addresses: Sequence[tuple[str, int] | str],
    workers: int = 1,
    **settings: Any,
) -> NoReturn:
    """Serve at *addresses* with *workers* processes until a signal ends it; raises SystemExit.

    *factory* returns what `SMTPWorker` serves, the list for the addresses in their order. It is
    called here, in the process that starts the others, and again for each HUP, whose workers get
    what it returns; when it raises then, they get what was there before. What it raises the first
    time is raised here. An address is a host and a port or ``"unix:/path"``, whose mode the
    process's umask makes; *settings* are gunicorn's. Log lines go to gunicorn's logger (standard
    error unless *settings* say else).
    """
    settings = {
        "bind": [_bind(address) for address in addresses],
        "workers": workers,
        "worker_class": SMTPWorker,
        "child_exit": child_exit,
        # gunicorn's own, 0, would let every user write to a UNIX socket.
        "umask": _umask(),
        # gunicorn would put a socket for `gunicornc` in the current directory.
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
