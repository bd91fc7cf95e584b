"""Opens messages whose content lies inside their S/MIME signature (RFC 8551 section 3.5.2).

The signature isn't checked: the page shows what the message says, not who wrote it. What is
encrypted stays closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from typing import Final, NamedTuple

from . import mime
from .mime import Message

TYPES: Final = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
#: The name of a file that is one, whatever its type.
NAME: Final = "smime.p7m"
#: Signatures within signatures that are opened, levels of elements that are passed over, and
#: elements on one level.
MAX_OPENED: Final = 3
MAX_DEPTH: Final = 8
MAX_PIECES: Final = 100_000

# RFC 5652 section 5: the object identifiers of signed-data and data.
_SIGNED_DATA: Final = bytes.fromhex("2a864886f70d010702")
_OBJECT_IDENTIFIER: Final = 0x06
_OCTETS: Final = 0x04
_CONSTRUCTED: Final = 0x20
_CONTENT: Final = 0xA0
_SEQUENCE: Final = 0x30


def read(data: bytes) -> tuple[Message, bytes]:
    """The message, and the octets in which its parts lie: *data*, or what was signed in it.

    The header fields are always those of *data*. Raises nothing.
    """
    message = mime.parse(data)
    for _ in range(MAX_OPENED):
        part = message.parts[0]
        if part.content_type not in TYPES and (part.filename or "").lower() != NAME:
            break
        content = signed_content(part.content(data))
        if content is None:
            break
        inner = mime.parse(content)
        message = Message(
            message.fields, message.trace, inner.parts, message.left_out + inner.left_out
        )
        data = content
    return message, data


def signed_content(data: bytes) -> bytes | None:
    """What is signed in *data*, BER or DER and perhaps cut off; None if it isn't signed-data."""
    try:
        [outer] = _path(data, 0, len(data), (_SEQUENCE,))
        kind, explicit = _path(data, outer.start, outer.end, (_OBJECT_IDENTIFIER, _CONTENT))
        if data[kind.start : kind.end] != _SIGNED_DATA:
            return None
        [signed] = _path(data, explicit.start, explicit.end, (_SEQUENCE,))
        *_, inner = _path(data, signed.start, signed.end, (None, None, _SEQUENCE))
        *_, explicit = _path(data, inner.start, inner.end, (_OBJECT_IDENTIFIER, _CONTENT))
        [content] = _path(data, explicit.start, explicit.end, (None,))
    except (ValueError, IndexError):
        return None
    if content.tag == _OCTETS:
        return data[content.start : content.end]
    if content.tag != _OCTETS | _CONSTRUCTED:
        return None
    pieces = takewhile(
        lambda piece: piece.tag == _OCTETS, _elements(data, content.start, content.end)
    )
    return b"".join(data[piece.start : piece.end] for piece in pieces)


class _Element(NamedTuple):
    """An element of BER (X.690): its content is ``data[start:end]``, or begins there."""

    tag: int
    start: int
    end: int
    #: Whether it ends where its contents do (section 8.1.3.6), which *end* doesn't say then.
    open: bool


def _path(data: bytes, start: int, end: int, tags: Sequence[int | None]) -> list[_Element]:
    """The first elements of ``data[start:end]``, which must have these tags; None is any."""
    found = list(islice(_elements(data, start, end), len(tags)))
    if len(found) < len(tags):
        raise ValueError("elements are missing")
    for tag, element in zip(tags, found, strict=True):
        if tag is not None and element.tag != tag:
            raise ValueError(f"0x{element.tag:02x} is not 0x{tag:02x}")
    return found


def _elements(data: bytes, at: int, end: int) -> Iterator[_Element]:
    """The elements of ``data[at:end]``, or those before the end-of-contents octets in it."""
    for _ in range(MAX_PIECES):
        if at + 2 > end or data[at : at + 2] == b"\0\0":
            return
        element = _element(data, at, end)
        yield element
        at = _behind(data, element)


def _element(data: bytes, at: int, end: int) -> _Element:
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length == 0x80:
        return _Element(tag, start, end, open=True)
    if length > 0x80:
        octets = data[start : start + (length & 0x7F)]
        start += length & 0x7F
        length = int.from_bytes(octets[:8])
    return _Element(tag, start, min(start + length, end), open=False)


def _behind(data: bytes, element: _Element, depth: int = 0) -> int:
    """Where what follows *element* begins."""
    if not element.open:
        return element.end
    if depth > MAX_DEPTH:
        raise ValueError("too deep")
    at = element.start
    for _ in range(MAX_PIECES):
        if at + 2 > element.end or data[at : at + 2] == b"\0\0":
            break
        at = _behind(data, _element(data, at, element.end), depth + 1)
    return at + 2
