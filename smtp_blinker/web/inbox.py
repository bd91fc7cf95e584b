"""The mail in a Maildir, for the page. It asks two processes that look at the mail.

The *index* knows which messages exist and searches them; the *reader* parses messages. So a message
that keeps the reader busy delays no list and no search. Both processes start when a page is opened:
an inbox that is not open needs no process and no memory.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, ParamSpec, Self, TypeVar

import gevent
from gevent.lock import BoundedSemaphore

from ..pools import Workers
from .child import Busy, Child, Failed
from .reader.errors import in_one_line
from .reader.files import open_message
from .reader.frames import Frame

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Octets of a download to read at a time.
PIECE: Final = 256 * 1024
#: Messages in one request to the reader.
READ_AT_ONCE: Final = 256
#: Seconds of reading for open pages that only watch; and how many times longer the pause after it
#: is while mail arrives, because mail has priority.
READING: Final = 0.05
PAUSE: Final = 19
LONGEST_PAUSE: Final = 1.0
#: Lists in the cache, which is cleared when anything changes.
MOST_LISTS: Final = 20
#: Seconds that a request to the index may take, for example to delete 100,000 messages.
INDEX_SECONDS: Final = 60
#: Octets that it may map: about 4 KiB per message.
INDEX_MEMORY: Final = 4 * 2**30

#: Threads that read files for downloads, and check whether mail can be stored.
_FILES: Final = Workers(4)


def in_thread(work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
    """Call *work* in a thread of the page; returns or raises what it does."""
    return _FILES.run(work, *args, **keywords)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """Limits for the mail to keep; the oldest beyond any of them is deleted. None: no limit."""

    days: float | None = None
    messages: int | None = None
    #: Octets of the files of all messages together.
    size: int | None = None

    @property
    def as_text(self) -> str:
        """A description for people; "" without limits."""
        limits = [
            None if self.days is None else f"{self.days:g} days",
            None if self.messages is None else f"{self.messages} messages",
            None if self.size is None else f"{self.size / 2**20:.4g} MiB",
        ]
        return ", ".join(filter(None, limits))


class Download:
    """The octets of *file* in pieces; the caller who iterates closes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if not self._file.closed:
            piece = in_thread(self._file.read, PIECE)
            if piece:
                return piece
            self.close()
        raise StopIteration

    def close(self) -> None:
        self._file.close()


