"""What all test modules share: waiting, replies, signals that were heard, and certificates.

And a server in a thread that records, with a client that sends octets; `contract.py` has both on
the test's own hub.

Nothing here sleeps for correctness: who waits, waits for a fact, `SECONDS` at most.
"""

from __future__ import annotations

import random
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import gevent
from gevent.server import StreamServer

from smtp_blinker import MessageStream, Session, SMTPServer, signals

#: How long a test waits for what must happen. Only a failing test ever waits this long.
SECONDS = 30.0
#: How long it waits for what only makes it a better test.
PATIENCE = 0.2

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])([\x20-\x7e]*)\r\n")
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")


def wait_until(
    fact: Callable[[], Any],
    what: str = "",
    seconds: float = SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """*fact*'s value as soon as it is true; AssertionError when it isn't within *seconds*."""
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or fact}"
        sleep(0.002)
    return value


def poll(fact: Callable[[], Any]) -> Any:
    """The same where the server runs on the test's own hub."""
    return wait_until(fact, sleep=gevent.sleep)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago.

    None that the system gives for port 0: another test's server would have it before ours.
    """
    while True:
        port = random.randrange(20000, 32000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def tcp_address(server: StreamServer) -> tuple[str, int]:
    """Where *server*, which listens on IPv4, is to be reached."""
    assert isinstance(server.address, tuple)
    return server.address[0], server.address[1]


# Replies


@dataclass(frozen=True)
class ClientReply:
    """A reply as it came; made only of octets that keep the rules for all replies."""

    code: int
    #: The enhanced status code of every line, or None.
    enhanced: str | None
    #: The texts, without codes.
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def status(self) -> str:
        """For comparing: ``"501 5.5.4"``, or ``"354"`` where there is no enhanced code."""
        return f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)


def take_reply(data: bytes) -> tuple[ClientReply | None, bytes]:
    """The first reply in *data*, None when it isn't whole, and what follows it.

    Fails for what no reply may be: RFC 5321 sections 4.2.1 and 4.5.3.1.5, RFC 2034 section 4.
    """
    lines: list[str] = []
    codes: set[int] = set()
    position = 0
    while True:
        end = data.find(b"\n", position) + 1
        if not end:
            return None, data
        found = _REPLY_LINE.fullmatch(data, position, end)
        assert found, f"not a reply line: {data[position:end]!r}"
        # RFC 4954 section 4 for challenges
        longest = 12288 if found[1] == b"334" else 512
        assert end - position <= longest, f"too long: {data[position:end]!r}"
        codes.add(int(found[1]))
        lines.append(found[3].decode("ascii"))
        position = end
        if found[2] == b" ":
            break
    assert len(codes) == 1, f"different codes in one reply: {data[:position]!r}"
    code = codes.pop()
    matches = [_ENHANCED.match(line) for line in lines]
    enhanced = matches[0][1] if matches[0] else None
    assert {match[1] if match else None for match in matches} == {enhanced} or code == 214
    if enhanced is not None:
        assert enhanced[0] == str(code)[0], f"class of the enhanced code: {data[:position]!r}"
        assert code not in (334, 354), f"an enhanced code with {code}"
        lines = [line[len(enhanced) + 1 :] for line in lines]
    return ClientReply(code, enhanced, tuple(lines)), data[position:]


def take_replies(data: bytes) -> list[ClientReply]:
    """All replies that *data* consists of."""
    replies = []
    while data:
        one, data = take_reply(data)
        assert one is not None, f"ends inside a reply: {data!r}"
        replies.append(one)
    return replies


# The client


class RawClient:
    """A TCP client that sends exactly the octets it is told to; a context manager."""

    def __init__(self, address: Any, *, source: str | None = None, rcvbuf: int | None = None):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(SECONDS)
        if rcvbuf is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source is not None:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self.socket.getsockname()[1] if family == socket.AF_INET else 0
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def _receive(self) -> bytes:
        return self.socket.recv(65536)

    def reply(self) -> ClientReply:
        """The next reply, all its lines; fails when the server closes or keeps silent."""
        while True:
            one, self._unread = take_reply(self._unread)
            if one is not None:
                return one
            data = self._receive()
            assert data, f"the server closed, after {self._unread!r}"
            self._unread += data

    def replies(self, number: int) -> list[ClientReply]:
        return [self.reply() for _ in range(number)]

    def command(self, line: bytes | str) -> ClientReply:
        """Send *line* with a CRLF, and read its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.reply()

    def rest(self) -> bytes:
        """All octets until the server closes; a reset counts as a close."""
        data, self._unread = self._unread, b""
        try:
            while piece := self._receive():
                data += piece
        except (ConnectionError, ssl.SSLError):
            pass
        return data

    def rest_of_replies(self) -> list[ClientReply]:
        return take_replies(self.rest())

    def start_tls(self, context: ssl.SSLContext, servername: str | None = "localhost") -> None:
        """Shake hands; raises ssl.SSLError or OSError when that fails."""
        assert not self._unread, f"clear text before the handshake: {self._unread!r}"
        self.socket = context.wrap_socket(self.socket, server_hostname=servername)

    def reset(self) -> None:
        """Close with a RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


# Signals

SIGNALS = (
    *("connect", "error", "close", "listening", "secure"),
    *("auth", "message", "refused", "verdict", "disconnect"),
)


class Witness:
    """Every signal of one server, in order, as pairs of a name and an event."""

    def __init__(self, server: SMTPServer) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.senders: set[Any] = set()
        # blinker holds them weakly: they go with the witness.
        self._receivers = [self._listen(server, name) for name in SIGNALS]

    def _listen(self, server: SMTPServer, name: str) -> Any:
        def receiver(sender: Any, event: Any = None) -> None:
            self.senders.add(sender)
            self.heard.append((name, event))

        getattr(signals, name).connect(receiver, sender=server)
        return receiver

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.heard]

    def of(self, name: str) -> list[Any]:
        return [event for heard, event in list(self.heard) if heard == name]

    def one(self, name: str) -> Any:
        """The only event of that name, once it has come."""
        poll(lambda: self.of(name))
        [event] = self.of(name)
        return event


# The server


@dataclass
class Delivered:
    """A message that the program took."""

    mail_from: str
    rcpt_to: list[str]
    content: bytes
    session: Session
    envelope: Any


@dataclass
class Served:
    """A running server and what it told the program."""

    server: SMTPServer
    thread: Any
    messages: list[Delivered] = field(default_factory=list)
    #: What `stream.read()` raised, for messages that never became whole.
    broken: list[BaseException] = field(default_factory=list)
    #: Faults of the library's own that the test expects.
    expected_faults: int = 0
    _stopping: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.witness = Witness(self.server)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """(name of the signal, event), in the order they came."""
        return self.witness.heard

    def start_to_stop(self) -> threading.Thread:
        """Stop the server, as leaving the block of `serve` does; join the thread to wait for it."""
        if self._stopping is None:
            exit_ = self.thread.__exit__
            self._stopping = threading.Thread(target=exit_, args=(None, None, None))
            self._stopping.start()
        return self._stopping

    @property
    def address(self) -> Any:
        address = self.server.address
        return address if isinstance(address, str) else ("127.0.0.1", address[1])

    @property
    def port(self) -> int:
        return int(self.address[1])

    def connect(self, *, greeting: bool = True, **keywords: Any) -> RawClient:
        """A client; with *greeting* it has read the 220."""
        client = RawClient(self.address, **keywords)
        if greeting:
            first = client.reply()
            assert first.code == 220, first
            assert first.enhanced is None, first
        return client

    def hello(self, **keywords: Any) -> RawClient:
        """A client that has said EHLO (LHLO to an LMTP server)."""
        client = self.connect(**keywords)
        verb = "LHLO" if self.server.options.lmtp else "EHLO"
        answer = client.command(f"{verb} client.example")
        assert answer.status == "250", answer
        return client

    def events_of(self, name: str) -> list[Any]:
        return self.witness.of(name)

    def contents(self) -> list[bytes]:
        return [message.content for message in self.messages]

    def record(self, stream: MessageStream, session: Session) -> None:
        """The default `on_data`."""
        try:
            content = stream.read()
        except BaseException as exc:
            self.broken.append(exc)
            raise
        envelope = session.envelope
        sender = envelope.mail_from
        self.messages.append(
            Delivered(
                sender.address if sender is not None else "?",
                [recipient.address for recipient in envelope.rcpt_to],
                content,
                session,
                envelope,
            )
        )

    def connection_of(self, client: RawClient) -> Any:
        """The server's side of *client*, or None when that is over."""
        for connection in list(self.server.connections):
            if connection.session.remote_port == client.port:
                return connection
        return None

    def send_pieces(self, client: RawClient, pieces: Sequence[bytes]) -> None:
        """Send each piece once the server has read the one before, so that it is read alone.

        What a server that closed doesn't take is dropped. Should the server be slower
        than `PATIENCE`, pieces may be read together: that is no error, only less of a test.
        """
        connection = self.connection_of(client) or wait_until(lambda: self.connection_of(client))
        goal = connection.bytes_in
        for number, piece in enumerate(pieces):
            if number and not self._has_read(connection, goal):
                piece = b"".join(pieces[number:])
            try:
                client.send(piece)
            except ConnectionError:
                return
            goal += len(piece)
            if number and piece is not pieces[number]:
                return

    def _has_read(self, connection: Any, goal: int) -> bool:
        """Whether the server reads *goal* octets of *connection* within `PATIENCE`."""
        patience = time.monotonic() + PATIENCE
        while connection.bytes_in < goal:
            if connection not in self.server.connections or time.monotonic() > patience:
                return False
            time.sleep(0)
        return True


