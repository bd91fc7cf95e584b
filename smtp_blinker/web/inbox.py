"""The messages of a Maildir, newest first, listed and searched from memory.

The index is made when somebody looks: nothing runs, and nothing is kept, for an inbox that
nobody opens. A folder is read again only after it changed, and a file only once.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, BinaryIO, Final, ParamSpec, TypeVar, cast

from gevent import get_hub
from gevent.lock import BoundedSemaphore

from . import mime, transfer
from .entry import Entry, summarize
from .errors import in_one_line
from .query import Searchable, compile_query
from .steps import begin, breathe

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Octets of a message that the index reads, and that a reader is shown at most.
INDEXED: Final = 2**20
READABLE: Final = 64 * 2**20
#: Octets of a download that are read at once.
PIECE: Final = 256 * 1024
# A folder that changed this short a time before it was read may have changed again since,
# within the resolution of its time stamp.
_SETTLED: Final = 0.1

_ARRIVED = re.compile(r"(\d{1,11})\.(?:M(\d{1,6})(?!\d))?")

_SURROGATE = re.compile("[\ud800-\udfff]")

# The threads of gevent's pool are for the mail: the page borrows few of them.
_threads = BoundedSemaphore(2)


class _Failure:
    def __init__(self, exception: Exception) -> None:
        self.exception = exception


def in_thread(work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """The result of *work*, done in gevent's threadpool; raises what it raises."""

    def guarded() -> T | _Failure:
        # Returned, not raised: the threadpool prints a traceback of whatever is raised in it.
        begin()
        try:
            return work(*args, **keywords)
        except Exception as exc:
            return _Failure(exc)

    with _threads:
        task = get_hub().threadpool.spawn(guarded)
        try:
            result: Any = task.get()
        except BaseException:
            # This greenlet is killed, but the thread goes on with what our callers guard.
            task.wait()
            raise
    if isinstance(result, _Failure):
        raise result.exception
    return cast(T, result)


