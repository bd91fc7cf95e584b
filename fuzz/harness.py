"""A whole connection without a network: a transport that reads from a script and never waits.

`converse` runs the real `Connection` in the current greenlet and returns everything that it did.
What no connection may do, whatever the client sends, is checked here: see `Talk.check`.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, Final

from gevent import getcurrent
from greenlet import greenlet

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from smtp_blinker import session, signals  # noqa: E402
from smtp_blinker.connection import client  # noqa: E402
from smtp_blinker.connection.connection import COMMAND_READ, Connection  # noqa: E402
from smtp_blinker.connection.transport import MAX_UNSENT, Interrupted  # noqa: E402
from smtp_blinker.hooks import Hooks  # noqa: E402
from smtp_blinker.options import Options  # noqa: E402
from smtp_blinker.session import Session, TLSInfo  # noqa: E402
from smtp_blinker.smtp.reply import MAX_AUTH_LINE, printable  # noqa: E402
from smtp_blinker.stream import MessageStream  # noqa: E402

#: In a script: the client keeps silent for longer than a bare LF is waited for, and no longer.
PAUSE: Final = None
#: How a script may end: the client closes, resets, or keeps silent; or the server shuts down.
ENDINGS: Final = ("eof", "reset", "timeout", "interrupt")
#: Seconds: shorter deadlines than this pass in a PAUSE.
_SHORT: Final = 1.0


@dataclass
class Script:
    """What the client does; it stands where the socket would."""

    pieces: Sequence[bytes | None]
    ending: str = "eof"

    def getsockname(self) -> tuple[str, int]:
        return ("192.0.2.25", 25)


class ScriptedTransport:
    """The methods of `transport.Transport`, over a `Script`."""

    def __init__(self, sock: Script, patience: float, last_moment: float) -> None:
        self._left = list(reversed(sock.pieces))
        self._ending = sock.ending
        self._patience = patience
        self.greenlet = getcurrent()
        self.unsent = b""
        #: Everything that was sent.
        self.output = b""
        self.closed = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.waiting = False
        self.before_receive: Callable[[], None] = lambda: None

    def _open(self, deadline: float) -> None:
        assert not self.closed, "used after close"
        assert deadline <= monotonic() + 3600, "no deadline"

    def let_others_run(self) -> None:
        """There are no others."""

    def receive(self, size: int, deadline: float, *, raw: bool = False) -> bytes:
        self.flush(deadline)
        self.before_receive()
        assert size > 0
        while self._left:
            piece = self._left.pop()
            if piece is PAUSE:
                if deadline < monotonic() + _SHORT:
                    raise TimeoutError
                continue
            if len(piece) > size:
                self._left.append(piece[size:])
                piece = piece[:size]
            if piece:
                self.bytes_in += len(piece)
                return piece
        if self._ending == "eof":
            return b""
        if self._ending == "reset":
            raise ConnectionResetError(104, "Connection reset by peer")
        if self._ending == "interrupt":
            raise Interrupted
        raise TimeoutError(110, "timed out")

    def flush(self, deadline: float | None = None) -> None:
        self._open(monotonic() + self._patience if deadline is None else deadline)
        assert len(self.unsent) < 2 * MAX_UNSENT, "replies are kept that should be sent"
        self.bytes_out += len(self.unsent)
        self.output += self.unsent
        self.unsent = b""

    def start_tls(self, channel: Any, deadline: float) -> None:
        self.flush(deadline)

    def send_last(self, data: bytes) -> None:
        self.unsent += data
        self.flush(0.0)

    def linger(self) -> None:
        assert not self.unsent, "closed with replies unsent"

    def interrupt(self) -> None:
        raise AssertionError("nobody else is here")

    def close(self) -> None:
        self.closed += 1


class _Channel:
    """A TLS that changes nothing."""

    info = TLSInfo("TLSv1.3", ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256))
    servername = "mx.example.com"

    def received(self, data: bytes) -> None:
        """Takes what came before the handshake."""


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        assert text.isprintable(), f"a log line that can be forged: {text!r}"


LOGGER: Final = logging.getLogger("fuzz")
LOGGER.propagate = False
LOGGER.setLevel(logging.DEBUG)
LOGGER.addHandler(_Handler())

#: An SSL context with no certificate: enough to make a server offer STARTTLS.
CONTEXT: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class FakeServer:
    """What a `Connection` asks of its server."""

    def __init__(self, options: Options, hooks: Hooks) -> None:
        self.options = options
        self.hooks = hooks
        self.logger = LOGGER if options.logger else None
        self.contexts = SimpleNamespace(channel=_Channel, loaded=options.offers_tls)
        self.resolver = SimpleNamespace(start=lambda address: lambda: "client.example.net")
        self.connections: set[Connection] = set()
        self.ends = 0
        self.lingering = 0

    def admit_peer(self, one: Connection) -> bool:
        return True

    def admit(self, one: Connection) -> None:
        return None

    def release(self, one: Connection) -> None:
        pass

    def ended(self, one: Connection) -> None:
        self.ends += 1


class _Connection(Connection):
    __slots__ = ()

    def pause(self, seconds: float) -> None:
        """A failed AUTH costs no time here."""


@dataclass(frozen=True)
class Answer:
    """One reply of the server's."""

    code: int
    enhanced: str | None
    lines: tuple[str, ...]


