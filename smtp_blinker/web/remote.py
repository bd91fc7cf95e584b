"""Events of other processes, for a page in a process of its own.

Each worker has an `EventSender`, which writes to a UNIX socket. The `EventReceiver` of the page
sends the signals again, from a `RemoteServer` in place of each server. So every listener there
receives the events of all workers. An event is a line of JSON. Mail never waits for the page.
"""

from __future__ import annotations

import json
import logging
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import gevent
from gevent import socket
from gevent.event import Event as Flag
from gevent.server import StreamServer

from .. import signals
from ..dialogue import Dialogue, DialogueEvent, Line
from ..server import SMTPServer
from ..signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    Event,
    EventSignal,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    VerdictEvent,
)
from . import reasons
from .live import MAX_RECIPIENTS

log = logging.getLogger(__name__)

#: The most waiting events of a worker; beyond, the oldest are dropped.
BUFFER: Final = 10_000
#: Events to write at a time, and the longest event to read in octets.
BATCH: Final = 50
MAX_LINE: Final = 2**20
#: Seconds between two tries to connect to the page, and the timeout to write a batch to it.
PAUSE: Final = 0.5
SECONDS: Final = 10.0
#: Seconds between two checks whether a server accepts clients.
LOOK_EVERY: Final = 0.5

#: What is sent besides the signals: whether a server accepts clients,
STARTED: Final = "started"
#: what came of a message that was handed over,
HANDED_OVER: Final = "handed over"
#: how many events of --events were dropped,
DROPPED: Final = "dropped"
#: what was said on a connection that had a refusal, unless so many events wait already.
SAID: Final = "said"
MOST_BEFORE_SAID: Final = 1000
_EVENTS: Final[tuple[tuple[EventSignal, Callable[..., Event] | None], ...]] = (
    (signals.listening, None),
    (signals.dialogue, DialogueEvent),
    (signals.connect, ConnectEvent),
    (signals.secure, SecureEvent),
    (signals.auth, AuthEvent),
    (signals.message, MessageEvent),
    (signals.refused, RefusedEvent),
    (signals.error, ErrorEvent),
    (signals.verdict, VerdictEvent),
    (signals.disconnect, DisconnectEvent),
    (signals.close, None),
)
_BY_NAME: Final = {signal.name: (signal, make) for signal, make in _EVENTS}


