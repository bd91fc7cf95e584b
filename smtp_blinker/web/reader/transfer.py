"""Content-Transfer-Encoding undone in pieces (RFC 2045 section 6). Nothing raises."""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Iterator
from typing import Final

#: Octets that are decoded at once.
PIECE: Final = 256 * 1024

_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)


def from_base64(raw: bytes) -> bytes:
    """What can be decoded of *raw*, whatever else is in it."""
    return b"".join(decode([raw], "base64"))


def decode(pieces: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The decoded octets of *pieces*; *encoding* is in lower case, and an unknown one is none."""
    if encoding == "base64":
        return _decode_base64(pieces)
    if encoding == "quoted-printable":
        return _decode_quoted_printable(pieces)
    return iter(pieces)


def _decode_base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece.translate(None, _NOT_BASE64)
        whole = len(rest) // 4 * 4  # four letters are three octets
        yield binascii.a2b_base64(rest[:whole])
        rest = rest[whole:]
    if len(rest) > 1:
        yield binascii.a2b_base64(rest + b"=" * (4 - len(rest)))


def _decode_quoted_printable(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        rest += piece
        # Lines are decoded whole, and where one has no end, nothing is cut behind a "=".
        whole = rest.rfind(b"\n") + 1 or rest.find(b"=", max(len(rest) - 2, 0))
        if whole < 0:
            whole = len(rest)
        yield binascii.a2b_qp(rest[:whole])
        rest = rest[whole:]
    yield binascii.a2b_qp(rest)


def cut(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """``data[start:end]`` in pieces."""
    for at in range(start, end, PIECE):
        yield data[at : min(at + PIECE, end)]