_LINE: Final = re.compile(rb"([2-5][0-9][0-9])([ -])([\x20-\x7e]*)\r\n")
_ENHANCED: Final = re.compile(r"([2-5])\.[0-9]{1,3}\.[0-9]{1,3} ")


def answers(output: bytes) -> list[Answer]:
    """The replies that *output* consists of; fails for what no reply may be.

    RFC 5321 sections 4.2.1 and 4.5.3.1.5, RFC 2034 section 4.
    """
    found: list[Answer] = []
    lines: list[str] = []
    codes: set[bytes] = set()
    position = 0
    while position < len(output):
        line = _LINE.match(output, position)
        assert line, f"no reply line: {output[position : position + 600]!r}"
        assert line.end() - position <= 512, f"a long line: {line.group()!r}"
        position = line.end()
        codes.add(line[1])
        lines.append(line[3].decode("ascii"))
        if line[2] == b" ":
            assert len(codes) == 1, f"codes differ in one reply: {codes}"
            code = int(codes.pop())
            enhanced = _ENHANCED.match(lines[0])
            if enhanced is not None:
                prefix = enhanced.group()
                assert enhanced[1] == str(code)[0], f"class of {code} {prefix}"
                assert code not in (334, 354), f"an enhanced code with {code}"
                assert all(text.startswith(prefix) for text in lines), lines
            found.append(Answer(code, enhanced and enhanced.group()[:-1], tuple(lines)))
            lines, codes = [], set()
    assert not lines, f"ends inside a reply: {lines}"
    return found


@dataclass
class Talk:
    """Everything that one connection did."""

    transport: Any = None
    server: Any = None
    session: Any = None
    state: Any = None
    #: Contents that a hook read to their end, with the octets in the order they came.
    delivered: list[bytes] = field(default_factory=list)
    #: (reverse-path, forward-paths) of each of those.
    envelopes: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    #: Contents that ended with an exception.
    broken: list[BaseException] = field(default_factory=list)
    closes: int = 0
    #: (name of the signal, event).
    events: list[tuple[str, Any]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def output(self) -> bytes:
        output: bytes = self.transport.output
        return output

    @property
    def reason(self) -> str:
        [event] = [event for name, event in self.events if name == "disconnect"]
        reason: str = event.reason
        return reason

    def check(self) -> None:
        """What holds for every connection, whatever the client did."""
        self.answers = answers(self.output)
        assert self.transport.closed == 1, "the socket was not closed exactly once"
        assert self.server.ends == 1, "not counted out exactly once"
        assert self.closes == 1, "on_close was not called exactly once"
        assert [name for name, _ in self.events].count("disconnect") == 1
        last = [answer.code for answer in self.answers[:-1]]
        assert not {421, 221} & set(last), f"went on after the last reply: {last}"
        for name, event in self.events:
            json.dumps(event.as_dict())
            if name == "error":
                assert event.response_code != 421, f"a fault of the library's: {event!r}"
                assert event.code in _ALLOWED_ERRORS, f"an error of no client's: {event!r}"


#: What a client, or the hooks of the fuzz targets, may bring about.
_ALLOWED_ERRORS: Final = frozenset({"ECONNRESET", "ECONNABORTED", "ProxyError", "HookError"})

_SIGNALS: Final = ("connect", "error", "secure", "auth", "message", "refused", "disconnect")


def store(talk: Talk, stream: MessageStream, session: Session) -> str | None:
    """The plain `on_data`: read it all, and take it."""
    try:
        content = stream.read()
    except Exception as exc:
        talk.broken.append(exc)
        raise
    take(talk, content, session)
    return None


def take(talk: Talk, content: bytes, session: Session) -> None:
    envelope = session.envelope
    assert envelope.mail_from is not None
    assert envelope.rcpt_to
    talk.delivered.append(content)
    talk.envelopes.append(
        (envelope.mail_from.address, tuple(one.address for one in envelope.rcpt_to))
    )


def converse(
    script: Script,
    options: Options,
    on_data: Callable[[Talk, MessageStream, Session], Any] = store,
    transport_class: type[ScriptedTransport] = ScriptedTransport,
    started: Callable[[Connection], None] = lambda one: None,
    **others: Callable[..., Any],
) -> Talk:
    """Run one connection from its greeting to its end.

    *started* is told of it before it runs; *others* are hooks by name.
    """
    talk = Talk()
    hooks = Hooks()
    hooks.on_data = lambda stream, session: on_data(talk, stream, session)

    def on_close(session: Session) -> None:
        talk.closes += 1

    hooks.on_close = on_close
    for name, hook in others.items():
        hooks.set(name, hook)
    server = talk.server = FakeServer(options, hooks)

    receivers = []
    for name in _SIGNALS:

        def receive(sender: Any, event: Any, *, name: str = name) -> None:
            talk.events.append((name, event))

        getattr(signals, name).connect(receive, sender=server)
        receivers.append((getattr(signals, name), receive))
    try:
        one = _connection(server, script, transport_class)
        transport = talk.transport = one.transport
        talk.session = one.session
        room = max(options.max_command_length, MAX_AUTH_LINE) + COMMAND_READ

        def memory_is_bounded() -> None:
            assert len(one.protocol.buffer) <= room, "a line is kept that is too long"

        transport.before_receive = memory_is_bounded
        started(one)
        one.run()
        talk.state = one.protocol.state
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive, sender=server)
    talk.check()
    return talk


