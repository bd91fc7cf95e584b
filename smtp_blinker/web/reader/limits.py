"""The limits of a process of the page, set before it looks at any message.

A limit that the system refuses is left out. The parsers themselves are linear and bounded; these
limits protect against faults in them.
"""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from typing import Final

#: Octets of memory that a process may map, of a file that it may write, and open files.
MEMORY: Final = 2**30
FILE_SIZE: Final = 512 * 2**20
OPEN_FILES: Final = 32
#: The nice value of the reader, so that mail has priority. The index has none: it uses little time,
#: and people wait for lists and searches.
NICE: Final = 10


def confine(memory: int, nice: int = NICE) -> None:
    """Set permanent limits for this process, such as *memory* octets."""
    with suppress(OSError):
        os.nice(nice)
    if hasattr(os, "sched_setscheduler"):  # Linux: what wakes here interrupts no one
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, FILE_SIZE),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),  # no process can be started, unless by root
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))
    leave_network()


def leave_network() -> bool:
    """Give up the network where the system lets this process do it (Python 3.12, Linux)."""
    unshare = getattr(os, "unshare", None)
    if unshare is None:
        return False
    network, user = getattr(os, "CLONE_NEWNET", 0), getattr(os, "CLONE_NEWUSER", 0)
    for flags in (network, user | network):
        try:
            unshare(flags)
        except OSError:
            continue
        return True
    return False


def limit_seconds(seconds: int) -> None:
    """Let the system end this process after about *seconds* more of CPU time."""
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(time.process_time()) + seconds + 1
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, most))
