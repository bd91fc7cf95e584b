"""Counters in Redis for all nodes. Needs ``pip install 'smtp_blinker[redis]'``.

It uses redis-py with gevent's sockets, so that no call blocks the hub, with or without monkey
patching.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import gevent
from gevent import Timeout, monkey
from gevent import socket as gevent_socket
from gevent.lock import BoundedSemaphore

from ..signals import ErrorEvent, emit_error
from .base import PolicyFailure
from .counters import Hit, MemoryCounters
from .redis_scripts import SCRIPTS, packed

try:
    from redis.backoff import NoBackoff
    from redis.connection import Connection, UnixDomainSocketConnection, parse_url
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import NoScriptError, RedisError
    from redis.retry import Retry
except ImportError as exc:
    raise ImportError(
        "smtp_blinker.policies.RedisCounters needs redis: pip install 'smtp_blinker[redis]'"
    ) from exc

log: Final = logging.getLogger("smtp_blinker")

#: Connections to Redis of one process.
MAX_CONNECTIONS: Final = 8
#: Seconds between two tries while Redis is unreachable.
RETRY_SECONDS: Final = 1.0
#: Seconds to wait for an answer that is too late for its client. After that Redis counts as
#: unreachable.
LATE_SECONDS: Final = 1.0
#: Seconds until a lease expires without renewal, and between two renewals.
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0
#: Leases that one command renews.
RENEW_AT_ONCE: Final = 200
#: Seconds for a command that no client waits for.
_PATIENCE: Final = 0.05


class _TCPConnection(Connection):
    def _connect(self) -> Any:
        sock = gevent_socket.create_connection((self.host, self.port))
        sock.setsockopt(gevent_socket.IPPROTO_TCP, gevent_socket.TCP_NODELAY, 1)
        return sock


class _UnixConnection(UnixDomainSocketConnection):
    def _connect(self) -> Any:
        sock = gevent_socket.socket(gevent_socket.AF_UNIX, gevent_socket.SOCK_STREAM)
        sock.connect(self.path)
        return sock


class _Pool:
    """The connections of one hub in one process."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: list[Any] = []
        self.room = BoundedSemaphore(MAX_CONNECTIONS)
        #: The greenlet that renews the leases while there are any; it ends with its hub.
        self.heart: Any = None
        #: Commands whose answers are too late but may still arrive.
        self.late = 0


def _parse(url: str) -> dict[str, Any]:
    """The settings of connections to *url*. Raises ValueError, which shows no password."""
    try:
        settings: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        path = urlsplit(url).path.strip("/")
    except (ValueError, AttributeError) as exc:
        like = "redis://USER:PASSWORD@HOST:PORT/DB or unix:///PATH"
        raise ValueError(f"a Redis URL looks like {like}: {exc}") from exc
    if path and not path.isdecimal() and not url.startswith("unix:"):
        # redis-py would use database 0.
        raise ValueError(f"the path of a Redis URL is the number of a database, not {path!r}")
    return settings


