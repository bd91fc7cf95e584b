"""SpoolStore: what was answered 250 reaches the store, in its order, whatever happens meanwhile."""

from __future__ import annotations

import errno
import inspect
import io
import json
import os
import signal as signals_of_processes
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import pytest
from prometheus_client import CollectorRegistry
from support import SECONDS, poll, serve, wait_until

from smtp_blinker import MessageStream, Reject, Session, SMTPServer
from smtp_blinker.listeners.log import category
from smtp_blinker.listeners.metrics import SpoolMetrics
from smtp_blinker.session import (
    Address,
    DeliverBy,
    EnvelopeDSN,
    RecipientDSN,
    RecipientValidSince,
    TLSInfo,
)
from smtp_blinker.signals import error
from smtp_blinker.smtp.proxy import ProxyHeader
from smtp_blinker.stores import MaildirStore, RecipientStore, SpoolStore, spool_folder
from smtp_blinker.stores.saved_session import Expired, load, save, with_recipients
from smtp_blinker.stores.spool_folder import SpoolFolder

ROOT = Path(__file__).resolve().parent.parent
FAST = {"delay": 0.01, "max_delay": 0.02}
#: Longer than any test: what must not happen by the clock doesn't.
SLOW = {"delay": 3600.0, "max_delay": 3600.0}


class Inner:
    """A store that can be away, and that may refuse single messages."""

    def __init__(self) -> None:
        self.failure = None
        #: What is raised for a message with this subject.
        self.failures: dict[Any, Any] = {}
        self.messages: list[Any] = []
        self.sessions: list[Any] = []
        #: Subjects of all calls, those that failed too.
        self.calls: list[Any] = []

    def __call__(self, stream: MessageStream, session: Session) -> str:
        content = stream.read()
        subject = content.split(b"\r\n")[0].removeprefix(b"Subject: ").decode()
        self.calls.append(subject)
        failure = self.failures.get(subject, self.failure)
        if failure is not None:
            raise failure
        self.messages.append(content)
        self.sessions.append(session)
        return f"stored {subject}"

    @property
    def subjects(self) -> Any:
        return [
            content.split(b"\r\n")[0].removeprefix(b"Subject: ").decode()
            for content in self.messages
        ]


def message(subject: Any) -> bytes:
    return f"Subject: {subject}\r\n\r\nHello\r\n".encode()


def a_session(*recipients: Any, opening_command: str = "EHLO") -> Any:
    session = Session(lmtp=opening_command == "LHLO")
    session.opening_command = opening_command
    session.remote_address, session.remote_port = "192.0.2.7", 4711
    session.client_hostname = "client.example"
    session.host_name_appears_as = "me.example"
    session.envelope.mail_from = Address("bob@example.net")
    session.envelope.rcpt_to = [Address(one) for one in recipients or ("ann@example.com",)]
    return session


def hand_over(store: Any, subject: str = "one", **facts: Any) -> Any:
    return store(io.BytesIO(message(subject)), a_session(**facts))


def files(spool: Any, folder: str = "queue") -> Any:
    return sorted(Path(spool.path, folder).iterdir())


@contextmanager
def errors() -> Iterator[Any]:
    heard = []

    def hear(sender: Any, event: Any) -> None:
        heard.append(event)

    with error.connected_to(hear):
        yield heard


@pytest.fixture
def inner() -> Any:
    return Inner()


# The reply


def test_while_the_store_is_there_its_result_is_the_reply_and_nothing_is_written(
    tmp_path: Path, inner: Any
) -> None:
    spool = SpoolStore(inner, tmp_path / "spool", **SLOW)
    assert hand_over(spool) == "stored one"
    assert (files(spool), files(spool, "tmp"), spool.messages) == ([], [], 0)
    assert Path(spool.path).stat().st_mode & 0o777 == 0o700


def test_what_it_refuses_for_good_is_refused(tmp_path: Path, inner: Any) -> None:
    inner.failure = Reject(550, "no", "5.7.1")
    spool = SpoolStore(inner, tmp_path, **SLOW)
    with pytest.raises(Reject) as caught:
        hand_over(spool)
    assert caught.value is inner.failure
    assert files(spool) == []


