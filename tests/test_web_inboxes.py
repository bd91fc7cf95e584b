"""Several inboxes: by recipient and by user, in the API and by smtp-blinker's options."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.cli import SmtpBlinker, run
from support.page import Folder, ask, plain

from smtp_blinker.web import create_app


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Folder]:
    return {name: Folder(tmp_path / f"Maildir{name}") for name in ("", "shop", "ann")}


@pytest.fixture
def client(folders: dict[str, Folder]) -> Iterator[FlaskClient]:
    app = create_app(
        [], folders[""].path, inboxes={name: folders[name].path for name in ("shop", "ann")}
    )
    yield app.test_client()
    app.extensions["smtp_blinker"].detach()


def subjects(client: FlaskClient, prefix: str) -> list[str]:
    return [one["subject"] for one in ask(client, f"{prefix}/messages")["messages"]]


def test_each_inbox_has_its_own_messages(client: FlaskClient, folders: dict[str, Folder]) -> None:
    ids = {name: folder.put(plain(f"for {name or 'all'}")) for name, folder in folders.items()}
    assert subjects(client, "/api") == ["for all"]
    assert subjects(client, "/api/inboxes/shop") == ["for shop"]
    shop = f"/api/inboxes/shop/messages/{ids['shop']}"
    assert ask(client, shop)["subject"] == "for shop"
    assert b"for shop" in client.get(f"{shop}/raw").data
    other = folders["shop"].put(plain("only there"))
    assert client.get(f"/api/messages/{other}").status_code == 404
    assert client.get("/api/inboxes/nobody/messages").status_code == 404
    assert ask(client, "/api/inboxes/shop/tags")["tags"] == {}


def test_a_change_is_of_one_inbox(client: FlaskClient, folders: dict[str, Folder]) -> None:
    for folder in folders.values():
        folder.put(plain("x"))
    assert client.get("/api/events?inbox=none").status_code == 404
    assert ask(client, "/api/inboxes/shop/messages?undo=60", "DELETE")["deleted"] == 1
    assert ask(client, "/api/inboxes/ann/messages/seen", "PUT") == {"changed": 1}
    assert client.delete("/api/inboxes/ann/messages?x=1").status_code == 400
    counts = {one["name"]: one for one in ask(client, "/api/inboxes")["inboxes"]}
    assert [(one["total"], one["unread"]) for one in counts.values()] == [(1, 1), (0, 0), (1, 0)]
    metrics = client.get("/metrics").text
    assert "smtp_inbox_messages 2.0" in metrics
    assert "smtp_inbox_unread 1.0" in metrics
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert client.delete("/api/inboxes/ann/messages", headers=headers).status_code == 403


def test_an_inbox_is_named_by_a_word(tmp_path: Path) -> None:
    for name in ("", "a b", "../x", "a/b", ".a"):
        with pytest.raises(ValueError, match="named by a word"):
            create_app([], tmp_path, inboxes={name: tmp_path})
    with pytest.raises(ValueError, match="beside a Maildir"):
        create_app([], inboxes={"a": tmp_path})


def test_smtp_blinker_sorts_mail_by_recipient_and_by_user(tmp_path: Path) -> None:
    options = [
        *("-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--accept-any-auth"),
        *("--inbox", "shop=@shop.example", "--inbox", "shop=boss@example.com"),
        *("--inbox", "ann=user:ann"),
    ]
    with SmtpBlinker(tmp_path, *options) as server:

        def send(subject: str, *recipients: str, user: str = "") -> None:
            with server.client() as client:
                if user:
                    client.login(user, "secret")
                client.sendmail("a@example.org", recipients, f"Subject: {subject}\n\nx\n")

        send("one", "x@shop.example")
        send("two", "boss@example.com", "other@example.com")
        send("three", "other@example.com", user="ann")
        page = next(line.split()[2] for line in server.said if line.startswith("Web page:"))

        def get(path: str) -> Any:
            return json.load(urllib.request.urlopen(f"{page}api/{path}"))

        def found(prefix: str) -> list[str]:
            return [one["subject"] for one in get(f"{prefix}messages")["messages"]]

        assert found("") == ["two"]
        assert found("inboxes/shop/") == ["two", "one"]
        assert found("inboxes/ann/") == ["three"]
        assert [one["name"] for one in get("inboxes")["inboxes"]] == ["", "shop", "ann"]
        ready = f"{page}healthz/ready"
        assert urllib.request.urlopen(ready).status == 200
    assert (tmp_path / "Maildir" / ".shop" / "new").is_dir()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--inbox", "shop"), "NAME=PATTERN"),
        (("--inbox", "a/b=@x.example"), "NAME=PATTERN"),
        (("--inbox", "a=*x"), "--inbox: a pattern is"),
        (("--inbox", "a=@x.example", "--inbox", "b=@X.example"), "the same address or domain"),
        (("--inbox", "a=@x.example", "--deliver", "smtp://x"), "--deliver"),
    ],
)
def test_an_inbox_that_can_not_be_meant_is_said(
    tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    ended = run(tmp_path, "-l", "127.0.0.1:0", *options)
    assert ended.returncode == 2
    assert says in ended.stderr
