"""Durable folders, by functions that block, and the reply for a full disk."""

from __future__ import annotations

import errno
import logging
import os
from typing import Final

from ..smtp.reply import Reject

log = logging.getLogger("smtp_blinker")

#: The flags to open a folder for fsync.
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: Octets to write as a test of the disk.
TRIAL: Final = 65536
#: A full disk, a full quota, a file larger than the file system or the process may make.
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def make_folder(path: str, mode: int = 0o777) -> None:
    """Make the folder *path* and its missing parents, and fsync them."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    make_folder(parent)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if not os.path.isdir(path):  # else another process has made it
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
    sync_folder(parent)


def sync_folder(path: str) -> None:
    """Write the folder's entries to the disk (fsync)."""
    fd = os.open(path, FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def no_space(exc: OSError, session_id: str) -> Reject:
    """The refusal of a message for which the disk has no space; also logs the reason."""
    # The error signal doesn't report refusals, but here an operator has to act.
    log.error("[%s] a message was not stored: %s", session_id, exc)
    return Reject(452, "Insufficient system storage, try again later", "4.3.1")
