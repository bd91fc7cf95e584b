"""Refusals that an operator sees: `refused`, the reply in `message`, the detail in `disconnect`."""

from __future__ import annotations

import base64
import ssl
from typing import Any

import pytest
from support import Client, Witness, poll, raising, running, talking, witnessed

from smtp_blinker import Reject, signals


def refusals(witness: Witness) -> list[tuple[str, str, int]]:
    return [(one.command, one.argument, one.code) for one in witness.of("refused")]


def refuse(*args: Any) -> None:
    raise Reject(550, "relaying denied", "5.7.1")


def test_a_refused_recipient_is_told_with_its_argument_and_reply() -> None:
    with witnessed(on_rcpt_to=refuse) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>").startswith("550")
        event = client.witness.one("refused")
        assert event.as_dict() == {
            "id": client.session.id,
            "remote_address": "127.0.0.1",
            "command": "RCPT",
            "argument": "TO:<b@example.com>",
            "code": 550,
            "reply": "relaying denied",
        }


@pytest.mark.parametrize("argument", ["", "x", "-5", "9" * 30])
def test_a_bdat_without_a_size_is_told_as_what_it_is(argument: str) -> None:
    with witnessed() as client:
        assert client.cmd(f"BDAT {argument}".strip()).startswith("501")
        assert refusals(client.witness) == [("BDAT", argument, 501)]


def test_every_kind_of_refused_command_is_told() -> None:
    with witnessed(on_mail_from=raising(ValueError("secret detail"))) as client:
        client.cmd("MAIL FROM:<a@example.org>")  # 451
        client.cmd("RCPT TO:<b@example.com>")  # 503
        client.cmd("DATA now")  # 501
        client.cmd("VRFY")
        client.cmd("EXPN list")
        client.cmd(b"NOOP \xff".decode("latin-1"))
        client.cmd("my-password-by-mistake")
        client.cmd("NO\rOP")
        client.cmd("NOOP " + "x" * 3000)
        assert refusals(client.witness) == [
            ("MAIL", "FROM:<a@example.org>", 451),
            ("RCPT", "TO:<b@example.com>", 503),
            ("DATA", "now", 501),
            ("VRFY", "", 501),
            ("EXPN", "list", 502),
            ("NOOP", "\\xc3\\xbf", 500),
            ("", "", 500),
            ("", "", 500),
            ("", "", 500),
        ]
        assert all(one.argument.isprintable() for one in client.witness.of("refused"))


def test_a_refused_auth_is_told_without_a_secret() -> None:
    secret = base64.b64encode(b"\0me\0secret").decode()
    with witnessed(on_auth=lambda auth, session: None, auth_optional=True) as client:
        client.cmd(f"AUTH PLAIN {secret}")
        client.cmd(f"AUTH {secret}")
        client.ok("AUTH PLAIN")
        client.cmd("!" + secret)
        client.ok("AUTH LOGIN")
        client.cmd("*")
        assert refusals(client.witness) == [
            ("AUTH", "PLAIN", 535),
            ("AUTH", "(something unknown)", 504),
            ("AUTH", "PLAIN", 501),
            ("AUTH", "LOGIN", 501),
        ]
        assert secret not in repr(client.witness.heard)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"on_connect": refuse}, 550),
        ({"max_clients": 0}, 421),
    ],
)
def test_a_client_refused_before_its_greeting_is_told(options: dict[str, Any], code: int) -> None:
    with running(**options) as server:
        witness = Witness(server)
        Client(server, greet=False).rest()
        event = witness.one("refused")
        assert (event.command, event.argument, event.code) == ("", "", code)
        assert witness.one("disconnect").detail == event.reply


def test_a_client_that_talks_too_soon_is_told() -> None:
    with witnessed(greeting_delay=30, greet=False) as client:
        client.send(b"EHLO me\r\n")
        client.ends_with("421 4.7.0")  # P01
        assert refusals(client.witness) == [("", "", 421)]
        assert client.witness.one("disconnect").detail == "You talk too soon"


