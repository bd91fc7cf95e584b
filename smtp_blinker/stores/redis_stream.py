"""Adds mail to a Redis stream, and replies 250 after the answer to XADD. Extra `redis`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from ..smtp.reply import Reject
from .batch import BATCHES, LARGEST, Batches, Job
from .contents import Contents
from .pool import Pool
from .queue import INLINE, QueueStore, Unavailable
from .received import too_large

#: Redis's default limit for a value (`proto-max-bulk-len`).
MAX_SIZE: Final = 512 * 2**20
#: The suffix for the name of the stream of dead letters.
DEAD: Final = ".dead"
#: Seconds for TCP and TLS.
CONNECT_SECONDS: Final = 10


class RedisStreamStore(QueueStore):
    """Adds each message to a stream of Redis: ``server.use(store); server.on_data(store)``.

    *url* is a URL of redis-py: ``redis://USER:PASSWORD@HOST:PORT/DB``, ``rediss://…`` with TLS, or
    ``unix://…``. An entry has the fields ``envelope`` (the JSON object of `Envelope`), ``content``
    and ``content_id``, which is the same for duplicates. With *contents* (`FolderContents`,
    `S3Contents`) a content larger than *inline* bytes is stored there, and the entry has its key.
    Without them, a message with its envelope may have up to *max_size* bytes: by default 512 MiB,
    Redis's own limit. Redis keeps all of it in memory.

    250 means that Redis has answered XADD. Redis may answer before the entry is on its disk. To
    prevent this, set ``appendonly yes``, ``appendfsync always`` and ``maxmemory-policy noeviction``
    there; or, with Redis 7.2 and later, use *wait_aof*: the number of servers (0 or 1) and of
    replicas that must have it on their disks, for example ``wait_aof=(1, 1)``.

    If Redis is unreachable, out of memory, or doesn't answer within *timeout* seconds, the hook
    raises `Unavailable`: the client gets 451 4.3.0 and an `error` event reports it. After three
    failures in a row mail is refused unread for 5 seconds at a time, and with
    ``server.use(store)`` already at MAIL. A refused message may be in the stream nevertheless, and
    again after the client's retry: both have the same `content_id`.

    Up to *pool* messages are delivered at a time, several of them in one round trip. Raises
    RuntimeError in a program without monkey patching, ValueError for a wrong URL.
    """

    engine = "Redis"

    def __init__(
        self,
        url: str,
        *,
        stream: str = "mail",
        contents: Contents | None = None,
        inline: int = INLINE,
        max_size: int = MAX_SIZE,
        wait_aof: tuple[int, int] | None = None,
        timeout: float = 30.0,
        pool: int = 32,
    ) -> None:
        if wait_aof is not None and not _is_wait_aof(wait_aof):
            raise ValueError(f"wait_aof is (0 or 1, a number of replicas), not {wait_aof!r}")
        if not isinstance(stream, str) or not stream:
            raise ValueError(f"stream must name a stream, not {stream!r}")
        super().__init__(
            contents=contents, inline=inline, max_size=max_size, timeout=timeout, pool=pool
        )
        self.stream = stream
        self.wait_aof = wait_aof
        # This also checks the URL. Our own pool makes its connections with these settings.
        self._settings = parse_url(url)
        encoder: Any = self._settings.get_encoder()
        name = encoder.encode(stream)
        #: The beginning of each XADD.
        self._begin = b"*9\r\n$4\r\nXADD\r\n$%d\r\n%b\r\n$1\r\n*\r\n$10\r\ncontent_id\r\n" % (
            len(name),
            name,
        )
        #: For a larger value Redis ends the connection, and its error message may get lost.
        self._engine_takes = max_size
        self._pool: Pool[Any] = Pool(BATCHES + 1, self._connect, is_alive, drop)
        self._batches = Batches(self._pool, self._send, timeout)

    def _connect(self) -> Any:
        connection = connect(self._settings)
        try:
            self._engine_takes = largest_value(connection)
            if self.wait_aof is not None:
                self._wait(connection, (0, 0))  # before an entry is added, not after
        except BaseException:
            drop(connection)
            raise
        return connection

    def _send(self, connection: Any, jobs: Sequence[Job]) -> None:
        sent = []
        for job in jobs:
            if max(len(job.entry.head), len(job.content)) > self._engine_takes:
                job.end(too_large())
            else:
                sent.append(job)
                job.is_sent = True
        pieces = [piece for job in sent for piece in self._command(job)]
        # A large one is sent without another copy of it.
        is_small = sum(map(len, pieces)) <= LARGEST
        connection.send_packed_command([b"".join(pieces)] if is_small else pieces)
        added = []
        demoted = None
        for job in sent:
            try:
                connection.read_response()
                added.append(job)
            except ResponseError as exc:
                job.end(exc)
                demoted = exc if isinstance(exc, ReadOnlyError) else demoted
        if added and self.wait_aof is not None:
            self._wait(connection, self.wait_aof)
        for job in added:
            job.end()
        if demoted is not None:
            # After a failover the host name leads to another server; drop this connection.
            raise demoted

    def _command(self, job: Job) -> tuple[bytes, ...]:
        """The pieces of XADD as Redis reads it (RESP, "bulk strings"): see docs/layout.md."""
        content_id = job.entry.content_id.encode("ascii")
        head, content = job.entry.head, job.content
        fields = b"$%d\r\n%b\r\n$8\r\nenvelope\r\n$%d\r\n%b\r\n$7\r\ncontent\r\n$%d\r\n"
        before = fields % (len(content_id), content_id, len(head), head, len(content))
        return self._begin, before, content, b"\r\n"

    def _wait(self, connection: Any, wanted: tuple[int, int]) -> None:
        # Shorter than the deadline, which would close the connection.
        milliseconds = max(1, int(self.timeout * 900))
        try:
            got = ask(connection, "WAITAOF", *wanted, milliseconds)
        except ResponseError as exc:
            why = "Redis before 7.2 has no WAITAOF" if "unknown command" in str(exc) else str(exc)
            raise Unavailable(f"wait_aof can't be used: {why}", may_have_it=True) from exc
        if got[0] < wanted[0] or got[1] < wanted[1]:
            raise Unavailable(
                f"Redis and {got[1]} replicas have the entry on {sum(got)} disks, not as wait_aof "
                f"asks on {wanted}",
                may_have_it=True,
            )

    def _explained(self, job: Job) -> Unavailable | Reject:
        failure = job.failure
        if isinstance(failure, Unavailable):
            return Unavailable(str(failure), may_have_it=failure.may_have_it)
        if isinstance(failure, Reject):
            return failure
        if isinstance(failure, OutOfMemoryError):
            return Unavailable("Redis is out of memory (maxmemory)")
        if isinstance(failure, ResponseError):
            return Unavailable(f"Redis refused the entry: {failure}")
        return Unavailable(f"Redis is away: {failure}", may_have_it=job.is_sent)

    def _check(self) -> None:
        try:
            with self._pool.use() as connection:
                ask(connection, "PING")
                self._check_type(connection)
        except Unavailable:
            raise
        except (RedisError, OSError) as exc:
            raise Unavailable(f"Redis is away: {exc}") from exc

    def _check_type(self, connection: Any) -> None:
        """Raise `Unavailable` if the key has another type, such as a list of Celery's."""
        try:
            kind = ask(connection, "TYPE", self.stream)
        except ResponseError:
            return  # this user may not ask
        kind = kind.decode() if isinstance(kind, bytes) else kind
        if kind not in ("stream", "none"):
            raise Unavailable(f"the key {self.stream!r} of Redis is a {kind}, not a stream")

    def close(self) -> None:
        self._pool.close()


