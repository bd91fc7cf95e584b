"""The simulation of a large fleet, against what can be worked out by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from fleet.simulation import (  # type: ignore[import-not-found]  # noqa: E402
    FAILURES,
    Setup,
    Simulation,
    Times,
)
from simulate import PART, scaled  # type: ignore[import-not-found]  # noqa: E402

MS = 1e-3
TIMES = Times(
    node=0.5 * MS, tls=0, broker=0.1 * MS, confirm=1 * MS, drain=0.2 * MS, spool=1 * MS, consumer=0
)
#: A node that takes 2,000 connections a second at most, and a broker that takes 10,000.
ONE = Setup(TIMES, nodes=1, rate=200.0, tls=False, round_trip=0.0)


def test_a_node_that_has_little_to_do_takes_everything_at_once() -> None:
    found = Simulation(ONE).run()
    assert found.arrived == pytest.approx(2000, rel=0.1)
    assert 0 <= found.arrived - found.accepted <= found.most_connections
    assert found.busy == found.away == 0
    alone = TIMES.node + TIMES.broker + TIMES.confirm
    assert min(found.latencies) == pytest.approx(alone)
    assert found.percentile(0.5) == pytest.approx(alone, rel=0.1)


def test_the_same_seed_has_the_same_outcome() -> None:
    first, again, other = (Simulation(replace(ONE, seed=seed)).run() for seed in (1, 1, 2))
    assert first == again
    assert first.latencies != other.latencies


@pytest.mark.parametrize(
    ("part", "most"),
    [({}, 2000), ({"broker": 1 * MS}, 1000), ({"confirm": 40 * MS}, 800)],
    ids=["the node's processor", "the broker", "32 connections to the broker"],
)
def test_the_slowest_part_says_how_much_is_accepted(part: dict[str, float], most: int) -> None:
    times = replace(TIMES, **part)
    found = Simulation(replace(ONE, times=times, rate=4000.0, max_clients=100)).run()
    assert found.accepted_rate == pytest.approx(most, rel=0.05)
    assert found.most_connections == 100
    assert 0 <= found.arrived - found.accepted - found.busy <= 100  # those still there
    assert found.away == 0


def test_tls_and_the_clients_own_processor_take_their_time() -> None:
    full = replace(ONE, rate=4000.0, max_clients=100)
    tls = replace(full, tls=True, times=replace(TIMES, tls=0.5 * MS))
    assert Simulation(tls).run().accepted_rate == pytest.approx(1000, rel=0.05)
    busy = replace(full, client=2 * MS)
    assert Simulation(busy).run().accepted_rate == pytest.approx(500, rel=0.05)


STALLED = replace(ONE, seconds=40.0, stall_at=5.0, stall=15.0, timeout=2.0)


def test_while_the_broker_stands_still_a_store_refuses() -> None:
    found = Simulation(STALLED).run()
    # Those that wait when it begins have 451 after the timeout, the others at MAIL.
    assert found.away > 0.8 * ONE.rate * (STALLED.stall - STALLED.timeout)
    assert found.arrived == pytest.approx(found.accepted + found.away, abs=20)
    assert found.most_waiting <= ONE.rate * (STALLED.timeout + 1)
    refused = [sample.refused for sample in found.samples if sample.at >= 26]
    assert refused[0] == refused[-1] >= FAILURES


def test_with_a_spool_nothing_is_refused_and_it_is_empty_again() -> None:
    found = Simulation(replace(STALLED, spool=True)).run()
    assert found.away == found.busy == 0
    assert found.arrived == pytest.approx(found.accepted, abs=20)
    spooled = ONE.rate * (STALLED.stall - STALLED.timeout)
    assert found.most_spooled == pytest.approx(spooled, rel=0.25)
    assert found.samples[-1].spooled == 0
    # The broker has twice what it confirmed too late.
    late = ONE.rate * STALLED.timeout
    assert found.confirmed - found.accepted == pytest.approx(late, rel=0.2)


@pytest.mark.parametrize("brokers", [2, 3, 5, 7])
def test_a_part_of_the_fleet_has_its_part_of_the_brokers(brokers: int) -> None:
    """A fifth of three brokers was one whole broker, which took two thirds more."""
    whole = Setup(TIMES, brokers=brokers)
    part = scaled(whole, PART)

    assert part.nodes == 20
    assert part.rate == pytest.approx(whole.rate * PART)
    takes, its_part = (one.brokers / one.times.broker for one in (whole, part))
    assert its_part == pytest.approx(takes * PART)
