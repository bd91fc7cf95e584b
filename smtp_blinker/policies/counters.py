"""Counters for limits: windows, leases and triplets, in this process or for all nodes."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, NamedTuple, Protocol

#: The times and triplets that `MemoryCounters` keeps: about 100 MB if all keys differ.
MAX_ENTRIES: Final = 500_000


class Hit(NamedTuple):
    """The result of counting one event."""

    #: Seconds until the next event is allowed; 0 if this one was counted.
    wait: float
    #: The argument *mark* of `Counters.undo`.
    mark: float


class Counters(Protocol):
    """The interface of `MemoryCounters` and `RedisCounters`.

    Keys are texts; windows, leases and triplets have separate keys. *timeout* is how many seconds
    a call may wait for another machine; after that it counts in this process and doesn't raise.
    """

    @property
    def away(self) -> bool:
        """Whether it counts only this process now, although it should count all nodes."""

    def attach(self, server: Any) -> None:
        """Report it to *server*'s `error` signal if the other machine is unreachable."""

    def hit(self, key: str, number: int, per: float, timeout: float) -> Hit:
        """Count one event, unless *number* were counted within the last *per* seconds."""

    def hit_both(
        self, key: str, other: str, number: int, per: float, timeout: float
    ) -> tuple[Hit, Hit]:
        """Count one event in both windows, or in none if one of them is full.

        The `Hit` of the full window (the first one, if both are full) tells how long to wait.
        """

    def undo(self, key: str, mark: float) -> None:
        """Remove one event."""

    def clear(self, key: str) -> None:
        """Forget the events of *key*."""

    def lease(self, key: str, holder: str, number: int, timeout: float) -> bool:
        """Give *holder* one of the *number* leases of *key*; False if there is none left."""

    def release(self, key: str, holder: str) -> None:
        """Return the lease; a second call does nothing."""

    def triplet(self, key: str, delay: float, window: float, keep: float, timeout: float) -> float:
        """Seconds until *key* passes: *delay* after its first attempt; 0 when it came back after
        them, and within *window* seconds of its first time. Then it is known for *keep* seconds
        since its last."""


class MemoryCounters:
    """Counts in this process: exact, with bounded memory, without threads.

    It keeps up to *max_entries* times and as many triplets, and drops the least recently used.
    *clock* returns seconds and never goes back. It keeps the time of each event, so in no period of
    *per* seconds are more than *number* events counted.
    """

    away: Final = False

    def __init__(
        self, max_entries: int = MAX_ENTRIES, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be 1 or more, not {max_entries!r}")
        self._max_entries = max_entries
        self._clock = clock
        #: The times of events, and the time when the last of them expires; the last used key last.
        self._windows: OrderedDict[str, tuple[deque[float], float]] = OrderedDict()
        self._times = 0
        #: The time of the first attempt, or -1 after a second one; and the time when it expires.
        self._triplets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        #: The holders of each key's leases.
        self.leases: dict[str, set[str]] = {}

    def attach(self, server: Any) -> None:
        """Does nothing, because nothing here can fail."""

    def __len__(self) -> int:
        return self._times + len(self._triplets)

    def hit(self, key: str, number: int, per: float, timeout: float = 0) -> Hit:
        now = self._clock()
        self._drop_old(now)
        found = self._windows.get(key)
        times: deque[float] = deque() if found is None else found[0]
        while times and times[0] <= now - per:
            times.popleft()
            self._times -= 1
        if len(times) >= number:
            return Hit(times[-number] + per - now, 0.0)
        times.append(now)
        self._times += 1
        self._windows[key] = times, now + per
        self._windows.move_to_end(key)
        while self._times > self._max_entries:
            _, (dropped, _) = self._windows.popitem(last=False)
            self._times -= len(dropped)
        return Hit(0.0, now)

    def hit_both(
        self, key: str, other: str, number: int, per: float, timeout: float = 0
    ) -> tuple[Hit, Hit]:
        one = self.hit(key, number, per)
        if one.wait:
            return one, Hit(0.0, 0.0)
        two = self.hit(other, number, per)
        if two.wait:
            self.undo(key, one.mark)
        return one, two

    def _drop_old(self, now: float) -> None:
        for _ in range(2):  # two for each new one, so that old ones don't accumulate
            key = next(iter(self._windows), None)
            if key is None or self._windows[key][1] > now:
                return
            self._times -= len(self._windows.pop(key)[0])

    def undo(self, key: str, mark: float) -> None:
        found = self._windows.get(key)
        if found is not None and mark in found[0]:
            found[0].remove(mark)
            self._times -= 1

    def clear(self, key: str) -> None:
        found = self._windows.pop(key, None)
        if found is not None:
            self._times -= len(found[0])

    def lease(self, key: str, holder: str, number: int, timeout: float = 0) -> bool:
        holders = self.leases.get(key, ())
        if holder not in holders and len(holders) >= number:
            return False
        self.leases.setdefault(key, set()).add(holder)
        return True

    def release(self, key: str, holder: str) -> None:
        holders = self.leases.get(key)
        if holders is not None:
            holders.discard(holder)
            if not holders:
                del self.leases[key]

    def triplet(
        self, key: str, delay: float, window: float, keep: float, timeout: float = 0
    ) -> float:
        now = self._clock()
        first, until = self._triplets.get(key, (now, 0.0))
        if until <= now:
            first, until = now, now + window
        wait = 0.0 if first < 0 else first + delay - now
        if wait <= 0:
            first, until = -1.0, now + keep
        self._triplets[key] = first, until
        self._triplets.move_to_end(key)
        oldest = next(iter(self._triplets))
        if len(self._triplets) > self._max_entries or self._triplets[oldest][1] <= now:
            del self._triplets[oldest]
        return max(wait, 0.0)


def network_of(address: str, ipv4_bits: int = 32) -> str:
    """What counts as one client: an IPv4 address, or its network of *ipv4_bits*, or the /64 that an
    IPv6 site is given; "" for a UNIX socket."""
    if ":" in address:
        top = int(IPv6Address(address.partition("%")[0])) >> 64
        return f"{IPv6Address(top << 64)}/64"
    if ipv4_bits == 32 or not address:
        return address
    mask = 2**32 - 2 ** (32 - ipv4_bits)
    return f"{IPv4Address(int(IPv4Address(address)) & mask)}/{ipv4_bits}"
