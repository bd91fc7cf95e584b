"""What Redis does for `RedisCounters` in one step each, in Lua, and how a command is written."""

from __future__ import annotations

import hashlib
from typing import Any, Final

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


class Script:
    """A Lua script and the name that Redis knows it by."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


SCRIPTS: Final = {
    name: Script(text)
    for name, text in (
        ("hit", _HIT), ("lease", _LEASE), ("renew", _RENEW), ("triplet", _TRIPLET),
    )
}  # fmt: skip


def packed(words: tuple[Any, ...]) -> bytes:
    """A command as Redis reads it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        octets = str(word).encode("utf-8", "backslashreplace")
        parts.append(b"$%d\r\n%b\r\n" % (len(octets), octets))
    return b"".join(parts)
