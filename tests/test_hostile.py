"""Hostile and odd input, over a socket: what each must be answered, and what it must not touch."""

from __future__ import annotations

import base64
import random
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import gevent
import pytest
from hostile_rows import (
    COMMAND_ROWS,
    CONTENT_ROWS,
    PLAIN,
    RECIPIENT_OK,
    SENDER_OK,
    SEQUENCE,
    CommandRow,
    ContentRow,
)
from support import (
    SECONDS,
    BlockingClient,
    Certificate,
    ClientReply,
    Served,
    assert_serves,
    cut_at,
    octets,
    serve,
    two_pieces,
    wait_until,
)

from smtp_blinker import DEFAULT_EXTENSIONS, Reject

POLICIES = ("reject", "normalize", "allow")
#: Rows longer than this aren't cut at every single octet.
SHORT = 2500
#: In the same group after every row: whoever lost his place answers these wrongly.
TAIL = b"VRFY sync\r\nQUIT\r\n"
TAIL_STATUSES = ["252 2.5.0", "221 2.0.0"]

Serving = Callable[..., Served]


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    """A server with these options; the same one for the same options."""
    running: dict[str, Served] = {}
    with ExitStack() as stack:

        def get(**options: Any) -> Served:
            key = repr(sorted(options.items(), key=lambda item: item[0]))
            if key not in running:
                running[key] = stack.enter_context(serve(**options))
            served = running[key]
            served.messages.clear()
            served.broken.clear()
            return served

        yield get


def statuses(replies: Sequence[ClientReply]) -> list[str]:
    return [one.status for one in replies]


def matches(got: Sequence[str], expected: Sequence[str]) -> bool:
    return len(got) == len(expected) and all(
        one in allowed.split("|") for one, allowed in zip(got, expected, strict=True)
    )


def random_cuts(data: bytes, name: str, times: int) -> Iterator[list[bytes]]:
    """*times* ways to send *data* in pieces, always the same for a *name*."""
    source = random.Random(name)
    for _ in range(times):
        yield cut_at(data, [source.randrange(len(data)) for _ in range(source.randint(1, 6))])


def whole_lines(pieces: list[bytes]) -> list[bytes]:
    """*pieces* with none ending at a bare LF: silence there ends the connection (see N56)."""
    joined: list[bytes] = []
    for piece in pieces:
        if joined and re.search(rb"(?<!\r)\n\Z", joined[-1]):
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined


def ways_to_send(sent: bytes, tail: bytes, name: str, *, times: int) -> Iterator[list[bytes]]:
    """*sent* with *tail* behind it: whole, at every cut between two octets of *sent* (and one
    behind), octet by octet, and at random cuts, *times* times.

    Where *sent* is long, only its first and last forty octets are cut everywhere.
    """
    data = sent + tail
    yield [data]
    last = min(len(sent) + 1, len(data) - 1)
    for cut in range(1, last + 1):
        if len(sent) <= SHORT or cut < 40 or cut > last - 40:
            yield [data[:cut], data[cut:]]
    if len(data) < 3000:
        yield octets(data)
    yield from random_cuts(data, name, times)


# Content


def deliver(served: Served, pieces: Sequence[bytes]) -> list[str]:
    """Send content and what follows it behind a 354; the statuses of all replies from there."""
    with served.hello() as client:  # P02: a transaction in one segment
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        assert statuses(client.replies(3)) == [SENDER_OK, RECIPIENT_OK, "354"]
        served.send_pieces(client, pieces)
        return statuses(client.rest_of_replies())


def outcome(row: ContentRow, policy: str) -> tuple[str, list[bytes]]:
    """The status of the reply to *row*, and what is delivered."""
    if policy == "reject" and not row.clean:
        return "550 5.5.2", []
    return "250 2.0.0", [row.normalized if policy == "normalize" else row.content]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", CONTENT_ROWS, ids=lambda row: row.id)