def _connection(
    server: FakeServer, script: Script, transport_class: type[ScriptedTransport]
) -> Connection:
    """A connection over *script*, whose id doesn't depend on a random source."""
    real = client.Transport, session.new_id
    client.Transport = transport_class  # type: ignore[assignment,misc]
    session.new_id = lambda: "abcdefghijklmnop"
    try:
        return _Connection(server, script, ("192.0.2.1", 50000))  # type: ignore[arg-type]
    finally:
        client.Transport, session.new_id = real  # type: ignore[misc]


class LiveTransport(ScriptedTransport):
    """Hands control back to whoever plays the client each time the connection waits."""

    def __init__(self, sock: Script, patience: float, last_moment: float) -> None:
        super().__init__(sock, patience, last_moment)
        self._parent = getcurrent().parent
        self._interrupted = False
        #: Whether it waits for the rest of a line that has a bare LF at its end.
        self.impatient = False

    def receive(self, size: int, deadline: float, *, raw: bool = False) -> bytes:
        self.flush(deadline)
        if not self._left:
            self.impatient = deadline < monotonic() + _SHORT
            self.waiting = True
            said = self._parent.switch()
            self.waiting = False
            if isinstance(said, BaseException):
                raise said
            self._left.append(said)
        return super().receive(size, deadline, raw=raw)

    def interrupt(self) -> None:
        self._interrupted = True


class Live:
    """A connection that is talked to piece by piece; it runs in a greenlet of its own.

    Every method returns when the connection waits for the client, or has ended.
    """

    def __init__(
        self, options: Options, on_data: Callable[[Talk, MessageStream, Session], Any], **hooks: Any
    ) -> None:
        def run() -> Talk:
            return converse(Script([]), options, read, LiveTransport, self._started.append, **hooks)

        def read(talk: Talk, stream: MessageStream, session: Session) -> Any:
            self.progress = talk
            return on_data(talk, stream, session)

        self._started: list[Any] = []
        self._seen = 0
        self._greenlet = greenlet(run)
        #: What it has done so far.
        self.progress = Talk()
        #: What it did; there once it has ended.
        self.talk: Talk | None = None
        self._switch()
        [self.connection] = self._started

    def _switch(self, *said: Any) -> None:
        if self.talk is None:
            result = self._greenlet.switch(*said)
            if self._greenlet.dead:
                self.talk = result

    @property
    def _transport(self) -> Any:
        return self.connection.transport

    def replies(self) -> list[Answer]:
        """The replies since the last call; all of each has come."""
        output = self._transport.output[self._seen :]
        self._seen += len(output)
        return answers(output)

    def send(self, data: bytes) -> None:
        if data:
            self._switch(data)

    def pause(self) -> None:
        """Keep silent until a line that ends with a bare LF is taken to have ended."""
        if self.talk is None and self._transport.impatient:
            self._switch(TimeoutError())

    def time_out(self) -> None:
        self.pause()
        self._switch(TimeoutError(110, "timed out"))

    def close(self) -> None:
        self._switch(b"")

    def reset(self) -> None:
        self._switch(ConnectionResetError(104, "Connection reset by peer"))

    def shut_down(self) -> None:
        """The server begins to stop."""
        if self.talk is None:
            self.connection.drain()
            self.connection._stop_waiting()  # as the hub would
            if self._transport._interrupted:
                self._switch(Interrupted())


def cut(data: bytes, mode: int) -> list[bytes]:
    """*data* in pieces: whole for 0, octet by octet for 1, after each line for 2, else odd ones."""
    if mode == 0:
        return [data]
    if mode == 1:
        return [data[at : at + 1] for at in range(len(data))]
    if mode == 2:
        return data.splitlines(keepends=True)
    if mode < 32:
        return [data[at : at + mode] for at in range(0, len(data), mode)]
    # A row of lengths that looks random and is the same each time.
    pieces = []
    position, number = 0, mode
    while position < len(data):
        number = (number * 1103515245 + 12345) % 2**31
        length = 1 + (number >> 16) % 13
        pieces.append(data[position : position + length])
        position += length
    return pieces


__all__ = [
    "CONTEXT",
    "ENDINGS",
    "PAUSE",
    "Answer",
    "Live",
    "Script",
    "ScriptedTransport",
    "Talk",
    "answers",
    "converse",
    "cut",
    "printable",
    "store",
    "take",
]
