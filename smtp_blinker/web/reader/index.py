"""The messages of a Maildir, newest first, listed and searched in memory.

The index reads only the names of files. The reader parses the files, and the page passes its
findings on to the index. The index reads a folder again only after the folder changed, and has each
file parsed only once.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Final

from .entry import SUMMARIZED, Entry, joined
from .frames import Frame
from .query import hint, select
from .saved import Saved, Summaries
from .tags import Full, Keywords
from .trash import Trash

#: Messages that are named as the next to look into: two batches of the reader's.
BATCH: Final = 512
# A folder that changed this short a time before it was read may have changed again since,
# within the resolution of its time stamp.
_SETTLED: Final = 0.1
# Where pages only watch, a scan is this many times shorter than the pause after it.
_PAUSE: Final = 4

#: Up to so many messages, what is saved of a deleted one is removed at once; of more, when more
#: messages are gone than there are.
FEW: Final = 1000

_ARRIVED = re.compile(r"(\d{1,11})\.(?:M(\d{1,6})(?!\d))?")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Index:
    """The Maildir at *path*; a missing folder counts as empty.

    Its methods raise the OSError of a Maildir that can't be read. A message that another program
    has removed is not an error.
    """

    def __init__(self, path: str) -> None:
        self._folders = (os.path.join(path, "new"), os.path.join(path, "cur"))
        self._names: dict[str, set[str]] = {folder: set() for folder in self._folders}
        self._stamps: dict[str, int] = {}
        self._next_scan = 0.0
        self._entries: dict[str, Entry] = {}
        #: Times and ids, the newest last.
        self._order: list[tuple[float, str]] = []
        #: Those that wait for the reader: the newest of them is the last.
        self._pending: dict[str, None] = {}
        self._unread = 0
        self._keywords = Keywords(path)
        self._trash = Trash()
        self._saved = Saved(path)
        self._has_read = False
        #: Grows whenever the list changes, and beyond that of an index that ended.
        self._version = time.monotonic_ns()
        #: All messages, the newest first, and the version of the list that they are.
        self._listed: tuple[int, list[Entry]] = (0, [])
        functions: dict[str, Callable[[Frame], Frame]] = {
            "refresh": self._refresh,
            "take in": self._take_in,
            "list": self._list,
            "get": self._get,
            "delete": self._delete,
            "undo": self._undo,
            "mark": self._mark,
            "tag": self._tag,
            "tags": self._tags,
            "expire": self._expire,
        }
        self.functions: dict[str, Callable[[Frame], Frame]] = {
            name: partial(self._serve, each) for name, each in functions.items()
        }

    def _serve(self, function: Callable[[Frame], Frame], request: Frame) -> Frame:
        """The answer, and the version of the list that it is true of."""
        answer = function(request)
        answer.fields["version"] = self._version
        return answer

    # The page's requests

    def _take_in(self, request: Frame) -> Frame:
        """Take in what the reader found."""
        if request.body:
            summaries = json.loads(request.body)
            self._saved.add(request.body, len(summaries))
            self._add(summaries)
            self._version += 1
        return Frame({})

    def _add(self, summaries: Summaries) -> None:
        for summary in summaries:
            id = summary.pop("id")
            entry = self._entries.get(id)
            if entry is not None and not entry.indexed:
                if "folded" in summary:
                    summary["words"] = joined(summary.pop("folded"))
                self._entries[id] = replace(entry, indexed=True, **summary)
                self._pending.pop(id, None)

    def _refresh(self, request: Frame) -> Frame:
        """Take in summaries, look for new messages, and return which ones the reader has to parse.

        If the last scan took long, a ``watching`` request is answered from that scan.
        """
        self._take_in(request)
        if not request.fields.get("watching") or time.monotonic() >= self._next_scan:
            self._scan()
        batch = [[id, self._entries[id].path] for id in islice(reversed(self._pending), BATCH)]
        return Frame({**self._counts(), "batch": batch})

    def _list(self, request: Frame) -> Frame:
        """A page of the messages that match, as the JSON that the API answers with."""
        offset, limit = request.fields["offset"], request.fields["limit"]
        found = self._matching(request.fields["q"])
        page = found[offset : offset + limit]
        answer = {
            "messages": [entry.as_dict() for entry in page],
            "offset": offset,
            "matching": len(found),
            "hint": hint(request.fields["q"]),
            **self._counts(),
        }
        unindexed = [[entry.id, entry.path] for entry in page if not entry.indexed]
        return Frame({"matching": len(found), "unindexed": unindexed}, json.dumps(answer).encode())

    def _get(self, request: Frame) -> Frame:
        entry = self._entries.get(request.fields["id"])
        if entry is None or not entry.indexed or request.fields.get("again"):
            self._stamps = {}
            self._scan()
            entry = self._entries.get(request.fields["id"])
        if entry is None:
            return Frame({})
        return Frame({"path": entry.path, "indexed": entry.indexed, "listed": entry.as_dict()})

    def _delete(self, request: Frame) -> Frame:
        """Remove the files: for good, or after ``undo`` seconds, until which they are hidden."""
        chosen = self._chosen(request)
        if not request.fields.get("undo"):
            return Frame({"deleted": self._remove_files(chosen)})
        for entry in chosen:
            del self._entries[entry.id]
            self._pending.pop(entry.id, None)
        self._changed()
        number = self._trash.put(chosen, request.fields["undo"])
        return Frame({"deleted": len(chosen), "undo": number})

    def _undo(self, request: Frame) -> Frame:
        """Show again what was deleted under that number; null when it is too late."""
        entries = self._trash.take(request.fields["number"])
        if entries is None:
            return Frame({"restored": None})
        entries = [entry for entry in entries if os.path.lexists(entry.path)]
        for entry in entries:
            self._entries[entry.id] = entry
            self._order.append((entry.time, entry.id))
            if not entry.indexed:
                self._pending[entry.id] = None
        self._changed()
        return Frame({"restored": len(entries)})

    def _mark(self, request: Frame) -> Frame:
        """Set or clear the Maildir flag S, moving files to cur/."""
        read = bool(request.fields["read"])
        changed = 0
        for entry in self._chosen(request):
            if entry.unread is read and self._with_file(
                entry, lambda path: self._flag(path, "S", on=read)
            ):
                changed += 1
        self._scan()
        return Frame({"changed": changed})

    def _tag(self, request: Frame) -> Frame:
        """Put a tag by hand on messages, or take it off; ``full`` when there are too many tags."""
        tag, on = request.fields["tag"], bool(request.fields["on"])
        self._scan()
        try:
            letter = self._keywords.letter(tag, add=on)
        except Full:
            return Frame({"changed": 0, "full": True})
        changed = 0
        for entry in self._chosen(request) if letter is not None else ():
            has_it = tag.casefold() in entry.by_hand
            if has_it is not on and self._with_file(
                entry, lambda path: self._flag(path, letter or "", on=on)
            ):
                changed += 1
        self._scan()
        return Frame({"changed": changed, "full": False})

    def _tags(self, request: Frame) -> Frame:
        counts = Counter(tag for entry in self._entries.values() for tag in entry.tags)
        return Frame({"tags": dict(sorted(counts.items()))})

    def _expire(self, request: Frame) -> Frame:
        """Remove the oldest until what is left is new, few and small enough."""
        self._scan()
        oldest, messages, octets = (request.fields[name] for name in ("oldest", "messages", "size"))
        left, total = len(self._order), sum(entry.size for entry in self._entries.values())
        expired = []
        for arrived, id in self._order:
            if not (
                (oldest is not None and arrived < oldest)
                or (messages is not None and left > messages)
                or (octets is not None and total > octets)
            ):
                break
            expired.append(self._entries[id])
            left -= 1
            total -= self._entries[id].size
        return Frame({"deleted": self._remove_files(expired)})

    # Choosing

    def _chosen(self, request: Frame) -> list[Entry]:
        ids = request.fields.get("ids") or [request.fields.get("id")]
        if ids != [None]:
            known = [self._entries[id] for id in dict.fromkeys(ids) if id in self._entries]
            return select(request.fields.get("q", ""), known)
        return self._matching(request.fields["q"])

    def _matching(self, query: str) -> list[Entry]:
        """The messages that match, newest first; see `query` for the language."""
        if self._listed[0] != self._version:
            newest_first = [self._entries[id] for _, id in reversed(self._order)]
            self._listed = self._version, newest_first
        return select(query, self._listed[1])

    def _counts(self) -> dict[str, int]:
        return {
            "total": len(self._entries),
            "unread": self._unread,
            "pending": len(self._pending),
        }

    # What is there

    def _scan(self) -> None:
        """Compare the folders with what is known, if they changed."""
        began = time.monotonic()
        self._remove_due()
        if self._keywords.read():
            self._name_tags()
        stamps = {folder: _stamp(folder) for folder in self._folders}
        if stamps != self._stamps:
            now = time.time_ns()
            gone: set[str] = set()
            come: list[tuple[str, str]] = []
            for folder in self._folders:
                names = _names(folder)
                gone |= {name.partition(":2,")[0] for name in self._names[folder] - names}
                come += [(folder, name) for name in names - self._names[folder]]
                self._names[folder] = names
            settled = all(now - stamp > _SETTLED * 1e9 for stamp in stamps.values())
            self._stamps = stamps if settled else {}
            if gone or come:
                self._update(gone, come)
            if not self._has_read:
                self._has_read = True
                self._read_saved()
            gone_and_saved = self._saved.count - len(self._entries)
            if gone_and_saved > (len(self._entries) if len(self._entries) > FEW else 0):
                self._saved.replace(self._summaries())
        ended = time.monotonic()
        self._next_scan = ended + _PAUSE * (ended - began)

    def _read_saved(self) -> None:
        """Take in what an earlier process has saved of the messages that are there."""
        for batch in self._saved.read():
            with suppress(TypeError, KeyError, AttributeError):  # a file can be anything
                self._add([each for each in batch if self._has_size(each["id"], each.get("size"))])
        self._version += 1

    def _has_size(self, id: str, size: int | None) -> bool:
        """Whether it is the same message, and not one that now has its name."""
        return id in self._entries and self._entries[id].size == size

    def _summaries(self) -> Iterator[dict[str, Any]]:
        """What `_read_saved` takes in, of all messages that were read."""
        for entry in self._entries.values():
            if entry.words:
                yield {"id": entry.id, **{name: getattr(entry, name) for name in SUMMARIZED}}

    def _update(self, gone: set[str], come: list[tuple[str, str]]) -> None:
        added = []
        for folder, name in come:
            id, _, flags = name.partition(":2,")
            path = os.path.join(folder, name)
            unread = folder == self._folders[0] or "S" not in flags
            if self._trash.has_moved(id, path):
                continue
            if id in self._entries:
                self._entries[id] = replace(
                    self._entries[id], path=path, unread=unread, by_hand=self._keywords.of(flags)
                )
                gone.discard(id)
            elif (entry := _entry(id, name, path, unread)) is not None:
                if flags:
                    entry = replace(entry, by_hand=self._keywords.of(flags))
                self._entries[id] = entry
                added.append((entry.time, id))
        for id in gone:
            if id in self._entries and not os.path.lexists(self._entries[id].path):
                self._remove(id)
        self._order += added
        self._pending.update((id, None) for _, id in sorted(added))
        self._changed()

    def _remove_due(self) -> None:
        """Remove for good what was deleted long enough ago."""
        for entry in self._trash.due():
            with suppress(OSError):
                os.unlink(entry.path)
            folder, name = os.path.split(entry.path)
            self._names[folder].discard(name)

    def _name_tags(self) -> None:
        """Look at all flags again, after the names of the tags have changed."""
        for id, entry in self._entries.items():
            flags = entry.path.partition(":2,")[2]
            if flags:
                self._entries[id] = replace(entry, by_hand=self._keywords.of(flags))
        self._version += 1

    def _remove(self, id: str) -> None:
        entry = self._entries.pop(id, None)
        if entry is not None:
            folder, name = os.path.split(entry.path)
            self._names[folder].discard(name)
        self._pending.pop(id, None)

    def _changed(self) -> None:
        if len(self._order) != len(self._entries):
            self._order = [each for each in self._order if each[1] in self._entries]
        self._order.sort()
        self._unread = sum(entry.unread for entry in self._entries.values())
        self._version += 1

    def _remove_files(self, entries: Iterable[Entry]) -> int:
        deleted = 0
        try:
            for entry in entries:
                if self._with_file(entry, os.unlink):
                    deleted += 1
                self._remove(entry.id)
        finally:
            self._changed()
        return deleted

    def _flag(self, path: str, flag: str, *, on: bool) -> None:
        name, _, flags = os.path.basename(path).partition(":2,")
        wanted = set(flags) | {flag} if on else set(flags) - {flag}
        target = os.path.join(self._folders[1], f"{name}:2,{''.join(sorted(wanted))}")
        os.rename(path, target)

    def _with_file(self, entry: Entry, work: Callable[[str], None]) -> bool:
        """Do *work* with the file of *entry*, which another program may have moved or removed."""
        try:
            work(entry.path)
        except FileNotFoundError:
            self._stamps = {}
            self._scan()
            found = self._entries.get(entry.id)
            if found is None or found.path == entry.path:
                return False
            try:
                work(found.path)
            except FileNotFoundError:
                return False
        return True


def _stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except FileNotFoundError:
        return 0


def _names(folder: str) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _entry(id: str, name: str, path: str, unread: bool) -> Entry | None:
    """The message in a file that is new; None for what is not a message.

    A name that isn't UTF-8 is none of a Maildir, and can't stand in a URL.
    """
    if name.startswith(".") or _SURROGATE.search(name):
        return None
    try:
        file = os.lstat(path)
    except OSError:
        return None  # the next scan finds out
    if not stat.S_ISREG(file.st_mode):
        return None
    match = _ARRIVED.match(name)  # a Maildir's name says when the message came
    arrived = int(match[1]) + int(match[2] or 0) / 1e6 if match is not None else file.st_mtime
    return Entry(id, path, arrived, unread, file.st_size)
