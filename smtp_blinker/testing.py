"""An SMTP server for the tests of programs that send mail: pip install 'smtp_blinker[pytest]'.

    with SMTPTestServer() as smtp_server:
        send_the_mail_of_the_program(smtp_server.host, smtp_server.port)
        [message] = smtp_server.wait_for(1)
        assert message["Subject"] == "Welcome"
        assert message.envelope.rcpt_to == ["ann@example.com"]

The fixtures for pytest are in `smtp_blinker.pytest_plugin`; docs/pytest.md is the manual.
"""

from __future__ import annotations

import email
import email.policy
import errno
import os
import socket
import ssl
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Final, NoReturn, TypeVar

import gevent
from gevent import getcurrent, monkey, spawn_raw

from . import signals
from .connection import Connection
from .options import DEFAULT_EXTENSIONS
from .reply import Reject
from .server import SMTPServer
from .session import Address, Credentials, Session
from .stream import MessageStream

#: What a client may be waiting for the answer to when a fault strikes. CONNECT is before the
#: greeting, DATA after the 354 amid the content, CONTENT after its end.
STAGES: Final = ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT")
#: Seconds that `reset` waits for those who are about to leave.
_SETTLE: Final = 0.25
#: Seconds between two looks at what is waited for.
_LOOK: Final = 0.001

_Self = TypeVar("_Self", bound="SMTPTestServer")


@dataclass(frozen=True, slots=True)
class ReceivedEnvelope:
    """What SMTP said about a message."""

    #: "" for the null reverse-path.
    mail_from: str
    rcpt_to: list[str]
    #: The parameters of MAIL, such as SIZE and BODY, in upper case.
    args: Mapping[str, str | bool]


class ReceivedMessage(EmailMessage):
    """A message as it was received, with what was beside it. Its lines end with LF.

    The parts of a multipart message are of this class too, without the attributes below.
    """

    envelope: ReceivedEnvelope
    #: Its sender's session: user, secure, tls, host_name_appears_as, remote_address …
    session: Session
    #: The message octet for octet, dots unstuffed.
    content: bytes

    def __repr__(self) -> str:
        envelope: ReceivedEnvelope | None = getattr(self, "envelope", None)
        if envelope is None:
            return super().__repr__()
        recipients = " ".join(f"<{address}>" for address in envelope.rcpt_to[:5])
        more = "" if len(envelope.rcpt_to) <= 5 else f" and {len(envelope.rcpt_to) - 5} more"
        subject = "no subject" if self["Subject"] is None else repr(str(self["Subject"]))
        return f"<message {subject} from <{envelope.mail_from}> to {recipients}{more}>"


@dataclass(slots=True)
class _Fault:
    stages: Collection[str]
    act: Callable[[Session], None]
    #: Whom it strikes, in lower case; None for everybody.
    recipient: str | None
    #: How often it still strikes; None for ever.
    times: int | None


