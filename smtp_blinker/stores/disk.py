"""Folders that are there for good (what works on them blocks), and the reply of a full disk."""

from __future__ import annotations

import errno
import logging
import os
from typing import Final

from ..smtp.reply import Reject

log = logging.getLogger("smtp_blinker")

#: How a folder is opened to be fsynced.
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: A full disk, a full quota, a file larger than the file system or the process may make.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def make_folder(path: str, mode: int = 0o777) -> None:
    """Make the folder *path* and those above it, where they are missing, for good."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):  # or another process was quicker
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    sync_folder(parent)


def sync_folder(path: str) -> None:
    """Have the folder's entries on the disk."""
    fd = os.open(path, FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def no_space(exc: OSError, session_id: str) -> Reject:
    """The refusal of a message that the disk has no space for; the log says why."""
    # The error signal doesn't report refusals, but here an operator has to act.
    log.error("[%s] a message was not stored: %s", session_id, exc)
    return Reject(452, "Insufficient system storage, try again later", "4.3.1")
