"""The names of what is in a winmail.dat, which Outlook makes of attachments ([MS-OXTNEF])."""

from __future__ import annotations

import struct
from typing import Final

from . import charsets

TYPES: Final = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})
#: Octets that are looked at, attributes among them, and names that are listed.
LOOKED_AT: Final = 16 * 2**20
MAX_ATTRIBUTES: Final = 5000
MAX_NAMES: Final = 100

_SIGNATURE: Final = 0x223E9F78
_TITLE: Final = 0x00018010
_ATTRIBUTE: Final = struct.Struct("<BII")


def names(data: bytes) -> list[str]:
    """The titles of the attachments, in order; nothing for what is no TNEF. Nothing raises."""
    if len(data) < 6 or struct.unpack_from("<I", data)[0] != _SIGNATURE:
        return []
    found: list[str] = []
    at = 6
    for _ in range(MAX_ATTRIBUTES):
        if at + _ATTRIBUTE.size > len(data) or len(found) >= MAX_NAMES:
            break
        _, kind, length = _ATTRIBUTE.unpack_from(data, at)
        at += _ATTRIBUTE.size
        if kind == _TITLE:
            title = data[at : at + min(length, 1000)].partition(b"\0")[0]
            found.append(charsets.decode_unlabelled(title)[:200])
        at += length + 2  # a checksum
    return found
