"""The short form of benchmarks/fleet.py: nothing is lost when parts of a fleet die."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import program, python

FLEET = Path(__file__).parents[2] / "benchmarks" / "fleet.py"


@pytest.mark.timeout(300)  # for what takes 35 s on an idle machine
def test_nothing_is_lost_when_all_nodes_are_restarted_and_any_part_is_killed() -> None:
    program("haproxy", "haproxy")
    program("redis-server", "redis-server")
    done = python(FLEET, "--quick", "--engine", "redis", "--kills", "8", seconds=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 of them lost" in done.stdout
    assert " 0 failed twice" in done.stdout
    assert "killed: 0" not in done.stdout
