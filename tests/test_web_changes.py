"""What testers do with messages: tags, several at once, undo, and release to the relay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from flask.testing import FlaskClient
from support import SECONDS, Served, free_port, serve, wait_until
from support.page import TRACE, Folder, ask, plain, subjects

from smtp_blinker import Reject
from smtp_blinker.stores import RelayStore
from smtp_blinker.web import Release, create_app
from smtp_blinker.web.reader import tags


def tags_of(client: FlaskClient, id: str) -> list[str]:
    found: list[str] = ask(client, f"/api/messages/{id}")["tags"]
    return found


# Tags


def test_a_message_brings_tags_by_header_and_by_address(
    client: FlaskClient, folder: Folder
) -> None:
    id = folder.put(
        b"Delivered-To: ada+Welcome@example.com\n"
        + plain("x", **{"X-Tags": "Spring Sale, newsletter", "Keywords": "newsletter"})
    )
    folder.put(plain("other"))
    assert tags_of(client, id) == ["spring-sale", "newsletter", "welcome"]
    assert subjects(client, q="tag:WELCOME") == ["x"]
    assert subjects(client, q="-tag:newsletter") == ["other"]
    assert ask(client, "/api/tags")["tags"] == {"newsletter": 1, "spring-sale": 1, "welcome": 1}


def test_a_message_brings_few_and_short_tags() -> None:
    found = tags.brought([", ".join(f"{'x' * 99}{n}" for n in range(99))] * 99, ["a+@b", "+"])
    assert len(found) <= tags.MOST
    assert all(0 < len(tag) <= tags.MAX_TAG for tag in found)


def test_a_tag_by_hand_is_a_keyword_of_the_maildir(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain("x"))
    folder.put(plain("y"))
    assert ask(client, f"/api/messages/{id}/tags/Todo", "PUT") == {"changed": 1}
    assert ask(client, f"/api/messages/{id}/tags/todo", "PUT") == {"changed": 0}
    assert f"cur/{id}:2,a" in folder.files()
    assert (folder.path / "dovecot-keywords").read_text() == "0 Todo\n"
    assert tags_of(client, id) == ["todo"]
    assert ask(client, f"/api/messages/{id}")["tags_by_hand"] == ["todo"]
    assert subjects(client, q="tag:todo is:unread") == ["x"]
    other = create_app([], folder.path)  # as after a restart
    assert tags_of(other.test_client(), id) == ["todo"]
    other.extensions["smtp_blinker"].detach()
    assert ask(client, "/api/messages/tags/todo?q=subject:x", "DELETE") == {"changed": 1}
    assert tags_of(client, id) == []


def test_what_dovecot_has_tagged_is_tagged(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain("x"), flags="Sb")
    assert tags_of(client, id) == []
    (folder.path / "dovecot-keywords").write_text("0 first\n1 second\nnonsense\n99 z\n²² y\n")
    ask(client, "/api/messages")
    assert tags_of(client, id) == ["second"]
    ask(client, f"/api/messages/{id}/tags/third", "PUT")
    assert tags_of(client, id) == ["second", "third"]
    assert f"cur/{id}:2,Sbc" in folder.files()


def test_there_are_as_many_tags_by_hand_as_letters(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain("x"))
    (folder.path / "dovecot-keywords").write_text(
        "".join(f"{number} tag{number}\n" for number in range(26))
    )
    assert client.put(f"/api/messages/{id}/tags/one-more").status_code == 409
    assert ask(client, f"/api/messages/{id}/tags/tag25", "PUT") == {"changed": 1}
    assert f"cur/{id}:2,z" in folder.files()


@pytest.mark.parametrize("tag", ["a b", ".a", "ä", "a,b", "x" * 41, "$Junk"])
def test_a_tag_by_hand_is_a_word(client: FlaskClient, folder: Folder, tag: str) -> None:
    id = folder.put(plain("x"))
    assert client.put(f"/api/messages/{id}/tags/{tag}").status_code == 400
    assert not (folder.path / "dovecot-keywords").exists()


# Several at once, and undo


def test_several_are_changed_by_their_ids(client: FlaskClient, folder: Folder) -> None:
    one, two, three = (folder.put(plain(name)) for name in ("one", "two", "three"))
    which = {"id": [one, three, "unknown"]}
    assert ask(client, "/api/messages/tags/mine", "PUT", query_string=which) == {"changed": 2}
    assert ask(client, "/api/messages/seen", "PUT", query_string=which) == {"changed": 2}
    assert subjects(client, q="is:unread") == ["two"]
    assert ask(client, "/api/messages", "DELETE", query_string=which)["deleted"] == 2
    assert subjects(client) == ["two"]
    none = {"id": two, "q": "one"}
    assert ask(client, "/api/messages", "DELETE", query_string=none) == {"deleted": 0}
    assert client.delete("/api/messages?id=").status_code == 400
    assert subjects(client) == ["two"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/api/messages//seen"),
        ("PUT", "/api/messages//tags/red"),
        ("DELETE", "/api/messages//tags/red"),
        ("DELETE", "/api//messages"),
        ("DELETE", "/api/messages//"),
    ],
)
def test_an_id_that_is_empty_changes_no_other_messages(
    client: FlaskClient, folder: Folder, method: str, path: str
) -> None:
    folder.put(plain("x"))
    answer = client.open(path, method=method, follow_redirects=True)
    assert answer.status_code == 404
    assert len(answer.history) == 0
    [message] = ask(client, "/api/messages")["messages"]
    assert (message["unread"], message["tags"]) == (True, [])


def test_a_deletion_is_taken_back(client: FlaskClient, folder: Folder) -> None:
    one = folder.put(plain("one"))
    folder.put(plain("two"))
    folder.put(plain("three"))
    first = ask(client, f"/api/messages/{one}?undo=60", "DELETE")
    rest = ask(client, "/api/messages?q=two&undo=60", "DELETE")
    assert (first["deleted"], rest["deleted"]) == (1, 1)
    assert subjects(client) == ["three"]
    assert client.get(f"/api/messages/{one}").status_code == 404
    assert ask(client, "/api/messages")["total"] == 1
    assert len(folder.files()) == 3
    assert ask(client, f"/api/messages/undo/{first['undo']}", "POST") == {"restored": 1}
    assert subjects(client) == ["three", "one"]
    assert client.post(f"/api/messages/undo/{first['undo']}").status_code == 404
    ask(client, f"/api/messages/undo/{rest['undo']}", "POST")
    assert subjects(client) == ["three", "two", "one"]


@pytest.mark.parametrize("undo", ["", "soon", "-1", "nan", "inf", "61"])
def test_a_deletion_whose_seconds_can_not_be_read_deletes_nothing(
    client: FlaskClient, folder: Folder, undo: str
) -> None:
    id = folder.put(plain("one"))
    for path in ("", f"/{id}"):
        assert client.delete(f"/api/messages{path}?undo={undo}").status_code == 400
    assert subjects(client) == ["one"]


def test_what_is_not_taken_back_goes_by_itself(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain("one"))
    answer = ask(client, f"/api/messages/{id}?undo=0.05", "DELETE")
    with gevent.Timeout(SECONDS):
        while folder.files():
            gevent.sleep(0.05)
    assert client.post(f"/api/messages/undo/{answer['undo']}").status_code == 404


def test_a_hidden_message_that_another_program_moves_stays_hidden(
    client: FlaskClient, folder: Folder
) -> None:
    id = folder.put(plain("one"))
    answer = ask(client, f"/api/messages/{id}?undo=60", "DELETE")
    (folder.path / "new" / id).rename(folder.path / "cur" / f"{id}:2,S")
    assert subjects(client) == []
    ask(client, f"/api/messages/undo/{answer['undo']}", "POST")
    assert subjects(client) == ["one"]
    assert ask(client, f"/api/messages/{id}")["subject"] == "one"


def test_without_undo_a_deletion_is_for_good(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(plain("one"))
    assert ask(client, f"/api/messages/{id}", "DELETE") == {"deleted": 1}
    assert folder.files() == []


# Release


@pytest.fixture
def relay() -> Iterator[Served]:
    def check(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "not here", "5.1.1")

    with serve(on_rcpt_to=check) as served:
        yield served


def releasing(folder: Folder, port: int) -> Any:
    url = f"smtp://127.0.0.1:{port}"
    return create_app([], folder.path, release=Release(RelayStore(url, name="mx.test"), url))


def test_a_message_is_released_to_the_relay_that_was_configured(
    folder: Folder, relay: Served
) -> None:
    id = folder.put(TRACE + b"Subject: x\n\n.dot\nlast")
    app = releasing(folder, relay.server.server_port or 0)
    client = app.test_client()
    answer = ask(client, f"/api/messages/{id}/release", "POST")
    assert answer["released"] == 2
    ask(client, f"/api/messages/{id}/release?to=me@example.net", "POST")
    first, second = wait_until(lambda: len(relay.messages) == 2 and relay.messages)
    assert first.envelope.mail_from.address == "bounce@example.org"
    assert [one.address for one in first.envelope.rcpt_to] == [
        "ada@example.com",
        "hidden@example.com",
    ]
    assert [one.address for one in second.envelope.rcpt_to] == ["me@example.net"]
    # What the last hop wrote, and hidden recipients with it, stays here.
    assert b"hidden@example.com" not in second.content
    assert second.content.endswith(b"Subject: x\r\n\r\n.dot\r\nlast\r\n")
    app.extensions["smtp_blinker"].detach()


def test_nothing_is_released_elsewhere_or_to_what_is_no_address(
    folder: Folder, relay: Served, client: FlaskClient
) -> None:
    id = folder.put(plain("x"))
    assert client.post(f"/api/messages/{id}/release").status_code == 404
    app = releasing(folder, relay.server.server_port or 0)
    site = app.test_client()
    for query in ({}, {"to": "a@b.example>\r\nRSET"}, {"to": ""}, {"relay": "smtp://evil.example"}):
        response = site.post(f"/api/messages/{id}/release", query_string=query)
        assert response.status_code == 400, query
    forged = folder.put(b"Return-Path: <a@b.example> SIZE=1>\nDelivered-To: <x y>\n" + plain("y"))
    assert site.post(f"/api/messages/{forged}/release").status_code == 400
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert (
        site.post(f"/api/messages/{id}/release?to=a@b.example", headers=headers).status_code == 403
    )
    assert relay.messages == []
    app.extensions["smtp_blinker"].detach()


def test_what_the_relay_says_is_told(folder: Folder, relay: Served) -> None:
    id = folder.put(plain("x"))
    app = releasing(folder, relay.server.server_port or 0)
    response = app.test_client().post(f"/api/messages/{id}/release?to=no@example.com")
    assert response.status_code == 502
    assert "550 5.1.1 not here" in response.get_json()["error"]
    app.extensions["smtp_blinker"].detach()
    app = releasing(folder, free_port())
    response = app.test_client().post(f"/api/messages/{id}/release?to=a@example.com")
    assert response.status_code == 502
    assert "can't be reached" in response.get_json()["error"]
    app.extensions["smtp_blinker"].detach()