@pytest.mark.parametrize(
    "failure", [OSError("away"), Reject(451, "later"), Reject(421, "later"), ValueError("a bug")]
)
def test_any_other_failure_is_spooled_and_error_tells_once(
    tmp_path: Path, inner: Any, failure: Any
) -> None:
    inner.failure = failure
    spool = SpoolStore(inner, tmp_path, **SLOW)
    with errors() as heard:
        first, second = hand_over(spool, "one"), hand_over(spool, "two")
    assert first.startswith("spooled as ")
    assert [f"spooled as {path.name}" for path in files(spool)] == [first, second]
    assert [(event.code, event.error, event.remote_address) for event in heard] == [
        ("StoreAway", failure, "192.0.2.7")
    ]
    # The second went behind the first without another call.
    assert inner.calls == ["one"]
    assert spool.is_away
    assert spool.messages == 2
    assert spool.bytes == sum(path.stat().st_size for path in files(spool))
    assert 0 <= spool.age < SECONDS
    head, content = files(spool)[0].read_bytes().split(b"\n", 1)
    assert json.loads(head)["envelope"]["rcpt_to"] == [{"address": "ann@example.com", "args": {}}]
    assert content == message("one")
    assert files(spool)[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("result", [False, 0, b"x", "550 no", ["text"]])
def test_a_result_that_no_store_may_return_is_a_failure(
    tmp_path: Path, result: bool | bytes | int | list[str] | str
) -> None:
    spool = SpoolStore(lambda stream, session: result, tmp_path, **SLOW)
    assert hand_over(spool).startswith("spooled as ")


@pytest.mark.parametrize("failure", [gevent.Timeout(), gevent.GreenletExit(), KeyboardInterrupt()])
def test_what_is_thrown_into_the_greenlet_goes_through(
    tmp_path: Path, inner: Any, failure: Any
) -> None:
    inner.failure = failure
    spool = SpoolStore(inner, tmp_path, **SLOW)
    with pytest.raises(type(failure)):
        hand_over(spool)
    assert files(spool) == []


@pytest.mark.parametrize("failure", [ConnectionAbortedError("gone"), Reject(552, "too large")])
def test_a_message_that_never_became_whole_is_not_handed_over(
    tmp_path: Path, inner: Any, failure: Any
) -> None:
    class Stream:
        pieces = 3

        def read(self, size: int = -1) -> bytes:
            if not self.pieces:
                raise failure
            self.pieces -= 1
            return b"x" * size

    spool = SpoolStore(inner, tmp_path, **SLOW)
    with pytest.raises(type(failure)):
        spool(Stream(), a_session())
    assert inner.calls == []
    assert files(spool) + files(spool, "tmp") == []


def test_a_large_message_is_the_same_octet_by_octet(tmp_path: Path, inner: Any) -> None:
    content = b"Subject: large\r\n\r\n" + os.urandom(3 * 2**20) + b"\r\n"
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **FAST)
    spool(io.BytesIO(content), a_session())
    inner.failure = None
    poll(lambda: inner.messages)
    assert inner.messages == [content]


@pytest.mark.parametrize("name", ["write", "publish"])
def test_a_full_disk_is_452_and_leaves_nothing(
    tmp_path: Path,
    inner: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    real = getattr(spool_folder.Draft, name)

    def full(draft: Any, *args: Any) -> None:
        if name == "publish":
            draft.write(b"x")  # something is there
        else:
            real(draft, *args)
        raise OSError(errno.ENOSPC, "No space left on device")

    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **SLOW)
    inner.on_mail_from = lambda address, session: hand_over(inner)
    with monkeypatch.context() as patch:
        patch.setattr(spool_folder.Draft, name, full)
        with pytest.raises(Reject) as caught:
            hand_over(spool)
        assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")
        assert "No space left" in caplog.text
        # Now mail is refused before it is sent, as the store itself says.
        with pytest.raises(OSError, match="away"):
            spool.on_mail_from(Address("bob@example.net"), a_session())
    poll(lambda: files(spool, "tmp") == [])
    assert files(spool) == []
    assert hand_over(spool).startswith("spooled as ")
    spool.on_mail_from(Address("bob@example.net"), a_session())


@pytest.mark.parametrize("decided", [False, True])
def test_a_hook_timeout_amid_writing_leaves_nothing_or_a_whole_entry(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch, decided: bool
) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **FAST)
    publish = spool_folder.Draft.publish
    thrown = gevent.event.Event()
    go_on = threading.Event()

    def slow(draft: Any) -> None:
        if decided:
            publish(draft)
        hub.loop.run_callback_threadsafe(thrown.set)
        assert go_on.wait(SECONDS)
        if not decided:
            publish(draft)

    hub = gevent.get_hub()
    monkeypatch.setattr(spool_folder.Draft, "publish", slow)
    greenlet = gevent.spawn(hand_over, spool)
    assert thrown.wait(SECONDS)
    greenlet.kill(gevent.Timeout(1), block=False)
    if decided:
        # The client, which would hear 451, would send it again.
        gevent.sleep(0)
        assert not greenlet.ready()
        go_on.set()
        assert greenlet.get().startswith("spooled as ")
        inner.failure = None
        poll(lambda: inner.subjects == ["one"])
    else:
        with pytest.raises(gevent.Timeout):
            greenlet.get()
        go_on.set()
    poll(lambda: files(spool, "tmp") == [])
    assert files(spool, "failed") == []
    poll(lambda: files(spool) == [])


def test_the_folders_are_made_anew(tmp_path: Path, inner: Any) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path / "spool", **SLOW)
    for folder in ("queue", "tmp", "failed"):
        os.rmdir(Path(spool.path, folder))
    assert hand_over(spool).startswith("spooled as ")
    assert len(files(spool)) == 1


