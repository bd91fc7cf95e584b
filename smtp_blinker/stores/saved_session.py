"""A session and its envelope as a line of JSON, for a message that is delivered later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from inspect import get_annotations
from typing import Any, Final

from ..session import (
    Address,
    DeliverBy,
    Envelope,
    EnvelopeDSN,
    RecipientDSN,
    RecipientValidSince,
    Session,
    TLSInfo,
)
from ..smtp.proxy import ProxyHeader
from .entry import json_ready

#: The version of the format; a file of another one is not read.
VERSION: Final = 1

# Attributes whose values are JSON already.
_SESSION: Final = (
    *("id", "local_address", "local_port", "remote_address", "remote_port", "client_hostname"),
    *("opening_command", "host_name_appears_as", "secure", "servername", "transaction"),
    *("xclient", "xforward"),
)
#: Attributes that have a special form below, or that belong to this process only.
_OTHER_FORM: Final = frozenset(
    {"mail_from", "rcpt_to", "dsn", "deliver_by", "hold_until", "results", "received_at"}
)
_NOT_KEPT: Final = frozenset({"rcpt_domains"})
_ENVELOPE: Final = tuple(
    name
    for name in (*Envelope.__slots__, *get_annotations(Envelope))
    if name not in _OTHER_FORM | _NOT_KEPT
)


class Expired(Exception):
    """The client's time limit for the delivery (RFC 2852, BY=…;R) has passed."""


def save(session: Session, recipients: Sequence[Address], size: int) -> bytes:
    """Make the line, with its LF, for a message of *size* octets to these *recipients*."""
    envelope = session.envelope
    received_at = envelope.received_at or datetime.now(UTC)
    facts = {
        "version": VERSION,
        "size": size,
        "received_at": received_at.isoformat(),
        "session": {
            **{name: getattr(session, name) for name in _SESSION},
            "lmtp": session.opening_command == "LHLO",
            "user": _user(session.user),
            "tls": None if session.tls is None else _tls(session.tls),
            "proxy": None if session.proxy is None else _proxy(session.proxy),
            "results": json_ready(session.results),
        },
        "envelope": {
            **{name: getattr(envelope, name) for name in _ENVELOPE},
            "mail_from": None if envelope.mail_from is None else _address(envelope.mail_from),
            "rcpt_to": list(map(_address, recipients)),
            "dsn": [envelope.dsn.ret, envelope.dsn.envid],
            "deliver_by": None if envelope.deliver_by is None else _by(envelope.deliver_by),
            "hold_until": _time(envelope.hold_until),
            "results": json_ready(envelope.results),
        },
    }
    return json.dumps(facts).encode("ascii") + b"\n"


def load(line: bytes, now: datetime) -> tuple[Session, int]:
    """Restore the session with its envelope, and the size of the content, from *line*.

    Time limits in seconds count from the reception, so they are shorter *now*. Raises ValueError
    for an invalid line, and `Expired` if the message must be returned to the sender by now.
    """
    try:
        facts = json.loads(line)
        if facts["version"] != VERSION:
            raise ValueError(f"this is version {facts['version']!r}; only {VERSION} is known")
        session = _read_session(facts["session"])
        session.envelope = _read_envelope(facts["envelope"])
        session.envelope.received_at = datetime.fromisoformat(facts["received_at"])
        size = int(facts["size"])
    except (KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"this is not a message of a spool: {exc!r}") from exc
    _count_down(session.envelope, now)
    return session, size


def with_recipients(line: bytes, numbers: Sequence[int]) -> bytes:
    """*line* with only these of its recipients."""
    facts = json.loads(line)
    recipients = facts["envelope"]["rcpt_to"]
    facts["envelope"]["rcpt_to"] = [recipients[number] for number in numbers]
    return json.dumps(facts).encode("ascii") + b"\n"


def _count_down(envelope: Envelope, now: datetime) -> None:
    assert envelope.received_at is not None
    passed = max(0, int((now - envelope.received_at).total_seconds()))
    by = envelope.deliver_by
    if by is not None:
        left = by.seconds - passed
        if by.mode == "R" and left <= 0:  # RFC 2852 section 4
            raise Expired(f"its sender wants it back when not delivered in {by.seconds} s")
        envelope.deliver_by = DeliverBy(max(left, -999_999_999), by.mode, by.trace)
    if envelope.hold_for is not None:
        left = envelope.hold_for - passed
        envelope.hold_for = left if left > 0 else None


def _read_session(facts: Mapping[str, Any]) -> Session:
    session = Session(lmtp=facts["lmtp"])
    for name in _SESSION:
        setattr(session, name, facts[name])
    session.user = facts["user"]
    session.results = facts["results"]
    if facts["tls"] is not None:
        version, cipher, certificate = facts["tls"]
        name, protocol, bits = cipher
        session.tls = TLSInfo(version, (name, protocol, bits), _tuples(certificate))
    if facts["proxy"] is not None:
        proxy = dict(facts["proxy"])
        tlvs = {int(kind): bytes.fromhex(value) for kind, value in proxy.pop("tlvs").items()}
        session.proxy = ProxyHeader(**proxy, tlvs=tlvs)
    return session


def _read_envelope(facts: Mapping[str, Any]) -> Envelope:
    envelope = Envelope()
    for name in _ENVELOPE:
        if name in facts:  # an earlier release may not have known the field
            setattr(envelope, name, facts[name])
    if facts["mail_from"] is not None:
        envelope.mail_from = _read_address(facts["mail_from"])
    envelope.rcpt_to = list(map(_read_address, facts["rcpt_to"]))
    ret, envid = facts["dsn"]
    envelope.dsn = EnvelopeDSN(ret, envid)
    if facts["deliver_by"] is not None:
        envelope.deliver_by = DeliverBy(*facts["deliver_by"])
    envelope.hold_until = _read_time(facts["hold_until"])
    envelope.results = facts["results"]
    return envelope


def _address(address: Address) -> dict[str, Any]:
    facts: dict[str, Any] = {"address": address.address, "args": dict(address.args)}
    if address.dsn.notify is not None or address.dsn.orcpt is not None:
        facts["dsn"] = [address.dsn.notify, address.dsn.orcpt]
    if address.rrvs is not None:
        facts["rrvs"] = [_time(address.rrvs.since), address.rrvs.action]
    return facts


def _read_address(facts: Mapping[str, Any]) -> Address:
    address = Address(facts["address"], facts["args"])
    if "dsn" in facts:
        notify, orcpt = facts["dsn"]
        address.dsn = RecipientDSN(None if notify is None else tuple(notify), orcpt)
    if "rrvs" in facts:
        since, action = facts["rrvs"]
        address.rrvs = RecipientValidSince(datetime.fromisoformat(since), action)
    return address


def _user(user: Any) -> Any:
    """The user in JSON; an object of the program becomes its text."""
    return user if user is None or isinstance(user, (str, int, float)) else str(user)


def _tls(tls: TLSInfo) -> list[Any]:
    return [tls.version, list(tls.cipher), json_ready(tls.peer_certificate)]


def _tuples(value: Any) -> Any:
    """A certificate in the form of `getpeercert`, with tuples instead of JSON's lists."""
    if isinstance(value, list):
        return tuple(map(_tuples, value))
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return value


def _proxy(header: ProxyHeader) -> dict[str, Any]:
    facts = {field.name: getattr(header, field.name) for field in fields(header)}
    return {**facts, "tlvs": {str(kind): value.hex() for kind, value in header.tlvs.items()}}


def _by(by: DeliverBy) -> list[Any]:
    return [by.seconds, by.mode, by.trace]


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
