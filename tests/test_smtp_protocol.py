"""Events out of octets and the order of commands, without a socket."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cut_at, octets

from smtp_blinker.smtp import reply
from smtp_blinker.smtp.lines import NEED_DATA
from smtp_blinker.smtp.protocol import Command, Fault, Protocol, Response
from smtp_blinker.smtp.reply import Reply
from smtp_blinker.smtp.verbs import VERBS, State, out_of_sequence

OK = reply.OK
NO = Reply(550, "no", "5.7.1")

#: What leads a session to a state.
LINES = {
    State.START: [],
    State.READY: [b"EHLO x"],
    State.MAIL: [b"EHLO x", b"MAIL FROM:<>"],
    State.RCPT: [b"EHLO x", b"MAIL FROM:<>", b"RCPT TO:<b@example.com>"],
}


def at(state: State) -> Protocol:
    protocol = Protocol(512, "reject")
    for line in LINES[state]:
        protocol.receive_data(line + b"\r\n")
        protocol.next_event()
        protocol.answered(OK)
    assert protocol.state is state
    return protocol


def command(protocol: Protocol) -> tuple[str, str, Reply | None]:
    """The next event, which is a command."""
    event = protocol.next_event()
    assert isinstance(event, Command)
    return event.verb.name, event.argument, event.fault


@pytest.mark.parametrize(
    ("verb", "state", "status"),
    [
        ("MAIL", State.START, "HELO"),
        ("RCPT", State.START, "HELO"),
        ("DATA", State.START, "HELO"),
        ("AUTH", State.START, "HELO"),
        ("MAIL", State.MAIL, "Nested"),
        ("MAIL", State.RCPT, "Nested"),
        ("RCPT", State.READY, "MAIL"),
        ("DATA", State.READY, "MAIL"),
        ("DATA", State.MAIL, "RCPT"),
        ("STARTTLS", State.MAIL, "sequence"),
        ("AUTH", State.RCPT, "sequence"),
        ("XCLIENT", State.MAIL, "sequence"),
        ("XFORWARD", State.RCPT, "sequence"),
    ],
)
def test_commands_out_of_sequence_are_told_what_is_missing(
    verb: str, state: Any, status: str
) -> None:
    assert state not in VERBS[verb.encode()].transitions
    answer = out_of_sequence(verb, state)
    assert (answer.code, answer.enhanced) == (503, "5.5.1")
    assert status in answer.text


@pytest.mark.parametrize("verb", ["NOOP", "RSET", "HELP", "VRFY", "QUIT", "EHLO", "HELO", "EXPN"])
def test_commands_that_are_good_at_any_time(verb: str) -> None:
    # RFC 5321 section 4.1.4
    assert set(VERBS[verb.encode()].transitions) >= {
        State.START,
        State.READY,
        State.MAIL,
        State.RCPT,
    }


def test_transaction_moves_on_step_by_step() -> None:
    protocol = Protocol(512, "reject")
    for line, answer, after in [
        (b"EHLO x", OK, State.READY),
        (b"MAIL FROM:<>", NO, State.READY),
        (b"MAIL FROM:<>", OK, State.MAIL),
        (b"RCPT TO:<b@example.com>", NO, State.MAIL),
        (b"RCPT TO:<b@example.com>", OK, State.RCPT),
        (b"RCPT TO:<c@example.com>", OK, State.RCPT),
        (b"NOOP", OK, State.RCPT),
        (b"FOO", NO, State.RCPT),
        (b"DATA", reply.START_CONTENT, State.CONTENT),
    ]:
        protocol.receive_data(line + b"\r\n")
        protocol.next_event()
        protocol.answered(answer)
        assert protocol.state is after, line
    protocol.receive_data(b"one\r\n.\r\nNOOP\r\nRS")
    decoder, arrived = protocol.start_content()
    assert decoder.feed(arrived) == b"one\r\n"
    protocol.end_message(decoder.rest)
    assert protocol.state is State.READY
    assert command(protocol) == ("NOOP", "", None)
    assert protocol.next_event() is NEED_DATA
    protocol.receive_data(b"ET\r\n")
    assert command(protocol) == ("RSET", "", None)


def test_rset_ehlo_and_xclient_lead_back() -> None:
    for line, before, after in [
        (b"RSET", State.RCPT, State.READY),
        (b"RSET", State.START, State.START),
        (b"EHLO x", State.RCPT, State.READY),
        (b"XCLIENT NAME=x", State.READY, State.START),
    ]:
        protocol = at(before)
        protocol.receive_data(line + b"\r\n")
        protocol.next_event()
        protocol.answered(OK)
        assert protocol.state is after, line


@pytest.mark.parametrize(("answer", "after"), [(reply.AUTHENTICATED, "READY"), (NO, "READY")])
def test_an_auth_exchange_goes_on_until_it_is_answered_otherwise(answer: Any, after: str) -> None:
    protocol = at(State.READY)
    protocol.receive_data(b"AUTH LOGIN\r\nbWU=\r\nNOOP\r\n")
    assert command(protocol) == ("AUTH", "LOGIN", None)
    protocol.answered(Reply(334, "VXNlcm5hbWU6"))
    assert protocol.state is State.AUTH
    event = protocol.next_event()
    assert isinstance(event, Response)
    assert event.line == b"bWU="
    protocol.answered(answer)
    assert protocol.state.name == after
    assert command(protocol) == ("NOOP", "", None)


def test_tls_begins_the_session_anew_and_drops_plain_text() -> None:
    protocol = at(State.READY)
    protocol.receive_data(b"STARTTLS\r\nMAIL FROM:<>\r\n")
    protocol.next_event()
    protocol.answered(reply.START_TLS)
    assert protocol.state is State.UPGRADE
    protocol.start_tls()
    assert protocol.state is State.START  # type: ignore[comparison-overlap]
    assert protocol.next_event() is NEED_DATA


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"noop", ("NOOP", "", None)),
        (b"NOOP  a b \t ", ("NOOP", " a b", None)),
        (b"MAIL FROM:<\xc3\xa9@x.example>", ("MAIL", "FROM:<\xe9@x.example>", None)),
        (b"NOOP \xc3\xa9", ("NOOP", "\\xc3\\xa9", reply.NOT_ASCII)),
        (b"MAIL \xff", ("MAIL", "\\xff", reply.NOT_ASCII)),
        (b"DATA now", ("DATA", "now", reply.NO_ARGUMENT)),
        (b"NOOP a\x7fb", ("NOOP", "a\x7fb", reply.CONTROL_CHARACTER)),
        (b"AUTH PLAIN =", ("AUTH", "PLAIN =", None)),
    ],
)
def test_an_argument_is_text_and_its_fault_comes_with_it(line: bytes, expected: Any) -> None:
    for pieces in [[line + b"\r\n"], octets(line + b"\r\n")]:
        protocol = at(State.READY)
        for piece in pieces:
            assert protocol.next_event() is NEED_DATA
            protocol.receive_data(piece)
        assert command(protocol) == expected


@pytest.mark.parametrize(
    ("line", "answer", "ends", "unrecognized"),
    [
        (b"FOO", reply.NOT_RECOGNIZED, "", True),
        (b"", reply.NOT_RECOGNIZED, "", True),
        (b"GET / HTTP/1.1", reply.HTTP_NOT_ALLOWED, "", False),
        (b"FOO\0", reply.BINARY, "abuse", False),
        (b"Subject: x", reply.CONTENT_NOT_EXPECTED, "", False),
        (b"NO\rOP", reply.BARE_NEWLINE, "", False),
        (b"x" * 600, reply.LINE_TOO_LONG, "", False),
        (b"BDAT -5", reply.BAD_CHUNK_SIZE, "refused", False),
        (b"BDAT 5\r LAST", reply.NOT_RECOGNIZED, "refused", False),
    ],
)
def test_a_line_that_is_no_command_says_what_it_is_refused_with(
    line: bytes, answer: Any, ends: str, unrecognized: bool
) -> None:
    protocol = at(State.READY)
    protocol.receive_data(line + b"\r\nNOOP\r\n")
    event = protocol.next_event()
    assert isinstance(event, Fault)
    assert (event.reply, event.ends, event.unrecognized) == (answer, ends, unrecognized)
    assert line.decode("latin-1") not in event.seen or not line
    protocol.answered(event.reply)
    assert protocol.state is State.READY
    assert command(protocol) == ("NOOP", "", None)


def test_a_line_that_is_given_up_ends_the_connection() -> None:
    protocol = at(State.READY)
    protocol.receive_data(b"VRFY x\n")
    assert protocol.next_event() is NEED_DATA
    assert protocol.ends_with_bare_newline
    event = protocol.give_up_line()
    assert (event.reply, event.ends) == (reply.BARE_NEWLINE, "refused")


def seen(data: bytes, pieces: list[bytes]) -> list[object]:
    """Every event of *data* in *pieces*, each refused."""
    protocol = at(State.READY)
    found: list[object] = []
    for piece in pieces:
        protocol.receive_data(piece)
        while (event := protocol.next_event()) is not NEED_DATA:
            if isinstance(event, Command):
                found.append((event.verb.name, event.argument, event.fault))
            else:
                assert isinstance(event, Fault)
                found.append((event.reply, event.ends))
            protocol.answered(NO)
    return found


@given(
    st.lists(
        st.sampled_from([b"NOOP", b"FOO", b"\r", b"\n", b"\r\n", b" x", b"DATA\r\n", b"\xff"]),
        max_size=20,
    ).map(b"".join),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_any_octets_in_any_pieces_are_the_same_events(data: Any, cuts: list[int]) -> None:
    assert seen(data, cut_at(data, cuts) if data else []) == seen(data, [data])


def test_no_verb_is_good_where_no_command_comes() -> None:
    for verb in VERBS.values():
        assert not set(verb.transitions) & {State.AUTH, State.CONTENT, State.UPGRADE, State.CLOSED}
