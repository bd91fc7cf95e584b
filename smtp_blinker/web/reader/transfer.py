"""Content-Transfer-Encoding undone in pieces (RFC 2045 section 6). Nothing raises."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final

from . import uuencode

#: Names of uuencode, which is not a standard of MIME's and yet sent as one.
UUENCODE: Final = frozenset({"x-uuencode", "uuencode", "x-uue", "uue"})
#: Octets that are decoded at once.
PIECE: Final = 256 * 1024

#: Blanks at the end of a line that are looked at in one.
MAX_BLANKS: Final = 1000

_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=")
)
# A mailing list or a scanner put its text behind what was encoded.
_FOOTER = re.compile(rb"\n(?:--|__)")
_BLANK_ENDS: Final = (b" ", b"\t", b" \r", b"\t\r")


def from_base64(raw: bytes) -> bytes:
    """What can be decoded of *raw*, whatever else is in it."""
    return b"".join(decode([raw], "base64"))


def decode(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The decoded octets of *pieces*; *encoding* is in lower case, and an unknown one is none."""
    if encoding == "base64":
        return _decode_base64(pieces)
    if encoding == "quoted-printable":
        return _decode_quoted_printable(pieces)
    if encoding in UUENCODE:
        return uuencode.decode(pieces)
    return iter(pieces)


def _decode_base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in _without_footer(pieces):
        # What was encoded in several runs has padding between them.
        *ended, last = piece.translate(None, _NOT_BASE64).split(b"=")
        if ended:
            yield _run(rest + ended[0]) + b"".join(map(_run, filter(None, ended[1:])))
            rest = b""
        rest += last
        whole = len(rest) // 4 * 4  # four letters are three octets
        yield binascii.a2b_base64(rest[:whole])
        rest = rest[whole:]
    yield _run(rest)


def _without_footer(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        footer = _FOOTER.search(piece)
        if footer is not None:
            yield piece[: footer.start()]
            return
        yield piece


def _run(letters: bytes) -> bytes:
    """What *letters* stand for; a single one behind the last four stands for nothing."""
    left = len(letters) % 4
    if left == 1:
        letters = letters[:-1]
    return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def _decode_quoted_printable(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece
        # Lines are decoded whole, and where one has no end, nothing is cut behind a "=".
        whole = rest.rfind(b"\n") + 1
        if not whole:
            # Blanks may turn out to be the end of a line.
            text = len(rest.rstrip(b" \t\r"))
            if len(rest) - text > MAX_BLANKS:
                text = len(rest)
            whole = rest.find(b"=", max(text - 2, 0))
            if whole < 0:
                whole = text
        yield binascii.a2b_qp(_without_blank_ends(rest[:whole]))
        rest = rest[whole:]
    yield binascii.a2b_qp(_without_blank_ends(rest))


def _without_blank_ends(lines: bytes) -> bytes:
    """*lines* without blanks at their ends, which come from the way (RFC 2045 section 6.7, 3)."""
    if not any(end + b"\n" in lines for end in _BLANK_ENDS):
        return lines
    *whole, last = lines.split(b"\n")
    ends = (
        (line.rstrip(b" \t\r") + (b"\r" if line.endswith(b"\r") else b""))
        if line.endswith(_BLANK_ENDS)
        else line
        for line in whole
    )
    return b"\n".join([*ends, last])


def cut(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """``data[start:end]`` in pieces."""
    for at in range(start, end, PIECE):
        yield data[at : min(at + PIECE, end)]