def test_content_is_the_same_however_it_arrives(
    serving: Serving, row: ContentRow, policy: str
) -> None:
    served = serving(bare_newline=policy)
    answer, delivered = outcome(row, policy)
    for pieces in ways_to_send(row.sent, TAIL, row.id, times=20 if len(row.sent) < 100 else 3):
        served.messages.clear()
        got = deliver(served, pieces)
        assert (got, served.contents()) == ([answer, *TAIL_STATUSES], delivered), pieces
    assert_serves(served)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", CONTENT_ROWS, ids=lambda row: row.id)
def test_content_in_one_group_with_its_commands(
    serving: Serving, row: ContentRow, policy: str
) -> None:
    """DATA pipelined with content (RFC 2920 forbids it to clients; nothing may break)."""
    served = serving(bare_newline=policy)
    with served.connect() as client:
        client.send(
            b"EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
            + row.sent
            + TAIL
        )
        got = statuses(client.rest_of_replies())
    answer, delivered = outcome(row, policy)
    assert got == ["250", SENDER_OK, RECIPIENT_OK, "354", answer, *TAIL_STATUSES]
    assert served.contents() == delivered


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", CONTENT_ROWS, ids=lambda row: row.id)
def test_content_over_lmtp(serving: Serving, row: ContentRow, policy: str) -> None:
    served = serving(lmtp=True, bare_newline=policy)
    answer, delivered = outcome(row, policy)
    for pieces in ([row.sent + TAIL], *random_cuts(row.sent + TAIL, row.id, 4)):
        served.messages.clear()
        with served.hello() as client:
            client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
            client.send(b"RCPT TO:<>\r\nRCPT TO:<c@example.com>\r\nDATA\r\n")
            assert client.replies(5)[-1].status == "354"
            served.send_pieces(client, pieces)
            got = statuses(client.rest_of_replies())
        # RFC 2033 section 4.2: one for each recipient that was accepted
        assert got == [answer, answer, *TAIL_STATUSES]
        assert served.contents() == delivered
    assert_serves(served)


@pytest.fixture(scope="module")
def served_with_tls(certificate: Certificate) -> Iterator[dict[str, Served]]:
    """By policy; TLS from the first octet."""
    with ExitStack() as stack:
        yield {
            policy: stack.enter_context(
                serve(secure=True, bare_newline=policy, **certificate.options)
            )
            for policy in POLICIES
        }


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", CONTENT_ROWS, ids=lambda row: row.id)
def test_content_inside_tls(
    served_with_tls: dict[str, Served], certificate: Certificate, row: ContentRow, policy: str
) -> None:
    served = served_with_tls[policy]
    answer, delivered = outcome(row, policy)
    sent = row.sent + TAIL
    # Each piece is a record of its own, however TCP carries them.
    for pieces in ([sent], octets(sent)[:3000], *random_cuts(sent, row.id, 2)):
        served.messages.clear()
        with served.connect(greeting=False) as client:
            client.start_tls(certificate.client_context())
            client.send(b"EHLO x\r\nMAIL FROM:<a@example.org>\r\n")
            client.send(b"RCPT TO:<b@example.com>\r\nDATA\r\n")
            assert client.replies(5)[-1].status == "354"
            for piece in pieces:
                client.send(piece)
            got = statuses(client.rest_of_replies())
        assert got == [answer, *TAIL_STATUSES]
        assert served.contents() == delivered


def test_next_transaction_follows_the_end_of_data_in_the_same_group(serving: Serving) -> None:
    # E01
    served = serving()
    transaction = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
    for pieces in ([b"one\r\n.\r\nRSET\r\n" + transaction], [b"one\r\n.\r\n", transaction]):
        served.messages.clear()
        with served.hello() as client:
            client.send(transaction)
            assert statuses(client.replies(3))[-1] == "354"
            served.send_pieces(client, pieces)
            got = statuses(client.replies(5 if b"RSET" in pieces[0] else 4))
            assert got[0] == "250 2.0.0"
            assert got[-3:] == [SENDER_OK, RECIPIENT_OK, "354"]
            client.send(b"two\r\n.\r\n" + TAIL)
            assert statuses(client.rest_of_replies()) == ["250 2.0.0", *TAIL_STATUSES]
        assert served.contents() == [b"one\r\n", b"two\r\n"]


