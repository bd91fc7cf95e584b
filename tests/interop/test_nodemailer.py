"""nodemailer, installed from npm once into a cache folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import HOST, Served, program, succeed

from smtp_blinker import DEFAULT_EXTENSIONS, AuthenticationFailed, Reject

from .names import PASSWORD, TOKEN, USER, Certificates, on_auth
from .npm import node_modules

Serve = Callable[..., Served]
Send = Callable[..., list[dict[str, Any]]]

HERE = Path(__file__).resolve().parent
MESSAGE = {
    "from": "a@example.org",
    "to": "b@example.com",
    "subject": "Grüße",
    "text": ".\n..two\ncafé\n",
}


@pytest.fixture(scope="session")
def modules() -> Path:
    """The node_modules that hold nodemailer."""
    return node_modules(HERE / "nodemailer" / "package.json")


@pytest.fixture
def send(modules: Path) -> Send:
    node = program("node", "nodejs")

    def go(
        served: Served, *messages: dict[str, Any], in_turn: bool = False, **transport: Any
    ) -> list[dict[str, Any]]:
        where = {"host": "localhost", "port": served.port, "name": "client.example"}
        if "ca" in transport:
            transport["tls"] = {"ca": transport.pop("ca").read_text()}
        job = {
            "transport": {**where, **transport},
            "messages": messages or [MESSAGE],
            "inTurn": in_turn,
        }
        outcomes: list[dict[str, Any]] = json.loads(
            succeed(
                node,
                HERE / "nodemailer" / "send.js",
                stdin=json.dumps(job),
                NODE_PATH=str(modules),
                NODE_OPTIONS="--dns-result-order=ipv4first",
            )
        )
        return outcomes

    return go


def test_nodemailer_delivers(serve: Serve, send: Send) -> None:
    served = serve(size=100_000)
    (outcome,) = send(served, {**MESSAGE, "cc": "c@example.com"})
    assert outcome["accepted"] == ["b@example.com", "c@example.com"]
    assert outcome["response"] == "250 2.0.0 queued as 1"
    mail = served.mail
    assert mail.rcpt_to == ["b@example.com", "c@example.com"]
    assert mail.session.host_name_appears_as == "client.example"
    assert b"caf=C3=A9" in mail.body


def test_nodemailer_sends_raw_content(serve: Serve, send: Send) -> None:
    served = serve()
    raw = "Subject: raw\r\n\r\n.\r\n..two\r\ncafé\r\n" * 2000
    send(served, {"envelope": {"from": "", "to": ["b@example.com"]}, "raw": raw})
    assert served.mail.content == raw.encode()
    assert served.mail.mail_from == ""


def test_nodemailer_keeps_a_pool_of_connections(serve: Serve, send: Send) -> None:
    served = serve()
    messages = [{**MESSAGE, "subject": f"number {number}"} for number in range(60)]
    outcomes = send(served, *messages, pool=True, maxConnections=3, maxMessages=10)
    assert [outcome["accepted"] for outcome in outcomes] == [["b@example.com"]] * 60
    assert len(served.messages) == 60
    # Each connection of the pool is used for ten messages and then replaced.
    assert 6 <= len(served.of("connect")) <= 9


def test_nodemailer_upgrades_with_starttls(
    serve: Serve, send: Send, certificates: Certificates
) -> None:
    served = serve(**certificates.options)
    (outcome,) = send(served, requireTLS=True, ca=certificates.ca)
    assert outcome["accepted"] == ["b@example.com"]
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.servername == "localhost"


def test_nodemailer_speaks_tls_from_the_first_octet(
    serve: Serve, send: Send, certificates: Certificates
) -> None:
    served = serve(secure=True, **certificates.options)
    (outcome,) = send(served, secure=True, ca=certificates.ca)
    assert outcome["accepted"] == ["b@example.com"]
    assert served.mail.transmission_type == "ESMTPS"


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_nodemailer_authenticates(
    serve: Serve, send: Send, certificates: Certificates, method: str
) -> None:
    served = serve(
        auth_methods=["PLAIN", "LOGIN", "CRAM-MD5"], on_auth=on_auth, **certificates.options
    )
    how = {"ca": certificates.ca, "authMethod": method}
    (good,) = send(served, **how, auth={"user": USER, "pass": PASSWORD})
    (bad,) = send(served, **how, auth={"user": USER, "pass": "wrong"})
    assert good["accepted"] == ["b@example.com"]
    assert (bad["code"], bad["responseCode"]) == ("EAUTH", 535)
    assert served.mail.session.user == USER
    assert [(event.method, event.success) for event in served.of("auth")] == [
        (method, True),
        (method, False),
    ]


def test_nodemailer_authenticates_with_a_token(serve: Serve, send: Send) -> None:
    def ask(auth: Any, session: Any) -> str | None:
        user = on_auth(auth, session)
        if user is None:
            raise AuthenticationFailed(data={"status": "400", "schemes": "Bearer"})
        return user

    served = serve(auth_methods=["XOAUTH2"], on_auth=ask)
    oauth = {"type": "OAuth2", "user": USER}
    (good,) = send(served, auth={**oauth, "accessToken": TOKEN})
    (bad,) = send(served, auth={**oauth, "accessToken": "expired"})
    assert good["accepted"] == ["b@example.com"]
    assert (bad["code"], bad["responseCode"]) == ("EAUTH", 535)
    assert served.mail.session.user == USER
    # It makes a second attempt, in case that a new token helps.
    assert [event.success for event in served.of("auth")] == [True, False, False]


def test_nodemailer_asks_for_delivery_notifications(serve: Serve, send: Send) -> None:
    served = serve(extensions=DEFAULT_EXTENSIONS | {"DSN"})
    wish = {
        "id": "id 1+",
        "return": "headers",
        "notify": ["failure", "delay"],
        "recipient": "b@example.com",
    }
    (outcome,) = send(served, {**MESSAGE, "dsn": wish})
    assert outcome["accepted"] == ["b@example.com"]
    envelope = served.mail.envelope
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "id 1+")
    recipient = envelope.rcpt_to[0].dsn
    assert recipient.notify == ("FAILURE", "DELAY")
    assert recipient.orcpt == "rfc822;b@example.com"


def test_nodemailer_sends_internationalised_mail(serve: Serve, send: Send) -> None:
    served = serve()
    (outcome,) = send(served, {**MESSAGE, "to": "用户@example.com"})
    assert outcome["accepted"] == ["用户@example.com"]
    assert served.mail.envelope.smtputf8


def test_nodemailer_learns_which_recipients_were_refused(serve: Serve, send: Send) -> None:
    def on_rcpt_to(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "no such user", enhanced="5.1.1")

    served = serve(on_rcpt_to=on_rcpt_to, size=10_000)
    some, none, large = send(
        served,
        {**MESSAGE, "to": "no@example.com, b@example.com"},
        {**MESSAGE, "to": "no@example.com"},
        {**MESSAGE, "text": "x" * 20_000},
        in_turn=True,
        pool=True,
        maxConnections=1,
    )
    assert (some["accepted"], some["rejected"]) == (["b@example.com"], ["no@example.com"])
    assert (none["code"], none["responseCode"]) == ("EENVELOPE", 550)
    assert large["responseCode"] == 552
    assert served.mail.rcpt_to == ["b@example.com"]


def test_nodemailer_speaks_lmtp(serve: Serve, send: Send) -> None:
    served = serve(lmtp=True)
    (outcome,) = send(served, host=HOST, lmtp=True)
    assert outcome["accepted"] == ["b@example.com"]
    assert served.mail.transmission_type == "LMTP"
