"""The common part of policies that pass a whole message to another program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import gevent

#: Octets of a message that are sent at a time.
PIECE: Final = 64 * 1024
#: The most characters of a scanner's answer in a reply, a result or an error.
MAX_TEXT: Final = 200


class ScannerFailure(Exception):
    """The scanner gave no verdict; the text says why."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise ScannerFailure in the block once *seconds* have passed."""
    timeout = gevent.Timeout(seconds)
    timeout.start()
    try:
        yield
    except gevent.Timeout as exc:
        if exc is not timeout:
            raise
        raise ScannerFailure(f"no answer within {seconds:g} s") from None
    finally:
        timeout.close()


def size_of(content: BinaryIO) -> int:
    """The length of *content* in octets; afterwards it is at its beginning."""
    size = content.seek(0, 2)
    content.seek(0)
    return size


def pieces_of(content: BinaryIO) -> Iterator[bytes]:
    """The octets of *content*, in pieces of at most `PIECE`."""
    while piece := content.read(PIECE):
        yield piece


def printable(text: str) -> str:
    """*text* as one line of printable ASCII, at most `MAX_TEXT` characters."""
    line = " ".join(text[: MAX_TEXT * 4].split())
    return "".join(char if " " <= char <= "~" else "?" for char in line)[:MAX_TEXT].strip()