@pytest.mark.parametrize("ending", [b"\n.\n", b"\r.\r", b"\n.\r\n", b"\r\n.\n", b"\r\n.\r"])
@pytest.mark.parametrize("policy", POLICIES)
def test_smuggled_transaction_never_runs(serving: Serving, ending: bytes, policy: str) -> None:
    served = serving(bare_newline=policy)
    smuggled = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nevil"
    got = deliver(served, [b"a" + ending + smuggled + b"\r\n.\r\n" + TAIL])
    assert len(got) == 3
    assert [message.mail_from for message in served.messages] in ([], ["a@example.org"])
    assert b"".join(served.contents()).count(b"evil\r\n") == len(served.messages)


# Commands


def check_commands(served: Served, row: CommandRow, pieces: Sequence[bytes]) -> None:
    with served.connect() as client:
        for line in row.before:
            assert client.cmd(line).code // 100 == 2, line
        served.send_pieces(client, pieces)
        replies = client.rest_of_replies()
    expected = [*row.expected, *([] if row.ends else TAIL_STATUSES)]
    assert matches(statuses(replies), expected), (statuses(replies), expected, pieces)
    for one in replies:
        if one.code == 250 and one.enhanced is None:
            assert served.server.options.name in one.lines[0], "only EHLO and HELO have none"


@pytest.mark.parametrize("row", COMMAND_ROWS, ids=lambda row: row.id)
def test_commands_are_the_same_however_they_arrive(serving: Serving, row: CommandRow) -> None:
    served = serving(**row.options)
    for pieces in ways_to_send(row.sent, b"" if row.ends else TAIL, row.id, times=3):
        check_commands(served, row, whole_lines(pieces))
    assert set(served.contents()) == {row.delivers} - {None}
    served.messages.clear()
    if "on_auth" not in row.options or "auth_optional" in row.options:
        assert_serves(served)


#: Rows that say nothing of EHLO and HELO, which LMTP hasn't.
LMTP_ROWS = [
    row
    for row in COMMAND_ROWS
    if not re.search(rb"[EHL]H?[EH]LO\b", row.sent, re.I)
    and not any(line.startswith("HELO") for line in row.before)
    and len(row.sent) < 20_000
]


@pytest.mark.parametrize("row", LMTP_ROWS, ids=lambda row: row.id)
def test_commands_over_lmtp(serving: Serving, row: CommandRow) -> None:
    before = tuple(line.replace("EHLO", "LHLO") for line in row.before)
    served = serving(**{**row.options, "lmtp": True})
    check_commands(
        served,
        replace(row, before=before),
        [row.sent + (b"" if row.ends else TAIL)],
    )
    assert set(served.contents()) == {row.delivers} - {None}


def test_ids_of_rows_are_unique() -> None:
    ids = [row.id for row in (*CONTENT_ROWS, *COMMAND_ROWS)]
    assert sorted(set(ids)) == sorted(ids)


@pytest.mark.parametrize("line", [b"EHLO a\n", b"NOOP\n", b"MAIL FROM:<a@example.org>\n", b"\n"])
def test_line_with_a_bare_lf_and_silence_is_answered_and_the_connection_ends(
    serving: Serving, line: bytes
) -> None:
    # N56
    with serving().connect() as client:
        client.send(line)
        assert client.reply().status == "500 5.5.2"
        send_whatever(client, b"EHLO x\r\n" + TAIL)
        assert client.rest_of_replies() == []


@pytest.mark.parametrize("policy", ["normalize", "allow"])
def test_lenient_policies_take_a_bare_lf_as_the_end_of_a_command(
    serving: Serving, policy: str
) -> None:
    with serving(bare_newline=policy).connect() as client:
        client.send(b"EHLO a\nNOOP\nVRFY sync\r\nQUIT\n")
        assert statuses(client.rest_of_replies()) == ["250", "250 2.0.0", *TAIL_STATUSES]


