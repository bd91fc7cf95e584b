"""The loop of a consumer: one entry after the other, also across outages of the engine."""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from smtp_blinker.stores.contents import Contents
from smtp_blinker.stores.entry import Envelope

from .engine import Delivery, Engine

log = logging.getLogger("smtp_blinker.consumers")

Handler = Callable[[Envelope, bytes], Any]

#: Seconds until the handler gets an entry again, after its first failure, its second, and so on.
DELAYS: Final = (1, 10, 60, 600, 3600)
#: The number of content ids to remember, to recognize duplicates.
REMEMBERED: Final = 10_000
#: The longest time in seconds until the loop notices a signal.
TURN: Final = 1.0
#: Seconds between two heartbeats to the engine while the handler works.
BEAT: Final = 10.0
#: Seconds between two attempts to reach the engine: at first, and at most.
PAUSES: Final = (0.5, 30.0)


def consume(
    url: str,
    handler: Handler,
    *,
    queue: str = "mail",
    contents: Contents | None = None,
    delays: Sequence[int] = DELAYS,
    remember: int = REMEMBERED,
    stop: threading.Event | None = None,
) -> None:
    """Call ``handler(envelope, content)`` for each entry of *queue*, one at a time, until a signal.

    *url* is that of the store: ``amqp://…``, ``amqps://…`` (extra `amqp`), ``redis://…``,
    ``rediss://…`` or ``unix://…`` (extra `redis`). *queue* is the store's routing key or stream;
    it is created if missing. ``envelope`` is an `Envelope` and ``content`` the message as bytes.
    Large contents are read from *contents*, which must be the same as for the store, and are
    deleted there at the end.

    When the handler returns, whatever it returns, the entry is acknowledged. When it raises an
    `Exception`, any consumer gets the entry again after the first of *delays* (seconds), next time
    after the second, and so on. After the last it moves to the dead letters, ``mail.dead`` for the
    queue "mail". An invalid entry goes there at once.

    An entry is a duplicate if its `content_id` is among the last *remember* ones that this process
    has handled: it is acknowledged without a call. So a handler sees each message at least once,
    and more than once only if a consumer or the engine died meanwhile, or if RabbitMQ's
    `consumer_timeout` (30 minutes) ended before the handler did.

    After SIGTERM or SIGINT `consume` returns when the handler has ended, or within a second if it
    is idle; while the engine doesn't answer, it can take 20 seconds. Outside the main thread it
    gets no process signals; *stop*, once set, does the same anywhere. While the engine can't be
    reached, it tries again with growing pauses of up to 30 seconds and logs this (logger
    ``smtp_blinker.consumers``). If a consumer dies, another one gets its entry: from RabbitMQ when
    the connection ends, from Redis after a minute.

    Raises TypeError for a *handler* that isn't callable, ValueError for a wrong URL, queue or
    delay, and ImportError without the extra. It also raises any BaseException of the handler that
    isn't an `Exception` (SystemExit); that entry is delivered again.
    """
    if not callable(handler):
        raise TypeError(f"handler must be callable with an envelope and a content, not {handler!r}")
    if any(int(delay) != delay or delay < 1 for delay in delays):
        raise ValueError(f"delays are whole numbers of seconds from 1, not {delays!r}")
    engine = make_engine(url, queue, delays)
    stop = stop or threading.Event()
    with _signals(stop):
        Consumer(engine, handler, contents, delays, remember, stop).run()


def make_engine(url: str, queue: str, delays: Sequence[int]) -> Engine:
    """The engine that *url* names. Raises ValueError for another URL, or a wrong *queue*."""
    if not isinstance(queue, str) or not queue:
        raise ValueError(f"queue must name a queue or stream, not {queue!r}")
    scheme = str(url).partition("://")[0]
    if scheme in ("amqp", "amqps"):
        from .amqp import AMQPEngine

        return AMQPEngine(url, queue, delays)
    if scheme in ("redis", "rediss", "unix"):
        from .redis_stream import RedisEngine

        return RedisEngine(url, queue, delays)
    raise ValueError(
        f"consume takes amqp://, amqps://, redis://, rediss:// and unix:// URLs, not {scheme!r}"
    )


