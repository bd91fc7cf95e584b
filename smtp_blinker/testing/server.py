"""`SMTPTestServer`: keeps the messages that it receives, and fails on demand."""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

import gevent
from gevent import monkey, spawn_raw

from .. import signals
from ..connection.connection import Connection
from ..faults import Faults
from ..server import SMTPServer
from ..session import Address, Credentials, Session
from ..smtp.reply import Reject
from ..stream import MessageStream
from .certificate import Certificate
from .message import ReceivedEnvelope, ReceivedMessage, parse_message

#: Seconds that `reset` waits for clients that are about to disconnect.
_SETTLE: Final = 0.25
#: Seconds between two checks of `wait_for`.
_LOOK: Final = 0.001


class _Faults(Faults):
    """Faults that remember the sessions whose connection they dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.dropped: set[str] = set()

    def drop_connection(self, session: Session) -> None:
        self.dropped.add(session.id)
        super().drop_connection(session)


class SMTPTestServer:
    """Receives mail on a free port, in a thread of its own, and fails on demand.

    Use it as a context manager, or call `start` and `stop`. *options* are those of `SMTPServer`. In
    a process with monkey-patched threading it serves in the hub of the caller of `start`. Call its
    methods in the thread of the tests.

    Without faults it accepts every message and every AUTH, and requires no AUTH; it offers no TLS.
    `use_tls`, `use_starttls` and `require_auth` affect later connections; other faults take effect
    at once.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.host = host
        #: `start` replaces 0 by the port that it got.
        self.port = port
        #: The messages accepted since the last `reset`, in order.
        self.messages: list[ReceivedMessage] = []
        #: Errors since then, except those of faults; for example a client that disconnected in the
        #: middle of a message.
        self.errors: list[signals.ErrorEvent] = []
        self._given = options
        self._certificate: Certificate | None = None
        self._front: _Front | None = None
        self._thread: Any = None
        #: The last server gets new connections; earlier ones still have older connections.
        self._servers: list[SMTPServer] = []
        self._forget()

    def _forget(self) -> None:
        self._faults = _Faults()
        #: The number of clients, and the sessions of the latest ones.
        self._clients = 0
        self._sessions: deque[Session] = deque(maxlen=5)
        self._options: dict[str, Any] = {
            "name": "localhost",
            "disable_reverse_lookup": True,
            "auth_optional": True,
            "allow_insecure_auth": True,
            # A test may make any number of mistakes.
            "max_auth_failures": None,
            "max_errors": None,
            "max_junk_commands": None,
            "max_unauthenticated_commands": None,
            **self._given,
        }
        self._user: tuple[str, str] | None = None
        self._demands_tls = False

    # Life

    def start(self) -> None:
        """Listen; raises OSError if the port isn't available."""
        front = _Front((self.host, self.port), self._serve)
        thread = front.run_in_thread()
        thread.__enter__()
        self._front, self._thread = front, thread
        self._threaded = not monkey.is_module_patched("threading")
        self.port = front.server_port or self.port
        self._in_hub(self._replace)

    def stop(self) -> None:
        """End every connection and close the port. The messages stay; `start` works again."""
        if self._front is None:
            return
        self._in_hub(self._stop_servers)
        self._thread.__exit__(None, None, None)
        self._front = self._thread = None

    def reset(self) -> None:
        """Return to the state after `start`: no messages, no faults, no connections.

        Clients that are about to disconnect have a moment to do so, the others get 421. The port
        and `ca_file` don't change.
        """
        self._forget()
        self._in_hub(self._replace_all)
        self.messages.clear()
        self.errors.clear()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.host}:{self.port}, messages: {len(self.messages)}>"

    # Received messages

    def wait_for(self, count: int = 1, timeout: float = 10.0) -> list[ReceivedMessage]:
        """Wait until there are *count* messages, and return all messages.

        Raises TimeoutError after *timeout* seconds; its text tells what the server saw instead.
        """
        __tracebackhide__ = True  # pytest shall show the line of the test
        # The event loop's timer also works in a test that has frozen Python's clocks.
        with gevent.Timeout(max(timeout, 0.0), False):  # type: ignore[arg-type]
            while len(self.messages) < count:
                gevent.sleep(_LOOK)  # the sender may be a greenlet of this thread
        if len(self.messages) < count:
            raise TimeoutError(
                f"{len(self.messages)} of {count} messages came within {timeout} seconds"
                f"{self._instead()}"
            )
        return list(self.messages)

    def _instead(self) -> str:
        """Text about clients, refusals and errors, for the TimeoutError of `wait_for`."""
        lines = [repr(message) for message in self.messages[-5:]]
        if not self._clients:
            lines.append(f"no client connected to {self.host}:{self.port}")
        else:
            connected = sum(len(server.connections) for server in self._servers)
            lines.append(f"clients: {self._clients}, connected now: {connected}")
        lines += [f"refused: {each.error}" for each in self._sessions if each.error is not None]
        lines += [f"error: {event.code}: {event.error}" for event in self.errors[-5:]]
        return "".join(f"; {line}" for line in lines)

    # Faults

    def refuse(
        self,
        recipient: str | None = None,
        code: int = 550,
        text: str = "Refused by the test",
        *,
        at: str = "RCPT",
        times: int | None = None,
    ) -> None:
        """Refuse RCPT for *recipient* (None: any recipient) with the reply *code* and *text*.

        With *at*, one of `STAGES`, and without *recipient* it refuses something else: "MAIL" the
        sender, "CONTENT" the message. *times* is how many times, at least 1; None for no limit.
        Raises ValueError for a fault that could never strike.
        """
        self._faults.refuse(recipient, code, text, at=at, times=times)

    def delay(self, seconds: float, at: str | None = None, *, times: int | None = None) -> None:
        """Delay each reply by *seconds*, or only the replies *at* one of `STAGES`."""
        self._faults.delay(seconds, at, times=times)

    def drop(self, after: str = "DATA", *, times: int | None = None) -> None:
        """Close the connection without a reply *after* the client reached one of `STAGES`.

        The message then isn't received, not even with "CONTENT".
        """
        self._faults.drop(after, times=times)

    def require_auth(self, username: str, password: str) -> None:
        """Require AUTH with this name and password; the reply to others is 535."""
        self._change(auth_optional=False)
        self._user = (username, password)

    def use_starttls(self, required: bool = True) -> None:
        """Offer STARTTLS, with the certificate below; if *required*, MAIL and AUTH need it."""
        self._demands_tls = required
        self._change(**self._tls_options(), secure=False, allow_insecure_auth=not required)

    def use_tls(self) -> None:
        """Speak TLS from the first octet on (smtplib.SMTP_SSL), with the certificate below."""
        self._demands_tls = False
        self._change(**self._tls_options(), secure=True)

    @property
    def ca_file(self) -> str:
        """A PEM file that makes a client trust the server's certificate.

        The certificate is for localhost, 127.0.0.1 and ::1, and is made at the first access.
        """
        return str(self._own_certificate.ca_file)

    def client_context(self) -> ssl.SSLContext:
        """An SSL context for clients that trusts only this server."""
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def _own_certificate(self) -> Certificate:
        if self._certificate is None:
            self._certificate = Certificate()
        return self._certificate

    def _tls_options(self) -> dict[str, Any]:
        if "certfile" in self._given or "ssl_context" in self._given:
            return {}
        return {"certfile": self._own_certificate.certfile}

    def _change(self, **options: Any) -> None:
        """Use *options* for later connections."""
        self._options.update(options)
        if self._front is not None:
            self._in_hub(self._replace)

    # In the server's hub

    def _in_hub(self, task: Callable[[], None]) -> None:
        """Run *task* in the server's hub and wait for it; raises what it raises."""
        assert self._front is not None, "the server isn't started"
        if not self._threaded:
            task()
            return
        outcome: list[BaseException | None] = []

        def run() -> None:
            try:
                task()
            except BaseException as exc:
                outcome.append(exc)
            else:
                outcome.append(None)

        self._front.loop.run_callback_threadsafe(spawn_raw, run)
        while not outcome:
            time.sleep(_LOOK)
        if outcome[0] is not None:
            raise outcome[0]

    def _replace(self) -> None:
        server = SMTPServer(
            None,
            on_connect=self._on_connect,
            on_secure=self._on_secure,
            on_auth=self._on_auth,
            on_mail_from=self._on_mail_from,
            on_rcpt_to=self._on_rcpt_to,
            on_data=self._on_data,
            **self._options,
        )
        self._faults.attach(server)
        signals.error.connect(self._on_error, sender=server)
        server.start()
        self._servers.append(server)

    def _replace_all(self) -> None:
        with gevent.Timeout(_SETTLE, False):  # type: ignore[arg-type]
            while any(server.connections for server in self._servers):
                gevent.sleep(_LOOK)
        self._stop_servers()
        self._replace()

    def _stop_servers(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop(0)

    def _serve(self, sock: Any, address: Any) -> None:
        if not self._servers:
            sock.close()  # no server runs now
            return
        self._servers[-1].handle(sock, address)

    def _on_connect(self, session: Session) -> None:
        self._clients += 1
        self._sessions.append(session)
        self._faults.strike("CONNECT", session)

    def _connection(self, session_id: str) -> Connection:
        [connection] = [
            connection
            for server in self._servers
            for connection in server.connections
            if connection.session.id == session_id
        ]
        return connection

    def _on_secure(self, session: Session) -> None:
        self._faults.strike("STARTTLS", session)

    def _on_auth(self, credentials: Credentials, session: Session) -> Any:
        self._faults.strike("AUTH", session)
        self._connection(session.id).limits.auth_failures = -1  # no delay of a failure's reply
        if self._user is None:
            return credentials.username or "anonymous"
        username, password = self._user
        if credentials.username == username and credentials.validate_password(password):
            return username
        return None

    def _on_mail_from(self, address: Address, session: Session) -> None:
        if self._demands_tls and not session.secure:
            raise Reject(530, "Must issue a STARTTLS command first", "5.7.0")
        self._faults.on_mail_from(address, session)

    def _on_rcpt_to(self, address: Address, session: Session) -> None:
        self._faults.on_rcpt_to(address, session)

    def _on_data(self, stream: MessageStream, session: Session) -> None:
        self._faults.strike("DATA", session)
        content = stream.read()
        self._faults.strike("CONTENT", session)
        message = self._parse(content, session)
        sender = session.envelope.mail_from
        assert sender is not None
        message.envelope = ReceivedEnvelope(
            sender.address,
            [address.address for address in session.envelope.rcpt_to],
            dict(sender.args),
        )
        message.session = session
        message.content = content
        self.messages.append(message)

    def _parse(self, content: bytes, session: Session) -> ReceivedMessage:
        # LF line ends, as Python programs use; the attribute `content` keeps CRLF.
        return parse_message(content.replace(b"\r\n", b"\n"))

    def _on_error(self, server: SMTPServer, event: signals.ErrorEvent) -> None:
        if event.id not in self._faults.dropped:
            self.errors.append(event)


class _Front(SMTPServer):
    """Listens, and passes clients to the current server."""

    def __init__(self, listener: Any, serve: Callable[[Any, Any], None]) -> None:
        super().__init__(listener)
        self._serve = serve

    def do_handle(self, sock: Any, address: Any) -> None:
        spawn_raw(self._serve, sock, address)
