"""The names of the attachments in a winmail.dat of Outlook ([MS-OXTNEF])."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from . import charsets

TYPES: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
#: The name of a file that is one, whatever its type.
NAME: Final = "winmail.dat"
#: Octets that are looked at, attributes among them, names that are listed, and octets of a name.
LOOKED_AT: Final = 16 * 2**20
MAX_ATTRIBUTES: Final = 5000
MAX_NAMES: Final = 100
MAX_NAME: Final = 1000
#: Properties of an attachment that are looked at.
MAX_PROPERTIES: Final = 200

_SIGNATURE: Final = 0x223E9F78
_CODE_PAGE: Final = 0x00069007
_TITLE: Final = 0x00018010
_PROPERTIES: Final = 0x00069005
_ATTRIBUTE: Final = struct.Struct("<BII")
_NUMBER: Final = struct.Struct("<I")
#: PidTagAttachLongFilename, as octets of the code page and as UTF-16.
_LONG_NAME: Final = {0x3707001E: None, 0x3707001F: "utf-16le"}
#: Octets of the values of each type of [MS-OXCDATA] whose values have one length.
_LENGTHS: Final = {
    **dict.fromkeys((2, 3, 4, 10, 11), 4),
    **dict.fromkeys((5, 6, 7, 20, 64), 8),
    72: 16,
}


def names(data: bytes) -> list[str]:
    """The names of the attachments, in order; none for what isn't TNEF. Never raises."""
    if len(data) < 6 or _NUMBER.unpack_from(data)[0] != _SIGNATURE:
        return []
    found: list[str] = []
    charset = None
    for kind, content in _attributes(data):
        if kind == _CODE_PAGE and len(content) >= _NUMBER.size:
            charset = _charset(_NUMBER.unpack_from(content)[0])
        elif kind == _TITLE and len(found) < MAX_NAMES:
            found.append(_text(content, charset))
        elif kind == _PROPERTIES and found and (long_name := _long_name(content, charset)):
            found[-1] = long_name  # the title is the same in eight letters and three
    return found


def _attributes(data: bytes) -> Iterator[tuple[int, memoryview]]:
    view = memoryview(data)
    at = 6
    for _ in range(MAX_ATTRIBUTES):
        if at + _ATTRIBUTE.size > len(data):
            return
        _, kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        yield kind, view[at : at + length]
        at += length + 2  # a checksum


def _charset(code_page: int) -> str:
    return "utf-8" if code_page == 65001 else f"cp{code_page}"


def _text(octets: memoryview, charset: str | None) -> str:
    text = charsets.decode(bytes(octets[:MAX_NAME]), charset)
    return text.partition("\0")[0][:200]


def _long_name(content: memoryview, charset: str | None) -> str:
    """The long file name among the properties of an attachment; "" if none is found."""
    if len(content) < _NUMBER.size:
        return ""
    at = _NUMBER.size
    for _ in range(min(_NUMBER.unpack_from(content)[0], MAX_PROPERTIES)):
        if at + 2 * _NUMBER.size > len(content):
            break
        (tag,) = _NUMBER.unpack_from(content, at)
        at += _NUMBER.size
        if tag >= 0x80000000:
            break  # a property with a name of its own: those come last
        fixed = _LENGTHS.get(tag & 0xFFFF)
        if fixed is not None:
            at += fixed
            continue
        count, at = _NUMBER.unpack_from(content, at)[0], at + _NUMBER.size
        if count != 1 or at + _NUMBER.size > len(content):
            break  # several values have no use here
        length, at = _NUMBER.unpack_from(content, at)[0], at + _NUMBER.size
        if tag in _LONG_NAME:
            return _text(content[at : at + length], _LONG_NAME[tag] or charset)
        at += length + -length % 4
    return ""
