"""The domains in a message's From fields (RFC 5322 section 3.6.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ...smtp.names import ascii_domain
from .dmarc import checked_authors
from .header_fields import Field

#: Octets of all From fields together.
MAX_FROM: Final = 16 * 1024
#: A quoted string, an escaped character, a parenthesis, or the rest.
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\\.|[()]|[^"\\()]+|.', re.DOTALL)
#: The same within a comment, where quotes have no meaning (RFC 5322 section 3.2.2).
_IN_COMMENT: Final = re.compile(r"\\.|[()]|[^\\()]+|.", re.DOTALL)
#: A mailbox, or the colon and the semicolon of a group.
_ENDS: Final = re.compile("[,:;]")


def author_domains(fields: Iterable[Field]) -> list[str]:
    """The domains of all authors in A-labels; empty if From is missing or malformed."""
    values = [one.value for one in fields if one.name == "from"]
    if sum(map(len, values)) > MAX_FROM:
        return []
    domains: list[str] = []
    for value in values:
        found = _domains(value.decode("utf-8", "replace"))
        if not found:
            return []
        domains += found
    return checked_authors(domains)


def _domains(value: str) -> list[str]:
    """The domains in one field; empty if it is malformed."""
    domains = []
    for part in _ENDS.split(_bare(value)):
        # A display name may contain an address, but only the one in angle brackets counts.
        before, opens, rest = part.rpartition("<")
        address, closes, after = rest.partition(">")
        if opens and (not closes or after.strip() or "<" in before):
            return []
        address = (address if opens else part).strip()
        local, at, domain = address.rpartition("@")
        if "@" in local:  # programs disagree about which part is the domain
            return []
        if at and local and domain:
            domains.append(ascii_domain(domain.strip()))
        elif at or opens:
            return []
    return domains


def _bare(value: str) -> str:
    """*value* without comments, and with each quoted string as one character."""
    depth = place = 0
    kept: list[str] = []
    while match := (_IN_COMMENT if depth else _TOKEN).match(value, place):
        token, place = match[0], match.end()
        if token == "(":
            depth += 1
        elif token == ")":
            depth = max(depth - 1, 0)
        elif depth == 0:
            kept.append("q" if token.startswith('"') else token)
    return "".join(kept)