class Inbox:
    """The Maildir at *path*; a missing folder counts as empty.

    Methods raise the OSError of a Maildir that can't be read, and the exceptions of `Child.ask`.
    They return None for a message that another program has removed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        self.index = Child(
            "index",
            self.path,
            cpu_seconds=INDEX_SECONDS,
            seconds=float(INDEX_SECONDS),
            memory=INDEX_MEMORY,
        )
        self.reader = Child("reader")
        self._counts = {"total": 0, "unread": 0, "pending": 0, "version": 0}
        #: The latest version of the list in an answer of the index; and the lists of that version:
        #: how many messages match, and a page of them.
        self._latest = 0
        self._lists: dict[tuple[str, int, int], tuple[int, bytes]] = {}
        #: When the last check began, and when the next one for watching pages may begin.
        self._began = self._next = 0.0
        self._busy = BoundedSemaphore(1)

    def __len__(self) -> int:
        return self._counts["total"]

    @property
    def unread(self) -> int:
        return self._counts["unread"]

    @property
    def pending(self) -> int:
        """The number of messages that aren't indexed yet."""
        return self._counts["pending"]

    @property
    def counts(self) -> dict[str, int]:
        """``total``, ``unread`` and ``pending``."""
        return {"total": len(self), "unread": self.unread, "pending": self.pending}

    @property
    def version(self) -> int:
        """A number that grows with each change of the list."""
        return self._counts["version"]

    def close(self) -> None:
        """End the processes."""
        self.index.close()
        self.reader.close()

    def refresh(self, seconds: float | None = None) -> None:
        """Look for new messages, newest first, for about *seconds*; without *seconds*, for all.

        Callers that come during a look share the next one.
        """
        asked = time.monotonic()
        with self._busy:
            if self._began < asked or (seconds is None and self.pending):
                self._refresh(seconds)

    def glance(self, seconds: float) -> None:
        """The same for an open page, perhaps with the last known state, since mail has priority."""
        pause = max(self._next - time.monotonic(), 0.0)
        gevent.sleep(min(pause, seconds))
        if pause <= seconds:
            self.refresh(min(seconds - pause, READING) if pause else seconds)

    def watch(self, seconds: float) -> None:
        """The same for one of many watching pages; one check serves all of them."""
        due = max(self._next, 0.0 if self.pending else self._began + seconds)
        if time.monotonic() < due or not self._busy.acquire(blocking=False):
            return
        try:
            self._refresh(READING, watching=True)
        finally:
            self._busy.release()

    def page(self, q: str, offset: int, limit: int) -> tuple[int, bytes]:
        """How many match *q*, and a page of them as the JSON that the API answers with."""
        what = q, offset, limit
        if what in self._lists:
            return self._lists[what]
        answer = self._list(what)
        if answer.fields["unindexed"]:
            with self._busy:
                if what in self._lists:  # another caller has read them meanwhile
                    return self._lists[what]
                answer = self._list(what)
                while answer.fields["unindexed"]:  # whether or not it was their turn
                    self._ask("take in", self._summaries(answer.fields["unindexed"]))
                    answer = self._list(what)
        return answer.fields["matching"], answer.body

    def get(self, id: str) -> dict[str, Any] | None:
        """Where the message is, and what the list shows of it: ``path`` and ``listed``."""
        return self._get(id)

    def delete(self, **which: Any) -> int:
        """Delete files permanently; returns how many. *which* is ``id``, ``ids`` or ``q``."""
        return int(self._ask("delete", **which).fields["deleted"])

    def hide(self, seconds: float, **which: Any) -> tuple[int, int]:
        """The same after so many seconds: how many, and the number by which `restore` undoes it."""
        answer = self._ask("delete", undo=seconds, **which).fields
        gevent.spawn_later(seconds + 0.1, self._remove_due)
        return answer["deleted"], answer["undo"]

    def _remove_due(self) -> None:
        try:
            self.refresh(0)
        except (OSError, Busy, Failed) as exc:  # the next check does it
            log.error("deleted messages are still there: %s", in_one_line(exc))

    def restore(self, number: int) -> int | None:
        """Undo a deletion; returns the number of its messages, or None if it is too late."""
        restored: int | None = self._ask("undo", number=number).fields["restored"]
        return restored

    def tag(self, tag: str, *, on: bool, **which: Any) -> int | None:
        """Put a tag by hand on messages, or take it off; returns how many changed, None when there
        are too many tags."""
        answer = self._ask("tag", tag=tag, on=on, **which).fields
        return None if answer["full"] else int(answer["changed"])

    def tags(self) -> dict[str, int]:
        """How many messages have each tag."""
        counts: dict[str, int] = self._ask("tags").fields["tags"]
        return counts

    def expire(self, keep: Keep) -> int:
        """Remove the files of the oldest messages beyond *keep*; returns how many there were."""
        oldest = None if keep.days is None else time.time() - keep.days * 86400
        answer = self._ask("expire", oldest=oldest, messages=keep.messages, size=keep.size)
        return int(answer.fields["deleted"])

    def mark(self, *, read: bool, **which: Any) -> int:
        """Set or clear the Maildir flag S, moving files to cur/; returns how many changed."""
        return int(self._ask("mark", read=read, **which).fields["changed"])

    def look(self, id: str, do: str, file: int | None = None, **fields: Any) -> Frame | None:
        """The reader's answer to the request *do* about a message; None if it was removed."""

        def attempt(message: dict[str, Any]) -> Frame:
            about = {"path": message["path"], "listed": message["listed"], **fields}
            try:
                return self.reader.ask(do, file=file, **about)
            except FileNotFoundError:
                raise
            except OSError as exc:
                raise Failed(in_one_line(exc)) from exc

        return self._with_message(id, attempt)

    def look_into_file(self, id: str, do: str, **fields: Any) -> tuple[Frame, Download] | None:
        """The same with a large result: also returns its octets in pieces."""
        file = in_thread(tempfile.TemporaryFile)
        answer = None
        try:
            answer = self.look(id, do, file.fileno(), **fields)
        finally:
            if answer is None:
                file.close()
        if answer is None:
            return None
        in_thread(file.seek, 0)
        return answer, Download(file)

    def raw(self, id: str) -> Download | None:
        """The whole stored message of any size; None if it was removed."""

        def attempt(message: dict[str, Any]) -> BinaryIO:
            return open(in_thread(open_message, message["path"]), "rb")

        file = self._with_message(id, attempt)
        return None if file is None else Download(file)

    def _with_message(self, id: str, work: Callable[[dict[str, Any]], T]) -> T | None:
        """Call *work* with a message, which another program may have moved; returns its result."""
        for again in (False, True):
            message = self._get(id, again=again)
            if message is None:
                return None
            try:
                return work(message)
            except FileNotFoundError:
                continue
        return None

    def _get(self, id: str, *, again: bool = False) -> dict[str, Any] | None:
        found = self._ask("get", id=id, again=again).fields
        if "path" in found and not found["indexed"]:
            with self._busy:
                self._ask("take in", self._summaries([[id, found["path"]]]))
            found = self._ask("get", id=id).fields
        return found if "path" in found else None

    def _list(self, what: tuple[str, int, int]) -> Frame:
        """The index's answer, cached until the list changes."""
        q, offset, limit = what
        answer = self._ask("list", q=q, offset=offset, limit=limit)
        is_whole = not answer.fields["unindexed"]
        if is_whole and answer.fields["version"] == self._latest and len(self._lists) < MOST_LISTS:
            self._lists[what] = answer.fields["matching"], answer.body
        return answer

    def _ask(self, do: str, body: bytes = b"", **fields: Any) -> Frame:
        """The index's answer, which includes the version of the list."""
        answer = self.index.ask(do, body, **fields)
        if answer.fields["version"] > self._latest:
            self._latest = answer.fields["version"]
            self._lists.clear()
        return answer

    def _refresh(self, seconds: float | None, *, watching: bool = False) -> None:
        began = time.monotonic()
        deadline = float("inf") if seconds is None else began + seconds
        answer = self._ask("refresh", watching=watching).fields
        if answer["batch"]:
            answer = self._read_pending(answer, deadline)
        comes = 0 < len(self) < answer["total"]
        self._counts = {name: answer[name] for name in self._counts}
        self._began, now = began, time.monotonic()
        self._next = now + min(PAUSE * (now - began), LONGEST_PAUSE) if comes else now

    def _read_pending(self, answer: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Read a batch of messages while the index takes in the batch before it.

        *answer* is the latest answer of the index; returns the next one.
        """
        summaries, reading = b"", list[list[str]]()
        while time.monotonic() < deadline:
            taking = gevent.spawn(self._take_in, summaries) if summaries else None
            taken = {id for id, _ in reading}
            reading = [each for each in answer["batch"] if each[0] not in taken][:READ_AT_ONCE]
            summaries = self._summaries(reading) if reading else b""
            if taking is not None:
                answer = _result(taking.get())
            elif not reading:
                return answer
        return _result(self._take_in(summaries)) if summaries else answer

    def _take_in(self, summaries: bytes) -> dict[str, Any] | Exception:
        """The index's answer or its exception, since gevent prints exceptions of greenlets."""
        try:
            return self._ask("refresh", summaries, watching=True).fields
        except Exception as exc:
            return exc

    def _summaries(self, batch: list[list[str]], *, again: bool = True) -> bytes:
        """The reader's summaries of the first messages of *batch*, in the form for the index.

        *again* says whether each message gets another try if the process ends.
        """
        try:
            answer = self.reader.ask("summarize", messages=batch)
        except Failed as exc:
            if again:  # one of them ended the process: find out which, or whether it was another
                found = [
                    each
                    for one in batch
                    for each in json.loads(self._summaries([one], again=False))
                ]
                return json.dumps(found).encode()
            answer = Frame({"faults": [[batch[0][0], str(exc)]]}, _unreadable(batch[0][0]))
        for id, fault in answer.fields["faults"]:
            log.error("a message can't be read: %a: %s", id, fault)
        return answer.body


def _result(result: dict[str, Any] | Exception) -> dict[str, Any]:
    if isinstance(result, Exception):
        raise result
    return result


def _unreadable(id: str) -> bytes:
    return json.dumps([{"id": id, "unreadable": True}]).encode()
