"""SMTPServer: listening, admission, draining."""

from __future__ import annotations

import errno
import logging
import os
import socket as stdlib_socket
from collections import Counter
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any, Final

import gevent
from gevent import getcurrent, spawn_raw
from gevent.event import Event
from gevent.server import StreamServer
from gevent.socket import socket as gevent_socket

from . import hooks, signals
from .connection.client import UNINTRODUCED, Client
from .connection.connection import Connection
from .connection.resolver import ReverseResolver
from .connection.tls import SecureContexts
from .ctrl_c import quiet_ctrl_c
from .hooks import HookDecorators, Hooks
from .keywords import Keywords, describe, takes
from .listener import UNIX_PREFIX, check_listener, open_unix_listener
from .options import Options, make_options
from .smtp import reply
from .smtp.reply import Reply
from .threads import HubGone, ServerThread, call_in_hub
from .turns import Share

#: How often, and how many seconds apart, a connection that won't end is killed again.
KILLS: Final = 10
KILL_SECONDS: Final = 0.5


class SMTPServer(HookDecorators, StreamServer):
    """An SMTP or LMTP server.

    *listener* is what `gevent.server.StreamServer` takes (an address tuple, ``":2525"``, a bound
    socket), ``"unix:/path"`` for a UNIX-domain socket, or None for a server that is given its
    sockets by another program through `handle`. A hook may also be registered later, with the
    decorator of its name, or be a method of that name in a subclass.

    Raises TypeError for an invalid listener and for an unknown or wrongly typed keyword, ValueError
    for a wrong value or a contradiction, OSError or ssl.SSLError for a certificate that can't be
    loaded.
    """

    #: Clients accepted in one turn of the loop at most. A crowd of new ones must not slow down
    #: those that are there, so there are fewer while turns are long.
    max_accept = 20

    @takes(Keywords)
    def __init__(self, listener: Any, *misplaced: object, **keywords: Any) -> None:
        check_listener(listener, *misplaced)
        self.hooks = Hooks()
        for name in hooks.NAMES:
            if getattr(type(self), name) is not getattr(HookDecorators, name):
                self.hooks.set(name, getattr(self, name))  # a subclass has it as a method
            if name in keywords:
                self.hooks.set(name, keywords.pop(name))
        self.options: Options = make_options(keywords, hooks.NAMES)
        logger = self.options.logger
        self.logger: logging.Logger | None = (
            logging.getLogger("smtp_blinker") if logger is True else logger or None
        )
        self.contexts = SecureContexts(self.options)
        self.resolver = ReverseResolver(self.options.resolver)
        #: The live connections.
        self.connections: set[Connection] = set()
        #: See `connection.MAX_LINGERING`.
        self.lingering = 0
        self._admitted = 0
        self._by_address: Counter[str] = Counter()
        #: Connections whose PROXY header is waited for.
        self._unintroduced = 0
        #: There while a stop drains, and while one isn't finished.
        self._drained: Event | None = None
        self._finished: Event | None = None
        #: The greenlet that sends `close`.
        self._closing: Any = None
        self._one_ended = Event()
        self._hub: Any = None
        #: The hub of `run_in_thread`, which starts and stops there.
        self.home: Any = None
        self._shares_listener = False
        self._accepting = Share(self.max_accept)
        #: Seconds between two tries to accept while there are no descriptors.
        self._pause = 0.0
        self._unix_path: str | None = None
        self._serving = False
        super().__init__(listener)

    # Listening

    def set_listener(self, listener: Any) -> None:
        if listener is None:
            self.family = self.address = None  # type: ignore[assignment]  # nothing listens
        elif isinstance(listener, str) and listener.startswith(UNIX_PREFIX):
            self._unix_path = listener[len(UNIX_PREFIX) :]
            self.family = stdlib_socket.AF_UNIX
            self.address = self._unix_path
        else:
            if isinstance(listener, (stdlib_socket.socket, gevent_socket)):
                # gevent accepts on it as it is: blocking, it would stall the hub.
                listener.setblocking(False)
                if not listener.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN):
                    listener.listen(self.backlog)
                self._shares_listener = True
            super().set_listener(listener)

    def init_socket(self) -> None:
        if self.family == stdlib_socket.AF_UNIX and isinstance(self.address, str):
            # A socket that was given is closed by `stop` and made again, as gevent does with TCP.
            if not hasattr(self, "socket"):
                self.socket = open_unix_listener(self.address, self.backlog)
        elif self.family is not None:
            super().init_socket()

    def start_accepting(self) -> None:
        if self.family is not None:
            super().start_accepting()

    def start(self) -> None:
        """Listen and accept. Raises the OSError of a listener that can't be opened.

        A server of `run_in_thread` starts in its thread, from wherever this is called.
        """
        if self._serving and self.started:
            return
        if self.home is not None and self.home is not gevent.get_hub():
            call_in_hub(self.home, self.start)
            return
        if self._drained is not None:
            self._drained.wait()
        # A server may be made in one thread and serve in another.
        self._hub = gevent.get_hub()
        self.loop = self._hub.loop
        try:
            super().start()
        except OSError as exc:
            self._hub = None
            signals.emit_error(
                self,
                signals.ErrorEvent(
                    exc,
                    signals.error_code(exc),
                    meta={"stage": "listen", "listener": str(self.address)},
                ),
            )
            raise
        self._serving = True
        if self.family is not None:
            if self.logger is not None:
                self.logger.info("listening on %s", self.address)
            if signals.listening.receivers:
                signals.emit(signals.listening, self)

    def serve_forever(self, stop_timeout: float | None = None) -> None:
        """Start, unless that was done already, and wait until `stop` was called and has ended.

        Ctrl-C in the main thread stops the server, as ``stop(stop_timeout)`` does; a second one
        doesn't wait for the clients. Then a `KeyboardInterrupt` is raised; a program that doesn't
        catch it ends with the exit status 130 and without a traceback.
        """
        with quiet_ctrl_c():
            try:
                self.start()
                stopped = self._stop_event.wait  # type: ignore[attr-defined]
                if self.home is None or self.home is gevent.get_hub():
                    stopped()
                else:
                    call_in_hub(self.home, stopped)
            finally:
                # In a greenlet of its own, which the second Ctrl-C doesn't end.
                gevent.spawn(self.stop, stop_timeout).join()

    def do_read(self) -> Any:
        """Accept one client; runs in the hub, again and again until it returns None."""
        if not self._accepting.take():
            return None
        try:
            accepted = super().do_read()
            self._pause = 0.0
            if accepted is None:
                self._accepting.end()
            return accepted
        except OSError as exc:
            self._accepting.end()
            if self.is_fatal_error(exc) or not self.started:
                raise
            if exc.errno in (errno.ECONNABORTED, errno.EPROTO):
                return None  # it left before it was accepted
            # EMFILE, ENFILE, ENOBUFS, ENOMEM: those who are here go on, and we try again.
            spawn_raw(
                signals.emit_error,
                self,
                signals.ErrorEvent(exc, signals.error_code(exc), meta={"stage": "accept"}),
            )
            self.stop_accepting()
            # gevent's own delay starts again whenever this method returns.
            self._pause = min(self.max_delay, self._pause * 2 or self.min_delay)
            timer = self.loop.timer(self._pause)
            timer.start(self._accept_again, timer)
            return None

    def _accept_again(self, timer: Any) -> None:
        timer.stop()
        timer.close()
        if self.started and self._serving:
            self.start_accepting()

    # Clients

    def do_handle(self, sock: Any, address: Any) -> None:
        # A raw greenlet is lighter; `connections` keeps account of them.
        spawn_raw(self.handle, sock, address)

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one client in this greenlet until it has ended; closes *sock*.

        Call it in a greenlet of its own to serve a socket that other code accepted.
        """
        if not hasattr(sock, "_sock"):
            sock = gevent_socket(fileno=sock.detach())
        try:
            if isinstance(address, tuple):
                # Nagle and delayed acknowledgements cost a client 40 ms a reply.
                sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, address)
        except OSError:
            sock.close()  # it left before it was served
            return
        self.connections.add(connection)
        connection.run()

    def admit_peer(self, connection: Client) -> bool:
        limit = self.options.max_clients
        if limit is not None and self._unintroduced >= limit:
            return False
        self._unintroduced += 1
        connection.admission = UNINTRODUCED
        return True

    def admit(self, connection: Client) -> Reply | None:
        if self._drained is not None:
            return reply.SHUTTING_DOWN
        options = self.options
        if options.max_clients is not None and self._admitted >= options.max_clients:
            return reply.TOO_MANY_CLIENTS
        key = ""
        address = connection.session.remote_address
        limit = options.max_clients_per_ip
        if limit is not None and address:
            key = _address_key(address)
            if self._by_address[key] >= limit:
                return reply.TOO_MANY_FROM_ADDRESS
            self._by_address[key] += 1
        self._admitted += 1
        connection.admission = key
        return None

    def release(self, connection: Client) -> None:
        key, connection.admission = connection.admission, None
        if key is None:
            return
        if key is UNINTRODUCED:
            self._unintroduced -= 1
            return
        self._admitted -= 1
        if key:
            self._by_address[key] -= 1
            if not self._by_address[key]:
                del self._by_address[key]

    def ended(self, connection: Client) -> None:
        self.connections.discard(connection)
        self._one_ended.set()

    # TLS

    def update_secure_context(self, **changes: Any) -> None:
        """New certificates for the connections that come after; none is dropped.

        Takes certfile, keyfile, ca_certs, cert_reqs, ciphers, ssl_context and sni_options; with
        none of them the same files are read again. Raises what the constructor raises; the old
        ones stay in use then.
        """
        self.contexts.update(changes)

    # The end

    def stop(self, timeout: float | None = None) -> None:
        """Accept no new client, let transactions end, send all clients 421, and send `close`.

        *timeout* is how many seconds content and hooks under way may take (the option
        close_timeout for None); what is left then is ended. Returns when every connection has
        ended; a second call waits for the first. `start` works again afterwards.

        Called by one of the server's own hooks or listeners it returns at once, and the rest
        happens when that connection too has ended. It also returns at once if the hub calls it:
        from a signal handler, or a callback of the event loop.
        """
        if self._hub is not None and self._hub is not gevent.get_hub():
            try:
                call_in_hub(self._hub, lambda: self.stop(timeout))
            except HubGone:
                if self._serving:
                    raise
            return
        me = getcurrent()
        if me is gevent.get_hub():
            spawn_raw(self.stop, timeout)  # nothing can be waited for in the hub
            return
        from_within = any(one.greenlet is me for one in self.connections)
        if self._finished is not None:
            if not from_within and me is not self._closing:
                self._finished.wait()
            return
        was_serving, self._serving = self._serving, False
        if not was_serving and not self.connections:
            self.close()
            return
        self._drained = Event()
        self._finished = Event()
        if from_within:
            # It would wait for itself.
            spawn_raw(self._stop, timeout)
        else:
            self._stop(timeout)

    def _stop(self, timeout: float | None) -> None:
        finished, drained = self._finished, self._drained
        assert finished is not None
        assert drained is not None
        try:
            try:
                self._empty_backlog()
                self.close()
                gevent.sleep(0)  # clients that were accepted just now begin
                self._drain(self.options.close_timeout if timeout is None else timeout)
                self.resolver.stop()
            finally:
                self._drained = None
                drained.set()
            self._hub = None
            if self.logger is not None:
                self.logger.info("stopped")
            if signals.close.receivers:
                # A listener may call `start`, which waits for the draining only.
                self._closing = getcurrent()
                signals.emit(signals.close, self)
        finally:
            self._finished = self._closing = None
            finished.set()

    def _empty_backlog(self) -> None:
        """Accept the clients that have connected, so that they get 421: closing resets them.

        A socket that was given to us may have other servers, which will serve them.
        """
        if self.closed or self._shares_listener:
            return
        for _ in range(self.backlog):
            try:
                accepted = super().do_read()
            except OSError:
                break
            if not accepted:
                break
            self.do_handle(*accepted)

    def close(self) -> None:
        """Stop listening; those who are connected go on. `stop` is the whole of it."""
        ours = self._unix_path is not None and hasattr(self, "socket")
        super().close()
        if ours:
            with suppress(OSError):
                os.unlink(str(self._unix_path))

    def _drain(self, timeout: float) -> None:
        # A new one: an event belongs to the hub that used it first, and the last run may have
        # been in a thread whose hub isn't gone as far as gevent can tell.
        self._one_ended = Event()
        for connection in list(self.connections):
            if connection.greenlet.dead:
                self.release(connection)
                self.ended(connection)  # a KeyboardInterrupt struck where nothing could be done
            else:
                connection.drain()
        self._wait_for_end(timeout)
        for _ in range(KILLS):
            if not self.connections:
                return
            for connection in list(self.connections):
                connection.kill()
            self._wait_for_end(KILL_SECONDS)
        logging.getLogger("smtp_blinker").error(
            "%d connections could not be ended: a hook swallows GreenletExit", len(self.connections)
        )

    def _wait_for_end(self, seconds: float) -> None:
        """Until every connection has ended, *seconds* at most."""
        # By the timer of the event loop: a test may have frozen every clock of Python's.
        with gevent.Timeout(max(seconds, 0.0), False):  # type: ignore[arg-type]
            while self.connections:
                self._one_ended.clear()
                self._one_ended.wait()

    def run_in_thread(self) -> ServerThread[SMTPServer]:
        """``with server.run_in_thread():`` serves from a thread with a hub of its own.

        For programs that don't use gevent. Entering starts the server (raising what `start`
        raises) and gives the server back; leaving the block stops it. In a process whose
        threading is monkey patched it serves from the current hub, as everything does there.
        """
        return ServerThread(self)


def _address_key(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that an IPv6 site is given."""
    if ":" not in address:
        return address
    return str(int(IPv6Address(address)) >> 64)


describe(SMTPServer)
