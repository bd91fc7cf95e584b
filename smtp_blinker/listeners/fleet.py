"""Publish the events, for programs that watch several nodes. Extra `amqp` or `redis`.

    FleetEvents("amqp://user:password@broker/").attach()

Mail never waits for it: the events wait in a bounded buffer, and a greenlet of its own publishes
them. While the broker is away the oldest are dropped, and counted.
"""

from __future__ import annotations

import json
import logging
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Final, Protocol

import gevent
from blinker import ANY
from gevent.event import Event as Flag

from smtp_blinker.stores.queue import require_patched

from ..signals import (
    ErrorEvent,
    Event,
    EventSignal,
    auth,
    connect,
    disconnect,
    error,
    message,
    refused,
    secure,
    verdict,
)
from ..turns import LONG_TURN, let_others_run

log = logging.getLogger("smtp_blinker")

#: The exchange and the stream.
EXCHANGE: Final = "smtp.events"
#: Events in the buffer.
BUFFER: Final = 10_000
#: Entries that a stream keeps, about.
KEPT: Final = 100_000
#: Events that are published at once.
BATCH: Final = 100
#: Seconds for a batch.
SECONDS: Final = 10.0
#: Seconds between two attempts while the broker is away: at first, and at last.
PAUSES: Final = (1.0, 30.0)

_SIGNALS: Final = (connect, error, secure, auth, message, refused, verdict, disconnect)


class Publisher(Protocol):
    """Where events go. Its methods raise what the client library does."""

    def publish(self, batch: Iterable[tuple[str, bytes]]) -> None:
        """Publish texts, each with the name of its signal, connecting first where need be.

        *batch* lets other greenlets run between two of them.
        """

    def close(self) -> None:
        """Disconnect. Raises nothing."""


