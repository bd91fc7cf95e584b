"""The processes of the page: what they may do, how they end, and that others take their place."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
from support import python, wait_until

from smtp_blinker.web.child import Child, Failed
from smtp_blinker.web.inbox import Inbox
from smtp_blinker.web.reader.limits import MEMORY, OPEN_FILES

ID = "1700000000.M0P1Q1.test"


@pytest.fixture
def message(tmp_path: Path) -> Path:
    for name in ("tmp", "new", "cur"):
        (tmp_path / name).mkdir()
    path = tmp_path / "new" / ID
    path.write_bytes(b"Subject: hello\n\ntext")
    return path


@pytest.fixture
def reader() -> Iterator[Child]:
    child = Child("reader")
    yield child
    child.close()


def source(child: Child, message: Path) -> bytes:
    return child.ask("source", path=str(message)).body


def test_a_process_begins_when_it_is_asked_and_is_kept(reader: Child, message: Path) -> None:
    assert reader.pid is None
    assert source(reader, message) == message.read_bytes()
    first = reader.pid
    source(reader, message)
    assert reader.pid == first != os.getpid()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_process_that_ended_is_started_again(reader: Child, message: Path, how: int) -> None:
    source(reader, message)
    assert reader.pid is not None
    process = psutil.Process(reader.pid)
    process.send_signal(how)
    wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE, "it ended")
    assert source(reader, message)
    assert not psutil.pid_exists(process.pid)  # it was waited for


def test_a_process_that_does_not_answer_is_ended_at_its_deadline(message: Path) -> None:
    reader = Child("reader", seconds=0.5)
    try:
        reader.seconds = 30.0
        source(reader, message)
        assert reader.pid is not None
        process = psutil.Process(reader.pid)
        process.suspend()
        reader.seconds = 0.1
        with pytest.raises(Failed, match="took too long"):
            source(reader, message)
        assert not psutil.pid_exists(process.pid)
        reader.seconds = 30.0
        assert source(reader, message)
    finally:
        reader.close()


def test_a_closed_one_leaves_no_process(reader: Child, message: Path) -> None:
    source(reader, message)
    pid = reader.pid
    assert pid is not None
    reader.close()
    assert reader.pid is None
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_is_limited_and_learns_nothing(
    reader: Child, message: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_BLINKER_HTTP_AUTH", "ada:secret")
    source(reader, message)
    assert reader.pid is not None
    process = psutil.Process(reader.pid)
    assert process.rlimit(psutil.RLIMIT_AS) == (MEMORY, MEMORY)
    assert process.rlimit(psutil.RLIMIT_NOFILE) == (OPEN_FILES, OPEN_FILES)
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)
    assert process.rlimit(psutil.RLIMIT_CPU)[0] > 0
    assert process.nice() > psutil.Process().nice() or psutil.Process().nice() == 19
    assert "SMTP_BLINKER_HTTP_AUTH" not in process.environ()
    assert len(os.listdir(f"/proc/{reader.pid}/fd")) <= 4
    assert os.getpgid(reader.pid) != os.getpgid(0)  # no Ctrl-C of a terminal


def test_a_process_knows_neither_gevent_nor_flask(message: Path) -> None:
    inbox = Inbox(message.parent.parent)
    try:
        inbox.refresh()
        for child in (inbox.index, inbox.reader):
            assert child.pid is not None
            maps = Path(f"/proc/{child.pid}/maps").read_text()
            assert "gevent" not in maps
            assert "greenlet" not in maps
    finally:
        inbox.close()


def test_requests_of_greenlets_and_threads_take_turns(reader: Child, message: Path) -> None:
    found: list[bytes] = []

    def work() -> None:
        found.extend(source(reader, message) for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    gevent.joinall([gevent.spawn(work) for _ in range(3)], raise_error=True)
    for thread in threads:
        thread.join()
    assert found == [message.read_bytes()] * 120


def test_a_greenlet_that_is_killed_leaves_the_process_in_step(reader: Child, message: Path) -> None:
    source(reader, message)
    for _ in range(20):
        greenlet = gevent.spawn(source, reader, message)
        gevent.sleep(0)
        greenlet.kill()
        assert source(reader, message) == message.read_bytes()


PROGRAM = """
import os, sys, warnings
# CPython 3.12 warns of a fork in a process with threads, which is what is tried here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
if sys.argv[2] == "patched":
    from gevent import monkey
    monkey.patch_all()
from smtp_blinker.web.inbox import Inbox

inbox = Inbox(sys.argv[1])
inbox.refresh()
assert len(inbox) == 1, len(inbox)
pid = os.fork() if sys.argv[2] == "forked" else 0
if pid:
    assert os.waitpid(pid, 0)[1] == 0
inbox.refresh()
for _ in range(3):
    matching, body = inbox.page("hello", 0, 50)
    assert matching == 1 and b'"subject": "hello"' in body, body
    assert b"".join(inbox.raw(inbox_id := sys.argv[3])) == b"Subject: hello\\n\\ntext"
    assert b'"text": "text"' in inbox.look(inbox_id, "describe").body
print(inbox.index.pid, inbox.reader.pid)
"""


@pytest.mark.parametrize("how", ["unpatched", "patched", "forked"])
def test_it_works_in_every_kind_of_program_and_ends_with_it(message: Path, how: str) -> None:
    done: Any = python("-c", PROGRAM, message.parent.parent, how, ID)
    assert (done.returncode, done.stderr) == (0, "")
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(set(pids)) == (4 if how == "forked" else 2)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "they ended with the program")
