"""The folders of a spool and the files in them. All functions block.

An entry is one file: a line of JSON (`saved_session`), then the content. It is written in tmp/ and
moved to queue/ when it is complete and fsynced. The names are in the order of arrival.
"""

from __future__ import annotations

import errno
import fcntl
import heapq
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Final

from gevent import monkey

from ..session import Session, new_id
from .decision import Decision
from .disk import TRIAL, make_folder, sync_folder
from .saved_session import Expired, load

#: Files in tmp/ older than this many seconds are left from a crash: writing takes far less time.
STALE: Final = 3600
#: The number of names that one look at the queue returns.
BATCH: Final = 1000
#: The most entries to deliver together, and octets of all their contents.
GROUP: Final = 64
GROUP_OCTETS: Final = 256 * 1024
#: The longest line of JSON to read, in octets; 1000 recipients need less than 4 MiB.
_LONGEST_HEAD: Final = 64 * 2**20
_NAME: Final = re.compile(r"([0-9]{20})-[a-z2-7]{16}")

# The original, even in a monkey-patched process.
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")


@dataclass(frozen=True, slots=True)
class Look:
    """The state of the queue."""

    #: The first `BATCH` names.
    names: tuple[str, ...] = ()
    messages: int = 0
    #: Octets of all files.
    bytes: int = 0
    #: The arrival of the oldest one in seconds since 1970, or None.
    oldest: float | None = None


class SpoolFolder:
    """The folder *path* with its folders tmp, queue and failed.

    The constructor makes them with mode 0700, or raises `OSError`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self.tmp = os.path.join(self.path, "tmp")
        self.queue = os.path.join(self.path, "queue")
        self.failed = os.path.join(self.path, "failed")
        self._last = 0
        self.make_folders()
        # An earlier run may have made them and ended before fsync.
        sync_folder(self.path)

    def make_folders(self) -> None:
        for folder in (self.path, self.tmp, self.queue, self.failed):
            make_folder(folder, 0o700)

    def check(self) -> None:
        """Make missing folders, and write and remove a file. Raises `OSError`."""
        self.make_folders()
        for folder in (self.tmp, self.queue, self.failed):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)
        trial = self.draft(self.new_name())
        try:
            trial.write(bytes(TRIAL))
        finally:
            trial.discard()

    def new_name(self) -> str:
        """A name that sorts after all earlier ones of this process, even if the clock goes back."""
        self._last = max(self._last + 1, time.time_ns())
        return f"{self._last:020d}-{new_id()}"

    def is_empty(self) -> bool:
        try:
            with os.scandir(self.queue) as entries:
                return next(entries, None) is None
        except FileNotFoundError:
            self.make_folders()
            return True

    def look(self, put_off: Collection[str] = ()) -> Look:
        """The state of the queue; the names are without those in *put_off*."""
        messages = total = 0
        oldest: str | None = None

        def names() -> Iterator[str]:
            nonlocal messages, total, oldest
            for entry in entries:
                with suppress(FileNotFoundError):  # another process has delivered it
                    total += entry.stat(follow_symlinks=False).st_size
                    messages += 1
                    if oldest is None or entry.name < oldest:
                        oldest = entry.name
                    if entry.name not in put_off:
                        yield entry.name

        # Names are compared one at a time: sorting a long queue at once would block other threads.
        with os.scandir(self.queue) as entries:
            first = heapq.nsmallest(BATCH, names())
        return Look(tuple(first), messages, total, None if oldest is None else arrived(oldest))

    def draft(self, name: str) -> Draft:
        return Draft(self, name)

    def open(self, name: str, now: datetime) -> Entry:
        """Open the entry *name*; the caller closes it.

        Raises FileNotFoundError if it doesn't exist (any more), other `OSError`, and ValueError and
        `Expired` like `load`.
        """
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = open(os.open(os.path.join(self.queue, name), flags), "rb")  # noqa: SIM115
        try:
            head = file.readline(_LONGEST_HEAD)
            session, size = load(head, now)
            there = os.fstat(file.fileno()).st_size - len(head)
            if there != size:
                raise ValueError(f"its content has {there} bytes and not {size}")
        except BaseException:
            file.close()
            raise
        return Entry(file, head, size, session)

    def open_group(self, names: Sequence[str], now: datetime) -> list[InMemory]:
        """The first entries of *names* that can be read, up to the size of a group."""
        group: list[InMemory] = []
        octets = 0
        for name in names[:GROUP]:
            try:
                with closing(self.open(name, now)) as entry:
                    octets += entry.size
                    if octets > GROUP_OCTETS:
                        break
                    group.append(InMemory(name, entry.session, entry.read(0, entry.size)))
            except (ValueError, Expired, OSError):
                break
        return group

    def remove(self, *names: str) -> None:
        # Without fsync: if it reappears after a crash, it is delivered twice.
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.queue, name))

    def fail(self, name: str) -> None:
        """Move the entry to failed/ for the operator."""
        make_folder(self.failed, 0o700)
        os.rename(os.path.join(self.queue, name), os.path.join(self.failed, name))
        sync_folder(self.failed)
        sync_folder(self.queue)

    def remove_stale(self) -> None:
        """Remove files from tmp/ that a crash has left there."""
        oldest = time.time() - STALE
        with suppress(OSError), os.scandir(self.tmp) as entries:
            for entry in list(entries):
                with suppress(OSError):  # another process may have removed it
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    def lock(self) -> Callable[[], None] | None:
        """Lock the delivery for this process; returns a function that unlocks, or None if another
        process has the lock."""
        fd = os.open(os.path.join(self.path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return lambda: os.close(fd)


def arrived(name: str) -> float | None:
    """The arrival of the entry *name* in seconds since 1970; None for the name of another file."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1]) / 1e9