class SMTPTestServer:
    """Receives mail on a free port, in a thread of its own, and fails on demand.

    A context manager, or `start` and `stop`. *options* are those of `SMTPServer`. In a process
    whose threading is monkey patched it serves in the hub of the one who starts it, as everything
    does there. Its methods are for the thread of the tests.

    Without faults it accepts every message, and every AUTH that is offered, without demanding
    any; it offers no TLS. What `use_tls`, `use_starttls` and `require_auth` change is for the
    connections that come after; the other faults strike at once.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.host = host
        #: 0 becomes the port that was free when it started.
        self.port = port
        #: What was received since the last `reset`, in the order it was acknowledged.
        self.messages: list[ReceivedMessage] = []
        #: What went wrong meanwhile but for the faults, such as a client that left amid a message.
        self.errors: list[signals.ErrorEvent] = []
        self._given = options
        self._certificate: _Certificate | None = None
        self._front: _Front | None = None
        self._thread: Any = None
        #: Of everybody's socket, by the greenlet that serves it.
        self._sockets: dict[Any, Any] = {}
        #: The last one is for new connections; those before have some of their own still.
        self._servers: list[SMTPServer] = []
        self._forget()

    def _forget(self) -> None:
        self._faults: list[_Fault] = []
        #: Who connected, and the latest of them.
        self._clients = 0
        self._sessions: deque[Session] = deque(maxlen=5)
        self._dropped: set[str] = set()
        self._options: dict[str, Any] = {
            "name": "localhost",
            "disable_reverse_lookup": True,
            "auth_optional": True,
            "allow_insecure_auth": True,
            # A test may do wrong as often as it likes.
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
        """Listen; raises the OSError of a port that can't be had."""
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
        """As if it had just been started: no messages, no faults, no connections.

        Clients that are about to leave may do so, the others are told 421. The port and
        `ca_file` stay.
        """
        self._forget()
        self._in_hub(self._replace_all)
        self.messages.clear()
        self.errors.clear()

    def __enter__(self: _Self) -> _Self:
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

    # What came

    def wait_for(self, count: int = 1, timeout: float = 10.0) -> list[ReceivedMessage]:
        """The messages, once there are *count*; TimeoutError when there aren't in *timeout*
        seconds, which tells what there was instead."""
        __tracebackhide__ = True  # the line of the test is of interest
        deadline = monotonic() + timeout
        while len(self.messages) < count:
            if monotonic() > deadline:
                raise TimeoutError(
                    f"{len(self.messages)} of {count} messages came within {timeout} seconds"
                    f"{self._instead()}"
                )
            gevent.sleep(_LOOK)  # the sender may be a greenlet of this thread
        return list(self.messages)

    def _instead(self) -> str:
        """What there was instead of the messages that were waited for."""
        lines = [repr(message) for message in self.messages[-5:]]
        if not self._clients:
            lines.append(f"nobody connected to {self.host}:{self.port}")
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
        """Answer RCPT for *recipient* (None: for everybody) with *code* and *text*.

        *at* is another of `STAGES` where something else is to be refused: "CONTENT" for the
        message, "MAIL" for the sender (without a *recipient* then). *times* is how often.
        """
        if at in ("EHLO", "STARTTLS"):
            raise ValueError(f"a server can't refuse {at}; drop the connection")
        refusal = Reject(code, text)

        def act(session: Session) -> NoReturn:
            raise refusal

        self._add_fault([at], act, recipient, times)

    def delay(self, seconds: float, at: str | None = None, *, times: int | None = None) -> None:
        """Let the client wait *seconds* for each answer, or for those *at* one of `STAGES`."""

        def act(session: Session) -> None:
            gevent.sleep(seconds)

        # At DATA the client waits for nothing.
        stages = [one for one in STAGES if one != "DATA"] if at is None else [at]
        self._add_fault(stages, act, None, times)

    def drop(self, after: str = "DATA", *, times: int | None = None) -> None:
        """Close the connection without a word *after* the client reached one of `STAGES`.

        A message whose connection is dropped isn't received, not even after "CONTENT".
        """
        self._add_fault([after], self._drop, None, times)

    def require_auth(self, username: str, password: str) -> None:
        """Demand AUTH, with this name and password; the reply to others is 535."""
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

        It is for localhost, 127.0.0.1 and ::1, and made when it is first asked for.
        """
        return str(self._own_certificate.ca_file)

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts the server, and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)

    @property
    def _own_certificate(self) -> _Certificate:
        if self._certificate is None:
            self._certificate = _Certificate()
        return self._certificate

    def _tls_options(self) -> dict[str, Any]:
        if "certfile" in self._given or "ssl_context" in self._given:
            return {}
        return {"certfile": self._own_certificate.certfile}

    def _add_fault(
        self,
        stages: Collection[str],
        act: Callable[[Session], None],
        recipient: str | None,
        times: int | None,
    ) -> None:
        for stage in stages:
            if stage not in STAGES:
                raise ValueError(f"{stage!r} is none of {', '.join(STAGES)}")
        name = None if recipient is None else recipient.lower()
        self._faults.append(_Fault(stages, act, name, times))

    def _change(self, **options: Any) -> None:
        """Give *options* to the connections that come after."""
        self._options.update(options)
        if self._front is not None:
            self._in_hub(self._replace)

    # In the server's hub

    def _in_hub(self, task: Callable[[], None]) -> None:
        """Run *task* where the server runs; returns, or raises what it raises, when it ended."""
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
        signals.connect.connect(self._on_ehlo, sender=server)
        signals.error.connect(self._on_error, sender=server)
        server.start()
        self._servers.append(server)

    def _replace_all(self) -> None:
        deadline = monotonic() + _SETTLE
        while monotonic() < deadline and any(server.connections for server in self._servers):
            gevent.sleep(_LOOK)
        self._stop_servers()
        self._replace()

    def _stop_servers(self) -> None:
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop(0)

    def _serve(self, sock: Any, address: Any) -> None:
        if not self._servers:
            sock.close()  # between two servers
            return
        me = getcurrent()
        self._sockets[me] = sock
        try:
            self._servers[-1].handle(sock, address)
        finally:
            del self._sockets[me]

    def _strike(self, stage: str, session: Session, recipient: str | None = None) -> None:
        for fault in list(self._faults):
            if stage not in fault.stages or fault.recipient not in (None, recipient):
                continue
            if fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
            fault.act(session)

    def _drop(self, session: Session) -> None:
        self._dropped.add(session.id)
        try:
            self._sockets[getcurrent()].shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client was quicker
        raise Reject(421, "Dropped")  # which nobody hears any more

    def _on_connect(self, session: Session) -> None:
        self._clients += 1
        self._sessions.append(session)
        self._strike("CONNECT", session)

    def _connection(self, session_id: str) -> Connection:
        [connection] = [
            connection
            for server in self._servers
            for connection in server.connections
            if connection.session.id == session_id
        ]
        return connection

    def _on_ehlo(self, server: SMTPServer, event: signals.ConnectEvent) -> None:
        try:
            self._strike("EHLO", self._connection(event.id).session)
        except Reject:
            pass  # a listener can't refuse; it was dropped

    def _on_secure(self, session: Session) -> None:
        self._strike("STARTTLS", session)

    def _on_auth(self, credentials: Credentials, session: Session) -> Any:
        self._strike("AUTH", session)
        self._connection(session.id).auth_failures = -1  # to be answered without a pause
        if self._user is None:
            return credentials.username or "anonymous"
        username, password = self._user
        if credentials.username == username and credentials.validate_password(password):
            return username
        return None

    def _on_mail_from(self, address: Address, session: Session) -> None:
        if self._demands_tls and not session.secure:
            raise Reject(530, "Must issue a STARTTLS command first", "5.7.0")
        self._strike("MAIL", session)

    def _on_rcpt_to(self, address: Address, session: Session) -> None:
        self._strike("RCPT", session, address.address.lower())

    def _on_data(self, stream: MessageStream, session: Session) -> None:
        self._strike("DATA", session)
        content = stream.read()
        self._strike("CONTENT", session)
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
        # With the line ends of Python's programs; `content` has those of the wire.
        return _message(content.replace(b"\r\n", b"\n"), email.policy.default)

    def _on_error(self, server: SMTPServer, event: signals.ErrorEvent) -> None:
        if event.id not in self._dropped:
            self.errors.append(event)


def _message(content: bytes, policy: Any) -> ReceivedMessage:
    message: Any = email.message_from_bytes(content, _class=ReceivedMessage, policy=policy)
    assert isinstance(message, ReceivedMessage)
    return message


class _Front(SMTPServer):
    """Listens, and hands its clients to whoever serves at the time."""

    def __init__(self, listener: Any, serve: Callable[[Any, Any], None]) -> None:
        super().__init__(listener)
        self._serve = serve

    def do_handle(self, sock: Any, address: Any) -> None:
        spawn_raw(self._serve, sock, address)


class _Certificate:
    """Files with a new authority and a certificate from it; removed with this object."""

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as exc:
            raise ImportError("TLS needs trustme: pip install 'smtp_blinker[pytest]'") from exc
        self._folder = tempfile.TemporaryDirectory(prefix="smtp_blinker-")
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
        self.ca_file = Path(self._folder.name, "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.certfile = Path(self._folder.name, "server.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(self.certfile)
        # Who is given this file as the one to trust finds the authority in it.
        authority.cert_pem.write_to_path(self.certfile, append=True)


# The names of smtpdfix

_TRUTH: Final = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def _truth(value: object) -> bool:
    """What smtpdfix takes for a bool, in the environment and in assignments: "yes", "0", …"""
    if not isinstance(value, str):
        return bool(value)
    try:
        return _TRUTH[value.lower()]
    except KeyError:
        raise ValueError(f"{value!r} is neither true nor false") from None


def _pem_files(value: Any) -> tuple[str, str | None] | None:
    """A path, or those of certificate and key; raises FileNotFoundError for a missing file."""
    certfile, keyfile = value if isinstance(value, tuple) else (value, None)
    if certfile is None:
        return None
    for path in filter(None, (certfile, keyfile)):
        if not os.path.isfile(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return os.fspath(certfile), keyfile and os.fspath(keyfile)


def _from_environment(*names: str, default: Any = None) -> Any:
    """A field that begins as the first of these variables that isn't empty says."""
    return field(default_factory=lambda: next(filter(None, map(os.environ.get, names)), default))


