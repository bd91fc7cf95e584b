"""The latest events, and counts per second, from the signals only."""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from ..listeners.tracking import Connection
from ..signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    Event,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    auth,
    close,
    connect,
    disconnect,
    error,
    listening,
    message,
    refused,
    secure,
)
from .listener import Listener

#: Events that are kept for pages that are opened later.
KEPT: Final = 1000
#: Characters of one value, and recipients of one message, in an event.
MAX_TEXT: Final = 300
MAX_RECIPIENTS: Final = 5
#: The most kinds that one interval counts; further ones are "other".
MAX_KINDS: Final = 100
#: The most clients that are counted; beyond, the less active half is forgotten.
MAX_CLIENTS: Final = 2000

# The replies of these are counted with `message` or `refused`.
_HOOK_FAULTS: Final = ("HookError", "HookTimeout")


@dataclass(eq=False)
class Item:
    """An event with its number and time."""

    number: int
    time: float
    signal: str
    event: Event | dict[str, Any] | None

    @cached_property
    def as_text(self) -> str:
        """The event in the form for open pages; made once for all of them."""
        return f"id: {self.number}\nevent: smtp\ndata: {json.dumps(self.as_dict())}\n\n"

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON-ready values, short for any input of a client."""
        fields = self.event.as_dict() if isinstance(self.event, Event) else self.event or {}
        shown = {name: _short(value) for name, value in fields.items()}
        return {"number": self.number, "time": self.time, "signal": self.signal, **shown}


def newest_of_each_signal(items: list[Item], most: int) -> list[Item]:
    """*items* without those that have *most* newer ones of the same signal, in the same order."""
    if len(items) <= most:
        return items
    chosen: list[Item] = []
    counts: Counter[str] = Counter()
    for item in reversed(items):
        counts[item.signal] += 1
        if counts[item.signal] <= most:
            chosen.append(item)
    return chosen[::-1]


class Series:
    """Counts by kind in the last *length* intervals of *step* seconds."""

    def __init__(self, step: int, length: int, clock: Callable[[], float] = time.time) -> None:
        self.step = step
        self.length = length
        self._clock = clock
        self._intervals: deque[tuple[int, Counter[str]]] = deque()

    def add(self, kind: str, amount: int = 1) -> None:
        now = int(self._clock()) // self.step
        intervals = self._intervals
        if not intervals or intervals[-1][0] < now:
            intervals.append((now, Counter()))
            while intervals[0][0] <= now - self.length:
                intervals.popleft()
        counts = intervals[-1][1]
        if len(counts) >= MAX_KINDS and kind not in counts:
            kind = f"{kind.partition(':')[0]}:other"
        counts[kind] += amount

    def as_dict(self) -> dict[str, Any]:
        """``end`` is the number of the current interval; empty ones are left out."""
        end = int(self._clock()) // self.step
        intervals = [
            {"number": number, "counts": dict(counts)}
            for number, counts in list(self._intervals)
            if number > end - self.length
        ]
        return {"step": self.step, "length": self.length, "end": end, "intervals": intervals}


class Feed(Listener):
    """Keeps the events and counts that the page shows."""

    def __init__(self) -> None:
        self.seconds = Series(1, 300)
        self.minutes = Series(60, 360)
        self._items: deque[Item] = deque(maxlen=KEPT)
        #: The number of the latest event; the first is 1.
        self.last = 0
        # By address: connections, messages, and octets in of ended connections.
        self._clients: dict[str, list[int]] = {}
        self._receivers = (
            (listening, self._on_listening),
            (connect, self._on_connect),
            (secure, self._on_secure),
            (auth, self._on_auth),
            (message, self._on_message),
            (refused, self._on_refused),
            (error, self._on_error),
            (disconnect, self._on_disconnect),
            (close, self._on_close),
        )

    def since(self, number: int) -> list[Item]:
        """The kept events that came after that number."""
        items = list(self._items)
        # The numbers have no gaps, so compute the position: a search would cost time per open page.
        new = items[-1].number - number if items else 0
        return items[-new:] if new > 0 else []

    def top_clients(self, most: int, open_now: Iterable[Connection]) -> list[dict[str, Any]]:
        """The clients with the most messages; octets are counted when a connection has ended."""
        clients = {address: list(counts) for address, counts in self._clients.items()}
        for connection in open_now:
            counts = clients.setdefault(connection.remote_address, [0, 0, 0])
            counts[0] += 1
            counts[1] += connection.messages
        ranked = sorted(clients.items(), key=lambda client: _rank(client[1]), reverse=True)
        return [
            {
                "address": address,
                "connections": counts[0],
                "messages": counts[1],
                "bytes": counts[2],
            }
            for address, counts in ranked[:most]
        ]

    # Receivers run inside a client's session: only keep the event, and format it when it is read.

    def _keep(self, signal: str, event: Event | dict[str, Any] | None) -> None:
        self.last += 1
        self._items.append(Item(self.last, time.time(), signal, event))

    def _keep_bounded(self, signal: str, event: Event, text: str) -> None:
        """Keep *event*, or a shortened copy if its field *text* is long."""
        self._keep(signal, event if len(text) <= MAX_TEXT else _short(event.as_dict()))

    def _count(self, kind: str, amount: int = 1) -> None:
        self.seconds.add(kind, amount)
        self.minutes.add(kind, amount)

    def _on_listening(self, server: object, **extra: object) -> None:
        self._keep("listening", {"address": address_text(server)})

    def _on_close(self, server: object, **extra: object) -> None:
        self._keep("close", {"address": address_text(server)})

    def _on_connect(self, server: object, event: ConnectEvent, **extra: object) -> None:
        self._keep("connect", event)
        self._count("connections")

    def _on_secure(self, server: object, event: SecureEvent, **extra: object) -> None:
        self._keep("secure", event)

    def _on_auth(self, server: object, event: AuthEvent, **extra: object) -> None:
        self._keep("auth", event)
        self._count("auth:success" if event.success else "auth:failure")

    def _on_message(self, server: object, event: MessageEvent, **extra: object) -> None:
        if len(event.rcpt_to) > MAX_RECIPIENTS:  # a thousand events of a thousand names
            fields = event.as_dict()
            fields["rcpt_to"] = fields["rcpt_to"][:MAX_RECIPIENTS]
            fields["recipients"] = len(event.rcpt_to)
            self._keep("message", _short(fields))
        else:
            self._keep_bounded("message", event, event.reply)
        self._count("messages")
        self._count("bytes", event.size)
        self._count(f"reply:{event.code}")

    def _on_refused(self, server: object, event: RefusedEvent, **extra: object) -> None:
        self._keep_bounded("refused", event, event.argument + event.reply)
        self._count(f"refused:{event.command or 'none'}")
        self._count(f"reply:{event.code}")

    def _on_error(self, server: object, event: ErrorEvent, **extra: object) -> None:
        # The exception's traceback would keep alive all that its frames held, and what it says
        # may be as long as it likes.
        self._keep("error", _short(event.as_dict()))
        self._count(f"error:{event.code}")
        if event.response_code is not None and event.code not in _HOOK_FAULTS:
            self._count(f"reply:{event.response_code}")

    def _on_disconnect(self, server: object, event: DisconnectEvent, **extra: object) -> None:
        self._keep_bounded("disconnect", event, event.detail)
        self._count(f"disconnect:{event.reason}")
        counts = self._clients.setdefault(event.remote_address, [0, 0, 0])
        counts[0] += 1
        counts[1] += event.messages
        counts[2] += event.bytes_in
        if len(self._clients) > MAX_CLIENTS:
            ranked = sorted(self._clients.items(), key=lambda client: _rank(client[1]))
            self._clients = dict(ranked[MAX_CLIENTS // 2 :])


def address_text(server: object) -> str:
    """The address of a server, from the attributes of gevent's servers."""
    address = getattr(server, "address", None)
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(address or "")


def server_facts(server: Any) -> dict[str, Any]:
    """What a program must know to send mail to *server*, and whether it accepts clients now.

    ``tls`` is "implicit", "starttls" or None, ``auth`` "required", "optional" or None.
    """
    facts = {"address": address_text(server), "ready": bool(server.started)}
    options = getattr(server, "options", None)
    if options is None:  # a server of another library that sends the same signals
        return {**facts, "lmtp": False, "tls": None, "auth": None}
    tls = None
    if options.begins_with_tls:
        tls = "implicit"
    elif options.offers_tls and "STARTTLS" in options.extensions:
        tls = "starttls"
    auth = None
    if server.hooks.on_auth is not None and options.auth_methods:
        auth = "optional" if options.auth_optional else "required"
    return {**facts, "lmtp": options.lmtp, "tls": tls, "auth": auth}


def _rank(counts: list[int]) -> tuple[int, int, int]:
    connections, messages, octets = counts
    return messages, octets, connections


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if isinstance(value, dict):
        return {name: _short(item) for name, item in list(value.items())[:20]}
    if isinstance(value, list):
        return [_short(item) for item in value[:20]]
    return value