class Draft:
    """An entry that is being written.

    Only one `write` or `publish` may run at a time; `discard` may run at any time, in any thread.
    """

    def __init__(self, folder: SpoolFolder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = os.path.join(folder.tmp, name)
        self._fd = -1
        self._lock = _allocate_lock()
        self.decision = Decision()
        #: If set, nothing more is written.
        self.is_abandoned = False

    def write(self, data: bytes) -> None:
        """Append *data*."""
        with self._lock:
            self._check()
            if self._fd < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._folder.make_folders()  # they may have been removed meanwhile
                self._fd = os.open(self._path, flags, 0o600)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]

    def publish(self, folder: str = "") -> None:
        """Fsync it and move it into the queue (or *folder*), replacing an entry of that name."""
        folder = folder or self._folder.queue
        with self._lock:
            os.fsync(self._fd)
            self._close()
            if not self.decision.take():
                raise self._abandoned()
            path = os.path.join(folder, self._name)
            os.rename(self._path, path)
            self._path = path
            sync_folder(folder)
            self._path = ""

    def discard(self) -> None:
        """Remove it unless it was published. Raises nothing."""
        self.is_abandoned = True
        with self._lock:
            path, self._path = self._path, ""
            with suppress(OSError):
                self._close()
            if path:
                with suppress(OSError):
                    os.unlink(path)

    def _check(self) -> None:
        if self.is_abandoned:
            raise self._abandoned()

    def _abandoned(self) -> InterruptedError:
        return InterruptedError(errno.EINTR, "the message was abandoned", self._path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # even if close() fails, the descriptor is closed
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class InMemory:
    """An entry in memory."""

    name: str
    session: Session
    content: bytes


class Entry:
    """An open entry. `close` waits until a `read` in another thread has ended."""

    def __init__(self, file: BinaryIO, head: bytes, size: int, session: Session) -> None:
        self._file = file
        self._lock = _allocate_lock()
        #: The line of JSON.
        self.head = head
        #: Octets of the content.
        self.size = size
        self.session = session

    def read(self, offset: int, size: int) -> bytes:
        """Octets of the content from *offset* on; fewer than *size* only at the end."""
        pieces = []
        offset += len(self.head)
        with self._lock:
            if self._file.closed:
                raise ValueError("the message is no longer available: it was delivered")
            while size and (piece := os.pread(self._file.fileno(), size, offset)):
                pieces.append(piece)
                offset += len(piece)
                size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        with self._lock:
            self._file.close()