def test_accepted_commands_and_refused_messages_are_not_told() -> None:
    with witnessed(on_data=refuse) as client:
        assert client.message().startswith("550")
        client.ok("RSET", "NOOP", "QUIT")
        assert not client.witness.of("refused")
        assert client.witness.one("message").reply == "relaying denied"
        assert client.witness.one("message").code == 550


def test_a_message_has_the_text_of_its_reply() -> None:
    with running(on_data=lambda stream, session: "queued as 17") as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").message()
        assert witness.one("message").reply == "queued as 17"


def test_an_lmtp_message_has_the_reply_that_its_code_is_of() -> None:
    def on_data(stream: Any, session: Any) -> Any:
        return [Reject(550, "no", "5.1.1"), "queued"]

    with witnessed(on_data=on_data, lmtp=True, hello="LHLO me") as client:
        client.ok("MAIL FROM:<>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>", "DATA")
        client.send(b".\r\n")
        client.reply()
        client.reply()
        event = client.witness.one("message")
        assert (event.code, event.reply) == (250, "queued")


def test_without_a_receiver_no_refusal_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(signals, "RefusedEvent", fail)
    signals.refused._clear_state()  # pages that other tests have left attached
    with talking() as client:
        assert client.cmd("DATA").startswith("503")
        assert client.cmd("NOOP").startswith("250")


def test_ignored_hosts_are_not_told() -> None:
    with running(ignored_hosts=["127.0.0.1"]) as server:
        witness = Witness(server)
        assert Client(server, hello="EHLO me").cmd("DATA").startswith("503")
        assert not witness.names


# disconnect


PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\nEHLO me\r\n"


def test_a_client_that_distrusts_the_certificate_is_told(certificate: Any) -> None:
    with running(**certificate.options) as server:
        witness = Witness(server)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.create_default_context()  # which doesn't know the authority
            context.minimum_version = context.maximum_version = version
            client = Client(server, hello="EHLO me")
            client.ok("STARTTLS")
            with pytest.raises(ssl.SSLError):
                client.start_tls(context)
            client.close()
        poll(lambda: len(witness.of("disconnect")) == 2)
        for event in witness.of("disconnect"):
            assert event.reason == "tls"
            assert event.detail == "the client refused the certificate (alert unknown ca)"


def test_a_client_that_leaves_or_waits_in_the_handshake_is_told(certificate: Any) -> None:
    with running(handshake_timeout=0.2, **certificate.options) as server:
        witness = Witness(server)
        leaves = Client(server, hello="EHLO me")
        leaves.ok("STARTTLS")
        leaves.close()
        assert witness.one("disconnect").detail == "the client left during the TLS handshake"
        witness.heard.clear()
        waits = Client(server, hello="EHLO me")
        waits.ok("STARTTLS")
        assert witness.one("disconnect").detail == "no TLS handshake within 0.2 s"


@pytest.mark.parametrize(
    ("options", "sent", "detail"),
    [
        ({"use_proxy": ["192.0.2.1"]}, PROXY, "127.0.0.1 is not in use_proxy"),
        ({"use_proxy": True, "proxy_timeout": 0.2}, b"", "no PROXY header within 0.2 s"),
        ({"use_proxy": True}, b"EHLO me\r\n", "not a PROXY header: "),
    ],
)
def test_a_peer_without_a_proxy_header_is_told(
    options: dict[str, Any], sent: bytes, detail: str
) -> None:
    with witnessed(**options, greet=False) as client:
        client.send(sent)
        assert client.rest() == b""
        event = client.witness.one("disconnect")
        assert event.reason == "proxy"
        assert event.detail.startswith(detail)


def test_a_limit_that_ended_a_connection_is_told() -> None:
    with witnessed(max_errors=0) as client:
        assert client.cmd("DATA").startswith("421")
        event = client.witness.one("disconnect")
        assert (event.reason, event.detail) == ("abuse", "Too many errors")


def test_a_good_end_has_no_detail() -> None:
    with running() as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").ok("QUIT")
        assert witness.one("disconnect").detail == ""