def _files_in_environment() -> Any:
    # The name that smtpdfix reads, and the one in its manual.
    names = ("SMTPD_SSL_CERTIFICATE_FILE", "SMTPD_SSL_CERT_FILE")
    certfile = next(filter(None, map(os.environ.get, names)), None)
    return certfile, os.environ.get("SMTPD_SSL_KEY_FILE") or None


@dataclass
class SMTPDFixConfig:
    """``smtpd.config``: what is assigned here counts for the connections that come after.

    Each value begins as its environment variable says (SMTPD_HOST, SMTPD_LOGIN_NAME …), and may
    be text everywhere: "yes", "0", "2525".
    """

    host: str = _from_environment("SMTPD_HOST", default="127.0.0.1")
    #: 0 for a free one, whose number it becomes.
    port: int = _from_environment("SMTPD_PORT", default=0)
    #: Not used: when the constructor has returned, the server is ready.
    ready_timeout: float = _from_environment("SMTPD_READY_TIMEOUT", default=10.0)
    login_username: str = _from_environment("SMTPD_LOGIN_NAME", default="user")
    login_password: str = _from_environment("SMTPD_LOGIN_PASSWORD", default="password")
    use_ssl: bool = _from_environment("SMTPD_USE_SSL", "SMTPD_USE_TLS", default=False)
    #: Counts more than `use_ssl`.
    use_starttls: bool = _from_environment("SMTPD_USE_STARTTLS", default=False)
    enforce_auth: bool = _from_environment("SMTPD_ENFORCE_AUTH", default=False)
    #: Whether AUTH is there after TLS only.
    auth_require_tls: bool = _from_environment("SMTPD_AUTH_REQUIRE_TLS", default=True)
    #: A PEM file with certificate and key, or one for each; None for the server's own, whose
    #: path stands here when the server has begun to use it.
    ssl_cert_files: tuple[str, str | None] | None = field(default_factory=_files_in_environment)
    _changed: Callable[[], None] | None = field(default=None, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            raise AttributeError(f"smtpd.config has no {name}")
        convert = _CONVERSIONS.get(name)
        super().__setattr__(name, value if convert is None else convert(value))
        changed = self.__dict__.get("_changed")
        if changed is not None and name != "_changed":
            changed()


_CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "port": int,
    "ready_timeout": float,
    "use_ssl": _truth,
    "use_starttls": _truth,
    "enforce_auth": _truth,
    "auth_require_tls": _truth,
    "ssl_cert_files": _pem_files,
}


