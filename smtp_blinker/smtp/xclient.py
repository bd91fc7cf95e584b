"""Parses the attributes of XCLIENT and XFORWARD."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import Final

from .paths import decode_xtext
from .reply import Reject

#: As Postfix's XCLIENT_README and XFORWARD_README name them.
XCLIENT_ATTRIBUTES: Final = (
    "NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT",
)  # fmt: skip
XFORWARD_ATTRIBUTES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

_UNAVAILABLE: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})
# Labels of letters, digits, hyphens, and the underscores that real PTR records have.
_HOST_NAME: Final = re.compile(r"(?=.{1,253}\.?$)[\w-]{1,63}(?:\.[\w-]{1,63})*\.?", re.ASCII)


def is_host_name(name: str) -> bool:
    """Whether *name*, from a PTR record or a proxy, is safe for logs, headers and replies."""
    return _HOST_NAME.fullmatch(name) is not None


def plain_address(text: str) -> str:
    """*text* as an IP address in the short lower-case form, IPv4-mapped ones as IPv4.

    Raises ValueError if it isn't an IP address.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if address.scope_id is not None:
            return IPv6Address(int(address)).compressed
    return address.compressed


def parse_attributes(text: str, known: Collection[str]) -> dict[str, str | None]:
    """The attributes of a command, by upper-case name; None for an unavailable value.

    Raises Reject 501 if any of them is wrong, so that none is applied.
    """
    attributes: dict[str, str | None] = {}
    for word in text.split(" "):
        if not word:
            continue
        name, equals, value = word.partition("=")
        name = name.upper()
        if name not in known or not equals:
            raise Reject(501, f"Bad attribute, known are {' '.join(known)}", "5.5.4")
        if name not in attributes:
            attributes[name] = _value(name, decode_xtext(value))
    if not attributes:
        raise Reject(501, f"Attributes are missing, known are {' '.join(known)}", "5.5.4")
    return attributes


def _value(name: str, value: str) -> str | None:
    if not value or value.upper() in _UNAVAILABLE:
        return None
    if name in {"ADDR", "DESTADDR"}:
        try:
            return plain_address(value[5:] if value[:5].upper() == "IPV6:" else value)
        except ValueError:
            raise Reject(501, f"Bad {name}: not an IP address", "5.5.4") from None
    if name in {"PORT", "DESTPORT"}:
        # Python raises for a number of thousands of digits.
        if not (value.isascii() and value.isdigit() and len(value) < 6 and int(value) < 65536):
            raise Reject(501, f"Bad {name}: not a port number", "5.5.4")
        return str(int(value))
    if name == "NAME":
        if not is_host_name(value):
            raise Reject(501, "Bad NAME: not a host name", "5.5.4")
        return value.lower().rstrip(".")
    return value
