"""Know which connections are open now.

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
    """An open connection as it was when `ConnectionTracker.connections` was asked for."""

    id: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    #: The argument of HELO, EHLO or LHLO; None where XCLIENT came first.
    host_name_appears_as: str | None
    #: The name by reverse DNS, or ``[address]``.
    client_hostname: str
    #: When the `connect` signal came: seconds since the epoch.
    since: float
    #: Whether an AUTH succeeded, and the name it was made with.
    authenticated: bool = False
    user: str | None = None
    #: The version of TLS, for example "TLSv1.3"; None for a connection in the clear.
    tls: str | None = None
    #: Messages that were accepted.
    messages: int = 0


class ConnectionTracker:
    """Keeps an entry for each connection from its `connect` signal to its `disconnect`.

    ``len(tracker)`` is how many are open now. ``total`` is how many there have been since the
    tracker was made, ``total_messages`` how many messages they brought that were accepted.
    A connection that was open before `attach` isn't known.
    """

    def __init__(self) -> None:
        self.total = 0
        self.total_messages = 0
        self._open: dict[str, Connection] = {}
        # Counted beside the entries: making a new entry for each message costs too much.
        self._messages: dict[str, int] = {}
        # TLS can come before EHLO and so before `connect`; where XCLIENT or XFORWARD is enabled
        # `connect` waits for them, and AUTH can come first.
        # What they reported waits here; `disconnect` comes for every connection and clears it.
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
        """Stop listening, and forget the open connections: the tracker won't see their end."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
        self._open.clear()
        self._messages.clear()
        self._early.clear()

    @property
    def connections(self) -> dict[str, Connection]:
        """The open connections by id: a copy, the caller's own."""
        return {
            id: replace(entry, messages=self._messages.get(id, 0))
            for id, entry in self._open.copy().items()  # a receiver may run in another thread
        }

    def __len__(self) -> int:
        return len(self._open)

    def __bool__(self) -> bool:
        return True  # an empty tracker is true too

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
        else:  # XFORWARD named another client: the connection is the same
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
