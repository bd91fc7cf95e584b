"""The web page: its API, what it makes of hostile mail, and who may ask it for anything."""

from __future__ import annotations

import base64
import io
import itertools
import json
import os
import re
import shutil
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from http.client import HTTPException
from pathlib import Path
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from gevent.pywsgi import WSGIServer
from support import SECONDS, Certificate, serve
from support.page import PNG, TRACE, Folder, ask, plain, subjects

from smtp_blinker import Address, Session, SMTPServer, signals, web
from smtp_blinker.signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
)
from smtp_blinker.stores import MaildirStore, SpoolStore, Unavailable
from smtp_blinker.trace import Trace
from smtp_blinker.web import create_app
from smtp_blinker.web.inbox import Inbox, Keep
from smtp_blinker.web.live import KEPT, Feed, Item, Series
from smtp_blinker.web.reader import mime
from smtp_blinker.web.reader.entry import Entry
from smtp_blinker.web.reader.frames import Frame
from smtp_blinker.web.reader.part import MAX_NAME, clean_name
from smtp_blinker.web.reader.query import select


class FakeServer:
    """All that the page knows of a server."""

    def __init__(self) -> None:
        self.started = True
        self.address = ("127.0.0.1", 2525)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(folder: Folder, server: FakeServer) -> Iterator[FlaskClient]:
    app = create_app([server], folder.path)
    yield app.test_client()
    app.extensions["smtp_blinker"].detach()


def rich() -> bytes:
    message = EmailMessage()
    message["From"] = "Shop <shop@example.org>"
    message["To"] = "Ada <ada@example.com>"
    message["Cc"] = "cc@example.com"
    message["Subject"] = "Grüße 📦"
    message.set_content("Plain words, see https://example.org/plain .")
    message.add_alternative(
        '<p>Rich <b>words</b></p><img src="cid:pic@x"><a href="https://example.org/rich">go</a>'
        '<img src="https://tracker.example/p.gif">',
        subtype="html",
    )
    html = message.get_payload()[1]  # type: ignore[index]
    html.add_related(PNG, "image", "png", cid="<pic@x>")  # type: ignore[union-attr]
    message.add_attachment(
        b"%PDF", maintype="application", subtype="pdf", filename="../x/Größe\u202e.pdf"
    )
    return TRACE + message.as_bytes()


# The list


def test_messages_are_listed_newest_first(client: FlaskClient, folder: Folder) -> None:
    folder.put(plain("middle"), at=1_700_000_100)
    folder.put(plain("newest"), at=1_700_000_200)
    folder.put(plain("oldest"), at=1_700_000_000, flags="S")
    answer = ask(client, "/api/messages")
    assert [message["subject"] for message in answer["messages"]] == ["newest", "middle", "oldest"]
    assert [message["unread"] for message in answer["messages"]] == [True, True, False]
    assert (answer["total"], answer["matching"], answer["unread"]) == (3, 3, 2)


def test_an_empty_or_missing_maildir_is_an_empty_inbox(tmp_path: Path) -> None:
    client = create_app([FakeServer()], tmp_path / "nothing").test_client()
    assert ask(client, "/api/messages")["messages"] == []


def test_a_page_begins_at_offset_and_has_at_most_limit(client: FlaskClient, folder: Folder) -> None:
    for number in range(7):
        folder.put(plain(f"m{number}"))
    assert subjects(client, limit=3) == ["m6", "m5", "m4"]
    assert subjects(client, limit=3, offset=6) == ["m0"]
    assert subjects(client, offset=7) == []
    assert subjects(client, limit=-1, offset=-5) == []
    assert len(subjects(client, limit="many", offset="some")) == 7


def test_a_page_is_complete_before_all_messages_were_looked_into(
    client: FlaskClient, folder: Folder
) -> None:
    for number in range(5):
        folder.put(plain(f"m{number}"))
    answer = ask(client, "/api/messages?within=0&limit=2")
    assert [message["subject"] for message in answer["messages"]] == ["m4", "m3"]
    assert answer["pending"] > 0
    assert ask(client, "/api/messages")["pending"] == 0


def test_mail_that_comes_and_goes_is_noticed(client: FlaskClient, folder: Folder) -> None:
    folder.put(plain("one"))
    assert subjects(client) == ["one"]
    id = folder.put(plain("two"))
    assert subjects(client) == ["two", "one"]
    (folder.path / "new" / id).unlink()
    assert subjects(client) == ["one"]


def test_a_message_that_another_program_read_stays_the_same_message(
    client: FlaskClient, folder: Folder
) -> None:
    id = folder.put(plain())
    assert ask(client, f"/api/messages/{id}")["unread"]
    os.rename(folder.path / "new" / id, folder.path / "cur" / f"{id}:2,RS")
    # Found even by a page that hasn't heard of it yet.
    assert ask(client, f"/api/messages/{id}")["subject"] == "hello"
    assert ask(client, "/api/messages")["unread"] == 0


def test_what_is_no_message_is_left_alone(client: FlaskClient, folder: Folder) -> None:
    (folder.path / "new" / ".hidden").write_bytes(b"x")
    (folder.path / "new" / "folder").mkdir()
    os.mkfifo(folder.path / "new" / "1.fifo")
    (folder.path / "new" / "1.link").symlink_to("/etc/passwd")
    assert subjects(client) == []


def test_a_name_that_is_no_text_is_left_alone(client: FlaskClient, folder: Folder) -> None:
    (folder.path / "new" / os.fsdecode(b"1.\xff")).write_bytes(plain("odd"))
    folder.put(plain("fine"))
    assert subjects(client) == ["fine"]


def test_a_maildir_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"")
    app = create_app((), tmp_path)
    response = app.test_client().get("/api/messages")
    app.extensions["smtp_blinker"].detach()
    assert response.status_code == 503
    assert response.get_json() == {"error": "the Maildir can't be used: Not a directory"}


def test_a_missing_message_is_404(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain())
    for path in ("x", "..%2f..%2fetc%2fpasswd", "%2e%2e", "1.link"):
        for rest in ("", "/html", "/raw", "/source", "/parts/0"):
            response = client.get(f"/api/messages/{path}{rest}")
            assert response.status_code == 404
    assert client.get(f"/api/messages/{id}/parts/7").status_code == 404
    assert client.get(f"/api/messages/{id}/html").status_code == 404
    assert client.get("/api/messages/x").get_json() == {"error": "there is no such message"}


def test_waiting_answers_when_the_mail_has_come(client: FlaskClient, folder: Folder) -> None:
    gevent.spawn_later(0.05, folder.put, plain("your code is 1234"))
    answer = ask(client, f"/api/messages?q=subject:code&wait={SECONDS}")
    assert answer["messages"][0]["subject"] == "your code is 1234"
    assert ask(client, "/api/messages?q=nothing&wait=0.01")["messages"] == []
    assert ask(client, "/api/messages?q=nothing&wait=nan")["messages"] == []


# Search


