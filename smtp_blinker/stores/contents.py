"""Where the contents of large messages wait, while a queue holds their entries: a folder, or S3.

A queue's engine keeps small entries well and large ones badly. So content larger than the store's
``inline`` goes to a place that all nodes and consumers reach; then the entry, which names it by
its key, goes to the queue; then the client gets its 250. The consumer deletes the content after
it has acknowledged the entry.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol, cast

from .disk import TRIAL, make_folder, sync_folder

_KEY: Final = re.compile("[0-9A-Za-z_-]{1,80}")
#: The prefix of files that are being written. No key begins with it.
_DRAFT: Final = ".draft-"


class Draft(Protocol):
    """Content that is being written and that no consumer can see yet.

    Its methods block, and one of them runs at a time.
    """

    def write(self, data: bytes, /) -> None:
        """Append *data*."""

    def finish(self, key: str, digest: bytes, /) -> None:
        """Store it durably under *key*. *digest* is the SHA-256 of everything written."""

    def discard(self) -> None:
        """Remove it unless it was finished. Raises nothing; may be called repeatedly."""


class Contents(Protocol):
    """A place for contents. Its methods block; a key has up to 80 of ``0-9A-Za-z_-``."""

    @property
    def needs_thread(self) -> bool:
        """Whether its methods block all greenlets of their thread, and so need another thread."""

    def draft(self) -> Draft:
        """A new, empty content. Blocks as well."""

    def open(self, key: str, /) -> BinaryIO:
        """Open the content; the caller closes it. Raises FileNotFoundError if there is none."""

    def delete(self, key: str, /) -> None:
        """Remove the content if it exists."""

    def sweep(self, seconds: float, /) -> int:
        """Remove contents that are older than *seconds*; returns their number."""

    def check(self) -> None:
        """Raise an exception if contents can't be stored now."""


class FolderContents:
    """Contents as files of the folder *path*, which all nodes and consumers mount.

    A file has its final name only when it is complete and fsynced; then the folder is fsynced too.
    The constructor makes the folder (mode 0700) and its parents and fsyncs them, or raises
    `OSError`.
    """

    needs_thread: Final = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)
        make_folder(self.path, 0o700)
        sync_folder(self.path)
        sync_folder(os.path.dirname(self.path))

    def draft(self) -> Draft:
        return _FileDraft(self)

    def open(self, key: str) -> BinaryIO:
        """Open the content of *key*; the caller closes it.

        Raises FileNotFoundError if there is none, ValueError for a wrong key.
        """
        return open(self.file_name(key), "rb")

    def delete(self, key: str) -> None:
        """Remove the content of *key*, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self.file_name(key))

    def sweep(self, seconds: float) -> int:
        """Remove contents that were written more than *seconds* ago; returns their number.

        It doesn't check the queue: choose *seconds* some days longer than any entry waits, dead
        letters included, so that it removes only orphans. Call it from cron.
        """
        oldest = time.time() - seconds
        removed = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                is_draft = entry.name.startswith(_DRAFT)
                if not is_draft and not _KEY.fullmatch(entry.name):
                    continue  # not a content
                if entry.is_dir(follow_symlinks=False):
                    continue  # neither is a folder
                with suppress(FileNotFoundError):  # a consumer has removed it
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)
                        removed += not is_draft
        return removed

    def check(self) -> None:
        """Write a file and remove it. Raises `OSError`, also for a full disk."""
        draft = self.draft()
        try:
            draft.write(bytes(TRIAL))
        finally:
            draft.discard()

    def file_name(self, key: str) -> str:
        """The path of the file for *key*. Raises ValueError for a wrong key."""
        return os.path.join(self.path, checked_key(key))


class _FileDraft:
    def __init__(self, contents: FolderContents) -> None:
        self._contents = contents
        self._file, self._path = _temporary_file(contents.path)

    def write(self, data: bytes) -> None:
        _write(self._file, data)

    def finish(self, key: str, digest: bytes) -> None:
        path = self._contents.file_name(key)
        os.fsync(self._file)
        if not self._path:
            raise InterruptedError(errno.EINTR, "the content was discarded", path)
        os.rename(self._path, path)
        self._path = ""
        self._close()
        sync_folder(self._contents.path)

    def discard(self) -> None:
        path, self._path = self._path, ""
        self._close()
        if path:
            with suppress(OSError):
                os.unlink(path)

    def _close(self) -> None:
        fd, self._file = self._file, -1
        if fd >= 0:
            with suppress(OSError):
                os.close(fd)


class TemporaryDraft:
    """A draft in an unlinked temporary file; subclasses implement `finish` if they need it."""

    def __init__(self) -> None:
        self.file: BinaryIO = cast("BinaryIO", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115

    def write(self, data: bytes) -> None:
        _write(self.file.fileno(), data)

    def finish(self, key: str, digest: bytes) -> None:
        """Does nothing: a temporary file has no key."""

    def read(self) -> bytes:
        """All octets."""
        self.file.seek(0)
        with open(os.dup(self.file.fileno()), "rb") as file:
            return file.read()

    def discard(self) -> None:
        with suppress(OSError):
            self.file.close()


def checked_key(key: str) -> str:
    """Check and return *key*, which can't lead out of its folder. Raises ValueError."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key of contents has up to 80 of 0-9 A-Z a-z _ -, not {key!r}")
    return key


def _temporary_file(folder: str) -> tuple[int, str]:
    try:
        return tempfile.mkstemp(prefix=_DRAFT, dir=folder)
    except FileNotFoundError:
        make_folder(folder, 0o700)  # it was removed meanwhile
        return tempfile.mkstemp(prefix=_DRAFT, dir=folder)


def _write(fd: int, data: bytes) -> None:
    rest: Any = memoryview(data)
    while rest:  # a write may be partial if the disk is nearly full
        rest = rest[os.write(fd, rest) :]
