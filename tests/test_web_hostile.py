"""Mail that is made to hurt its reader: what is bounded, what is linear, and what still works.

Nothing here depends on the speed of the machine: work is compared with the work on a quarter of
the same input, or counted.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import itertools
import json
import logging
import os
import re
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

import smtp_blinker
from smtp_blinker import trace
from smtp_blinker.web import child, create_app
from smtp_blinker.web.inbox import PIECE, Inbox
from smtp_blinker.web.reader import (
    charsets,
    checks,
    details,
    entry,
    fields,
    index,
    markup,
    mime,
    query,
    requests,
    transfer,
    worker,
)
from smtp_blinker.web.reader.frames import Frame

PACKAGE = Path(smtp_blinker.__file__).parent
KIB = 1024
MIB = 1024 * 1024
ID = "1700000000.M0P1Q1.test"


class Mailbox:
    """A Maildir with its page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir()
        self.app = create_app((), folder)
        self.client: FlaskClient = self.app.test_client()
        self.inbox: Inbox = self.app.extensions["smtp_blinker"].inboxes[""]

    def put(self, content: bytes, id: str = ID) -> str:
        (self.folder / "tmp" / id).write_bytes(content)
        os.rename(self.folder / "tmp" / id, self.folder / "new" / id)
        return id

    def get(self, path: str = "") -> Any:
        response = self.client.get(f"/api/messages{path}")
        assert response.status_code == 200, response.text
        return response.get_json()

    def listed(self, query: str = "") -> list[str]:
        return [each["id"] for each in self.get(f"?q={query}")["messages"]]


@pytest.fixture
def mailbox(tmp_path: Path) -> Iterator[Mailbox]:
    mailbox = Mailbox(tmp_path)
    yield mailbox
    mailbox.app.extensions["smtp_blinker"].detach()


# Worst mails, of about as many octets as asked for


