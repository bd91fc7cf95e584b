"""The attributes of XCLIENT and XFORWARD."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker import Reject
from smtp_blinker.smtp.xclient import (
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    is_host_name,
    parse_attributes,
    plain_address,
)


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ("ADDR=192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("addr=192.0.2.1  Port=25 ", {"ADDR": "192.0.2.1", "PORT": "25"}),
        ("ADDR=IPv6:2001:DB8::0:1", {"ADDR": "2001:db8::1"}),
        ("ADDR=IPV6:::ffff:192.0.2.1", {"ADDR": "192.0.2.1"}),
        ("ADDR=2001:db8::1", {"ADDR": "2001:db8::1"}),
        ("NAME=[UNAVAILABLE]", {"NAME": None}),
        ("NAME=[tempunavail] ADDR=[UNAVAILABLE]", {"NAME": None, "ADDR": None}),
        ("NAME=", {"NAME": None}),
        ("NAME=Spike.Example.", {"NAME": "spike.example"}),
        ("HELO=a+20b", {"HELO": "a b"}),
        ("HELO=a+2Bb", {"HELO": "a+b"}),
        ("LOGIN=alice+40example.org", {"LOGIN": "alice@example.org"}),
        ("PORT=0", {"PORT": "0"}),
        ("PORT=65535 DESTPORT=025", {"PORT": "65535", "DESTPORT": "25"}),
        ("DESTADDR=192.0.2.2", {"DESTADDR": "192.0.2.2"}),
        ("ADDR=192.0.2.1 ADDR=192.0.2.2", {"ADDR": "192.0.2.1"}),
    ],
)
def test_attributes_are_read(text: str, attributes: dict[str, Any]) -> None:
    assert parse_attributes(text, XCLIENT_ATTRIBUTES) == attributes


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "ADDR", "FOO=1", "=1", "ADDR=nonsense", "ADDR=999.1.1.1", "ADDR=192.0.2.1/24",
        "ADDR=IPv6:nonsense", "ADDR=01.2.3.4", "PORT=x", "PORT=-1", "PORT=65536", "PORT=+25",
        f"PORT={'9' * 5000}", f"DESTPORT={'0' * 5000}",
        "PORT=1e3", "PORT=٣", "DESTPORT=99999", "DESTADDR=x", "NAME=a+0D+0Ab", "NAME=a+20b",
        "NAME=a..b", "NAME=<a>", f"NAME={'a' * 64}.example", f"NAME={'a.' * 200}b", "HELO=a+00b",
        "HELO=a+zz", "LOGIN=a+0Ab", "IDENT=x", "ADDR=192.0.2.1 FOO=1", "ADDR=192.0.2.1\tPORT=1",
    ],
)  # fmt: skip
def test_any_bad_attribute_refuses_all(text: str) -> None:
    with pytest.raises(Reject) as caught:
        parse_attributes(text, XCLIENT_ATTRIBUTES)
    assert (caught.value.code, caught.value.enhanced) == (501, "5.5.4")


def test_xforward_has_attributes_of_its_own() -> None:
    text = "NAME=a.example ADDR=192.0.2.1 PORT=1 PROTO=ESMTP HELO=b IDENT=x SOURCE=LOCAL"
    assert set(parse_attributes(text, XFORWARD_ATTRIBUTES)) == set(XFORWARD_ATTRIBUTES)
    with pytest.raises(Reject):
        parse_attributes("LOGIN=alice", XFORWARD_ATTRIBUTES)


WORDS = st.sampled_from(
    ["ADDR", "PORT", "NAME", "HELO", "LOGIN", "=", " ", "+0A", "+2B", "1.2.3.4", "IPV6:", "::", "é"]
)


@given(st.one_of(st.text(), st.lists(WORDS, max_size=12).map("".join)))
def test_only_reject_escapes_and_values_print(text: Any) -> None:
    try:
        attributes = parse_attributes(text, XCLIENT_ATTRIBUTES)
    except Reject:
        return
    assert attributes
    for name, value in attributes.items():
        assert name in XCLIENT_ATTRIBUTES
        assert value is None or (value and value.isprintable())


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_address_is_in_its_short_form(text: str, plain: str) -> None:
    assert plain_address(text) == plain


def test_what_is_no_address_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        plain_address("nonsense")


@pytest.mark.parametrize(
    "name", ["a", "mail.example", "a_b.example", "xn--bcher-kva.example", "a."]
)
def test_host_names(name: str) -> None:
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a b", "a..b", "a\n", "a\nb", "é.example", "a/b", "a" * 64, "a." * 130, "<a>"]
)
def test_what_a_dns_answer_may_hold_and_no_log_should(name: str) -> None:
    assert not is_host_name(name)
