"""Tag lists (RFC 6376 section 3.2), the format of signatures, keys and DMARC records."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]*")
_VALUE: Final = re.compile("[!-:<-~ \t\r\n]*")
#: RFC 8616 section 5: the header of an internationalized message may have unquoted UTF-8.
_UTF8_VALUE: Final = re.compile("[!-:<-~ \t\r\n\x80-\U0010ffff]*")
_SPACE: Final = str.maketrans("", "", " \t\r\n")


class TagError(Exception):
    """An invalid tag list, or a tag with a wrong value."""


def parse_tags(text: str, utf8: bool = False) -> dict[str, str]:
    """Parse a tag list; with *utf8*, values may be non-ASCII. Raises `TagError`."""
    is_value = (_UTF8_VALUE if utf8 else _VALUE).fullmatch
    tags: dict[str, str] = {}
    specs = text.split(";")
    if not specs[-1].strip(" \t\r\n"):
        specs.pop()
    for spec in specs:
        name, equals, value = spec.partition("=")
        name, value = name.strip(" \t\r\n"), value.strip(" \t\r\n")
        if not equals or not _NAME.fullmatch(name) or not is_value(value):
            raise TagError(f"malformed tag {spec.strip()[:40]!r}")
        if name in tags:
            raise TagError(f"tag {name} twice")
        tags[name] = value
    return tags


def without_space(text: str) -> str:
    return text.translate(_SPACE)


def decode(name: str, text: str) -> bytes:
    """Decode the base64 value of the tag *name*; raises `TagError`."""
    try:
        return base64.b64decode(without_space(text), validate=True)
    except (binascii.Error, ValueError):
        raise TagError(f"{name}= isn't base64") from None


def number(name: str, text: str) -> int:
    """The number in the tag *name*, with at most as many digits as RFC 6376 allows; `TagError`."""
    if not re.fullmatch("[0-9]{1,76}", text):
        raise TagError(f"{name}= isn't a number")
    return int(text)
