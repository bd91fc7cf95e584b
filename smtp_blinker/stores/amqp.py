"""Stores mail in RabbitMQ: 250 means that a durable quorum queue has it. Extra `amqp`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import WeakKeyDictionary

import amqp
import gevent
from amqp.exceptions import NotFound, PreconditionFailed
from gevent.lock import BoundedSemaphore

from ..smtp.reply import Reject
from .amqp_publisher import Publisher
from .batch import BATCHES, Batches, Job
from .contents import Contents
from .pool import Pool
from .queue import INLINE, QueueStore, Unavailable
from .received import too_large

#: RabbitMQ takes 16 MiB since 4.0, and 128 MiB before (its `max_message_size`).
MAX_SIZE: Final = 16 * 2**20
#: The suffix of the name of a dead-letter queue.
DEAD: Final = ".dead"
#: Seconds in which TCP and TLS must connect.
CONNECT_SECONDS: Final = 10
#: The largest `x-delivery-limit`. RabbitMQ 4 has 20 as its default, and takes -1 for "no limit";
#: before 4.0, -1 removes a message the first time that it comes back.
_NO_LIMIT: Final = 2**31 - 1
_ALARM: Final = "RabbitMQ takes no messages: it has raised an alarm"


class AMQPStore(QueueStore):
    """Hands each message to RabbitMQ: ``server.use(store); server.on_data(store)``.

    *url* is ``amqp://USER:PASSWORD@HOST:PORT/VHOST``, or ``amqps://…`` with TLS, whose certificate
    is verified; ``?cacertfile=…&certfile=…&keyfile=…`` name files for that. With the default
    *exchange* the queue *routing_key* is declared where it is missing: a durable quorum queue, and
    another, with ``.dead`` behind its name, for dead letters. With an exchange of yours, its queues
    are yours too; a message that no queue takes is refused (451), not lost.

    250 means that RabbitMQ confirmed the entry: a majority of the queue's nodes has it on the disk.
    The message is one of JSON (`Envelope`), a line feed, and the content. With *contents*
    (`FolderContents`, `S3Contents`) a content larger than *inline* bytes goes there, and the entry
    names it. Without, a message may have *max_size* bytes with its envelope: by default 16 MiB, as
    RabbitMQ 4 has it.

    Where RabbitMQ is away, has raised an alarm (`connection.blocked`), or doesn't answer within
    *timeout* seconds, the hook raises `Unavailable`: the client gets 451 4.3.0 and an `error` event
    tells of it. After three failures in a row mail is refused without being read, for 5 seconds at
    a time, and already at MAIL with ``server.use(store)``. A message may then be in the queue all
    the same, and once more when the client has sent it again: both have one `content_id`.

    *pool* messages are handed over at a time, several of them in one batch, whose confirmations are
    awaited together.

    Raises RuntimeError in a program without monkey patching, ValueError for a URL that is none.
    """

    engine = "RabbitMQ"

    def __init__(
        self,
        url: str,
        *,
        exchange: str = "",
        routing_key: str = "mail",
        contents: Contents | None = None,
        inline: int = INLINE,
        max_size: int = MAX_SIZE,
        timeout: float = 30.0,
        pool: int = 32,
    ) -> None:
        if not isinstance(routing_key, str) or not (routing_key or exchange):
            raise ValueError(f"routing_key must name a queue, not {routing_key!r}")
        check_name("routing_key", routing_key)
        check_name("exchange", exchange)
        super().__init__(
            contents=contents, inline=inline, max_size=max_size, timeout=timeout, pool=pool
        )
        self.broker = Broker.parse(url)
        self.exchange = exchange
        self.routing_key = routing_key
        self._declaring = BoundedSemaphore()
        self._pool = Pool(BATCHES + 1, self._connect, Publisher.is_alive, self._drop)
        #: For each hub, a connection that RabbitMQ has blocked: it learns when the alarm ends.
        self._blocked: WeakKeyDictionary[Any, Publisher] = WeakKeyDictionary()
        self._batches = Batches(self._pool, self._send, timeout)

    def _connect(self) -> Publisher:
        self._check_alarm()
        connection = self.broker.connect(on_blocked=_raise_blocked, on_unblocked=_raise_unblocked)
        try:
            publisher = Publisher(connection)
            if self.exchange:
                # Raises NotFound for a missing one; the type plays no part.
                publisher.channel.exchange_declare(self.exchange, "", passive=True)
            else:
                # RabbitMQ refuses a declaration while another connection declares the queue.
                with self._declaring:
                    publisher.channel = declare(connection, publisher.channel, self.routing_key)
            publisher.listen(self.exchange, self.routing_key)
        except BaseException:
            drop_connection(connection)
            raise
        return publisher

    def _send(self, publisher: Publisher, jobs: Sequence[Job]) -> None:
        self._check_alarm()
        try:
            publisher.publish(jobs)
        except _Alarm:
            publisher.is_blocked = True
            raise
        except PreconditionFailed as exc:
            # The only trace of its max_message_size. Of several, one is; a large one comes alone.
            if "size" in str(exc) and len(jobs) == 1:
                jobs[0].end(too_large())
            raise

    def _drop(self, publisher: Publisher) -> None:
        hub = gevent.get_hub()
        if publisher.is_blocked and hub not in self._blocked:
            self._blocked[hub] = publisher
        else:
            drop_connection(publisher.connection)

    def _check_alarm(self) -> None:
        """Raise `Unavailable` during an alarm of RabbitMQ, which reads everything that was sent
        meanwhile, on any connection, after the alarm: each try would make one more duplicate."""
        hub = gevent.get_hub()
        publisher = self._blocked.get(hub)
        if publisher is None:
            return
        try:
            while True:
                publisher.read(timeout=0)
        except TimeoutError:
            raise Unavailable(_ALARM) from None
        except Exception:  # it is over, or RabbitMQ has been started anew
            if self._blocked.pop(hub, None) is not None:
                drop_connection(publisher.connection)

    def _explained(self, job: Job) -> Unavailable | Reject:
        failure = job.failure
        if isinstance(failure, Unavailable):
            may_have_it = failure.may_have_it and job.is_sent
            return Unavailable(str(failure), may_have_it=may_have_it)
        if isinstance(failure, Reject):
            return failure
        if isinstance(failure, PreconditionFailed):
            return Unavailable(f"RabbitMQ refused an entry: {failure}", may_have_it=True)
        return Unavailable(f"RabbitMQ is away: {failure}", may_have_it=job.is_sent)

    def _check(self) -> None:
        self._check_alarm()
        try:
            with self._pool.use():
                pass
        except Unavailable:
            raise
        except Exception as exc:
            raise Unavailable(f"RabbitMQ is away: {exc}") from exc

    def close(self) -> None:
        self._pool.close()
        publisher = self._blocked.pop(gevent.get_hub(), None)
        if publisher is not None:
            drop_connection(publisher.connection)


class _Alarm(Unavailable):
    """RabbitMQ has blocked the connection."""


class _AlarmIsOver(Exception):
    pass


def _raise_blocked(reason: str) -> None:
    raise _Alarm(_ALARM, may_have_it=True)


def _raise_unblocked() -> None:
    raise _AlarmIsOver


def drop_connection(connection: Any) -> None:
    """Close the socket and forget the connection, without waiting."""
    transport = connection.transport if connection.connected else None
    if transport is not None:
        # Before `collect`, which would wait for the other side's end of TLS.
        with suppress(Exception):
            transport.sock.close()
    with suppress(Exception):
        connection.collect()


def declare(connection: Any, channel: Any, queue: str) -> Any:
    """Have *queue* and that of its dead letters, and return the channel to go on with.

    A queue that is there stays as it is, whatever its arguments.
    """
    dead = queue + DEAD
    arguments = {
        "x-queue-type": "quorum",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": dead,
        # What a consumer neither acknowledged nor refused so many times, because it crashed.
        "x-delivery-limit": 20,
        # A dead letter is confirmed by its queue before it leaves this one, which the broker
        # does for queues only that refuse what is too much.
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    # A dead letter stays, however often somebody looks at it and puts it back.
    of_dead = {"x-queue-type": "quorum", "x-delivery-limit": _NO_LIMIT}
    for name, its in ((dead, of_dead), (queue, arguments)):
        try:
            channel.queue_declare(name, passive=True)
        except NotFound:  # which has closed the channel
            channel = connection.channel()
            channel.queue_declare(name, durable=True, auto_delete=False, arguments=its)
    return channel


def check_name(name: str, value: Any) -> None:
    """Raise ValueError for what can't be the name of a queue or an exchange of ours."""
    # AMQP has 255 octets for a name; the names of further queues are longer than the queue's.
    if not isinstance(value, str) or len(value.encode()) > 240:
        raise ValueError(f"{name} must be a name of 240 bytes at most, not {value!r}")


