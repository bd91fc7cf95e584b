"""Counters for all nodes, in Redis. Needs ``pip install 'smtp_blinker[redis]'``.

redis-py speaks to Redis; its sockets are gevent's here, so that no call holds the hub up, in a
process that is monkey patched and in one that isn't.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import weakref
from typing import Any, Final

import gevent
from gevent import Timeout, monkey
from gevent import socket as gevent_socket
from gevent.lock import BoundedSemaphore

from ..signals import ErrorEvent, emit_error
from .base import PolicyFailure
from .counters import Hit, MemoryCounters

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
#: Seconds between two tries while Redis is away.
RETRY_SECONDS: Final = 1.0
#: Seconds that a lease lives without its node, and between two renewals.
LEASE_SECONDS: Final = 30.0
RENEW_SECONDS: Final = 10.0
#: Leases that are renewed by one command.
RENEW_AT_ONCE: Final = 200
#: Seconds to wait for what no client waits for.
_PATIENCE: Final = 0.05

# Redis runs a script as one step. Times are its own, in microseconds: the nodes' clocks differ.
_NOW: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
"""
#: The times of events, newest first: number, per. One event in each window or, where one is full,
#: in none: then it returns which one and how long to wait, else 0 and the time.
_HIT: Final = f"""{_NOW}
local number, per = tonumber(ARGV[1]), tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
    local oldest = redis.call('LINDEX', key, number - 1)
    if oldest and oldest + per > now then return {{i, oldest + per - now}} end
end
for _, key in ipairs(KEYS) do
    redis.call('LPUSH', key, string.format('%.0f', now))
    redis.call('LTRIM', key, 0, number - 1)
    redis.call('PEXPIRE', key, math.ceil(per / 1000))
end
return {{0, now}}
"""
#: The holders by the time when their leases end: holder, number, time to live.
_LEASE: Final = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2])
    and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] / 1000))
return 1
"""
#: A holder for each key, behind the time to live.
_RENEW: Final = f"""{_NOW}
for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, string.format('%.0f', now + ARGV[1]), ARGV[i + 1])
    redis.call('PEXPIRE', key, math.ceil(ARGV[1] / 1000))
end
return 1
"""
#: The first time, or "-" of those that came back: delay, window, keep.
_TRIPLET: Final = f"""{_NOW}
local first = redis.call('GET', KEYS[1])
if not first then
    redis.call('SET', KEYS[1], string.format('%.0f', now), 'PX', math.ceil(ARGV[2] / 1000))
    return tonumber(ARGV[1])
end
if first ~= '-' and first + ARGV[1] > now then return first + ARGV[1] - now end
redis.call('SET', KEYS[1], '-', 'PX', math.ceil(ARGV[3] / 1000))
return 0
"""


class _Script:
    """A Lua script and the name that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_SCRIPTS: Final = {
    name: _Script(text)
    for name, text in (
        ("hit", _HIT), ("lease", _LEASE), ("renew", _RENEW), ("triplet", _TRIPLET),
    )
}  # fmt: skip


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
        #: What renews the leases while there are any; a hub that has ended has taken it along.
        self.heart: Any = None


