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

from .disk import make_folder, sync_folder

_KEY: Final = re.compile("[0-9A-Za-z_-]{1,80}")
#: What files begin with that are being written. No key begins so.
_DRAFT: Final = ".draft-"


class Draft(Protocol):
    """Content that is being written and that no consumer can see yet.

    Its methods block, and one of them runs at a time.
    """

    def write(self, data: bytes, /) -> None:
        """Append *data*."""

    def finish(self, key: str, digest: bytes, /) -> None:
        """Have it under *key*, safely. *digest* is the SHA-256 of all that was written."""

    def discard(self) -> None:
        """Leave nothing of it, unless it was finished. Raises nothing; may be called again."""


class Contents(Protocol):
    """A place for contents. Its methods block; a key has up to 80 of ``0-9A-Za-z_-``."""

    @property
    def needs_thread(self) -> bool:
        """Whether its methods hold up all greenlets of a thread, so that they need another."""

    def draft(self) -> Draft:
        """A new, empty content. Blocks as well."""

    def open(self, key: str, /) -> BinaryIO:
        """The content, which the caller closes. Raises FileNotFoundError where there is none."""

    def delete(self, key: str, /) -> None:
        """Remove the content, if it is there."""

    def sweep(self, seconds: float, /) -> int:
        """Remove what is older than *seconds*, and return how many contents that were."""


class FolderContents:
    """Contents as files of the folder *path*, which all nodes and consumers mount.

    A file is there under its name only when it is whole, and both the file and the folder were
    fsynced. The constructor makes the folder (mode 0700), and its parents, each of which is fsynced
    too, and raises the `OSError` that prevents it.
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
        """The content of *key*, which the caller closes.

        Raises FileNotFoundError where there is none, ValueError for what is not a key.
        """
        return open(self.file_name(key), "rb")

    def delete(self, key: str) -> None:
        """Remove the content of *key*, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self.file_name(key))

    def sweep(self, seconds: float) -> int:
        """Remove what was written more than *seconds* ago; how many contents that were.

        These are orphans only where no entry waits so long, dead letters included: the queue isn't
        asked. Call it from cron, with some days more than the oldest entry may have.
        """
        oldest = time.time() - seconds
        removed = 0
        with os.scandir(self.path) as entries:
            for entry in entries:
                is_draft = entry.name.startswith(_DRAFT)
                if not is_draft and not _KEY.fullmatch(entry.name):
                    continue  # not ours
                if entry.is_dir(follow_symlinks=False):
                    continue  # nor is that
                with suppress(FileNotFoundError):  # a consumer was quicker
                    if entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)
                        removed += not is_draft
        return removed

    def file_name(self, key: str) -> str:
        """The path of the file for *key*. Raises ValueError for what is not a key."""
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
    """A draft in an unlinked temporary file; `finish` is left to who needs one."""

    def __init__(self) -> None:
        self.file: BinaryIO = cast("BinaryIO", tempfile.TemporaryFile(buffering=0))  # noqa: SIM115

    def write(self, data: bytes) -> None:
        _write(self.file.fileno(), data)

    def finish(self, key: str, digest: bytes) -> None:
        """Do nothing: it has no key."""

    def read(self) -> bytes:
        """All of it."""
        self.file.seek(0)
        with open(os.dup(self.file.fileno()), "rb") as file:
            return file.read()

    def discard(self) -> None:
        with suppress(OSError):
            self.file.close()


def checked_key(key: str) -> str:
    """*key*, which can't lead out of its folder. Raises ValueError for what is not a key."""
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
    while rest:  # a disk that is nearly full takes a part
        rest = rest[os.write(fd, rest) :]
