"""Trace fields: Return-Path, Delivered-To and Received, written and read (RFC 5321 section 4.4).

A store that makes the final delivery writes `return_path`, `delivered_to`, a `policy_result` for
each policy, and `received` above the content; one that passes the message on writes `received`
only. `parse_trace` reads them back.

This module imports nothing but the standard library and `smtp.names`: the processes in which the
page reads messages import it too, and they have neither gevent nor blinker.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import formatdate
from itertools import islice
from typing import Any, Final, Protocol

from .smtp.names import ascii_domain

#: Octets at the beginning of a content that `separator` needs: a line may not have more (RFC 5322
#: section 2.1.1).
BEGINNING: Final = 998
#: Bounds of `parse_trace`: octets of all trace fields and of an address, and the recipients that it
#: returns. It skips further ones.
MAX_OCTETS: Final = 4 * 2**20
MAX_ADDRESS: Final = 400
MAX_RECIPIENTS: Final = 5000
_MAX_SKIPPED: Final = 20_000
#: Octets of a Received field that is read. Those that are written here are shorter.
_MAX_RECEIVED: Final = 8192
#: Octets of a policy's result that is read, and of one that is written; of one that is longer only
#: the verdict is.
_MAX_RESULT_READ: Final = 16 * 1024
_MAX_RESULT: Final = 8 * 1024
#: Characters of one text in a result, and elements of one list.
_MAX_TEXT: Final = 300
_MAX_ITEMS: Final = 50
#: RFC 5322 section 2.1.1: characters of a line, without its CRLF.
_GOOD_LINE: Final = 78

#: Characters that Python finds unprintable, and which the U-labels of some scripts have.
_JOINERS: Final = "\u200c\u200d"

# How a content begins that has a header: with a field's name and its colon (RFC 5322 section 2.2),
# blanks between them being obsolete but valid (section 4.5.8); or with the empty line that ends
# an empty header.
_HEADER: Final = re.compile(rb"[!-9;-~]+[ \t]*:|\r?\n")

# The value of a field of at most 8 lines, and of a result, which has 300 at most. The quantifiers
# are possessive, so the time is linear in the octets that are looked at.
_VALUE: Final = rb"[^\n]*+(?:\n[ \t][^\n]*+){0,7}+(?:\n(?![ \t])|\Z)"
_LONG_VALUE: Final = _VALUE.replace(b"{0,7}", b"{0,299}")
_TRACE: Final = re.compile(
    rb"(?:return-path[ \t]*+:(?P<path>%(value)s))?"
    rb"(?P<to>(?:delivered-to[ \t]*+:%(value)s){0,%(most)d}+)"
    rb"(?P<results>(?:x-policy-result[ \t]*+:%(long)s){0,100}+)"
    rb"(?:received[ \t]*+:(?P<received>%(value)s))?"
    % {b"value": _VALUE, b"most": _MAX_SKIPPED, b"long": _LONG_VALUE},
    re.IGNORECASE,
)
_RESULT: Final = re.compile(rb"x-policy-result[ \t]*+:(%s)" % _LONG_VALUE, re.IGNORECASE)
_DELIVERED_TO: Final = re.compile(rb"delivered-to[ \t]*+:(%s)" % _VALUE, re.IGNORECASE)
_RECEIVED: Final = re.compile(
    r"\s*from (?P<helo>\S+)"
    r"(?: \((?:(?P<hostname>\S+) )?\[(?:IPv6:)?(?P<address>[^]\s]*)\]\))?"
    r"\s+by (?P<by>\S+) with (?P<protocol>[^\s;]+)"
    r"(?:\s+\(version=(?P<tls>\S+) cipher=(?P<cipher>[^\s)]+)\))?"
    r"(?: id (?P<id>[^\s;]+))?"
    # A quoted local-part may hold anything, "> PRIORITY 1;" too: the last one counts.
    r"(?:\s+for <(?P<recipient>.*)>)?"
    r"(?:\s+PRIORITY (?P<priority>-?\d))?"
    r";\s*(?P<date>[^;]*)",
    re.DOTALL,
)


class _Address(Protocol):
    @property
    def address(self) -> str: ...


class _Envelope(Protocol):
    @property
    def mail_from(self) -> _Address | None: ...
    @property
    def rcpt_to(self) -> Sequence[_Address]: ...
    @property
    def smtputf8(self) -> bool: ...
    @property
    def priority(self) -> int | None: ...
    @property
    def received_at(self) -> datetime | None: ...


class _TLS(Protocol):
    @property
    def version(self) -> str: ...
    @property
    def cipher(self) -> tuple[str, str, int]: ...


class _Session(Protocol):
    """What trace fields say of a `Session`, which imports this module."""

    @property
    def host_name_appears_as(self) -> str | None: ...
    @property
    def remote_address(self) -> str: ...
    @property
    def client_hostname(self) -> str: ...
    @property
    def transmission_type(self) -> str: ...
    @property
    def tls(self) -> _TLS | None: ...
    @property
    def envelope(self) -> _Envelope: ...


def return_path(session: _Session) -> bytes:
    """The Return-Path field with the reverse-path of the envelope, and its CRLF.

    The server that makes the final delivery puts it at the top of the message (RFC 5321
    section 4.4); one that passes the message on doesn't write it.
    """
    sender = session.envelope.mail_from
    address = "" if sender is None else header_address(sender.address, session.envelope)
    return f"Return-Path: <{address}>\r\n".encode()


def delivered_to(session: _Session) -> bytes:
    """A Delivered-To field (RFC 9228) for each recipient of the envelope, each with its CRLF."""
    envelope = session.envelope
    return "".join(
        f"Delivered-To: {header_address(recipient.address, envelope)}\r\n"
        for recipient in envelope.rcpt_to
    ).encode()


def policy_result(policy: str, result: Any) -> bytes:
    """An X-Policy-Result field with what *policy* found, folded, with its final CRLF.

    *result* is JSON-ready. The field has it in ASCII, beneath the policy's name; long texts and
    lists are cut.
    """
    text = json.dumps({_short(policy): _short(result)})
    if len(text) > _MAX_RESULT:
        verdict = result.get("verdict") if isinstance(result, dict) else None
        text = json.dumps({_short(policy): {"verdict": _short(str(verdict))}})
    lines = [""]
    for word in re.findall(" *[^ ]+", f"X-Policy-Result: {text}"):
        if len(lines[-1]) + len(word) > _GOOD_LINE:
            lines.append("")
        lines[-1] += word
    return "\r\n".join([*filter(None, lines), ""]).encode("ascii")


def _short(value: Any) -> Any:
    if isinstance(value, str):
        # Bounded in JSON too, where no word may be longer than a line.
        return "".join(char if " " <= char <= "~" else "?" for char in value[:_MAX_TEXT])
    if isinstance(value, dict):
        return {_short(key): _short(one) for key, one in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, list):
        return [_short(one) for one in value[:_MAX_ITEMS]]
    return value


def received(session: _Session, by: str, message_id: str | None = None) -> bytes:
    """The Received field of RFC 5321 section 4.4, folded, with its final CRLF.

    *by* is this server's name and *message_id* the id clause. What the client said of itself is
    cut down to characters that can't break or forge a header field. May wait for the reverse
    lookup of the client's name, as `Session.client_hostname` does.
    """
    from_clause = f"from {_clean(session.host_name_appears_as or 'unknown')}"
    if address := session.remote_address:
        literal = f"IPv6:{address}" if ":" in address else address
        name = session.client_hostname
        known = "" if name.startswith("[") else f"{_clean(name)} "
        from_clause += f" ({known}[{_clean(literal)}])"
    lines = [from_clause, f"by {_clean(ascii_domain(by))} with {session.transmission_type}"]
    if session.tls is not None:
        lines.append(f"(version={session.tls.version} cipher={session.tls.cipher[0]})")
    if message_id is not None:
        lines[-1] += f" id {_clean(message_id)}"
    envelope = session.envelope
    if len(envelope.rcpt_to) == 1:
        # RFC 5321 section 7.2: with more recipients the clause would show one to the others.
        lines.append(f"for <{header_address(envelope.rcpt_to[0].address, envelope)}>")
    if envelope.priority is not None:
        lines.append(f"PRIORITY {envelope.priority}")  # RFC 6710 sections 4.1 and 7
    at = envelope.received_at
    date = formatdate(time.time() if at is None else at.timestamp())
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{date}\r\n").encode()


def separator(beginning: bytes) -> bytes:
    """What stands between trace fields and a content: CRLF or nothing.

    *beginning* is the content's first `BEGINNING` octets, or all of a shorter one. An empty line is
    needed unless its first line is a header field, since it would continue the last trace field.
    """
    return b"" if not beginning or _HEADER.match(beginning, 0, BEGINNING) else b"\r\n"


def _clean(word: str) -> str:
    """A word of a Received field: no spaces, controls or parentheses."""
    return "".join(
        char if "!" <= char <= "~" and char not in '()<>;"\\' else "?" for char in word[:255]
    )


def header_address(address: str, envelope: _Envelope) -> str:
    """*address* as a trace field of the message in *envelope* has it.

    Without SMTPUTF8 that is ASCII, the domain in A-labels (RFC 6531 section 3.7.3). No control,
    line separator or surrogate can end or forge a line: the server takes no such address, but a
    program may put one into the envelope.
    """
    if not envelope.smtputf8 and not address.isascii():
        local, at, domain = address.rpartition("@")
        address = f"{local}{at}{ascii_domain(domain)}".encode("ascii", "replace").decode("ascii")
    if address.isprintable():
        return address
    return "".join(char if char.isprintable() or char in _JOINERS else "?" for char in address)


@dataclass(frozen=True, slots=True)
class Received:
    """What a Received field says that `received` wrote; None for a clause that it doesn't have."""

    #: What the client called itself; "unknown" where it said nothing.
    helo: str
    #: The client's name by reverse DNS.
    hostname: str | None
    #: The client's IP address; None for a client that came over a UNIX socket.
    address: str | None
    #: The server's name.
    by: str
    #: SMTP, ESMTPS, UTF8SMTPSA, LMTP … (RFC 3848; RFC 6531 section 4.3).
    protocol: str
    #: The version of TLS, and the cipher.
    tls: str | None
    cipher: str | None
    id: str | None
    #: The forward-path; None where the message had several.
    recipient: str | None
    #: -9 to 9 (RFC 6710).
    priority: int | None
    #: The date-time of RFC 5322 section 3.3, as it was written.
    date: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The mail transaction as the trace fields at the top of a message describe it."""

    #: The reverse-path, "" for the null one; None where the message has no Return-Path.
    mail_from: str | None
    #: The values of the Delivered-To fields.
    rcpt_to: tuple[str, ...]
    #: None where there is no Received field, or one that another program wrote.
    received: Received | None
    #: Where the content begins: how many octets the trace fields have.
    end: int
    #: What policies found, by their names: of each a dict with what its result's `as_dict` said.
    results: dict[str, Any] = field(default_factory=dict)


def parse_trace(content: bytes) -> Trace:
    """The trace fields of the last hop, which are those at the very top of *content*.

    They are Return-Path, any number of Delivered-To and X-Policy-Result, and one Received field, in
    this order and each of them optional. Fields further down were there when the message arrived.
    So were those at the top where no store has written any: then they say what the sender wanted
    them to.

    Line ends may be CRLF or LF. Raises nothing. The time is bounded: it looks at the first 4 MiB,
    returns 5000 recipients at most, 400 octets of an address and 100 results, and a field of more
    than 8 lines (a result of more than 300) is not read as one.
    """
    found = _TRACE.match(content, 0, MAX_OCTETS)
    assert found is not None  # it matches nothing, too
    path, line = found["path"], found["received"]
    return Trace(
        None if path is None else _address(path).removeprefix("<").removesuffix(">"),
        tuple(
            _address(one[1])
            for one in islice(_DELIVERED_TO.finditer(content, *found.span("to")), MAX_RECIPIENTS)
        ),
        None if line is None else _parse_received(line),
        found.end(),
        _parse_results(content, *found.span("results")),
    )


def _parse_results(content: bytes, start: int, end: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for one in _RESULT.finditer(content, start, end):
        try:
            found = json.loads(_unfolded(one[1][:_MAX_RESULT_READ]))
            json.dumps(found, allow_nan=False)  # JSON has no infinity: browsers refuse it
        except (ValueError, RecursionError):  # nothing that was written here
            continue
        if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
            results.update(found)
    return results


def _address(value: bytes) -> str:
    return _unfolded(value.lstrip()[:MAX_ADDRESS])


def _unfolded(value: bytes) -> str:
    """RFC 5322 section 2.2.3"""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    value = value.strip()
    try:
        return value.decode()
    except UnicodeDecodeError:  # nothing that was written here
        return value.decode("latin-1")


def _parse_received(value: bytes) -> Received | None:
    found = None if len(value) > _MAX_RECEIVED else _RECEIVED.fullmatch(_unfolded(value))
    if found is None:
        return None
    clauses = found.groupdict()
    priority = clauses.pop("priority")
    return Received(**clauses, priority=None if priority is None else int(priority))
