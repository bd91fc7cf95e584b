"""Replies: nothing that a program gives can break one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import take_reply

from smtp_blinker import AuthenticationFailed, Reject
from smtp_blinker.smtp import reply
from smtp_blinker.smtp.reply import MAX_REPLY_LINE, Refusal, Reply, printable

STANDING = {name: value for name, value in vars(reply).items() if isinstance(value, Reply)}


def test_reply_of_one_line() -> None:
    answer = Reply(250, "OK", "2.0.0")
    assert answer.wire == b"250 2.0.0 OK\r\n"
    assert answer.plain == b"250 OK\r\n"
    assert answer.is_positive


def test_a_reply_as_text_is_what_the_client_read() -> None:
    # session.error is one.
    assert str(Reply(550, "no such user", "5.1.1")) == "550 5.1.1 no such user"
    assert str(Reply(250, ("one", "two"))) == "250-one\n250 two"


def test_reply_of_several_lines_has_the_codes_on_each() -> None:
    # RFC 2034 section 4
    assert Reply(550, ("one", "two"), "5.1.1").wire == b"550-5.1.1 one\r\n550 5.1.1 two\r\n"
    assert Reply(250, ("one", "two")).wire == b"250-one\r\n250 two\r\n"


@pytest.mark.parametrize("name", ["text", "tuple"])
@given(text=st.text(max_size=2000), code=st.integers(200, 599), enhanced=st.booleans())
def test_no_text_breaks_a_reply(name: str, text: str, code: int, enhanced: bool) -> None:
    status = f"{code // 100}.1.2" if enhanced and code // 100 in (2, 4, 5) else None
    if code in (334, 354):
        status = None
    answer = Reply(code, text if name == "text" else (text, text), status)
    for octets, expected in ((answer.wire, status), (answer.plain, None)):
        assert octets.endswith(b"\r\n")
        lines = octets[:-2].split(b"\r\n")
        for number, line in enumerate(lines):
            assert len(line) + 2 <= MAX_REPLY_LINE
            assert all(0x20 <= octet <= 0x7E for octet in line)
            last = number == len(lines) - 1
            start = f"{code}{' ' if last else '-'}{expected + ' ' if expected else ''}"
            assert line.startswith(start.encode())


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=3000))
def test_long_text_is_wrapped_and_nothing_of_it_lost(text: str) -> None:
    octets = Reply(250, text, "2.0.0").wire
    lines = [line[10:].decode() for line in octets.split(b"\r\n")[:-1]]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_lines_end_with_a_code_that_can_be_read() -> None:
    one, rest = take_reply(Reply(554, "x" * 5000, "5.7.1").wire + b"250 next\r\n")
    assert one is not None
    assert (one.status, rest) == ("554 5.7.1", b"250 next\r\n")
    assert len(one.lines) > 5


@pytest.mark.parametrize("code", [0, 99, 199, 600, 1000, -250, "250", None, 250.0])
def test_code_out_of_range_is_a_mistake_of_the_programs(code: float | int | str | None) -> None:
    with pytest.raises(ValueError, match="reply code"):
        Reply(code, "x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "enhanced", ["4.0.0", "5.0", "5.0.0.0", "5.x.0", "5.0.0\r\n", "", "5.1234.0"]
)
def test_enhanced_code_of_another_class_or_form_is_a_mistake(enhanced: str) -> None:
    for kind in (Reply, Reject):
        with pytest.raises(ValueError, match="enhanced"):
            kind(550, "x", enhanced)


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (550, "5.7.1"),
        (451, "4.3.0"),
        (421, "4.3.2"),
        (552, "5.3.4"),
        (452, "4.3.1"),
        (599, "5.0.0"),
        (471, "4.0.0"),
    ],
)
def test_reject_derives_the_enhanced_code(code: int, enhanced: str) -> None:
    refusal = Reject(code, "no")
    assert (refusal.code, refusal.enhanced, refusal.text) == (code, enhanced, "no")
    assert isinstance(refusal, Refusal)
    assert str(refusal) == f"{code} {enhanced} no"


@pytest.mark.parametrize("code", range(400, 600))
def test_every_refusal_has_an_enhanced_code_of_its_class(code: Any) -> None:
    enhanced = Reject(code, "x").enhanced
    assert enhanced is not None
    assert enhanced[0] == str(code)[0]


@pytest.mark.parametrize("code", [200, 250, 354, 399, 600, "550", None])
def test_reject_takes_refusals_only(code: int | str | None) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        Reject(code, "x")  # type: ignore[arg-type]


def test_text_of_a_reject_can_forge_no_second_reply() -> None:
    wire = Reject(550, "no\r\n250 2.0.0 yes\n\x1b[31m\x85\u2028", "5.1.1").reply.wire
    assert wire.count(b"\r\n") == 1
    assert wire.count(b"\n") == 1
    assert b"\x1b" not in wire


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a b"),
        ("tab\tb", "tab b"),
        ("é", "?"),
        ("\x00\x1b", " "),
        ("", ""),
        ("a b", "a b"),
    ],
)
def test_printable_replaces_what_a_line_cannot_carry(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_printable_is_ascii_and_prints(text: str) -> None:
    assert printable(text).isascii()
    assert printable(text).isprintable()


def test_authentication_failed_shows_its_data_in_base64() -> None:
    failure = AuthenticationFailed(data={"status": "401"})
    assert isinstance(failure, Reject)
    assert (failure.code, failure.enhanced) == (535, "5.7.8")
    assert json.loads(failure.challenge) == {"status": "401"}
    assert str(AuthenticationFailed()).startswith("535 5.7.8")
    assert AuthenticationFailed(code=454).enhanced == "4.7.0"


@pytest.mark.parametrize("name", STANDING)
def test_standing_replies_keep_the_rules(name: Any) -> None:
    answer = STANDING[name]
    one, rest = take_reply(answer.wire)
    assert one is not None
    assert rest == b""
    assert one.enhanced == answer.enhanced
    if answer.code in (334, 354):
        assert answer.enhanced is None
    else:
        assert answer.enhanced is not None
