"""Files that stand in a text between "begin" and "end", as before MIME (POSIX uuencode)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

#: Files that are taken out of a text; what follows stays text.
MAX_FILES: Final = 100
#: Octets of a line; one has 61 and its end.
MAX_LINE: Final = 200

#: Lines of quoted-printable that may be one.
MAX_SOFT_BREAKS: Final = 10

_BEGIN = re.compile(rb"begin(-base64)? [0-7]{3,4} ([^\r\n]{1,200}?)[ \t]*\r?\n?")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{2,}={0,2}")
# What may stand behind the "=" that ends a line of quoted-printable but not of the text.
_BLANKS: Final = b" \t\r"


class File(NamedTuple):
    """A file in ``data[start:end]``, encoded in ``data[content:content_end]``."""

    name: bytes
    #: As a Content-Transfer-Encoding.
    encoding: str
    start: int
    content: int
    content_end: int
    end: int


def may_be_in(data: bytes) -> bool:
    """Whether it is worth to look for `files` in *data*."""
    return b"begin " in data or b"begin-base64 " in data


def files(data: bytes, start: int, end: int, *, quoted: bool = False) -> Iterator[File]:
    """The files in the text ``data[start:end]``, in order; linear in its length.

    A file without an end reaches to the end of the text. *quoted* says that the text is
    quoted-printable.
    """
    at = start
    found = 0
    while found < MAX_FILES and (begin := _line(data, b"begin", at, start, end)) >= 0:
        at = begin + 1
        if quoted and data[max(start, begin - 10) : begin - 1].rstrip(_BLANKS).endswith(b"="):
            continue  # the line goes on here
        line, content = _whole_line(data, begin, end, quoted)
        head = _BEGIN.fullmatch(line)
        if head is None:
            continue
        first, _ = _whole_line(data, content, end, quoted)
        if not (_is_base64(first) if head[1] else _is_encoded(first)):
            continue
        if head[1]:
            last = _line(data, b"=3D=3D=3D=3D" if quoted else b"====", content, start, end)
        else:
            last = _line(data, b"end", content, start, end)
        content_end = end if last < 0 else last
        at = end if last < 0 else (data.find(b"\n", last, end) + 1 or end)
        yield File(head[2], "base64" if head[1] else "x-uuencode", begin, content, content_end, at)
        found += 1


def _line(data: bytes, word: bytes, at: int, start: int, end: int) -> int:
    """Where the first line at *at* or behind it begins that begins with *word*; -1 if none."""
    if at == start and data.startswith(word, at, end):
        return at
    found = data.find(b"\n" + word, max(at - 1, start), end)
    return found + 1 if found >= 0 else -1


def _whole_line(data: bytes, at: int, end: int, quoted: bool) -> tuple[bytes, int]:
    """The line at *at*, decoded if it is *quoted*, and where the next one begins."""
    line = b""
    for _ in range(MAX_SOFT_BREAKS):
        stop = data.find(b"\n", at, min(at + MAX_LINE, end)) + 1 or min(at + MAX_LINE, end)
        raw = data[at:stop]
        at = stop
        line += binascii.a2b_qp(raw) if quoted else raw
        if not quoted or not raw.rstrip(_BLANKS + b"\n").endswith(b"="):
            break
    return line, at


def _is_base64(line: bytes) -> bool:
    line = line.strip()
    return len(line) % 4 == 0 and _BASE64.fullmatch(line) is not None


def _is_encoded(line: bytes) -> bool:
    """Whether *line* has the length that it states, and only characters of the encoding.

    Spaces at its end may be missing.
    """
    line = line.partition(b"\n")[0].rstrip(b"\r")
    if not line or not all(32 <= octet <= 96 for octet in line):
        return False
    size = (line[0] - 32) % 64
    encoded = (size + 2) // 3 * 4
    return 0 < size <= 45 and encoded - 8 <= len(line) - 1 <= encoded + 1  # with a checksum


def decode(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The octets that the lines in *pieces* stand for; lines that aren't encoded for nothing."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[: MAX_LINE + 1]
        yield b"".join(map(_decoded, lines))
    yield _decoded(rest)


def _decoded(line: bytes) -> bytes:
    if not line or len(line) > MAX_LINE or not 32 < line[0] < 96:
        return b""
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        encoded = ((line[0] - 32) % 64 + 2) // 3 * 4
    try:  # without a checksum behind it
        return binascii.a2b_uu(line[: encoded + 1])
    except binascii.Error:
        return b""