def _check_readable(name: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as exc:
        raise ValueError(f"can't read {name} {path}: {exc.strerror}") from exc


@dataclass(frozen=True, slots=True)
class Broker:
    """The address of RabbitMQ, and our credentials there."""

    host: str
    user: str
    password: str
    virtual_host: str
    #: The argument for py-amqp: False, or arguments for the context.
    tls: bool | Mapping[str, Any]

    @classmethod
    def parse(cls, url: str) -> Broker:
        """The broker at ``amqp[s]://…``. Raises ValueError, without showing a password."""
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("amqp", "amqps") and parts.hostname and parts.port != 0
        except (ValueError, AttributeError):  # the port is no number, or the URL no text
            valid = False
        if not valid:
            raise ValueError("a RabbitMQ URL looks like amqp://USER:PASSWORD@HOST:PORT/VHOST")
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if unknown := query.keys() - {"cacertfile", "certfile", "keyfile"}:
            raise ValueError(
                f"a RabbitMQ URL takes ?cacertfile, certfile and keyfile, not {min(unknown)}"
            )
        tls: bool | Mapping[str, Any] = False
        if parts.scheme == "amqps":
            files = {name: query.get(name) for name in ("certfile", "keyfile")}
            for name, path in query.items():
                _check_readable(name, path)
            tls = {"server_hostname": parts.hostname, "ca_certs": query.get("cacertfile"), **files}
        name = parts.hostname or ""
        host = f"[{name}]" if ":" in name else name
        port = parts.port or (5671 if tls else 5672)
        return cls(
            f"{host}:{port}",
            unquote(parts.username or "guest"),
            unquote(parts.password or "guest"),
            unquote(parts.path[1:]) or "/",
            tls,
        )

    def connect(self, **more: Any) -> Any:
        """A connection of py-amqp, ready for use; raises what py-amqp does."""
        connection = amqp.Connection(
            self.host,
            self.user,
            self.password,
            login_method="PLAIN",
            virtual_host=self.virtual_host,
            ssl=self.tls,
            connect_timeout=CONNECT_SECONDS,
            client_properties={"connection_name": "smtp_blinker"},
            **more,
        )
        try:
            connection.connect()
        except BaseException:
            drop_connection(connection)
            raise
        return connection
