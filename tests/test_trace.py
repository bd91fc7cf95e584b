"""The trace fields, written and read back: RFC 5321 section 4.4."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email import message_from_bytes
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_blinker import Address, Envelope, Session
from smtp_blinker.session import TLSInfo
from smtp_blinker.trace import (
    BEGINNING,
    MAX_ADDRESS,
    MAX_RECIPIENTS,
    Received,
    Trace,
    delivered_to,
    header_address,
    parse_trace,
    received,
    return_path,
    separator,
)

TLS = TLSInfo("TLSv1.3", ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256))


def session(*recipients: str, **attributes: Any) -> Session:
    made = Session(lmtp=attributes.pop("lmtp", False))
    made.opening_command = "EHLO"
    made.host_name_appears_as = "client.example"
    made.remote_address = "192.0.2.1"
    made.envelope.received_at = datetime.now(UTC)  # else each field has its own time
    for name, value in attributes.items():
        setattr(made, name, value)
    made.envelope.mail_from = Address("a@example.org")
    made.envelope.rcpt_to += map(Address, recipients)
    return made


def trace_of(made: Session, message_id: str | None = None) -> bytes:
    """What a store that makes the final delivery writes."""
    return return_path(made) + delivered_to(made) + received(made, "mx.example", message_id)


def line(made: Session, by: str = "mx.example", message_id: str | None = None) -> str:
    """The Received field on one line, after checking that it is one field."""
    octets = received(made, by, message_id)
    assert octets == made.received_header(by, message_id)
    assert octets.endswith(b"\r\n")
    lines = octets[:-2].split(b"\r\n")
    assert all(line.startswith((b" ", b"\t")) for line in lines[1:])
    assert all(len(line) <= 998 for line in lines)
    assert octets.count(b"\n") == octets.count(b"\r") == len(lines)
    assert message_from_bytes(octets + b"\r\nbody\r\n").keys() == ["Received"]
    return " ".join(octets.decode().split())


# Written


def test_received_is_a_trace_line() -> None:
    made = session("b@example.com", client_hostname="mail.example", tls=TLS, secure=True)
    text = line(made, message_id="abc")
    assert text.startswith(
        "Received: from client.example (mail.example [192.0.2.1]) by mx.example with ESMTPS"
    )
    assert "id abc" in text
    assert "TLSv1.3" in text
    assert "for <b@example.com>;" in text
    assert re.search(r"; \w{3}, \d{1,2} \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}$", text)


def test_received_names_no_recipient_among_several() -> None:
    # RFC 5321 section 7.2
    assert "example.com" not in line(session("b@example.com", "c@example.com"))


def test_received_has_the_priority_that_was_asked_for() -> None:
    made = session()
    assert "PRIORITY" not in line(made)
    made.envelope.priority = -3
    assert " PRIORITY -3; " in line(made)


def test_trace_fields_have_a_labels_but_for_smtputf8() -> None:
    made = session("b@bücher.example")
    made.envelope.mail_from = Address("a@straße.example")
    assert "for <b@xn--bcher-kva.example>;" in line(made)
    assert return_path(made) == b"Return-Path: <a@xn--strae-oqa.example>\r\n"
    assert delivered_to(made) == b"Delivered-To: b@xn--bcher-kva.example\r\n"
    made.envelope.smtputf8 = True
    assert "for <b@bücher.example>;" in line(made)
    assert return_path(made) == "Return-Path: <a@straße.example>\r\n".encode()
    assert delivered_to(made) == "Delivered-To: b@bücher.example\r\n".encode()
    assert " by xn--bro-hoa.example with" in line(made, "büro.example")


def test_the_null_reverse_path_is_written() -> None:
    made = session()
    made.envelope.mail_from = Address("")
    assert return_path(made) == b"Return-Path: <>\r\n"
    made.envelope.mail_from = None
    assert return_path(made) == b"Return-Path: <>\r\n"


@pytest.mark.parametrize(
    ("address", "without", "with_smtputf8"),
    [
        ("", "", ""),
        ("postmaster", "postmaster", "postmaster"),
        ("A.B@Example.ORG", "A.B@Example.ORG", "A.B@Example.ORG"),
        ('"a@b"@straße.example', '"a@b"@xn--strae-oqa.example', '"a@b"@straße.example'),
        ("b@क्\u200dष.example", "b@xn--11b2ezcw70k.example", "b@क्\u200dष.example"),
        ("b@xn--dmin-zg0y.example", "b@xn--dmin-zg0y.example", "b@xn--dmin-zg0y.example"),
        ("jörg@example.org", "j?rg@example.org", "jörg@example.org"),
        ("用户@例子.example", "??@xn--fsqu00a.example", "用户@例子.example"),
        ("a\x1b[2J\x7f\0@example.org", "a?[2J??@example.org", "a?[2J??@example.org"),
        ("a@ü\nX: 1", "a@xn--?x: 1-jva", "a@ü?X: 1"),
        ("a@ü\udc80\u2028", None, "a@ü??"),
    ],
)
def test_header_address_is_ascii_but_for_smtputf8(
    address: str, without: str | None, with_smtputf8: str
) -> None:
    envelope = Envelope()
    written = header_address(address, envelope)
    assert written.isascii()
    assert written.isprintable()
    assert written == without or without is None
    envelope.smtputf8 = True
    assert header_address(address, envelope) == with_smtputf8


def test_received_marks_ipv6() -> None:
    assert "[IPv6:2001:db8::1]" in line(session(remote_address="2001:db8::1"))


@given(st.text(), st.text(), st.text(), st.text())
def test_nothing_a_client_says_breaks_a_trace_field(
    hello: str, name: str, address: str, message_id: str
) -> None:
    made = session(address, host_name_appears_as=hello, client_hostname=name)
    made.envelope.mail_from = Address(address)
    made.envelope.smtputf8 = not address.isascii() and address.isprintable()
    octets = received(made, "mx.example", message_id)
    assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
    assert all(line[:1] in b"\t " for line in octets[:-2].split(b"\r\n")[1:])
    assert octets.startswith(b"Received: from ")
    for octets in (return_path(made), delivered_to(made)):
        assert octets.count(b"\n") == octets.count(b"\r") == 1
        assert octets.endswith(b"\r\n")


@pytest.mark.parametrize(
    "hello",
    [
        *("a) by evil (b", "a;b", "a b", 'a"b', "a\\b", "(x", "x)", '"q"', "<x>", "a;\tby"),
        *("[1.2.3.4]", "a,b:c", "x" * 255, "x" * 5000),
    ],
)
def test_client_cannot_forge_clauses(hello: str) -> None:
    made = session('"a>; (b"@example.com', host_name_appears_as=hello)
    text = line(made, message_id="x\r\nEvil: y").replace('for <"a>; (b"@example.com>', "")
    assert text.count("(") == text.count(")") == 1
    assert text.count(";") == 1
    assert text.count(" by mx.example with ESMTP") == 1
    assert "Evil:" not in text.split()


@pytest.mark.parametrize(
    ("content", "between"),
    [
        (b"", b""),
        (b"Subject: x\r\n\r\n", b""),
        (b"Subject : x\r\n", b""),
        (b"\r\nbody", b""),
        (b"\nbody", b""),
        (b"no field\r\n", b"\r\n"),
        (b" continues\r\n", b"\r\n"),
        (b"\x00: x\r\n", b"\r\n"),
        (b"x" * BEGINNING + b": y\r\n", b"\r\n"),
    ],
)
def test_content_without_a_header_is_separated_from_the_trace_fields(
    content: bytes, between: bytes
) -> None:
    assert separator(content) == between


# Read back

HELLO = st.from_regex(r"[a-z0-9.:\[\]-]{1,30}", fullmatch=True)
ADDRESS = st.from_regex(
    r'("([^"\\\x00-\x1f\x7f]|\\[ -~]){0,20}"|[a-z0-9.=+]{1,20})@[a-z0-9.-]{1,20}', fullmatch=True
).filter(lambda one: one.isascii())


@given(
    hello=HELLO,
    name=st.none() | st.from_regex(r"[a-z0-9.-]{1,30}", fullmatch=True),
    ip=st.sampled_from(["192.0.2.1", "2001:db8::1", ""]),
    sender=st.just("") | ADDRESS,
    recipients=st.lists(ADDRESS, max_size=3),
    priority=st.none() | st.integers(-9, 9),
    tls=st.sampled_from([None, TLS]),
    message_id=st.none() | st.from_regex(r"[a-zA-Z0-9.-]{1,30}", fullmatch=True),
    newline=st.sampled_from([b"\r\n", b"\n"]),
)
@example("h", None, "", "", ['"> PRIORITY 1; x"@e.org'], 3, None, None, b"\n")
@example("h", None, "", "", ['"a  b> id x; by <y"@e.org'], None, TLS, "7", b"\r\n")
def test_what_is_written_is_read_back(
    hello: str,
    name: str | None,
    ip: str,
    sender: str,
    recipients: list[str],
    priority: int | None,
    tls: TLSInfo | None,
    message_id: str | None,
    newline: bytes,
) -> None:
    made = session(*recipients, host_name_appears_as=hello, tls=tls, secure=tls is not None)
    made.remote_address = ip
    made.client_hostname = name or ""
    made.envelope.mail_from = Address(sender)
    made.envelope.priority = priority
    made.envelope.received_at = datetime(2026, 11, 29, 12, 0, 5, tzinfo=UTC)
    written = trace_of(made, message_id).replace(b"\r\n", newline)
    assert parse_trace(written + b"Received: from x by y with SMTP; z\nSubject: w\n\n") == Trace(
        sender,
        tuple(recipients),
        Received(
            helo=hello,
            hostname=name if ip else None,
            address=ip or None,
            by="mx.example",
            protocol="ESMTP" if tls is None else "ESMTPS",
            tls=None if tls is None else "TLSv1.3",
            cipher=None if tls is None else "TLS_AES_256_GCM_SHA384",
            id=message_id,
            recipient=recipients[0] if len(recipients) == 1 else None,
            priority=priority,
            date="Sun, 29 Nov 2026 12:00:05 -0000",
        ),
        len(written),
    )


def test_what_smtputf8_has_written_is_read_back() -> None:
    made = session("jörg@bücher.example")
    made.envelope.mail_from = Address("ü@straße.example")
    made.envelope.smtputf8 = True
    found = parse_trace(trace_of(made))
    assert (found.mail_from, found.rcpt_to) == ("ü@straße.example", ("jörg@bücher.example",))
    assert found.received is not None
    assert found.received.protocol == "UTF8SMTP"
    assert found.received.recipient == "jörg@bücher.example"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", Trace(None, (), None, 0)),
        (b"Subject: x\nReturn-Path: <liar@example.org>\n\n", Trace(None, (), None, 0)),
        (b"\nReturn-Path: <a@example.org>\n", Trace(None, (), None, 0)),
        (b"Return-Path:<>", Trace("", (), None, 14)),
        (b"RETURN-PATH : <a@b>\r\nSubject: x\r\n", Trace("a@b", (), None, 21)),
        (b"Delivered-To: a@b\nReturn-Path: <c@d>\n", Trace(None, ("a@b",), None, 18)),
        (b"Delivered-To:\n a@b\nX: y\n", Trace(None, ("a@b",), None, 19)),
        (b"Delivered-To: \xff@b\n", Trace(None, ("\xff@b",), None, 18)),
        # Of another program
        (b"Received: from a by b (Postfix) with SMTP; c\nX: y\n", Trace(None, (), None, 45)),
        (b"Received: by a; b\nReceived: c\n", Trace(None, (), None, 18)),
        (b"Received-SPF: pass\n", Trace(None, (), None, 0)),
    ],
)
def test_only_the_fields_at_the_top_are_trace_fields(content: bytes, expected: Trace) -> None:
    assert parse_trace(content) == expected


@given(st.sampled_from([b"", b"Return-Path:", b"Delivered-To: ", b"Received: from "]), st.binary())
def test_reading_raises_nothing(beginning: bytes, rest: bytes) -> None:
    assert 0 <= parse_trace(beginning + rest).end <= len(beginning + rest)


def test_more_recipients_than_are_read_are_skipped() -> None:
    many = MAX_RECIPIENTS + 10
    found = parse_trace(
        b"Delivered-To: a@b\n" * many + b"Received: from a by b with SMTP; c\nSubject: x\n"
    )
    assert found.rcpt_to == ("a@b",) * MAX_RECIPIENTS
    assert found.received is not None


def test_an_address_is_cut() -> None:
    assert parse_trace(b"Delivered-To: " + b"a" * 2000).rcpt_to == ("a" * MAX_ADDRESS,)


HOSTILE = {
    "recipients": lambda n: b"Delivered-To: a\n" * n,
    "long recipients": lambda n: (b"Delivered-To: " + b"a" * 400 + b"\n") * (n // 25),
    "no UTF-8": lambda n: (b"Delivered-To: " + b"\xe2\x82" * 200 + b"\n") * (n // 25),
    "folded recipients": lambda n: (b"Delivered-To:" + b"\n " * 7 + b"\n") * n,
    "one line": lambda n: b"Delivered-To: " + b"a" * (16 * n),
    "one folded line": lambda n: b"Return-Path: " + b"\n " * (8 * n),
    "blanks": lambda n: b"Return-Path" + b" " * (16 * n),
    "words": lambda n: b"Received: " + b"from " * min(n, 1600),
    "tabs": lambda n: b"Received: from a" + b"\t" * 4000 + b"by b with c" + b"\t" * 4000,
    "brackets": lambda n: b"Received: from a by b with c\tfor <" + b"> " * 4000,
    "priorities": lambda n: b"Received: from a by b with c for <" + b"> PRIORITY 1" * 600,
    "semicolons": lambda n: b"Received: from a by b with c for <" + b">;" * 3900 + b";" * 100,
    "long received": lambda n: b"Received: from " + b"a" * (16 * n),
}


def seconds(work: Callable[[], object]) -> float:
    """The least CPU time of three runs."""
    found = []
    for _ in range(3):
        start = time.thread_time()
        work()
        found.append(time.thread_time() - start)
    return min(found)


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_does_not_keep_the_reader(make: Callable[[int], bytes]) -> None:
    # Known work, of some milliseconds, is the measure.
    content, longer = make(300_000), make(600_000)
    known = b"Delivered-To: " + b"a" * 200 + b"\n"
    unit = seconds(lambda: [known.strip().decode() for _ in range(20_000)])
    assert seconds(lambda: parse_trace(content)) < 20 * unit
    assert seconds(lambda: parse_trace(longer)) < 20 * unit