class FleetEvents:
    """Publishes every event as JSON: ``{"time": …, "node": …, "signal": …, "event": {…}}``.

    *url* is ``amqp://…`` or ``amqps://…``: *name* is a durable topic exchange, the routing key of a
    message is the name of its signal, and RabbitMQ doesn't confirm them. Or it is ``redis://…``,
    ``rediss://…`` or ``unix://…``: *name* is a stream that keeps about *kept* entries, each of the
    fields ``signal`` and ``event``. *node* is this node's name, by default the host's.

    *buffer* events wait at most; ``dropped`` counts those that were dropped because it was full
    (for Prometheus: `FleetMetrics`), ``published`` those that the client library has sent. Since it
    listens to `error`, errors are
    logged only if `EventLog` is attached too.

    Raises RuntimeError in a program without monkey patching, ValueError for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = EXCHANGE,
        node: str | None = None,
        buffer: int = BUFFER,
        kept: int = KEPT,
    ) -> None:
        if buffer < 1:
            raise ValueError(f"buffer must be 1 or more (events), not {buffer!r}")
        self._publisher = _publisher(url, name, kept)
        require_patched(type(self).__name__)
        self.node = node or socket.gethostname()
        self.dropped = 0
        #: Those of them of which the log tells.
        self._told = 0
        self.published = 0
        #: Called with the number of events that were dropped now. They may raise nothing.
        self.watchers: list[Callable[[int], object]] = []
        self._most = buffer
        self._waiting: deque[tuple[str, float, dict[str, Any] | Event]] = deque()
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._more = Flag()
        self._empty = Flag()
        self._receivers: list[tuple[EventSignal, Callable[..., None]]] = [
            (signal, self._receiver(signal.name)) for signal in _SIGNALS
        ]

    def attach(self, server: object = None) -> FleetEvents:
        """Listen to *server*, or to every server of the process. Returns the listener."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, ANY if server is None else server, weak=False)
        return self

    def detach(self) -> None:
        """Listen to nothing any more. What is in the buffer is still published."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)

    def close(self, timeout: float = 1.0) -> None:
        """Detach, wait up to *timeout* seconds until the buffer is empty, and disconnect."""
        self.detach()
        if self._greenlet is not None:
            self._empty.wait(timeout)  # wait also for the batch that is being published
            self._greenlet.kill()
            self._greenlet = None
            self._drop(len(self._waiting))
            self._waiting.clear()
        self._tell_dropped()
        self._publisher.close()

    def _receiver(self, name: str) -> Callable[..., None]:
        def receive(server: object, event: Event, **extra: object) -> None:
            # The exception's traceback would keep objects alive.
            known = event.as_dict() if isinstance(event, ErrorEvent) else event
            self._add((name, time(), known))

        return receive

    def _add(self, entry: tuple[str, float, dict[str, Any] | Event]) -> None:
        if len(self._waiting) >= self._most:
            if self.dropped == self._told:
                log.warning("the broker is away or too slow: the oldest events are dropped")
            self._waiting.popleft()
            self._drop(1)
        self._waiting.append(entry)
        self._empty.clear()
        self._more.set()
        if self._greenlet is None:  # here, where a hub runs
            self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        pause = PAUSES[0]
        while True:
            self._more.wait()
            self._more.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    with gevent.Timeout(SECONDS):
                        self._publisher.publish(self._texts(batch))
                except BaseException as exc:
                    self._publisher.close()
                    self._put_back(batch)
                    if not isinstance(exc, (Exception, gevent.Timeout)):
                        raise
                    log.warning("events are not published, again in %g s: %s", pause, exc)
                    gevent.sleep(pause)
                    pause = min(2 * pause, PAUSES[1])
                else:
                    self.published += len(batch)
                    pause = PAUSES[0]
            self._tell_dropped()
            self._empty.set()

    def _texts(
        self, batch: Sequence[tuple[str, float, dict[str, Any] | Event]]
    ) -> Iterator[tuple[str, bytes]]:
        # While the broker reads as fast as we write, no write waits: the hub would stand still
        # until all events of an outage are sent.
        began = monotonic()
        for each in batch:
            yield self._text(*each)
            if monotonic() - began > LONG_TURN:
                let_others_run()
                began = monotonic()

    def _text(self, signal: str, when: float, event: dict[str, Any] | Event) -> tuple[str, bytes]:
        fields = event.as_dict() if isinstance(event, Event) else event
        moment = datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds")
        whole = {"time": moment, "node": self.node, "signal": signal, "event": fields}
        return signal, json.dumps(whole, default=str).encode("ascii")

    def _put_back(self, batch: list[tuple[str, float, dict[str, Any] | Event]]) -> None:
        """Put the events back as the oldest of the buffer, as far as there is room."""
        room = max(0, self._most - len(self._waiting))
        kept = batch[len(batch) - room :] if room < len(batch) else batch
        self._drop(len(batch) - len(kept))
        self._waiting.extendleft(reversed(kept))

    def _drop(self, number: int) -> None:
        self.dropped += number
        if number:
            for watcher in self.watchers:
                watcher(number)

    def _tell_dropped(self) -> None:
        if self.dropped > self._told:
            log.warning("%d events were dropped", self.dropped - self._told)
            self._told = self.dropped


def _publisher(url: str, name: str, kept: int) -> Publisher:
    scheme = str(url).partition("://")[0]
    if scheme in ("amqp", "amqps"):
        return _Exchange(url, name)
    if scheme in ("redis", "rediss", "unix"):
        return _Stream(url, name, kept)
    raise ValueError(
        f"FleetEvents takes amqp://, amqps://, redis://, rediss:// and unix:// URLs, not {scheme!r}"
    )


class _Exchange:
    def __init__(self, url: str, name: str) -> None:
        from amqp import Message

        from smtp_blinker.stores.amqp import Broker, drop_connection

        self._broker = Broker.parse(url)
        self._name = name
        self._message = Message
        self._drop = drop_connection
        self._connection: Any = None
        self._channel: Any = None

    def publish(self, batch: Iterable[tuple[str, bytes]]) -> None:
        if self._connection is None:
            self._connection = self._broker.connect(on_blocked=_raise_blocked)
            self._channel = self._connection.channel()
            self._channel.exchange_declare(self._name, "topic", durable=True, auto_delete=False)
        for signal, text in batch:
            message = self._message(text, content_type="application/json", type=signal)
            self._channel.basic_publish(message, self._name, signal)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._drop(connection)


def _raise_blocked(reason: str) -> None:
    raise ConnectionError("RabbitMQ takes no messages: it has raised an alarm")


class _Stream:
    def __init__(self, url: str, name: str, kept: int) -> None:
        from smtp_blinker.stores.redis_stream import make_client

        self._client = make_client(url)
        self._name = name
        self._kept = kept

    def publish(self, batch: Iterable[tuple[str, bytes]]) -> None:
        with self._client.pipeline(transaction=False) as pipeline:
            for signal, text in batch:
                fields: dict[Any, Any] = {"signal": signal, "event": text}
                pipeline.xadd(self._name, fields, maxlen=self._kept, approximate=True)
            pipeline.execute()

    def close(self) -> None:
        self._client.close()


__all__ = ["FleetEvents"]
