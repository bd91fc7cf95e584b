"""Keeps track of the open connections.

tracker = ConnectionTracker().attach(server)
...
for connection in tracker.connections.values():
    print(connection.remote_address, connection.user, connection.messages)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from blinker import ANY

from ..signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    MessageEvent,
    SecureEvent,
    auth,
    connect,
    disconnect,
    message,
    secure,
)


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection at the moment when `ConnectionTracker.connections` was read."""

    id: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    #: The argument of HELO, EHLO or LHLO; None if XCLIENT came first.
    host_name_appears_as: str | None
    #: The name by reverse DNS, or ``[address]``.
    client_hostname: str
    #: The time of the `connect` signal in seconds since the epoch.
    since: float
    #: Whether AUTH succeeded, and its user name.
    authenticated: bool = False
    user: str | None = None
    #: The TLS version, for example "TLSv1.3"; None without TLS.
    tls: str | None = None
    #: The number of accepted messages.
    messages: int = 0


class ConnectionTracker:
    """Keeps an entry for each connection from its `connect` signal to its `disconnect`.

    ``len(tracker)`` is the number of open connections. ``total`` counts all connections since the
    tracker was made, and ``total_messages`` their accepted messages. It doesn't know connections
    that were open before `attach`.
    """

    def __init__(self) -> None:
        self.total = 0
        self.total_messages = 0
        self._open: dict[str, Connection] = {}
        # Counted separately, because a new entry for each message would be expensive.
        self._messages: dict[str, int] = {}
        # Facts about TLS and AUTH from before the `connect` signal: TLS may begin before EHLO, and
        # with XCLIENT or XFORWARD enabled AUTH may come before `connect`. `disconnect` comes for
        # every connection and removes them.
        self._early: dict[str, dict[str, Any]] = {}
        self._receivers: tuple[tuple[Any, Callable[..., None]], ...] = (
            (connect, self._on_connect),
            (secure, self._on_secure),
            (auth, self._on_auth),
            (message, self._on_message),
            (disconnect, self._on_disconnect),
        )

    def attach(self, server: object = None) -> ConnectionTracker:
        """Listen to *server*, or to every server of the process. Returns the listener."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, ANY if server is None else server, weak=False)
        return self

    def detach(self) -> None:
        """Stop listening to all servers, and forget the open connections."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        self._open.clear()
        self._messages.clear()
        self._early.clear()

    @property
    def connections(self) -> dict[str, Connection]:
        """A copy of the open connections by id."""
        return {
            id: replace(entry, messages=self._messages.get(id, 0))
            for id, entry in self._open.copy().items()  # a receiver may run in another thread
        }

    def __len__(self) -> int:
        return len(self._open)

    def __bool__(self) -> bool:
        return True  # even if len() is 0

    def _on_connect(self, server: object, event: ConnectEvent, **extra: object) -> None:
        known = self._open.get(event.id)
        if known is None:
            self.total += 1
            self._open[event.id] = Connection(
                event.id,
                event.local_address,
                event.local_port,
                event.remote_address,
                event.remote_port,
                event.host_name_appears_as,
                event.client_hostname,
                time.time(),
                **self._early.pop(event.id, {}),
            )
        else:  # XFORWARD named another client on the same connection
            self._open[event.id] = replace(
                known,
                remote_address=event.remote_address,
                remote_port=event.remote_port,
                host_name_appears_as=event.host_name_appears_as,
                client_hostname=event.client_hostname,
            )

    def _on_secure(self, server: object, event: SecureEvent, **extra: object) -> None:
        self._change(event.id, tls=event.protocol)

    def _on_auth(self, server: object, event: AuthEvent, **extra: object) -> None:
        if event.success:
            self._change(event.id, authenticated=True, user=event.username)

    def _on_message(self, server: object, event: MessageEvent, **extra: object) -> None:
        if event.code < 400 and event.id in self._open:
            self.total_messages += 1
            self._messages[event.id] = self._messages.get(event.id, 0) + 1

    def _on_disconnect(self, server: object, event: DisconnectEvent, **extra: object) -> None:
        self._early.pop(event.id, None)
        self._open.pop(event.id, None)
        self._messages.pop(event.id, None)

    def _change(self, id: str, **facts: Any) -> None:
        known = self._open.get(id)
        if known is None:
            self._early.setdefault(id, {}).update(facts)
        else:
            self._open[id] = replace(known, **facts)