def test_check_says_where_nothing_can_be_spooled(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = SpoolStore(inner, tmp_path / "spool")
    spool.check()
    monkeypatch.setattr(os, "access", lambda path, mode: not path.endswith("queue"))
    with pytest.raises(PermissionError):
        spool.check()


@pytest.mark.parametrize(
    ("arguments", "failure"),
    [
        ({"store": "Maildir"}, TypeError),
        ({"delay": 0}, ValueError),
        ({"delay": 5, "max_delay": 1}, ValueError),
    ],
)
def test_wrong_arguments_are_refused(
    tmp_path: Path, arguments: dict[str, Any], failure: Any
) -> None:
    with pytest.raises(failure, match=r"store|delay"):
        SpoolStore(**{"store": Inner(), "path": tmp_path, **arguments})


# Handing over


def spooled(inner: Any, path: Any, *subjects: Any) -> Any:
    """A spool with these messages, whose store is away, and which doesn't try by itself."""
    inner.failure = OSError("away")
    spool = SpoolStore(inner, path, **SLOW)
    for subject in subjects:
        assert hand_over(spool, subject).startswith("spooled as ")
    inner.calls.clear()
    return spool


def one_pass(spool: Any) -> Any:
    return spool._drain.run(lambda: False)


def test_messages_are_handed_over_in_their_order_when_the_store_is_back(
    tmp_path: Path, inner: Any
) -> None:
    subjects = [f"number {number}" for number in range(30)]
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **FAST)
    for subject in subjects:
        hand_over(spool, subject)
    inner.failure = None
    poll(lambda: files(spool) == [])
    # The store may have come back amid a pass, which then went on with one behind the first two.
    assert sorted(inner.subjects) == sorted(subjects)
    rest = [subject for subject in inner.subjects if subject in subjects[2:]]
    assert rest[1:] == [subject for subject in subjects[2:] if subject != rest[0]]
    poll(lambda: spool.messages == 0)
    assert (spool.bytes, spool.age, spool.is_away) == (0, 0, False)
    assert hand_over(spool, "direct") == "stored direct"


def test_two_failures_in_a_row_end_a_pass_but_for_one_try_elsewhere(
    tmp_path: Path, inner: Any
) -> None:
    subjects = ["a", "b", "c", "d"]
    spool = spooled(inner, tmp_path, *subjects)
    assert one_pass(spool) is False
    assert one_pass(spool) is False
    assert inner.calls[:2] == inner.calls[3:5] == ["a", "b"]
    assert sorted((inner.calls[2], inner.calls[5])) == ["c", "d"]
    # Nothing has lost its place by that.
    inner.failure = None
    assert one_pass(spool) is True
    assert inner.subjects == subjects


def test_a_store_that_comes_back_amid_a_pass_has_the_first_ones_next(
    tmp_path: Path, inner: Any
) -> None:
    spool = spooled(inner, tmp_path, *"abcde")
    failures = {"a": [OSError("away")], "b": [OSError("away")]}

    def store(stream: MessageStream, session: Session) -> None:
        subject = stream.read().split(b"\r\n")[0][-1:].decode()
        if failures.get(subject):
            raise failures[subject].pop()
        inner.messages.append(message(subject))

    spool._drain._store = store
    assert one_pass(spool)
    assert one_pass(spool)
    assert inner.subjects[1:3] == ["a", "b"]
    assert inner.subjects[3:] == sorted(inner.subjects[3:])
    assert files(spool) == []


def test_one_that_fails_is_skipped_and_two_block_nothing(tmp_path: Path, inner: Any) -> None:
    spool = spooled(inner, tmp_path, *"abcdef")
    inner.failure = None
    inner.failures = dict.fromkeys("ab", Reject(452, "not this one"))
    with errors() as heard:
        while one_pass(spool):
            pass
        assert sorted(inner.subjects) == list("cdef")
        assert spool.messages == 2
        inner.calls.clear()
        # New ones go behind, and before those that wait for long.
        assert hand_over(spool, "g").startswith("spooled as ")
        assert one_pass(spool)
        assert inner.calls[0] == "g"
        inner.failures = {}
        assert one_pass(spool)
    assert sorted(inner.subjects) == list("abcdefg")
    # It doesn't tell again and again.
    assert len(heard) <= 2


def test_one_that_is_never_taken_is_told_of_once_and_is_tried_last(
    tmp_path: Path, inner: Any
) -> None:
    spool = spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    inner.failures = {"a": Reject(452, "not this one")}
    with errors() as heard:
        assert one_pass(spool)
        assert not one_pass(spool)
        hand_over(spool, "c")
        inner.calls.clear()
        assert one_pass(spool)
        assert inner.calls == ["c", "a"]
    assert len(heard) <= 1


def test_a_message_that_comes_while_the_queue_is_measured_counts(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **SLOW)
    look = SpoolFolder.look

    def look_and_receive(folder: SpoolFolder, put_off: Any) -> Any:
        monkeypatch.undo()
        found = look(folder, put_off)
        hand_over(spool, "one")
        return found

    monkeypatch.setattr(SpoolFolder, "look", look_and_receive)
    spool.look()
    assert spool.messages == 1
    assert spool.bytes == sum(path.stat().st_size for path in files(spool))
    spool.look()
    assert spool.messages == 1


