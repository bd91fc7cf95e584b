"""Lines out of octets, without a socket."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cut_at, octets, two_pieces

from smtp_blinker.smtp.lines import NEED_DATA, LineReader, Problem
from smtp_blinker.smtp.reply import MAX_AUTH_LINE

TOO_LONG = Problem.TOO_LONG
BARE = Problem.BARE_NEWLINE

Given = list["bytes | Problem"]


def lines_of(pieces: Sequence[bytes], *, limit: int = 512, policy: str = "reject") -> Given:
    """Everything a reader gives out for *pieces*."""
    reader = LineReader(limit, policy)
    given_out: Given = []
    for piece in pieces:
        reader.receive_data(piece)
        line = reader.next_line()
        while line is not NEED_DATA:
            given_out.append(line)
            if line is Problem.BINARY:
                return given_out  # the connection ends
            line = reader.next_line()
    return given_out


def check_all_pieces(data: bytes, expected: Given, **options: Any) -> None:
    for pieces in [[data], octets(data), *two_pieces(data)]:
        assert lines_of(pieces, **options) == expected, pieces


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"NOOP\r\n", [b"NOOP"]),
        (b"\r\n", [b""]),
        (b"NOOP\r\nRSET\r\nQUIT\r\n", [b"NOOP", b"RSET", b"QUIT"]),
        (b"NOOP\r\nRSE", [b"NOOP"]),
        (b"NOOP\r", []),
        (b"", []),
        (b"NOOP\nRSET\r\n", [BARE]),
        (b"NOOP\rRSET\r\n", [BARE]),
        (b"NOOP\r\r\n", [BARE]),
        (b"\nNOOP\r\n", [BARE]),
        (b"\rNOOP\r\nRSET\r\n", [BARE, b"RSET"]),
        (b"NO\0OP\r\n", [b"NO\0OP"]),
        (b"NOOP \xff\xfe\r\n", [b"NOOP \xff\xfe"]),
        (b"NOOP\x85\x0b\x0c\xe2\x80\xa8\r\n", [b"NOOP\x85\x0b\x0c\xe2\x80\xa8"]),
        (b"NOOP\n", []),
    ],
)
def test_only_crlf_ends_a_line_at_any_cut(data: bytes, expected: Any) -> None:
    check_all_pieces(data, expected)


@pytest.mark.parametrize("policy", ["normalize", "allow"])
@pytest.mark.parametrize(
    ("data", "allowed", "normalized"),
    [
        (b"NOOP\nRSET\r\n", [b"NOOP", b"RSET"], [b"NOOP", b"RSET"]),
        (b"\n\r\n", [b"", b""], [b"", b""]),
        (b"NOOP\rRSET\n", [BARE], [b"NOOP", b"RSET"]),
        (b"NOOP\r\r\nQUIT\n", [BARE, b"QUIT"], [b"NOOP", b"QUIT"]),
        (b"NOOP\r\r\r\r\nQUIT\r\r\n", [BARE, BARE], [b"NOOP", b"QUIT"]),
        (b"NOOP\r\rQUIT\n", [BARE], [b"NOOP", b"", b"QUIT"]),
        (b"\rNOOP\n", [BARE], [b"", b"NOOP"]),
        (b"NOOP\r", [], []),
        (b"NOOP\r\r\r", [], []),
        (b"NOOP\rQ", [], [b"NOOP"]),
    ],
)
def test_lf_ends_a_line_too_with_a_lenient_policy(
    policy: str, data: bytes, allowed: Any, normalized: Any
) -> None:
    check_all_pieces(data, normalized if policy == "normalize" else allowed, policy=policy)


@pytest.mark.parametrize("policy", ["reject", "allow"])
def test_limit_counts_the_crlf(policy: str) -> None:
    at, past = b"A" * 18 + b"\r\n", b"A" * 19 + b"\r\n"
    check_all_pieces(at, [at[:-2]], limit=20, policy=policy)
    check_all_pieces(past, [TOO_LONG], limit=20, policy=policy)
    check_all_pieces(past + b"NOOP\r\n" + at, [TOO_LONG, b"NOOP", at[:-2]], limit=20, policy=policy)


@pytest.mark.parametrize("extra", range(4))
def test_too_long_line_is_dropped_up_to_its_end(extra: Any) -> None:
    data = b"A" * (19 + extra) + b"\r\nNOOP\r\n"
    check_all_pieces(data, [TOO_LONG, b"NOOP"], limit=20)


def test_too_long_line_with_bare_newlines_is_one_line() -> None:
    data = b"A" * 30 + b"\nNOOP\rNOOP\n" + b"B" * 30 + b"\r\nNOOP\r\n"
    check_all_pieces(data, [TOO_LONG, b"NOOP"], limit=20)


def test_too_long_line_is_never_kept() -> None:
    reader = LineReader(512, "reject")
    for _ in range(2000):
        reader.receive_data(b"A" * 8192)
        assert reader.next_line() is NEED_DATA
        assert len(reader.buffer) <= 512
    reader.receive_data(b"\r\nNOOP\r\n")
    assert reader.next_line() is TOO_LONG
    assert reader.next_line() == b"NOOP"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"Subject: " + b"x" * 40, Problem.CONTENT),
        (b"X" * 19 + b":" + b"x" * 40, Problem.CONTENT),
        # Cut in two, there would be no colon where it is decided.
        (b"X" * 20 + b":" + b"x" * 40, TOO_LONG),
    ],
)
def test_a_long_header_field_is_one_however_it_is_cut(line: bytes, problem: Problem) -> None:
    check_all_pieces(line + b"\r\nNOOP\r\n", [problem, b"NOOP"], limit=20)


@pytest.mark.parametrize("start", [b"AUTH PLAIN ", b"auth x ", b"AuTh LOGIN "])
def test_line_of_auth_may_have_12288_octets(start: bytes) -> None:
    # RFC 4954 section 4
    at = start + b"A" * (MAX_AUTH_LINE - len(start) - 2) + b"\r\n"
    past = start + b"A" * (MAX_AUTH_LINE - len(start) - 1) + b"\r\n"
    assert len(at) == 12288
    for size in (1, 100, 8192, 20_000):
        pieces = [at[place : place + size] for place in range(0, len(at), size)]
        assert lines_of(pieces) == [at[:-2]]
        pieces = [past[place : place + size] for place in range(0, len(past), size)]
        given_out = lines_of([*pieces, b"NOOP\r\n"])
        assert isinstance(given_out[0], Problem)
        assert given_out[1:] == [b"NOOP"]


@pytest.mark.parametrize("start", [b"AUTHX", b"NOOP ", b" AUTH ", b"AUTH\t"])
def test_other_lines_may_not(start: bytes) -> None:
    data = start + b"A" * 1000 + b"\r\nNOOP\r\n"
    for size in (1, 7, 511, 512, 513, 5000):
        pieces = [data[place : place + size] for place in range(0, len(data), size)]
        assert lines_of(pieces) == [TOO_LONG, b"NOOP"]


def test_answer_inside_auth_may_have_12288_octets() -> None:
    for length, good in ((12288, True), (12289, False)):
        reader = LineReader(512, "reject")
        reader.in_auth = True
        reader.receive_data(b"A" * (length - 2) + b"\r\n")
        line = reader.next_line()
        assert (line == b"A" * (length - 2)) is good
        assert isinstance(line, Problem) is not good


def test_silence_behind_a_bare_lf_ends_the_line() -> None:
    reader = LineReader(512, "reject")
    reader.receive_data(b"NOOP\n")
    assert reader.next_line() is NEED_DATA
    assert reader.ends_with_bare_newline
    assert reader.drop_bare_line() is BARE
    assert not reader.ends_with_bare_newline
    assert not reader.has_data
    reader.receive_data(b"NOOP\r\n")
    assert reader.next_line() == b"NOOP"


def test_silence_behind_a_bare_lf_ends_a_too_long_line() -> None:
    reader = LineReader(20, "reject")
    reader.receive_data(b"A" * 40)
    assert reader.next_line() is NEED_DATA
    reader.receive_data(b"\n")
    assert reader.next_line() is NEED_DATA
    assert reader.ends_with_bare_newline
    assert reader.drop_bare_line() is TOO_LONG
    reader.receive_data(b"NOOP\r\n")
    assert reader.next_line() == b"NOOP"


def test_whole_lines_before_a_bare_lf_are_given_out_first() -> None:
    reader = LineReader(512, "reject")
    reader.receive_data(b"NOOP\r\nRSET\n")
    assert reader.next_line() == b"NOOP"
    assert reader.next_line() is NEED_DATA
    assert reader.ends_with_bare_newline


@pytest.mark.parametrize("policy", ["reject", "normalize", "allow"])
@pytest.mark.parametrize("data", [b"", b"NOOP", b"NOOP\r", b"N"])
def test_line_that_only_begins_does_not_end_with_a_bare_newline(policy: str, data: bytes) -> None:
    reader = LineReader(512, policy)
    reader.receive_data(data)
    assert reader.next_line() is NEED_DATA
    assert not reader.ends_with_bare_newline


def test_what_is_taken_is_gone() -> None:
    # RFC 3207 section 4: what came in clear is dropped.
    reader = LineReader(512, "reject")
    reader.receive_data(b"STARTTLS\r\nNOOP\r\nRS")
    assert reader.next_line() == b"STARTTLS"
    assert reader.take_all() == b"NOOP\r\nRS"
    assert not reader.has_data
    assert reader.next_line() is NEED_DATA
    reader.receive_data(b"EHLO x\r\n")
    assert reader.next_line() == b"EHLO x"


def test_taking_forgets_a_line_that_was_being_dropped() -> None:
    reader = LineReader(20, "reject")
    reader.receive_data(b"A" * 40)
    assert reader.next_line() is NEED_DATA
    reader.take_all()
    reader.receive_data(b"NOOP\r\nRSET\r\n")
    assert [reader.next_line(), reader.next_line()] == [b"NOOP", b"RSET"]


def plain(data: bytes, limit: int, policy: str) -> Given:
    """A model: the lines of *data*, worked out on the whole of it."""
    found: Given = []
    if policy == "normalize":
        for match in re.finditer(rb"(?s)([^\r\n]*)(?:(\r++)(?=[^\r\n])|\r*\n)", data):
            if len(match[0]) > limit:
                found.append(TOO_LONG)
            else:
                found += [match[1]] + [b""] * (len(match[2] or b"\r") - 1)
        return found
    separator = rb"\r\n" if policy == "reject" else rb"\r?\n"
    for match in re.finditer(rb"(?s)(.*?)" + separator, data):
        line = match[1]
        if len(match[0]) > limit:
            found.append(TOO_LONG)
        elif b"\r" in line or b"\n" in line:
            found.append(BARE)
        else:
            found.append(line)
    return found


@given(
    st.lists(st.sampled_from([b"a", b"bc", b"\r", b"\n", b"\r\n", b" "]), max_size=30).map(
        b"".join
    ),
    st.lists(st.integers(0, 60), max_size=6),
    st.sampled_from(["reject", "normalize", "allow"]),
)
def test_any_octets_in_any_pieces_are_the_same_lines(
    data: Any, cuts: list[int], policy: Any
) -> None:
    expected = plain(data, 8, policy)
    assert lines_of(cut_at(data, cuts), limit=8, policy=policy) == expected


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_no_octets_raise_anything(data: bytes, cuts: list[int]) -> None:
    lines_of(cut_at(data, cuts) if data else [], limit=30)
