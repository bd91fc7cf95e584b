"""The engine of `consume` for RabbitMQ."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final

import amqp
from amqp.exceptions import AMQPError, MessageNacked

from smtp_blinker.stores.amqp import DEAD, Broker, check_name, declare, drop_connection

from .engine import ANSWER_SECONDS, Delivery

#: Seconds. Each side gives up after two of these intervals without a heartbeat.
HEARTBEAT: Final = 30
#: Headers of an entry: the number of failures, and the reason why it is a dead letter.
FAILURES: Final = "failures"
REASON: Final = "reason"


class AMQPEngine:
    """A queue, one for each delay whose entries RabbitMQ moves back, and one of dead letters."""

    name = "RabbitMQ"
    errors: tuple[type[Exception], ...] = (AMQPError, MessageNacked, OSError)

    def __init__(self, url: str, queue: str, delays: Sequence[int]) -> None:
        self._broker = Broker.parse(url)
        check_name("queue", queue)
        self._queue = queue
        self._delays = delays
        self._connection: Any = None
        self._channel: Any = None
        self._arrived: deque[Any] = deque()

    def connect(self) -> None:
        self.close()
        self._arrived.clear()
        self._connection = self._broker.connect(
            confirm_publish=True, heartbeat=HEARTBEAT, on_blocked=lambda reason: None
        )
        # Else py-amqp would wait for an answer for ever.
        self._connection.sock.settimeout(ANSWER_SECONDS)
        channel = declare(self._connection, self._connection.channel(), self._queue)
        for delay in set(self._delays):
            channel.queue_declare(
                self._delay_queue(delay),
                durable=True,
                auto_delete=False,
                arguments={
                    "x-queue-type": "quorum",
                    "x-message-ttl": delay * 1000,
                    "x-dead-letter-exchange": "",
                    "x-dead-letter-routing-key": self._queue,
                    "x-dead-letter-strategy": "at-least-once",
                    "x-overflow": "reject-publish",
                },
            )
        # Prefetch one entry at a time, and leave the others to other consumers.
        channel.basic_qos(0, 1, False)
        channel.basic_consume(self._queue, callback=self._arrived.append)
        self._channel = channel

    def _delay_queue(self, delay: int) -> str:
        return f"{self._queue}.retry.{delay}"

    def next(self, seconds: float) -> Delivery | None:
        deadline = monotonic() + seconds
        while not self._arrived:
            left = deadline - monotonic()
            if left <= 0:
                self._connection.heartbeat_tick()
                return None
            with suppress(socket.timeout):
                self._connection.drain_events(timeout=left)
        message = self._arrived.popleft()
        body = message.body
        head, _, content = (body.encode() if isinstance(body, str) else body).partition(b"\n")
        failures = message.properties.get("application_headers", {}).get(FAILURES, 0)
        return Delivery(message.delivery_tag, head, content, failures, message)

    def done(self, delivery: Delivery) -> None:
        self._channel.basic_ack(delivery.tag)
        # An acknowledgement has no answer, but the next request on the channel has.
        self._channel.queue_declare(self._queue, passive=True)

    def retry(self, delivery: Delivery, delay: int) -> None:
        self._move(delivery, self._delay_queue(delay), {FAILURES: delivery.failures + 1})

    def bury(self, delivery: Delivery, reason: str) -> None:
        self._move(delivery, self._queue + DEAD, {FAILURES: delivery.failures, REASON: reason})

    def _move(self, delivery: Delivery, queue: str, headers: dict[str, Any]) -> None:
        """Add the entry to another queue first, then remove it from this one."""
        known = dict(delivery.original.properties)
        known["application_headers"] = {**known.get("application_headers", {}), **headers}
        message = amqp.Message(delivery.original.body, **known)
        # If the queue is missing, RabbitMQ returns the entry, and this raises.
        self._channel.basic_publish(
            message, "", queue, mandatory=True, confirm_timeout=ANSWER_SECONDS
        )
        self.done(delivery)

    def beat(self, delivery: Delivery) -> None:
        self._connection.send_heartbeat()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            drop_connection(connection)