def test_a_time_out_in_the_store_does_not_end_the_hand_over(tmp_path: Path, inner: Any) -> None:
    spool = spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    inner.failures = {"a": gevent.Timeout(5)}
    assert one_pass(spool)
    assert inner.subjects == ["b"]
    assert spool.messages == 1


def test_what_is_refused_later_is_moved_to_failed_and_error_names_it(
    tmp_path: Path, inner: Any
) -> None:
    spool = spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    inner.failures = {"a": Reject(550, "no", "5.7.1")}
    [first, _] = files(spool)
    with errors() as heard:
        assert one_pass(spool)
    assert inner.subjects == ["b"]
    assert [path.name for path in files(spool, "failed")] == [first.name]
    assert [(event.code, event.meta["message"]) for event in heard] == [("SpoolFailed", first.name)]
    assert heard[0].id is not None


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b"{}\n"),
        lambda path: path.write_bytes(b"[" * 10**6 + b"\n"),
        lambda path: path.write_bytes(b'{"version": 99}\n'),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), os.mkfifo(path)),  # type: ignore[func-returns-value]
        # A link leads to a file that is not the spool's.
        lambda path: (path.rename(path.parent.parent / "else"), path.symlink_to("../else")),
    ],
)
def test_what_can_not_be_read_is_moved_to_failed(tmp_path: Path, inner: Any, damage: Any) -> None:
    spool = spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    damage(files(spool)[0])
    with errors() as heard:
        while one_pass(spool):
            pass
    assert inner.subjects == ["b"]
    assert len(files(spool, "failed")) == 1
    assert [event.code for event in heard] == ["SpoolFailed"]
    assert files(spool) == []


def test_a_name_is_only_a_name(tmp_path: Path, inner: Any) -> None:
    spool = spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    [first, _] = files(spool)
    first.rename(first.with_name("moved back by hand"))
    assert one_pass(spool)
    assert inner.subjects == ["b", "a"]