class Inbox:
    """The Maildir at *path*; a folder that is missing counts as empty.

    All methods do their file work in gevent's threadpool. They raise the OSError of a Maildir
    that can't be read, but a message that somebody else removed is no error.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self._new = os.path.join(self.path, "new")
        self._cur = os.path.join(self.path, "cur")
        self._entries: dict[str, Entry] = {}
        self._ids: list[str] = []
        self._pending: list[str] = []
        self._stamps: dict[str, int] = {}
        self._busy = BoundedSemaphore(1)
        #: Changes whenever the list does.
        self.version = 0

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def unread(self) -> int:
        return sum(entry.unread for entry in self._entries.values())

    @property
    def pending(self) -> int:
        """How many messages wait to be looked into."""
        return len(self._pending)

    def refresh(self, seconds: float | None = None) -> None:
        """See what is new, the newest first, for about *seconds*; without it, all there is."""
        with self._busy:
            in_thread(self._refresh, seconds)

    def find(self, query: str = "") -> list[Entry]:
        """The messages that match, newest first; see `query` for the language."""
        return in_thread(self._find, compile_query(query))

    def looked_into(self, entries: Iterable[Entry]) -> list[Entry]:
        """The same messages with all that the list shows, whether or not it was their turn."""

        def work() -> list[Entry]:
            for entry in wanted:
                if not entry.indexed and entry.id in self._entries:
                    self._look_into(entry.id)
            return [self._entries.get(entry.id, entry) for entry in wanted]

        wanted = list(entries)
        if all(entry.indexed for entry in wanted):
            return wanted
        with self._busy:
            return in_thread(work)

    def get(self, id: str) -> Entry | None:
        return self._entries.get(id)

    def read(self, entry: Entry, limit: int = READABLE) -> bytes | None:
        """The message as it is stored, *limit* octets at most; None if it is gone."""
        return self._with_file(entry, lambda path: _read(path, limit))

    def examine(self, entry: Entry, work: Callable[[bytes, mime.Message], T]) -> T | None:
        """*work*'s result, given the message and what is in it; None if it is gone.

        In one step, since the message may be large: as few are in memory as threads work.
        """

        def read(path: str) -> T:
            data = _read(path, READABLE)
            return work(data, mime.parse(data))

        return self._with_file(entry, read)

    def pieces(self, entry: Entry, part: mime.Part | None = None) -> Iterator[bytes] | None:
        """The whole message as it is stored, however large, or *part* of it decoded.

        None if it is gone. A piece at a time is in memory.
        """
        file = self._with_file(entry, lambda path: open(_open(path), "rb"))  # noqa: SIM115
        if file is None:
            return None
        if part is None:
            source = _pieces(file, 0, sys.maxsize)
        else:
            source = transfer.decode(_pieces(file, part.start, part.end), part.encoding)

        def read() -> Iterator[bytes]:
            with file:
                while (piece := in_thread(next, source, None)) is not None:
                    yield piece

        return read()

    def delete(self, entries: Iterable[Entry]) -> int:
        """Remove the files, for good; returns how many there were."""
        deleted = 0
        with self._busy:
            for entry in list(entries):
                if self._with_file(entry, _unlink):
                    deleted += 1
                self._entries.pop(entry.id, None)
            self._changed()
        return deleted

    def mark(self, entries: Iterable[Entry], *, read: bool) -> int:
        """Set or clear the Maildir flag S, moving files to cur/; returns how many changed."""
        changed = 0
        with self._busy:
            for entry in list(entries):
                if entry.unread is not read:
                    continue
                path = self._with_file(entry, lambda path: self._flag(path, read))
                if path is not None and entry.id in self._entries:
                    self._entries[entry.id] = replace(
                        self._entries[entry.id], path=path, unread=not read
                    )
                    changed += 1
            self._changed()
        return changed

    # In the thread

    def _refresh(self, seconds: float | None) -> None:
        self._scan()
        deadline = float("inf") if seconds is None else time.monotonic() + seconds
        while self._pending and time.monotonic() < deadline:
            id = self._pending.pop()
            if not self._entries[id].indexed:
                self._look_into(id)
            breathe()

    def _scan(self) -> None:
        """Compare the folders with what is known, if they changed."""
        stamps = {folder: _stamp(folder) for folder in (self._new, self._cur)}
        if stamps == self._stamps:
            return
        now = time.time_ns()
        entries: dict[str, Entry] = {}
        for folder in (self._new, self._cur):
            for name in _names(folder):
                id, _, flags = name.partition(":2,")
                path = os.path.join(folder, name)
                unread = folder == self._new or "S" not in flags
                known = self._entries.get(id)
                if known is None:
                    entries[id] = Entry(id, path, _arrived(name, path), unread)
                elif known.path != path or known.unread is not unread:
                    entries[id] = replace(known, path=path, unread=unread)
                else:
                    entries[id] = known
                breathe()
        settled = all(now - stamp > _SETTLED * 1e9 for stamp in stamps.values())
        self._stamps = stamps if settled else {}
        if entries != self._entries:
            self._entries = entries
            self._changed()

    def _changed(self) -> None:
        """Put the list in order."""
        entries = self._entries
        self._ids = sorted(entries, key=lambda id: (entries[id].time, id), reverse=True)
        # The newest is taken from the end, and first.
        self._pending = [id for id in reversed(self._ids) if not entries[id].indexed]
        self.version += 1

    def _look_into(self, id: str) -> None:
        entry = self._entries[id]
        try:
            summary = _summary(entry)
        except FileNotFoundError:  # the next scan tells
            summary = replace(entry, indexed=True)
        except Exception as exc:  # one message must not hide the others
            log.error("a message can't be read: %a: %s", entry.id, in_one_line(exc))
            summary = replace(entry, indexed=True, unreadable=True)
        self._entries[id] = summary
        self.version += 1

    def _find(self, matches: Callable[[Searchable], bool]) -> list[Entry]:
        entries = self._entries
        found = []
        for id in list(self._ids):
            entry = entries.get(id)
            if entry is not None and matches(entry):
                found.append(entry)
            breathe()
        return found

    def _flag(self, path: str, read: bool) -> str:
        name, _, flags = os.path.basename(path).partition(":2,")
        wanted = set(flags) | {"S"} if read else set(flags) - {"S"}
        target = os.path.join(self._cur, f"{name}:2,{''.join(sorted(wanted))}")
        os.rename(path, target)
        return target

    def _with_file(self, entry: Entry, work: Callable[[str], T]) -> T | None:
        """*work*'s result with the file of *entry*, which another program may have moved."""

        def attempt() -> T | None:
            try:
                return work(entry.path)
            except FileNotFoundError:
                for folder in (self._new, self._cur):
                    for name in _names(folder):
                        if name.partition(":2,")[0] == entry.id:
                            return work(os.path.join(folder, name))
                return None

        try:
            return in_thread(attempt)
        except FileNotFoundError:
            return None


def _stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def _names(folder: str) -> list[str]:
    """The messages in *folder*; what isn't a plain file is none.

    A name that isn't UTF-8 is none of a Maildir either, and can't stand in a URL.
    """
    try:
        with os.scandir(folder) as entries:
            return [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and not _SURROGATE.search(entry.name)
                and entry.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []


def _arrived(name: str, path: str) -> float:
    """When the message came: its name says, in a Maildir; else its file's time."""
    match = _ARRIVED.match(name)
    if match is not None:
        return int(match[1]) + int(match[2] or 0) / 1e6
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _open(path: str) -> int:
    # A FIFO or a device can't be waited for, a link leads out of the Maildir.
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _read(path: str, limit: int) -> bytes:
    with open(_open(path), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileNotFoundError(path)
        return file.read(limit)


def _pieces(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    while start < end and (piece := file.read(min(PIECE, end - start))):
        start += len(piece)
        yield piece


def _unlink(path: str) -> bool:
    os.unlink(path)
    return True


def _summary(entry: Entry) -> Entry:
    """*entry* with what the list and the search need of its file."""
    data, message = _beginning(entry.path)
    return summarize(entry, os.stat(entry.path).st_size, data, message)


def _beginning(path: str) -> tuple[bytes, mime.Message]:
    """The beginning of a message, `INDEXED` octets or more behind the trace fields."""
    limit = INDEXED
    while True:
        data = _read(path, limit)
        message = mime.parse(data)
        if len(data) < limit or message.trace_end <= limit - INDEXED // 2 or limit >= READABLE:
            return data, message
        limit *= 4
