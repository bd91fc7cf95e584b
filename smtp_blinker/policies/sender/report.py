"""The Authentication-Results field (RFC 8601)."""

from __future__ import annotations

import re
from typing import Final

from ...smtp.names import unicode_domain
from .results import ARCResult, DKIMResult, DMARCResult, SenderAuthenticationResult, SPFResult

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`{|}~]+")
#: A property value that needs no quotes: a domain with a local-part, or with only "@" before it.
_DOTTED: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_+\-]*[A-Za-z0-9_])?"
_ADDRESS: Final = re.compile(rf"(?:{_DOTTED}(?:\.{_DOTTED})*)?@{_DOTTED}(?:\.{_DOTTED})+")
#: The longest property value and the longest reason in characters.
_MAX_VALUE: Final = 300
_MAX_REASON: Final = 100
#: The longest comment in characters before the name of a server.
_MAX_COMMENT: Final = 2000


def results_value(authserv_id: str, result: SenderAuthenticationResult) -> str:
    """The value of the field, in ASCII. No word is longer than a line may be."""
    parts = [authserv_id, _spf(result.spf)]
    if result.helo is not None and result.helo.result != "none":
        parts.append(_spf(result.helo))
    parts += [_dkim(one) for one in result.dkim] or ["dkim=none"]
    if result.arc is not None:
        parts.append(_arc(result.arc))
    if result.dmarc is not None:
        parts.append(_dmarc(result.dmarc))
    return "; ".join(parts)


def forged_by(authserv_id: str) -> re.Pattern[str]:
    """A pattern for the value of a field that claims to come from *authserv_id* (section 5).

    It also finds the name after a comment, in quotes, with escaped characters, and in U-labels, as
    an internationalized message may have it. To limit the time, it also matches any value that
    begins with a parenthesis and is longer than `_MAX_COMMENT`, whatever is in it.
    """
    name = r"\\?\.".join(map(_label_in_any_form, authserv_id.split(".")))
    comment = rf"\(.{{0,{_MAX_COMMENT}}}\)\s*"
    pattern = rf'\A(?:\(.{{{_MAX_COMMENT}}}|(?:{comment})?"?{name}"?(?=[\s;(]|\Z))'
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)


def _label_in_any_form(label: str) -> str:
    forms = dict.fromkeys((label, unicode_domain(label)))
    escaped = ("".join(rf"\\?{re.escape(char)}" for char in form) for form in forms)
    return f"(?:{'|'.join(escaped)})"


def _spf(spf: SPFResult) -> str:
    name = "smtp.helo" if spf.scope == "helo" else "smtp.mailfrom"
    return f"spf={spf.result}{_reason(spf.reason)}{_property(name, spf.domain)}"


def _dkim(dkim: DKIMResult) -> str:
    text = f"dkim={dkim.result}{_reason(dkim.reason)}{_property('header.d', dkim.domain)}"
    text += _property("header.i", dkim.identity) + _property("header.s", dkim.selector)
    text += _property("header.a", dkim.algorithm)
    return text + _property("header.b", dkim.signature)  # RFC 6008


def _arc(arc: ARCResult) -> str:
    return f"arc={arc.result}{_reason(arc.reason)}"


def _dmarc(dmarc: DMARCResult) -> str:
    text = f"dmarc={dmarc.result}{_reason(dmarc.reason)}{_property('header.from', dmarc.domain)}"
    if dmarc.record_domain:
        text += _property("policy.dmarc", dmarc.policy)
    return text


def _property(name: str, value: str) -> str:
    """The text " name=value"; "" if the value is empty, too long or not ASCII."""
    if not value or len(value) > _MAX_VALUE or not value.isascii() or not value.isprintable():
        return ""
    if _TOKEN.fullmatch(value) or _ADDRESS.fullmatch(value):
        return f" {name}={value}"
    return f" {name}={_quoted(value)}"


def _reason(reason: str) -> str:
    if not reason:
        return ""
    clean = "".join(char if " " <= char <= "~" else "?" for char in reason[:_MAX_REASON])
    return f" reason={_quoted(clean)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
