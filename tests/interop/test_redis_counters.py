"""RedisCounters with a real Redis, which dies, stops and comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from support import free_port, poll, python, wait_until

from smtp_blinker import SMTPServer
from smtp_blinker.listeners.log import category
from smtp_blinker.signals import error

from .engines import RedisInMemory
from .names import Certificates

pytest.importorskip("redis")

from smtp_blinker.policies import AuthLockout, ConnectionLimit, RateLimit, RedisCounters
from smtp_blinker.policies import redis_counters as module

#: Long enough for every answer of a Redis that is there, on a busy machine.
PATIENCE = 20.0
DAY = 86400.0


@pytest.fixture
def redis(short_folder: Path) -> Iterator[RedisInMemory]:
    server = RedisInMemory(short_folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for Redis to come back tries at once."""
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.0)


def hit(counters: RedisCounters, key: str, number: int, per: float = DAY) -> float:
    return counters.hit(key, number, per, PATIENCE).wait


def asked(redis: RedisInMemory, *words: str) -> Any:
    """What Redis says, through a connection of the test's own."""
    from redis import Redis

    with Redis(port=redis.port) as client:
        return client.execute_command(*words)


# Windows


def test_two_nodes_count_together_and_exactly(redis: RedisInMemory) -> None:
    nodes = [RedisCounters(redis.url), RedisCounters(redis.url)]
    tries = [gevent.spawn(hit, nodes[number % 2], "k", 50) for number in range(200)]
    gevent.joinall(tries, raise_error=True)
    waits = [one.value for one in tries]
    assert waits.count(0) == 50
    assert all(DAY - 600 < wait <= DAY for wait in waits if wait)
    assert not any(node.away for node in nodes)
    # One pool for each.
    assert asked(redis, "CLIENT", "LIST").count(b"name=smtp_blinker") <= 2 * module.MAX_CONNECTIONS


