"""Paths, parameters and xtext: an address that is safe to store and to log, or a refusal.

The first octet of an input says what is allowed (1: SMTPUTF8, 2: lenient, 4: the parameters
alone); what follows is the argument of MAIL or RCPT.
"""

# ruff: noqa: PT017 - nothing here is a pytest test
from __future__ import annotations

import re

import model

from smtp_blinker.smtp.names import unicode_domain
from smtp_blinker.smtp.paths import (
    MAX_PATH,
    _parse_unusual_path,
    decode_xtext,
    parse_parameters,
    parse_path,
)
from smtp_blinker.smtp.reply import Reject

_CODES = frozenset({501, 550, 553})


def one_input(data: bytes) -> None:
    if not data:
        return
    flags = data[0]
    try:
        text = data[1:].decode("utf-8")
    except UnicodeDecodeError:
        return  # refused before anybody looks for a path
    if text.isascii() and not text.isprintable():
        return  # as are control characters
    if flags & 4:
        _parameters(text)
        _xtext(text)
        assert unicode_domain(unicode_domain(text)) == unicode_domain(text)
        return
    sender = text[:5].upper() == "FROM:"
    start = 5 if sender else 3
    if not sender and text[:3].upper() != "TO:":
        return
    _path(text, start, sender, bool(flags & 1), bool(flags & 2))


def _path(text: str, start: int, sender: bool, smtputf8: bool, lenient: bool) -> None:
    found = model.PATH.match(text, start)
    try:
        address, rest = parse_path(text, sender, smtputf8, lenient)
    except Reject as refusal:
        assert refusal.code in _CODES, refusal
        assert refusal.enhanced is not None
        # What RFC 5321 says must be taken, as far as the model knows it.
        assert found is None or len(found.group()) > MAX_PATH, f"refused {refusal}"
        return
    assert text.endswith(rest)
    assert len(address) <= MAX_PATH or lenient
    # A joiner is part of some scripts' words; nothing else invisible comes through.
    visible = address.replace("\u200c", "").replace("\u200d", "")
    assert visible.isprintable(), f"{address!r} holds a character that can't be printed"
    assert sender or address, "an empty forward-path"
    assert smtputf8 or "xn--" in text.lower() or address.isascii()
    try:
        slow = _parse_unusual_path(text[start:], sender, smtputf8, lenient)
    except Reject as refusal:
        raise AssertionError(f"only the fast way takes it: {refusal}") from None
    assert slow == (address, rest), "the fast way and the slow one differ"
    if found is not None:
        if "xn--" not in found[1].lower():
            assert address == found[1]
        assert rest == text[found.end() :]
    if not lenient and 0 < len(address.encode()) < 100:
        # What was made of it is an address too, and stays what it is.
        again = f"{text[:start]}<{address}>"
        assert parse_path(again, sender, True, False) == (address, "")
    _parameters(rest)


def _parameters(text: str) -> None:
    try:
        args = parse_parameters(text)
    except Reject as refusal:
        assert refusal.code == 501, refusal
        return
    for name, value in args.items():
        assert re.fullmatch(r"[A-Z0-9][A-Z0-9-]*", name), name
        if value is True:
            continue
        assert isinstance(value, str)
        # Of the others the commands take only what they know.
        if name in ("AUTH", "ENVID", "ORCPT") or value.isascii():
            assert value.isprintable(), f"{name}={value!r} holds a character that can't be printed"


def _xtext(text: str) -> None:
    try:
        value = decode_xtext(text)
    except Reject as refusal:
        assert refusal.code == 501, refusal
        return
    assert value.isprintable()
    if text.isascii():
        # RFC 3461 section 4, read the plain way.
        plain = ""
        at = 0
        while at < len(text):
            if text[at] == "+":
                plain += chr(int(text[at + 1 : at + 3], 16))
                at += 3
            else:
                plain += text[at]
                at += 1
        assert value == plain
