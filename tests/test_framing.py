"""Where a command ends, and what is none: framing depends neither on time nor on luck."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from support import Client, poll, talking, witnessed


@pytest.mark.parametrize("policy", ["reject", "allow", "normalize"])
@pytest.mark.parametrize("cut", [None, 1, 2, 3, 200])
def test_a_tls_handshake_where_a_command_is_expected_ends_it(policy: str, cut: int | None) -> None:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="mx.test"
    )
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read() + b"\n\r\nNOOP\n\r\nNOOP\r\n"
    with witnessed(bare_newline=policy) as client:
        client.send(hello[:cut])
        if cut == 1:
            assert client.silent()  # it may be anything yet
            client.send(hello[1:])
        assert client.rest().startswith(b"500 5.5.2 TLS")
        event = client.witness.one("disconnect")
        assert (event.reason, event.messages) == ("abuse", 0)
        assert len(client.witness.of("refused")) == 1


@pytest.mark.parametrize(
    "line",
    [
        b"\x16\x03\x01\x02\x00\x01\n",
        b"\x16\x03\x01\x02\x00\x01\r\n",
        b"\0\0\0\x2c\xffSMB\r\n",
        b"FOO\0\r\n",
        b"\x03\0\0\x2aCookie: mstshash=x\r\n",
    ],
)
def test_a_line_of_a_binary_protocol_gets_one_reply_and_the_end(line: bytes) -> None:
    with talking() as client:
        client.send(line + b"NOOP\r\nNOOP\r\n")
        client.ends_with("500 5.5.2")


def refused_data(client: Client) -> None:
    client.ok("MAIL FROM:<a@example.org>")
    assert client.cmd("RCPT TO:<>").startswith("501")
    assert client.cmd("DATA").startswith("503")


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: x\r\n\r\nRSET\r\n.\r\n",
        b"subject : x\r\nRSET\r\n.\r\n",
        b"X-Very-Odd_Name!:\r\nRSET\r\n.\r\n",
        b"Received: from x\r\n\tby y\r\nRSET\r\n.\r\n",
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_content_behind_a_refused_data_is_not_run(content: bytes, whole: bool) -> None:
    with witnessed() as client:
        if whole:
            client.send(b"MAIL FROM:<>\r\nRCPT TO:<>\r\nDATA\r\n" + content)
            assert [client.reply()[:3] for _ in range(3)] == ["250", "501", "503"]
        else:
            refused_data(client)
            client.send(content)
        client.ends_with("421 4.7.0")
        assert client.witness.one("disconnect").reason == "abuse"


def test_a_header_field_ends_the_connection_wherever_it_comes() -> None:
    with talking() as client:
        assert client.cmd("Received: from x").startswith("421 4.7.0")
        assert client.ended()


@pytest.mark.parametrize("line", [b"MAILFROM:<a@example.org>", b"RCPT-TO:<b@example.com>", b"X"])
def test_a_typing_error_is_refused_and_the_session_goes_on(line: bytes) -> None:
    with talking() as client:
        refused_data(client)
        assert client.cmd(line).startswith("500")
        client.ok("RSET")
        assert client.message().startswith("250")


def test_a_tls_record_inside_auth_ends_the_connection() -> None:
    with witnessed(on_auth=lambda auth, session: True, auth_optional=True) as client:
        assert client.cmd("AUTH PLAIN").startswith("334")
        client.send(b"\x16\x03\x01\0\x08x\r\nRSET\r\n")
        client.ends_with("500 5.5.2")
        assert client.witness.one("auth").success is False


@pytest.mark.parametrize("where", ["command", "auth"])
def test_a_line_that_ends_with_a_bare_newline_ends_the_connection(where: str) -> None:
    accepted: list[Any] = []
    with talking(on_auth=lambda auth, session: accepted.append(auth), auth_optional=True) as client:
        if where == "auth":
            client.ok("AUTH LOGIN")
            client.send(b"bWU=\n")
        else:
            client.send(b"VRFY x\n")
        assert client.reply().startswith("500 5.5.2")
        client.send(b"MAIL FROM:<a@example.org>\r\n")
        assert client.ended()
    assert not accepted


def test_a_client_that_says_its_end_behind_a_bare_newline_hears_what_was_wrong() -> None:
    with talking() as client:
        client.send(b"VRFY x\n")
        client.sock.shutdown(socket.SHUT_WR)
        client.ends_with("500 5.5.2")


@pytest.mark.parametrize("behind", [b"MAIL FROM:<a@example.org>\r\n", b"\r\n", b"\n\r\n"])
def test_a_bare_newline_inside_a_line_is_one_refusal_and_the_session_goes_on(behind: bytes) -> None:
    with talking() as client:
        client.send(b"VRFY x\n" + behind)
        assert client.reply().startswith("500 5.5.2")
        client.ok("NOOP")
        poll(lambda: client.server.connections)
