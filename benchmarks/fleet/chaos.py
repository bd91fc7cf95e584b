"""Kills and stops the parts of a fleet at random, one at a time."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import Any

from .parts import Fleet

#: How often a part is stopped and not killed.
STOPPED = 0.15


class Chaos:
    """*stopped* is how many seconds a part stands still, *pause* how many at most lie between."""

    def __init__(self, fleet: Fleet, dice: random.Random, stopped: float, pause: float) -> None:
        self._dice = dice
        self._stopped = stopped
        self._pause = pause
        self._victims: dict[str, list[Any]] = {"broker": [fleet.engine]}
        for part in fleet.parts:
            self._victims.setdefault(part.name.rstrip("0123456789"), []).append(part)
        self.killed: Counter[str] = Counter()
        self.stopped: Counter[str] = Counter()

    def run(self, seconds: float, kills: int | None) -> None:
        """Until the time is over, or so many parts were killed."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.killed.total() != kills:
            # Each kind as often as the others, however many there are of it.
            kind = self._dice.choice(sorted(self._victims))
            victim = self._dice.choice(self._victims[kind])
            if self._dice.random() >= STOPPED:
                victim.kill()
                victim.start()
                self.killed[kind] += 1
            else:
                victim.signal(signal.SIGSTOP)
                time.sleep(self._stopped)
                victim.signal(signal.SIGCONT)
                self.stopped[kind] += 1
            time.sleep(self._dice.uniform(self._pause / 4, self._pause))
