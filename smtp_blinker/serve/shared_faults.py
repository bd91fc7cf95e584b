"""Faults that the workers and the process of the page share."""

from __future__ import annotations

import fcntl
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from smtp_blinker import Reject
from smtp_blinker.faults import Fault, Faults, Kept

_CHANGES: Final = struct.Struct("=Q")


class SharedFaults(Faults):
    """Faults that this process shares with the processes that it forks later.

    An unlinked temporary file has the number of changes, and the faults as JSON. A process reads
    the file again when the number has changed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - until all processes have ended
        self._changes = 0
        os.pwrite(self._file.fileno(), _CHANGES.pack(0), 0)

    @property
    def all(self) -> list[Fault]:
        changes = os.pread(self._file.fileno(), _CHANGES.size, 0)
        if _CHANGES.unpack(changes)[0] != self._changes:
            with self._locked():
                self._read()
        return super().all

    @contextmanager
    def _changing(self) -> Iterator[Kept]:
        with super()._changing() as kept, self._locked():
            self._read()
            yield kept
            self._write()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock the file, for some hundred microseconds. The system unlocks it if a process dies."""
        # Not flock, because forked processes share one open file description.
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _read(self) -> None:
        file = self._file.fileno()
        content = os.pread(file, os.fstat(file).st_size, 0)
        (self._changes,) = _CHANGES.unpack_from(content)
        if self._changes:
            last, *faults = json.loads(content[_CHANGES.size :])
            self._kept.last, self._kept.faults = last, [_fault(each) for each in faults]

    def _write(self) -> None:
        file = self._file.fileno()
        faults = [each.as_dict() for each in self._kept.faults]
        os.ftruncate(file, _CHANGES.size)
        os.pwrite(file, json.dumps([self._kept.last, *faults]).encode(), _CHANGES.size)
        # A process that sees the new number waits for the lock before it reads.
        self._changes += 1
        os.pwrite(file, _CHANGES.pack(self._changes), 0)


def _fault(fields: dict[str, Any]) -> Fault:
    """Make the fault from the result of `Fault.as_dict`."""
    return Fault(
        fields["id"],
        fields["do"],
        tuple(fields["at"]),
        fields["sender"],
        fields["recipient"],
        fields["chance"],
        fields["times"],
        Reject(fields["code"], fields["text"]) if "code" in fields else None,
        fields.get("seconds", 0.0),
    )
