"""What a server must not leave behind, each thing by itself: a count would let something new hide
behind what an earlier test left and has ended meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import os

from greenlet import greenlet


def greenlets() -> set[greenlet]:
    """Those that live, after a look at what could be collected."""
    gc.collect()
    return {one for one in gc.get_objects() if isinstance(one, greenlet) and not one.dead}


def descriptors() -> set[tuple[str, str]]:
    """The open ones, each with what it is of."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found