def test_too_many_open_files_are_not_the_entry_s_fault(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spooled(inner, tmp_path, "a")
    inner.failure = None

    def no_files(*args: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(spool_folder.SpoolFolder, "open", no_files)
        assert not one_pass(spool)
    assert files(spool, "failed") == []
    assert one_pass(spool)


def test_a_new_process_hands_over_what_the_last_one_left(tmp_path: Path, inner: Any) -> None:
    spooled(inner, tmp_path, "a", "b")
    inner.failure = None
    spool = SpoolStore(inner, tmp_path, **SLOW)
    assert spool.messages == 2
    with serve(on_data=spool) as served:
        pass  # nothing by itself
    assert inner.messages == []
    with serve(on_data=spool) as served:
        served.server.use(spool)
        served.server.stop()
        served.server.start()
        wait_until(lambda: inner.subjects == ["a", "b"])


def test_one_process_at_a_time_hands_over(tmp_path: Path, inner: Any) -> None:
    spool = spooled(inner, tmp_path, "a")
    inner.failure = None
    other = SpoolStore(inner, tmp_path, **SLOW)
    unlock = other._folder.lock()
    assert not one_pass(spool)
    assert inner.calls == []
    # And a message that another process spooled is before ours.
    assert hand_over(other, "b").startswith("spooled as ")
    unlock()  # type: ignore[misc]
    assert one_pass(spool)
    assert inner.subjects == ["a", "b"]
    assert not one_pass(spool)


def test_the_rest_of_a_crash_is_removed_and_what_is_being_written_is_not(
    tmp_path: Path, inner: Any
) -> None:
    spool = spooled(inner, tmp_path, "a")
    inner.failure = None
    old, new = Path(spool.path, "tmp/old"), Path(spool.path, "tmp/new")
    for path in (old, new):
        path.write_bytes(b"half a mess")
    long_ago = time.time() - spool_folder.STALE - 1
    os.utime(old, (long_ago, long_ago))
    assert one_pass(spool)
    assert files(spool, "tmp") == [new]


def test_names_are_in_order_also_when_the_clock_goes_back(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([5, 4, 4, 6])
    monkeypatch.setattr(spool_folder.time, "time_ns", lambda: next(times))  # type: ignore[attr-defined]
    folder = spool_folder.SpoolFolder(tmp_path)
    names = [folder.new_name() for _ in range(4)]
    assert names == sorted(names)
    assert len(set(names)) == 4


def test_delays_grow_and_an_outage_is_told_once(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = []
    real = gevent.sleep

    def sleep(seconds: int = 0, ref: bool = True) -> None:
        sleeps.append(seconds)
        real(0)

    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, delay=1.0, max_delay=10.0)
    with errors() as heard, monkeypatch.context() as patch:
        patch.setattr("smtp_blinker.stores.spool.gevent.sleep", sleep)
        hand_over(spool)
        with gevent.Timeout(SECONDS):
            while len(sleeps) < 8:
                real(0.001)
        inner.failure = None
        with gevent.Timeout(SECONDS):
            while spool.messages:
                real(0.001)
        assert sleeps[:7] == [1, 1, 2, 4, 8, 10, 10]
    assert [event.code for event in heard] == ["StoreAway"]


# With a server


def send(client: Any, subject: Any, *recipients: Any) -> None:
    assert client.cmd("MAIL FROM:<bob@example.net>").code == 250
    for recipient in recipients or ("ann@example.com",):
        assert client.cmd(f"RCPT TO:<{recipient}>").code == 250
    assert client.cmd("DATA").code == 354
    client.send(message(subject) + b".\r\n")


def test_a_server_hands_over_while_it_listens_and_no_longer(tmp_path: Path, inner: Any) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **FAST)
    with serve(on_data=spool) as served:
        served.server.use(spool)
        with served.hello() as client:
            send(client, "one")
            answer = client.reply()
            assert (answer.status, answer.text.split("-")[0][:11]) == ("250 2.0.0", "spooled as ")
        wait_until(lambda: len(inner.calls) > 3)
        inner.failure = None
        wait_until(lambda: files(spool) == [])
        assert inner.subjects == ["one"]
        wait_until(lambda: not spool.is_away)
        inner.failure = OSError("away")
        with served.hello() as client:
            send(client, "two")
            assert client.reply().code == 250
        assert [event.code for event in served.of("error")] == ["StoreAway"] * 2
    assert [path.is_file() for path in files(spool)] == [True]
    calls = len(inner.calls)
    inner.failure = None
    time.sleep(0.1)
    assert len(inner.calls) == calls
    # Another thread, another hub.
    with serve(on_data=spool) as served, served.hello() as client:
        send(client, "three")
        assert client.reply().code == 250
        wait_until(lambda: inner.subjects == ["one", "two", "three"])


def test_a_hand_over_that_hangs_ends_with_the_server(tmp_path: Path, inner: Any) -> None:
    inner.failure = OSError("away")
    began = []

    def store(stream: MessageStream, session: Session) -> Any:
        if inner.failure is None:
            began.append(1)
            gevent.sleep(3600)
        return inner(stream, session)

    spool = SpoolStore(store, tmp_path, **FAST)
    with serve(on_data=spool) as served, served.hello() as client:
        send(client, "one")
        assert client.reply().code == 250
        served.server.use(spool)
        inner.failure = None
        wait_until(lambda: began)
    assert len(files(spool)) == 1
    # Nothing holds the lock any more.
    unlock = spool._folder.lock()
    assert unlock is not None
    unlock()


def test_its_policies_are_asked_and_refuse_for_good_only(tmp_path: Path) -> None:
    class Policy(Inner):
        answer = None
        attached = ()

        def attach(self, server: SMTPServer) -> None:
            self.attached = (server,)  # type: ignore[assignment]

        def on_mail_from(self, address: Address, session: Session) -> None:
            if self.answer is not None:
                raise self.answer

    policy = Policy()
    store = RecipientStore({"@example.com": policy})
    spool = SpoolStore(store, tmp_path, **SLOW)
    with serve(on_data=spool) as served, served.hello() as client:
        served.server.use(spool)
        assert policy.attached == (served.server,)  # type: ignore[comparison-overlap]
        assert client.cmd("MAIL FROM:<bob@example.net>").code == 250
        assert client.cmd("RCPT TO:<ann@elsewhere.example>").status == "550 5.1.1"
        policy.answer = Reject(451, "away", "4.3.0")  # type: ignore[assignment]
        assert client.cmd("RCPT TO:<ann@example.com>").code == 250
        policy.answer = Reject(552, "too large", "5.3.4")  # type: ignore[assignment]
        assert client.cmd("RCPT TO:<ann@example.com>").status == "552 5.3.4"


def test_with_lmtp_only_those_are_spooled_that_may_be_stored_later(tmp_path: Path) -> None:
    answers = {
        "a@example.com": "stored",
        "b@example.com": Reject(451, "later"),
        "c@example.com": Reject(550, "no", "5.1.1"),
        "d@example.com": OSError,
        "e@example.com": "550 no",
    }
    calls = []

    def inner(stream: MessageStream, session: Session) -> Any:
        recipients = [recipient.address for recipient in session.envelope.rcpt_to]
        calls.append((recipients, stream.read()))
        return [answers[address] for address in recipients]

    spool = SpoolStore(inner, tmp_path, **SLOW)
    with serve(on_data=spool, lmtp=True) as served, served.hello() as client:
        send(client, "one", *answers)
        replies = client.replies(5)
        assert [reply.status for reply in replies] == [
            *("250 2.0.0", "250 2.0.0", "550 5.1.1", "250 2.0.0", "250 2.0.0")
        ]
        assert [reply.text.startswith("spooled as") for reply in replies] == [
            *(False, True, False, True, True)
        ]
    [path] = files(spool)
    assert load(path.read_bytes().split(b"\n")[0], datetime.now(UTC))[0].opening_command == "LHLO"
    answers["b@example.com"] = "stored"
    answers["d@example.com"] = Reject(550, "no")
    with errors() as heard:
        assert not one_pass(spool)
    assert "SpoolFailed" in [event.code for event in heard]
    assert files(spool) == [path]
    for folder, left in (("failed", "d"), ("queue", "e")):
        head, _, content = Path(spool.path, folder, path.name).read_bytes().partition(b"\n")
        recipients = load(head, datetime.now(UTC))[0].envelope.rcpt_to
        assert [recipient.address for recipient in recipients] == [f"{left}@example.com"]
        assert content == message("one")
    answers["e@example.com"] = None
    assert one_pass(spool)
    assert calls[-1] == (["e@example.com"], message("one"))
    assert files(spool) == []


def test_the_maildir_has_the_time_of_the_reception(tmp_path: Path) -> None:
    maildir = MaildirStore(tmp_path / "Maildir", hostname="mx.example")
    away = [True]

    def inner(stream: MessageStream, session: Session) -> Any:
        if away:
            raise OSError("away")
        return maildir(stream, session)

    spool = SpoolStore(inner, tmp_path / "spool", **SLOW)
    session = a_session()
    session.envelope.received_at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    spool(io.BytesIO(message("one")), session)
    away.clear()
    assert one_pass(spool)
    [stored] = Path(maildir.path, "new").iterdir()
    assert b";\n\tFri, 02 Jan 2026 03:04:05 -0000\n" in stored.read_bytes()


def test_metrics_tell_what_waits(tmp_path: Path, inner: Any) -> None:
    registry = CollectorRegistry()
    spool = SpoolStore(inner, tmp_path, **SLOW)
    SpoolMetrics(spool, registry=registry)

    def values() -> Any:
        return [
            registry.get_sample_value(f"smtp_spool_{name}", {"spool": str(tmp_path)})
            for name in ("messages", "bytes", "seconds")
        ]

    assert values() == [0, 0, 0]
    inner.failure = OSError("away")
    hand_over(spool)
    messages, octets, seconds = values()
    assert (messages, octets) == (1, files(spool)[0].stat().st_size)
    assert 0 < seconds < SECONDS
    with pytest.raises(ValueError, match="Duplicated"):
        SpoolMetrics(spool, registry=registry)


def test_the_check_tells_of_a_full_disk_and_leaves_nothing(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    spool = SpoolStore(inner, tmp_path, **SLOW)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            spool.check()
    assert files(spool, "tmp") == []
    spool.check()
    assert files(spool, "tmp") == files(spool) == []


@pytest.mark.parametrize("failure", [ConnectionRefusedError("away"), Reject(451, "later")])
def test_an_outage_is_the_operator_s_business(tmp_path: Path, inner: Any, failure: Any) -> None:
    inner.failure = failure
    with errors() as heard:
        hand_over(SpoolStore(inner, tmp_path, **SLOW))
    assert category(heard[0]) == "other"
    json.dumps(heard[0].as_dict())


def test_the_file_is_on_the_disk_before_its_name_is_and_both_before_the_answer(
    tmp_path: Path, inner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **SLOW)
    did = []
    fsync, rename = os.fsync, os.rename

    def recorded_fsync(fd: Any) -> None:
        did.append(("fsync", os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))))
        fsync(fd)

    def recorded_rename(source: Any, target: Any) -> None:
        did.append(("rename", os.path.basename(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "rename", recorded_rename)
    name = hand_over(spool).removeprefix("spooled as ")
    assert did == [("fsync", name), ("rename", name), ("fsync", "queue")]


# The saved session


class Verdict:
    def as_dict(self) -> dict[str, Any]:
        return {"listed": True}


def full_session() -> Any:
    session = a_session("ann@b\u00fccher.example", "eve@example.com")
    session.local_address, session.local_port = "2001:db8::1", 25
    session.secure = True
    session.servername = "mx.example"
    certificate = {"subject": ((("commonName", "me"),),), "version": 3}
    session.tls = TLSInfo("TLSv1.3", ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256), certificate)
    session.user = "sam"
    session.transaction = 3
    session.xclient = {"ADDR": "192.0.2.9", "NAME": None}
    session.xforward = {"SOURCE": "REMOTE"}
    session.proxy = ProxyHeader(
        2, "PROXY", "TCP4", "192.0.2.7", 4711, "192.0.2.1", 25, {2: b"mx.example", 0xE0: b"\x00"}
    )
    session.results["blocklist"] = Verdict()
    envelope = session.envelope
    envelope.mail_from = Address("bob@example.net", {"SIZE": "5", "SMTPUTF8": True})
    envelope.rcpt_to[0].dsn = RecipientDSN(("SUCCESS", "DELAY"), "rfc822;ann@x.example")
    since = datetime(2014, 4, 3, 23, 1, tzinfo=UTC)
    envelope.rcpt_to[1].rrvs = RecipientValidSince(since, "C")
    envelope.body_type = "8bitmime"
    envelope.smtputf8 = envelope.require_tls = True
    envelope.dsn = EnvelopeDSN("HDRS", "envelope 7")
    envelope.size = 5
    envelope.auth = "<>"
    envelope.deliver_by = DeliverBy(120, "R", True)
    envelope.priority = -3
    envelope.hold_until = datetime(2026, 12, 24, tzinfo=UTC)
    envelope.received_at = datetime(2026, 11, 29, 6, tzinfo=UTC)
    envelope.results["spf"] = {"result": "pass"}
    return session


#: Not saved: what is the program's own, the last reply, and what has been done already.
LOST = {"error", "disabled_commands", "header_edits", "rcpt_domains"}


def facts(made: Any) -> Any:
    names: set[str] = set()
    for kind in type(made).__mro__:
        names.update(getattr(kind, "__slots__", ()), inspect.get_annotations(kind))
    return {
        name: getattr(made, name) for name in names - LOST - {"__dict__", "__weakref__", "envelope"}
    }


def test_a_session_and_its_envelope_survive_in_all_fields() -> None:
    made = full_session()
    line = save(made, made.envelope.rcpt_to, 77)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    again, size = load(line, made.envelope.received_at)
    assert size == 77
    made.results = {"blocklist": {"listed": True}}
    assert facts(again) == facts(made)
    assert facts(again.envelope) == facts(made.envelope)
    for one, other in zip(again.envelope.rcpt_to, made.envelope.rcpt_to, strict=True):
        assert (one.dsn, one.rrvs) == (other.dsn, other.rrvs)
    assert again.transmission_type == made.transmission_type
    assert again.received_header("mx.example", "7") == made.received_header("mx.example", "7")


def test_the_full_session_has_a_value_of_its_own_in_each_field_of_the_envelope() -> None:
    """A field that is added later has to be set there, so that it is known to be saved."""
    full, bare = full_session().envelope, a_session().envelope
    same = {name for name, value in facts(bare).items() if value == facts(full)[name]}
    assert same == {"hold_for"}  # never beside hold_until
    pairs = zip(full.rcpt_to, (Address("ann@example.com"), Address("eve@example.com")), strict=True)
    changed = [
        name
        for one, other in pairs
        for name in facts(one)
        if facts(one)[name] != facts(other)[name]
    ]
    assert set(changed) >= set(facts(bare.rcpt_to[0])) - {"_args"}


def test_a_field_that_an_earlier_release_did_not_know_is_as_in_a_new_envelope() -> None:
    saved = json.loads(save(full_session(), full_session().envelope.rcpt_to, 77))
    del saved["envelope"]["priority"]
    again, _ = load(json.dumps(saved).encode(), datetime(2026, 11, 29, 6, tzinfo=UTC))
    assert again.envelope.priority is None
    assert again.envelope.auth == "<>"


def test_a_bare_session_survives_too() -> None:
    for opening_command in ("HELO", "LHLO"):
        made = a_session(opening_command=opening_command)
        made.envelope.mail_from = Address("")
        made.user = object()
        again, _ = load(save(made, made.envelope.rcpt_to, 0), datetime.now(UTC))
        assert again.transmission_type == made.transmission_type
        assert again.user == str(made.user)
        again.user = made.user
        made.envelope.received_at = again.envelope.received_at
        assert facts(again) == facts(made)
        assert facts(again.envelope) == facts(made.envelope)
        assert datetime.now(UTC) - made.envelope.received_at < timedelta(seconds=SECONDS)


def test_the_seconds_of_the_client_count_from_the_reception() -> None:
    made = full_session()
    envelope = made.envelope
    envelope.hold_until, envelope.hold_for = None, 100
    line = save(made, envelope.rcpt_to, 0)
    later = envelope.received_at + timedelta(seconds=50)
    again = load(line, later)[0].envelope
    assert (again.deliver_by, again.hold_for) == (DeliverBy(70, "R", True), 50)
    assert load(line, later + timedelta(seconds=60))[0].envelope.hold_for is None
    with pytest.raises(Expired, match="120"):
        load(line, later + timedelta(seconds=70))
    envelope.deliver_by = DeliverBy(20, "N")
    line = save(made, envelope.rcpt_to, 0)
    assert load(line, later)[0].envelope.deliver_by == DeliverBy(-30, "N")
    # A clock that was set back adds nothing.
    assert load(line, later - timedelta(days=1))[0].envelope.deliver_by == DeliverBy(20, "N")


def test_what_is_over_is_moved_to_failed(tmp_path: Path, inner: Any) -> None:
    inner.failure = OSError("away")
    spool = SpoolStore(inner, tmp_path, **SLOW)
    session = a_session()
    session.envelope.deliver_by = DeliverBy(10, "R")
    session.envelope.received_at = datetime.now(UTC) - timedelta(seconds=11)
    spool(io.BytesIO(message("one")), session)
    inner.failure = None
    with errors() as heard:
        assert one_pass(spool)
    assert len(files(spool, "failed")) == 1
    assert isinstance(heard[0].error, Expired)


def test_a_part_of_the_recipients_keeps_all_else() -> None:
    made = full_session()
    line = with_recipients(save(made, made.envelope.rcpt_to, 7), [1])
    again, _ = load(line, made.envelope.received_at)
    assert [recipient.address for recipient in again.envelope.rcpt_to] == ["eve@example.com"]
    assert again.envelope.rcpt_to[0].rrvs == made.envelope.rcpt_to[1].rrvs


# Crashes


#: Takes mail with a store that is away, until it is killed; says what it answered 250 for.
RECEIVER = """
import io, itertools, os, sys, threading
import gevent
from smtp_blinker.session import Address, Session
from smtp_blinker.stores import SpoolStore

def away(stream, session):
    raise OSError("away")

def take(worker):
    for number in itertools.count():
        session = Session()
        session.opening_command = "EHLO"
        session.envelope.mail_from = Address("bob@example.net")
        session.envelope.rcpt_to = [Address("ann@example.com")]
        name = f"{os.getpid()}-{worker}-{number}"
        size = (number * 7919) % 3000000 if number % 5 == 0 else 500
        content = f"Subject: {name}\\r\\n\\r\\n".encode() + b"x" * size + b"\\r\\n.end\\r\\n"
        assert spool(io.BytesIO(content), session).startswith("spooled as ")
        os.write(1, f"{name} {len(content)}\\n".encode())

spool = SpoolStore(away, sys.argv[1], delay=3600, max_delay=3600)
gevent.joinall([gevent.spawn(take, worker) for worker in range(4)])
"""

#: Hands over until nothing is left, or it is killed; says what the store has.
SENDER = """
import os, sys
import gevent
from smtp_blinker.stores import SpoolStore

def store(stream, session):
    content = stream.read()
    assert content.endswith((b"\\r\\n.end\\r\\n", b"\\r\\nHello\\r\\n"))
    name = content.split(b"\\r\\n")[0].removeprefix(b"Subject: ")
    os.write(1, name + f" {len(content)}\\n".encode())

spool = SpoolStore(store, sys.argv[1])
while spool.messages:
    spool._drain.run(lambda: False)
    gevent.sleep(0.01)
os.write(1, b"done 0\\n")
"""


def start(code: Any, path: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def read_until_killed(process: Any, lines: Any) -> Any:
    """The whole lines that it wrote, when it was killed after some of them."""
    told = []
    with process:
        for line in process.stdout:
            told.append(line)
            if len(told) == lines:
                os.kill(process.pid, signals_of_processes.SIGKILL)
    return {tuple(line.split()) for line in told if line.endswith(b"\n")}


def test_kill_9_loses_nothing_that_was_answered_and_leaves_no_half_message(tmp_path: Path) -> None:
    answered = set()
    for lines in (1, 7, 23):
        answered |= read_until_killed(start(RECEIVER, tmp_path), lines)
    assert len(answered) >= 31
    handed_over = set()
    for lines in (3, 11):  # killed amid handing over, too
        handed_over |= read_until_killed(start(SENDER, tmp_path), lines)
    handed_over |= read_until_killed(start(SENDER, tmp_path), -1)
    assert (b"done", b"0") in handed_over
    assert answered <= handed_over
    assert list(Path(tmp_path, "queue").iterdir()) == []
    # Whole messages that had no answer may come too; none in two sizes, and none was broken.
    names = [name for name, _ in handed_over]
    assert len(set(names)) == len(names)
    assert list(Path(tmp_path, "failed").iterdir()) == []


def told_by_three(sender: str, spool: SpoolStore, folder: Path) -> list[str]:
    """What three processes of *sender* told, in its order, until nothing was left."""
    with open(folder / "log", "ab") as log:
        processes = [
            subprocess.Popen([sys.executable, "-c", sender, spool.path], stdout=log, cwd=ROOT)
            for _ in range(3)
        ]
        try:
            assert [process.wait(4 * SECONDS) for process in processes] == [0, 0, 0]
        finally:
            for process in processes:
                process.kill()
    return [line.rsplit(" ", 1)[0] for line in (folder / "log").read_text().splitlines()]


def test_several_processes_hand_over_each_message_once_and_in_order(
    tmp_path: Path, inner: Any
) -> None:
    subjects = [f"number {number}" for number in range(100)]
    lines = told_by_three(SENDER, spooled(inner, tmp_path / "spool", *subjects), tmp_path)
    assert [line for line in lines if line != "done"] == subjects
    assert lines.count("done") == 3


#: A whole life in a patched process: a message is spooled and handed over, the server stopped.
PATCHED = """
from gevent import monkey
monkey.patch_all()
import smtplib, sys, threading
import gevent
from smtp_blinker import SMTPServer
from smtp_blinker.stores import SpoolStore

calls = []

def store(stream, session):
    calls.append(stream.read())
    if len(calls) < 3:
        raise OSError("away")

server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
spool = SpoolStore(store, sys.argv[1], delay=0.01, max_delay=0.01)
server.use(spool)
server.on_data(spool)
server.start()
with smtplib.SMTP("127.0.0.1", server.server_port) as client:
    client.sendmail("bob@example.net", "ann@example.com", "Hello")
with gevent.Timeout(30):
    while spool.messages:
        gevent.sleep(0.01)
server.stop()
assert calls == [b"Hello\\r\\n"] * 3, calls
assert not spool.is_away
print("done")
"""


def test_in_a_process_that_is_monkey_patched(tmp_path: Path) -> None:
    with start(PATCHED, tmp_path) as process:
        assert process.stdout.read() == b"done\n"
    assert process.returncode == 0