class Consumer:
    """One consumer; `run` it once."""

    def __init__(
        self,
        engine: Engine,
        handler: Handler,
        contents: Contents | None,
        delays: Sequence[int],
        remember: int,
        stop: threading.Event,
    ) -> None:
        self.engine = engine
        self._handler = handler
        self._contents = contents
        self._delays = delays
        self._remember = remember
        self._stop = stop
        self._ended = threading.Event()
        #: Seconds before the next attempt.
        self._pause = PAUSES[0]
        #: Protects the delivery in progress from the thread that sends heartbeats.
        self._lock = threading.Lock()
        self._in_hand: Delivery | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()

    def run(self) -> None:
        beats = threading.Thread(target=self._send_beats, daemon=True)
        beats.start()
        try:
            while not self._stop.is_set():
                try:
                    self.engine.connect()
                    log.info("consuming from %s", self.engine.name)
                    self._serve()
                except self.engine.errors as exc:
                    pause = self._pause
                    log.warning("%s is away, again in %g s: %s", self.engine.name, pause, exc)
                    self._stop.wait(pause)
                    self._pause = min(2 * pause, PAUSES[1])
        finally:
            self._ended.set()
            beats.join()
            self.engine.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            delivery = self.engine.next(TURN)
            self._pause = PAUSES[0]
            if delivery is not None:
                self._take(delivery)

    def _take(self, delivery: Delivery) -> None:
        try:
            envelope = Envelope.from_json(delivery.head)
        except ValueError as exc:
            log.error("an invalid entry goes to the dead letters: %s", exc)
            self.engine.bury(delivery, str(exc))
            return
        if envelope.content_id in self._seen:
            log.info("entry %s is a duplicate", envelope.id)
        else:
            try:
                with self._while_in_hand(delivery):
                    self._handler(envelope, self._content(envelope, delivery))
            except Exception as exc:
                self._failed(envelope, delivery, exc)
                return
            self._has_seen(envelope.content_id)
        self.engine.done(delivery)
        self._delete_content(envelope)

    def _content(self, envelope: Envelope, delivery: Delivery) -> bytes:
        content = delivery.content
        if envelope.content_key is not None:
            if self._contents is None:
                raise ValueError("the content isn't in the entry: call consume with contents=…")
            with self._contents.open(envelope.content_key) as file:
                content = file.read()
        if hashlib.sha256(content).hexdigest() != envelope.sha256:
            raise ValueError("the content doesn't match the content_id of the envelope")
        return content

    def _failed(self, envelope: Envelope, delivery: Delivery, exc: Exception) -> None:
        if delivery.failures >= len(self._delays):
            log.error(
                "entry %s has failed %d times and goes to the dead letters",
                *(envelope.id, delivery.failures + 1),
                exc_info=exc,
            )
            self.engine.bury(delivery, f"{type(exc).__name__}: {exc}")
            return
        delay = self._delays[delivery.failures]
        log.warning("entry %s has failed, again in %d s", envelope.id, delay, exc_info=exc)
        self.engine.retry(delivery, delay)

    def _has_seen(self, content_id: str) -> None:
        self._seen[content_id] = None
        while len(self._seen) > self._remember:
            self._seen.popitem(last=False)

    def _delete_content(self, envelope: Envelope) -> None:
        if envelope.content_key is None or self._contents is None:
            return
        try:
            self._contents.delete(envelope.content_key)
        except Exception as exc:  # a sweep deletes it later
            log.warning("the content of entry %s was not deleted: %s", envelope.id, exc)

    # Heartbeats

    @contextmanager
    def _while_in_hand(self, delivery: Delivery) -> Iterator[None]:
        with self._lock:
            self._in_hand = delivery
        try:
            yield
        finally:
            with self._lock:
                self._in_hand = None

    def _send_beats(self) -> None:
        while not self._ended.wait(BEAT):
            with self._lock:
                if self._in_hand is not None:
                    try:
                        self.engine.beat(self._in_hand)
                    except self.engine.errors:
                        pass  # the loop meets and handles the same error after the handler


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Within the block SIGTERM and SIGINT set *stop*, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *args: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
