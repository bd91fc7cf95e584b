"""One-time codes and links, for tests that log in by mail."""

from __future__ import annotations

import time

import gevent
import pytest
from flask.testing import FlaskClient
from support.page import Folder, ask, plain

from smtp_blinker.web.reader.codes import MOST, codes


@pytest.mark.parametrize(
    ("subject", "text", "found"),
    [
        ("", "Your code is 123456.", ["123456"]),
        ("493817 is your verification code", "Ignore this if it wasn't you.", ["493817"]),
        ("", "Your login code: 123 456", ["123456"]),
        ("", "Use G4X9-TT2B as your one-time password", ["G4X9-TT2B"]),
        ("", "Enter the code\n\n  8841\n\nIt is good for 10 minutes, until 2026.", ["8841"]),
        ("", "Dein Bestätigungscode lautet AB12CD", ["AB12CD"]),
        ("", "Ваш код: 55512", ["55512"]),
        ("", "認証コード：123456", ["123456"]),  # noqa: RUF001
        ("您的验证码是 654321", "", ["654321"]),
        ("", "Hello\n\n771203\n\nBye", ["771203"]),
        ("G-482913 is your verification code", "", ["482913"]),
        ("", "Your code is FB-48291.", ["48291"]),
        ("", "Enter this code: 4 8 1 9 2 2", ["481922"]),
        ("", "Your code:\n4\n8\n1\n9\nBye", ["4819"]),
        ("Your code", "How did we do? 1 2 3 4 5 6 7 8 9 10", []),
        ("Your code", "Order RE-20261130-1, part A-12345-B", []),
        ("Order 20261128 shipped", "Order 99887766, paid 1234.50 EUR in 2026", []),
        ("", "Call +4930123456 or https://example.org/verify/123456?code=998877", []),
        ("", "code 12 and code 123456789012", []),
        ("", "nothing to type in", []),
    ],
)
def test_codes_are_what_a_person_would_type_in(subject: str, text: str, found: list[str]) -> None:
    assert codes(subject, text) == found


@pytest.mark.parametrize(
    "text",
    [
        "code " * 20000,
        "1234 code " * 20000,
        "A1" * 60000,
        "A-" * 60000,
        "https://" * 20000,
        "12 " * 40000,
        "1 " * 40000,
        "A-11111" * 9000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    assert len(codes(text, text)) <= MOST
    assert time.process_time() - began < 1


def test_codes_and_links_of_the_newest_message_are_waited_for(
    client: FlaskClient, folder: Folder
) -> None:
    folder.put(plain("old", "code 111111"))
    assert client.get("/api/messages/codes?q=to:eve").status_code == 404

    def arrive() -> None:
        folder.put(
            plain("new", "Your code is 222222, or https://example.org/in?t=1", To="eve@x.example")
        )

    later = gevent.spawn_later(0.1, arrive)
    answer = ask(client, "/api/messages/codes?q=to:eve&wait=30")
    assert answer["subject"] == "new"
    assert answer["codes"] == ["222222"]
    assert answer["links"] == ["https://example.org/in?t=1"]
    assert ask(client, f"/api/messages/{answer['id']}")["codes"] == ["222222"]
    later.join()