def test_search_finds_sender_recipient_subject_and_text(
    client: FlaskClient, folder: Folder
) -> None:
    folder.put(plain("first", "about apples\n", From="Ann <ann@example.org>"))
    folder.put(plain("second", "about pears\n", To="eve@example.com"))
    folder.put(rich(), flags="S")
    for query, found in {
        "": ["Grüße 📦", "second", "first"],
        "ABOUT": ["second", "first"],
        "about pears": ["second"],
        '"about pears"': ["second"],
        '"pears about"': [],
        "ann@": ["first"],
        "from:ann": ["first"],
        "from:eve": [],
        "to:eve": ["second"],
        "to:hidden@example.com": ["Grüße 📦"],  # only in the envelope
        "to:cc@example.com": ["Grüße 📦"],
        "subject:GRÜSSE": ["Grüße 📦"],
        "text:words": ["Grüße 📦"],
        "größe": ["Grüße 📦"],  # the name of an attachment
        "has:attachment": ["Grüße 📦"],
        "-has:attachment": ["second", "first"],
        "is:read": ["Grüße 📦"],
        "is:unread": ["second", "first"],
        "about -pears": ["first"],
        "-about": ["Grüße 📦"],
        "nothing": [],
        "\x00": [],
    }.items():
        assert subjects(client, q=query) == found, query


def test_search_compares_sizes_and_days(client: FlaskClient, folder: Folder) -> None:
    folder.put(plain("small"), at=1_764_288_000)  # 2025-11-28
    folder.put(plain("large", "x" * 20_000), at=1_764_374_400)
    assert subjects(client, q="larger:10k") == ["large"]
    assert subjects(client, q="smaller:10K") == subjects(client, q="-larger:10k") == ["small"]
    assert subjects(client, q="after:2025-11-29") == ["large"]
    assert subjects(client, q="before:2025-11-29") == ["small"]
    assert subjects(client, q="after:2025-11-28 before:2025-11-30") == ["large", "small"]
    for wrong in ("larger:x", "-larger:x", "after:2025-13-01", "-before:yesterday", "larger:"):
        assert subjects(client, q=wrong) == []
        if wrong[-1] != ":":
            assert client.delete(f"/api/messages?q={wrong}").status_code == 400


def test_search_finds_copies_and_ids(client: FlaskClient, folder: Folder) -> None:
    folder.put(plain("one", Cc="Carol <carol@example.net>", **{"Message-ID": "<1@example.org>"}))
    folder.put(plain("two", "carol@example.net <1@example.org>"))
    assert subjects(client, q="cc:carol") == subjects(client, q="message-id:1@example") == ["one"]
    assert subjects(client, q="1@example.org") == ["two", "one"]


def test_search_finds_header_fields_where_they_are_asked_for(
    client: FlaskClient, folder: Folder
) -> None:
    folder.put(plain("first", **{"X-Campaign": "Spring Sale", "Reply-To": "desk@example.org"}))
    folder.put(plain("second", **{"X-Campaign": "autumn", "X-Long": "x" * 5000}))
    for query, found in (
        ("header:x-campaign", ["second", "first"]),
        ('header:"x-campaign: spring"', ["first"]),
        ("header:reply-to", ["first"]),
        ("-header:spring", ["second"]),
        ("autumn", []),  # only where it is asked for
    ):
        assert subjects(client, q=query) == found, query
    answer = ask(client, "/api/messages")
    assert [message["cut"] for message in answer["messages"]] == [True, False]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("form:bob", "form: is not a place to search; it was looked for as text"),
        ("is:unraed", "is: takes unread or read"),
        ("larger:big", "larger: takes a size as 10k"),
        ("before:now", "before: takes a day as 2026-11-28"),
        ("from:bob", None),
        ('"form:bob"', None),
        ("re: x", None),
        ("", None),
    ],
)
def test_a_search_that_may_be_a_mistake_is_said(
    client: FlaskClient, query: str, says: str | None
) -> None:
    assert ask(client, "/api/messages", query_string={"q": query})["hint"] == says


def test_a_query_without_end_is_cut_off() -> None:
    message = Entry("id", "path", 0.0, True, words="a")
    assert select("a " * 100_000 + "zzz", [message]) == [message]


def test_html_without_text_is_searched_without_its_tags(
    client: FlaskClient, folder: Folder
) -> None:
    folder.put(
        b"Subject: h\nContent-Type: text/html\n\n<style>div{}</style><script>secret()</script>"
        b"<p class=marker>one&nbsp;&amp; two</p><!-- note --><p>three"
    )
    assert subjects(client, q='"& two"') == ["h"]
    for query in ("marker", "secret", "note", "div"):
        assert subjects(client, q=query) == []


# Reading


def test_a_message_shows_its_parts_envelope_and_session(
    client: FlaskClient, folder: Folder
) -> None:
    id = folder.put(rich())
    message = ask(client, f"/api/messages/{id}")
    assert message["subject"] == "Grüße 📦"
    assert message["from"] == "Shop <shop@example.org>"
    assert message["cc"] == "cc@example.com"
    assert message["text"].startswith("Plain words")
    assert not message["text_from_html"]
    assert message["html"]
    assert message["remote_content"]
    assert message["links"] == ["https://example.org/rich", "https://example.org/plain"]
    assert message["envelope"] == {
        "mail_from": "bounce@example.org",
        "rcpt_to": ["ada@example.com", "hidden@example.com"],
    }
    session = message["session"]
    assert session["helo"] == "client.example"
    assert session["hostname"] == "host.example.org"
    assert session["address"] == "192.0.2.1"
    assert session["protocol"] == "ESMTPSA"
    assert session["tls"] == "TLSv1.3"
    assert ["Subject", "Grüße 📦"] in message["headers"]
    attached = [part["filename"] for part in message["parts"] if part["attachment"]]
    assert attached == ["Größe.pdf"]  # the picture belongs to the HTML


def test_what_the_store_writes_is_what_is_shown(tmp_path: Path) -> None:
    """End to end: a client's message through the server and the store to the API."""
    with serve(on_data=MaildirStore(tmp_path / "M", "mx.example.com")) as served:
        client = create_app([served.server], tmp_path / "M").test_client()
        with served.hello() as smtp:
            smtp.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
            smtp.replies(3)
            assert smtp.cmd(b"Subject: through\r\n\r\nHello\r\n.").code == 250
            answer = ask(client, "/api/messages?q=through")
            message = ask(client, f"/api/messages/{answer['messages'][0]['id']}")
            assert message["envelope"] == {
                "mail_from": "a@example.org",
                "rcpt_to": ["b@example.com"],
            }
            assert message["session"]["helo"] == "client.example"
            assert message["session"]["address"] == "127.0.0.1"
            assert message["session"]["recipient"] == "b@example.com"
            live = ask(client, "/api/live")
            assert live["open"] == 1
            assert live["connections"][0]["messages"] == 1
            assert live["totals"]['smtp_messages_total{code="250"}'] == 1


def test_trace_fields_of_the_sender_are_not_the_envelope() -> None:
    forged = TRACE + b"Delivered-To: forged@example.com\nReceived: from liar by liar with SMTP; x\n"
    trace = mime.parse(forged).trace
    assert trace.rcpt_to == ("ada@example.com", "hidden@example.com")
    assert trace.received is not None
    assert trace.received.helo == "client.example"
    trace = mime.parse(b"Subject: x\nReturn-Path: <liar@example.org>\n\n").trace
    assert trace == Trace(None, (), None, 0)


def test_raw_and_source_are_the_octets_that_are_stored(client: FlaskClient, folder: Folder) -> None:
    content = plain("a/b\\c") + b"\xff\x00 end\n"
    id = folder.put(content)
    raw = client.get(f"/api/messages/{id}/raw")
    assert raw.data == content
    assert raw.headers["Content-Disposition"] == (
        "attachment; filename=\"a-b-c.eml\"; filename*=UTF-8''a-b-c.eml"
    )
    source = client.get(f"/api/messages/{id}/source")
    assert source.content_type == "text/plain; charset=utf-8"
    assert source.text.startswith("From: Bob")