def parse_url(url: str) -> redis.ConnectionPool:
    """Parse *url* into settings of connections. Raises ValueError, without the password."""
    try:
        path = urlsplit(url).path
        settings = redis.ConnectionPool.from_url(url)
        settings.connection_class(**settings.connection_kwargs)  # it doesn't connect yet
    except TypeError as exc:
        raise ValueError(f"the Redis URL has a wrong setting: {exc}") from exc
    except (ValueError, AttributeError) as exc:
        like = "redis://USER:PASSWORD@HOST:PORT/DB"
        raise ValueError(f"a Redis URL looks like {like}: {exc}") from exc
    if not url.startswith("unix:") and not path.strip("/").isdecimal() and path.strip("/"):
        raise ValueError(f"the path of a Redis URL is the number of a database, not {path!r}")
    return settings


def make_client(url: str, **settings: Any) -> redis.Redis:
    """A client with *settings*, whose answers are those of RESP 2, as bytes, whatever *url* has set
    for other programs. Raises ValueError, without the password.
    """
    parse_url(url)
    known = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    # Those of the URL would win over keywords of `from_url`.
    known |= {"protocol": 2, "decode_responses": False, **settings}
    return redis.Redis.from_pool(redis.ConnectionPool(**known))


def _is_wait_aof(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and value[0] in (0, 1)
        and isinstance(value[1], int)
        and value[1] >= 0
    )


def connect(settings: redis.ConnectionPool) -> Any:
    """Open a connection with *settings*; raises what redis-py raises."""
    once = Retry(NoBackoff(), 0)
    options = {"socket_connect_timeout": CONNECT_SECONDS, "retry": once}
    connection: Any = settings.connection_class(**{**settings.connection_kwargs, **options})
    try:
        connection.connect()
    except BaseException:
        drop(connection)
        raise
    return connection


def largest_value(connection: Any) -> int:
    """The largest value in octets; the default if Redis doesn't reveal it (a managed service)."""
    try:
        answer = ask(connection, "CONFIG", "GET", "proto-max-bulk-len")
    except ResponseError:
        return MAX_SIZE
    values = answer.values() if isinstance(answer, dict) else answer[1:]  # RESP 3, RESP 2
    return int(next(iter(values), MAX_SIZE))


def ask(connection: Any, *words: Any) -> Any:
    """The answer to one command; raises what redis-py raises."""
    connection.send_command(*words)
    return connection.read_response()


def is_alive(connection: Any) -> bool:
    """Whether Redis hasn't closed the connection meanwhile."""
    try:
        # Readable means that it was closed, or has an unexpected answer.
        return not connection.can_read(timeout=0)
    except (RedisError, OSError):
        return False


def drop(connection: Any) -> None:
    connection.disconnect()
