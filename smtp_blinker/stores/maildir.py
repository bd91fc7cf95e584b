"""A Maildir as `on_data`: the message is fsynced before the client gets 250."""

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

#: Octets to read from the stream at a time, and to buffer before a write.
PIECE: Final = 65536

#: Files in tmp/ older than this many seconds are left from a crash (the rule of Maildir's author).
STALE: Final = 36 * 3600

# One counter for the process, because two stores may share a folder, and clocks may be too coarse.
_counter = itertools.count(1)


class MessageSource(Protocol):
    """The part of the message stream that the store uses."""

    def read(self, size: int = ..., /) -> bytes: ...


class MaildirStore:
    """Stores each message in the Maildir *path*: ``SMTPServer(address, on_data=MaildirStore(…))``.

    *hostname* is the name of this host in file names and Received fields, by default the system's.
    The constructor makes missing folders tmp, new and cur (mode 0700) with their parents and fsyncs
    them, or raises `OSError`. If they are removed later, the next message makes them again.

    Called with a stream and a session, it returns the text of the 250 reply after fsync of the
    file and its folder. It raises `Reject` (452 4.3.1) if the disk or a quota is full, other
    `OSError`, and whatever the stream raises. In all these cases it leaves nothing of the message.
    An exception that is thrown into the greenlet (hook_timeout, a `gevent.Timeout`, the end of the
    server) has the same effect until the message is moved into new/; after that the store finishes
    and returns in any case.

    The message begins with Return-Path, a Delivered-To for each recipient, an X-Policy-Result for
    each policy that judged it (JSON with its name and result), and Received. If the content
    doesn't begin with a header field, an empty line follows, so that it can't continue the Received
    field. Line ends are LF, as programs that read Maildirs expect; a bare CR or LF stays
    unchanged. A few pieces of 64 KiB of a message are in memory at a time. Everything that waits
    for the disk runs in threads, so that it doesn't block other clients.
    """

    def __init__(self, path: str | os.PathLike[str], hostname: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.hostname = hostname or socket.gethostname()
        # A slash would separate folders, and a colon separates the flags.
        self._host_part = ascii_domain(self.hostname).replace("/", "\\057").replace(":", "\\072")
        self._tmp = os.path.join(self.path, "tmp")
        self._new = os.path.join(self.path, "new")
        self._make_folders()
        # An earlier run may have made them and ended before fsync.
        sync_folder(self.path)

    def _make_folders(self) -> None:
        for folder in (self.path, self._tmp, self._new, os.path.join(self.path, "cur")):
            make_folder(folder, 0o700)

    def check_folders(self) -> None:
        """Make missing folders; raises `OSError` if mail can't be stored there.

        It writes nothing else, so it may be called often. It waits for the disk, so call it in a
        thread.
        """
        self._make_folders()
        for folder in (self._tmp, self._new):
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), folder)

    def check(self) -> None:
        """Write a file in the same way as a message, and remove it; raises `OSError`.

        Also tries to remove files that a crash left in tmp/ more than 36 hours ago. It blocks the
        whole process, so it is for the start of a program.
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
                # Another process may have removed it; folders and files of others stay.
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
                # A message shorter than a piece needs a thread only once.
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
    """A message that is being written. It is visible in the Maildir only when it is complete.

    `write`, `publish` and `discard` block; `run` calls one of them in a thread. Only one of them
    may run at a time.
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
        #: The number of octets that `write` would write now.
        self.buffered = 0
        self._task: AsyncResult[BaseException | None] | None = None
        self._running = False
        self._decision = Decision()

    def add(self, piece: bytes) -> None:
        """Buffer the next octets of the message."""
        piece = self._held + piece
        self._held = b"\r" if piece.endswith(b"\r") else b""
        piece = piece[: len(piece) - len(self._held)].replace(b"\r\n", b"\n")
        self._pieces.append(piece)
        self.buffered += len(piece)

    def write(self) -> None:
        """Append the buffered octets to the file in tmp/; creates it if necessary."""
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
        """Fsync and close the file."""
        os.fsync(self._fd)
        self._close()

    def publish(self) -> None:
        """Write the rest, and move the file durably to new/."""
        if self._held:
            self._pieces.append(self._held)
        self.write()
        self.sync()
        # A rename and not a link, so that no crash can leave the message twice. It can't replace
        # another message, because the name was created with O_EXCL and is never reused.
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
            # tmp/ needs no fsync: a file that reappears there after a crash isn't a message.
            os.fsync(folder)
        finally:
            os.close(folder)
        self._path = ""

    def discard(self) -> None:
        """Remove an unpublished message; may be called at any time, repeatedly.

        Raises nothing, because it is called after another failure.
        """
        path, self._path = self._path, ""
        with suppress(OSError):
            self._close()
        if path:
            with suppress(OSError):
                os.unlink(path)

    def _close(self) -> None:
        fd, self._fd = self._fd, -1  # even if close() fails, the descriptor is closed
        if fd >= 0:
            os.close(fd)

    def run(self, step: Callable[[], None]) -> None:
        """Call *step* in a thread; if it fails, nothing of the message is left.

        If something is thrown into the greenlet meanwhile, it is raised and the message is never
        published. But if the decision to publish was taken already, it is ignored, and the result
        of the step counts.
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

        Waits until nothing of it is left. It doesn't wait for an interrupted step, with which a
        thread is still busy on a disk that may be slow.
        """
        self._decision.take()
        if self._task is None:
            return  # there is no file
        # In a separate greenlet, which nothing interrupts.
        discarding = gevent.spawn(self._discard_after, self._task)
        if not self._running:
            discarding.join()

    def _discard_after(self, task: AsyncResult[BaseException | None]) -> None:
        task.wait()
        STORES.run(self.discard)


def _pieces(stream: MessageSource) -> Iterator[bytes]:
    """The content in pieces, after an empty line if it would continue the field before it."""
    start = b""
    while len(start) < BEGINNING and (piece := stream.read(PIECE)):
        start += piece
    yield separator(start) + start
    while piece := stream.read(PIECE):
        yield piece
