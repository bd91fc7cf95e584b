"""What the page says is wrong with a message."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from smtp_blinker.web.reader import mime
from smtp_blinker.web.reader.checks import MAX_TOLD, check

ARRIVED = time.time()
HEAD = (
    f"From: a@example.org\nTo: b@example.com\nDate: {formatdate(ARRIVED)}\n"
    "Message-ID: <1@example.org>\nSubject: hello\n"
).encode()

ONE_CLICK = b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\n"


def told(content: bytes, links: tuple[str, ...] = ()) -> list[str]:
    return check(mime.parse(content), content, ARRIVED, list(links))


def of_html(markup: str) -> list[str]:
    """What is told about HTML with a text beside it."""
    return told(
        HEAD
        + b"Content-Type: multipart/alternative; boundary=b\n\n--b\n\ntext\n--b\n"
        + b"Content-Type: text/html; charset=utf-8\nContent-ID: <there>\n\n"
        + markup.encode()
        + b"\n--b--\n"
    )


def test_nothing_is_told_of_a_good_message() -> None:
    assert told(HEAD + b"\nHello\n") == []
    assert of_html('<p>Hello</p><img alt="" src="cid:there">') == []
    encoded = (
        HEAD + b"Content-Type: text/plain; charset=utf-8\nCc: =?utf-8?q?=C3=A9?= <c@d.example>"
    )
    list_fields = ONE_CLICK + b"List-Unsubscribe: <mailto:x@a.example>, <https://a.example/off>\n"
    assert told(HEAD + list_fields + b"\nHello\n") == []
    assert of_html('<base href="https://a.example"><a href="/b">x</a><a href="#c">y</a>') == []
    assert told(encoded + b"\n\n\xc3\xa9\n", ("https://localhost.example/",)) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (HEAD.replace(b"Date", b"X-Date"), "There is no Date field."),
        (HEAD.replace(b"From", b"X-From"), "There is no From field."),
        (HEAD.replace(b"Message-ID", b"X"), "There is no Message-ID field."),
        (HEAD.replace(b"hello", b""), "The subject is empty."),
        (HEAD + b"SUBJECT: again\n", "There are 2 Subject fields; there may be one."),
        (HEAD + b"Bcc: c@d.example\n", "The Bcc field was sent along: every recipient can "),
        (HEAD.replace(b"Date: ", b"Date: not "), "The Date can't be read."),
        (HEAD.replace(b" 20", b" 19"), "The Date is more than a day from the arrival."),
        (HEAD.replace(b"hello", b"hello {{ name }}"), "A placeholder wasn't filled in: {{ name }}"),
        (HEAD + b"\nDear <%= user.name %>,", "A placeholder wasn't filled in: <%= user.name %>"),
        (HEAD + b"X-City: K\xc3\xb6ln\n", "The field X-City isn't ASCII; it needs encoded words"),
        (HEAD + b"\n" + b"x" * 999, "A line is longer than 998 octets; some servers cut it or"),
        (
            HEAD + b"Content-Type: multipart/mixed; boundary=a\n\n--b\n\ntext",
            "It says that it is a multipart, but its boundary doesn't occur.",
        ),
        (HEAD + b"\n\xff", "The text/plain part isn't ASCII, and names no charset."),
        (
            HEAD + b"Content-Type: text/plain; charset=us-ascii\n\n\xc3\xa9",
            "The text/plain part: not all of it is us-ascii.",
        ),
        (
            HEAD + b"Content-Type: text/plain; charset=no-such\n\nx",
            "The text/plain part: no-such is not a known charset.",
        ),
        (
            HEAD + b"Content-Type: text/plain; charset=win-1251\n\nx",
            "The text/plain part: win-1251 is not a known charset.",
        ),
        (HEAD + b"Content-Type: text/html\n\n<p>", "There is HTML but no text beside it."),
        (
            HEAD + b"Content-Type: multipart/alternative; boundary=b\n\n--b\n\n \n--b\n"
            b"Content-Type: text/html\n\n<p>x</p>\n--b--\n",
            "The text beside the HTML is empty.",
        ),
        (
            HEAD + b"List-Unsubscribe: https://example.org/off\n",
            "List-Unsubscribe has no address in angle brackets.",
        ),
        (
            HEAD + ONE_CLICK + b"List-Unsubscribe: <mailto:off@example.org>\n",
            "List-Unsubscribe-Post needs an https address in List-Unsubscribe.",
        ),
        (HEAD + ONE_CLICK, "List-Unsubscribe-Post needs an https address in List-Unsubscribe."),
        (
            HEAD + b"List-Unsubscribe: <https://a.example>\nList-Unsubscribe-Post: One-Click\n",
            "List-Unsubscribe-Post must be List-Unsubscribe=One-Click.",
        ),
    ],
)
def test_a_problem_is_told(content: bytes, problem: str) -> None:
    [one] = told(content)
    assert one.startswith(problem)


@pytest.mark.parametrize(
    ("markup", "problem"),
    [
        ('<img alt=x src="cid:gone@x">', "The HTML shows cid:gone@x, which no part has."),
        ("<SCRIPT>1</SCRIPT><script>2</script>", "Mail programs don't show <script>, or not all"),
        ("<form action=/x>", "Mail programs don't show <form>, or not all of them."),
        ('<link href=x.css rel="stylesheet">', "Mail programs don't load style sheets; put the "),
        ("<img src=cid:there><img alt src=cid:there>", "Pictures without an alt text: 1."),
        ("<a href='/reset?t=1'>", "A link says no host, so that it leads nowhere: /reset?t=1"),
        ("<a href=www.a.example>", "A link says no host, so that it leads nowhere: www.a.exam"),
        ("x" * 105_000, "The HTML is larger than 102 KiB; Gmail cuts off the rest."),
    ],
)
def test_a_problem_of_html_is_told(markup: str, problem: str) -> None:
    markup = "\n".join(markup[at : at + 900] for at in range(0, len(markup), 900))
    [one] = of_html(markup)
    assert one.startswith(problem)


def test_fields_in_utf_8_are_right_where_smtputf8_was_spoken() -> None:
    received = b"Received: from x by y with UTF8SMTP; Sun, 22 Nov 2026 16:43:20 -0000\n"
    assert told(received + HEAD + "Cc: jürgen@example.org\n\nx".encode()) == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "[::1]", "0.0.0.0"])
def test_a_link_to_the_developers_machine_is_told(host: str) -> None:
    link = f"http://{host}/reset?token=1"
    assert told(HEAD, (link, link)) == [f"A link leads to the reader's own machine: {link}"]


def test_what_is_told_has_an_end() -> None:
    links = tuple(f"http://localhost/{number}" for number in range(1000))
    assert len(told(b"", links)) == MAX_TOLD
