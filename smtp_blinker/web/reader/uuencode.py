"""Files that stand in a text between "begin" and "end" (POSIX uuencode), as before MIME."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

#: Files that are taken out of a text; what follows stays text.
MAX_FILES: Final = 100
#: Octets of a line; one has 61 and its end.
MAX_LINE: Final = 200

_BEGIN = re.compile(rb"begin [0-7]{3,4} ([^\r\n]{1,200}?)[ \t]*\r?\n")


class File(NamedTuple):
    """A file in ``data[start:end]``; behind its first line, at *content*, it is encoded."""

    name: bytes
    start: int
    content: int
    end: int


def files(data: bytes, start: int, end: int) -> Iterator[File]:
    """The files in the text ``data[start:end]``, in order; linear in its length.

    One that the end of the text cuts off goes as far as that.
    """
    at = start
    found = 0
    while found < MAX_FILES and (begin := _line(data, b"begin ", at, start, end)) >= 0:
        at = begin + 1
        head = _BEGIN.match(data, begin, end)
        if head is None or not _is_encoded(data[head.end() : min(head.end() + MAX_LINE, end)]):
            continue
        content = head.end()
        last = _line(data, b"end", content, start, end)
        at = end if last < 0 else (data.find(b"\n", last, end) + 1 or end)
        yield File(head[1], begin, content, at)
        found += 1


def _line(data: bytes, word: bytes, at: int, start: int, end: int) -> int:
    """Where the first line at *at* or behind it begins that begins with *word*; -1 if none."""
    if at == start and data.startswith(word, at, end):
        return at
    found = data.find(b"\n" + word, max(at - 1, start), end)
    return found + 1 if found >= 0 else -1


def _is_encoded(line: bytes) -> bool:
    """Whether *line* is as long as it says, in characters that are encoded ones.

    Spaces at its end may have been lost.
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
