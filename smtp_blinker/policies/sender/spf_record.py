"""Parses SPF records (RFC 7208 sections 4.6.1 and 12)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

#: The longest record in octets; one that fits into a DNS message is far shorter.
MAX_RECORD: Final = 4096

_MACRO: Final = r"%(?:\{[slodiphcrtv][0-9]*r?[.\-+,/_=]*\}|[%_\-])"
_MACRO_STRING: Final = rf"(?:{_MACRO}|[!-$&-~])*"
_TOPLABEL: Final = r"(?:[0-9]*[a-z][a-z0-9]*|[a-z0-9]+-[a-z0-9-]*[a-z0-9])"
_TERM: Final = re.compile(
    r"(?P<qualifier>[-+?~]?)(?P<name>all|include|a|mx|ptr|ip4|ip6|exists)(?P<rest>[:/].*)?",
    re.IGNORECASE,
)
_MODIFIER: Final = re.compile(rf"([a-z][a-z0-9_.-]*)=({_MACRO_STRING})", re.IGNORECASE)
_HAS_TOPLABEL: Final = re.compile(rf".*\.{_TOPLABEL}\.?", re.IGNORECASE)
_ENDS_IN_MACRO: Final = re.compile(rf".*{_MACRO}", re.IGNORECASE)
_WHOLE: Final = re.compile(_MACRO_STRING, re.IGNORECASE)
#: Section 7.2: these are allowed only in explanations.
_NOT_IN_DOMAIN: Final = re.compile(r"%\{[crt]", re.IGNORECASE)


class SPFSyntaxError(Exception):
    """A record with a syntax error; the result is permerror."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    qualifier: str
    name: str
    #: The text in the record.
    text: str
    #: The domain-spec, before macro expansion; "" for the checked domain.
    domain: str = ""
    network: Any = None
    cidr4: int = 32
    cidr6: int = 128


@dataclass(frozen=True, slots=True)
class Record:
    mechanisms: tuple[Mechanism, ...]
    redirect: str | None = None
    exp: str | None = None


def is_record(octets: bytes) -> bool:
    """Whether a TXT record is an SPF record (section 4.5)."""
    return octets[:6].lower() == b"v=spf1" and octets[6:7] in (b"", b" ")


def parse(octets: bytes) -> Record:
    """Parse a record; raises `SPFSyntaxError`."""
    text = octets.decode("latin-1")
    if len(text) > MAX_RECORD:
        raise SPFSyntaxError(f"an SPF record of {len(text)} octets")
    if not text.isascii():
        raise SPFSyntaxError("an SPF record that isn't ASCII")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in text[6:].split(" "):
        if not term:
            continue
        modifier = _MODIFIER.fullmatch(term)
        if modifier is None:
            mechanisms.append(_mechanism(term))
            continue
        name, value = modifier[1].lower(), modifier[2]
        if name in ("redirect", "exp"):
            if name in modifiers:  # section 6
                raise SPFSyntaxError(f"{name} twice")
            modifiers[name] = _checked_domain(value, term)
    return Record(tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"))


def _mechanism(term: str) -> Mechanism:
    match = _TERM.fullmatch(term)
    if match is None:
        raise SPFSyntaxError(f"unknown term {term[:60]!r}")
    qualifier, name, rest = match["qualifier"] or "+", match["name"].lower(), match["rest"] or ""
    if name == "all":
        if rest:
            raise SPFSyntaxError(f"{term[:60]!r}")
        return Mechanism(qualifier, name, term)
    if name in ("ip4", "ip6"):
        return Mechanism(qualifier, name, term, network=_network(name, rest[1:], term))
    cidr4, cidr6 = 32, 128
    if name in ("a", "mx"):
        rest, cidr4, cidr6 = _dual_cidr(rest, term)
    if not rest and name in ("a", "mx", "ptr"):
        return Mechanism(qualifier, name, term, "", None, cidr4, cidr6)
    if not rest.startswith(":"):
        raise SPFSyntaxError(f"{term[:60]!r}")
    domain = _checked_domain(rest[1:], term)
    return Mechanism(qualifier, name, term, domain, None, cidr4, cidr6)


def _dual_cidr(rest: str, term: str) -> tuple[str, int, int]:
    match = re.fullmatch(r"(.*?)(?:/([0-9]{1,3}))?(?://([0-9]{1,3}))?", rest)
    if match is None:
        raise SPFSyntaxError(f"{term[:60]!r}")
    lengths = []
    for text, most in ((match[2], 32), (match[3], 128)):
        if text is not None and ((len(text) > 1 and text[0] == "0") or int(text) > most):
            raise SPFSyntaxError(f"the prefix length of {term[:60]!r}")
        lengths.append(most if text is None else int(text))
    return match[1], lengths[0], lengths[1]


def _network(name: str, text: str, term: str) -> IPv4Network | IPv6Network:
    address, slash, length = text.partition("/")
    if slash and not re.fullmatch("0|[1-9][0-9]{0,2}", length):
        raise SPFSyntaxError(f"the prefix length of {term[:60]!r}")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise SPFSyntaxError(f"the address of {term[:60]!r}") from None
    if f"ip{network.version}" != name or "%" in address:
        raise SPFSyntaxError(f"the address of {term[:60]!r}")
    return network


def _checked_domain(text: str, term: str) -> str:
    """Check and return *text*, a domain-spec (section 7.1)."""
    if not _WHOLE.fullmatch(text) or _NOT_IN_DOMAIN.search(text):
        raise SPFSyntaxError(f"the macros of {term[:60]!r}")
    if not _HAS_TOPLABEL.fullmatch(text) and not _ENDS_IN_MACRO.fullmatch(text):
        raise SPFSyntaxError(f"the domain of {term[:60]!r}")
    return text
