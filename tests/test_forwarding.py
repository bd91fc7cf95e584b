"""XCLIENT and XFORWARD beside EHLO and STARTTLS: what was said last, and under TLS, counts."""

from __future__ import annotations

from typing import Any

import pytest
from support import Client, talking, witnessed


class Seen:
    """What `on_mail_from` saw of each transaction."""

    def __init__(self) -> None:
        self.clients: list[tuple[str, str | None]] = []

    def on_mail_from(self, address: Any, session: Any) -> None:
        self.clients.append((session.remote_address, session.host_name_appears_as))


def under_tls(client: Client) -> None:
    client.starttls()
    client.ok("EHLO said-under-tls")


@pytest.mark.parametrize("verb", ["XFORWARD", "XCLIENT"])
@pytest.mark.parametrize("attributes", ["ADDR=192.0.2.66", "ADDR=192.0.2.66 HELO=forwarded"])
def test_what_was_said_before_tls_does_not_count_under_it(
    verb: str, attributes: str, certificate: Any
) -> None:
    seen = Seen()
    options = {"use_xforward": True, "use_xclient": True, **certificate.options}
    with talking(
        on_mail_from=seen.on_mail_from, **options, hello="EHLO said-in-plain-text"
    ) as client:
        client.ok(f"{verb} {attributes}")
        if verb == "XCLIENT":
            client.ok("EHLO said-in-plain-text")
        under_tls(client)
        for _ in range(2):
            client.ok("MAIL FROM:<a@example.org>", "RSET")
        assert client.session.xclient == client.session.xforward == {}
    assert seen.clients == [("127.0.0.1", "said-under-tls")] * 2


def test_what_xclient_says_of_the_server_does_not_count_under_tls(certificate: Any) -> None:
    with talking(use_xclient=True, **certificate.options) as client:
        client.ok("XCLIENT ADDR=192.0.2.66 PORT=7 DESTADDR=192.0.2.1 DESTPORT=25 NAME=x.example")
        client.ok("EHLO me")
        under_tls(client)
        assert client.session.local_address == "127.0.0.1"
        assert client.session.local_port == client.server.server_port
        assert client.session.client_hostname == "[127.0.0.1]"


def test_the_proxy_may_name_the_client_again_under_tls(certificate: Any) -> None:
    seen = Seen()
    options = {"use_xclient": ["127.0.0.1"], **certificate.options}
    with witnessed(on_mail_from=seen.on_mail_from, **options, hello="EHLO proxy") as client:
        client.ok("XCLIENT ADDR=192.0.2.66", "EHLO proxy")
        under_tls(client)
        client.ok("XCLIENT ADDR=192.0.2.77 HELO=real", "EHLO real", "MAIL FROM:<>")
        assert [event.remote_address for event in client.witness.of("connect")] == [
            "192.0.2.66",
            "192.0.2.77",
        ]
    assert seen.clients == [("192.0.2.77", "real")]


def test_connect_names_the_client_that_is_left_under_tls(certificate: Any) -> None:
    with witnessed(use_xclient=True, **certificate.options, hello="EHLO proxy") as client:
        client.ok("XCLIENT ADDR=192.0.2.66", "EHLO proxy")
        under_tls(client)
        client.ok("MAIL FROM:<>", "RSET", "MAIL FROM:<>")
        addresses = [event.remote_address for event in client.witness.of("connect")]
        assert addresses == ["192.0.2.66", "127.0.0.1"]


def test_starttls_alone_sends_connect_once(certificate: Any) -> None:
    with witnessed(**certificate.options) as client:
        under_tls(client)
        client.ok("MAIL FROM:<>")
        assert len(client.witness.of("connect")) == 1


@pytest.mark.parametrize("helo", ["", " HELO=forwarded"])
def test_the_name_is_the_last_ehlo_s(helo: str) -> None:
    seen = Seen()
    with talking(on_mail_from=seen.on_mail_from, use_xforward=True, hello="EHLO first") as client:
        client.ok(f"XFORWARD ADDR=192.0.2.66{helo}", "EHLO second")
        client.ok("MAIL FROM:<a@example.org>", "RSET", "MAIL FROM:<a@example.org>")
    assert seen.clients == [("192.0.2.66", "second"), ("127.0.0.1", "second")]


def test_a_name_that_was_forwarded_is_about_one_transaction() -> None:
    seen = Seen()
    with talking(on_mail_from=seen.on_mail_from, use_xforward=True, hello="EHLO proxy") as client:
        client.ok("XFORWARD ADDR=192.0.2.66 HELO=forwarded", "MAIL FROM:<>", "RSET")
        client.ok("EHLO again", "MAIL FROM:<>")
    assert seen.clients == [("192.0.2.66", "forwarded"), ("127.0.0.1", "again")]
