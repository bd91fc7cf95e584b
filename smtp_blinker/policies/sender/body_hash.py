"""Hashes of a message's body in canonical form (RFC 6376 section 3.4), piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import BinaryIO, Final, NamedTuple

from .header_fields import PIECE, reduce_spaces

_CRLFS: Final = b"\r\n" * (PIECE // 2)


class BodyForm(NamedTuple):
    """How a signature covers the body."""

    relaxed: bool
    #: Octets that it covers (l=); None for all.
    length: int | None


class BodyHash:
    """SHA-256 hashes of one canonical form of a body: of the whole body or of its beginning.

    *limits*: how many octets each hash covers; None for all.
    """

    def __init__(self, relaxed: bool, limits: Iterable[int | None]) -> None:
        self._relaxed = relaxed
        self._hashes = {limit: hashlib.sha256() for limit in limits}
        #: Hashes that haven't reached their limit.
        self._open = dict(self._hashes)
        #: Octets of the whole canonical form.
        self.length = 0
        #: Spaces or a CR that may be at the end of a line.
        self._held = b""
        #: The number of CRLFs that may be at the end of the body.
        self._empty = 0
        self._cr = b""

    def feed(self, piece: bytes) -> None:
        """Add octets of the body, at most `PIECE`."""
        if self._relaxed:
            piece = self._held + piece
            rest = piece[:-1] if piece.endswith(b"\r") else piece
            whole = rest.rstrip(b" \t")
            # Any number of spaces becomes one.
            spaces = b" " if len(whole) < len(rest) else b""
            self._held = spaces + piece[len(rest) :]
            piece = reduce_spaces(whole).replace(b" \r\n", b"\r\n")
        self._feed_lines(piece)

    def _feed_lines(self, piece: bytes) -> None:
        piece = self._cr + piece
        start = _trailing_lines(piece)
        if start:
            self._flush_lines()
            self._update(piece[:start])
        self._cr = b"\r" if len(piece) > start and piece.endswith(b"\r") else b""
        self._empty += (len(piece) - start) // 2

    def _flush_lines(self) -> None:
        while self._empty:
            some = min(self._empty, PIECE // 2)
            self._update(_CRLFS[: 2 * some])
            self._empty -= some

    def _update(self, octets: bytes) -> None:
        for limit, one in list(self._open.items()):
            if limit is None:
                one.update(octets)
                continue
            left = limit - self.length
            one.update(octets[:left])
            if left <= len(octets):
                del self._open[limit]
        self.length += len(octets)

    def digests(self) -> dict[int | None, bytes]:
        """The hashes by their limits. After this call `feed` mustn't be called."""
        if self._held.endswith(b"\r"):
            self._feed_lines(self._held)
        if self._cr:
            self._flush_lines()
            self._update(self._cr)
        # Empty lines at the end are removed, and the last line gets its CRLF. An empty body is
        # CRLF in the simple form (section 3.4.3) and empty in the relaxed one (section 3.4.4).
        if self.length or not self._relaxed:
            self._update(b"\r\n")
        return {limit: one.digest() for limit, one in self._hashes.items()}


def _trailing_lines(piece: bytes) -> int:
    """The position of the CRLFs at the end of *piece*; a last CR counts as one of them."""
    start = len(piece.rstrip(b"\r\n"))
    # A bare CR or LF belongs to the text.
    bare = max(piece.rfind(b"\r\r", start), piece.rfind(b"\n\n", start))
    start = max(start, bare + 1)
    return start + 1 if piece[start : start + 1] == b"\n" else start


def hash_bodies(
    content: BinaryIO, start: int, forms: Iterable[BodyForm]
) -> dict[BodyForm, tuple[bytes, int]]:
    """For each form its hash, and the length in octets of the whole canonical body.

    The body begins at *start* and is read once.
    """
    limits: dict[bool, set[int | None]] = {}
    for form in forms:
        limits.setdefault(form.relaxed, set()).add(form.length)
    hashes = {relaxed: BodyHash(relaxed, wanted) for relaxed, wanted in limits.items()}
    content.seek(start)
    while hashes:
        piece = content.read(PIECE)
        if not piece:
            break
        for one in hashes.values():
            one.feed(piece)
    return {
        BodyForm(relaxed, limit): (digest, one.length)
        for relaxed, one in hashes.items()
        for limit, digest in one.digests().items()
    }