_WITHOUT_AUTH: Final = DEFAULT_EXTENSIONS - {"AUTH"}


class SMTPDFix(SMTPTestServer):
    """The names of smtpdfix 0.5: ``hostname``, ``port``, ``messages`` and ``config``.

    The messages are parsed with the policy that smtpdfix's have (compat32) and carry its fields
    X-Peer, X-MailFrom and X-RcptTo; besides, all of `SMTPTestServer` is here.
    """

    def __init__(
        self,
        hostname: str | None = None,
        port: int | str | None = None,
        config: SMTPDFixConfig | None = None,
    ) -> None:
        self.config = config or SMTPDFixConfig()
        if hostname is not None:
            self.config.host = hostname
        if port is not None:
            self.config.port = port  # type: ignore[assignment]
        super().__init__(self.config.host, self.config.port)

    @property
    def hostname(self) -> str:
        return self.host

    def start(self) -> None:
        self._configure()
        super().start()
        self.config.port = self.port
        self.config._changed = self._configure

    def reset(self, persist_messages: bool = True) -> None:
        """As if it had just been started; `config` stays as it is.

        As with smtpdfix the messages stay too, unless *persist_messages* is false.
        """
        messages = list(self.messages) if persist_messages else []
        super().reset()
        self.messages.extend(messages)
        self._configure()

    def _configure(self) -> None:
        config = self.config
        if self._front is not None and (config.host, config.port) != (self.host, self.port):
            self._move(config.host, config.port)
        tls = config.use_ssl or config.use_starttls
        certfile, keyfile = self._files() if tls else (None, None)
        self._demands_tls = config.use_starttls
        self._user = (config.login_username, config.login_password)
        self._change(
            certfile=certfile,
            keyfile=keyfile,
            secure=config.use_ssl and not config.use_starttls,
            auth_methods=("CRAM-MD5", "LOGIN", "PLAIN"),
            auth_optional=not config.enforce_auth,
            allow_insecure_auth=not config.auth_require_tls,
            extensions=DEFAULT_EXTENSIONS if tls or not config.auth_require_tls else _WITHOUT_AUTH,
        )

    def _on_auth(self, credentials: Credentials, session: Session) -> Any:
        if self.config.auth_require_tls and not session.secure:
            raise Reject(538, "Encryption required", "5.7.11")
        return super()._on_auth(credentials, session)

    def _files(self) -> tuple[str, str | None]:
        if self.config.ssl_cert_files is None:
            # Not assigned as a test would: that would change the server once more.
            self.config.__dict__["ssl_cert_files"] = (str(self._own_certificate.certfile), None)
        assert self.config.ssl_cert_files is not None
        return self.config.ssl_cert_files

    def _move(self, host: str, port: int) -> None:
        self.stop()
        self.host, self.port = host, port
        self.config._changed = None
        super().start()
        self.config.port = self.port
        self.config._changed = self._configure

    def _parse(self, content: bytes, session: Session) -> ReceivedMessage:
        message = _message(content, email.policy.compat32)
        envelope = session.envelope
        message["X-Peer"] = str((session.remote_address, session.remote_port))
        message["X-MailFrom"] = str(envelope.mail_from)
        message["X-RcptTo"] = ", ".join(map(str, envelope.rcpt_to))
        return message
