"""The Lua scripts that Redis runs for `RedisCounters`, and the encoding of commands."""

from __future__ import annotations

import hashlib
from typing import Any, Final

# Redis runs each script atomically. They use Redis's clock, because the clocks of nodes differ.
# Times are in microseconds.
_NOW: Final = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
"""
#: Arguments: number, per. A key has the times of events, newest first. Adds one event to each
#: window, or to none if one is full. Returns 0 and the time, or the number of the full window and
#: how long to wait.
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
#: Arguments: holder, number, time to live. A key has the holders by the times when their leases
#: expire.
_LEASE: Final = f"""{_NOW}
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2])
    and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[3]), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] / 1000))
return 1
"""
#: Arguments: time to live, then a holder for each key.
_RENEW: Final = f"""{_NOW}
for i, key in ipairs(KEYS) do
    redis.call('ZADD', key, string.format('%.0f', now + ARGV[1]), ARGV[i + 1])
    redis.call('PEXPIRE', key, math.ceil(ARGV[1] / 1000))
end
return 1
"""
#: Arguments: delay, window, keep. A key has the time of the first attempt, or "-" after a retry.
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
    """A Lua script and its SHA-1, by which EVALSHA names it."""

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
    """A command in Redis's protocol (RESP)."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        octets = str(word).encode("utf-8", "backslashreplace")
        parts.append(b"$%d\r\n%b\r\n" % (len(octets), octets))
    return b"".join(parts)
