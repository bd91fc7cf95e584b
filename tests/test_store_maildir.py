"""The Maildir store: what is on the disk when it returns, and that nothing is when it doesn't."""

from __future__ import annotations

import errno
import io
import mailbox
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from support import SECONDS, Served, poll, serve, wait_until

from smtp_blinker.pools import STORES
from smtp_blinker.session import Address, Session
from smtp_blinker.smtp.reply import Reject
from smtp_blinker.stores import MaildirStore, maildir
from smtp_blinker.stores.decision import Decision

ROOT = Path(__file__).resolve().parent.parent

CONTENT = b"Subject: hello\r\nFrom: a@example.org\r\n\r\nOne\r\nTwo\r\n"


def a_session(sender: str = "a@example.org", *recipients: str) -> Session:
    session = Session()
    session.remote_address = "192.0.2.1"
    session.client_hostname = "client.example"
    session.opening_command = "EHLO"
    session.host_name_appears_as = "client.example"
    session.envelope.mail_from = Address(sender)
    session.envelope.rcpt_to = [Address(rcpt) for rcpt in recipients or ("b@example.com",)]
    return session


class Pieces:
    """A stream that gives its pieces as they are, and raises those that are exceptions."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)

    def read(self, size: int = -1, /) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece


@pytest.fixture
def store(tmp_path: Path) -> MaildirStore:
    return MaildirStore(tmp_path / "Maildir", hostname="mx.example")


def stored(store: MaildirStore) -> list[bytes]:
    return [path.read_bytes() for path in sorted(Path(store.path, "new").iterdir())]


def leftovers(store: MaildirStore) -> list[str]:
    return os.listdir(Path(store.path, "tmp"))


def test_folders_are_made_and_private(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path / "deep" / "Maildir")
    for folder in ("", "tmp", "new", "cur"):
        assert Path(store.path, folder).stat().st_mode & 0o777 == 0o700


def test_an_existing_maildir_is_used_as_it_is(tmp_path: Path) -> None:
    box = mailbox.Maildir(tmp_path / "Maildir", create=True)
    box.add(b"Subject: earlier\n\n")
    MaildirStore(tmp_path / "Maildir")(io.BytesIO(CONTENT), a_session())
    assert {message["subject"] for message in box} == {"earlier", "hello"}


def test_standard_library_reads_the_message(store: MaildirStore) -> None:
    store(io.BytesIO(CONTENT), a_session())
    [message] = mailbox.Maildir(store.path, create=False)
    assert message["subject"] == "hello"
    assert message.get_payload() == "One\nTwo\n"


def test_trace_header_comes_first(store: MaildirStore) -> None:
    store(io.BytesIO(CONTENT), a_session("a@example.org", "b@example.com", "c@example.com"))
    [message] = stored(store)
    lines = message.decode().split("\n")
    assert lines[:3] == [
        "Return-Path: <a@example.org>",
        "Delivered-To: b@example.com",
        "Delivered-To: c@example.com",
    ]
    assert lines[3].startswith("Received: from client.example (client.example [192.0.2.1])")
    assert message.endswith(CONTENT.replace(b"\r\n", b"\n"))


def test_reply_names_the_file_and_the_received_line_too(store: MaildirStore) -> None:
    reply = store(io.BytesIO(CONTENT), a_session())
    [name] = os.listdir(Path(store.path, "new"))
    assert reply == f"queued as {name}"
    assert f"id {name}".encode() in stored(store)[0]


def test_file_names_follow_the_rules_of_maildir(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path, hostname="odd/host:name")
    store(io.BytesIO(CONTENT), a_session())
    [name] = os.listdir(tmp_path / "new")
    pattern = rf"\d+\.M\d{{6}}P{os.getpid()}Q\d+\.odd\\057host\\072name"
    assert re.fullmatch(pattern, name)


def test_names_are_never_the_same(store: MaildirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    replies = {store(io.BytesIO(CONTENT), a_session()) for _ in range(50)}
    assert len(replies) == 50
    assert len(stored(store)) == 50


def test_message_is_private(store: MaildirStore) -> None:
    store(io.BytesIO(CONTENT), a_session())
    [path] = Path(store.path, "new").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a:\r\nb\r\n", b"a:\nb\n"),
        (b"a:\rb\nc\r\n", b"a:\rb\nc\n"),
        (b"a:\r\r\n", b"a:\r\n"),
        (b"a:\r", b"a:\r"),
        (b"\r\n\r\n\n\r", b"\n\n\n\r"),
        (b"nul: \0 and \x1b and \xff\r\n", b"nul: \0 and \x1b and \xff\n"),
        (b"", b""),
    ],
)
def test_line_ends_are_the_same_wherever_the_pieces_end(
    store: MaildirStore, content: bytes, expected: bytes
) -> None:
    splits = [[content[:cut], content[cut:]] for cut in range(len(content) + 1)]
    splits.append([content[i : i + 1] for i in range(len(content))])
    for pieces in splits:
        store(Pieces(*filter(None, pieces)), a_session())
    for message in stored(store):
        assert message.partition(b"Received:")[2].partition(b"000\n")[2] == expected
    assert len(stored(store)) == len(splits)


LONG_NAME = b"x" * 997


@pytest.mark.parametrize(
    ("content", "separated"),
    [
        # RFC 5322 section 2.2: printable US-ASCII but for the colon, then a colon
        (b"Subject: hello\r\n\r\nText\r\n", False),
        (b"!\"'+,~:\r\n", False),
        (b"Subject:", False),
        (b"Subject \t : obsolete, but valid\r\n", False),
        (LONG_NAME + b":\r\n", False),
        (b"\r\nAn empty header\r\n", False),
        (b"\nThe same\r\n", False),
        (b"", False),
        (b"Alarm on sensor 7\r\nsecond line\r\n", True),
        (b"Alarm on sensor 7: it is hot\r\nSubject: no\r\n", True),
        (b" Subject: no\r\n", True),
        (b"\tby forged.example\r\nSubject: no\r\n", True),
        (b"  \r\nSubject: no\r\n", True),
        (b": no name\r\n", True),
        (b"From a@example.org Mon Nov 30 12:00:00 2026\r\nSubject: no\r\n", True),
        ("Grüße: no\r\n".encode(), True),
        (b"Subject\0: no\r\n", True),
        (b"Subject\r: no\r\n", True),
        (b"\r", True),
        (b"\r\r\n", True),
        (b".", True),
        (LONG_NAME + b"x:\r\n", True),
    ],
)
def test_a_message_without_a_header_does_not_continue_ours(
    store: MaildirStore, content: bytes, separated: bool
) -> None:
    splits = [[content[:cut], content[cut:]] for cut in range(min(20, len(content) + 1))]
    splits.append([content[i : i + 1] for i in range(len(content))])
    splits.append([content[:-1], content[-1:]])
    for pieces in splits:
        store(Pieces(*filter(None, pieces)), a_session())
    expected = b"\n" * separated + content.replace(b"\r\n", b"\n")
    assert len(stored(store)) == len(splits)
    for message in stored(store):
        assert message.partition(b"Received:")[2].partition(b"000\n")[2] == expected


def test_a_message_without_a_header_is_received_as_its_text(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path / "Maildir")
    with serve(on_data=store) as served:
        deliver(served, b" from forged.example\r\nSecond line\r\n", "250 2.0.0")
    [message] = mailbox.Maildir(store.path, create=False)
    assert message.keys() == ["Return-Path", "Delivered-To", "Received"]
    assert "forged" not in message["Received"]
    assert message.get_payload() == " from forged.example\nSecond line\n"


@pytest.mark.parametrize("size", [maildir.PIECE - 1, maildir.PIECE, 5 * maildir.PIECE + 7])
def test_large_message_is_whole(store: MaildirStore, size: int) -> None:
    content = b"a:\r\n" + (b"x" * 76 + b"\r\n") * (size // 78 + 1)
    store(io.BytesIO(content[:size]), a_session())
    assert stored(store)[0].endswith(b"000\n" + content[:size].replace(b"\r\n", b"\n"))
    assert leftovers(store) == []


def test_large_message_is_not_kept_in_memory(store: MaildirStore) -> None:
    writes: list[int] = []

    class Stream:
        left = 256

        def read(self, size: int = -1, /) -> bytes:
            self.left -= 1
            files = list(Path(store.path, "tmp").iterdir())
            writes.append(files[0].stat().st_size if files else 0)
            return b"x" * size if self.left else b""

    store(Stream(), a_session())
    assert writes[-1] >= 254 * maildir.PIECE


@pytest.mark.parametrize("before", [[], [b"x" * 10], [b"x" * maildir.PIECE * 3]])
@pytest.mark.parametrize("failure", [ConnectionResetError("gone"), Reject(552, "too big")])
def test_message_that_is_cut_off_leaves_nothing(
    store: MaildirStore, before: list[bytes], failure: Exception
) -> None:
    with pytest.raises(type(failure)) as raised:
        store(Pieces(*before, failure), a_session())
    assert raised.value is failure
    assert stored(store) == []
    assert leftovers(store) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("function", ["open", "write", "fsync", "rename", "close"])
@pytest.mark.parametrize("size", [10, 3 * maildir.PIECE])
def test_full_disk_is_452_and_leaves_nothing(
    store: MaildirStore,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    function: str,
    code: int,
    size: int,
) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(Reject) as refused:
            store(io.BytesIO(b"x" * size), a_session())
    assert (refused.value.code, refused.value.enhanced) == (452, "4.3.1")
    assert stored(store) == []
    assert leftovers(store) == []
    assert capfd.readouterr().err == ""
    store(io.BytesIO(CONTENT), a_session())
    assert len(stored(store)) == 1


def test_other_failures_of_the_disk_are_the_programs(
    store: MaildirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="I/O error"):
        store(io.BytesIO(CONTENT), a_session())
    assert stored(store) == []
    assert leftovers(store) == []


def test_short_writes_are_continued(store: MaildirStore, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:7])))
    store(io.BytesIO(CONTENT), a_session())
    assert stored(store)[0].endswith(CONTENT.replace(b"\r\n", b"\n"))


def test_file_and_folder_are_synced_before_the_reply(
    store: MaildirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(fd: int) -> None:
        new = os.path.samestat(os.fstat(fd), os.stat(Path(store.path, "new")))
        steps.append("fsync new" if new else "fsync message")
        fsync(fd)

    def spy_rename(old: str, new: str) -> None:
        steps.append("rename")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    store(io.BytesIO(CONTENT), a_session())
    assert steps == ["fsync message", "rename", "fsync new"]


@pytest.fixture
def slow_fsync(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, list[int]]]:
    """A disk that syncs only when the event is set, and the calls that wait for it."""
    go, waiting = threading.Event(), []
    fsync = os.fsync

    def slow(fd: int) -> None:
        waiting.append(fd)
        go.wait(30)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", slow)
    yield go, waiting
    go.set()


def test_slow_disk_holds_up_nobody_else(
    store: MaildirStore, slow_fsync: tuple[threading.Event, list[int]]
) -> None:
    go, waiting = slow_fsync
    client = gevent.spawn(store, io.BytesIO(CONTENT), a_session())
    poll(lambda: bool(waiting))
    gevent.sleep(0.01)  # the hub runs: this greenlet is another client
    assert not client.ready()
    assert stored(store) == []
    go.set()
    assert client.get(timeout=30).startswith("queued as ")


def test_killed_while_the_disk_is_slow_leaves_nothing(
    store: MaildirStore, slow_fsync: tuple[threading.Event, list[int]]
) -> None:
    go, waiting = slow_fsync
    client = gevent.spawn(store, io.BytesIO(CONTENT), a_session())
    poll(lambda: bool(waiting))
    client.kill(timeout=30)  # returns while the disk still works
    assert client.ready()
    assert stored(store) == []
    go.set()
    poll(lambda: leftovers(store) == [])
    assert stored(store) == []


class StuckDisk:
    """Each call of *function* for which *here* is true waits until `go` is set."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, function: str, here: Callable[[Any], bool]
    ) -> None:
        self.go = threading.Event()
        self.reached = threading.Event()
        real = getattr(os, function)

        def stuck(first: Any, *rest: Any) -> Any:
            if here(first):
                self.reached.set()
                assert self.go.wait(60)
            return real(first, *rest)

        monkeypatch.setattr(os, function, stuck)


