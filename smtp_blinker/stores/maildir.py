"""A Maildir as `on_data`: the message is on the disk before the client is told 250."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

import gevent
from gevent import get_hub
from gevent.event import AsyncResult

from ..session import Session, header_address
from ..smtp.reply import Reject

log = logging.getLogger("smtp_blinker")

#: Octets that are asked of the stream at once, and kept before they are written.
PIECE: Final = 65536

#: Seconds after which a file in tmp/ is the rest of a crash (the rule of Maildir's author).
STALE: Final = 36 * 3600

# A full disk, a full quota, a file larger than the file system or the process may make.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

# One for the process: two stores may share a folder, and a second has many microseconds but
# clocks that don't show them all.
_counter = itertools.count(1)


class MessageSource(Protocol):
    """What the store needs of the message stream."""

    def read(self, size: int = ..., /) -> bytes: ...


class MaildirStore:
    """Stores each message in the Maildir *path*: ``SMTPServer(address, on_data=MaildirStore(…))``.

    *hostname* is this host in file names and Received lines; by default what the system says.
    The folders tmp, new and cur are made, with mode 0700, where they are missing; the
    constructor raises the `OSError` that prevents it.

    Called with a stream and a session it returns the text of the 250 reply, after the file and
    the folder it is in were fsynced. It raises `Reject` (452 4.3.1) when the disk or a quota is
    full and lets any other `OSError` out. What the stream raises goes on to the caller. In each
    of these cases nothing of the message is left.

    The message begins with Return-Path, one Delivered-To for each recipient, and Received. Line
    ends are LF, as programs that read Maildirs expect; a CR or LF alone stays what it is. Of a
    message a few pieces of 64 KiB are in memory at once. Everything that waits for the disk is
    done in gevent's threadpool, where it holds up no other client.
    """

    def __init__(self, path: str | os.PathLike[str], hostname: str | None = None) -> None:
        self.path = os.path.abspath(path)
        self.hostname = hostname or socket.gethostname()
        # A slash would be a folder, and a colon ends the name where the flags begin.
        self._host_part = self.hostname.replace("/", "\\057").replace(":", "\\072")
        self._tmp = os.path.join(self.path, "tmp")
        self._new = os.path.join(self.path, "new")
        self._make_folders()

    def _make_folders(self) -> None:
        if not os.path.isdir(self.path):
            os.makedirs(self.path, 0o700, exist_ok=True)
            _sync_folder(os.path.dirname(self.path))
        for folder in (self._tmp, self._new, os.path.join(self.path, "cur")):
            os.makedirs(folder, 0o700, exist_ok=True)
        _sync_folder(self.path)

    def check(self) -> None:
        """Write a file as a message would be, and remove it; raises what stands in the way.

        Files that a crash left in tmp/ more than 36 hours ago are removed too. Blocks the
        whole process while it works, so it is for the start of a program.
        """
        trial = _Draft(self._tmp, self._new, self._unique_name())
        try:
            trial.add(b"\n")
            trial.write()
            trial.sync()
        finally:
            trial.discard()
        if not os.access(self._new, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self._new)
        if os.stat(self._tmp).st_dev != os.stat(self._new).st_dev:
            raise OSError(errno.EXDEV, "tmp and new are on different file systems", self.path)
        self._remove_stale()

    def _remove_stale(self) -> None:
        oldest = time.time() - STALE
        for entry in list(os.scandir(self._tmp)):
            with suppress(FileNotFoundError):  # another process may clean up as well
                if entry.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(entry.path)

    def _unique_name(self) -> str:
        now = time.time_ns()
        return (
            f"{now // 10**9}.M{now // 1000 % 10**6:06d}P{os.getpid()}Q{next(_counter)}"
            f".{self._host_part}"
        )

    def __call__(self, stream: MessageSource, session: Session) -> str:
        name = self._unique_name()
        draft = _Draft(self._tmp, self._new, name)
        draft.add(_trace_header(session, self.hostname, name))
        try:
            # One trip to the threadpool is enough for a message of less than a piece.
            while piece := stream.read(PIECE):
                draft.add(piece)
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
            if exc.errno in _NO_SPACE:
                # A refusal is no fault that the error signal tells of, but somebody has to act.
                log.error("[%s] a message was not stored: %s", session.id, exc)
                raise Reject(452, "Insufficient system storage, try again later", "4.3.1") from exc
            raise


class _Draft:
    """One message on its way into the Maildir, not to be seen there before it is whole.

    `write`, `publish` and `discard` block; `run` does one of them in the threadpool. At most one
    of them may run at a time.
    """

    __slots__ = (
        "_abandoned",
        "_fd",
        "_held",
        "_new",
        "_path",
        "_pieces",
        "_task",
        "buffered",
    )

    def __init__(self, tmp: str, new: str, name: str) -> None:
        self._path = os.path.join(tmp, name)
        self._new = new
        self._fd = -1
        #: A CR at the end of a piece, whose LF may be the first octet of the next one.
        self._held = b""
        self._pieces: list[bytes] = []
        #: Octets that `write` would write now.
        self.buffered = 0
        self._task: AsyncResult[BaseException | None] | None = None
        self._abandoned = False

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
        if self._abandoned:  # the client won't hear 250, so it will send the message again
            raise InterruptedError(errno.EINTR, "the message was abandoned", self._path)
        # A rename, not a link: no crash can leave the message twice. It can't replace another
        # message either, since the name was made with O_EXCL and is never used again.
        path = os.path.join(self._new, os.path.basename(self._path))
        os.rename(self._path, path)
        self._path = path
        # The entry in tmp/ needs no sync: should it come back after a crash, it is no message.
        _sync_folder(self._new)
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
        """Do *step* in the threadpool; when it fails, nothing is left of the message."""
        self._task = get_hub().threadpool.spawn(self._do, step)
        failure = self._task.get()
        if failure is not None:
            raise failure

    def _do(self, step: Callable[[], None]) -> BaseException | None:
        # Returned, not raised: the threadpool prints a traceback of whatever is raised in it.
        try:
            step()
        except BaseException as exc:
            self.discard()
            return exc
        return None

    def abandon(self) -> None:
        """Give up the message, whatever is being done with it; doesn't wait for a slow disk.

        A step that a thread is busy with (the greenlet was killed or timed out) may end first.
        """
        self._abandoned = True
        if self._task is None:
            return  # there is no file
        if self._task.ready():
            get_hub().threadpool.apply(self.discard)
        else:
            gevent.spawn(self._discard_after, self._task)

    def _discard_after(self, task: AsyncResult[BaseException | None]) -> None:
        task.wait()
        get_hub().threadpool.apply(self.discard)


def _trace_header(session: Session, by: str, message_id: str) -> bytes:
    """Return-Path, Delivered-To and Received, in CRLF lines."""
    envelope = session.envelope
    sender = envelope.mail_from.address if envelope.mail_from is not None else ""
    # RFC 5321 section 4.4: final delivery puts the reverse-path first.
    lines = [f"Return-Path: <{header_address(sender, envelope)}>\r\n"]
    lines += [
        f"Delivered-To: {header_address(rcpt.address, envelope)}\r\n" for rcpt in envelope.rcpt_to
    ]
    return "".join(lines).encode() + session.received_header(by, message_id)


def _sync_folder(path: str) -> None:
    """Have the folder's entries on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