class EventSender:
    """Sends the events of *servers* to the page at the UNIX socket *path*. An index names a server.

    Create it in the worker. It listens until `close`, which waits up to a second until everything
    is sent. The page may start later, or restart. ``dropped`` counts the events that it missed.
    """

    def __init__(self, path: str, servers: Sequence[Any]) -> None:
        self.dropped = 0
        self._path = path
        self._servers = list(servers)
        self._waiting: deque[tuple[str, int, Any]] = deque()
        self._more = Flag()
        self._empty = Flag()
        #: The dialogues of open connections by id, and the ids of those whose refusal was sent.
        self._dialogues: dict[str, Dialogue] = {}
        self._refused: set[str] = set()
        self._receivers = [
            (signal, server, self._receiver(signal.name, number))
            for signal, _ in _EVENTS
            for number, server in enumerate(self._servers)
        ]
        for signal, server, receiver in self._receivers:
            signal.connect(receiver, server, weak=False)
        self._greenlet = gevent.spawn(self._run)

    def tell_hand_over(self, outcome: str, seconds: float) -> None:
        """A watcher of a store's circuit."""
        self._add(HANDED_OVER, 0, [outcome, seconds])

    def tell_dropped(self, number: int) -> None:
        """A watcher of `FleetEvents`."""
        self._add(DROPPED, 0, number)

    def close(self, timeout: float = 1.0) -> None:
        for signal, server, receiver in self._receivers:
            signal.disconnect(receiver, server)
        self._more.set()
        if self._waiting or not self._empty.is_set():
            self._empty.wait(timeout)
        self._greenlet.kill()

    def _receiver(self, name: str, number: int) -> Callable[..., None]:
        def receive(server: object, event: Event | None = None, **extra: object) -> None:
            if isinstance(event, DisconnectEvent):
                self._send_dialogue(number, event)
            known: Any = event
            if isinstance(event, ErrorEvent):  # don't keep its traceback
                known = event.as_dict()
            elif isinstance(event, DialogueEvent):
                self._dialogues[event.id] = event.dialogue
                known = {"id": event.id, "remote_address": event.remote_address}
            self._add(name, number, known)
            if isinstance(event, RefusedEvent | MessageEvent):
                self._send_dialogue(number, event)

        return receive

    def _add(self, name: str, number: int, known: Any) -> None:
        if len(self._waiting) >= BUFFER:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append((name, number, known))
        self._empty.clear()
        self._more.set()

    def _send_dialogue(
        self, number: int, event: RefusedEvent | MessageEvent | DisconnectEvent
    ) -> None:
        """Send the dialogue at the first refusal, and at the end of a connection with a refusal."""
        said = self._dialogues.get(event.id)
        if isinstance(event, DisconnectEvent):
            self._dialogues.pop(event.id, None)
            tells = event.id in self._refused or event.reason in reasons.BY_ENDING
            self._refused.discard(event.id)
        else:
            tells = event.code >= 400 and event.id not in self._refused
            if tells:
                self._refused.add(event.id)
        if said is not None and tells and len(self._waiting) < MOST_BEFORE_SAID:
            lines = [line.as_dict() for line in said.lines]
            self._add(SAID, number, {"id": event.id, "lines": lines})

    def _run(self) -> None:
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(SECONDS)
                    connection.connect(self._path)
                    self._tell_all(connection)
            except OSError:
                gevent.sleep(PAUSE)  # the page is unreachable

    def _tell_all(self, connection: Any) -> None:
        """Write events until the page disconnects. Events in transit are lost then."""
        told = [False] * len(self._servers)
        while True:
            for number, server in enumerate(self._servers):
                if server.started is not told[number]:
                    told[number] = server.started
                    connection.sendall(_line(STARTED, number, {STARTED: server.started}))
            self._more.wait(LOOK_EVERY)
            self._more.clear()
            _check_that_it_is_there(connection)
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                connection.sendall(b"".join(_line(*each) for each in batch))
                gevent.sleep(0)  # mail has priority
                _check_that_it_is_there(connection)
            self._empty.set()


def _check_that_it_is_there(connection: Any) -> None:
    """Raise ConnectionError if the page, which never sends anything, has closed *connection*."""
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLHUP)
    if poll.poll(0):
        raise ConnectionError("the page is gone")


def _line(
    signal: str, server: int, event: Event | dict[str, Any] | list[Any] | int | None
) -> bytes:
    fields = event.as_dict() if isinstance(event, Event) else event
    if isinstance(event, MessageEvent) and len(event.rcpt_to) > MAX_RECIPIENTS:
        # The page shows so many, and how many there are.
        others = len(event.rcpt_to) - MAX_RECIPIENTS
        fields = {**event.as_dict(), "rcpt_to": [*event.rcpt_to[:MAX_RECIPIENTS], *[""] * others]}
    return json.dumps([signal, server, fields], default=str).encode() + b"\n"


class RemoteServer:
    """A server that runs in other processes, as far as the page knows it.

    *local* is the same in this process, where it doesn't listen.
    """

    def __init__(self, address: Any, local: SMTPServer) -> None:
        self.address = address
        self.options = local.options
        self.hooks = local.hooks
        #: The number of processes that accept its clients.
        self.processes = 0

    @property
    def started(self) -> bool:
        return self.processes > 0


