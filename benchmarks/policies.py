"""What counting costs for each command: `python benchmarks/policies.py` prints a table.

CPU of this process, and how long a command waits, for limits in memory and in a redis-server that
this program starts (Debian package redis-server); beside them the library `limits` from PyPI, where
it is installed. Exit status 1 if a command takes more than it may.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smtp_blinker import Address, Session
from smtp_blinker.policies import (
    AuthLockout,
    ConnectionLimit,
    MemoryCounters,
    RateLimit,
    RedisCounters,
)
from smtp_blinker.policies.counters import Counters
from smtp_blinker.session import Credentials

ROUNDS, COMMANDS = 15, 500
#: What a judged command may cost, in microseconds: CPU, and waiting (the median).
MAX_CPU, MAX_WAIT = 60, 300


def measure(name: str, judge: Callable[[int], object]) -> bool:
    """Whether the cheapest round is within the bounds; prints a row."""
    rounds = []
    for _ in range(ROUNDS):
        waits = []
        before = time.process_time()
        for number in range(COMMANDS):
            began = time.perf_counter()
            judge(number)
            waits.append(time.perf_counter() - began)
        cpu = (time.process_time() - before) / COMMANDS * 1e6
        waits.sort()
        rounds.append((cpu, *(waits[COMMANDS * part // 100] * 1e6 for part in (50, 99))))
    rounds.sort()
    least, usual = rounds[0], rounds[ROUNDS // 2]
    print(f"{name:46} {least[0]:6.1f} {usual[0]:6.1f} {usual[1]:7.0f} {usual[2]:7.0f}", flush=True)
    return least[0] <= MAX_CPU and least[1] <= MAX_WAIT


def policies(name: str, counters: Counters) -> bool:
    session = Session()
    address = Address("a@example.org")
    rate = RateLimit("100000/minute", counters=counters)
    connections = ConnectionLimit(10, counters=counters)

    def message(number: int) -> None:
        session.remote_address = f"192.0.2.{number % 250}"
        rate.on_mail_from(address, session)

    def connection(number: int) -> None:
        session.remote_address = f"192.0.2.{number % 250}"
        if number % 2:
            connections.on_connect(session)
        else:
            connections.on_close(session)

    def triplet(number: int) -> None:
        counters.triplet(f"{number % 250}", 300, 86400, 86400, 1)

    lockout = AuthLockout(10**6, counters=counters)
    credentials = Credentials("PLAIN", "ann")

    def attempt(number: int) -> None:
        session.remote_address = f"192.0.2.{number % 250}"
        credentials.username = f"{number % 250}"
        lockout.on_auth(credentials, session)

    met = [
        measure(f"{name}: AuthLockout", attempt),
        measure(f"{name}: RateLimit", message),
        measure(f"{name}: ConnectionLimit, taking or giving back", connection),
        measure(f"{name}: triplet of Greylist", triplet),
    ]
    assert not counters.away
    return all(met)


def limits_library(url: str) -> None:
    try:
        import limits
    except ImportError:
        print("limits isn't installed: pip install limits redis")
        return
    rate: Any = limits.parse("100000/minute")
    for name, storage in (("memory", "memory://"), ("redis", url)):
        kept: Any = limits.storage.storage_from_string(storage)
        moving = limits.strategies.MovingWindowRateLimiter(kept)

        def hit(number: int, moving: Any = moving) -> None:
            moving.hit(rate, str(number % 250))

        measure(f"limits, {name}: moving window", hit)


def main() -> int:
    command = shutil.which("redis-server")
    print("microseconds of each command; of CPU the cheapest and the median round")
    print(f"{'':46} {'CPU':>6} {'':6} {'median':>7} {'p99':>7}")
    met = policies("memory", MemoryCounters())
    if command is None:
        print("redis-server is missing: install redis-server")
        return 1
    with tempfile.TemporaryDirectory(prefix="blinker-") as folder:
        path = Path(folder) / "redis.sock"
        server = subprocess.Popen(
            [command, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not path.exists():
                time.sleep(0.01)
            met &= policies("redis", RedisCounters(f"unix://{path}"))
            limits_library(f"redis+unix://{path}")
        finally:
            server.kill()
            server.wait()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