@contextmanager
def serve(listener: Any = ("127.0.0.1", 0), **options: Any) -> Iterator[Served]:
    """A running server that records; *options* are hooks and options of SMTPServer.

    Reverse lookup is off unless asked for. Without an `on_data` of the test's own, messages are
    recorded in `Served.messages`. Leaving the block stops the server, and fails the test when
    the library had a fault of its own (an answer 421 "Internal error").
    """
    options.setdefault("disable_reverse_lookup", True)
    options.setdefault("close_timeout", SECONDS)
    server = SMTPServer(listener, **options)
    served = Served(server, server.run_in_thread())
    if server.hooks.on_data is None:
        server.on_data(served.record)

    served.thread.__enter__()
    try:
        yield served
    finally:
        served.start_to_stop().join(2 * SECONDS)
        assert not served.start_to_stop().is_alive(), "the server doesn't stop"
    faults = [event for event in served.events_of("error") if event.response_code == 421]
    assert len(faults) == served.expected_faults, faults


def assert_serves(served: Served) -> None:
    """A client that comes now gets its whole message through, octet for octet."""
    before = len(served.messages)
    with served.hello() as client:
        content = b"Subject: still here\r\n\r\nyes\r\n"
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        assert [one.status for one in client.replies(3)] == ["250 2.1.0", "250 2.1.5", "354"]
        client.send(content + b".\r\nQUIT\r\n")
        assert [one.status for one in client.rest_of_replies()] == ["250 2.0.0", "221 2.0.0"]
    assert served.contents()[before:] == [content]


def two_pieces(data: bytes) -> Iterator[list[bytes]]:
    """*data* at every cut between two octets."""
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


def octets(data: bytes) -> list[bytes]:
    """*data* octet by octet."""
    return [data[at : at + 1] for at in range(len(data))]


def cut_at(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """*data* in pieces that end at *cuts*; none is empty."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class Certificate:
    """A certificate for localhost and 127.0.0.1, and the authority that it is from."""

    certfile: Path
    keyfile: Path
    ca_certs: Path

    @property
    def options(self) -> dict[str, Any]:
        """For SMTPServer."""
        return {"certfile": str(self.certfile), "keyfile": str(self.keyfile)}

    def context(self) -> ssl.SSLContext:
        """A server's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certfile, self.keyfile)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts the authority and nobody else."""
        return ssl.create_default_context(cafile=str(self.ca_certs))