class EventReceiver(StreamServer):
    """Receives the events of each worker's `EventSender` on *listener*, and sends the signals here.

    The senders of the signals are *servers*, in the order of the workers' servers. When a worker
    ends, its connections end too: the receiver then sends the missing `disconnect` signals.
    *hand_over* is called with the seconds and the outcome of each message that a worker's store
    handed over.
    """

    def __init__(
        self,
        listener: Any,
        servers: Sequence[RemoteServer],
        hand_over: Callable[[float, Any], object] = lambda seconds, outcome: None,
    ) -> None:
        super().__init__(listener)
        self.servers = list(servers)
        self._hand_over = hand_over
        #: Called with the number of events that a worker's --events dropped.
        self.on_dropped: Callable[[int], object] = lambda number: None

    def handle(self, connection: Any, address: Any) -> None:
        worker = _Worker(self.servers, self._hand_over, self.on_dropped)
        try:
            with connection, connection.makefile("rb") as lines:
                while line := lines.readline(MAX_LINE):
                    worker.tells(line)
        except (OSError, ValueError, TypeError, LookupError) as exc:
            log.error("a worker's events can't be read: %s: %a", type(exc).__name__, str(exc)[:200])
        finally:
            worker.ended()


class _Worker:
    """A worker that sends events, and its open connections."""

    def __init__(
        self,
        servers: Sequence[RemoteServer],
        hand_over: Callable[[float, Any], object],
        dropped: Callable[[int], object],
    ) -> None:
        self._servers = servers
        self._hand_over = hand_over
        self._dropped = dropped
        self._accepting: set[RemoteServer] = set()
        #: For each id the server, the client's address, and the start time.
        self._open: dict[str, tuple[RemoteServer, str, float]] = {}
        self._dialogues: dict[str, ToldDialogue] = {}

    def tells(self, line: bytes) -> None:
        """Send the signal in *line*; raises ValueError and others for an invalid one."""
        name, number, fields = json.loads(line)
        if name == HANDED_OVER:
            outcome, seconds = fields
            self._hand_over(float(seconds), outcome)
            return
        if name == DROPPED:
            self._dropped(int(fields))
            return
        server = self._servers[number]
        if name == STARTED:
            self._accepts(server, bool(fields[STARTED]))
            return
        if name == SAID:
            if said := self._dialogues.get(fields["id"]):
                said.told = [Line(**line) for line in fields["lines"]]
            return
        signal, make = _BY_NAME[name]
        if make is None:
            signals.emit(signal, server)
            return
        event = _event(make, fields)
        if isinstance(event, DialogueEvent):
            assert isinstance(event.dialogue, ToldDialogue)
            self._dialogues[event.id] = event.dialogue
        elif isinstance(event, ConnectEvent):
            self._open[event.id] = server, event.remote_address, time.monotonic()
        elif isinstance(event, DisconnectEvent):
            self._open.pop(event.id, None)
            self._dialogues.pop(event.id, None)
        signals.emit(signal, server, event)

    def ended(self) -> None:
        for server in list(self._accepting):
            self._accepts(server, False)
        for id, (server, address, since) in self._open.items():
            event = DisconnectEvent(
                *(id, address, time.monotonic() - since, 0, 0, 0),
                *("error", "the process that served it has ended"),
            )
            signals.emit(signals.disconnect, server, event)

    def _accepts(self, server: RemoteServer, does: bool) -> None:
        if does and server not in self._accepting:
            self._accepting.add(server)
            server.processes += 1
        elif not does and server in self._accepting:
            self._accepting.discard(server)
            server.processes -= 1


class ToldDialogue(Dialogue):
    """The part of the dialogue of a connection in another process that was sent."""

    __slots__ = ("told",)

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Line] = []

    @property
    def lines(self) -> list[Line]:
        return self.told


class RemoteError(Exception):
    """An exception from another process, with the same class name and the same text."""


def _event(make: Callable[..., Event], fields: dict[str, Any]) -> Event:
    if make is DialogueEvent:
        fields["dialogue"] = ToldDialogue()
    if make is MessageEvent:
        fields["rcpt_to"] = tuple(fields["rcpt_to"])
    if make is ErrorEvent:
        told = fields["error"]
        kind = type(str(told["type"]), (RemoteError,), {})
        fields["error"] = kind(told["message"])
    with suppress(TypeError):
        return make(**fields)
    raise ValueError("the worker is of another version")