def is_folder(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


#: Where the disk may be stuck, and whether the message is published already.
STUCK: dict[str, tuple[str, Callable[[Any], bool], bool]] = {
    "write": ("write", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode), False),
    "file fsync": ("fsync", lambda fd: not is_folder(fd), False),
    "close": ("close", lambda fd: stat.S_ISREG(os.fstat(fd).st_mode), False),
    "rename": ("rename", lambda path: True, True),
    "folder fsync": ("fsync", is_folder, True),
}


@pytest.fixture(params=STUCK)
def stuck_disk(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, store: MaildirStore
) -> Iterator[tuple[StuckDisk, bool]]:
    """A disk that is stuck at one step, and whether it is too late there to give up."""
    function, here, published = STUCK[request.param]
    disk = StuckDisk(monkeypatch, function, here)
    yield disk, published
    disk.go.set()


@pytest.mark.parametrize(
    "thrown", [gevent.GreenletExit, gevent.Timeout, type("Own", (BaseException,), {})]
)
def test_interrupted_store_either_raises_or_has_the_message(
    store: MaildirStore, stuck_disk: tuple[StuckDisk, bool], thrown: type[BaseException]
) -> None:
    disk, published = stuck_disk
    client = gevent.spawn(store, io.BytesIO(CONTENT), a_session())
    poll(disk.reached.is_set)
    for _ in range(3):
        client.kill(thrown, block=False)
        gevent.sleep(0.01)
    assert client.ready() is not published
    disk.go.set()
    client.join(30)
    if published:
        assert str(client.value).startswith("queued as ")
        assert len(stored(store)) == 1
    else:
        assert isinstance(client.exception or client.value, thrown)
        poll(lambda: leftovers(store) == [])
        assert stored(store) == []


