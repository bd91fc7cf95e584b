"""Macros in SPF records (RFC 7208 section 7)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Final
from urllib.parse import quote

from .spf_record import SPFSyntaxError

_MACRO: Final = re.compile(r"%(?:\{([a-zA-Z])([0-9]*)(r?)([.\-+,/_=]*)\}|(.?))", re.IGNORECASE)
_LOCAL: Final = re.compile(r"%\{[sl]", re.IGNORECASE)
_LITERALS: Final = {"%": "%", "_": " ", "-": "%20"}
_MAX_NAME: Final = 253
#: The longest text with macros, and the longest expanded text, in characters. Longer ones exceed
#: all limits of DNS and SMTP.
_MAX_TEXT: Final = 1024
_MAX_EXPANDED: Final = 4096


class Macros:
    """The values of the macro letters in one check."""

    def __init__(
        self,
        client: IPv4Address | IPv6Address,
        local: str,
        domain: str,
        helo: str,
        receiver: str,
        validated_name: Callable[[str], str],
    ) -> None:
        self._client = client
        self._local_is_ascii = local.isascii()
        self._validated_name = validated_name
        self._values = {
            "s": f"{local}@{domain}",
            "l": local,
            "o": domain,
            "h": helo,
            "i": _dotted(client),
            "v": "in-addr" if client.version == 4 else "ip6",
            "c": str(client),
            "r": receiver,
        }

    def match_nothing(self, text: str) -> bool:
        """Whether *text* contains a macro for a local-part that isn't ASCII. Such a term matches
        nothing, because the local-part can't be a label in DNS (RFC 8616 section 4)."""
        return not self._local_is_ascii and _LOCAL.search(text) is not None

    def domain(self, text: str, domain: str) -> str:
        """Expand *text* to a name, shortened on the left to the length that DNS allows
        (section 7.3)."""
        name = self._expand(text, domain, "slodiphv").rstrip(".")
        while len(name) > _MAX_NAME and "." in name:
            name = name.partition(".")[2]
        return name

    def text(self, text: str, domain: str) -> str:
        """Expand *text* to an explanation."""
        return self._expand(text, domain, "slodiphvcrt")

    def _expand(self, text: str, domain: str, letters: str) -> str:
        def value(match: re.Match[str]) -> str:
            letter = match[1]
            if letter is None:
                literal = _LITERALS.get(match[5])
                if literal is None:
                    raise SPFSyntaxError(f"{match[0]!r} isn't a macro")
                return literal
            return self._value(match, domain, letters)

        if len(text) > _MAX_TEXT:
            raise SPFSyntaxError(f"macros in {len(text)} characters")
        expanded = _MACRO.sub(value, text)
        if len(expanded) > _MAX_EXPANDED:
            raise SPFSyntaxError(f"macros expand to {len(expanded)} characters")
        return expanded

    def _value(self, match: re.Match[str], domain: str, letters: str) -> str:
        letter = match[1].lower()
        if letter not in letters:
            raise SPFSyntaxError(f"{match[0]!r} isn't allowed here")
        if letter == "d":
            found = domain
        elif letter == "p":
            found = self._validated_name(domain)
        elif letter == "t":
            found = str(int(time.time()))
        else:
            found = self._values[letter]
        if match[2] or match[3] or match[4]:
            parts = re.split(f"[{re.escape(match[4] or '.')}]", found)
            if match[3]:
                parts.reverse()
            if match[2]:
                digits = match[2].lstrip("0")[:4]
                if not digits:
                    raise SPFSyntaxError(f"{match[0]!r} takes no parts")
                parts = parts[-int(digits) :]
            found = ".".join(parts)
        # An upper-case letter asks for URL encoding.
        return quote(found, safe="") if match[1].isupper() else found


def _dotted(client: IPv4Address | IPv6Address) -> str:
    if client.version == 4:
        return str(client)
    return ".".join(client.exploded.replace(":", "")).upper()
