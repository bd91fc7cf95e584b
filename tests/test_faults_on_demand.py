"""Faults on demand: the engine, by the API and by smtp-blinker's options."""

from __future__ import annotations

import json
import smtplib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from flask.testing import FlaskClient
from support import Served, serve
from support.cli import SmtpBlinker, refused

from smtp_blinker.faults import MOST, Faults
from smtp_blinker.web import create_app

Site = tuple[Served, Faults, FlaskClient]


@pytest.fixture
def site() -> Iterator[Site]:
    faults = Faults()
    with serve(
        on_auth=lambda auth, session: "me", auth_optional=True, allow_insecure_auth=True
    ) as served:
        served.server.use(faults, faults.at_auth)
        assert served.server.hooks.on_data is not None
        served.server.on_data(faults.around(served.server.hooks.on_data))
        app = create_app([served.server], faults=faults)
        yield served, faults, app.test_client()
        app.extensions["smtp_blinker"].detach()


def connect(served: Served) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", served.server.server_port or 0, timeout=30)


def code(
    served: Served, recipient: str = "ada@example.com", sender: str = "bob@example.org"
) -> int:
    """The code that ended a message: 250, or of the refusal; 0 for a connection that was lost."""
    try:
        with connect(served) as smtp:
            smtp.sendmail(sender, [recipient], "Subject: x\r\n\r\nHello\r\n")
    except smtplib.SMTPRecipientsRefused as exc:
        return exc.recipients[recipient][0]
    except smtplib.SMTPResponseException as exc:
        return exc.smtp_code if exc.smtp_code > 0 else 0
    except (smtplib.SMTPServerDisconnected, OSError):
        return 0
    return 250


def post(site: Site, **words: str) -> Any:
    response = site[2].post("/api/faults", query_string=words)
    assert response.status_code == 200, response.text
    return response.get_json()


def test_a_recipient_or_a_domain_is_refused_by_the_api(site: Site) -> None:
    served = site[0]
    fault = post(site, do="refuse", recipient="Eve@example.com", code="452", text="full")
    assert fault == {
        "id": 1,
        "do": "refuse",
        "at": ["RCPT"],
        "sender": None,
        "recipient": "eve@example.com",
        "chance": 1.0,
        "times": None,
        "code": 452,
        "text": "full",
    }
    assert (code(served, "EVE@example.com"), code(served)) == (452, 250)
    post(site, do="refuse", recipient="@example.net")
    assert (code(served, "x@example.net"), code(served)) == (550, 250)
    assert [each["id"] for each in site[2].get("/api/faults").get_json()["faults"]] == [1, 2]


def test_a_sender_is_refused_at_mail(site: Site) -> None:
    post(site, do="refuse", sender="bob@example.org", code="451")
    assert code(site[0]) == 451
    assert code(site[0], sender="ann@example.org") == 250


def test_a_fault_goes_when_its_times_are_over_or_it_is_removed(site: Site) -> None:
    served, _, client = site
    post(site, do="refuse", times="2", code="450")
    assert [code(served) for _ in range(3)] == [450, 450, 250]
    fault = post(site, do="refuse")
    assert client.delete(f"/api/faults/{fault['id']}").get_json() == {"deleted": 1}
    assert client.delete(f"/api/faults/{fault['id']}").status_code == 404
    post(site, do="refuse")
    assert client.delete("/api/faults").get_json() == {"deleted": 1}
    assert code(served) == 250


