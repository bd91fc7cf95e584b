#!/usr/bin/env python
"""A hundred nodes and 10,000 connections a second, simulated from measured service times.

    pip install simpy matplotlib
    python benchmarks/simulate.py [--measure] [--quick]

Prints the tables of docs/howto/sizing.md and draws its pictures into docs/howto/sizing/.
``--measure`` first measures the service times on this machine again (service_times.json; that needs
Debian's rabbitmq-server and the extra `test`), ``--quick`` simulates a fifth of the fleet and draws
nothing. The exit status is 1 where the simulation of one node and what was measured of one are too
far apart.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "tests")]

from fleet.simulation import Outcome, Setup, Simulation, Times  # noqa: E402

MEASURED = ROOT / "benchmarks" / "service_times.json"
PICTURES = ROOT / "docs" / "howto" / "sizing"
NODES, RATE = 100, 10_000.0
#: Nodes and brokers are alike, so a fifth of them does what all do, in a fifth of the time.
PART = 0.2
#: Of its ceiling, how busy a broker may be.
BUSY = 0.7
#: Connections a second of the fleet.
RATES = (2_000.0, 5_000.0, 10_000.0, 15_000.0, 20_000.0, 30_000.0)
STALL_AT, STALL, AFTER = 10.0, 30.0, 60.0
#: Octets of a message, for what a spool and a broker's queue need.
MESSAGE = 20_000
#: How far what one node takes at most, measured and simulated, may be apart.
NEAR = 0.35


def simulate(setup: Setup) -> Outcome:
    return Simulation(setup).run()


def simulate_all(setups: Iterable[Setup]) -> Iterator[Outcome]:
    """The same for each, on all processors."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(simulate, setups)


def validate(times: Times, point: dict[str, Any]) -> bool:
    """One node on this machine, measured and simulated: no round trip, no TLS."""
    one = Setup(times, nodes=1, round_trip=0.0, tls=False, client=point["client"])
    found = simulate(replace(one, rate=point["rate"], seconds=60.0))
    # As many come as it may have at once, and more.
    full = replace(one, max_clients=point["clients"], rate=3 / times.node, seconds=10.0)
    most = simulate(full).accepted / full.seconds
    # As slow as this machine was while other work had its processors.
    stretch = point["stretch"]
    slow = replace(
        full, times=replace(times, node=times.node * stretch), client=one.client * stretch
    )
    slowed = simulate(slow).accepted / full.seconds
    measured = 1 / point["each"]
    print("\n### One node, measured and simulated\n")
    print(f"The node waited for a processor: all took {stretch:.2f} times as long.\n")
    print("|  | measured | simulated | simulated, slower |\n| --- | ---: | ---: | ---: |")
    print(f"| connections a second at most | {measured:.0f} | {most:.0f} | {slowed:.0f} |")
    for name, part in (("p50", 0.5), ("p99", 0.99)):
        print(
            f"| {name} at {point['rate']:.0f} a second, ms | {point[name] * 1e3:.1f} "
            f"| {found.percentile(part) * 1e3:.1f} | |"
        )
    return abs(math.log(slowed / measured)) < math.log(1 + NEAR)


