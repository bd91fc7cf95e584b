"""Parses the header of a message for signatures."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, Final

#: The longest header in octets and fields; a longer one can't be authenticated.
MAX_HEADER: Final = 512 * 1024
MAX_FIELDS: Final = 5000
#: The most octets for one call of a regular expression, which can't be interrupted: about 2 ms.
PIECE: Final = 16 * 1024

_SPACES: Final = re.compile(rb"[ \t]+")


class HeaderTooLong(Exception):
    """The header has more than MAX_HEADER octets or MAX_FIELDS fields."""


@dataclass(slots=True)
class Field:
    """One header field."""

    #: The name in lower case, without spaces around it.
    name: str
    #: The unchanged octets of the whole field, with CRLF at the end.
    raw: bytes
    _relaxed: bytes | None = None

    @property
    def value(self) -> bytes:
        """The unchanged octets after the colon."""
        return self.raw.partition(b":")[2]

    @property
    def relaxed(self) -> bytes:
        """The relaxed form of RFC 6376 section 3.4.2, with CRLF at the end."""
        if self._relaxed is None:
            self._relaxed = relaxed_field(self.name, self.value)
        return self._relaxed


def relaxed_field(name: str, value: bytes) -> bytes:
    """The field in the canonical form of RFC 6376 section 3.4.2."""
    unfolded = value.replace(b"\r\n", b"")
    return name.encode("ascii") + b":" + reduce_spaces(unfolded).strip(b" ") + b"\r\n"


def reduce_spaces(octets: bytes) -> bytes:
    """*octets* with each run of spaces and tabs replaced by one space."""
    if b"\t" not in octets and b"  " not in octets:
        return octets
    if len(octets) <= PIECE:
        return _SPACES.sub(b" ", octets)
    pieces = []
    was_space = False
    for start in range(0, len(octets), PIECE):
        piece = _SPACES.sub(b" ", octets[start : start + PIECE])
        pieces.append(piece[1:] if was_space and piece.startswith(b" ") else piece)
        was_space = piece.endswith(b" ")
    return b"".join(pieces)


def read_header(content: BinaryIO) -> tuple[list[Field], int]:
    """The fields from the top down, and the position of the body.

    Skips lines that aren't fields. Raises `HeaderTooLong`.
    """
    content.seek(0)
    fields: list[Field] = []
    lines: list[bytes] = []
    total = 0
    while True:
        line = content.readline(MAX_HEADER + 1 - total)
        total += len(line)
        if total > MAX_HEADER or len(fields) > MAX_FIELDS:
            raise HeaderTooLong(f"a header longer than {MAX_HEADER} octets or {MAX_FIELDS} fields")
        if line in (b"", b"\r\n", b"\n"):
            break
        line = line.rstrip(b"\r\n") + b"\r\n"
        if lines and line[:1] in (b" ", b"\t"):
            lines.append(line)
            continue
        _add(fields, lines)
        lines = [line]
    _add(fields, lines)
    return fields, total


def _add(fields: list[Field], lines: list[bytes]) -> None:
    name, colon, _ = lines[0].partition(b":") if lines else (b"", b"", b"")
    # RFC 5322 section 4.5: the obsolete syntax allows spaces before the colon.
    text = name.rstrip(b" \t")
    if colon and text and text.isascii() and b" " not in text:
        fields.append(Field(text.decode("ascii").lower(), b"".join(lines)))