def test_chance_is_how_often(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    post(site, do="refuse", chance="0.5")
    numbers = iter([0.4, 0.6, 0.1])
    monkeypatch.setattr("random.random", lambda: next(numbers))
    assert [code(site[0]) for _ in range(3)] == [550, 250, 550]


def test_answers_are_slow(site: Site) -> None:
    post(site, do="delay", seconds="0.3", at="content")
    began = monotonic()
    assert code(site[0]) == 250
    assert monotonic() - began >= 0.3


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT"])
def test_the_connection_is_dropped_without_a_word(site: Site, stage: str) -> None:
    served = site[0]
    post(site, do="drop", at=stage, times="1")
    assert code(served) == 0
    assert served.messages == []
    assert code(served) == 250
    assert len(served.messages) == 1


def test_a_message_is_refused_after_its_content(site: Site) -> None:
    post(site, do="refuse", at="CONTENT", sender="bob@example.org", code="554")
    assert code(site[0]) == 554
    assert site[0].messages == []


def test_a_login_is_refused(site: Site) -> None:
    post(site, do="refuse", at="AUTH", code="454")
    with connect(site[0]) as smtp, pytest.raises(smtplib.SMTPAuthenticationError, match="454"):
        smtp.login("me", "secret")


def test_auth_is_not_offered_because_it_could_fail() -> None:
    faults = Faults()
    with serve() as served:
        served.server.use(faults)
        with connect(served) as smtp:
            smtp.ehlo()
            assert not smtp.has_extn("auth")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({}, "do takes refuse, delay, drop"),
        ({"do": "explode"}, "do takes refuse, delay, drop"),
        ({"do": "refuse", "code": "200"}, "400 to 599"),
        ({"do": "refuse", "code": "x"}, "code takes a number"),
        ({"do": "refuse", "at": "EHLO"}, "drop the connection"),
        ({"do": "refuse", "at": "LUNCH"}, "not one of CONNECT"),
        ({"do": "refuse", "seconds": "1"}, "refuse takes code, text, at"),
        ({"do": "refuse", "recipient": "a@b.example", "at": "MAIL"}, "at RCPT"),
        ({"do": "refuse", "sender": "a@b.example", "at": "CONNECT"}, "from MAIL on"),
        ({"do": "delay"}, "needs seconds"),
        ({"do": "delay", "seconds": "-1"}, "0 to 3600"),
        ({"do": "delay", "seconds": "nan"}, "0 to 3600"),
        ({"do": "drop", "chance": "0"}, "more than 0"),
        ({"do": "drop", "times": "0"}, "at least 1"),
        ({"do": "drop", "colour": "red"}, "unknown here"),
    ],
)
def test_what_can_not_be_meant_is_said(site: Site, words: dict[str, str], says: str) -> None:
    response = site[2].post("/api/faults", query_string=words)
    assert response.status_code == 400
    assert says in response.get_json()["error"]
    assert site[1].all == []


def test_there_are_not_endlessly_many() -> None:
    faults = Faults()
    for _ in range(MOST):
        faults.drop()
    with pytest.raises(ValueError, match="already"):
        faults.drop()


def test_other_sites_and_pages_that_do_not_allow_it_can_not_add_one(site: Site) -> None:
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}):
        assert site[2].post("/api/faults?do=drop", headers=headers).status_code == 403
    assert site[1].all == []
    app = create_app([site[0].server])
    for method in ("GET", "POST", "DELETE"):
        response = app.test_client().open("/api/faults", method=method)
        assert response.status_code == 404
        assert "--faults" in response.get_json()["error"]
    assert 'id="nav-faults"' not in app.test_client().get("/").text
    app.extensions["smtp_blinker"].detach()


def test_smtp_blinker_fails_on_demand(tmp_path: Path) -> None:
    options = ("--faults", "--fault", "refuse recipient=eve@example.com code=451 text='try later'")
    with SmtpBlinker(tmp_path, "-l", "127.0.0.1:0", "--http", "127.0.0.1:0", *options) as server:
        assert any("fails on demand" in line for line in server.said)
        with server.client() as client, pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["eve@example.com"], "Subject: x\n\nx\n")
        page = next(line.split()[2] for line in server.said if line.startswith("Web page:"))
        url = f"{page}api/faults"
        [fault] = json.load(urllib.request.urlopen(url))["faults"]
        assert fault["text"] == "try later"
        added = urllib.request.Request(f"{url}?do=refuse&at=MAIL&times=1", method="POST")
        urllib.request.urlopen(added).close()
        with server.client() as client, pytest.raises(smtplib.SMTPSenderRefused):
            client.sendmail("a@example.org", ["ada@example.com"], "Subject: x\n\nx\n")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--fault", "explode"), "a fault begins with refuse, delay or drop, not 'explode'"),
        (("--fault", "refuse 451"), "NAME=VALUE"),
        (("--faults", "--http", "off"), "--fault"),
    ],
)
def test_options_that_can_not_be_meant_are_said(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    assert says in refused(tmp_path, "-l", "127.0.0.1:0", *options)


def test_faults_and_their_texts_can_be_in_the_environment(tmp_path: Path) -> None:
    faults = """'refuse recipient=eve@example.com code=451 text="try later"' 'drop at=CONTENT'"""
    options = ("-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--faults")
    with SmtpBlinker(tmp_path, *options, SMTP_BLINKER_FAULT=faults) as server:
        page = f"http://127.0.0.1:{server.http_port}/"
        refuse, drop = json.load(urllib.request.urlopen(f"{page}api/faults"))["faults"]
        assert (refuse["do"], refuse["text"]) == ("refuse", "try later")
        assert (drop["do"], drop["at"]) == ("drop", ["CONTENT"])


def test_a_fault_without_quotes_in_the_environment_gets_a_hint(tmp_path: Path) -> None:
    said = refused(tmp_path, "-l", "127.0.0.1:0", SMTP_BLINKER_FAULT="refuse code=451")
    assert "--fault (from SMTP_BLINKER_FAULT): a fault begins with refuse" in said
    assert said.endswith("in the environment, put each fault in quotes")
