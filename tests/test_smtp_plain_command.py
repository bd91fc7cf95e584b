"""A line that is one plain command, and what is remembered of such lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker.smtp.protocol import MAX_PLAIN, plain_command
from smtp_blinker.smtp.verbs import VERBS


@pytest.mark.parametrize(
    ("line", "verb", "argument"),
    [
        (b"DATA\r\n", "DATA", ""),
        (b"data\r\n", "DATA", ""),
        (b"MAIL FROM:<a@example.org> SIZE=1\r\n", "MAIL", "FROM:<a@example.org> SIZE=1"),
        (b"rcpt TO:<a@example.org>\r\n", "RCPT", "TO:<a@example.org>"),
        (b"EHLO  two  blanks\r\n", "EHLO", " two  blanks"),
    ],
)
def test_plain_line_is_a_command_and_its_argument(line: bytes, verb: str, argument: str) -> None:
    command = plain_command(line)
    assert command.argument == argument
    assert command.verb is VERBS[verb.encode()]
    assert command.fault is None


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\r\n",
        b"DATA",
        b"DATA\r",
        b"DATA\n",
        b"DATA \r\n",
        b"DATA\t\r\n",
        b" DATA\r\n",
        b"DATA\r\nQUIT\r\n",
        b"QUIT now\r\n",
        b"DATA\r\n\r\n",
        b"NOOP a\rb\r\n",
        b"NOOP a\nb\r\n",
        b"NOOP a\0b\r\n",
        b"NOOP \x7f\r\n",
        b"MAIL FROM:<\xc3\xa9@example.org>\r\n",
        b"NOPE\r\n",
        b"GET / HTTP/1.1\r\n",
        b"MAIL\tFROM:<a@example.org>\r\n",
    ],
)
def test_anything_unusual_is_for_the_rules(line: bytes) -> None:
    with pytest.raises(LookupError):
        plain_command(line)


@pytest.mark.parametrize("length", [MAX_PLAIN, MAX_PLAIN + 1])
def test_long_lines_are_not_remembered(length: Any) -> None:
    line = b"NOOP " + b"x" * (length - 7) + b"\r\n"
    assert len(line) == length
    if length == MAX_PLAIN:
        assert plain_command(line).argument == "x" * (length - 7)
    else:
        with pytest.raises(LookupError):
            plain_command(line)


@pytest.mark.parametrize(
    "line",
    [
        b"AUTH PLAIN AGFubgBzZWNyZXQ=\r\n",
        b"auth login c2VjcmV0\r\n",
        b"AGFubgBzZWNyZXQ\r\n",  # of a client that is out of step
        b"secret\r\n",
        b"PASS secret\r\n",
    ],
)
def test_what_may_be_a_secret_is_not_remembered(line: bytes) -> None:
    before = plain_command.cache_info().currsize
    with pytest.raises(LookupError):
        plain_command(line)
    assert plain_command.cache_info().currsize == before


@given(st.binary(max_size=40), st.sampled_from([b"", b"\n", b"\r", b"\r\n", b" \r\n"]))
def test_no_line_is_taken_for_another(octets: bytes, ending: Any) -> None:
    for verb in (b"NOOP", b"MAIL FROM:", b"RcPt"):
        line = verb + octets + ending
        try:
            command = plain_command(line)
        except LookupError:
            continue
        argument = command.argument
        again = argument and " " + argument
        assert line[:4].upper() == command.verb.name.encode()
        assert line[4:] == again.encode("ascii") + b"\r\n"
        assert argument.isprintable()
        assert argument == argument.rstrip()
