"""The engine of `consume` for Redis: a stream with a consumer group."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from smtp_blinker.session import new_id
from smtp_blinker.stores.redis_stream import CONNECT_SECONDS, DEAD, make_client

from .engine import ANSWER_SECONDS, Delivery

#: The consumer group, which records the entries that were handled or are being handled.
GROUP: Final = "consumers"
#: Seconds without a heartbeat after which another consumer takes over an entry.
DEAD_SECONDS: Final = 60
#: If this many consumers die while they handle an entry, it becomes a dead letter.
CRASHES: Final = 20
#: Seconds to clean up at the end, when Redis may not answer.
CLOSE_SECONDS: Final = 1.0

# Moves the entries whose delay is over back. A stream of delays is in the order of time, since the
# ids contain the times. KEYS: the stream of delays, the stream. ARGV: the delay in milliseconds.
_PUT_BACK: Final = """
local now = redis.call('TIME')
local latest = now[1] * 1000 + math.floor(now[2] / 1000) - ARGV[1]
if latest < 1 then return 0 end
local due = redis.call('XRANGE', KEYS[1], '-', string.format('%.0f', latest), 'COUNT', 100)
for _, entry in ipairs(due) do
    redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
    redis.call('XDEL', KEYS[1], entry[1])
end
return #due
"""


class RedisEngine:
    """A stream, a stream for each delay, and one of dead letters."""

    name = "Redis"
    errors: tuple[type[Exception], ...] = (RedisError, OSError)

    def __init__(self, url: str, stream: str, delays: Sequence[int]) -> None:
        self._url = url
        # Longer than a consumer waits for a new entry.
        self._client = self._make_client(CONNECT_SECONDS, ANSWER_SECONDS)
        self._stream = stream
        self._delays = sorted(set(delays))
        self._consumer = f"{socket.gethostname()}-{os.getpid()}-{new_id()}"
        self._put_back = self._client.register_script(_PUT_BACK)
        self._next_look = 0.0
        self._next_claim = 0.0

    def _make_client(self, connect_seconds: float, answer_seconds: float) -> Any:
        return make_client(
            self._url,
            socket_connect_timeout=connect_seconds,
            socket_timeout=answer_seconds,
            # No retries here, so that no entry is moved twice; `consume` connects again.
            retry=Retry(NoBackoff(), 0),
        )

    def connect(self) -> None:
        try:
            self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as exc:
            if "BUSYGROUP" not in str(exc):  # the group exists already
                raise
        self._next_look = self._next_claim = 0.0

    def next(self, seconds: float) -> Delivery | None:
        if monotonic() >= self._next_look:
            self._next_look = monotonic() + 1
            for delay in self._delays:
                self._put_back(keys=[self._delay_stream(delay), self._stream], args=[delay * 1000])
        found = self._of_the_dead() or self._new(seconds)
        if found is None:
            return None
        id_, fields = found
        return Delivery(
            id_,
            fields.get(b"envelope", b""),
            fields.get(b"content", b""),
            int(fields.get(b"failures", 0)),
            fields,
        )

    def _new(self, seconds: float) -> tuple[bytes, dict[bytes, bytes]] | None:
        answer: Any = self._client.xreadgroup(
            GROUP, self._consumer, {self._stream: ">"}, count=1, block=int(seconds * 1000)
        )
        return answer[0][1][0] if answer else None

    def _of_the_dead(self) -> tuple[bytes, dict[bytes, bytes]] | None:
        """An entry of a consumer without a heartbeat for DEAD_SECONDS, or None."""
        if monotonic() < self._next_claim:
            return None
        answer: Any = self._client.xautoclaim(
            self._stream, GROUP, self._consumer, int(DEAD_SECONDS * 1000), "0-0", count=1
        )
        if not answer[1]:
            self._next_claim = monotonic() + DEAD_SECONDS / 4
            return None
        id_, fields = answer[1][0]
        pending: Any = self._client.xpending_range(self._stream, GROUP, id_, id_, 1)
        if pending and pending[0]["times_delivered"] > CRASHES:
            self.bury(Delivery(id_, b"", b"", 0, fields), f"{CRASHES} consumers have died on it")
            return None
        return id_, fields

    def _delay_stream(self, delay: int) -> str:
        return f"{self._stream}.retry.{delay}"

    def done(self, delivery: Delivery) -> None:
        with self._client.pipeline() as pipeline:
            self._remove(pipeline, delivery)
            pipeline.execute()

    def retry(self, delivery: Delivery, delay: int) -> None:
        fields = {**delivery.original, b"failures": delivery.failures + 1}
        self._move(delivery, self._delay_stream(delay), fields)

    def bury(self, delivery: Delivery, reason: str) -> None:
        self._move(delivery, self._stream + DEAD, {**delivery.original, b"reason": reason})

    def _move(self, delivery: Delivery, stream: str, fields: dict[Any, Any]) -> None:
        with self._client.pipeline() as pipeline:  # one transaction
            pipeline.xadd(stream, fields)
            self._remove(pipeline, delivery)
            pipeline.execute()

    def _remove(self, pipeline: Any, delivery: Delivery) -> None:
        pipeline.xack(self._stream, GROUP, delivery.tag)
        pipeline.xdel(self._stream, delivery.tag)

    def beat(self, delivery: Delivery) -> None:
        # This consumer claims its own entry, which makes its idle time 0.
        self._client.xclaim(
            self._stream, GROUP, self._consumer, 0, [delivery.tag], idle=0, justid=True
        )

    def close(self) -> None:
        self._client.close()
        try:
            with self._make_client(CLOSE_SECONDS, CLOSE_SECONDS) as client:
                # Only a consumer without an entry: others must be able to take over an entry.
                pending = client.xpending_range(
                    self._stream, GROUP, "-", "+", 1, consumername=self._consumer
                )
                if not pending:
                    client.xgroup_delconsumer(self._stream, GROUP, self._consumer)
        except self.errors:
            pass
