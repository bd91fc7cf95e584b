"""A Maildir as `on_data`: the message is on the disk before the client gets 250."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, Protocol

import gevent
from gevent.event import AsyncResult

from ..pools import STORES
from ..session import Session
from ..smtp.names import ascii_domain
from ..trace import BEGINNING, delivered_to, received, return_path, separator
from .decision import Decision
from .disk import FOLDER, NO_SPACE, make_folder, no_space, sync_folder
from .findings import findings_fields

#: Octets that are asked of the stream at once, and kept before they are written.
PIECE: Final = 65536

#: Seconds after which a file in tmp/ is the rest of a crash (the rule of Maildir's author).
STALE: Final = 36 * 3600

# One for the process: two stores may share a folder, and a second has many microseconds but
# clocks that don't show them all.
_counter = itertools.count(1)


class MessageSource(Protocol):
    """What the store needs of the message stream."""

    def read(self, size: int = ..., /) -> bytes: ...


class MaildirStore:
    """Stores each message in the Maildir *path*: ``SMTPServer(address, on_data=MaildirStore(…))``.

    *hostname* is this host in file names and Received lines; by default what the system says.
    The folders tmp, new and cur are made, with mode 0700, where they are missing, and their
    parents with them; each of them is fsynced. The constructor raises the `OSError` that prevents
    it. Folders that were removed later are made again for the next message.

    Called with a stream and a session it returns the text of the 250 reply, after the file and
    the folder it is in were fsynced. It raises `Reject` (452 4.3.1) when the disk or a quota is
    full and lets any other `OSError` out. What the stream raises goes on to the caller. In each
    of these cases nothing of the message is left. An exception that is thrown into the greenlet
    (hook_timeout, a `gevent.Timeout`, the end of the server) has the same effect until the
    message is moved into new/; from there on the store finishes and returns, whatever is thrown.

    The message begins with Return-Path, one Delivered-To for each recipient, an X-Policy-Result
    for each policy that judged it (JSON: its name, and what it found), and Received. An empty line
    follows them when the content doesn't begin with a header field, since it would continue the
    Received field. Line ends are LF, as programs that read Maildirs expect; a CR or LF alone stays
    unchanged. Of a message a few pieces of 64 KiB are in memory at once.
    Everything that waits for the disk is done in threads, where it holds up no other client.
    """

    def __init__(self, path: str | os.PathLike[str], hostname: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.hostname = hostname or socket.gethostname()
        # A slash would be a folder, and a colon ends the name where the flags begin.
        self._host_part = ascii_domain(self.hostname).replace("/", "\\057").replace(":", "\\072")
        self._tmp = os.path.join(self.path, "tmp")
        self._new = os.path.join(self.path, "new")
        self._make_folders()
        # Should the last run have made them and ended before they were on the disk.
        sync_folder(self.path)

    def _make_folders(self) -> None:
        for folder in (self.path, self._tmp, self._new, os.path.join(self.path, "cur")):
            make_folder(folder, 0o700)

    def check_folders(self) -> None:
        """Make the folders that are missing; raises the `OSError` when mail can't be stored there.

        It writes nothing else, so it may be called often. It waits for the disk: call it in a
        thread.
        """
        self._make_folders()
        for folder in (self._tmp, self._new):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)

    def check(self) -> None:
        """Write a file as a message would be, and remove it; raises what stands in the way.

        Files that a crash left in tmp/ more than 36 hours ago are removed too, if they can be.
        Blocks the whole process while it works, so it is for the start of a program.
        """
        self.check_folders()
        trial = self._draft(self._unique_name())
        try:
            trial.add(b"\n")
            trial.write()
            trial.sync()
        finally:
            trial.discard()
        if os.stat(self._tmp).st_dev != os.stat(self._new).st_dev:
            raise OSError(errno.EXDEV, "tmp and new are on different file systems", self.path)
        self._remove_stale()

    def _remove_stale(self) -> None:
        oldest = time.time() - STALE
        with suppress(OSError), os.scandir(self._tmp) as entries:
            for entry in list(entries):
                # Another process may be quicker; a folder, or what isn't ours, stays.
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    def _draft(self, name: str) -> _Draft:
        return _Draft(self._tmp, self._new, name, self._make_folders)

    def _unique_name(self) -> str:
        now = time.time_ns()
        return (
            f"{now // 10**9}.M{now // 1000 % 10**6:06d}P{os.getpid()}Q{next(_counter)}"
            f".{self._host_part}"
        )

    def __call__(self, stream: MessageSource, session: Session) -> str:
        name = self._unique_name()
        draft = self._draft(name)
        draft.add(return_path(session) + delivered_to(session) + findings_fields(session))
        draft.add(received(session, self.hostname, name))
        try:
            for piece in _pieces(stream):
                draft.add(piece)
                # One trip to a thread is enough for a message of less than a piece.
                if draft.buffered >= PIECE:
                    self._run(draft, draft.write, session)
            self._run(draft, draft.publish, session)
        except BaseException:
            draft.abandon()
            raise
        return f"queued as {name}"

    def _run(self, draft: _Draft, step: Callable[[], None], session: Session) -> None:
        try:
            draft.run(step)
        except OSError as exc:
            if exc.errno in NO_SPACE:
                raise no_space(exc, session.id) from exc
            raise


class _Draft:
    """One message on its way into the Maildir, not to be seen there before it is whole.

    `write`, `publish` and `discard` block; `run` does one of them in a thread. At most one
    of them may run at a time.
    """

    __slots__ = (
        "_decision",
        "_fd",
        "_held",
        "_make_folders",
        "_new",
        "_path",
        "_pieces",
        "_running",
        "_task",
        "buffered",
    )

    def __init__(self, tmp: str, new: str, name: str, make_folders: Callable[[], None]) -> None:
        self._path = os.path.join(tmp, name)
        self._new = new
        self._make_folders = make_folders
        self._fd = -1
        #: A CR at the end of a piece, whose LF may be the first octet of the next one.
        self._held = b""
        self._pieces: list[bytes] = []
        #: Octets that `write` would write now.
        self.buffered = 0
        self._task: AsyncResult[BaseException | None] | None = None
        self._running = False
        self._decision = Decision()

    def add(self, piece: bytes) -> None:
        """Take the next octets of the message; nothing is written yet."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece[: len(piece) - len(self._held)].replace(b"\r\n", b"\n")
        self._pieces.append(piece)
        self.buffered += len(piece)

    def write(self) -> None:
        """Append to the file in tmp/ what was added, making the file if need be."""
        if self._fd < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._make_folders()  # they may have been removed
            self._fd = os.open(self._path, flags, 0o600)
        rest = memoryview(b"".join(self._pieces))
        self._pieces.clear()
        self.buffered = 0
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def sync(self) -> None:
        """Have what was written on the disk, and close the file."""
        os.fsync(self._fd)
        self._close()

    def publish(self) -> None:
        """Write the rest and move the file to new/, where it is a message, for good."""
        if self._held:
            self._pieces.append(self._held)
        self.write()
        self.sync()
        # A rename, not a link: no crash can leave the message twice. It can't replace another
        # message either, since the name was made with O_EXCL and is never used again.
        path = os.path.join(self._new, os.path.basename(self._path))
        try:
            folder = os.open(self._new, FOLDER)
        except FileNotFoundError:
            self._make_folders()
            folder = os.open(self._new, FOLDER)
        try:
            if not self._decision.take():
                # The client won't get 250, so it will send the message again.
                raise InterruptedError(errno.EINTR, "the message was abandoned", self._path)
            os.rename(self._path, path)
            self._path = path
            # The entry in tmp/ needs no sync: after a crash it would not count as a message.
            os.fsync(folder)
        finally:
            os.close(folder)
        self._path = ""

    def discard(self) -> None:
        """Remove what there is of an unpublished message; may be called at any time, repeatedly.

        Raises nothing: it is called where something else has failed already.
        """
        path, self._path = self._path, ""
        with suppress(OSError):
            self._close()
        if path:
            with suppress(OSError):
                os.unlink(path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # whatever close says, the descriptor is gone
        if fd >= 0:
            os.close(fd)

    def run(self, step: Callable[[], None]) -> None:
        """Do *step* in a thread; when it fails, nothing is left of the message.

        What is thrown into the greenlet meanwhile is raised, and the message is never published;
        unless that was decided already: then it is ignored, and the step's own result counts.
        """
        self._running = True
        self._task = STORES.spawn(self._do, step)
        failure = self._decision.outcome(self._task)
        self._running = False
        if failure is not None:
            raise failure

    def _do(self, step: Callable[[], None]) -> BaseException | None:
        try:
            step()
        except BaseException as exc:
            self.discard()
            return exc
        return None

    def abandon(self) -> None:
        """Give up the message, unless it was published.

        Waits until nothing of it is left, but not for a step that was interrupted: the thread is
        still busy with it, on a disk that may be slow.
        """
        self._decision.take()
        if self._task is None:
            return  # there is no file
        # In a greenlet of its own, which nothing interrupts.
        discarding = gevent.spawn(self._discard_after, self._task)
        if not self._running:
            discarding.join()

    def _discard_after(self, task: AsyncResult[BaseException | None]) -> None:
        task.wait()
        STORES.run(self.discard)


def _pieces(stream: MessageSource) -> Iterator[bytes]:
    """The content in pieces, after an empty line where it would continue the field before it."""
    start = b""
    while len(start) < BEGINNING and (piece := stream.read(PIECE)):
        start += piece
    yield separator(start) + start
    while piece := stream.read(PIECE):
        yield piece