class RedisCounters:
    """Counts for all nodes that use the same *url*: ``redis://[[name]:password@]host[:port][/db]``,
    ``unix:///path``, or ``rediss://`` for TLS. Redis 7 or newer, or Valkey.

    *prefix* stands before each key. One command is one Lua call; a process has `MAX_CONNECTIONS`
    connections at most. While Redis is away this process counts by itself, beginning with
    nothing (leases: with those it has): then all nodes together may pass a limit as many times as
    there are nodes. `error` carries it once, with the code "CountersAway"; a command tries again
    each `RETRY_SECONDS`. A lease of a node that died ends `LEASE_SECONDS` after its last renewal.

    Raises ValueError for a URL that isn't one, and RuntimeError for ``rediss://`` in a process
    whose sockets aren't monkey patched.
    """

    def __init__(self, url: str, *, prefix: str = "smtp_blinker:") -> None:
        self._settings: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
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
        # One reply to each command, and no retries, which would sleep.
        self._settings |= {"protocol": 2, "retry": Retry(NoBackoff(), 0)}
        self._settings.setdefault("client_name", "smtp_blinker")
        try:
            self._connection()  # not connected yet
        except TypeError as exc:
            raise ValueError(f"the URL of RedisCounters has a wrong setting: {exc}") from exc
        self._prefix = prefix
        self._pools: weakref.WeakKeyDictionary[Any, _Pool] = weakref.WeakKeyDictionary()
        self._server: Any = lambda: None
        #: When to try again; None while Redis is there.
        self._retry_at: float | None = None
        #: What is counted while Redis is away, and all leases of this process.
        self._local = MemoryCounters()

    @property
    def away(self) -> bool:
        return self._retry_at is not None

    def attach(self, server: Any) -> None:
        """An outage is sent as an `error` of the first server that is attached."""
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
        answer = self._script("lease", timeout, ["l:" + key], [holder, number, life])
        if answer == 0:
            return False
        # Redis has counted this process's leases too; where it is away these are all.
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
        """Renew the leases of this process."""
        while True:
            gevent.sleep(RENEW_SECONDS)
            self.renew()

    def renew(self) -> None:
        """Renew all leases of this process now; Redis may have lost them, or not know them yet."""
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
                    self._forget(key, holder)  # given back meanwhile, and perhaps renewed after it

    # Redis

    def _script(self, name: str, timeout: float, keys: list[str], args: list[Any]) -> Any:
        """What the script returns; None where Redis is away."""
        script = _SCRIPTS[name]
        rest = (len(keys), *[self._prefix + key for key in keys], *args)
        return self._command(timeout, "EVALSHA", script.sha, *rest, script=script.text)

    def _command(self, timeout: float, *words: Any, script: str = "") -> Any:
        """Redis's answer within *timeout* seconds; None where it is away. *script* is the text of
        what EVALSHA names."""
        if self._retry_at is not None:
            now = time.monotonic()
            if now < self._retry_at:
                return None
            self._retry_at = now + RETRY_SECONDS  # the others don't wait
        pool = self._pool()
        timer = Timeout.start_new(timeout)
        try:
            with pool.room:
                try:
                    answer = self._exchange(pool, words)
                except NoScriptError:
                    answer = self._exchange(pool, ("EVAL", script, *words[2:]))
        except Timeout as exc:
            if exc is not timer:
                raise
            self._went_away(TimeoutError(f"no answer within {timeout:g} s"))
            return None
        except (RedisError, OSError) as exc:
            self._went_away(exc)
            return None
        finally:
            timer.close()
        if self._retry_at is not None:
            self._retry_at = None
            log.info("the counters in Redis are back")
        return answer

    def _exchange(self, pool: _Pool, words: tuple[Any, ...]) -> Any:
        while True:
            known = bool(pool.idle)
            connection = pool.idle.pop() if known else self._connection()
            try:
                if not known:
                    connection.connect()
                connection.send_packed_command([_packed(words)], check_health=False)
                answer = connection.read_response()
            except NoScriptError:
                pool.idle.append(connection)
                raise
            except RedisConnectionError:
                connection.disconnect()
                if not known:
                    raise
                # Redis has been started anew, or closed a connection that was idle.
            except BaseException:
                connection.disconnect()
                raise
            else:
                pool.idle.append(connection)
                return answer

    def _connection(self) -> Any:
        return self._kind(**self._settings)

    def _pool(self) -> _Pool:
        hub = gevent.get_hub()
        pool = self._pools.get(hub)
        if pool is None or pool.pid != os.getpid():
            pool = self._pools[hub] = _Pool()
        return pool

    def _went_away(self, exc: Exception) -> None:
        was_there = self._retry_at is None
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if was_there:
            failure = PolicyFailure(f"{type(self).__name__}: {type(exc).__name__}: {exc}")
            failure.__cause__ = exc
            emit_error(self._server(), ErrorEvent(failure, "CountersAway"))


def _micro(seconds: float) -> int:
    return round(seconds * 1e6)


def _packed(words: tuple[Any, ...]) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        octets = str(word).encode("utf-8", "backslashreplace")
        parts.append(b"$%d\r\n%b\r\n" % (len(octets), octets))
    return b"".join(parts)
