#!/usr/bin/env python
"""Is anything lost when parts of a fleet die? HAProxy, three nodes, a queue, two consumers.

    python benchmarks/fleet.py [--quick] [--engine rabbitmq|redis|both] [--seconds N] [--kills N]
                               [--pause N] [--seed N]

All are processes of this machine. While clients send that try each message twice at most, all nodes
are restarted, one after the other: no message may fail. Then clients send until each message is
accepted, while one part after another, at random, is killed with SIGKILL and started again, or
stopped for 10 seconds with SIGSTOP. In the end

* each message that was answered 250 must have been handled, and each that was handled twice must
  have had one content id;
* no client may have had another answer than 250, 421, 451 or a lost connection;
* no limit that the nodes share may be passed by more than what a node granted alone, while it took
  the counters for away.

The exit status is 1 if any of this is not so. ``--quick`` takes two minutes. Needs Debian's
haproxy, rabbitmq-server and redis-server, and the extra `test`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "tests")]

from fleet.chaos import Chaos  # noqa: E402
from fleet.limits import Crowd, Excess, judge  # noqa: E402
from fleet.load import Load  # noqa: E402
from fleet.parts import Fleet, wait  # noqa: E402
from interop.engines import RabbitMQ, Redis  # noqa: E402

ENGINES: dict[str, type[RabbitMQ] | type[Redis]] = {"rabbitmq": RabbitMQ, "redis": Redis}
#: Of one network, over all nodes, as fleet/node.py has it.
CONNECTIONS, MESSAGES = 3, 10
#: Seconds that a part is stopped.
STOPPED, QUICK_STOPPED = 10.0, 3.0
QUICK_SECONDS = 22.0
ALLOWED = frozenset({"220", "221", "250", "421", "451", "lost"})


class Run:
    """One engine: what is done to it, and what came of it."""

    def __init__(self, engine: str, options: argparse.Namespace, folder: Path) -> None:
        self._name = engine
        self._options = options
        self.fleet = Fleet(ENGINES[engine](folder / "engine"), folder)
        stopped = QUICK_STOPPED if options.quick else STOPPED
        self.chaos = Chaos(self.fleet, random.Random(options.seed), stopped, options.pause)
        self.patient = Load(self.fleet.port, "patient")
        self.twice = Load(self.fleet.port, "twice", tries=2)
        self.crowd = Crowd(self.fleet.proxied_port, options.seed)

    def do(self) -> bool:
        """Whether all was well. Prints what happened."""
        try:
            self.fleet.start(self.patient.try_once)
            self._restart_all()
            self._kill()
            accepted = self.patient.accepted | self.twice.accepted
            with suppress(TimeoutError):
                wait(lambda: accepted <= self.fleet.content_ids().keys(), "all is handled")
        finally:
            self.fleet.end()
        return self._report(accepted)

    def _restart_all(self) -> None:
        self.twice.start()
        try:
            self.fleet.rolling_restart()
        finally:
            self.twice.stop()

    def _kill(self) -> None:
        self.patient.start()
        self.crowd.start()
        try:
            seconds = QUICK_SECONDS if self._options.quick else self._options.seconds
            self.chaos.run(seconds, self._options.kills)
        finally:
            self.patient.stop()
            self.crowd.stop()

    def _report(self, accepted: set[str]) -> bool:
        handled = self.fleet.content_ids()
        lost = accepted - handled.keys()
        twice = {marker: ids for marker, ids in handled.items() if len(ids) > 1}
        unknown = {marker for marker, ids in twice.items() if len(set(ids)) > 1}
        wrong = {
            who: found
            for who, answers in (("mail", self._answers()), ("limits", self.crowd.answers))
            if (found := {code: n for code, n in answers.items() if code not in ALLOWED})
        }
        limits = judge(self.crowd, self.fleet.local_grants(), CONNECTIONS, MESSAGES)
        self._print(accepted, lost, twice, unknown, limits)
        faults = {
            "lost": lost,
            "not recognised": unknown,
            "wrong answers": wrong,
            "failed twice": self.twice.failed,
            "limits passed": {excess.what: excess.passed for excess in limits if excess.passed},
            "nothing accepted": not self.patient.accepted or not self.twice.accepted,
        }
        for what, found in faults.items():
            if found:
                print(f"  WRONG, {what}: {found}", flush=True)
        return not any(faults.values())

    def _answers(self) -> Counter[str]:
        return self.patient.answers + self.twice.answers

    def _print(
        self,
        accepted: set[str],
        lost: set[str],
        twice: dict[str, list[str]],
        unknown: set[str],
        limits: list[Excess],
    ) -> None:
        chaos, rolling = self.chaos, self.twice
        print(f"{self._name}: {len(accepted)} messages accepted, {len(lost)} of them lost")
        print(f"  handled twice or more: {len(twice)}, not recognised: {len(unknown)}")
        print(f"  answers: {dict(sorted(self._answers().items()))}")
        print(f"  killed: {chaos.killed.total()} {dict(sorted(chaos.killed.items()))}")
        print(f"  stopped: {chaos.stopped.total()} {dict(sorted(chaos.stopped.items()))}")
        print(
            f"  rolling restart: {len(rolling.accepted)} messages, {len(rolling.failed)} failed "
            f"twice, answers: {dict(sorted(rolling.answers.items()))}"
        )
        print(f"  limits, {len(self.crowd.networks)} networks:")
        for excess in limits:
            print(f"    {excess}")
        print(f"    answers: {dict(sorted(self.crowd.answers.items()))}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill parts of a fleet; is anything lost?")
    parser.add_argument("--quick", action="store_true", help="two minutes in all, for CI")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="both")
    parser.add_argument("--seconds", type=float, default=600, help="for each engine")
    parser.add_argument("--kills", type=int, help="end after so many, for each engine")
    parser.add_argument("--pause", type=float, default=2, help="seconds between two, at most")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    well = []
    for engine in ENGINES if options.engine == "both" else [options.engine]:
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            well.append(Run(engine, options, Path(folder)).do())
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