def test_the_window_opens_when_the_oldest_is_too_old(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    for _ in range(3):
        assert hit(counters, "k", 3) == 0
    assert hit(counters, "k", 3) > DAY - 600
    # The clock is Redis's own: what is changed is when the events were.
    seconds, micros = asked(redis, "TIME")
    now = seconds * 1_000_000 + micros
    day = round(DAY * 1e6)
    name = "smtp_blinker:w:k"
    asked(redis, "LSET", name, "2", str(now - day + 600_000_000))
    assert 0 < hit(counters, "k", 3) <= 600
    asked(redis, "LSET", name, "2", str(now - day))
    assert hit(counters, "k", 3) == 0
    assert hit(counters, "k", 3) > DAY - 600
    assert asked(redis, "LLEN", name) == 3
    assert 0 < asked(redis, "PTTL", name) <= DAY * 1000


def test_an_event_counts_in_both_windows_or_in_neither(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    assert [hit(counters, "full", 2) for _ in range(2)] == [0, 0]
    one, two = counters.hit_both("full", "b", 2, DAY, PATIENCE)
    assert (one.wait > DAY - 600, two.wait) == (True, 0)
    one, two = counters.hit_both("b", "full", 2, DAY, PATIENCE)
    assert (one.wait, two.wait > DAY - 600) == (0, True)
    marks = [counters.hit_both("b", "c", 2, DAY, PATIENCE) for _ in range(2)]
    assert [one.wait for both in marks for one in both] == [0] * 4, "b was empty"
    counters.undo("c", marks[0][1].mark)
    assert hit(counters, "c", 2) == 0
    assert hit(counters, "b", 2) > 0


def test_what_is_undone_or_cleared_makes_room(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    mark = counters.hit("k", 1, DAY, PATIENCE).mark
    assert hit(counters, "k", 1) > 0
    counters.undo("k", mark)
    assert hit(counters, "k", 1) == 0
    counters.clear("k")
    assert hit(counters, "k", 1) == 0


# Leases and triplets


def test_leases_are_shared_and_given_back(redis: RedisInMemory) -> None:
    one, two = RedisCounters(redis.url), RedisCounters(redis.url)
    assert one.lease("n", "a", 2, PATIENCE)
    assert two.lease("n", "b", 2, PATIENCE)
    assert two.lease("n", "b", 2, PATIENCE)  # has it already
    assert not one.lease("n", "c", 2, PATIENCE)
    two.release("n", "b")
    assert one.lease("n", "c", 2, PATIENCE)


def test_a_dead_node_s_leases_end_and_a_living_one_s_do_not(
    redis: RedisInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEASE_SECONDS", 0.5)
    dead = RedisCounters(redis.url)
    assert dead.lease("n", "a", 2, PATIENCE)
    dead._pool().heart.kill()
    monkeypatch.setattr(module, "LEASE_SECONDS", 3600.0)
    living = RedisCounters(redis.url)
    assert living.lease("n", "b", 2, PATIENCE)
    wait_until(lambda: living.lease("n", "c", 2, PATIENCE), "the dead node's lease ends")
    assert not living.lease("n", "d", 2, PATIENCE)


def test_the_heart_beats_while_there_are_leases(
    redis: RedisInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    counters = RedisCounters(redis.url)
    assert counters.lease("n", "a", 1, PATIENCE)
    asked(redis, "FLUSHALL")

    def renewed() -> Any:
        gevent.sleep(0.01)  # its heart beats in this thread
        return asked(redis, "ZCARD", "smtp_blinker:l:n")

    wait_until(renewed, "the lease is there again")
    heart = counters._pool().heart
    counters.release("n", "a")
    heart.join(PATIENCE)
    assert heart.dead
    assert asked(redis, "ZCARD", "smtp_blinker:l:n") == 0


def test_what_was_given_back_while_it_was_renewed_stays_given_back(
    redis: RedisInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = RedisCounters(redis.url)
    assert counters.lease("n", "a", 1, PATIENCE)
    assert counters.lease("m", "b", 1, PATIENCE)
    script = counters._script

    def slow(name: str, *args: Any) -> Any:
        counters.release("n", "a")  # amid the renewal
        return script(name, *args)

    monkeypatch.setattr(counters, "_script", slow)
    counters.renew()
    assert asked(redis, "ZCARD", "smtp_blinker:l:n") == 0
    assert asked(redis, "ZCARD", "smtp_blinker:l:m") == 1
    counters.release("m", "b")


def test_each_hub_renews_for_itself(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)

    def elsewhere() -> Any:
        assert counters.lease("n", "a", 2, PATIENCE)
        return gevent.get_hub()

    # The heart of a hub that may be gone is not relied on.
    assert gevent.get_hub().threadpool.apply(elsewhere) is not gevent.get_hub()
    assert counters._pool().heart is None
    assert counters.lease("n", "b", 2, PATIENCE)
    assert not counters._pool().heart.dead
    counters.release("n", "b")
    counters.release("n", "a")
    assert counters._pool().heart is None


def test_a_triplet_passes_on_another_node(redis: RedisInMemory) -> None:
    one, two = RedisCounters(redis.url), RedisCounters(redis.url)
    assert one.triplet("t", 300, DAY, DAY, PATIENCE) == 300
    assert 0 < two.triplet("t", 300, DAY, DAY, PATIENCE) <= 300
    assert asked(redis, "PTTL", "smtp_blinker:t:t") <= DAY * 1000
    assert two.triplet("t", 0.000001, DAY, DAY, PATIENCE) == 0
    assert one.triplet("t", 300, DAY, DAY, PATIENCE) == 0
    asked(redis, "DEL", "smtp_blinker:t:t")
    assert one.triplet("t", 300, DAY, DAY, PATIENCE) == 300


# Outages


class Hears:
    """What a server with *counters* tells of them."""

    def __init__(self, counters: RedisCounters) -> None:
        self.server = SMTPServer(("127.0.0.1", 0))
        self.events: list[Any] = []
        error.connect(self._hear, self.server)
        counters.attach(self.server)

    def _hear(self, server: Any, event: Any) -> None:
        self.events.append(event)


@pytest.mark.usefixtures("soon")
def test_redis_dies_and_comes_back(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    assert hit(counters, "k", 2) == 0
    assert counters.lease("n", "a", 2, PATIENCE)
    redis.kill()
    # Here it goes on counting by itself.
    assert [hit(counters, "k", 2) > 0 for _ in range(4)] == [False, False, True, True]
    assert counters.lease("n", "b", 2, PATIENCE)
    assert not counters.lease("n", "c", 2, PATIENCE)
    assert counters.away
    assert [event.code for event in hears.events] == ["CountersAway"]
    assert "RedisCounters" in str(hears.events[0].error)
    assert category(hears.events[0]) == "other"  # the operator's, not a client's
    redis.start()
    assert hit(counters, "k", 2) == 0
    assert not counters.away
    assert len(hears.events) == 1
    # It has lost its memory: the leases of those that are connected are known again.
    counters.renew()
    assert asked(redis, "ZCARD", "smtp_blinker:l:n") == 2
    redis.kill()
    hit(counters, "k", 2)
    assert len(hears.events) == 2  # another outage


def test_a_redis_that_was_started_anew_is_no_outage(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    assert hit(counters, "k", 1) == 0
    redis.kill()
    redis.start()
    assert hit(counters, "k", 1) == 0
    assert hit(counters, "k", 1) > 0
    assert not hears.events


@pytest.mark.usefixtures("soon")
def test_redis_stops_answering_and_other_clients_go_on(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    for key in ("a", "b"):
        assert hit(counters, key, 5) == 0
    redis.signal(signal.SIGSTOP)
    ticks: list[float] = []

    def tick() -> None:
        while True:
            gevent.sleep(0.001)
            ticks.append(time.monotonic())

    ticker = gevent.spawn(tick)
    assert counters.hit("a", 5, DAY, 0.05).wait == 0
    ticker.kill()
    assert len(ticks) > 5  # the hub ran meanwhile
    assert counters.away
    assert isinstance(hears.events[0].error.__cause__, TimeoutError)
    assert category(hears.events[0]) == "other"
    redis.signal(signal.SIGCONT)
    wait_until(lambda: hit(counters, "c", 10**5) == 0 and not counters.away, "it is back")
    # No answer of before is taken for another command's.
    assert counters.triplet("t", 300, DAY, DAY, PATIENCE) == 300
    assert counters.lease("n", "a", 1, PATIENCE)
    assert not counters.lease("n", "b", 1, PATIENCE)
    assert len(hears.events) == 1


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may be late on a busy machine, and where Redis is away it isn't tried again."""
    monkeypatch.setattr(module, "LATE_SECONDS", PATIENCE)
    monkeypatch.setattr(module, "RETRY_SECONDS", DAY)


@pytest.mark.usefixtures("patient")
def test_a_redis_that_is_slow_once_counts_all_the_same(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    assert hit(counters, "k", 2) == 0
    redis.signal(signal.SIGSTOP)
    assert counters.hit("k", 2, DAY, 0.05).wait == 0, "counted here"
    assert counters.away, "so that a policy may defer what isn't counted everywhere"
    assert [event.code for event in hears.events] == ["CountersAway"]
    redis.signal(signal.SIGCONT)
    poll(lambda: not counters.away)
    # The late one is the second that Redis knows, and nothing is counted here any more.
    assert hit(counters, "k", 2) > DAY - 600
    assert asked(redis, "LLEN", "smtp_blinker:w:k") == 2
    assert len(hears.events) == 1
    assert asked(redis, "CLIENT", "LIST").count(b"name=smtp_blinker") == 1, "the same connection"
    redis.signal(signal.SIGSTOP)
    counters.hit("k", 2, DAY, 0.05)
    assert len(hears.events) == 2


@pytest.mark.usefixtures("patient")
def test_a_redis_that_is_slow_at_the_first_command_counts_from_then_on(
    redis: RedisInMemory,
) -> None:
    counters = RedisCounters(redis.url)
    redis.signal(signal.SIGSTOP)
    assert counters.hit("k", 1, DAY, 0.05).wait == 0
    redis.signal(signal.SIGCONT)
    poll(lambda: not counters.away)
    assert hit(counters, "k", 1) > 0


def test_one_that_does_not_answer_for_long_is_away_and_is_told_of_once(
    redis: RedisInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATE_SECONDS", 0.05)
    monkeypatch.setattr(module, "RETRY_SECONDS", DAY)
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    assert hit(counters, "k", 5) == 0
    redis.signal(signal.SIGSTOP)
    # More than there are connections: none waits for longer than it may.
    tries = [gevent.spawn(counters.hit, "k", 5, DAY, 0.05) for _ in range(20)]
    gevent.joinall(tries, timeout=PATIENCE, raise_error=True)
    assert [one.get().wait > 0 for one in tries].count(False) == 5
    poll(lambda: counters._retry_at is not None)
    assert hit(counters, "k", 5) > 0, "it doesn't wait for Redis"
    assert [event.code for event in hears.events] == ["CountersAway"]


@pytest.mark.usefixtures("patient")
def test_a_lease_that_comes_too_late_is_given_back(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    assert counters.lease("n", "a", 1, PATIENCE)
    redis.signal(signal.SIGSTOP)
    counters.release("n", "a")
    assert counters.lease("n", "b", 1, 0.05)
    assert not counters.lease("n", "c", 1, 0.05)
    counters._local.release("n", "b")  # its client has gone
    redis.signal(signal.SIGCONT)

    def given_back() -> bool:
        gevent.sleep(0.001)
        return not counters.away and asked(redis, "ZCARD", "smtp_blinker:l:n") == 0

    wait_until(given_back, "none is left")


@pytest.mark.usefixtures("patient")
def test_where_this_process_stood_still_the_answer_counts(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    assert hit(counters, "k", 100) == 0
    for _ in range(20):
        gevent.spawn(time.sleep, 0.01)  # holds the hub up
        assert counters.hit("k", 100, DAY, 0.005).wait == 0
    assert not hears.events
    assert asked(redis, "LLEN", "smtp_blinker:w:k") == 21


def test_while_it_is_away_commands_do_not_wait(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    redis.signal(signal.SIGSTOP)
    counters.hit("a", 5, DAY, 0.05)
    counters._retry_at = time.monotonic() + DAY
    redis.kill()
    assert [counters.hit("b", 5, DAY, DAY).wait for _ in range(3)] == [0, 0, 0]


def test_a_wrong_answer_is_an_outage_too(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    hears = Hears(counters)
    asked(redis, "SET", "smtp_blinker:w:k", "no list")
    assert hit(counters, "k", 1) == 0
    assert "WRONGTYPE" in str(hears.events[0].error)


def test_scripts_that_redis_has_forgotten_are_sent_again(redis: RedisInMemory) -> None:
    counters = RedisCounters(redis.url)
    assert hit(counters, "k", 1) == 0
    asked(redis, "SCRIPT", "FLUSH")
    assert hit(counters, "k", 1) > 0
    assert not counters.away


# Where Redis is


def test_a_unix_socket_a_database_and_a_password(short_folder: Path) -> None:
    server = RedisInMemory(short_folder, "--requirepass", "sesame")
    server.start()
    try:
        tcp = RedisCounters(f"redis://:sesame@127.0.0.1:{server.port}/3")
        unix = RedisCounters(f"unix://{server.path}?password=sesame&db=3")
        assert hit(tcp, "k", 1) == 0
        assert hit(unix, "k", 1) > 0
        assert not tcp.away
        assert not unix.away
        wrong = RedisCounters(f"redis://:open@127.0.0.1:{server.port}")
        assert hit(wrong, "k", 1) == 0
        assert wrong.away
    finally:
        server.kill()


def test_a_url_that_can_not_be_used_says_so() -> None:
    with pytest.raises(ValueError, match="Redis URL must specify"):
        RedisCounters("http://localhost")
    with pytest.raises(ValueError, match="wrong setting"):
        RedisCounters("redis://localhost?color=red")
    with pytest.raises(RuntimeError, match=r"call gevent.monkey.patch_all\(\) first"):
        RedisCounters("rediss://localhost")


PATCHED = """
from gevent import monkey; monkey.patch_all()
import os, sys
from smtp_blinker.policies import RedisCounters
counters = RedisCounters(sys.argv[1])
RedisCounters("rediss://localhost")
waits = [counters.hit("k", 2, 86400, 20).wait > 0 for _ in range(3)]
assert waits == [False, False, True] and not counters.away
if os.fork() == 0:
    ok = counters.hit("k", 2, 86400, 20).wait > 0 and counters.hit("f", 2, 86400, 20).wait == 0
    os._exit(0 if ok and not counters.away else 1)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
assert counters.hit("k", 2, 86400, 20).wait > 0 and not counters.away
"""


OVER_TLS = """
from gevent import monkey; monkey.patch_all()
import sys
from smtp_blinker.policies import RedisCounters
counters = RedisCounters(sys.argv[1])
assert counters.hit("k", 1, 86400, 20).wait == 0 and not counters.away
assert counters.hit("k", 1, 86400, 20).wait > 0 and not counters.away
"""


def test_tls_in_a_patched_process(short_folder: Path, certificates: Certificates) -> None:
    port = free_port()
    pem = str(certificates.server)
    server = RedisInMemory(
        short_folder,
        *("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem),
        *("--tls-ca-cert-file", str(certificates.ca), "--tls-auth-clients", "no"),
    )
    server.start()
    try:
        done = python("-c", OVER_TLS, f"rediss://localhost:{port}?ssl_ca_certs={certificates.ca}")
    finally:
        server.kill()
    assert done.returncode == 0, done.stderr


def test_a_patched_process_and_its_fork(redis: RedisInMemory) -> None:
    done = python("-c", PATCHED, redis.url)
    assert done.returncode == 0, done.stderr


# Two nodes that receive mail


def test_two_nodes_of_which_one_has_no_redis_any_more(serve: Any, redis: RedisInMemory) -> None:
    import smtplib

    everybody: dict[str, Any] = {"trusted": (), "timeout": PATIENCE}
    nodes = []
    for _ in range(2):
        served = serve()
        counters = RedisCounters(redis.url)
        served.server.use(
            ConnectionLimit(1, counters=counters, **everybody),
            RateLimit("3/day", counters=counters, **everybody),
            AuthLockout(counters=counters, **everybody),
        )
        nodes.append((served, counters))

    def send(node: int) -> int:
        with smtplib.SMTP("127.0.0.1", nodes[node][0].server.server_port) as client:
            client.ehlo()
            return client.mail("a@example.org")[0]

    def free() -> bool:
        return bool(asked(redis, "ZCARD", "smtp_blinker:l:connections:127.0.0.1") == 0)

    with (
        smtplib.SMTP("127.0.0.1", nodes[0][0].server.server_port),
        pytest.raises(smtplib.SMTPConnectError, match="Too many connections"),
    ):
        smtplib.SMTP("127.0.0.1", nodes[1][0].server.server_port)
    codes = []
    for node in (0, 1, 0, 1, 0):
        wait_until(free, "the lease was given back")
        codes.append(send(node))
    assert codes == [250, 250, 250, 451, 451]
    wait_until(free, "the lease was given back")
    redis.kill()
    assert send(0) == 250  # alone it begins with nothing
    # Whichever command saw it first told it, once for each of the two.
    for served, _ in nodes:
        assert [event.code for event in served.of("error")] in ([], ["CountersAway"])
    assert nodes[0][0].of("error")
    for served, _ in nodes:
        served.forget("error")


def test_without_redis_mail_is_deferred_where_that_was_asked_for(serve: Any) -> None:
    import smtplib

    served = serve()
    counters = RedisCounters(f"redis://127.0.0.1:{free_port()}")
    served.server.use(RateLimit("9/day", counters=counters, trusted=(), on_failure="defer"))
    with smtplib.SMTP("127.0.0.1", served.server.server_port) as client:
        client.ehlo()
        code, text = client.mail("a@example.org")
    assert (code, text[:5]) == (451, b"4.7.1")
    assert [event.code for event in served.of("error")] == ["CountersAway"]
    served.forget("error")
