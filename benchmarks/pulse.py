"""How long the hub of a process stands still: measured inside it, read outside.

A greenlet sleeps for a millisecond again and again, and sees how late it wakes. What it found is
in a file that both processes have mapped: to report it takes no system call and no greenlet.
"""

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

#: Seconds that the greenlet sleeps.
BEAT: Final = 0.001
#: Seconds after which a stall is counted.
LONG: Final = 0.02

_WANTED = struct.Struct("=q")  # the number of the measurement, which the reader chooses
_RECORD = struct.Struct("=2q2dq")


@dataclass(slots=True)
class Pulse:
    """What one measurement found; times in seconds.

    A stall is how late the greenlet woke, without the time in which the hub's thread could have
    run but another program had the processor.
    """

    measurement: int = 0
    beats: int = 0
    longest: float = 0.0
    #: The longest when no stall counts for more than the CPU time of the process meanwhile. Other
    #: programs can't make it longer: a thread that waits for a processor uses none.
    worked: float = 0.0
    #: How many of these were longer than `LONG`.
    long: int = 0

    def add(self, stall: float, process: float) -> None:
        """Count a stall during which the process used so much CPU time."""
        self.beats += 1
        self.longest = max(self.longest, stall)
        worked = min(stall, process)
        self.worked = max(self.worked, worked)
        self.long += worked > LONG


class Meter:
    """The reader's side; makes *file*, which the measured process then maps with `beat`."""

    def __init__(self, file: Path) -> None:
        file.write_bytes(bytes(_WANTED.size + _RECORD.size))
        self._memory = _map(file)
        self._measurement = 0

    def reset(self) -> None:
        """Begin another measurement."""
        self._measurement += 1
        _WANTED.pack_into(self._memory, 0, self._measurement)

    def read(self) -> Pulse:
        """What the present measurement has found; no beats while the hub has not seen it begin."""
        pulse = Pulse(*_RECORD.unpack_from(self._memory, _WANTED.size))
        return pulse if pulse.measurement == self._measurement else Pulse()


def beat(file: Path) -> None:
    """Measure until the process ends, in a greenlet of the hub that is measured."""
    import gevent

    memory = _map(file)
    pulse = Pulse()
    queue_time = queue_clock()
    now, queue, process = time.monotonic(), queue_time(), time.process_time()
    while True:
        gevent.sleep(BEAT)
        # From one beat to the next: a thread may take the GIL in this loop's own lines too.
        before, queue_before, process_before = now, queue, process
        now, queue, process = time.monotonic(), queue_time(), time.process_time()
        late = now - before - BEAT
        (wanted,) = _WANTED.unpack_from(memory, 0)
        if wanted != pulse.measurement:
            pulse = Pulse(wanted)  # this beat began before it
        else:
            pulse.add(late - (queue - queue_before), process - process_before)
        _RECORD.pack_into(memory, _WANTED.size, *astuple(pulse))


def _map(file: Path) -> mmap.mmap:
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), 0)


def queue_clock() -> Callable[[], float]:
    """A clock of the time in which the main thread could have run but had no processor.

    It always says 0 where the kernel doesn't count that.
    """
    try:
        file = os.open(f"/proc/self/task/{os.getpid()}/schedstat", os.O_RDONLY)
    except OSError:
        return lambda: 0.0
    # Unlike os.pread and CDLL, PyDLL keeps the GIL: another thread might not soon give it back.
    pread = ctypes.PyDLL(None).pread
    buffer = ctypes.create_string_buffer(64)

    def clock() -> float:
        length = pread(file, buffer, len(buffer), 0)
        return int(buffer.raw[:length].split()[1]) / 1e9

    return clock