def repeated(text: bytes, size: int) -> bytes:
    return text * (size // len(text))


def of_parts(part: bytes, size: int, subject: bytes = b"x") -> bytes:
    head = b"Subject: %s\nContent-Type: multipart/mixed; boundary=b\n\n" % subject
    return head + repeated(b"--b\n" + part, size) + b"--b--\n"


def nested_boundaries(size: int) -> bytes:
    """Lines that begin like the delimiter of each of twenty levels, and are none."""
    head = b"".join(
        b"Content-Type: multipart/mixed; boundary=%s\n\n--%s\n" % (b"b" * n, b"b" * n)
        for n in range(1, 21)
    )
    return head + b"\n" + repeated(b"--" + b"b" * 20 + b"c\n", size)


def html_mail(text: bytes) -> Callable[[int], bytes]:
    return lambda size: b"Content-Type: text/html\n\n" + repeated(text, size)


def text_mail(text: bytes, header: bytes = b"") -> Callable[[int], bytes]:
    return lambda size: header + b"\n" + repeated(text, size)


def charset_mail(charset: bytes, text: bytes) -> Callable[[int], bytes]:
    return text_mail(text, b"Content-Type: text/plain; charset=" + charset + b"\n")


MARKUP = (
    b"<", b"<a>", b"<!--", b"<!---->", b"<style>", b"<sTyLe></STYle>", b"</style ", b"<br ",
    b"&", b"&#1;", b"&#x1", b"&aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b"href=", b'href="', b"href='\"",
    b"href= ", b"src= ", b"srcset", b"url( ", b"cid:x ", b"<link", b"<link x", b"<meta ", b"<img ",
    b"<img>", b"<img cid:", b"<form", b"{{", b"{%", b"<%=", b"http://a ", b"https://", b" ", b"\n",
    b"\r\n", b"\0", b"\xff", b"\xf0\x9f\x98\x80",
)  # fmt: skip
WORST: dict[str, Callable[[int], bytes]] = {
    "lines of 998": text_mail(b"x" * 998 + b"\n"),
    "one line": text_mail(b"x"),
    "CRs": text_mail(b"\r"),
    "soft line breaks": text_mail(b"=\r", b"Content-Transfer-Encoding: quoted-printable\n"),
    "equals signs": text_mail(b"=", b"Content-Transfer-Encoding: quoted-printable\n"),
    "no base64": text_mail(b"=!", b"Content-Transfer-Encoding: base64\n"),
    "addresses": text_mail(b"http://a "),
    "semicolons": lambda size: of_parts(
        b"Content-Type: text/plain" + b";" * 4000 + b"\n\nx\n", size
    ),
    "quotes": lambda size: of_parts(b"Content-Type: a/b; c=" + b'";' * 2000 + b"\n\nx\n", size),
    "backslashes": lambda size: of_parts(b'Content-Type: a/b; c="' + b"\\" * 4000 + b"\n\n", size),
    "pieces of a parameter": lambda size: of_parts(
        b"Content-Type: a/b" + b"".join(b";name*%d=%%41" % n for n in range(300)) + b"\n\nx\n", size
    ),
    "Content fields": lambda size: of_parts(
        b"".join(b"Content-%d: y\n" % n for n in range(990)) + b"\nx\n", size
    ),
    "folded field": lambda size: of_parts(b"Content-Type: a\n" + b" b\n" * 5000 + b"\n", size),
    "parts": lambda size: of_parts(b"\nx\n", size),
    "parts without a body": lambda size: of_parts(b"X: y\n", size),
    "names": lambda size: of_parts(b"Content-Type: a/b; name=" + b"n" * 900 + b"\n\nx\n", size),
    "boundaries": nested_boundaries,
    "hyphens": lambda size: b"Content-Type: multipart/x; boundary=b\n\n" + repeated(b"--\n", size),
    "endless header": lambda size: repeated(b"X: y\n", size),
    "endless field": lambda size: b"X: y\n" + repeated(b" z\n", size),
    "encoded words": lambda size: b"Subject: " + repeated(b"=?utf-8?q?", size),
    "trace fields": lambda size: repeated(b"Delivered-To: a@b.example\n", size),
    "punycode": charset_mail(b"punycode_", b"b9c"),
    "idna": charset_mail(b"IDNA", b"xn--a."),
    "utf-7": charset_mail(b"utf-7", b"+2AA-"),
    "escapes": charset_mail(b"Unicode-Escape", b"\\x"),
    "undefined in windows-1252": charset_mail(b"windows-1252", b"\x81"),
    "undefined in utf-16": charset_mail(b"utf-16", b"\x00\xd8"),
    "undefined in gbk": charset_mail(b"gbk", b"\xff"),
    "undefined in iso-2022-jp": charset_mail(b"iso-2022-jp", b"\x1b$B\xff"),
    **{f"HTML of {text!r:.20}": html_mail(text) for text in MARKUP},
}


LISTED = entry.Entry(ID, "", 0.0, True).as_dict()


def read(do: str, path: Path, **fields: Any) -> Frame:
    """What the reader answers, in this process."""
    with tempfile.TemporaryFile() as file:
        about = {"path": str(path), "listed": LISTED, "messages": [[ID, str(path)]], "number": 0}
        frame = Frame({"do": do, **about, **fields}, file=file.fileno())
        answer = worker.answered(requests.FUNCTIONS, frame)
        file.seek(0)
        return answer._replace(body=answer.body + file.read())


def cost(folder: Path, content: bytes) -> float:
    """Seconds of CPU for all that the page may ask of a message, the better of two times."""
    path = folder / "message"
    path.write_bytes(content)
    best = float("inf")
    for _ in range(2):
        began = time.process_time()
        answers = [read(do, path) for do in requests.FUNCTIONS]
        best = min(best, time.process_time() - began)
        assert not any("fault" in answer.fields for answer in answers)
    return best


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> float:
    """What a message of 256 KiB costs that nobody made to hurt."""
    content = text_mail(b"A line of text, not too long.\n")(256 * KIB)
    return cost(tmp_path_factory.mktemp("harmless"), content)


@pytest.mark.parametrize("make", WORST.values(), ids=WORST)
def test_work_is_linear_in_the_size_of_a_message(
    tmp_path: Path, harmless: float, make: Callable[[int], bytes]
) -> None:
    large = cost(tmp_path, make(256 * KIB))
    # Quadratic work would be 64 times as much as for an eighth of it.
    assert large < 20 * cost(tmp_path, make(32 * KIB)) + 0.1
    assert large < 40 * harmless + 0.1


# Patterns

MODULES = (charsets, checks, details, entry, fields, index, markup, mime, query, trace, transfer)
TOKENS = (
    " ", "\t", "\n", "\r", "<", ">", "a", "A", "1", "=", "?", "(", "[", "]", '"', "'", "&", "&#",
    "&#x", "-", "--", "\\", ";", ":", "/", ".", "%", "*", "{{", "{%", "<%=", "cid:", "href",
    "href=", 'href="', "href='", "src", "src=", "srcset", "url(", "http", "http://", "https:",
    "<a", "<a ", "</", "</style", "<style", "<!--", "<br", "<img", "<img alt", "<link",
    "<link stylesheet", "<meta", "=?", "=?a?q?", "=?a?b?a", "?=", "?= ", "content-type",
    "content-type:", "\n ", "\n\n", ";a", ";a=", ';a="', '\\"', "from a", "from a (",
    "from a (a [", " by a", " with a", " (version=a cipher=a", " id a", " for <", "is:", 'is:"',
    '-"', "subject:",
)  # fmt: skip


def patterns() -> Iterator[Any]:
    for module in MODULES:
        for name, value in vars(module).items():
            found = value.items() if isinstance(value, dict) else [("", value)]
            for key, pattern in found:
                if isinstance(pattern, re.Pattern):
                    yield pytest.param(pattern, id=f"{module.__name__[24:]}{name}{key}")


#: Those that are only matched with the beginning of a text, not searched in it.
ANCHORED = frozenset(
    {
        checks._LOCAL_LINK,
        fields._FIELD_NAME,
        markup._LINK_SCHEME,
        index._ARRIVED,
        mime._EMPTY_LINE,
        mime._MEDIA_TYPE,
        query._PLACE,
        trace._HEADER,
        trace._RECEIVED,
        trace._TRACE,
    }
)


def seconds(pattern: re.Pattern[Any], text: str) -> float:
    looked_at = text.encode() if isinstance(pattern.pattern, bytes) else text
    began = time.thread_time()
    if pattern in ANCHORED:
        pattern.match(looked_at)
    else:
        for _ in pattern.finditer(looked_at):
            pass
    return time.thread_time() - began


@pytest.mark.parametrize("pattern", list(patterns()))
def test_a_pattern_is_linear_whatever_it_looks_at(pattern: re.Pattern[Any]) -> None:
    beginnings = ["", *TOKENS]
    for token in TOKENS:
        # What comes before a run may make a pattern look at all of it.
        for begin in beginnings if len(token) == 1 else [""]:
            text, part = (begin + token * (size // len(token)) for size in (8 * KIB, KIB))
            if seconds(pattern, text) > 0.005:  # else it isn't worth a closer look
                # Quadratic work takes 64 times as long as for an eighth, each time it is measured.
                found: list[tuple[float, float]] = []
                while not any(large < 24 * small for large, small in found):
                    assert len(found) < 5, (begin, token, found)
                    found.append(
                        (
                            min(seconds(pattern, text) for _ in range(3)),
                            min(seconds(pattern, part) for _ in range(3)),
                        )
                    )


# Pieces


@given(st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_transfer_encodings_are_undone_alike_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    ends = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for encoded, encoding in (
        (base64.encodebytes(data), "base64"),
        (binascii.b2a_qp(data, istext=False), "quoted-printable"),
        (data, ""),
    ):
        ends = sorted({0, len(encoded), *(cut for cut in cuts if cut < len(encoded))})
        pieces = [encoded[start:end] for start, end in itertools.pairwise(ends)]
        assert b"".join(transfer.decode(pieces, encoding)) == data


@pytest.mark.parametrize("text", ["\r\n" * 9, "\r" * 9, "a\r\nb\0\r", "\n\r\n" * 9])
def test_line_ends_become_lf(text: str) -> None:
    data = b"\n" + text.encode()
    [part] = mime.parse(data).parts
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert part.text(data) == lines.replace("\0", "\ufffd")


def test_runs_of_cr_are_line_ends_in_linear_time() -> None:
    data = b"Subject: x\r\r\n\r\r\na\r\r\r\nb\rc"
    message = mime.parse(data)
    assert message.first("subject") == "x"
    assert message.parts[0].text(data) == "a\nb\nc"
    began = time.thread_time()
    data = b"\n" + b"\r" * 2**20
    mime.parse(data).parts[0].text(data)
    assert time.thread_time() - began < 2


@given(st.lists(st.integers(0, 1200), max_size=6), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_a_long_line_is_found_wherever_it_is(lengths: list[int], end: bytes) -> None:
    data = end.join(b"x" * length for length in lengths)
    assert checks.has_long_line(data) is any(length > 998 for length in lengths)


def test_lines_that_may_be_delimiters_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[None] = []
    delimiter = mime._Parser._delimiter

    def counting(parser: Any, *where: int) -> Any:
        looked_at.append(None)
        return delimiter(parser, *where)

    monkeypatch.setattr(mime._Parser, "_delimiter", counting)
    content = nested_boundaries(200 * KIB)
    assert len(mime.parse(content).parts) == 21
    assert len(looked_at) <= content.count(b"\n--")
    looked_at.clear()
    mime.parse(nested_boundaries(8 * MIB))
    assert len(looked_at) <= mime.MAX_DASHES


# Large messages


def test_an_attachment_is_decoded_while_it_is_downloaded(mailbox: Mailbox) -> None:
    content = os.urandom(25 * MIB)
    head = b"Content-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"
    mailbox.put(head + base64.encodebytes(content))
    pieces = mailbox.client.get(f"/api/messages/{ID}/parts/0").iter_encoded()
    digests = [(len(piece), hash(piece)) for piece in pieces]
    assert max(size for size, _ in digests) <= PIECE
    assert sum(size for size, _ in digests) == len(content)
    assert mailbox.client.get(f"/api/messages/{ID}/parts/0").data == content


def test_a_download_is_never_whole_in_memory(mailbox: Mailbox) -> None:
    mailbox.put(b"Content-Transfer-Encoding: base64\n\n" + b"QUJD" * (4 * MIB))
    box = mailbox.inbox
    answer = box.look_into_file(ID, "part", number=0)
    assert answer is not None
    for pieces in (answer[1], box.raw(ID)):
        assert pieces is not None
        tracemalloc.start()
        assert sum(map(len, pieces)) > 8 * MIB
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 8 * PIECE


# What can't be read


def digits(number: int) -> bytes:
    return b"Content-Type: text/html\n\n<p>A&#" + b"1" * number + b";&#x" + b"f" * number + b";Z"


@pytest.mark.parametrize("number", [8, 4300, 4301, 100_000, 400_000])
def test_a_number_of_any_length_is_shown(mailbox: Mailbox, number: int) -> None:
    mailbox.put(digits(number))
    text = mailbox.get(f"/{ID}")["text"]
    assert text.startswith("A\ufffd")
    assert mailbox.get()["messages"][0]["snippet"].startswith("A\ufffd")
    assert mailbox.client.get(f"/api/messages/{ID}/html").status_code == 200


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("&#65;", "A"),
        (f"&#{'0' * 5000}65;", "A"),
        (f"&#x{'0' * 5000}41", "A"),
        (f"&#X{'0' * 5000};", "\ufffd"),
        (f"&#{'9' * 8};", "\ufffd"),
        ("&#x26;#65;", "&#65;"),
        (f"&#x{'0' * 10}26;#65;", "&#65;"),
        ("&amp;#65;", "&#65;"),
    ],
)
def test_character_references_mean_what_they_mean_in_html(reference: str, text: str) -> None:
    assert markup.unescape(reference) == text  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", ["1" * 10, "1" * 4301, "1" * 7000, "\u0661", "-1", "1.0"])
def test_a_part_has_a_short_number(mailbox: Mailbox, number: str) -> None:
    mailbox.put(b"\nx")
    assert mailbox.client.get(f"/api/messages/{ID}/parts/{number}").status_code == 404


#: What the reader does at the message that breaks it.
FAULTS = {
    "a fault": "raise ValueError('two\\nlines')",
    "a long fault": "raise OverflowError('x' * 10_000)",
    "no access": "raise PermissionError(13, 'Permission denied')",
    "recursion": "def again(): again()\n        again()",
    "memory": "bytearray(2**40)",
    "a crash": "import os; os.kill(os.getpid(), 11)",
    "an exit": "raise SystemExit",
    "too much work": "while True: pass",
    "no end": "import time; time.sleep(3600)",
    "no answer": "import os; os.dup2(1, 0)",
}


@pytest.fixture
def broken(
    request: pytest.FixtureRequest,
    mailbox: Mailbox,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A message that a fault keeps from being read, beside one that can be."""
    package = tmp_path_factory.mktemp("broken") / "smtp_blinker"
    folder = package / "web/reader"
    shutil.copytree(child._FOLDER, folder)
    # What it imports of the library.
    shutil.copytree(PACKAGE / "smtp", package / "smtp")
    shutil.copy(PACKAGE / "trace.py", package)
    with (folder / "mime.py").open("a") as file:
        file.write(
            f"""
_parse = parse

def parse(data: bytes) -> Message:
    if b"broken" in data:
        {FAULTS[request.param]}
    return _parse(data)
"""
        )
    monkeypatch.setattr(child, "_FOLDER", str(folder))
    mailbox.inbox.reader = child.Child(
        "reader", cpu_seconds=1, seconds=1 if request.param == "no end" else 30
    )
    mailbox.put(b"Subject: fine\n\nx", "1.fine")
    return mailbox.put(b"Subject: broken\n\nword", "2.broken")


with_every_fault = pytest.mark.parametrize("broken", FAULTS, indirect=True)


def assert_lines_of_a_log(records: list[logging.LogRecord]) -> None:
    assert records
    for record in records:
        assert record.exc_info is None
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 2000


@with_every_fault
def test_a_message_that_cannot_be_read_is_listed_among_the_others(
    mailbox: Mailbox, broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    messages = mailbox.get()["messages"]
    assert [each["unreadable"] for each in messages] == [True, False]
    assert [each["subject"] for each in messages] == ["", "fine"]
    assert mailbox.get("/1.fine")["unreadable"] is False
    message = mailbox.get(f"/{broken}")
    assert message["unreadable"] is True
    assert message["id"] == broken
    assert (message["text"], message["checks"], message["left_out"]) == ("", [], [])
    raw = mailbox.client.get(f"/api/messages/{broken}/raw")
    assert raw.data == b"Subject: broken\n\nword"
    html = mailbox.client.get(f"/api/messages/{broken}/html")
    assert html.status_code in (500, 503)
    assert html.get_json()["error"]
    assert mailbox.client.get(f"/api/messages/{broken}/source").status_code == 200
    assert mailbox.get("/1.fine")["text"] == "x"
    assert_lines_of_a_log(caplog.records)


@pytest.mark.parametrize("broken", ["a fault", "a crash"], indirect=True)
def test_events_go_on_when_a_message_cannot_be_read(mailbox: Mailbox, broken: str) -> None:
    stream = mailbox.client.get("/api/events").iter_encoded()
    counts = next(piece for piece in stream if b"event: inbox" in piece)
    assert json.loads(counts.partition(b"data: ")[2])["total"] == 2
    mailbox.put(b"Subject: later\n\nx", "3.later")
    counts = next(piece for piece in stream if b"event: inbox" in piece)
    assert json.loads(counts.partition(b"data: ")[2])["total"] == 3
    stream.close()  # type: ignore[attr-defined]
    assert mailbox.client.get("/metrics").status_code == 200


@pytest.mark.parametrize("broken", ["a fault", "a crash"], indirect=True)
def test_no_search_finds_what_could_not_be_read(mailbox: Mailbox, broken: str) -> None:
    assert mailbox.listed("word") == []
    assert mailbox.listed("-word") == ["1.fine"]
    assert mailbox.listed("-has:attachment") == ["1.fine"]
    assert mailbox.listed("is:unread") == [broken, "1.fine"]
    assert mailbox.client.delete("/api/messages?q=-word").get_json() == {"deleted": 1}
    assert mailbox.listed() == [broken]


def test_a_message_is_read_again_when_its_reader_was_killed(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system may do that, when memory is short."""
    ask = child.Child.ask
    tries = []

    def ask_once_without_answer(reader: child.Child, do: str, *args: Any, **fields: Any) -> Any:
        if do == "summarize":
            tries.append(do)
            if len(tries) == 1:
                raise child.Failed("it ended")
        return ask(reader, do, *args, **fields)

    monkeypatch.setattr(child.Child, "ask", ask_once_without_answer)
    mailbox.put(b"Subject: fine\n\nword")
    assert mailbox.listed("word") == [ID]
    assert len(tries) == 2


def test_no_path_forges_a_line_of_the_log(
    mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(box: object, id: str, do: str) -> None:
        raise ValueError(id)

    monkeypatch.setattr(Inbox, "look", fail)
    path = "/api/messages/x%0D%0A2026-11-28%20INFO%20forged%1B%5B31m%E2%80%A8"
    response = mailbox.client.get(path)
    assert response.status_code == 500
    assert response.get_json() == {"error": "there is no answer to this; the log says why"}
    assert_lines_of_a_log(caplog.records)


# Charsets

LABELS = (
    "punycode_", "PUNYCODE", "puny code", " punycode", "idna",
    "unicode-escape", "raw.unicode.escape", "rot13", "hex", "zlib", "zip", "bz2", "base64", "uu",
    "quopri", "undefined", "mbcs", "oem", "charmap", "string-escape", "cp65001", "encodings",
    "aliases", "__init__", "os", "../os", "no-such", "", "\x00", "utf-8\x00", "é", "x" * 10_000,
)  # fmt: skip


@pytest.fixture
def looked_up() -> Iterator[list[str]]:
    """The names that `codecs` is asked for and doesn't know: it keeps them for ever."""
    names: list[str] = []
    codecs.register(names.append)
    yield names
    codecs.unregister(names.append)


@pytest.mark.parametrize("label", ["utf-7", "u7", "unicode-1-1-utf-7", "cp65000"])
def test_half_of_a_surrogate_pair_in_utf_7_is_no_character(tmp_path: Path, label: str) -> None:
    path = tmp_path / "message"
    path.write_bytes(
        b"Subject: =?%b?q?+2AA-?=\nContent-Type: text/html; charset=%b\n\n<p>+2AA- +2D3cAA-</p>"
        % (label.encode(), label.encode())
    )
    message = json.loads(read("describe", path).body)
    assert ["Subject", "\ufffd"] in message["headers"]
    assert message["text"] == "\ufffd \U0001f400"


@pytest.mark.parametrize("label", LABELS)
def test_what_is_no_charset_of_ours_is_never_looked_up(
    tmp_path: Path, looked_up: list[str], label: str
) -> None:
    name = label.encode()
    quoted = "".join(f"%{octet:02x}" for octet in name[:1000]).encode()
    text = b"+2AA-\\x41xn--a68 656c=41"
    subject = b"=?%s?q?%s?=" % (name[:40], text)
    path = tmp_path / "message"
    for content in (
        b'Content-Type: text/plain; charset="%s"' % name,
        b"Content-Type: text/html; charset=%s" % name,
        b"Content-Type: text/plain; charset*=%s''%s" % (name, quoted),
        b"Content-Type: text/plain; charset*0*=%s''%s; charset*1*=%s" % (name, quoted, quoted),
        b"Content-Type: text/plain; name*=%s''a%%41" % name,
        b"Content-Disposition: attachment; filename*0*=%s''a; filename*1*=%%41" % name,
        b"Content-Type: multipart/mixed; boundary*=%s''b%%41" % name,
    ):
        path.write_bytes(b"Subject: %s\n%s\n\n%s" % (subject, content, text))
        answers = {do: read(do, path) for do in requests.FUNCTIONS}
        assert not any("fault" in answer.fields for answer in answers.values())
        message = json.loads(answers["describe"].body)
        if not message["parts"][0]["filename"]:
            assert message["text"] == text.decode()
    assert looked_up == []


@pytest.mark.parametrize(
    ("charset", "octets", "text"),
    [
        ("UTF-8", b"\xc3\xa4\xff", "ä\ufffd"),
        ("utf8", b"\xef\xbb\xbfa", "a"),
        ("us-ascii", b"a\xff", "aÿ"),
        ("ISO_8859-1", b"\xe4", "ä"),
        ("latin1", b"\x80\x81", "€\x81"),
        ("iso-8859-15", b"\xa4", "€"),
        ("Windows-1252", b"\x80\x81", "€\x81"),
        ("cp1251", b"\xc6", "Ж"),
        ("koi8-r", b"\xd6", "ж"),
        ("GB18030", b"\xc4\xe3", "你"),
        ("big5", b"\xa7A", "你"),
        ("Shift_JIS", b"\x82\xa0", "あ"),
        ("iso-2022-jp", b'\x1b$B$"\x1b(B', "あ"),
        ("euc-kr", b"\xb0\xa1", "가"),
        ("utf-16", b"\xff\xfea\x00", "a"),
        ("utf-16", b"\xfe\xff\x00a", "a"),
        ("utf-16", b"a\x00", "a"),
        ("utf-16be", b"\x00a\xd8", "a\ufffd"),
        ("utf-32", b"a\x00\x00\x00", "a"),
        ("utf-7", b"\xe4", "ä"),
        (None, b"\xe4", "ä"),
    ],
)
def test_text_is_decoded_by_its_charset_in_any_steps(
    monkeypatch: pytest.MonkeyPatch, charset: str | None, octets: bytes, text: str
) -> None:
    assert charsets.decode(octets, charset) == text
    monkeypatch.setattr(charsets, "STEP", 1)
    assert charsets.decode(octets, charset) == text


@pytest.mark.parametrize("codec", sorted(charsets._CODECS))
def test_every_charset_takes_octets_of_every_kind(codec: str) -> None:
    for octets in (bytes(range(256)) * 4, b"\xff" * 99, b"\x1b$B" * 99, b"~{" * 99, b""):
        assert isinstance(charsets.decode(octets, codec), str)
        assert isinstance(charsets.problem(octets, codec), str | None)
    assert charsets.problem(b"", codec) is None


def test_names_of_charsets_leave_nothing_behind(tmp_path: Path, looked_up: list[str]) -> None:
    path = tmp_path / "message"
    for number in range(4):
        words = b"".join(b"=?x%d-%d?q?a?= " % (number, each) for each in range(400))
        parts = b"".join(
            b"--b\nContent-Type: text/plain; charset=y%d-%d\n\nx\n" % (number, each)
            for each in range(400)
        )
        path.write_bytes(
            b"Subject: " + words + b"\nContent-Type: multipart/x; boundary=b\n\n" + parts
        )
        assert read("describe", path).body
    assert looked_up == []


# Bounds


@pytest.mark.parametrize(("number", "length"), [(1000, 20), (1000, 250), (5000, 250)])
def test_the_trace_fields_of_many_recipients_leave_room_for_the_rest(
    mailbox: Mailbox, number: int, length: int
) -> None:
    recipients = [f"{n:0{length}}@example.com" for n in range(number)]
    delivered_to = "".join(f"Delivered-To: {recipient}\n" for recipient in recipients)
    mailbox.put(
        b"Return-Path: <bounce@example.org>\n"
        + delivered_to.encode()
        + b"Received: from client.example by mx.example.com with ESMTP; Sun\n"
        + b"From: Bob <bob@example.org>\nSubject: to all\nContent-Type: text/html\n\n<p>Hello</p>"
    )
    [listed] = mailbox.get()["messages"]
    assert (listed["from"], listed["subject"]) == ("Bob <bob@example.org>", "to all")
    assert listed["snippet"] == "Hello"
    assert listed["recipients"] == recipients[:20]
    message = mailbox.get(f"/{ID}")
    assert message["subject"] == "to all"
    assert message["html"]
    assert message["envelope"] == {
        "mail_from": "bounce@example.org",
        "rcpt_to": recipients[: fields.MAX_RECIPIENTS],
    }
    assert message["session"]["helo"] == "client.example"
    assert message["left_out"] == (
        [f"It has {number} recipients or more; {fields.MAX_RECIPIENTS} are shown."]
        if number > fields.MAX_RECIPIENTS
        else []
    )
    assert b"Hello" in mailbox.client.get(f"/api/messages/{ID}/html").data


def test_a_long_field_does_not_hide_the_envelope_from_a_search(mailbox: Mailbox) -> None:
    mailbox.put(
        b"Return-Path: <bounce@example.org>\nDelivered-To: ada@example.com\n"
        b"Received: from client.example by mx.example.com with ESMTP; Sun\n"
        + b"".join(
            b"%b: %b z@example.net\n" % (name, b"x@y,\n " * 9000) for name in (b"From", b"To")
        )
        + b"Subject: to all\n\nHello"
    )
    assert mailbox.listed("to:ada@example.com") == [ID]
    assert mailbox.listed("from:bounce@example.org") == [ID]


def characters(summary: dict[str, Any]) -> int:
    texts = [text for text in summary.values() if isinstance(text, str)]
    return sum(map(len, (*texts, *summary["recipients"], *summary["folded"].values())))


def most_characters() -> int:
    listed = 3 * entry.SHOWN + entry.SNIPPET + entry.LISTED_RECIPIENTS * trace.MAX_ADDRESS
    return listed + sum(entry.SEARCHED.values())


@pytest.mark.parametrize(
    "content",
    [
        of_parts(b"Content-Type: a/b; name=" + b"n" * 900 + b"\n\nx\n", 427 * KIB),
        b"From: " + b"f" * 8000 + b"\nSubject: " + b"s" * 8000 + b"\n\nx",
        b"".join(b"To: " + b"t" * 8000 + b"\nCc: " + b"c" * 8000 + b"\n" for _ in range(15)),
        b"Delivered-To: " + b"d" * 8000 + b"\n" + b"Delivered-To: d@d.example\n" * 3000,
        "Subject: {0}\nFrom: {0}\nTo: {0}\n\n{1}".format("\u0390" * 2000, "\u0390" * 9000).encode(),
    ],
    ids=["names", "sender and subject", "recipients", "envelope", "longer when casefolded"],
)
def test_an_entry_of_the_index_is_bounded_and_says_that_it_is_cut(
    mailbox: Mailbox, content: bytes
) -> None:
    mailbox.put(content)
    [summary] = json.loads(read("summarize", mailbox.folder / "new" / ID).body)
    assert characters(summary) <= most_characters() <= 58 * KIB
    assert summary["cut"]
    assert mailbox.get()["messages"][0]["cut"]
    mailbox.put(b"Subject: short\n\n" + b"long text " * 10_000, "2.short")
    assert mailbox.get("?q=short")["messages"][0]["cut"] is False


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (of_parts(b"\nx\n", 8 * KIB), "It has more than 500 parts; the others are not shown."),
        (nested_boundaries(600 * KIB), "It has more than "),
        (
            b"".join(
                b"Content-Type: multipart/x; boundary=%d\n\n--%d\n" % (n, n) for n in range(30)
            ),
            "What is nested deeper than 20 levels is not taken apart.",
        ),
        (b"X: y\n" * 1001 + b"\nx", "Of its header no more than 1000 fields, "),
        (b"X: " + b"y" * 70_000 + b"\n\nx", "Of its header no more than 1000 fields, 65536 "),
        (of_parts(b"X: y\n" * 8000 + b"\n", 100 * KIB), "Of a part's header 32 KiB were read."),
        (of_parts(b"X: y\n" * 6000 + b"\n", 900 * KIB), "Of its parts' headers 512 KiB were read."),
        (b"\n" + b"x" * (MIB + 1), "Of its text the first 1024 KiB are shown."),
        (html_mail(b"x")(3 * MIB), "Of its HTML the first 2048 KiB are shown."),
        (html_mail(b"x")(600 * KIB), "Text, links and mistakes were looked for in the first 512 "),
    ],
)
def test_what_is_left_out_is_told(mailbox: Mailbox, content: bytes, sentence: str) -> None:
    mailbox.put(content)
    message = mailbox.get(f"/{ID}")
    assert message["cut"]
    assert [told for told in message["left_out"] if told.startswith(sentence)]


def test_nothing_is_told_of_a_message_that_is_shown_whole(mailbox: Mailbox) -> None:
    mailbox.put(of_parts(b"Content-Type: text/plain\n\nx\n", 8 * KIB, b"q" * 900))
    message = mailbox.get(f"/{ID}")
    assert (message["cut"], message["left_out"]) == (False, [])


def test_pictures_are_bounded_however_they_are_encoded(mailbox: Mailbox) -> None:
    picture = b"Content-Type: image/png\nContent-ID: <p>\n"
    markup = b"Content-Type: text/html\n\n<img src=cid:p>\n"
    for encoding, content in (
        (b"", b"\xff" * (16 * MIB)),
        (b"Content-Transfer-Encoding: quoted-printable\n", b"=41" * (6 * MIB)),
        (b"Content-Transfer-Encoding: base64\n", b"A" * (21 * MIB)),
    ):
        part = picture + encoding + b"\n" + content + b"\n"
        mailbox.put(
            b"Content-Type: multipart/related; boundary=b\n\n--b\n" + markup + b"--b\n" + part
        )
        document = mailbox.client.get(f"/api/messages/{ID}/html").data
        assert b"cid:p" in document
        assert len(document) < KIB


# Requests that change something


@pytest.mark.parametrize(
    "query",
    [
        "query=x", "q=", "q", "Q=x", "q=%20", "q=x&query=y", "q=x&q=y", "query=", "=x", "&", "&&",
        "search=x", "q%5B%5D=x", "limit=1", "q=x&limit=1", "wait=1", "q=-", "q=%22%22", "q=-%22%22",
        "q=is:unraed", "q=-is:x", "q=has:x", "q=-has:atachment", "q=-form:x", "q=-to:", "q=-is:",
        "q=%22%22%20x", "q=" + "a%20" * 21, "q=" + "a" * 501, "q=x%20" + "-a%20" * 20, "_method=x",
    ],
)  # fmt: skip
def test_a_change_that_is_not_understood_changes_nothing(mailbox: Mailbox, query: str) -> None:
    id = mailbox.put(b"Subject: x\n\nx")
    before = sorted(path.name for path in mailbox.folder.rglob("*"))
    for method, path in (
        ("DELETE", ""),
        ("PUT", "/seen"),
        ("DELETE", f"/{id}"),
        ("PUT", f"/{id}/seen"),
        ("DELETE", f"/{id}/seen"),
    ):
        response = mailbox.client.open(f"/api/messages{path}?{query}", method=method)
        assert response.status_code == 400, (method, path)
        assert response.get_json()["error"]
    assert sorted(path.name for path in mailbox.folder.rglob("*")) == before


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"q": "x"}},
        {"json": {"q": "x"}},
        {"data": b"x"},
        {"headers": {"Transfer-Encoding": "chunked"}},
    ],
)
def test_a_search_in_the_body_changes_nothing(mailbox: Mailbox, body: dict[str, Any]) -> None:
    mailbox.put(b"Subject: y\n\nx")
    assert mailbox.client.delete("/api/messages", **body).status_code == 400
    assert mailbox.client.put("/api/messages/seen", **body).status_code == 400
    assert mailbox.get()["unread"] == 1


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("q=one", ["two"]),
        ("q=-one", ["one"]),
        ("q=-%22re:%20x%22", []),
        ("q=is:unread", []),
        ("q=-is:read%20one", ["two"]),
        ("q=has:attachment", ["one", "two"]),
        ("q=re:", ["one", "two"]),
        ("", []),
    ],
)
def test_a_change_that_is_understood_is_made(mailbox: Mailbox, query: str, left: list[str]) -> None:
    for name in ("one", "two"):
        mailbox.put(f"Subject: {name}\n\nx".encode(), name)
    path = f"/api/messages?{query}" if query else "/api/messages"
    assert mailbox.client.delete(path, headers={"Content-Length": "0"}).status_code == 200
    assert sorted(mailbox.listed()) == left


def test_reading_takes_parameters_of_any_kind(mailbox: Mailbox) -> None:
    id = mailbox.put(b"Subject: x\n\nx")
    for path in ("?query=x", "?q=", "?limit=x&wait=-1&within=nan", f"/{id}?x"):
        assert mailbox.client.get(f"/api/messages{path}").status_code == 200