def saturate(times: Times, scale: float, seconds: float) -> dict[int, list[tuple[float, Outcome]]]:
    """By the number of brokers: the outcome at each rate."""
    need = brokers_needed(times)
    print(f"\n### Where it saturates: {NODES} nodes, by the number of brokers\n")
    print("| brokers | connections/s | accepted/s | p50, ms | p99, ms | connections of a node |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    setups = [
        Setup(times, brokers=brokers, rate=rate, seconds=seconds)
        for brokers in sorted({need // 2, need, 2 * need})
        for rate in RATES
    ]
    curves = defaultdict(list)
    outcomes = simulate_all(scaled(setup, scale) for setup in setups)
    for setup, found in zip(setups, outcomes, strict=True):
        curves[setup.brokers].append((setup.rate, found))
        print(
            f"| {setup.brokers} | {setup.rate:.0f} | {found.accepted_rate / scale:.0f} "
            f"| {found.percentile(0.5) * 1e3:.1f} | {found.percentile(0.99) * 1e3:.1f} "
            f"| {found.most_connections} |",
            flush=True,
        )
    return curves


def brokers_needed(times: Times) -> int:
    return max(2, math.ceil(RATE * times.broker / BUSY))


def scaled(setup: Setup, scale: float) -> Setup:
    """A part of the fleet: nodes, brokers and rate."""
    brokers = max(1, round(setup.brokers * scale))
    # Of three brokers a fifth is one that is slower.
    broker = setup.times.broker * brokers / (setup.brokers * scale)
    return replace(
        setup,
        times=replace(setup.times, broker=broker),
        nodes=max(1, round(setup.nodes * scale)),
        brokers=brokers,
        rate=setup.rate * scale,
    )


def stall(times: Times, scale: float) -> dict[str, Outcome]:
    """What happens when all brokers stand still for a while, by how nodes are set up."""
    base = Setup(
        times,
        brokers=brokers_needed(times),
        rate=RATE,
        seconds=STALL_AT + STALL + AFTER,
        stall_at=STALL_AT,
        stall=STALL,
    )
    setups = {
        "no spool, 1000 clients": base,
        "no spool, 5000 clients": replace(base, max_clients=5000),
        "spool, timeout 5 s": replace(base, spool=True, timeout=5.0),
    }
    print(f"\n### The brokers stand still for {STALL:.0f} s\n")
    print(
        "| nodes | 250 | 451 | 421 | connections of a node | messages waiting in a node "
        f"| spool of a node | spool {AFTER:.0f} s later | broker's queue, GB |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    found = {}
    outcomes = simulate_all(scaled(setup, scale) for setup in setups.values())
    for name, one in zip(setups, outcomes, strict=True):
        found[name] = one
        left = one.samples[-1].spooled / one.setup.nodes
        parts = [f"{100 * n / one.arrived:.1f}%" for n in (one.accepted, one.away, one.busy)]
        queue = max(sample.queued for sample in one.samples) / scale * MESSAGE / 1e9
        print(
            f"| {name} | {' | '.join(parts)} | {one.most_connections} | {one.most_waiting} "
            f"| {one.most_spooled} | {left:.0f} | {queue:.1f} |",
            flush=True,
        )
    return found


def drain_table(times: Times) -> None:
    """How long spools need until they are empty again, by the brokers: no simulation needed."""
    rate = RATE / NODES
    most = rate * STALL
    print(f"\n### Until the spool of {STALL:.0f} s is empty: {most:.0f} messages of a node\n")
    print(
        "| brokers | a node's share of their rate, messages/s | seconds until the spool is empty |"
    )
    print("| ---: | ---: | ---: |")
    need = brokers_needed(times)
    for brokers in (need, need + 1, 2 * need, 4 * need):
        speed = min(1 / times.drain, brokers / NODES / times.broker)
        seconds = f"{most / (speed - rate):.0f}" if rate < speed else "never"
        print(f"| {brokers} | {speed:.0f} | {seconds} |")


def draw(curves: dict[int, list[tuple[float, Outcome]]], stalls: dict[str, Outcome]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    # The same file from the same figures.
    mpl.rcParams.update({"svg.hashsalt": "smtp_blinker", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    PICTURES.mkdir(exist_ok=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for brokers, curve in curves.items():
        rates = [rate for rate, _ in curve]
        accepted = [found.accepted_rate for _, found in curve]
        left.plot(rates, accepted, marker="o", label=f"{brokers} brokers")
        right.plot(rates, [found.percentile(0.99) for _, found in curve], marker="o")
    left.set(xlabel="connections a second", ylabel="accepted a second")
    right.set(xlabel="connections a second", ylabel="p99, seconds", yscale="log")
    left.legend()
    _save(figure, "saturation.svg")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    for name, found in stalls.items():
        at = [sample.at for sample in found.samples]
        nodes = found.setup.nodes
        axes[0].plot(at, [sample.connections / nodes for sample in found.samples], label=name)
        refused = [sample.refused for sample in found.samples]
        steps = [2 * (b - a) for a, b in pairwise(refused)]
        axes[1].plot(at[1:], steps)
        axes[2].plot(at, [sample.spooled / nodes for sample in found.samples])
    for axis, title in zip(
        axes, ("connections of a node", "refused a second", "spool of a node"), strict=True
    ):
        axis.set(xlabel="seconds", title=title)
        axis.axvspan(STALL_AT, STALL_AT + STALL, alpha=0.15, color="grey")
    axes[0].legend(fontsize=7)
    _save(figure, "stall.svg")


def _save(figure: Any, name: str) -> None:
    path = PICTURES / name
    figure.savefig(path, metadata={"Date": None})
    # Matplotlib ends lines with spaces.
    path.write_text("".join(f"{line.rstrip()}\n" for line in path.read_text().splitlines()))


def main() -> int:
    parser = argparse.ArgumentParser(description="A large fleet, simulated.")
    parser.add_argument("--measure", action="store_true", help="measure service times first")
    parser.add_argument("--quick", action="store_true", help="a fifth of the fleet, no pictures")
    options = parser.parse_args()
    if options.measure:
        from fleet.service_times import measure

        MEASURED.write_text(json.dumps(measure(), indent=1) + "\n")
    measured = json.loads(MEASURED.read_text())
    times = Times(**measured["times"])
    print("| service time | ms |\n| --- | ---: |")
    for name, seconds in measured["times"].items():
        print(f"| {name} | {seconds * 1e3:.2f} |")
    started = time.monotonic()
    scale = PART if options.quick else 1.0
    is_near = validate(times, measured["point"])
    curves = saturate(times, scale, 4.0)
    stalls = stall(times, PART)
    drain_table(times)
    if not options.quick:
        draw(curves, stalls)
    print(f"\n{time.monotonic() - started:.0f} s")
    if not is_near:
        print("the simulation of one node is too far from what was measured")
    return 0 if is_near else 1


if __name__ == "__main__":
    sys.exit(main())
