"""Writes and reads trace fields: Return-Path, Delivered-To, Received (RFC 5321 section 4.4).

A store that makes the final delivery writes `return_path`, `delivered_to`, a `policy_result` for
each policy, and `received` above the content. A store that passes the message on writes only
`received`. `parse_trace` reads these fields.

This module imports only the standard library and `smtp.names`, because the processes in which the
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

#: Octets that `separator` needs from the beginning of a content: the longest line of RFC 5322
#: section 2.1.1.
BEGINNING: Final = 998
#: Bounds of `parse_trace`: octets of all trace fields, octets of an address, and the number of
#: recipients that it returns. It skips the others.
MAX_OCTETS: Final = 4 * 2**20
MAX_ADDRESS: Final = 400
MAX_RECIPIENTS: Final = 5000
_MAX_SKIPPED: Final = 20_000
#: The longest Received field that is read, in octets. `received` writes shorter ones.
_MAX_RECEIVED: Final = 8192
#: The longest policy result that is read, and that is written, in octets. Of a longer one only
#: the verdict is written.
_MAX_RESULT_READ: Final = 16 * 1024
_MAX_RESULT: Final = 8 * 1024
#: Characters of one text in a result, and elements of one list.
_MAX_TEXT: Final = 300
_MAX_ITEMS: Final = 50
#: RFC 5322 section 2.1.1: characters of a line, without its CRLF.
_GOOD_LINE: Final = 78

#: Characters in the U-labels of some scripts, which `str.isprintable` calls unprintable.
_JOINERS: Final = "\u200c\u200d"

# The beginning of a content with a header: a field name and its colon (RFC 5322 section 2.2; the
# obsolete syntax of section 4.5.8 allows blanks between them), or the empty line after an empty
# header.
_HEADER: Final = re.compile(rb"[!-9;-~]+[ \t]*:|\r?\n")

# The value of a field, 8 lines at most, and of a policy result, 300 lines at most. Possessive
# quantifiers keep the time linear in the number of octets.
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
    # The greedy .* takes the last ">", since a quoted local-part may contain "> PRIORITY 1;".
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
    """The attributes of `Session` for trace fields; the module `session` imports this one."""

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

    RFC 5321 section 4.4: the server that makes the final delivery writes it at the top of the
    message. A server that passes the message on doesn't.
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
    """An X-Policy-Result field with the *result* of *policy*, folded, with its final CRLF.

    *result* is JSON-ready. The value is a JSON object in ASCII with the name of the policy as its
    key. Long texts and lists are truncated.
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
        # ASCII needs no \uXXXX in JSON, so no word becomes longer than a line may be.
        return "".join(char if " " <= char <= "~" else "?" for char in value[:_MAX_TEXT])
    if isinstance(value, dict):
        return {_short(key): _short(one) for key, one in list(value.items())[:_MAX_ITEMS]}
    if isinstance(value, list):
        return [_short(one) for one in value[:_MAX_ITEMS]]
    return value


