"""SMTPServer: listens, admits clients, and drains at the end."""

from __future__ import annotations

import errno
import logging
import os
import socket as stdlib_socket
from _socket import socket as RawSocket
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
from .listener import UNIX_PREFIX, check_listener, client_socket, open_unix_listener
from .options import Options, make_options
from .smtp import reply
from .smtp.reply import Reply
from .threads import HubGone, ServerThread, call_in_hub
from .turns import Share

#: How many times, and how many seconds apart, a connection that doesn't end is killed.
KILLS: Final = 10
KILL_SECONDS: Final = 0.5


class SMTPServer(HookDecorators, StreamServer):
    """An SMTP or LMTP server.

    *listener* is ``(host, port)``, ``"host:port"``, ``":2525"`` for all addresses, a bound socket,
    ``"unix:/path"`` for a UNIX-domain socket, or None if other code accepts the clients and passes
    them to `handle`. A hook may also be registered later with the decorator of its name, or be a
    method of that name in a subclass. A limit of None means no limit.

    Raises TypeError for a wrong listener, an unknown keyword or a value of the wrong type,
    ValueError for a wrong value or a contradiction, and OSError or ssl.SSLError for a certificate
    that can't be loaded.
    """

    #: Maximum of clients accepted in one turn of the loop. While turns are long it accepts fewer,
    #: so that a crowd of new clients doesn't slow down the connected ones.
    max_accept = 20

    @takes(Keywords)
    def __init__(self, listener: Any, *misplaced: object, **keywords: Any) -> None:
        check_listener(listener, *misplaced)
        self.hooks = Hooks()
        for name in hooks.NAMES:
            if getattr(type(self), name) is not getattr(HookDecorators, name):
                self.hooks.set(name, getattr(self, name))  # a method of a subclass
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
        #: Connections that wait for their client to close; see `connection.MAX_LINGERING`.
        self.lingering = 0
        self._admitted = 0
        self._by_address: Counter[str] = Counter()
        #: Connections that haven't sent their PROXY header yet.
        self._unintroduced = 0
        #: Set while `stop` drains, and while `stop` hasn't finished.
        self._drained: Event | None = None
        self._finished: Event | None = None
        #: The greenlet that sends `close`.
        self._closing: Any = None
        self._one_ended = Event()
        self._hub: Any = None
        #: The hub in which `run_in_thread` starts and stops the server.
        self.home: Any = None
        self._shares_listener = False
        self._accepting = Share(self.max_accept)
        #: Seconds until the next try to accept, while the process has no free file descriptors.
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
                # gevent doesn't change its mode, and a blocking accept would stall the hub.
                listener.setblocking(False)
                if not listener.getsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_ACCEPTCONN):
                    listener.listen(self.backlog)
                self._shares_listener = True
            super().set_listener(listener)

    def init_socket(self) -> None:
        if self.family == stdlib_socket.AF_UNIX and isinstance(self.address, str):
            # `start` after `stop` opens it again, as gevent does with TCP sockets.
            if not hasattr(self, "socket"):
                self.socket = open_unix_listener(self.address, self.backlog)
        elif self.family is not None:
            super().init_socket()

    def start_accepting(self) -> None:
        if self.family is not None:
            super().start_accepting()

    def start(self) -> None:
        """Listen and accept clients. Raises OSError if the listener can't be opened.

        A server of `run_in_thread` starts in its own thread, from whichever thread this is called.
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
        """Start the server unless it has started, and return when `stop` has ended it.

        Ctrl-C in the main thread calls ``stop(stop_timeout)``; after a second Ctrl-C it doesn't
        wait for the clients. Then it raises `KeyboardInterrupt`; a program that doesn't catch this
        ends with exit status 130 and without a traceback.
        """
        with quiet_ctrl_c() as ctrl_c:
            try:
                self.start()
                stopped = self._stop_event.wait  # type: ignore[attr-defined]
                if self.home is None or self.home is gevent.get_hub():
                    stopped()
                else:
                    call_in_hub(self.home, stopped)
            finally:
                ctrl_c.is_heard = True
                # In a separate greenlet, which a second Ctrl-C doesn't interrupt. A Ctrl-C at the
                # first line of the hub's greenlet has ended that, before any client was served.
                if not gevent.get_hub().dead:
                    gevent.spawn(self.stop, stop_timeout).join()

    def do_read(self) -> Any:
        """Accept one client. The hub calls it repeatedly until it returns None."""
        if not self._accepting.take():
            return None
        try:
            accepted = self._accept()
            self._pause = 0.0
            if accepted is None:
                self._accepting.end()
            return accepted
        except OSError as exc:
            self._accepting.end()
            if self.is_fatal_error(exc) or not self.started:
                raise
            if exc.errno in (errno.ECONNABORTED, errno.EPROTO):
                return None  # the client closed before it was accepted
            # EMFILE, ENFILE, ENOBUFS, ENOMEM: the connected clients go on; try again later.
            spawn_raw(
                signals.emit_error,
                self,
                signals.ErrorEvent(exc, signals.error_code(exc), meta={"stage": "accept"}),
            )
            self.stop_accepting()
            # gevent's own delay would start at its minimum whenever this method returns.
            self._pause = min(self.max_delay, self._pause * 2 or self.min_delay)
            timer = self.loop.timer(self._pause)
            timer.start(self._accept_again, timer)
            return None

    def _accept(self) -> tuple[RawSocket, Any] | None:
        """The next client's socket and address, or None if no client waits."""
        listening: Any = self.socket
        try:
            descriptor, address = listening._accept()
        except BlockingIOError:
            return None
        return client_socket(listening, descriptor), address

    def _accept_again(self, timer: Any) -> None:
        timer.stop()
        timer.close()
        if self.started and self._serving:
            self.start_accepting()

    # Clients

    def do_handle(self, sock: Any, address: Any) -> None:
        # A raw greenlet is cheaper than gevent's, and `connections` keeps track of it.
        spawn_raw(self.handle, sock, address)

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one client in this greenlet until the connection has ended; closes *sock*.

        Other code that accepts sockets calls it, in a new greenlet for each of them.
        """
        if type(sock) is not RawSocket:
            sock = client_socket(sock, sock.detach())
        try:
            if isinstance(address, tuple):
                # Nagle's algorithm with delayed ACKs would delay each reply by 40 ms.
                sock.setsockopt(stdlib_socket.IPPROTO_TCP, stdlib_socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, address)
        except OSError:
            sock.close()  # the client has closed already
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
        """Use new certificates for later TLS handshakes. No connection is dropped.

        Takes certfile, keyfile, ca_certs, cert_reqs, ciphers, ssl_context and sni_options. Without
        arguments it reads the same files again. Raises like the constructor; then the old
        certificates stay in use.
        """
        self.contexts.update(changes)

    # The end

    def stop(self, timeout: float | None = None) -> None:
        """Stop accepting, let transactions end, reply 421 to all clients, emit the signal `close`.

        Content and hooks in progress have *timeout* seconds (None: the option close_timeout), then
        their connections are ended by force. Returns when every connection has ended. A second
        call waits for the first. The server can be started again afterwards.

        Called in a hook or listener of one of the server's connections, it returns at once, and
        stops the server when that connection has ended too. Called in the hub (by a signal handler
        or a callback of the event loop), it also returns at once.
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
            spawn_raw(self.stop, timeout)  # the hub itself can't wait for anything
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
            # This greenlet would wait for its own end.
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
                gevent.sleep(0)  # let clients that were just accepted begin
                self._drain(self.options.close_timeout if timeout is None else timeout)
                self.resolver.stop()
            finally:
                self._drained = None
                drained.set()
            self._hub = None
            if self.logger is not None:
                self.logger.info("stopped")
            if signals.close.receivers:
                # A listener may call `start`, which waits only until the draining is over.
                self._closing = getcurrent()
                signals.emit(signals.close, self)
        finally:
            self._finished = self._closing = None
            finished.set()

    def _empty_backlog(self) -> None:
        """Accept the clients in the backlog, so that they get 421. Closing would reset them.

        Not for a socket that the program passed in: other servers may accept from it.
        """
        if self.closed or self._shares_listener:
            return
        for _ in range(self.backlog):
            try:
                accepted = self._accept()
            except OSError:
                break
            if accepted is None:
                break
            self.do_handle(*accepted)

    def close(self) -> None:
        """Stop listening, but keep the connections. Use `stop` to end the server."""
        ours = self._unix_path is not None and hasattr(self, "socket")
        super().close()
        if ours:
            with suppress(OSError):
                os.unlink(str(self._unix_path))

    def _drain(self, timeout: float) -> None:
        # An event belongs to the hub that used it first, so each run gets a new one: the previous
        # run may have been in a thread whose hub gevent doesn't know to be gone.
        self._one_ended = Event()
        for connection in list(self.connections):
            if connection.greenlet.dead:
                self.release(connection)
                self.ended(connection)  # a KeyboardInterrupt ended it without any cleanup
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
            "%d connections didn't end: a hook swallows GreenletExit", len(self.connections)
        )

    def _wait_for_end(self, seconds: float) -> None:
        """Wait until every connection has ended, at most *seconds*."""
        # The event loop's timer also works in a test that has frozen Python's clocks.
        with gevent.Timeout(max(seconds, 0.0), False):  # type: ignore[arg-type]
            while self.connections:
                self._one_ended.clear()
                self._one_ended.wait()

    def run_in_thread(self) -> ServerThread[SMTPServer]:
        """``with server.run_in_thread():`` serves in a thread with a hub of its own.

        For programs that don't use gevent. Entering the block starts the server (and raises what
        `start` raises) and returns the server; leaving the block stops it. In a process with
        monkey-patched threading it serves in the current hub.
        """
        return ServerThread(self)


def _address_key(address: str) -> str:
    """The key of max_clients_per_ip: an IPv4 address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address
    return str(int(IPv6Address(address)) >> 64)


describe(SMTPServer)
