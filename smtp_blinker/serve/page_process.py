"""Runs the page in a separate process next to gunicorn's workers."""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

import gevent
import gevent.socket

from smtp_blinker import SMTPServer
from smtp_blinker.faults import Faults
from smtp_blinker.listeners.log import EventLog
from smtp_blinker.stores import SpoolStore
from smtp_blinker.stores.circuit import Circuit

from .deliver import LOOK_SECONDS as LOOK_AT_STORE
from .deliver import Store, circuit_of, health_of
from .page import count_dropped, make_page, show_store
from .settings import Settings

log = logging.getLogger("smtp_blinker.serve")

#: Seconds between two checks whether the arbiter still runs, and between two starts.
LOOK_SECONDS: Final = 0.5
PAUSE: Final = 5.0
#: The environment variable that tells a new arbiter the sockets and their folder.
SOCKETS: Final = "SMTP_BLINKER_PAGE_SOCKETS"


class PageProcess:
    """The process of the page. gunicorn's arbiter starts it, and restarts it when it has ended.

    The constructor runs before the arbiter begins. It binds the page's address, or takes over the
    socket of an earlier arbiter; raises OSError. *store* is checked for ``/healthz/ready``;
    *servers* are those of the workers, and *faults* are shared with them.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        servers: Sequence[SMTPServer],
        faults: Faults | None = None,
    ) -> None:
        assert settings.http is not None
        self._settings = settings
        self._store = store
        self._servers = servers
        self._faults = faults
        if SOCKETS in os.environ:
            http, events, self._folder = os.environ.pop(SOCKETS).split(",", 2)
            self._http = socket.socket(fileno=int(http))
            self._events = socket.socket(fileno=int(events))
        else:
            self._http = _listen(settings.http.address)
            #: The folder of the socket to which workers send events. Only this user can enter it.
            self._folder = tempfile.mkdtemp(prefix="smtp-blinker-")
            self._events = socket.socket(socket.AF_UNIX)
            self._events.bind(os.path.join(self._folder, "events"))
            self._events.listen(128)
        self.path = os.path.join(self._folder, "events")
        self.port: int = self._http.getsockname()[1]
        self._pid = 0
        self._began = 0.0
        #: A pipe that becomes readable when the process ends, which has the other end open.
        self._alive: int | None = None

    def look_after(self, arbiter: Any, events: EventLog) -> None:
        """Start the process if it doesn't run. The arbiter calls this periodically.

        *events* is the event log of this process. While there is a new arbiter, it has the page.
        """
        if arbiter.reexec_pid:
            self._end_process()
            return
        if self._alive is not None:
            poll = select.poll()
            poll.register(self._alive, select.POLLIN | select.POLLHUP)
            if not poll.poll(0):
                return
            log.error("the process of the web page has ended; another one begins")
            os.close(self._alive)
            self._alive = None
        if time.monotonic() < self._began + PAUSE:
            return
        self._began = time.monotonic()
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writing)
            self._alive = reading
            return
        try:
            os.close(reading)
            self._run(arbiter, events)
        except BaseException:
            log.exception("the web page")
        finally:
            os._exit(1)

    def hand_over(self, arbiter: Any) -> None:
        """Pass the page's sockets to the new arbiter that this process becomes (USR2)."""
        sockets = self._http.fileno(), self._events.fileno()
        for each in sockets:
            os.set_inheritable(each, True)
        arbiter.cfg.env_orig[SOCKETS] = f"{sockets[0]},{sockets[1]},{self._folder}"

    def end(self, arbiter: Any) -> None:
        """End the process; remove the sockets and the folder unless another arbiter uses them."""
        self._end_process()
        is_follower = arbiter.master_pid == os.getppid()  # the earlier arbiter still lives
        if not arbiter.reexec_pid and not is_follower:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end_process(self) -> None:
        if self._alive is None:
            return
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        os.close(self._alive)
        self._alive = None

    def _run(self, arbiter: Any, events: EventLog) -> NoReturn:
        """Serve the page until the arbiter has ended or ends this process."""
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # only the arbiter handles these
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGABRT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        addresses = [listener.getsockname() for listener in arbiter.LISTENERS]
        for listener in arbiter.LISTENERS:
            listener.sock.close()  # otherwise this process would keep the ports in use
        gevent.reinit()
        events.detach()  # each worker logs its own events
        from smtp_blinker.web.remote import EventReceiver, RemoteServer

        servers = [
            RemoteServer(address, server)
            for address, server in zip(addresses, self._servers, strict=True)
        ]
        # The store of this process delivers nothing; workers report the state of their circuits.
        circuit = circuit_of(self._store) or Circuit()
        check, http = health_of(self._store), _for_gevent(self._http)
        page = make_page(self._settings, servers, check, http, self._faults)
        show_store(page, self._store, self._settings)
        receiver = EventReceiver(_for_gevent(self._events), servers, circuit.add)
        if self._settings.events is not None:
            receiver.on_dropped = count_dropped(page)
        receiver.start()
        if isinstance(self._store, SpoolStore):
            gevent.spawn(_keep_looking, self._store)
        page.start()
        while os.getppid() == arbiter.pid:
            gevent.sleep(LOOK_SECONDS)
        os._exit(0)


def _keep_looking(spool: SpoolStore) -> None:
    while True:
        try:
            spool.look()
        except OSError as exc:
            log.error("the spool can't be read: %s", exc)
        gevent.sleep(LOOK_AT_STORE)


def _listen(address: Any) -> socket.socket:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=256)


def _for_gevent(listener: socket.socket) -> Any:
    return gevent.socket.socket(listener.family, listener.type, fileno=listener.detach())