@pytest.mark.parametrize("policy", POLICIES)
def test_cr_is_a_separator_only_where_newlines_are_normalized(
    serving: Serving, policy: str
) -> None:
    answers = ["250 2.0.0", "250 2.0.0"] if policy == "normalize" else ["500 5.5.2"]
    with serving(bare_newline=policy).connect() as client:
        client.send(b"EHLO a\r\nNOOP\rNOOP\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == ["250", *answers, *TAIL_STATUSES]


def test_a_client_whose_lines_end_with_cr_cr_lf_sends_a_message(serving: Serving) -> None:
    served = serving(bare_newline="normalize")
    with served.connect() as client:
        for line, status in (
            (b"EHLO a", "250"),
            (b"MAIL FROM:<a@example.org>", SENDER_OK),
            (b"RCPT TO:<b@example.com>", RECIPIENT_OK),
            (b"DATA", "354"),
        ):
            client.send(line + b"\r\r\n")
            assert client.reply().status == status
        client.send(b"Subject: x\r\r\nTo: b\r\r\n\r\r\nbody\r\r\n.\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == ["250 2.0.0", *TAIL_STATUSES]
    assert served.contents() == [b"Subject: x\r\nTo: b\r\n\r\nbody\r\n"]


def test_client_that_xclient_names_inherits_no_identity() -> None:
    options = {"on_auth": lambda auth, session: auth.username, "auth_optional": True}
    with serve(use_xclient=True, **options) as served, served.hello() as client:
        assert client.cmd(b"AUTH PLAIN " + PLAIN).code == 235
        session = served.connection_of(client).session
        assert session.user == "alice"
        assert client.cmd("XCLIENT ADDR=192.0.2.1").code == 220
        assert session.user is None
        assert session.remote_address == "192.0.2.1"


def test_talking_before_the_greeting_is_answered_where_it_is_not(serving: Serving) -> None:
    with serving().connect(greeting=False) as client:
        client.send(b"EHLO x\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == ["220", "250", *TAIL_STATUSES]


def test_nothing_runs_after_quit() -> None:
    # P05
    seen: list[Any] = []
    with serve(on_mail_from=lambda address, session: seen.append(address)) as served:
        with served.hello() as client:
            client.send(b"QUIT\r\nMAIL FROM:<evil@example.org>\r\n")
            assert statuses(client.rest_of_replies()) == ["221 2.0.0"]
        assert seen == []


def test_million_empty_lines_end_the_session(serving: Serving) -> None:
    # N55
    served = serving()
    with served.connect() as client:
        sender = threading.Thread(target=send_whatever, args=(client, b"\r\n" * 1_000_000))
        sender.start()
        got = statuses(client.rest_of_replies())
        sender.join(SECONDS)
    assert 0 < len(got) <= 100
    assert got[-1] == "421 4.7.0"
    assert set(got[:-1]) == {"500 5.5.2"}
    assert_serves(served)


def send_whatever(client: BlockingClient, data: bytes) -> None:
    try:
        client.send(data)
    except OSError:
        pass


def test_proxy_line_without_proxies_changes_nothing(serving: Serving) -> None:
    # X01
    served = serving()
    with served.connect() as client:
        assert client.cmd("PROXY TCP4 192.0.2.1 192.0.2.2 1 25").status == "500 5.5.2"
        client.cmd("EHLO x")
        assert served.connection_of(client).session.remote_address == "127.0.0.1"


def test_v2_signature_without_proxies_runs_no_quit(serving: Serving) -> None:
    # X02: its octets hold a QUIT.
    with serving().connect() as client:
        client.send(bytes.fromhex("0D0A0D0A000D0A515549540A") + b"\x20\x00\x00\x00")
        got = statuses(client.rest_of_replies())
    assert set(got) <= {"500 5.5.2"}


# Messages and limits


def test_received_fields_over_a_hundred_are_a_loop(serving: Serving) -> None:
    # N11; RFC 5321 section 6.3
    served = serving()
    field = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n"
    body = b"\r\nReceived: this is no field\r\n.\r\n"
    assert deliver(served, [field * 100 + body + TAIL])[0] == "250 2.0.0"
    served.messages.clear()
    assert deliver(served, [field * 101 + body + TAIL]) == ["554 5.4.6", *TAIL_STATUSES]
    assert deliver(served, [field.upper() * 101 + body + TAIL]) == ["554 5.4.6", *TAIL_STATUSES]
    assert served.messages == []


@pytest.mark.parametrize(
    ("policy", "newline"), [("normalize", b"\n"), ("normalize", b"\r"), ("allow", b"\n")]
)
def test_loop_is_seen_whatever_ends_the_lines(
    serving: Serving, policy: str, newline: bytes
) -> None:
    """What the program gets as 101 fields is a loop, however its newlines came."""
    served = serving(bare_newline=policy)
    field = b"Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000" + newline
    body = newline + b"Received: this is no field\r\n.\r\n"
    assert deliver(served, [field * 100 + body + TAIL])[0] == "250 2.0.0"
    served.messages.clear()
    assert deliver(served, [field * 101 + body + TAIL]) == ["554 5.4.6", *TAIL_STATUSES]
    # The header ends with its first empty line.
    body = newline + (b"Received: this is no field" + newline) * 200 + b"\r\n.\r\n"
    assert deliver(served, [b"A: b" + newline + body + TAIL])[0] == "250 2.0.0"


def test_received_in_folded_lines_and_body_is_not_counted(serving: Serving) -> None:
    served = serving()
    content = (
        b"X: a\r\n Received: no\r\nReceived-SPF: no\r\n" * 60 + b"\r\n" + b"Received: no\r\n" * 200
    )
    assert deliver(served, [content + b".\r\n" + TAIL])[0] == "250 2.0.0"
    assert served.contents() == [content]


def test_long_header_line_is_taken_whole(serving: Serving) -> None:
    # N12
    served = serving()
    content = b"X: " + b"a" * 200 * 1024 + b"\r\n\r\nx\r\n"
    assert deliver(served, [content + b".\r\n" + TAIL]) == ["250 2.0.0", *TAIL_STATUSES]
    assert served.contents() == [content]


@pytest.mark.parametrize("end", [b"x\r\n.", b"x\r\n.\r", b"x\r\n", b"x\r", b"x", b"", b"."])
def test_almost_ended_content_is_not_delivered(serving: Serving, end: bytes) -> None:
    served = serving()
    with served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.replies(3)
        client.send(end)
        client.sock.shutdown(socket.SHUT_WR)
        assert [one for one in client.rest_of_replies() if one.code < 400] == []
    assert served.messages == []


# TLS


@pytest.fixture
def tls_server(certificate: Certificate) -> Iterator[Served]:
    with serve(**certificate.options) as served:
        yield served


@pytest.mark.parametrize(
    "behind", [b"NOOP\r\n", b"EHLO z\r\nMAIL FROM:<evil@example.org>\r\n", b"NO", b"RSET", b"\r\n"]
)
def test_clear_text_behind_starttls_is_dropped(
    tls_server: Served, certificate: Certificate, behind: bytes
) -> None:
    # T01, T03 and a line cut in two by the handshake; RFC 3207 section 4, CVE-2011-0411
    with tls_server.hello() as client:
        client.send(b"STARTTLS\r\n" + behind)
        answer = client.reply()
        if answer.code >= 400:
            assert client.rest() == b""
            return
        assert answer.code == 220
        client.start_tls(certificate.client_context())
        client.send(b"RCPT TO:<b@example.com>\r\nEHLO x\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == [SEQUENCE, "250", *TAIL_STATUSES]
    assert_serves(tls_server)


def test_starttls_takes_no_argument(tls_server: Served) -> None:
    # T06
    with tls_server.hello() as client:
        assert client.cmd("STARTTLS foo").status == "501 5.5.4"
        assert client.cmd("NOOP").code == 250


def test_starttls_with_trailing_blanks(tls_server: Served, certificate: Certificate) -> None:
    with tls_server.hello() as client:
        assert client.cmd("starttls  ").code == 220
        client.start_tls(certificate.client_context())
        assert client.cmd("EHLO x").status == "250"


def test_clear_text_instead_of_a_handshake_gets_no_reply(tls_server: Served) -> None:
    # T07
    with tls_server.hello() as client:
        assert client.cmd("STARTTLS").code == 220
        client.send(b"EHLO plain\r\nMAIL FROM:<a@example.org>\r\n")
        assert b"250" not in client.rest()
    assert_serves(tls_server)


@pytest.mark.parametrize("throw", [gevent.Timeout, gevent.GreenletExit])
@pytest.mark.parametrize("implicit", [False, True])
def test_nothing_is_said_in_clear_where_a_handshake_is_due(
    certificate: Certificate, implicit: bool, throw: type[BaseException]
) -> None:
    """Whatever ends the connection's greenlet meanwhile."""
    with serve(secure=implicit, **certificate.options) as served:
        with served.connect(greeting=False) as client:
            if not implicit:
                assert client.reply().code == 220
                assert client.cmd("STARTTLS").code == 220
            connection = wait_until(lambda: served.connection_of(client))
            wait_until(lambda: connection.transport.waiting)
            loop = connection.greenlet.parent.loop
            loop.run_callback_threadsafe(connection.greenlet.throw, throw())
            assert client.rest() == b""
        served.expected_faults = int(throw is gevent.Timeout)
        if not implicit:
            assert_serves(served)


@pytest.mark.parametrize("throw", [gevent.Timeout, gevent.GreenletExit])
def test_nothing_is_said_before_a_proxy_header(throw: type[BaseException]) -> None:
    with serve(use_proxy=True) as served:
        with served.connect(greeting=False) as client:
            connection = wait_until(lambda: served.connection_of(client))
            wait_until(lambda: connection.transport.waiting)
            loop = connection.greenlet.parent.loop
            loop.run_callback_threadsafe(connection.greenlet.throw, throw())
            assert client.rest() == b""
        served.expected_faults = int(throw is gevent.Timeout)


def test_starttls_inside_a_transaction_is_out_of_sequence(tls_server: Served) -> None:
    with tls_server.hello() as client:
        client.cmd("MAIL FROM:<a@example.org>")
        assert client.cmd("STARTTLS").status == SEQUENCE
        assert client.cmd("RCPT TO:<b@example.com>").status == RECIPIENT_OK


def test_auth_before_the_answer_to_starttls_is_never_looked_at(certificate: Certificate) -> None:
    # N20
    asked: list[Any] = []
    with serve(on_auth=lambda auth, session: asked.append(auth), **certificate.options) as served:
        with served.hello() as client:
            client.send(b"AUTH PLAIN " + PLAIN + b"\r\nSTARTTLS\r\nAUTH PLAIN " + PLAIN + b"\r\n")
            assert statuses(client.replies(2)) == ["538 5.7.11", "220 2.0.0"]
            client.start_tls(certificate.client_context())
            client.send(b"EHLO x\r\n" + TAIL)
            assert statuses(client.rest_of_replies()) == ["250", *TAIL_STATUSES]
        assert asked == []


# AUTH


def test_acting_for_another_is_refused_where_the_program_does_not_look() -> None:
    # N22: the default
    def know(auth: Any, session: Any) -> str | None:
        return auth.username if auth.validate_password("secret") else None

    with serve(on_auth=know, auth_optional=True) as served, served.hello() as client:
        for identities, status in (
            (b"boss\0alice\0secret", "535 5.7.8"),
            (b"boss\0alice\0wrong", "535 5.7.8"),
            (b"alice\0alice\0secret", "235 2.7.0"),
        ):
            response = base64.b64encode(identities)
            assert client.cmd(b"AUTH PLAIN " + response).status == status
        [live] = served.server.connections
        assert live.session.user == "alice"


# PROXY

CLIENTS_SEEN: list[str] = []


def remember_client(address: Any, session: Any) -> None:
    CLIENTS_SEEN.append(session.remote_address)


V2 = bytes.fromhex("0D0A0D0A000D0A515549540A")
V4 = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HH", 4711, 25)


def v2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    return (
        V2 + struct.pack("!BBH", command, family, len(block) if length is None else length) + block
    )


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY UNKNOWN " + b"x" * 94,  # N41: 108 octets and no CRLF
        b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 25\r\n",  # N42
        b"EHLO x\r\n",  # N47
        v2(0x11, 0x11, V4),  # N43: version 1
        v2(0x21, 0x11, b"", 16 * 1024 + 1),
    ],
)
def test_bad_proxy_header_is_closed_without_a_word(serving: Serving, header: bytes) -> None:
    """One of each kind; test_proxy.py has them all."""
    served = serving(use_proxy=True)
    with served.connect(greeting=False) as client:
        client.send(header)
        assert client.rest() == b""
    with served.connect(greeting=False) as client:
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n")
        assert client.reply().code == 220


@pytest.mark.parametrize(
    ("header", "client_address"),
    [
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),  # N42
        (b"PROXY UNKNOWN ffff::1 nonsense\r\n", "127.0.0.1"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 25\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:DB8::1 ::1 4711 25\r\n", "2001:db8::1"),
        (v2(0x20, 0x11, V4), "127.0.0.1"),  # N44: LOCAL with address octets
        (v2(0x20, 0x00, b""), "127.0.0.1"),
        (v2(0x21, 0x11, V4), "192.0.2.1"),
        (v2(0x21, 0x11, V4 + b"\x04\x00\x03abc"), "192.0.2.1"),
    ],
)
def test_octets_behind_a_proxy_header_are_not_lost(
    serving: Serving, header: bytes, client_address: str
) -> None:
    # N46
    served = serving(use_proxy=True, on_mail_from=remember_client)
    CLIENTS_SEEN.clear()
    data = header + b"EHLO x\r\nMAIL FROM:<a@example.org>\r\n" + TAIL
    ways = [[data], *two_pieces(data), octets(data)]
    for pieces in ways:
        with served.connect(greeting=False) as client:
            served.send_pieces(client, pieces)
            got = statuses(client.rest_of_replies())
            assert got == ["220", "250", SENDER_OK, *TAIL_STATUSES], pieces
        wait_until(lambda: not served.server.connections)
    assert {client_address} == set(CLIENTS_SEEN)
    assert len(CLIENTS_SEEN) == len(ways)


@pytest.mark.parametrize("together", [False, True])
def test_tls_begins_behind_a_proxy_header(together: bool, certificate: Certificate) -> None:
    options = {"use_proxy": True, "secure": True, **certificate.options}
    with serve(**options) as served, served.connect(greeting=False) as client:
        # With MSG_MORE the kernel keeps it back until the ClientHello follows.
        flags = socket.MSG_MORE if together else 0
        client.sock.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", flags)
        client.start_tls(certificate.client_context())
        assert client.reply().code == 220
        client.send(b"EHLO x\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == ["250", *TAIL_STATUSES]


# The program


def test_hook_that_leaves_the_message_unread_stays_in_sync(serving: Serving) -> None:
    with serve(on_data=lambda stream, session: "not read") as served:
        for row in CONTENT_ROWS:
            if row.clean:
                assert deliver(served, [row.sent + TAIL]) == ["250 2.0.0", *TAIL_STATUSES]
        assert deliver(served, [b"a\n.\nb\r\n.\r\n" + TAIL]) == ["550 5.5.2", *TAIL_STATUSES]


def test_refusal_of_a_half_read_message_comes_after_its_end() -> None:
    def refuse(stream: Any, session: Any) -> None:
        stream.read(3)
        raise Reject(554, "spam\r\n250 forged", enhanced="5.7.1")

    with serve(on_data=refuse) as served, served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.replies(3)
        client.send(b"abcdef\r\n" * 30_000)
        client.send(b".\r\n" + TAIL)
        assert statuses(client.rest_of_replies()) == ["554 5.7.1", *TAIL_STATUSES]


# LMTP


def test_lmtp_answers_for_each_accepted_recipient() -> None:
    # N51; RFC 2033 section 4.2
    def only_odd(address: Any, session: Any) -> None:
        if int(address.address[1]) % 2 == 0:
            raise Reject(550, "even", enhanced="5.1.1")

    def store(stream: Any, session: Any) -> list[Any]:
        stream.read()
        return ["first", Reject(452, "full", enhanced="4.2.2"), None]

    options = {"lmtp": True, "on_rcpt_to": only_odd, "on_data": store}
    with serve(**options) as served, served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\n")
        client.send(b"".join(b"RCPT TO:<r%d@example.com>\r\n" % n for n in range(1, 6)))
        client.send(b"DATA\r\n")
        got = statuses(client.replies(7))
        no = "550 5.1.1"
        assert got[1:6] == [RECIPIENT_OK, no, RECIPIENT_OK, no, RECIPIENT_OK]
        client.send(b"x\r\n.\r\n" + TAIL)
        replies = client.rest_of_replies()
        assert statuses(replies) == ["250 2.0.0", "452 4.2.2", "250 2.0.0", *TAIL_STATUSES]
        assert replies[0].text == "first"


# The end


def test_program_may_stop_a_server_that_runs_in_a_thread() -> None:
    # `stop` in the hub of the server, as a hook or a listener would call it.
    faults: list[Any] = []
    kept, threading.excepthook = threading.excepthook, faults.append
    try:
        with serve() as served:
            idle = served.hello()
            served.server.loop.run_callback_threadsafe(gevent.spawn_raw, served.server.stop)
            assert statuses(idle.rest_of_replies()) == ["421 4.3.2"]
            idle.close()
            wait_until(lambda: served.of("close"))
    finally:
        threading.excepthook = kept
    assert [fault.exc_value for fault in faults] == []


# Invariants


def test_replies_without_enhanced_codes_where_they_are_not_offered() -> None:
    options = {"extensions": DEFAULT_EXTENSIONS - {"ENHANCEDSTATUSCODES"}}
    with serve(**options) as served, served.connect() as client:
        client.send(
            b"EHLO x\r\nFOO\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<>\r\nRCPT TO:<b@example.com>"
            b"\r\nDATA\r\nx\r\n.\r\nVRFY x\r\nQUIT\r\n"
        )
        replies = client.rest_of_replies()
        assert statuses(replies) == [
            "250", "500", "250", "501", "250", "354", "250", "252", "221",
        ]  # fmt: skip
        assert "ENHANCEDSTATUSCODES" not in replies[0].lines


VERBS = (
    b"NOOP", b"RSET", b"EHLO x", b"HELO y", b"MAIL FROM:<a@example.org>",
    b"RCPT TO:<b@example.com>", b"MAIL FROM:<>", b"FOO", b"", b"VRFY z", b"HELP", b"DATA x",
    b"RCPT TO:<>", b"EXPN z",
    b"AUTH PLAIN", b"STARTTLS", b"MAIL FROM:<a@example.org> FOO=1", b"NOOP \xff", b"LHLO z",
    b"ETRN", b"NOOP\rNOOP", b"XCLIENT A=b", b"DATA",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_each_command_has_exactly_one_reply(serving: Serving, seed: int) -> None:
    """Any commands in any order, in one group: as many replies as commands."""
    served = serving(max_errors=None)
    source = random.Random(seed)
    unknown = 0
    script: list[bytes] = []
    for line in source.choices(VERBS, k=60):
        unknown += line in (b"FOO", b"")
        if unknown < 9 or line not in (b"FOO", b""):
            script.append(line)
    with served.connect() as client:
        codes: list[int] = []
        content = b""
        for line in script:
            client.send(line + b"\r\n")
            answer = client.reply()
            codes.append(answer.code)
            if answer.code == 354:
                content = b"content of %d\r\n" % len(codes)
                client.send(content + b".\r\n")
                assert client.reply().code == 250
        client.send(TAIL)
        assert statuses(client.rest_of_replies()) == TAIL_STATUSES
    # The same in one group, content and all, must be answered the same.
    group = b""
    expected: list[int] = []
    for line, code in zip(script, codes, strict=True):
        group += line + b"\r\n"
        expected.append(code)
        if code == 354:
            group += content + b".\r\n"
            expected.append(250)
    for pieces in ([group + TAIL], *random_cuts(group + TAIL, str(seed), 5)):
        with served.connect() as client:
            served.send_pieces(client, pieces)
            got = [one.code for one in client.rest_of_replies()]
        assert got == [*expected, 252, 221]
    assert_serves(served)