def test_attachments_are_downloaded_and_never_shown(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(rich())
    parts = ask(client, f"/api/messages/{id}")["parts"]
    number = next(part["number"] for part in parts if part["filename"] == "Größe.pdf")
    response = client.get(f"/api/messages/{id}/parts/{number}?inline")
    assert response.data == b"%PDF"
    assert response.content_type == "application/pdf"
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    html = folder.put(b"Content-Type: text/html; name=x.html\n\n<script>alert(1)</script>")
    response = client.get(f"/api/messages/{html}/parts/0?inline")
    assert (response.text, response.content_type) == (
        "<script>alert(1)</script>",
        "text/plain; charset=utf-8",
    )
    assert response.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    response = client.get(f"/api/messages/{html}/parts/0")
    assert response.headers["Content-Disposition"].endswith("; filename*=UTF-8''x.html")


def test_a_content_type_is_one_or_nothing_is_said(client: FlaskClient, folder: Folder) -> None:
    for content_type in (
        b"text/pl\x01ain",
        b"image/png\x0bx",
        b"text/html\x00",
        b"a/\xff",
    ):
        id = folder.put(b"Content-Type: " + content_type + b"\n\n<script>")
        response = client.get(f"/api/messages/{id}/parts/0?inline")
        assert response.content_type == "text/plain; charset=utf-8"  # RFC 2045 section 5.2
        response = client.get(f"/api/messages/{id}/parts/0")
        assert response.content_type == "text/plain"
        assert response.headers["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("content_type", "name"),
    [
        ("text/calendar", "part-0.ics"),
        ("message/rfc822", "part-0.eml"),
        ("application/pdf", "part-0.pdf"),
        ("audio/mpeg", "part-0.mp3"),
        ("a/b", "part-0"),
    ],
)
def test_a_part_without_a_name_is_saved_under_one(
    client: FlaskClient, folder: Folder, content_type: str, name: str
) -> None:
    id = folder.put(f"Content-Type: {content_type}\n\nx".encode())
    disposition = client.get(f"/api/messages/{id}/parts/0").headers["Content-Disposition"]
    assert disposition == f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"


def test_a_name_is_also_there_for_programs_that_know_ascii_only(
    client: FlaskClient, folder: Folder
) -> None:
    id = folder.put(b"Content-Type: a/b; name*=utf-8''%C3%A4%22x.pdf\n\nx")
    disposition = client.get(f"/api/messages/{id}/parts/0").headers["Content-Disposition"]
    plain = disposition.split("; ")[1].removeprefix("filename=")
    assert plain == '"_x.pdf"'
    assert disposition.endswith("; filename*=UTF-8''%C3%A4x.pdf")


@pytest.mark.parametrize(
    "content_type", ["text/javascript", "application/x-JavaScript", "text/css"]
)
def test_no_attachment_is_a_script_or_style_of_the_page(
    client: FlaskClient, folder: Folder, content_type: str
) -> None:
    id = folder.put(f"Content-Type: {content_type}\n\nalert(1)".encode())
    response = client.get(f"/api/messages/{id}/parts/0")
    assert response.content_type == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_only_pictures_are_shown_in_place(client: FlaskClient, folder: Folder) -> None:
    for content_type, shown in {"image/png": True, "image/svg+xml": False}.items():
        id = folder.put(
            f"Content-Type: {content_type}\nContent-Transfer-Encoding: base64\n\n".encode()
            + base64.b64encode(PNG)
        )
        response = client.get(f"/api/messages/{id}/parts/0?inline")
        assert response.data == PNG
        assert ("Content-Disposition" not in response.headers) is shown


def test_html_is_served_for_a_sandbox_with_its_own_pictures(
    client: FlaskClient, folder: Folder
) -> None:
    response = client.get(f"/api/messages/{folder.put(rich())}/html")
    policy = response.headers["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-popups allow-popups-to-escape-sandbox; ")
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in policy
    assert "script" not in policy
    assert response.content_type == "text/html; charset=utf-8"
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in response.text
    assert "cid:" not in response.text


def test_html_loses_what_no_policy_forbids(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(
        b"Content-Type: text/html\n\n<LINK rel=preconnect href=//evil.example>"
        b"<li<link>nk rel=preconnect href=//evil.example><meta http-equiv=refresh content=0>"
        b"<base href=//evil.example><iframe src=//evil.example></iframe><FRAME src=//evil.example>"
    )
    text = client.get(f"/api/messages/{id}/html").text
    assert not re.search(r"<(link|meta|i?frame)\b", text, re.IGNORECASE)
    assert re.findall(r"<base[^>]*>", text) == ['<base target="_blank">']


def test_remote_pictures_are_allowed_only_on_demand(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(rich())
    for images, allowed in {"": False, "remote": True, "x": False}.items():
        response = client.get(f"/api/messages/{id}/html?images={images}")
        policy = response.headers["Content-Security-Policy"]
        assert ("img-src data: http: https:" in policy) is allowed
        assert "script" not in policy


def test_links_that_could_run_something_are_not_listed(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(
        b"Content-Type: text/html\n\n<a href='javascript:alert(1)'>a</a><a href=data:text/html,x>b"
        b"</a><a href=' JaVaScRiPt:alert(1)'>c</a><a href='https://ok.example/?a=1&amp;b=2'>d</a>"
        b"<a href=mailto:x@example.org>e</a><a href=''>f</a>"
    )
    assert ask(client, f"/api/messages/{id}")["links"] == [
        "https://ok.example/?a=1&b=2",
        "mailto:x@example.org",
    ]


def test_what_is_wrong_with_a_message_is_told(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain(text="Click http://localhost:3000/confirm\n"))
    assert ask(client, f"/api/messages/{id}")["checks"] == [
        "There is no Date field.",
        "There is no Message-ID field.",
        "A link leads to the reader's own machine: http://localhost:3000/confirm",
    ]


# Flags and deletion


def test_seen_is_the_flag_of_the_maildir(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain())
    assert ask(client, f"/api/messages/{id}/seen", "PUT") == {"changed": 1}
    assert folder.files() == [f"cur/{id}:2,S"]
    assert ask(client, f"/api/messages/{id}/seen", "PUT") == {"changed": 0}
    assert not ask(client, "/api/messages")["messages"][0]["unread"]
    assert ask(client, f"/api/messages/{id}/seen", "DELETE") == {"changed": 1}
    assert folder.files() == [f"cur/{id}:2,"]
    assert ask(client, "/api/messages")["messages"][0]["unread"]


def test_other_flags_are_kept(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain(), flags="FR")
    ask(client, f"/api/messages/{id}/seen", "PUT")
    assert folder.files() == [f"cur/{id}:2,FRS"]


def test_looking_changes_nothing(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(rich())
    before = folder.files()
    for path in ("", f"/{id}", f"/{id}/html", f"/{id}/raw", f"/{id}/source", f"/{id}/parts/2"):
        assert client.get(f"/api/messages{path}").status_code == 200
    assert folder.files() == before


def test_all_or_those_found_are_marked_at_once(client: FlaskClient, folder: Folder) -> None:
    for subject in ("a", "b", "b"):
        folder.put(plain(subject))
    assert ask(client, "/api/messages/seen?q=subject:b", "PUT") == {"changed": 2}
    assert ask(client, "/api/messages/seen", "PUT") == {"changed": 1}


def test_one_message_is_deleted(client: FlaskClient, folder: Folder) -> None:
    folder.put(plain("stays"))
    id = folder.put(plain("goes"))
    assert ask(client, f"/api/messages/{id}", "DELETE") == {"deleted": 1}
    assert subjects(client) == ["stays"]
    assert len(folder.files()) == 1
    assert client.delete(f"/api/messages/{id}").status_code == 404


def test_those_found_or_all_are_deleted(client: FlaskClient, folder: Folder) -> None:
    for subject in ("a", "b", "b"):
        folder.put(plain(subject))
    assert ask(client, "/api/messages?q=subject:b", "DELETE") == {"deleted": 2}
    assert subjects(client) == ["a"]
    assert ask(client, "/api/messages", "DELETE") == {"deleted": 1}
    assert folder.files() == []


# Hostile mail

BOUNDARY = b"Content-Type: multipart/mixed; boundary=b%d\n\n"
HOSTILE = {
    "empty": b"",
    "a line end": b"\n",
    "a CR": b"\r",
    "no header": b"just text\nand more\n",
    "no body": b"Subject: x",
    "NULs": b"Subject: a\x00b\n\n\x00\x01\x02",
    "every octet": bytes(range(256)) * 10,
    "unknown charset": b"Subject: =?nope?q?x?=\nContent-Type: text/plain; charset=nope\n\n\xff",
    "no charset": b"Content-Type: text/plain; charset=hex\n\nff",
    "slow charset": b"Content-Type: text/plain; charset=punycode\n\n" + b"a-b9c" * 100_000,
    "charset with a NUL": b"Content-Type: text/plain; charset*=utf-8''a%00b\n\nx",
    "not base64": b"Content-Transfer-Encoding: base64\n\n=!!a===b",
    "not quoted-printable": b"Content-Transfer-Encoding: quoted-printable\n\n=ZZ=\n=",
    "a megabyte of subject": b"Subject: " + b"a" * 2**20 + b"\n\nx",
    "subject of encoded words": b"Subject: " + b"=?utf-8?q?" * 100_000 + b"\n\n",
    "subject of parentheses": b"From: " + b"(" * 100_000 + b"\nTo: " + b'"' * 100_000 + b"\n\n",
    "addresses": b"To: " + b"a@b.example, " * 50_000 + b"\n\n",
    "many fields": b"X: y\n" * 100_000 + b"\nx",
    "folded for ever": b"X: y\n" + b" z\n" * 100_000 + b"\nx",
    "parameters": b"Content-Type: text/plain" + b"; a=b" * 50_000 + b"\n\nx",
    "quoted parameters": b"Content-Type: text/plain; name=" + b'"a;' * 50_000 + b"\n\nx",
    "continued name": b'Content-Disposition: attachment; filename*0*=x; filename*1="\n\nx',
    "nested": b"".join(BOUNDARY % n + b"--b%d\n" % n for n in range(2000)),
    "one boundary, nested": (BOUNDARY % 1 + b"--b1\n") * 5000,
    "many parts": BOUNDARY % 1 + b"--b1\n\nx\n" * 50_000,
    "empty boundary": b'Content-Type: multipart/mixed; boundary=""\n\n--\n--\n--\n',
    "no boundary": b"Content-Type: multipart/mixed\n\n--x\n\ntext",
    "unclosed": BOUNDARY % 1 + b"--b1\nContent-Type: text/plain\n\ntext",
    "boundaries in one line": BOUNDARY % 1 + b"--b1" * 200_000,
    "unclosed tags": b"Content-Type: text/html\n\n" + b"<" * 300_000,
    "unclosed comments": b"Content-Type: text/html\n\n" + b"<!--" * 100_000,
    "unclosed styles": b"Content-Type: text/html\n\n" + b'<style><a href="<br ' * 20_000,
    "spaces": b"Content-Type: text/html\n\n" + b"src= \n" * 50_000 + b" " * 200_000 + b"<p>",
    "cids": b"Content-Type: text/html\n\n" + b"cid:x " * 100_000,
    "surrogates": b"Subject: =?utf-16?b?2AA=?=\nContent-Type: text/plain; charset=utf-7\n\n+2AA-",
    "forged trace": b"Return-Path: " + b"<" * 1000 + b"\nReceived: from " + b"(" * 5000 + b"\n\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_mail_is_listed_and_shown(
    client: FlaskClient, folder: Folder, content: bytes
) -> None:
    id = folder.put(content)
    began = time.process_time()
    assert ask(client, "/api/messages")["matching"] == 1
    message = ask(client, f"/api/messages/{id}")
    client.get(f"/api/messages/{id}/html")
    assert client.get(f"/api/messages/{id}/raw").data == content
    for part in message["parts"][:3]:
        client.get(f"/api/messages/{id}/parts/{part['number']}")
    # Quadratic work on these would take minutes.
    assert time.process_time() - began < 10
    assert len(message["parts"]) <= mime.MAX_PARTS
    assert len(json.dumps(message)) < 20 * 2**20


def test_a_picture_named_often_does_not_fill_the_memory() -> None:
    picture = base64.b64encode(b"x" * 2**20)
    data = (
        b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n"
        + b"<img src=cid:p>" * 10_000
        + b"\n--b\nContent-Type: image/png\nContent-ID: <p>\nContent-Transfer-Encoding: base64\n\n"
        + picture
        + b"\n--b--\n"
    )
    from smtp_blinker.web.reader import markup

    text = b"".join(markup.document(mime.parse(data), data))
    assert text.count(b"data:image/png") >= 1
    assert len(text) < markup.MAX_IMAGES + 2**20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("=?utf-8?q?a=C3=A4?=", "aä"),
        ("=?utf-8?Q?a_b?= =?utf-8?b?w6Q=?= c", "a bä c"),
        ("=?utf-8?b?w6?= =?utf-8?b?pA==?=", "ä"),  # cut in the middle of a character
        ("=?iso-8859-1?q?=E4?=\n\tx", "ä x"),
        ("=?utf-8*en?q?lang?=", "lang"),
        ("=?utf-8?q?evil=0D=0AX: y?=", "evil X: y"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("=?broken?=", "=?broken?="),
    ],
)
def test_encoded_words_become_one_line_of_text(value: str, text: str) -> None:
    assert mime.decode_words(value) == text  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\y.exe", "y.exe"),
        ("..", ""),
        ('a"b<c>\n.txt', "abc.txt"),
        ("x" * 500, "x" * MAX_NAME),
    ],
)
def test_file_names_name_a_file_only(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def test_parts_end_before_the_line_end_of_their_delimiter() -> None:
    for end in (b"\n", b"\r\n"):
        lines = [
            b"Content-Type: multipart/mixed; boundary=ab",
            b"",
            b"preamble",
            b"--ab",
            b"",
            b"one",
            b"--abc is text",
            b"--ab  ",
            b"Content-Type: text/x",
            b"",
            b"two",
            b"",
            b"--ab--",
            b"--ab",
            b"",
            b"epilogue",
        ]
        data = end.join(lines)
        parts = mime.parse(data).parts[1:]
        contents = [part.content(data) for part in parts]
        assert contents == [b"one" + end + b"--abc is text", b"two" + end]


# Who may ask


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8025", 200),
        ("LOCALHOST.", 200),
        ("mail.localhost", 200),
        ("127.0.0.1:8025", 200),
        ("192.0.2.7", 200),
        ("[::1]:8025", 200),
        ("mail.example.com", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[bad", 421),
        ("", 421),
    ],
)
def test_only_names_that_are_ours_are_served(folder: Folder, host: str, status: int) -> None:
    client = create_app([FakeServer()], folder.path, hosts=["Mail.example.com"]).test_client()
    for path in ("/", "/api/messages", "/healthz/live"):
        response = client.get(path, headers={"Host": host})
        assert response.status_code in ({status} if status == 200 else {status, 400})


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}, False),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}, False),
    ],
)
def test_requests_from_other_sites_are_refused(
    client: FlaskClient, folder: Folder, headers: dict[str, str], allowed: bool
) -> None:
    id = folder.put(plain())
    for method, path in (("GET", ""), ("GET", f"/{id}/html"), ("DELETE", f"/{id}")):
        response = client.open(f"/api/messages{path}", method=method, headers=headers)
        assert (response.status_code != 403) is allowed
    assert (folder.files() == []) is allowed


