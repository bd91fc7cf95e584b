"""Parses reverse-path and forward-path with their parameters, and xtext.

The functions raise only `Reject`, with the reply for the client.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from .names import MAX_DOMAIN, hides_syntax, unicode_domain
from .reply import Reject

# RFC 5321 section 4.5.3.1.3: a path has at most 256 octets with its "<" and ">". Servers must
# accept local-parts up to 64 octets (section 4.5.3.1.1), but forwarders send longer ones.
MAX_PATH = 256

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_STRING = rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"

# The pattern for nearly all paths. A label with two hyphens in a row may be an A-label, so it needs
# the slower code below, like everything unusual.
_PLAIN_DOMAIN = r"[A-Za-z0-9]+(?:[.\-][A-Za-z0-9]+)*"
_PLAIN_PATH = rf"<({_DOT_STRING}@{_PLAIN_DOMAIN})>(.*)"
_PLAIN_REVERSE_PATH = re.compile(f"FROM:{_PLAIN_PATH}", re.S).match
_PLAIN_FORWARD_PATH = re.compile(f"TO:{_PLAIN_PATH}", re.S).match

_U_ATEXT = rf"[{_ATEXT}\u0080-\U0010ffff]"
# RFC 6531 section 3.3 adds UTF-8 to atext, qtext and sub-domain.
_LOCAL_PART = re.compile(
    rf'{_U_ATEXT}+(?:\.{_U_ATEXT}+)*|"(?:[ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])*"'
)
_U_LABEL = (
    r"[A-Za-z0-9\u0080-\U0010ffff](?:[A-Za-z0-9\-\u0080-\U0010ffff]*[A-Za-z0-9\u0080-\U0010ffff])?"
)
_U_DOMAIN = re.compile(rf"{_U_LABEL}(?:\.{_U_LABEL})*")
# RFC 5321 section 4.1.1.3 and appendix C: a source route is accepted and ignored.
_SOURCE_ROUTE = re.compile(rf"@{_DOMAIN}(?:,@{_DOMAIN})*:")

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9\-]*")  # RFC 5321 section 4.1.2
_VALUE = re.compile(r"[!-<>-~\u0080-\U0010ffff]+")  # no "=", no space, no control
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")  # RFC 3461 section 4
_XTEXT_HEX = re.compile(rb"\+([0-9A-F]{2})")

# Parameters whose values are xtext (RFC 3461 sections 4.2 and 4.4, RFC 4954 section 5), and whether
# they may hold UTF-8 (RFC 6533 section 3, RFC 6531 section 3.2).
_XTEXT_PARAMETERS = {"AUTH": True, "ENVID": False, "ORCPT": True}


# Clients repeat the same senders and recipients. The length of lines limits these caches to about
# 4 MiB.
@lru_cache(maxsize=1024)
def plain_reverse_path(argument: str) -> tuple[str, str] | None:
    """The result of `parse_path` for a usual argument of MAIL, else None."""
    return _plain_path(_PLAIN_REVERSE_PATH(argument))


@lru_cache(maxsize=1024)
def plain_forward_path(argument: str) -> tuple[str, str] | None:
    """The same for RCPT."""
    return _plain_path(_PLAIN_FORWARD_PATH(argument))


def _plain_path(found: re.Match[str] | None) -> tuple[str, str] | None:
    if found is None or len(found[1]) > MAX_PATH - 2:
        return None
    return found[1], found[2]


@lru_cache(maxsize=1024)
def parse_path(argument: str, sender: bool, smtputf8: bool, lenient: bool) -> tuple[str, str]:
    """The address in the argument of MAIL (*sender*) or RCPT, and what follows it.

    Only a reverse-path may be null, only a forward-path may be "<postmaster>". *smtputf8* allows
    non-ASCII. With *lenient*, a wrong syntax is accepted, but not wrong characters.
    """
    plain = plain_reverse_path(argument) if sender else plain_forward_path(argument)
    if plain is not None:
        return plain
    if sender:
        if argument[:5].upper() != "FROM:":
            raise Reject(501, "Syntax: MAIL FROM:<address>", "5.5.2")
        return _parse_unusual_path(argument[5:], sender, smtputf8, lenient)
    if argument[:3].upper() != "TO:":
        raise Reject(501, "Syntax: RCPT TO:<address>", "5.5.2")
    return _parse_unusual_path(argument[3:], sender, smtputf8, lenient)


def _parse_unusual_path(text: str, sender: bool, smtputf8: bool, lenient: bool) -> tuple[str, str]:
    # A space after the colon is not allowed (RFC 5321 section 3.3) but common and harmless.
    text = text.lstrip(" ")
    end = _path_end(text)
    if end > 0:
        path = text[1 : end - 1]
    else:
        path = text.split(" ", 1)[0]
        end = len(path)
        if not lenient or "@" not in path or "<" in path or ">" in path:
            raise _bad_path(sender, "A path is an address in angle brackets")
    if end > MAX_PATH and not lenient:
        raise _bad_path(sender, "Path too long")
    rest = text[end:]
    route = _SOURCE_ROUTE.match(path)
    if route is not None:
        path = path[route.end() :]
    if not path:
        if sender:
            return "", rest  # RFC 5321 section 4.5.5: the null reverse-path
        raise _bad_path(sender, "The recipient address is empty")
    if not sender and path.lower() == "postmaster":
        return path, rest  # RFC 5321 section 4.5.1
    if not path.isascii() and not smtputf8:
        # RFC 6531 section 3.5: 550 or 553 with X.6.7
        raise Reject(550 if sender else 553, "Non-ASCII address without SMTPUTF8", "5.6.7")
    # isprintable is false for ZWNJ and ZWJ too, which some scripts' domain names need.
    if not path.replace("\u200c", "").replace("\u200d", "").isprintable():
        raise _bad_path(sender, "The address holds a character that can't be printed")
    try:
        return check_mailbox(path, sender), rest
    except Reject:
        if not lenient:
            raise
    local, at, domain = path.rpartition("@")
    return f"{local}{at}{unicode_domain(domain) if at else domain}", rest


def _path_end(text: str) -> int:
    """The index after the ">" that closes the path in *text*, or -1."""
    if not text.startswith("<"):
        return -1
    quoted = escaped = False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == ">" and not quoted:
            return index + 1
    return -1


def check_mailbox(path: str, sender: bool = True) -> str:
    """Check *path*, a mailbox (RFC 5321 section 4.1.2); returns it in the form of `Address`."""
    local = _LOCAL_PART.match(path)
    if local is None or path[local.end() : local.end() + 1] != "@":
        raise _bad_path(sender, "Bad address syntax")
    domain = path[local.end() + 1 :]
    if domain.startswith("[") and domain.endswith("]"):
        return f"{local.group()}@[{_address_literal(domain[1:-1], sender)}]"
    if (
        len(domain.encode("utf-8")) > MAX_DOMAIN
        or not _U_DOMAIN.fullmatch(domain)
        or hides_syntax(domain)
    ):
        raise _bad_path(sender, "Bad domain syntax")
    return f"{local.group()}@{unicode_domain(domain)}"


def _address_literal(literal: str, sender: bool) -> str:
    """RFC 5321 section 4.1.3, IPv6 in its short lower-case form (RFC 5952)."""
    try:
        if literal[:5].upper() == "IPV6:":
            if "%" in literal:
                raise AddressValueError("an address literal has no scope")
            return f"IPv6:{_ipv6(literal[5:])}"
        return str(IPv4Address(literal))
    except ValueError:
        raise _bad_path(sender, "Bad address literal") from None


def _ipv6(text: str) -> str:
    address = IPv6Address(text)
    if address.ipv4_mapped is not None:
        # RFC 5952 section 5: with the IPv4 address in dots; CPython 3.12 writes hexadecimal.
        return f"::ffff:{address.ipv4_mapped}"
    return address.compressed


def _bad_path(sender: bool, text: str) -> Reject:
    # RFC 3463 section 3.2: X.1.7 is about the sender's address, X.1.3 about the recipient's.
    return Reject(501, text, "5.1.7" if sender else "5.1.3")


def parse_parameters(text: str) -> dict[str, str | bool]:
    """The ESMTP parameters after a path (RFC 5321 section 4.1.1.11), with xtext decoded."""
    if text and text[0] != " ":
        raise Reject(501, "Parameters are separated from the path by a space", "5.5.4")
    args: dict[str, str | bool] = {}
    for part in text.split(" "):
        if not part:
            continue
        keyword, equals, value = part.partition("=")
        name = keyword.upper()
        if not _KEYWORD.fullmatch(keyword) or (equals and not _VALUE.fullmatch(value)):
            raise Reject(501, "Bad parameter syntax", "5.5.4")
        if name in args:
            raise Reject(501, f"Parameter {name} is given twice", "5.5.4")
        if not equals:
            args[name] = True
        elif name in _XTEXT_PARAMETERS:
            args[name] = decode_xtext(value, utf8=_XTEXT_PARAMETERS[name])
        else:
            args[name] = value
    mailbox = args.get("AUTH")
    if isinstance(mailbox, str) and not mailbox.isascii() and "SMTPUTF8" not in args:
        raise Reject(501, "AUTH with non-ASCII characters needs SMTPUTF8", "5.5.4")
    return args


def decode_xtext(value: str, *, utf8: bool = False) -> str:
    """Decode xtext (RFC 3461 section 4). The result must be printable, or it could forge log lines.

    *utf8* is for addresses, which may have UTF-8, directly or in xtext (RFC 6533 section 3 and
    Postfix).
    """
    if "+" not in value and value.isascii():
        return value
    octets = value.encode("utf-8")
    if not _XTEXT.fullmatch(value) and (not utf8 or value.isascii() or "+" in value):
        raise Reject(501, "Bad xtext: +XX takes two upper-case hex digits", "5.5.4")
    octets = _XTEXT_HEX.sub(lambda found: bytes([int(found[1], 16)]), octets)
    try:
        decoded = octets.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        raise Reject(
            501, "A parameter's value holds a character that isn't allowed", "5.5.4"
        ) from None
    if not decoded.isprintable():
        raise Reject(501, "A parameter's value holds a character that can't be printed", "5.5.4")
    return decoded
