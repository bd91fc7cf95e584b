"""The files of messages."""

from __future__ import annotations

import os
import stat
from typing import Final

#: Octets of a message that are read at most.
READABLE: Final = 64 * 2**20


def open_message(path: str) -> int:
    """An open file descriptor; raises FileNotFoundError for what is not a plain file."""
    # A FIFO or a device can't be waited for, a link leads out of the Maildir.
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(path)
    return file


def read_message(path: str, limit: int = READABLE) -> tuple[bytes, int]:
    """The first *limit* octets of a message, and how many it has."""
    with open(open_message(path), "rb") as file:
        return file.read(limit), os.fstat(file.fileno()).st_size