@pytest.mark.parametrize("size", [10, 3 * maildir.PIECE])
def test_interrupted_while_the_threads_are_busy_leaves_nothing(
    store: MaildirStore, size: int
) -> None:
    go = threading.Event()
    reads = iter([b"x" * size, b"y"])
    fill: list[Any] = []

    class Stream:
        def read(self, _: int = -1, /) -> bytes:
            piece = next(reads, b"")
            if not piece or size < maildir.PIECE:
                fill.extend(STORES.spawn(go.wait, 60) for _ in range(STORES.most - len(fill)))
            return piece

    client = gevent.spawn(store, Stream(), a_session())
    poll(lambda: len(fill) == STORES.most)
    gevent.sleep(0.01)
    assert not client.ready()
    client.kill(timeout=30)
    assert client.ready()
    go.set()
    poll(lambda: leftovers(store) == [])
    assert stored(store) == []


def deliver(served: Served, content: bytes, *statuses: str) -> None:
    """Send a message, whose answers must be those."""
    with served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.replies(3)
        client.send(content + b".\r\n")
        assert tuple(client.reply().status for _ in statuses) == statuses


@pytest.fixture
def ignored(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when something is thrown into a store that can't give up any more."""
    event = threading.Event()
    in_any_case = Decision._in_any_case

    def spy(decision: Any, task: Any) -> Any:
        event.set()
        return in_any_case(decision, task)

    monkeypatch.setattr(Decision, "_in_any_case", spy)
    return event


def test_hook_timeout_is_451_and_nothing_or_250(
    store: MaildirStore, stuck_disk: tuple[StuckDisk, bool], ignored: threading.Event
) -> None:
    disk, published = stuck_disk
    # Long enough to get where it is too late.
    seconds = 2.0 if published else 0.1
    with serve(on_data=store, hook_timeout=seconds) as served, served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.replies(3)
        client.send(CONTENT + b".\r\n")
        if published:
            assert ignored.wait(SECONDS)
            disk.go.set()
        assert client.reply().status == ("250 2.0.0" if published else "451 4.3.0")
        disk.go.set()
        wait_until(lambda: leftovers(store) == [])
        assert len(stored(store)) == published


def test_stop_is_421_and_nothing_or_250(
    store: MaildirStore, stuck_disk: tuple[StuckDisk, bool], ignored: threading.Event
) -> None:
    disk, published = stuck_disk
    with serve(on_data=store, close_timeout=0) as served, served.hello() as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        client.replies(3)
        client.send(CONTENT + b".\r\n")
        assert disk.reached.wait(SECONDS)
        served.start_to_stop()
        if published:
            assert ignored.wait(SECONDS)
            disk.go.set()
        answers = [reply.status for reply in client.rest_of_replies()]
        assert answers == ["250 2.0.0"] * published + ["421 4.3.2"]
        disk.go.set()
        wait_until(lambda: leftovers(store) == [])
        assert len(stored(store)) == published


def test_check_leaves_nothing(store: MaildirStore) -> None:
    store.check()
    assert leftovers(store) == []
    assert stored(store) == []


def test_check_removes_what_a_crash_left_long_ago(store: MaildirStore) -> None:
    old, young = (Path(store.path, "tmp", name) for name in ("old", "young"))
    for path in (old, young):
        path.touch()
    long_ago = time.time() - maildir.STALE - 60
    os.utime(old, (long_ago, long_ago))
    store.check()
    assert leftovers(store) == ["young"]


def test_check_leaves_alone_what_it_can_not_remove(
    store: MaildirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = time.time() - maildir.STALE - 60
    tmp = Path(store.path, "tmp")
    (tmp / "folder").mkdir()
    (tmp / "folder" / "file").touch()
    for name in ("another's", "old"):
        (tmp / name).touch()
    (tmp / "link").symlink_to("folder")
    for path in tmp.iterdir():
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)
    unlink = os.unlink

    def not_ours(path: str) -> None:
        if path.endswith("another's"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        unlink(path)

    monkeypatch.setattr(os, "unlink", not_ours)
    store.check()
    assert sorted(leftovers(store)) == ["another's", "folder"]
    assert os.listdir(tmp / "folder") == ["file"]


def test_check_does_without_a_list_of_what_is_old(
    store: MaildirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: str) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "scandir", unreadable)
    store.check()


@pytest.mark.parametrize(
    "removed", [("tmp", "new", "cur"), ("tmp",), ("new",), ("cur",), (".",), ("..",)]
)
def test_folders_that_were_removed_are_made_anew(tmp_path: Path, removed: tuple[str, ...]) -> None:
    store = MaildirStore(tmp_path / "parent" / "Maildir")
    store(io.BytesIO(CONTENT), a_session())
    for folder in removed:
        shutil.rmtree(Path(os.path.normpath(Path(store.path, folder))))
    before = len(stored(store)) if removed in (("tmp",), ("cur",)) else 0
    store(io.BytesIO(CONTENT), a_session())
    assert len(stored(store)) == before + 1
    assert sorted(os.listdir(store.path)) == ["cur", "new", "tmp"]
    assert len(mailbox.Maildir(store.path, create=False)) == before + 1


def test_a_folder_that_is_removed_amid_a_message_is_made_anew(store: MaildirStore) -> None:
    class Stream(Pieces):
        def read(self, size: int = -1, /) -> bytes:
            if len(self.pieces) == 1:
                os.rmdir(Path(store.path, "new"))
            return super().read(size)

    store(Stream(b"x" * 2 * maildir.PIECE, b"y"), a_session())
    assert stored(store)[0].endswith(b"xy")


def test_a_message_that_is_removed_from_tmp_is_not_taken_as_stored(store: MaildirStore) -> None:
    class Stream(Pieces):
        def read(self, size: int = -1, /) -> bytes:
            if len(self.pieces) == 1:
                shutil.rmtree(store.path)
            return super().read(size)

    with pytest.raises(FileNotFoundError):
        store(Stream(b"x" * 2 * maildir.PIECE, b"y"), a_session())
    assert stored(store) == []
    assert leftovers(store) == []


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files and folders that were fsynced, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        paths.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    return paths


def test_each_folder_that_is_made_is_on_the_disk(tmp_path: Path, synced: list[str]) -> None:
    store = MaildirStore(tmp_path / "a" / "b" / "Maildir")
    chain = [str(tmp_path / part) for part in ("", "a", "a/b")]
    maildir = [store.path]
    assert list(dict.fromkeys(synced)) == chain + maildir
    synced.clear()
    shutil.rmtree(tmp_path / "a")
    store(io.BytesIO(CONTENT), a_session())
    *folders, message, new = dict.fromkeys(synced)
    assert folders == chain + maildir
    assert os.path.dirname(message) == f"{store.path}/tmp"
    assert new == f"{store.path}/new"
    # Its entries were made before it was synced for the last time.
    assert synced[:-2].count(store.path) == 3


def test_a_maildir_that_is_there_is_synced_at_the_start(tmp_path: Path, synced: list[str]) -> None:
    for _ in range(2):
        synced.clear()
        store = MaildirStore(tmp_path / "Maildir")
    assert synced == [store.path]


def test_check_folders_makes_them_and_tells_when_it_can_not(
    store: MaildirStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(store.path)
    store.check_folders()
    assert sorted(os.listdir(store.path)) == ["cur", "new", "tmp"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: not path.endswith("new"))
        with pytest.raises(PermissionError, match="new"):
            store.check_folders()
    shutil.rmtree(store.path)
    Path(store.path).touch()
    with pytest.raises(NotADirectoryError):
        store.check_folders()


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "Maildir"):
        with pytest.raises(OSError, match="file"):
            MaildirStore(path)


def test_check_tells_that_nothing_can_be_written(store: MaildirStore) -> None:
    os.rmdir(Path(store.path, "tmp"))
    Path(store.path, "tmp").touch()
    with pytest.raises(NotADirectoryError):
        store.check()


def test_killed_process_leaves_only_whole_messages(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import io, sys, gevent
        sys.path[:0] = sys.argv[2:]
        from test_store_maildir import a_session
        from smtp_blinker.stores import MaildirStore
        store = MaildirStore(sys.argv[1])
        content = b"Subject: x\\r\\n\\r\\n" + b"line\\r\\n" * 20000 + b"last\\r\\n"
        def client():
            while True:
                print(store(io.BytesIO(content), a_session())[10:], flush=True)
        gevent.joinall([gevent.spawn(client) for _ in range(8)])
        """
    )
    maildir = tmp_path / "Maildir"
    for messages in (1, 5, 25):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(maildir), str(ROOT), str(ROOT / "tests")],
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            names = [process.stdout.readline().strip() for _ in range(messages)]
            process.send_signal(signal.SIGKILL)
            names += [line.strip() for line in process.stdout if line.endswith("\n")]
        assert set(names) <= set(os.listdir(maildir / "new"))
        for path in (maildir / "new").iterdir():
            assert path.read_bytes().endswith(b"line\n" * 20000 + b"last\n")
