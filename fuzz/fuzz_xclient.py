"""The attributes of XCLIENT and XFORWARD: values that are safe to believe, or a refusal.

The first octet of an input chooses the command; what follows is its argument.
"""

# ruff: noqa: PT017 - nothing here is a pytest test
from __future__ import annotations

from ipaddress import ip_address

from smtp_blinker.options import Trust
from smtp_blinker.smtp.reply import Reject
from smtp_blinker.smtp.xclient import (
    XCLIENT_ATTRIBUTES,
    XFORWARD_ATTRIBUTES,
    is_host_name,
    parse_attributes,
    plain_address,
)

_TRUST = Trust("use_xclient", ["192.0.2.0/24", "2001:db8::/32"])


def one_input(data: bytes) -> None:
    if not data:
        return
    known = XFORWARD_ATTRIBUTES if data[0] % 2 else XCLIENT_ATTRIBUTES
    try:
        text = data[1:].decode("ascii")
    except UnicodeDecodeError:
        return  # refused before anybody looks for attributes
    if not text.isprintable():
        return  # as are control characters
    if is_host_name(text):
        assert 0 < len(text) <= 254
        assert not set(text) & set(' \t\r\n()<>@;:\\"[]')
    try:
        attributes = parse_attributes(text, known)
    except Reject as refusal:
        assert (refusal.code, refusal.enhanced) == (501, "5.5.4"), refusal
        return
    assert attributes
    for name, value in attributes.items():
        assert name in known
        if value is None:
            continue
        assert value
        assert value.isprintable()
        assert value.isascii()
        if name in ("ADDR", "DESTADDR"):
            assert str(ip_address(value)) == value == plain_address(value)
            _ = value in _TRUST
        elif name in ("PORT", "DESTPORT"):
            assert 0 <= int(value) < 65536
            assert str(int(value)) == value
        elif name == "NAME":
            assert is_host_name(value)
            assert value == value.lower()
