"""The common part of policies that pass a whole message to another program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

import gevent

#: Octets of a message that are sent at once.
PIECE: Final = 64 * 1024
#: Characters of a scanner's answer that a reply, a result or an error repeats.
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
    """The octets of *content*, which is at its beginning afterwards."""
    size = content.seek(0, 2)
    content.seek(0)
    return size


def pieces_of(content: BinaryIO) -> Iterator[bytes]:
    """The octets of *content*, `PIECE` of them at most at a time."""
    while piece := content.read(PIECE):
        yield piece


def printable(text: str) -> str:
    """*text* as one line of printable ASCII, `MAX_TEXT` characters at most."""
    line = " ".join(text[: MAX_TEXT * 4].split())
    return "".join(char if " " <= char <= "~" else "?" for char in line)[:MAX_TEXT].strip()