def test_a_link_to_the_page_may_be_followed(client: FlaskClient) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
    assert client.get("/", headers=headers).status_code == 200
    headers["Sec-Fetch-Dest"] = "iframe"
    assert client.get("/", headers=headers).status_code == 403


def test_get_never_changes_anything(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain())
    for path in ("/api/messages/seen", f"/api/messages/{id}/seen"):
        assert client.get(path).status_code in {404, 405}
    assert len(folder.files()) == 1


def test_a_password_is_demanded_everywhere_but_for_health(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_blinker.web.security.WRONG_PASSWORD", 0)
    app = create_app([FakeServer()], folder.path, credentials=("ada", "päss:word"))
    client = app.test_client()
    paths = [rule.rule for rule in app.url_map.iter_rules()]
    for path in paths:
        response = client.get(path.replace("<int:number>", "1").replace("<", "").replace(">", ""))
        if path.startswith("/healthz/"):
            assert response.status_code == 200
        else:
            assert response.status_code == 401, path
            assert response.headers["WWW-Authenticate"].startswith("Basic ")
    for user, password, status in (
        ("ada", "päss:word", 200),
        ("ada", "wrong", 401),
        ("ada", "", 401),
        ("", "päss:word", 401),
        ("bob", "päss:word", 401),
    ):
        assert client.get("/", auth=(user, password)).status_code == status
    for value in ("Basic", "Basic !!", "Bearer päss:word", "Basic " + "A" * 10_000):
        header = {"Authorization": value.encode().decode("latin-1")}
        assert client.get("/", headers=header).status_code == 401


def test_passwords_are_not_guessed_many_at_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_blinker.web.security.WRONG_PASSWORD", 0.5)
    client = create_app([FakeServer()], folder.path, credentials=("ada", "right")).test_client()
    began = time.monotonic()
    guesses = [gevent.spawn(client.get, "/", auth=("ada", str(number))) for number in range(16)]
    gevent.sleep(0)
    assert client.get("/", auth=("ada", "right")).status_code == 200
    assert time.monotonic() - began < 0.5
    gevent.joinall(guesses)
    assert time.monotonic() - began >= 2 * 0.5


def test_every_answer_has_the_safe_headers(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(rich())
    for path in (
        *("/", "/static/app.js", "/api/live", "/api/messages", f"/api/messages/{id}"),
        *(f"/api/messages/{id}/html", f"/api/messages/{id}/raw", f"/api/messages/{id}/source"),
        *(f"/api/messages/{id}/parts/1", "/nothing", "/api/nothing", "/metrics"),
    ):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy.replace("style-src 'unsafe-inline'", "")
        assert "frame-ancestors" in policy or "sandbox;" in policy


def test_the_page_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    page = client.get("/").text
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert addresses
    # Below any path of a proxy: none is absolute.
    assert all(re.match(r"[a-z#]", address) and ":" not in address for address in addresses)
    scripts = sorted(path.name for path in (Path(web.__file__).parent / "static").glob("*.js"))
    assert len(scripts) > 10
    for name in (*scripts, "style.css"):
        text = client.get(f"/static/{name}").text
        assert not re.search(r"[`\"']/(?:api|static)\b", text)
        hosts = set(re.findall(r"https?://([^/\"'\s]+)", text)) - {"www.w3.org"}
        assert hosts == set()
    assert "style=" not in page
    assert not re.search(r"\son\w+=", page)
    script = "".join(client.get(f"/static/{name}").text for name in scripts)
    for sink in (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "srcdoc", "eval("),
    ):
        assert sink not in script


def test_the_page_may_stand_below_a_path(folder: Folder) -> None:
    app = create_app([FakeServer()], folder.path, path="/mail/")
    client = app.test_client()
    id = folder.put(plain())
    try:
        for path in ("/mail/", "/"):  # a proxy may have taken it off
            assert client.get(path).status_code == 200
            assert ask(client, f"{path}api/messages/{id}")["subject"] == "hello"
            assert client.get(f"{path}static/app.js").status_code == 200
        assert client.get("/healthz/live").status_code == 200
        redirect = client.get("/mail")
        assert (redirect.status_code, redirect.headers["Location"]) == (308, "/mail/")
        assert client.get("/mailbox/").status_code == 404
        foreign = {"Sec-Fetch-Site": "cross-site"}
        assert client.get(f"/mail/api/messages/{id}", headers=foreign).status_code == 403
    finally:
        app.extensions["smtp_blinker"].detach()


@pytest.mark.parametrize("path", ["", "mail", "/mail", "mail/", "/ä/"])
def test_a_path_has_a_slash_at_each_end(path: str) -> None:
    with pytest.raises(ValueError, match="/mail/"):
        create_app([FakeServer()], path=path)


# Live


def events_of_a_session(server: FakeServer, number: int, address: str = "192.0.2.1") -> None:
    id = f"session{number}"
    signals.emit(
        signals.connect,
        server,
        ConnectEvent(id, "127.0.0.1", 25, address, 1000, "client.example", f"[{address}]"),
    )
    signals.emit(signals.secure, server, SecureEvent(id, None, "TLSv1.3", "AES"))
    signals.emit(signals.auth, server, AuthEvent(id, "PLAIN", "ada", True))
    signals.emit(signals.auth, server, AuthEvent(id, "PLAIN", "eve", False))
    signals.emit(
        signals.message,
        server,
        MessageEvent(id, 1, "a@example.org", ("b@example.com",), 2048, 250, "OK", 0.1),
    )
    signals.emit(
        signals.message,
        server,
        MessageEvent(id, 2, "", ("b@example.com",) * 99, 10, 550, "no", 0.1),
    )


def refuse(server: FakeServer, command: str, argument: str, code: int, reply: str) -> None:
    event = RefusedEvent("session1", "192.0.2.1", command, argument, code, reply)
    signals.emit(signals.refused, server, event)


def end_of_session(
    server: FakeServer, number: int, address: str = "192.0.2.1", detail: str = ""
) -> None:
    event = DisconnectEvent(f"session{number}", address, 1.0, 1, 5000, 300, "quit", detail)
    signals.emit(signals.disconnect, server, event)


def test_live_shows_connections_counts_and_clients(client: FlaskClient, server: FakeServer) -> None:
    events_of_a_session(server, 1)
    events_of_a_session(server, 2, "192.0.2.2")
    end_of_session(server, 2, "192.0.2.2")
    failure = ErrorEvent(OSError(104, "reset"), "ECONNRESET", "192.0.2.1", 451)
    signals.emit(signals.error, server, failure)
    live = ask(client, "/api/live")
    assert live["open"] == 1
    [connection] = live["connections"]
    assert connection["remote_address"] == "192.0.2.1"
    assert (connection["tls"], connection["user"], connection["messages"]) == ("TLSv1.3", "ada", 1)
    totals = live["totals"]
    assert totals["smtp_connections_total"] == 2
    assert totals['smtp_messages_total{code="250"}'] == 2
    assert totals['smtp_messages_total{code="550"}'] == 2
    assert totals['smtp_auth_total{method="PLAIN",outcome="failure"}'] == 2
    assert totals['smtp_errors_total{code="ECONNRESET"}'] == 1
    assert totals['smtp_disconnects_total{reason="quit"}'] == 1
    sums: dict[str, int] = {}
    for interval in live["series"]["intervals"]:
        for kind, count in interval["counts"].items():
            sums[kind] = sums.get(kind, 0) + count
    assert sums == {
        "connections": 2,
        "auth:success": 2,
        "auth:failure": 2,
        "messages": 4,
        "bytes": 2 * 2058,
        "reply:250": 2,
        "reply:550": 2,
        "reply:451": 1,
        "error:ECONNRESET": 1,
        "disconnect:quit": 1,
    }
    assert live["clients"] == [
        {"address": "192.0.2.2", "connections": 1, "messages": 1, "bytes": 5000},
        {"address": "192.0.2.1", "connections": 1, "messages": 1, "bytes": 0},
    ]
    assert live["servers"] == [
        {"address": "127.0.0.1:2525", "ready": True, "lmtp": False, "tls": None, "auth": None}
    ]
    assert ask(client, "/api/live?step=60")["series"]["step"] == 60


def test_live_counts_refused_commands(client: FlaskClient, server: FakeServer) -> None:
    refuse(server, "RCPT", "TO:<b@example.com>", 550, "no such mailbox")
    refuse(server, "", "", 421, "Too many connections")
    # A fault of a hook comes as `error` and as `refused`: that is one reply.
    signals.emit(signals.error, server, ErrorEvent(KeyError(), "HookError", "192.0.2.1", 451))
    refuse(server, "MAIL", "FROM:<a@example.org>", 451, "Local error")
    live = ask(client, "/api/live")
    assert live["totals"]['smtp_refused_total{verb="RCPT",code="550"}'] == 1
    assert live["totals"]['smtp_refused_total{verb="none",code="421"}'] == 1
    sums: Counter[str] = Counter()
    for interval in live["series"]["intervals"]:
        sums.update(interval["counts"])
    assert sums == {
        "refused:RCPT": 1,
        "refused:none": 1,
        "refused:MAIL": 1,
        "reply:550": 1,
        "reply:421": 1,
        "reply:451": 1,
        "error:HookError": 1,
    }


def test_live_says_what_a_program_must_know_to_send(certificate: Certificate) -> None:
    files: Any = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    servers = [
        SMTPServer(("127.0.0.1", 0)),
        SMTPServer(("127.0.0.1", 0), lmtp=True, **files),
        SMTPServer(("127.0.0.1", 0), secure=True, on_auth=lambda auth, session: None, **files),
        SMTPServer(("127.0.0.1", 0), auth_optional=True, on_auth=lambda auth, session: None),
    ]
    live = ask(create_app(servers).test_client(), "/api/live")
    assert [(each["lmtp"], each["tls"], each["auth"]) for each in live["servers"]] == [
        (False, None, None),
        (True, "starttls", None),
        (False, "implicit", "required"),
        (False, None, "optional"),
    ]


def test_other_servers_are_not_shown(client: FlaskClient) -> None:
    other = FakeServer()
    events_of_a_session(other, 1)
    assert ask(client, "/api/live")["open"] == 0


def test_a_page_without_servers_hears_all_of_the_process() -> None:
    app = create_app()
    try:
        client = app.test_client()
        events_of_a_session(FakeServer(), 1)
        assert ask(client, "/api/live")["open"] == 1
        assert client.get("/api/messages").status_code == 404
        assert 'id="inbox"' not in client.get("/").text
    finally:
        app.extensions["smtp_blinker"].detach()


def test_series_keep_their_intervals_and_forget_the_old() -> None:
    now = 1000.0
    series = Series(10, 3, clock=lambda: now)
    series.add("a")
    now = 1009.9
    series.add("a", 2)
    now = 1010.0
    series.add("b")
    assert series.as_dict() == {
        "step": 10,
        "length": 3,
        "end": 101,
        "intervals": [
            {"number": 100, "counts": {"a": 3}},
            {"number": 101, "counts": {"b": 1}},
        ],
    }
    now = 1030.0
    assert [each["number"] for each in series.as_dict()["intervals"]] == [101]
    for number in range(1000):
        series.add(f"error:{number}")
    counts = series.as_dict()["intervals"][-1]["counts"]
    assert counts["error:other"] == 900


def test_events_are_few_and_short_whatever_happens() -> None:
    feed = Feed()
    server = FakeServer()
    long = "x" * 10_000
    feed.attach(server)
    try:
        for number in range(KEPT // 4 + 10):
            signals.emit(signals.auth, server, AuthEvent(str(number), "PLAIN", long, False))
            event = MessageEvent(str(number), 1, "", ("b@example.com",) * 9, 1, 550, long, 0.1)
            signals.emit(signals.message, server, event)
            refuse(server, "RCPT", long, 550, long)
            end_of_session(server, number, f"192.0.2.{number}", long)
    finally:
        feed.detach()
    items = feed.since(0)
    assert len(items) == KEPT
    assert [item.number for item in feed.since(feed.last - 2)] == [feed.last - 1, feed.last]
    assert feed.since(feed.last) == []
    assert all(len(json.dumps(item.as_dict())) < 1200 for item in items)
    # What a client or a hook may make long isn't kept either.
    kept = [item.event for item in items if item.signal != "auth"]
    assert all(len(str(event)) < 1500 for event in kept)


def test_the_least_of_many_clients_are_forgotten() -> None:
    feed = Feed()
    server = FakeServer()
    feed.attach(server)
    try:
        for number in range(10_000):
            end_of_session(server, number, f"2001:db8::{number:x}")
            end_of_session(server, number, "192.0.2.1")
    finally:
        feed.detach()
    first, second = feed.top_clients(2, [])
    assert first == {
        "address": "192.0.2.1",
        "connections": 10_000,
        "messages": 10_000,
        "bytes": 50_000_000,
    }
    assert second["messages"] == 1


def stream_of(client: FlaskClient, path: str = "/api/events", **headers: str) -> Iterator[str]:
    """The blocks of a stream of server-sent events."""
    response = client.get(path, headers=headers)
    assert response.content_type == "text/event-stream; charset=utf-8"
    rest = ""
    for piece in response.iter_encoded():
        rest += piece.decode()
        while "\n\n" in rest:
            block, _, rest = rest.partition("\n\n")
            yield block


def events_until(stream: Iterator[str], wanted: str) -> list[dict[str, Any]]:
    """The events up to the first of the signal *wanted*."""
    events = []
    for block in stream:
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if lines.get("event") == "smtp":
            events.append(json.loads(lines["data"]))
            if events[-1]["signal"] == wanted:
                break
    return events


def test_events_are_streamed_as_they_happen(client: FlaskClient, server: FakeServer) -> None:
    stream = stream_of(client)
    assert next(stream) == "retry: 2000"
    gevent.spawn_later(0.01, events_of_a_session, server, 1)
    gevent.spawn_later(0.3, end_of_session, server, 1)
    events = events_until(stream, "disconnect")
    assert [event["signal"] for event in events] == [
        *("connect", "secure", "auth", "auth", "message", "message", "disconnect"),
    ]
    many = events[5]
    assert (many["code"], len(many["rcpt_to"]), many["recipients"]) == (550, 5, 99)
    assert (many["reply"], events[6]["detail"]) == ("no", "")
    stream.close()  # type: ignore[attr-defined]


def test_refused_commands_are_streamed(client: FlaskClient, server: FakeServer) -> None:
    refuse(server, "RCPT", "TO:<b@example.com>", 550, "no such mailbox")
    [event] = events_until(stream_of(client), "refused")
    assert {**event, "time": 0} == {
        "number": 1,
        "time": 0,
        "signal": "refused",
        "id": "session1",
        "remote_address": "192.0.2.1",
        "command": "RCPT",
        "argument": "TO:<b@example.com>",
        "code": 550,
        "reply": "no such mailbox",
    }


def test_a_stream_goes_on_where_it_was_cut(client: FlaskClient, server: FakeServer) -> None:
    events_of_a_session(server, 1)
    end_of_session(server, 1)
    [event] = events_until(stream_of(client, **{"Last-Event-ID": "6"}), "disconnect")
    assert event["number"] == 7
    # Numbers of another process, and what is no number: all there is.
    assert len(events_until(stream_of(client, **{"Last-Event-ID": "999"}), "disconnect")) == 7
    assert len(events_until(stream_of(client, **{"Last-Event-ID": "x"}), "disconnect")) == 7
    assert len(events_until(stream_of(client, "/api/events?since=5"), "disconnect")) == 2


def test_no_event_is_left_out_when_many_come(client: FlaskClient, server: FakeServer) -> None:
    stream = stream_of(client)
    next(stream)
    for _ in range(2):  # the page looks less often then
        for _ in range(100):
            events_of_a_session(server, 1)
        end_of_session(server, 1)
        assert len(events_until(stream, "disconnect")) == 601
    stream.close()  # type: ignore[attr-defined]


def test_a_page_gets_the_newest_events_of_each_signal(
    client: FlaskClient, server: FakeServer
) -> None:
    """So that many messages hide no refusal, and cost no more than a page can show."""
    refuse(server, "RCPT", "TO:<b@example.com>", 550, "no such mailbox")
    for _ in range(20):
        events_of_a_session(server, 1)
    end_of_session(server, 1)
    events = events_until(stream_of(client, "/api/events?since=0&newest=3"), "disconnect")
    assert Counter(event["signal"] for event in events) == {
        **dict.fromkeys(("connect", "secure", "auth", "message"), 3),
        **dict.fromkeys(("refused", "disconnect"), 1),
    }
    numbers = [event["number"] for event in events]
    assert numbers == sorted(numbers)
    assert numbers[-1] == client.application.extensions["smtp_blinker"].feed.last


@pytest.mark.parametrize(("newest", "pause"), [("", 0.25 * 500 / 400), ("&newest=50", 1.2)])
def test_a_busy_page_is_seldom_written_to(
    client: FlaskClient,
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
    newest: str,
    pause: float,
) -> None:
    """Each time it gets half of the events that are kept; or, if it wants few, a second's."""
    pauses: list[float] = []
    monkeypatch.setattr("smtp_blinker.web.app.random.uniform", lambda least, most: most)
    monkeypatch.setattr("smtp_blinker.web.app.gevent.sleep", pauses.append)
    for _ in range(66):
        events_of_a_session(server, 1)
    for _ in range(4):
        end_of_session(server, 1)
    stream = stream_of(client, f"/api/events?since=0{newest}")
    while not any(pauses):
        next(stream)
        end_of_session(server, 1)
    assert next(filter(None, pauses)) == pytest.approx(pause, rel=0.05)


def test_new_mail_is_streamed(client: FlaskClient, folder: Folder) -> None:
    stream = stream_of(client)
    counts = [json.loads(block.split("data: ")[1]) for block in itertools.islice(stream, 1, 2)]
    assert counts == [{"total": 0, "unread": 0, "pending": 0}]
    folder.put(plain())
    block = next(block for block in stream if block.startswith("event: inbox"))
    assert '"total": 1' in block


def test_streams_leave_connections_for_the_others(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_blinker.web.app.MAX_STREAMS", 2)
    streams = [stream_of(client), stream_of(client)]
    for stream in streams:
        next(stream)
    response = client.get("/api/events")
    assert (response.status_code, response.get_json()) == (
        503,
        {"error": "too many pages are open"},
    )
    streams[0].close()  # type: ignore[attr-defined]
    assert next(stream_of(client)) == "retry: 2000"


def test_a_stream_ends_with_its_server(folder: Folder) -> None:
    """A page that is open doesn't keep the process alive."""
    app = create_app([FakeServer()], folder.path)
    http = WSGIServer(("127.0.0.1", 0), app, log=None, spawn=10)
    http.start()

    def read(port: int) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events") as response:
            begun.set()
            with suppress(HTTPException):  # it was cut off
                response.read()

    begun = threading.Event()
    thread = threading.Thread(target=read, args=(http.server_port,), daemon=True)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not begun.is_set():
        assert time.monotonic() < deadline
        gevent.sleep(0.01)
    http.stop(timeout=0.1)
    thread.join(SECONDS)
    assert not thread.is_alive()


# Monitoring


def test_metrics_are_for_prometheus(
    client: FlaskClient, server: FakeServer, folder: Folder
) -> None:
    folder.put(plain())
    events_of_a_session(server, 1)
    response = client.get("/metrics")
    assert response.content_type.startswith("text/plain; version=")
    lines = response.text.splitlines()
    assert 'smtp_messages_total{code="250"} 1.0' in lines
    assert "smtp_connections_open 1.0" in lines
    assert "smtp_inbox_messages 1.0" in lines
    assert "smtp_inbox_unread 1.0" in lines


def test_ready_means_that_every_server_accepts_clients(folder: Folder) -> None:
    servers = [FakeServer(), FakeServer()]
    client = create_app(servers, folder.path).test_client()
    assert client.get("/healthz/ready").status_code == 200
    servers[1].started = False
    assert client.get("/healthz/ready").status_code == 503
    assert client.get("/healthz/live").status_code == 200


def test_ready_means_that_mail_can_be_stored(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path / "Maildir")
    client = create_app([], store.path, check=store.check_folders).test_client()
    shutil.rmtree(store.path)
    assert client.get("/healthz/ready").status_code == 200
    assert sorted(os.listdir(store.path)) == ["cur", "new", "tmp"]
    shutil.rmtree(store.path)
    Path(store.path).touch()
    answer = client.get("/healthz/ready")
    assert (answer.status_code, answer.text) == (503, "can't store mail: Not a directory\n")
    assert client.get("/healthz/live").status_code == 200
    os.unlink(store.path)
    assert client.get("/healthz/ready").status_code == 200


def test_ready_with_a_spool_and_not_when_it_can_not_be_written(tmp_path: Path) -> None:
    def away(stream: Any, session: Any) -> None:
        raise OSError("away")

    spool = SpoolStore(away, tmp_path / "spool", delay=3600, max_delay=3600)
    session = Session()
    session.envelope.rcpt_to = [Address("ann@example.com")]
    assert spool(io.BytesIO(b"Hello\r\n"), session).startswith("spooled as ")
    client = create_app([], check=spool.check).test_client()
    assert client.get("/healthz/ready").status_code == 200
    shutil.rmtree(spool.path)
    Path(spool.path).touch()
    answer = client.get("/healthz/ready")
    assert (answer.status_code, answer.text) == (503, "can't store mail: Not a directory\n")


def test_a_store_s_own_error_is_in_the_log_and_not_in_the_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hubs = []

    class Engine:
        needs_thread = False

        def check(self) -> None:
            hubs.append(gevent.get_hub())
            raise Unavailable("RabbitMQ is away: 10.0.0.7")

    client = create_app([], check=Engine().check).test_client()
    answer = client.get("/healthz/ready")
    assert (answer.status_code, answer.text) == (503, "can't store mail\n")
    assert "10.0.0.7" in caplog.text
    # Its sockets are this hub's.
    assert hubs == [gevent.get_hub()]


def test_not_ready_while_draining(folder: Folder) -> None:
    with serve(close_timeout=SECONDS) as served:
        client = create_app([served.server], folder.path).test_client()
        assert client.get("/healthz/ready").status_code == 200
        with served.hello() as smtp:
            smtp.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
            smtp.replies(3)
            server = served.server
            hub = next(iter(server.connections)).greenlet.parent
            hub.loop.run_callback_threadsafe(gevent.spawn, server.stop)
            deadline = time.monotonic() + SECONDS
            while client.get("/healthz/ready").status_code == 200:
                assert time.monotonic() < deadline
            assert server.connections
            assert client.get("/healthz/live").status_code == 200
            smtp.send(b".\r\n")
            assert smtp.reply().code == 250


# The inbox by itself


@pytest.fixture
def inbox(folder: Folder) -> Iterator[Inbox]:
    inbox = Inbox(folder.path)
    yield inbox
    inbox.close()


def test_a_file_is_read_once(folder: Folder, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    ask = inbox.reader.ask

    def counting(do: str, *arguments: Any, **fields: Any) -> Frame:
        read.extend(id for id, path in fields["messages"])
        return ask(do, *arguments, **fields)

    monkeypatch.setattr(inbox.reader, "ask", counting)
    ids = [folder.put(plain()) for _ in range(3)]
    for _ in range(3):
        inbox.refresh()
    assert inbox.mark(q="", read=True) == 3
    inbox.refresh()
    assert sorted(read) == ids


@pytest.fixture
def asked(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the index was asked."""
    asked: list[str] = []
    ask = inbox.index.ask

    def noting(do: str, *arguments: Any, **fields: Any) -> Frame:
        asked.append(do)
        return ask(do, *arguments, **fields)

    monkeypatch.setattr(inbox.index, "ask", noting)
    return asked


def test_many_who_ask_at_once_have_one_look(inbox: Inbox, asked: list[str]) -> None:
    # The second asks when the first looks already, and so may miss what comes now.
    gevent.joinall([gevent.spawn(inbox.refresh) for _ in range(20)], raise_error=True)
    assert asked == ["refresh", "refresh"]


def test_a_list_is_made_once_until_anything_changes(
    folder: Folder, inbox: Inbox, asked: list[str]
) -> None:
    def listed() -> list[bool]:
        return [each["unread"] for each in json.loads(inbox.page("", 0, 50)[1])["messages"]]

    folder.put(plain())
    inbox.refresh()
    assert listed() == [True]
    assert listed() == [True]
    assert asked.count("list") == 1
    assert inbox.mark(q="", read=True) == 1
    assert listed() == [False]
    folder.put(plain())
    inbox.refresh()
    assert sorted(listed()) == [False, True]
    assert asked.count("list") == 3


def test_pages_stand_back_while_mail_comes(
    folder: Folder, inbox: Inbox, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_blinker.web.inbox.PAUSE", 1e9)
    monkeypatch.setattr("smtp_blinker.web.inbox.LONGEST_PAUSE", SECONDS)
    for _ in range(2):
        folder.put(plain())
        inbox.refresh()
    folder.put(plain())
    asked.clear()
    inbox.glance(0)
    inbox.watch(0)
    assert (len(inbox), asked) == (2, [])
    inbox.refresh()  # a program gets the whole truth
    assert len(inbox) == 3


def test_ten_thousand_messages_are_listed_and_searched_from_memory(
    folder: Folder, inbox: Inbox
) -> None:
    content = plain("bulk", "some words\n" * 20)
    for _ in range(10_000):
        folder.put(content)
    folder.put(plain("needle"))
    inbox.refresh()
    assert (len(inbox), inbox.pending) == (10_001, 0)
    for path in folder.path.glob("new/*"):  # the list needs none of them any more
        path.write_bytes(b"")
    inbox.refresh()
    assert inbox.page("subject:needle", 0, 50)[0] == 1
    matching, body = inbox.page("some words -needle", 20, 50)
    assert (matching, len(json.loads(body)["messages"])) == (10_000, 50)
    assert inbox.delete(q="") == 10_001
    assert folder.files() == []


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (Keep(), 4),
        (Keep(days=1), 3),
        (Keep(days=1e-9), 0),
        (Keep(messages=2), 2),
        (Keep(messages=9), 4),
        (Keep(size=250), 2),
        (Keep(days=1, messages=1, size=1000), 1),
    ],
)
def test_the_oldest_messages_go(folder: Folder, inbox: Inbox, keep: Keep, left: int) -> None:
    now = int(time.time())
    ids = [
        folder.put(b"x" * 100, at=now - age, flags=flags)
        for age, flags in ((90_000, None), (300, "S"), (200, None), (100, ""))
    ]
    (folder.path / "new" / ".hidden").touch()
    assert inbox.expire(keep) == 4 - left
    kept = [name.partition("/")[2].partition(":")[0] for name in folder.files()]
    assert sorted(kept) == sorted([".hidden", *ids[4 - left :]])


def test_an_event_is_encoded_once_for_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    feed = Feed()
    for number in range(5):
        feed._keep("listening", {"address": f"{number}:25"})
    encoded = []
    monkeypatch.setattr(Item, "as_dict", lambda item: encoded.append(item.number) or {})  # type: ignore[func-returns-value]
    for _ in range(100):
        assert "".join(item.as_text for item in feed.since(2)).count("event: smtp") == 3
    assert encoded == [3, 4, 5]


@pytest.mark.parametrize(
    ("last", "numbers"), [(-5, [3, 4]), (0, [3, 4]), (3, [4]), (4, []), (9, [])]
)
def test_events_since_a_number(last: int, numbers: list[int]) -> None:
    feed = Feed()
    assert feed.since(last) == []
    feed._items = deque(maxlen=2)
    for _ in range(4):
        feed._keep("close", None)
    assert [item.number for item in feed.since(last)] == numbers
