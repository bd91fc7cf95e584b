"""Parsers that check the values of MAIL and RCPT parameters and set fields from them.

A parser raises only `Reject`, with the reply for the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Protocol

from .session import (
    Address,
    DeliverBy,
    Envelope,
    EnvelopeDSN,
    RecipientDSN,
    RecipientValidSince,
)
from .smtp.dates import parse_date_time
from .smtp.paths import check_mailbox
from .smtp.reply import Reject

Value = str | bool


class Facts(Protocol):
    """What parsers and EHLO lines may know about the server and the session."""

    @property
    def size(self) -> int:
        """The largest message in octets, 0 for no limit."""

    @property
    def hide_size(self) -> bool: ...

    @property
    def secure(self) -> bool: ...

    @property
    def bdat(self) -> bool:
        """Whether BDAT can be used."""

    @property
    def binarymime(self) -> bool:
        """Whether BODY=BINARYMIME is offered."""

    @property
    def starttls(self) -> bool:
        """Whether STARTTLS can be used now."""

    @property
    def mechanisms(self) -> Sequence[str]:
        """The mechanisms that AUTH offers now."""

    @property
    def max_messages(self) -> int | None: ...

    @property
    def max_recipients(self) -> int | None: ...

    @property
    def max_rcpt_domains(self) -> int | None: ...

    @property
    def max_hold(self) -> int:
        """The most seconds for which a message may be held."""

    @property
    def now(self) -> datetime:
        """The time in UTC."""

    def forwarding(self, verb: str) -> bool:
        """Whether the peer may use *verb* (XCLIENT or XFORWARD) now."""


MailParser = Callable[[Value, Envelope, Facts], None]
RcptParser = Callable[[Value, Address], None]


def _text(keyword: str, value: Value) -> str:
    if not isinstance(value, str):
        raise Reject(501, f"{keyword} takes a value", "5.5.4")
    return value


def _no_value(keyword: str, value: Value) -> None:
    if value is not True:
        raise Reject(501, f"{keyword} takes no value", "5.5.4")


def size(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 1870 section 3: 1 to 20 digits."""
    text = _text("SIZE", value)
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Reject(501, "SIZE takes 1 to 20 digits", "5.5.4")
    envelope.size = int(text)
    # Without a limit of the server, that of any file still applies.
    limit = facts.size or 2**63 - 1
    if envelope.size > limit:
        raise Reject(552, f"Message exceeds the maximum size of {limit} octets", "5.3.4")


_BODIES: Final = ("7bit", "8bitmime")  # RFC 6152 section 2
_BODIES_WITH_BINARY: Final = (*_BODIES, "binarymime")  # RFC 3030 section 3


