"""Servers: on the test's own hub, or in a thread with a record of all that they receive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from gevent.server import StreamServer

from smtp_blinker import MessageStream, Session, SMTPServer, signals

from .client import BlockingClient, Client
from .waiting import PATIENCE, SECONDS, poll, wait_until

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

    def forget(self, name: str) -> None:
        """Those of that name that have come were expected."""
        self.heard = [pair for pair in self.heard if pair[0] != name]


def raising(error: BaseException | type[BaseException]) -> Callable[..., Any]:
    """A hook or a receiver that raises *error*."""

    def hook(*args: Any, **keywords: Any) -> Any:
        raise error

    return hook


@contextmanager
def running(
    listener: Any = ("127.0.0.1", 0), *, use: Any = (), **options: Any
) -> Iterator[SMTPServer]:
    """A server on the test's own hub, where it can count greenlets, look at the server between two
    commands, and call `stop` while it talks to it. *use* are policies."""
    options.setdefault("disable_reverse_lookup", True)
    options.setdefault("name", "mx.test")
    server = SMTPServer(listener, **options)
    if use:
        server.use(*use)
    server.start()
    try:
        yield server
    finally:
        server.stop(timeout=0)


class Talk(Client):
    """A client of a `running` server, which a test may look at beside the dialogue."""

    server: SMTPServer
    #: Of the server, since before this client came; only with `witnessed`.
    witness: Witness

    @property
    def session(self) -> Session:
        """Of the only connection, while it lasts."""
        [connection] = self.server.connections
        return connection.session


@contextmanager
def talking(
    listener: Any = ("127.0.0.1", 0),
    *,
    hello: Any = "EHLO me",
    greet: Any = True,
    witness: Any = None,
    **options: Any,
) -> Iterator[Talk]:
    """The first client of a `running` server; it has said *hello*, or nothing without *greet*."""
    with running(listener, **options) as server:
        heard = witness and witness(server)
        client = Talk(server, hello=hello if greet else None, greet=greet)
        client.server = server
        if heard:
            client.witness = heard
        yield client


def witnessed(*listener: Any, **options: Any) -> AbstractContextManager[Talk]:
    """The same with a `Witness`: a server that has receivers for its signals."""
    return talking(*listener, witness=Witness, **options)


def until_read(server: SMTPServer, client: Client) -> None:
    """Wait until *server*, on this hub, has read all that *client* sent, and has nothing to do but
    to wait for it or for a hook."""

    def has_read() -> bool:
        [bytes_in] = [
            one.bytes_in for one in server.connections if one.session.remote_port == client.port
        ]
        return bytes_in >= client.sent

    poll(has_read)


def tcp_address(server: StreamServer) -> tuple[str, int]:
    """Where *server*, which listens on IPv4, is to be reached."""
    assert isinstance(server.address, tuple)
    return server.address[0], server.address[1]


# In a thread


@dataclass
class Message:
    """A message that the program took, and what the session was when it came."""

    content: bytes
    mail_from: str
    rcpt_to: list[str]
    envelope: Any
    session: Any
    remote_address: str
    transmission_type: str
    xforward: dict[str, str | None]

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]


@dataclass
class Served:
    """A running server, its mail and its signals."""

    server: SMTPServer
    thread: Any
    messages: list[Message] = field(default_factory=list)
    #: What `stream.read()` raised, for messages that never became whole.
    broken: list[BaseException] = field(default_factory=list)
    #: Faults of the library's own that the test expects.
    expected_faults: int = 0
    _stopping: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.witness = Witness(self.server)
        self.of = self.witness.of
        self.forget = self.witness.forget

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

    def connect(self, *, greeting: bool = True, **keywords: Any) -> BlockingClient:
        """A client; with *greeting* it has read the 220."""
        client = BlockingClient(self.address, greet=greeting, **keywords)
        assert not greeting or client.greeting.status == "220", client.greeting
        return client

    def hello(self, **keywords: Any) -> BlockingClient:
        """A client that has said EHLO (LHLO to an LMTP server)."""
        client = self.connect(**keywords)
        answer = client.cmd(f"{'LHLO' if self.server.options.lmtp else 'EHLO'} client.example")
        assert answer.status == "250", answer
        return client

    def contents(self) -> list[bytes]:
        return [message.content for message in self.messages]

    @property
    def mail(self) -> Message:
        """The only message."""
        [message] = self.messages
        return message

    def wait_for(self, count: int) -> list[Message]:
        wait_until(lambda: len(self.messages) >= count, f"{count} messages, {self}")
        return self.messages

    def record(self, stream: MessageStream, session: Session) -> str:
        """The default `on_data`."""
        try:
            content = stream.read()
        except BaseException as exc:
            self.broken.append(exc)
            raise
        envelope = session.envelope
        sender = envelope.mail_from
        self.messages.append(
            Message(
                content,
                sender.address if sender is not None else "?",
                [recipient.address for recipient in envelope.rcpt_to],
                envelope,
                session,
                session.remote_address,
                session.transmission_type,
                dict(session.xforward),
            )
        )
        return f"queued as {len(self.messages)}"

    def connection_of(self, client: Client) -> Any:
        """The server's side of *client*, or None when that is over."""
        for connection in list(self.server.connections):
            if connection.session.remote_port == client.port:
                return connection
        return None

    def send_pieces(self, client: Client, pieces: Sequence[bytes]) -> None:
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
    faults = [event for event in served.of("error") if event.response_code == 421]
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
