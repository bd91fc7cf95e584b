"""How slow this machine is, for bounds that must not depend on it."""

from __future__ import annotations

import time

#: Turns of a loop, and the seconds of CPU that they take on the machine that bounds are meant for.
TURNS, REFERENCE = 200_000, 0.008


def slowness() -> float:
    """How many times slower this machine is at the moment than that one; never less than 1."""
    began = time.thread_time()
    total = 0
    for number in range(TURNS):
        total += number
    return max((time.thread_time() - began) / REFERENCE, 1.0)
