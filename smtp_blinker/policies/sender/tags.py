"""Lists of tags (RFC 6376 section 3.2), which signatures, keys and DMARC records are."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9_]*")
_VALUE: Final = re.compile("[!-:<-~ \t\r\n]*")
#: RFC 8616 section 5: UTF-8 needs no quoting in the header of an internationalized message.
_UTF8_VALUE: Final = re.compile("[!-:<-~ \t\r\n\x80-\U0010ffff]*")
_SPACE: Final = str.maketrans("", "", " \t\r\n")


class TagError(Exception):
    """Not a list of tags, or a tag that isn't right."""


def parse_tags(text: str, utf8: bool = False) -> dict[str, str]:
    """The tags in their order, with *utf8* their values in any script; raises `TagError`."""
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
    """The octets of the base 64 in tag *name*; raises `TagError`."""
    try:
        return base64.b64decode(without_space(text), validate=True)
    except (binascii.Error, ValueError):
        raise TagError(f"{name}= isn't base 64") from None


def number(name: str, text: str) -> int:
    """Of digits, as many as RFC 6376 allows for any tag; raises `TagError`."""
    if not re.fullmatch("[0-9]{1,76}", text):
        raise TagError(f"{name}= isn't a number")
    return int(text)
