"""The reader's summaries in a file of the Maildir: after a restart no message is parsed again.

Each line has a batch of summaries as JSON. The first line names the program that made them: those
of another version are not used. The file is not fsynced. A line that a crash has damaged is
skipped, and without the file everything is parsed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from .files import open_message

FILE: Final = "smtp-blinker-index"
#: Summaries in a line of a file that is written again.
PER_LINE: Final = 256

Summaries = list[dict[str, Any]]


class Saved:
    """The summaries of the Maildir at *path*. A file that can't be read counts as empty."""

    def __init__(self, path: str) -> None:
        self._path = os.path.join(path, FILE)
        self._file: BinaryIO | None = None
        #: Summaries in the file, including those of messages that don't exist any more.
        self.count = 0

    def read(self) -> Iterator[Summaries]:
        """All batches. A caller that uses what they contain must expect anything in it."""
        with suppress(OSError), open(open_message(self._path), "rb") as file:
            if file.readline() != _program():
                return
            for line in file:
                with suppress(ValueError, RecursionError, TypeError):
                    batch = json.loads(line)
                    self.count += len(batch)
                    yield batch

    def add(self, batch: bytes, count: int) -> None:
        """Append a batch of *count* summaries, which is JSON without line ends."""
        with suppress(OSError):
            if self._file is None:
                self._file = _open(self._path, append=self.count > 0)
            self._file.write(batch + b"\n")
            self.count += count

    def replace(self, summaries: Iterable[dict[str, Any]]) -> None:
        """Let the file have *summaries* and nothing else."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.count = 0  # the next batch truncates the file
        with suppress(OSError):
            os.truncate(self._path, 0)
        left = iter(summaries)
        while batch := list(islice(left, PER_LINE)):
            self.add(json.dumps(batch).encode(), len(batch))


def _open(path: str, *, append: bool) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(path, flags if append else flags | os.O_TRUNC, 0o600)
    file = open(fd, "ab", buffering=0)  # noqa: SIM115 - as long as the process lives
    if not append:
        file.write(_program())
    return file


@cache
def _program() -> bytes:
    """A line that changes when the reader or Python changes."""
    source = hashlib.blake2b(sys.version.encode(), digest_size=16)
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    return f"smtp-blinker {source.hexdigest()}\n".encode()
