"""What was read of messages survives a restart of the page."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.page import Folder, plain

from smtp_blinker.web.inbox import Inbox
from smtp_blinker.web.reader import index as index_module
from smtp_blinker.web.reader.entry import SEARCHED, Entry, joined
from smtp_blinker.web.reader.frames import Frame
from smtp_blinker.web.reader.index import Index
from smtp_blinker.web.reader.query import _looked_for, _test, _Word, select
from smtp_blinker.web.reader.requests import FUNCTIONS
from smtp_blinker.web.reader.saved import FILE


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "Maildir")


def lists(folder: Folder, q: str = "") -> tuple[list[dict[str, Any]], bool]:
    """The list of a new page, and whether it had to parse a message for it."""
    with closing(Inbox(folder.path)) as inbox:
        inbox.refresh()
        messages = json.loads(inbox.page(q, 0, 50)[1])["messages"]
        return messages, inbox.reader.pid is not None


def saved(folder: Folder) -> bytes:
    return (folder.path / FILE).read_bytes()


def test_no_message_is_parsed_twice(folder: Folder) -> None:
    folder.put(plain("first", "Grüße\n", Cc="cc@example.com", Keywords="Spring"), flags="S")
    folder.put(plain("second"))
    before, parsed = lists(folder)
    assert parsed
    assert lists(folder) == (before, False)
    for q in ("grüße", "cc:cc@example.com", "subject:first", "tag:spring", "is:read", "-second"):
        assert [each["subject"] for each in lists(folder, q)[0]] == ["first"], q
    folder.put(plain("third"))
    after, parsed = lists(folder)
    assert ([each["subject"] for each in after], parsed) == (["third", "second", "first"], True)
    assert lists(folder) == (after, False)


def test_only_its_user_can_read_what_is_saved(folder: Folder) -> None:
    folder.put(plain())
    lists(folder)
    assert (folder.path / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"another version\n" + content.partition(b"\n")[2],
        lambda content: content[:-20],
        lambda content: content[:-20] + b"\0" * 20,
        lambda content: content.partition(b"\n")[0] + b"\n" + b"[" * 100_000 + b"\n",
        lambda content: content.partition(b"\n")[0] + b'\n3\n{"a": 1}\n[7]\n[{"id": []}]\n[{}]\n',
        lambda content: content.replace(b'"subject"', b'"unknown"'),
    ],
    ids=["empty", "version", "cut", "zeros", "nested", "other JSON", "other names"],
)
def test_what_is_damaged_is_read_again(folder: Folder, damage: Any) -> None:
    folder.put(plain("hello"))
    before, _ = lists(folder)
    (folder.path / FILE).write_bytes(damage(saved(folder)))
    assert lists(folder) == (before, True)
    assert lists(folder) == (before, False)


def test_another_message_of_the_same_name_is_read(folder: Folder) -> None:
    id = folder.put(plain("hello"))
    lists(folder)
    (folder.path / "new" / id).write_bytes(plain("something else"))
    [message], _ = lists(folder)
    assert message["subject"] == "something else"


def test_nothing_is_left_of_a_deleted_message(folder: Folder) -> None:
    folder.put(plain("stays", "visible\n"))
    folder.put(plain("goes", "secret\n"))
    with closing(Inbox(folder.path)) as inbox:
        inbox.refresh()
        assert b"secret" in saved(folder)
        assert inbox.delete(q="subject:goes") == 1
        inbox.refresh()
        assert b"secret" not in saved(folder)
        folder.put(plain("comes", "later\n"))
        inbox.refresh()
    assert b"visible" in saved(folder)
    assert b"later" in saved(folder)
    messages, parsed = lists(folder)
    assert ([each["subject"] for each in messages], parsed) == (["comes", "stays"], False)


def test_of_many_messages_the_file_is_written_again_when_most_are_gone(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time takes as long as there are messages, so that it can't be done for each of them."""
    monkeypatch.setattr(index_module, "FEW", 3)
    for _ in range(12):
        folder.put(plain("hello"))
    index = Index(str(folder.path))
    ask(index, "take in", FUNCTIONS["summarize"](Frame({"messages": batch(index)})).body)
    sizes = []
    while files := folder.files():
        sizes.append(len(saved(folder)))
        os.unlink(folder.path / files[0])
        ask(index, "refresh")
    assert sizes[:6] == sizes[:1] * 6
    assert sizes[-1] < sizes[0] / 3
    assert b"hello" not in saved(folder)


def test_a_maildir_that_can_not_be_written_is_listed(folder: Folder) -> None:
    folder.put(plain("hello"))
    (folder.path / FILE).mkdir()
    messages, _ = lists(folder)
    assert [each["subject"] for each in messages] == ["hello"]
    assert lists(folder) == (messages, True)


def ask(index: Index, do: str, body: bytes = b"") -> dict[str, Any]:
    return index.functions[do](Frame({"do": do}, body)).fields


def batch(index: Index) -> list[list[str]]:
    found: list[list[str]] = ask(index, "refresh")["batch"]
    return found


WORDS = st.sampled_from(
    (
        *("a", "b", "c\0", "\0", "x-y:", "-a", "is:x", "-is:x", "is:unread", "-is:unread"),
        *("from:a", "-text:b", "to:b", "header:a", "tag:t", "-tag:t"),
        *("has:attachment", "-has:attachment", "has:x", "larger:1", "-larger:1", "smaller:x"),
        *("-smaller:x", "after:2026-01-01", "-before:2026-01-01"),
    )
)
TEXTS = st.text("ab\0", max_size=3)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    entry = Entry("id", "path", draw(st.sampled_from([0.0, 2e9])), draw(st.booleans()))
    if not draw(st.booleans()):
        return entry
    words = joined({place: draw(TEXTS) for place in SEARCHED})
    attachments, size = draw(st.integers(0, 1)), draw(st.integers(0, 2))
    tags = draw(st.sampled_from([[], ["t"]]))
    return Entry(
        *(entry.id, entry.path, entry.time, entry.unread, size, True),
        attachments=attachments,
        words=words,
        brought=tags,
        header=draw(TEXTS),
    )


def matches(word: _Word, message: Entry) -> bool:
    if not message.words and word.place != "is":
        return False
    if word.place in SEARCHED:
        return (word.text in message.folded[word.place]) is not word.negated
    if word.place:
        return _test(word)(message)
    return any(word.text in text for text in message.folded.values()) is not word.negated


@given(st.lists(WORDS, max_size=4).map(" ".join), st.lists(entries(), max_size=6))
def test_a_search_of_many_finds_what_matches_each(query: str, messages: list[Entry]) -> None:
    assert select(query, messages) == [
        each for each in messages if all(matches(word, each) for word in _looked_for(query))
    ]