def received(session: _Session, by: str, message_id: str | None = None) -> bytes:
    """The Received field of RFC 5321 section 4.4, folded, with its final CRLF.

    *by* is this server's name and *message_id* the id clause. Characters from the client that
    could break or forge a header field are replaced. May wait for the reverse look-up of the
    client's name, as `Session.client_hostname` does.
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
        # RFC 5321 section 7.2: with several recipients it would reveal one to the others.
        lines.append(f"for <{header_address(envelope.rcpt_to[0].address, envelope)}>")
    if envelope.priority is not None:
        lines.append(f"PRIORITY {envelope.priority}")  # RFC 6710 sections 4.1 and 7
    at = envelope.received_at
    date = formatdate(time.time() if at is None else at.timestamp())
    return ("Received: " + "\r\n\t".join(lines) + f";\r\n\t{date}\r\n").encode()


def separator(beginning: bytes) -> bytes:
    """The octets to write between trace fields and a content: CRLF or nothing.

    *beginning* is the first `BEGINNING` octets of the content, or all of a shorter one. Unless the
    content begins with a header field, it needs an empty line before it, so that its first line
    can't continue the last trace field.
    """
    return b"" if not beginning or _HEADER.match(beginning, 0, BEGINNING) else b"\r\n"


def _clean(word: str) -> str:
    """*word* for a Received field: without spaces, control characters and parentheses."""
    return "".join(
        char if "!" <= char <= "~" and char not in '()<>;"\\' else "?" for char in word[:255]
    )


def header_address(address: str, envelope: _Envelope) -> str:
    """*address* in the form for a trace field of the message with *envelope*.

    Without SMTPUTF8 it is ASCII, with the domain in A-labels (RFC 6531 section 3.7.3). Control
    characters, line separators and surrogates, which could forge a line, are replaced: the server
    accepts no such address, but a program may put one into the envelope.
    """
    if not envelope.smtputf8 and not address.isascii():
        local, at, domain = address.rpartition("@")
        address = f"{local}{at}{ascii_domain(domain)}".encode("ascii", "replace").decode("ascii")
    if address.isprintable():
        return address
    return "".join(char if char.isprintable() or char in _JOINERS else "?" for char in address)


@dataclass(frozen=True, slots=True)
class Received:
    """The clauses of a Received field that `received` wrote; None for a missing clause."""

    #: The client's name in HELO, EHLO or LHLO; "unknown" without one.
    helo: str
    #: The client's name by reverse DNS.
    hostname: str | None
    #: The client's IP address; None for a client of a UNIX socket.
    address: str | None
    #: The server's name.
    by: str
    #: SMTP, ESMTPS, UTF8SMTPSA, LMTP … (RFC 3848; RFC 6531 section 4.3).
    protocol: str
    #: The TLS version and the cipher.
    tls: str | None
    cipher: str | None
    id: str | None
    #: The forward-path; None if the message had several.
    recipient: str | None
    #: -9 to 9 (RFC 6710).
    priority: int | None
    #: The date-time of RFC 5322 section 3.3, not parsed.
    date: str


@dataclass(frozen=True, slots=True)
class Trace:
    """The mail transaction that the trace fields at the top of a message describe."""

    #: The reverse-path, "" for the null one; None without a Return-Path field.
    mail_from: str | None
    #: The values of the Delivered-To fields.
    rcpt_to: tuple[str, ...]
    #: None without a Received field, and for one that another program wrote.
    received: Received | None
    #: The length of the trace fields in octets; the content begins there.
    end: int
    #: The results of policies by the names of the policies: each is a dict from `as_dict`.
    results: dict[str, Any] = field(default_factory=dict)


def parse_trace(content: bytes) -> Trace:
    """Parse the trace fields of the last hop, at the very top of *content*.

    They are Return-Path, any number of Delivered-To and X-Policy-Result, and one Received field, in
    this order, all optional. Fields below them came with the message. Use this only for messages
    to which a store has added trace fields: otherwise the sender has written those at the top.

    Line ends may be CRLF or LF. Raises nothing. The time is bounded: it parses the first 4 MiB and
    returns at most 5000 recipients, 400 octets of an address and 100 results. It ignores fields of
    more than 8 lines, and results of more than 300.
    """
    found = _TRACE.match(content, 0, MAX_OCTETS)
    assert found is not None  # the pattern also matches the empty string
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
            json.dumps(found, allow_nan=False)  # browsers refuse NaN and Infinity
        except (ValueError, RecursionError):  # not a field that policy_result wrote
            continue
        if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
            results.update(found)
    return results


def _address(value: bytes) -> str:
    return _unfolded(value.lstrip()[:MAX_ADDRESS])


def _unfolded(value: bytes) -> str:
    """*value* unfolded (RFC 5322 section 2.2.3), as text."""
    if b"\n" in value:
        value = value.replace(b"\r\n", b"").replace(b"\n", b"")
    value = value.strip()
    try:
        return value.decode()
    except UnicodeDecodeError:  # not a field that this module wrote
        return value.decode("latin-1")


def _parse_received(value: bytes) -> Received | None:
    found = None if len(value) > _MAX_RECEIVED else _RECEIVED.fullmatch(_unfolded(value))
    if found is None:
        return None
    clauses = found.groupdict()
    priority = clauses.pop("priority")
    return Received(**clauses, priority=None if priority is None else int(priority))