class RedisCounters:
    """Counts for all nodes that use the same *url*: ``redis://[[name]:password@]host[:port][/db]``,
    ``unix:///path``, or ``rediss://`` for TLS. Redis 7 or newer, or Valkey.

    *prefix* is the beginning of each key. Each command is one Lua call; a process has at most
    `MAX_CONNECTIONS` connections. If Redis doesn't answer in time, the event is counted in this
    process, starting from zero (leases: from those of this process), and also in Redis when it
    gets to it. One `error` event reports it, with the code "CountersAway". If the late answer comes
    within `LATE_SECONDS`, nothing more happens. If not, or without a connection, Redis counts as
    unreachable: each process counts alone, so all nodes together may allow the limit once per node,
    and one command tries again every `RETRY_SECONDS`. A lease of a dead node expires
    `LEASE_SECONDS` after its last renewal.

    Raises ValueError for a wrong URL, and RuntimeError for ``rediss://`` in a process without
    monkey-patched sockets.
    """

    def __init__(self, url: str, *, prefix: str = "smtp_blinker:") -> None:
        self._settings = _parse(url)
        kind = self._settings.pop("connection_class", None)
        if kind is None:
            self._kind: Any = _TCPConnection
        elif issubclass(kind, UnixDomainSocketConnection):
            self._kind = _UnixConnection
        elif not monkey.is_module_patched("ssl"):
            raise RuntimeError(
                "rediss:// needs monkey patched sockets: call gevent.monkey.patch_all() first in "
                "the program, or use redis:// or unix://"
            )
        else:
            self._kind = kind
        # RESP2, so that each command has one reply; and no retries, which would sleep.
        self._settings |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        self._settings.setdefault("client_name", "smtp_blinker")
        try:
            self._connection()  # not connected yet
        except TypeError as exc:
            raise ValueError(f"the URL of RedisCounters has a wrong setting: {exc}") from exc
        self._prefix = prefix
        self._pools: weakref.WeakKeyDictionary[Any, _Pool] = weakref.WeakKeyDictionary()
        self._server: Any = lambda: None
        #: When to try again; None while Redis is reachable.
        self._retry_at: float | None = None
        #: Whether the current outage or slowness was reported by `error`.
        self._is_told = False
        #: The counters for outages, and all leases of this process.
        self._local = MemoryCounters()

    @property
    def away(self) -> bool:
        return self._retry_at is not None or self._pool().late > 0

    def attach(self, server: Any) -> None:
        """Report outages by the `error` signal of the first attached server."""
        if self._server() is None:
            self._server = weakref.ref(server)

    # What is counted

    def hit(self, key: str, number: int, per: float, timeout: float) -> Hit:
        answer = self._script("hit", timeout, ["w:" + key], [number, _micro(per)])
        if answer is None:
            return self._local.hit(key, number, per)
        which, time_or_wait = answer
        return Hit(time_or_wait / 1e6, 0.0) if which else Hit(0.0, float(time_or_wait))

    def hit_both(
        self, key: str, other: str, number: int, per: float, timeout: float
    ) -> tuple[Hit, Hit]:
        answer = self._script("hit", timeout, ["w:" + key, "w:" + other], [number, _micro(per)])
        if answer is None:
            return self._local.hit_both(key, other, number, per)
        which, time_or_wait = answer
        if which == 0:
            return Hit(0.0, float(time_or_wait)), Hit(0.0, float(time_or_wait))
        waits = Hit(time_or_wait / 1e6, 0.0)
        return (waits, Hit(0.0, 0.0)) if which == 1 else (Hit(0.0, 0.0), waits)

    def undo(self, key: str, mark: float) -> None:
        self._local.undo(key, mark)
        self._command(_PATIENCE, "LREM", f"{self._prefix}w:{key}", 1, f"{mark:.0f}")

    def clear(self, key: str) -> None:
        self._local.clear(key)
        self._command(_PATIENCE, "DEL", f"{self._prefix}w:{key}")

    def lease(self, key: str, holder: str, number: int, timeout: float) -> bool:
        life = _micro(LEASE_SECONDS)

        def came_late(answer: Any) -> None:
            if holder not in self._local.leases.get(key, ()):
                self._forget(key, holder)

        words = self._words("lease", ["l:" + key], [holder, number, life])
        answer = self._command(timeout, *words, script=SCRIPTS["lease"].text, came_late=came_late)
        if answer == 0:
            return False
        # Redis counts the leases of this process too; without Redis they are the only ones.
        local = number if answer is None else float("inf")
        if not self._local.lease(key, holder, local):  # type: ignore[arg-type]
            return False
        pool = self._pool()
        if pool.heart is None:
            pool.heart = gevent.spawn(self._beat)
        return True

    def release(self, key: str, holder: str) -> None:
        self._local.release(key, holder)
        pool = self._pool()
        if not self._local.leases and pool.heart is not None:
            pool.heart.kill(block=False)
            pool.heart = None
        self._forget(key, holder)

    def _forget(self, key: str, holder: str) -> None:
        self._command(_PATIENCE, "ZREM", f"{self._prefix}l:{key}", holder)

    def triplet(self, key: str, delay: float, window: float, keep: float, timeout: float) -> float:
        times = [_micro(delay), _micro(window), _micro(keep)]
        answer = self._script("triplet", timeout, ["t:" + key], times)
        if answer is None:
            return self._local.triplet(key, delay, window, keep)
        return float(answer) / 1e6

    def _beat(self) -> None:
        """Renew the leases of this process periodically."""
        while True:
            gevent.sleep(RENEW_SECONDS)
            self.renew()

    def renew(self) -> None:
        """Renew all leases of this process now, also those that Redis has lost or doesn't know."""
        leases = self._local.leases
        todo = [(key, holder) for key, holders in leases.items() for holder in holders]
        for start in range(0, len(todo), RENEW_AT_ONCE):
            some = [
                (key, holder)
                for key, holder in todo[start : start + RENEW_AT_ONCE]
                if holder in leases.get(key, ())
            ]
            if some:
                holders = [holder for _, holder in some]
                keys = ["l:" + key for key, _ in some]
                self._script("renew", _PATIENCE, keys, [_micro(LEASE_SECONDS), *holders])
            for key, holder in some:
                if holder not in leases.get(key, ()):
                    self._forget(key, holder)  # returned meanwhile, and perhaps renewed after that

    # Redis

    def _script(self, name: str, timeout: float, keys: list[str], args: list[Any]) -> Any:
        """The result of the script; None if Redis is unreachable or slow."""
        return self._command(timeout, *self._words(name, keys, args), script=SCRIPTS[name].text)

    def _words(self, name: str, keys: list[str], args: list[Any]) -> tuple[Any, ...]:
        names = [self._prefix + key for key in keys]
        return ("EVALSHA", SCRIPTS[name].sha, len(keys), *names, *args)

    def _command(
        self,
        timeout: float,
        *words: Any,
        script: str = "",
        came_late: Callable[[Any], None] = lambda answer: None,
    ) -> Any:
        """Redis's answer within *timeout* seconds; None if Redis is unreachable or slow.

        *script* is the source of the script that EVALSHA names. *came_late* is called with an
        answer that comes after None was returned.
        """
        if self._retry_at is not None:
            now = time.monotonic()
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY_SECONDS  # other commands don't try meanwhile
        pool = self._pool()
        deadline = time.monotonic() + timeout
        if not pool.room.acquire(timeout=timeout):
            return None  # the commands that use the connections report the reason
        if pool.idle:
            answer, task = self._ask(pool, timeout, words, script)
            if task is None:
                self._is_there()
                return answer
        else:
            task = gevent.spawn(self._answer, pool, words, script)
        task.join(max(0.0, deadline - time.monotonic()))
        if not task.ready():
            gevent.sleep(0)  # if this process was stalled, the answer has arrived already
        if not task.ready():
            self._trouble(TimeoutError(f"no answer within {timeout:g} s"))
            pool.late += 1
            gevent.spawn(self._wait_longer, pool, task, came_late)
            return None
        answer, failure = task.get()
        if failure is not None:
            self._went_away(failure)
            return None
        self._is_there()
        return answer

    def _ask(self, pool: _Pool, timeout: float, words: tuple[Any, ...], script: str) -> Any:
        """Try the command on an idle connection, without a greenlet, which would cost the most.

        Returns the answer and None; or None and a greenlet that runs `_answer`, if the answer
        hasn't arrived yet or the connection failed.
        """
        connection = pool.idle.pop()
        asked = None
        timer = Timeout.start_new(timeout)
        try:
            connection.send_packed_command([packed(words)], check_health=False)
            asked = connection
            answer = connection.read_response(disconnect_on_error=False)
        except Timeout as exc:
            if exc is not timer or asked is None:
                connection.disconnect()
            if exc is not timer:
                pool.room.release()
                raise
            return None, gevent.spawn(self._answer, pool, words, script, asked)
        except NoScriptError:
            pool.idle.append(connection)
            return None, gevent.spawn(self._answer, pool, ("EVAL", script, *words[2:]), script)
        except (RedisError, OSError):
            # Redis has restarted, or has closed the idle connection.
            connection.disconnect()
            return None, gevent.spawn(self._answer, pool, words, script)
        except BaseException:
            connection.disconnect()
            pool.room.release()
            raise
        finally:
            timer.close()
        pool.idle.append(connection)
        pool.room.release()
        return answer, None

    def _answer(
        self, pool: _Pool, words: tuple[Any, ...], script: str, asked: Any = None
    ) -> tuple[Any, Exception | None]:
        """The answer, or the exception. Releases the place in *pool*.

        *asked* is a connection on which the command was already sent.
        """
        try:
            try:
                if asked is not None:
                    return _receive(pool, asked), None
                return self._exchange(pool, words), None
            except NoScriptError:
                return self._exchange(pool, ("EVAL", script, *words[2:])), None
        except (RedisError, OSError) as exc:
            return None, exc.with_traceback(None)
        finally:
            pool.room.release()

    def _wait_longer(self, pool: _Pool, task: Any, came_late: Callable[[Any], None]) -> None:
        task.join(LATE_SECONDS)
        pool.late -= 1
        if not task.ready():
            task.kill(block=False)
            self._went_away(TimeoutError(f"no answer for {LATE_SECONDS:g} s"))
            return
        answer, failure = task.get()
        if failure is not None:
            self._went_away(failure)
            return
        self._is_there()
        came_late(answer)

    def _exchange(self, pool: _Pool, words: tuple[Any, ...]) -> Any:
        while True:
            known = bool(pool.idle)
            connection = pool.idle.pop() if known else self._connection()
            try:
                if not known:
                    connection.connect()
                connection.send_packed_command([packed(words)], check_health=False)
            except BaseException as exc:
                connection.disconnect()
                if known and isinstance(exc, RedisConnectionError):
                    continue
                raise
            try:
                return _receive(pool, connection)
            except RedisConnectionError:
                if not known:
                    raise
                # Redis has restarted, or has closed the idle connection.

    def _connection(self) -> Any:
        return self._kind(**self._settings)

    def _pool(self) -> _Pool:
        hub = gevent.get_hub()
        pool = self._pools.get(hub)
        if pool is None or pool.pid != os.getpid():
            pool = self._pools[hub] = _Pool()
        return pool

    def _is_there(self) -> None:
        self._retry_at = None
        if self._is_told and not self._pool().late:
            self._is_told = False
            log.info("the counters in Redis are back")

    def _went_away(self, exc: Exception) -> None:
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._trouble(exc)

    def _trouble(self, exc: Exception) -> None:
        """Send one `error` event per outage, when something was counted in this process only."""
        if not self._is_told:
            self._is_told = True
            failure = PolicyFailure(f"{type(self).__name__}: {type(exc).__name__}: {exc}")
            failure.__cause__ = exc
            emit_error(self._server(), ErrorEvent(failure, "CountersAway"))


def _receive(pool: _Pool, connection: Any) -> Any:
    """Receive the answer, and return *connection* to the idle ones of *pool*."""
    try:
        answer = connection.read_response()
    except NoScriptError:
        pool.idle.append(connection)
        raise
    except BaseException:
        connection.disconnect()
        raise
    pool.idle.append(connection)
    return answer


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)
