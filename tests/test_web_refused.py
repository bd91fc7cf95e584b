"""What was refused, on the page: by whom, why, and what was said."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support import Served, serve, wait_until

from smtp_blinker import Reject, SMTPServer
from smtp_blinker.smtp import reply
from smtp_blinker.testing.certificate import Certificate
from smtp_blinker.web import create_app, reasons
from smtp_blinker.web.refused import KEPT, REFUSALS


def only_ada(address: Any, session: Any) -> None:
    if address.address != "ada@example.com":
        raise Reject(550, f"No such mailbox: {address.address}", "5.1.1")


class Site:
    """A server, and a client of the page that shows it."""

    def __init__(self, served: Served) -> None:
        self.served = served
        assert isinstance(served.server, SMTPServer)
        self.app = create_app([served.server])
        self.client: FlaskClient = self.app.test_client()

    def get(self, path: str = "") -> Any:
        response = self.client.get(f"/api/refused{path}")
        assert response.status_code == 200, response.text
        return response.get_json()

    def connections(self) -> list[Any]:
        found: list[Any] = self.get()["connections"]
        return found

    def smtp(self) -> smtplib.SMTP:
        port = self.served.server.server_port
        assert port is not None
        return smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=30)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(on_rcpt_to=only_ada, name="mx.test", size=1000) as served:
        site = Site(served)
        yield site
        site.app.extensions["smtp_blinker"].detach()


def send(smtp: smtplib.SMTP, recipient: str = "ada@example.com", text: str = "Hello") -> None:
    smtp.sendmail("bob@example.org", [recipient], f"Subject: hello\r\n\r\n{text}\r\n")


def test_a_refused_command_has_its_reason_and_dialogue(site: Site) -> None:
    with site.smtp() as smtp:
        smtp.ehlo()
        smtp.mail("bob@example.org")
        smtp.docmd("RCPT", "TO:<eve@example.com>")  # smtplib's own case is another in each Python
    [talk] = wait_until(lambda: [talk for talk in site.connections() if talk["ended"]])
    assert talk["host_name_appears_as"] == "client.test"
    assert (talk["remote_address"], talk["ended"], talk["refused"]) == ("127.0.0.1", "quit", 1)
    [refusal] = talk["refusals"]
    assert (refusal["command"], refusal["argument"]) == ("RCPT", "TO:<eve@example.com>")
    assert (refusal["code"], refusal["reply"]) == (550, "No such mailbox: eve@example.com")
    assert "no such mailbox" in refusal["why"]
    lines = [(line["who"], line["text"]) for line in site.get(f"/{talk['id']}")["lines"]]
    asked = lines.index(("client", "RCPT TO:<eve@example.com>"))
    assert lines[asked + 1] == ("server", "550 5.1.1 No such mailbox: eve@example.com")


@pytest.mark.parametrize(
    ("command", "option"), [("AUTH PLAIN", "--accept-any-auth"), ("STARTTLS", "--self-signed")]
)
def test_what_is_not_offered_is_explained_with_what_offers_it(
    site: Site, command: str, option: str
) -> None:
    with site.smtp() as smtp:
        smtp.ehlo()
        smtp.docmd(command)
    [talk] = wait_until(site.connections)
    assert option in talk["refusals"][0]["why"]


def test_a_refused_message_is_there_while_its_connection_is_open(site: Site) -> None:
    with site.smtp() as smtp:
        smtp.ehlo()
        smtp.esmtp_features.pop("size")
        with pytest.raises(smtplib.SMTPDataError):
            send(smtp, text="x" * 2000)
        [talk] = wait_until(site.connections)
        assert talk["ended"] is None
        [refusal] = talk["refusals"]
        assert refusal["command"] == "message"
        assert refusal["argument"] == "<bob@example.org> to <ada@example.com>"
        assert refusal["code"] == 552
        assert "--size" in refusal["why"]
        assert any(
            "octets of a message" in each["text"] for each in site.get(f"/{talk['id']}")["lines"]
        )


def test_what_went_well_is_not_kept(site: Site) -> None:
    with site.smtp() as smtp:
        send(smtp)
    wait_until(lambda: any(name == "disconnect" for name, _ in site.served.events))
    assert site.connections() == []
    refusals = site.app.extensions["smtp_blinker"].refusals
    wait_until(lambda: refusals._open == {})
    assert site.client.get("/api/refused/unknown").status_code == 404


def test_a_handshake_that_failed_is_told(tmp_path: Path) -> None:
    certificate = Certificate()
    with serve(certfile=certificate.certfile, secure=True) as served:
        site = Site(served)
        context = ssl.create_default_context()
        with (
            suppress(ssl.SSLError),
            socket.create_connection(("127.0.0.1", served.server.server_port or 0)) as sock,
        ):
            context.wrap_socket(sock, server_hostname="localhost")
        [talk] = wait_until(site.connections)
        assert talk["refusals"][0]["code"] is None
        assert "certificate" in talk["refusals"][0]["why"]
        site.app.extensions["smtp_blinker"].detach()


def test_memory_is_bounded(site: Site) -> None:
    with site.smtp() as smtp:
        for _ in range(2 * REFUSALS):
            smtp.docmd("RCPT TO:<eve@example.com>")
            smtp.docmd("RSET")
    with site.smtp() as smtp:
        smtp.docmd("VRFY")
    first, second = wait_until(lambda: len(found := site.connections()) == 2 and found)
    assert (first["refused"], second["refused"]) == (1, 2 * REFUSALS)
    assert len(second["refusals"]) == REFUSALS
    assert site.app.extensions["smtp_blinker"].refusals._kept.maxlen == KEPT


def test_the_list_can_be_cleared_and_goes_on(site: Site) -> None:
    with site.smtp() as smtp:
        smtp.docmd("VRFY")
        wait_until(site.connections)
        assert site.client.delete("/api/refused?q=x").status_code == 400
        assert site.client.delete("/api/refused").get_json() == {"deleted": 1}
        assert site.connections() == []
        smtp.docmd("VRFY")
        [talk] = wait_until(site.connections)
        assert talk["refused"] == 1
    assert site.get()["total"] == 2


def test_other_sites_learn_nothing(site: Site) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert site.client.get("/api/refused", headers=headers).status_code == 403
    assert site.client.delete("/api/refused", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply.BARE_NEWLINE, "--lenient"),
        (reply.BINARY, "STARTTLS"),
        (reply.HTTP_NOT_ALLOWED, "browser"),
        (reply.MAIL_FIRST, "order"),
        (reply.TOO_MANY_FROM_ADDRESS, "max_clients_per_ip"),
        (reply.TOO_MANY_ERRORS, "cause"),
        (reply.LOCAL_ERROR, "log"),
        (Reject(530, "Authentication required").reply, "AUTH"),
        (Reject(535, "wrong").reply, "password"),
        (Reject(599, "whatever").reply, "reply says why"),
        (Reject(499, "whatever").reply, "try again later"),
        (reply.NO_ARGUMENT, "what is expected"),
    ],
)
def test_every_refusal_is_explained(answer: reply.Reply, words: str) -> None:
    assert words in reasons.why(answer.code, answer.text)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("HELO", "HELO name"),
        ("EHLO", "HELO name"),
        ("EHLO two words", "may have spaces"),
        ("MAIL FROM:ada@example.com", "angle brackets may be missing"),
        ("RCPT TO:<ada>", "angle brackets may be missing"),
        ("MAIL TO:<ada@example.com>", "MAIL FROM:<>"),
        ("MAIL FROM:<ada@example.com> RET=FULL", "parameters of DSN are ignored"),
        ("MAIL FROM:<ada@example.com> X=Y", "the reply to EHLO offers"),
        ("MAIL FROM:<ad\u00e4@example.com>", "SMTPUTF8"),
        ("LHLO client.example", "Let it speak SMTP"),
        ("VRFY", "what is expected"),
    ],
)
def test_a_mistake_in_a_command_is_explained(site: Site, command: str, words: str) -> None:
    with site.smtp() as smtp:
        if command[0] in "MRV":
            smtp.ehlo("client.example")
        if command.startswith("RCPT"):
            smtp.mail("bob@example.com")
        smtp.command_encoding = "utf-8"
        code, _ = smtp.docmd(command)
        assert code >= 500
    [talk] = wait_until(site.connections)
    assert words in talk["refusals"][0]["why"]
    assert ("angle brackets" in talk["refusals"][0]["why"]) == (words in reasons._ABOUT_PATHS)