def body(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 6152 section 2, RFC 3030 section 3."""
    body_type = _text("BODY", value).lower()
    known = _BODIES_WITH_BINARY if facts.binarymime else _BODIES
    if body_type not in known:
        *first, last = (one.upper() for one in known)
        raise Reject(501, f"BODY takes {', '.join(first)} or {last}", "5.5.4")
    envelope.body_type = body_type


def smtputf8(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 6531 section 3.4."""
    _no_value("SMTPUTF8", value)
    envelope.smtputf8 = True


def requiretls(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 8689 section 2."""
    _no_value("REQUIRETLS", value)
    if not facts.secure:
        raise Reject(530, "REQUIRETLS needs TLS: send STARTTLS first", "5.7.10")
    envelope.require_tls = True


def ret(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 3461 section 4.3."""
    ret = _text("RET", value).upper()
    if ret not in {"FULL", "HDRS"}:
        raise Reject(501, "RET takes FULL or HDRS", "5.5.4")
    envelope.dsn = EnvelopeDSN(ret, envelope.dsn.envid)


def envid(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 3461 section 4.4: 100 characters at most."""
    envid = _text("ENVID", value)
    if len(envid) > 100:
        raise Reject(501, "ENVID takes 100 characters at most", "5.5.4")
    envelope.dsn = EnvelopeDSN(envelope.dsn.ret, envid)


def notify(value: Value, address: Address) -> None:
    """RFC 3461 section 4.1."""
    wanted = tuple(_text("NOTIFY", value).upper().split(","))
    if not set(wanted) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}:
        raise Reject(501, "NOTIFY takes NEVER, or SUCCESS, FAILURE and DELAY", "5.5.4")
    if "NEVER" in wanted and len(wanted) > 1:
        raise Reject(501, "NOTIFY=NEVER stands alone", "5.5.4")
    address.dsn = RecipientDSN(wanted, address.dsn.orcpt)


def orcpt(value: Value, address: Address) -> None:
    """RFC 3461 section 4.2: an address type and an address, 500 octets at most."""
    text = _text("ORCPT", value)
    kind, semicolon, original = text.partition(";")
    if len(text) > 500 or not semicolon or not kind or not original:
        raise Reject(501, "ORCPT takes addr-type;address, 500 characters at most", "5.5.4")
    if not kind.replace("-", "").isalnum() or not kind.isascii():
        raise Reject(501, "ORCPT takes an address type such as rfc822", "5.5.4")
    address.dsn = RecipientDSN(address.dsn.notify, text)


def auth(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 4954 section 5: a mailbox or "<>".

    It is only a claim, and clients without AUTH may send it too. The program must treat it as "<>"
    unless it trusts the client.
    """
    text = _text("AUTH", value)
    if text != "<>":
        try:
            text = check_mailbox(text)
        except Reject:
            raise Reject(501, "AUTH takes a mailbox or <>", "5.5.4") from None
    envelope.auth = text


_BY: Final = re.compile(r"([+-]?[0-9]{1,9});([NR])(T?)")


def deliver_by(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 2852 section 4: seconds from now; 0 and negative values are in the past."""
    found = _BY.fullmatch(_text("BY", value).upper())
    if found is None:
        raise Reject(501, "BY takes seconds, a semicolon and N or R, as in 120;R", "5.5.4")
    seconds, mode = int(found[1]), found[2]
    if mode == "R" and seconds <= 0:  # RFC 2852 section 4: a syntax error, 501 5.5.4
        raise Reject(501, "BY takes more than 0 seconds with R", "5.5.4")
    envelope.deliver_by = DeliverBy(seconds, mode, bool(found[3]))


_PRIORITY: Final = re.compile(r"-?[1-9]|0")


def mt_priority(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 6710 sections 3 and 7: -9 to 9, without a plus sign or leading zeros.

    Section 4.1 allows more than 0 for authorized clients only: `on_mail_from` decides about it.
    """
    text = _text("MT-PRIORITY", value)
    if not _PRIORITY.fullmatch(text):
        raise Reject(501, "MT-PRIORITY takes -9 to 9", "5.5.4")
    envelope.priority = int(text)


_INTERVAL: Final = re.compile(r"[1-9][0-9]{0,8}")


def hold_for(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 4865 section 3, item 2: 1 to 999999999 seconds."""
    text = _text("HOLDFOR", value)
    if not _INTERVAL.fullmatch(text):
        raise Reject(501, "HOLDFOR takes seconds, 1 to 9 digits", "5.5.4")
    seconds = int(text)
    _hold(envelope, seconds, facts)
    envelope.hold_for = seconds


def hold_until(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 4865 section 3, item 4, with erratum 2040: a date-time of RFC 3339."""
    try:
        moment = parse_date_time(_text("HOLDUNTIL", value))
    except ValueError:
        raise Reject(501, "HOLDUNTIL takes a time as 2026-12-01T00:00:00Z", "5.5.4") from None
    seconds = (moment - facts.now).total_seconds()
    if seconds <= 0:  # RFC 4865 section 4.2, item 8: "or otherwise invalid"
        raise Reject(501, "HOLDUNTIL is not in the future", "5.5.4")
    _hold(envelope, seconds, facts)
    envelope.hold_until = moment


def _hold(envelope: Envelope, seconds: float, facts: Facts) -> None:
    # RFC 4865 section 4.2, items 7 to 11: 501 5.5.4 for both at once and for too long a time.
    if envelope.hold_for is not None or envelope.hold_until is not None:
        raise Reject(501, "HOLDFOR and HOLDUNTIL exclude each other", "5.5.4")
    if seconds > facts.max_hold:
        raise Reject(501, f"A message is held {facts.max_hold} seconds at most", "5.5.4")


def rrvs(value: Value, address: Address) -> None:
    """RFC 7293 section 3.1: a date-time, then perhaps a semicolon and C or R; the default is R."""
    date_time, semicolon, action = _text("RRVS", value).partition(";")
    action = action.upper() if semicolon else "R"
    if action not in {"C", "R"}:
        raise Reject(501, "RRVS takes C or R after the semicolon", "5.5.4")
    try:
        if "." in date_time:
            raise ValueError("RFC 7293 section 3.1: without a fraction of a second")
        since = parse_date_time(date_time)
    except ValueError:
        raise Reject(501, "RRVS takes a time as 2014-04-03T23:01:00Z", "5.5.4") from None
    address.rrvs = RecipientValidSince(since, action)
