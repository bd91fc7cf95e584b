"""serve.py as it is, and a greenlet beside it that measures how long the hub stands still.

Usage: stall_server.py PULSE FAULTS ARGUMENTS...

PULSE is the file of a `pulse.Meter`, ARGUMENTS are those of serve.py. While the folder FAULTS has a
file "disk" every fsync takes `SLOW_DISK` seconds longer; while it has a file "dns" every reverse
lookup fails after `DEAD_DNS` seconds. Both let go of the GIL meanwhile, as the true ones do.
"""

import _socket
import os
import runpy
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SLOW_DISK, DEAD_DNS = 0.25, 10.0
HERE = Path(__file__).resolve().parent
SERVE = HERE.parent.parent / "scripts" / "serve.py"

sys.path[:0] = [str(HERE.parent), str(SERVE.parent.parent)]
pulse_file, faults, *arguments = sys.argv[1:]


def slow(sync: Callable[[Any], None]) -> Callable[[Any], None]:
    def slow_sync(fd: Any) -> None:
        if os.path.exists(f"{faults}/disk"):
            time.sleep(SLOW_DISK)
        sync(fd)

    return slow_sync


def dead(look_up: Callable[..., Any]) -> Callable[..., Any]:
    def dead_look_up(*args: Any) -> Any:
        if os.path.exists(f"{faults}/dns"):
            time.sleep(DEAD_DNS)
            raise socket.herror(2, "Host name lookup failure")
        return look_up(*args)

    return dead_look_up


for name in ("fsync", "fdatasync"):
    setattr(os, name, slow(getattr(os, name)))
# gevent's resolver asks the one module, others ask the other.
for name in ("gethostbyaddr", "getnameinfo"):
    for module in (_socket, socket):
        setattr(module, name, dead(getattr(module, name)))

import gevent  # noqa: E402  # after what it may take from those modules
import pulse  # noqa: E402

gevent.spawn(pulse.beat, Path(pulse_file))
sys.argv = [str(SERVE), *arguments]
runpy.run_path(str(SERVE), run_name="__main__")
