"""How long the hub of a process stands still: measured inside it, read outside.

A greenlet sleeps for a millisecond again and again, and sees how late it wakes. What it found is
in a file that both processes have mapped: to report it takes no system call and no greenlet.
"""

import ctypes
import mmap
import os
import struct
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

#: Seconds that the greenlet sleeps.
BEAT: Final = 0.001
#: Seconds after which a stall is counted.
LONG: Final = 0.02

_WANTED = struct.Struct("=q")  # the number of the measurement, which the reader chooses
_RECORD = struct.Struct("=3q5d")


@dataclass(slots=True)
class Pulse:
    """What one measurement found; times in seconds.

    A stall is how late the greenlet woke, without the time in which the hub's thread could have
    run but another program had the processor.
    """

    measurement: int = 0
    beats: int = 0
    #: Stalls longer than `LONG`.
    long: int = 0
    longest: float = 0.0
    #: The wait for a processor that was left out of the longest stall.
    queue: float = 0.0
    #: CPU time during the longest stall: of the hub's thread, and of the whole process.
    hub: float = 0.0
    process: float = 0.0
    #: The longest stall when no stall counts for more than the CPU time of the process meanwhile.
    #: Other programs can't make it longer: a thread that waits for a processor uses none.
    worked: float = 0.0

    def add(self, late: float, queue: float, hub: float, process: float) -> None:
        stall = late - queue
        self.beats += 1
        self.worked = max(self.worked, min(stall, process))
        if stall > LONG:
            self.long += 1
        if stall > self.longest:
            self.longest, self.queue, self.hub, self.process = stall, queue, hub, process


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
    queue, hub, process = queue_time(), time.thread_time(), time.process_time()
    while True:
        due = time.monotonic() + BEAT
        gevent.sleep(BEAT)
        late = time.monotonic() - due
        before = queue, hub, process
        queue, hub, process = queue_time(), time.thread_time(), time.process_time()
        (wanted,) = _WANTED.unpack_from(memory, 0)
        if wanted != pulse.measurement:
            pulse = Pulse(wanted)  # this beat began before it
        else:
            pulse.add(late, queue - before[0], hub - before[1], process - before[2])
        _RECORD.pack_into(memory, _WANTED.size, *astuple(pulse))


def _map(file: Path) -> mmap.mmap:
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), 0)


# Unlike os.pread and CDLL, PyDLL keeps the GIL: another thread might not give it back for long.
_pread = ctypes.PyDLL(None).pread
_buffer = ctypes.create_string_buffer(64)
_statistics = -1


def queue_time() -> float:
    """Seconds that the main thread could have run, so far, while other threads had the processors.

    0 on a kernel that doesn't count it.
    """
    global _statistics
    if _statistics < 0:
        _statistics = os.open(f"/proc/self/task/{os.getpid()}/schedstat", os.O_RDONLY)
    length = _pread(_statistics, _buffer, len(_buffer), 0)
    return int(_buffer.raw[:length].split()[1]) / 1e9
