"""MemoryCounters: exact windows, leases, triplets, and a bounded memory."""

from __future__ import annotations

import random

import pytest
from support import python

from smtp_blinker.policies import MemoryCounters
from smtp_blinker.policies.counters import network_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_window_holds_its_number_and_opens_when_the_first_is_too_old(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    for second in range(3):
        clock.now = 1000.0 + second
        assert counters.hit("k", 3, 60).wait == 0
    clock.now = 1059.0
    assert counters.hit("k", 3, 60).wait == 1
    clock.now = 1060.0
    assert counters.hit("k", 3, 60).wait == 0
    assert counters.hit("k", 3, 60).wait == 1  # until the second of them is


def test_no_stretch_of_time_holds_more_than_the_number(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    dice = random.Random(1)
    counted: list[float] = []
    for _ in range(5000):
        clock.now += dice.expovariate(2)
        wait = counters.hit("k", 10, 7).wait
        if wait == 0:
            counted.append(clock.now)
        else:
            assert clock.now + wait == pytest.approx(counted[-10] + 7)
    assert all(later - first >= 7 for first, later in zip(counted, counted[10:], strict=False))
    assert len(counted) > 0.9 * 10 * clock.now / 7 - 1500  # and none is refused without need


def test_keys_are_apart_and_what_is_undone_or_cleared_makes_room(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    hit = counters.hit("a", 1, 60)
    assert counters.hit("b", 1, 60).wait == 0
    assert counters.hit("a", 1, 60).wait > 0
    counters.undo("a", hit.mark)
    counters.undo("a", hit.mark)
    assert counters.hit("a", 1, 60).wait == 0
    counters.clear("a")
    counters.clear("a")
    assert counters.hit("a", 1, 60).wait == 0
    assert len(counters) == 2


def test_an_event_counts_in_both_windows_or_in_neither(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    counters.hit("full", 2, 10)
    counters.hit("full", 2, 10)
    one, two = counters.hit_both("full", "b", 2, 10)
    assert (one.wait > 0, two.wait) == (True, 0)
    one, two = counters.hit_both("b", "full", 2, 10)
    assert (one.wait, two.wait > 0) == (0, True)
    marks = [counters.hit_both("b", "c", 2, 10) for _ in range(2)]
    assert [hit.wait for both in marks for hit in both] == [0] * 4, "b was empty"
    counters.undo("c", marks[0][1].mark)
    assert counters.hit("c", 2, 10).wait == 0
    assert counters.hit("b", 2, 10).wait > 0


def test_old_keys_are_forgotten(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    for number in range(100):
        counters.hit(f"k{number}", 5, 10)
        counters.triplet(f"t{number}", 1, 10, 10)
    assert len(counters) == 200
    clock.now += 11
    for _ in range(100):
        counters.hit("new", 500, 10)
        counters.triplet("new", 1, 10, 10)
    assert len(counters) == 101


def test_the_memory_is_bounded(clock: Clock) -> None:
    counters = MemoryCounters(max_entries=50, clock=clock)
    for number in range(1000):
        counters.hit(f"k{number}", 5, 3600)
        counters.hit("busy", 20, 3600)
        counters.triplet(f"t{number}", 1, 3600, 3600)
        assert len(counters) <= 100
    assert counters.hit("busy", 20, 3600).wait > 0  # what is in use stays


def test_leases_come_back(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    assert counters.lease("n", "one", 2)
    assert counters.lease("n", "one", 2)
    assert counters.lease("n", "two", 2)
    assert not counters.lease("n", "three", 2)
    assert counters.lease("m", "three", 2)
    counters.release("n", "one")
    counters.release("n", "one")
    assert counters.lease("n", "three", 2)
    for holder in ("two", "three"):
        counters.release("n", holder)
    counters.release("m", "three")
    assert counters.leases == {}


def test_a_triplet_waits_passes_and_is_forgotten(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)

    def wait() -> float:
        return counters.triplet("t", delay=300, window=3600, keep=86400)

    assert wait() == 300
    clock.now += 299
    assert wait() == 1
    clock.now += 1
    assert wait() == 0
    clock.now += 86399
    assert wait() == 0
    clock.now += 86400
    assert wait() == 300  # it is new again
    clock.now += 3600
    assert wait() == 300  # it didn't come back in time


def test_it_starts_no_thread() -> None:
    code = (
        "import threading; from smtp_blinker.policies import MemoryCounters;"
        "c = MemoryCounters(); c.hit('k', 1, 1); c.triplet('t', 1, 2, 3); c.lease('l', 'h', 1);"
        "print(threading.active_count(), len(__import__('os').listdir('/proc/self/task')))"
    )
    done = python("-c", code)
    assert done.stdout.split() == ["1", "1"]


def test_a_wrong_bound_is_an_error() -> None:
    with pytest.raises(ValueError, match="max_entries must be 1 or more"):
        MemoryCounters(0)


@pytest.mark.parametrize(
    ("address", "bits", "network"),
    [
        ("192.0.2.77", 32, "192.0.2.77"),
        ("192.0.2.77", 24, "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", 32, "2001:db8:1:2::/64"),
        ("fe80::1%eth0", 24, "fe80::/64"),
        ("", 24, ""),
    ],
)
def test_what_counts_as_one_client(address: str, bits: int, network: str) -> None:
    assert network_of(address, bits) == network
