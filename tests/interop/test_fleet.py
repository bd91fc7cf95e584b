"""The short form of benchmarks/fleet.py: nothing is lost when parts of a fleet die."""

from __future__ import annotations

import sys
from pathlib import Path

from .support import program, run

FLEET = Path(__file__).parents[2] / "benchmarks" / "fleet.py"


def test_nothing_is_lost_when_nodes_engine_consumers_and_proxy_are_killed() -> None:
    program("haproxy", "haproxy")
    program("redis-server", "redis-server")
    done = run(sys.executable, FLEET, "--quick", "--engine", "redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 of them lost" in done.stdout
