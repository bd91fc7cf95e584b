"""Threads for each kind of blocking work: how many there are, when they end, who waits for whom."""

from __future__ import annotations

import _socket
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult
from support import Client, poll, running, talking, until_read

from smtp_blinker import SMTPServer, pools, users
from smtp_blinker.pools import LOOKUPS, PASSWORDS, STORES, Workers
from smtp_blinker.stores import MaildirStore
from smtp_blinker.users import UserFile, set_password


class Blocked:
    """Work that blocks until `release`, and how much of it is under way."""

    def __init__(self) -> None:
        self._released = threading.Event()
        self._lock = threading.Lock()
        self.begun = 0
        self.threads: set[int] = set()

    def __call__(self, *args: Any) -> int:
        with self._lock:
            self.begun += 1
            self.threads.add(threading.get_ident())
        assert self._released.wait(60)
        return self.begun

    def release(self) -> None:
        self._released.set()


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    work = Blocked()
    yield work
    work.release()


def test_what_the_work_returns_or_raises_comes_back() -> None:
    workers = Workers(2)
    assert workers.run(max, 3, 5) == 5
    with pytest.raises(ZeroDivisionError):
        workers.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        workers.run(sys.exit)
    assert workers.run(threading.get_ident) != threading.get_ident()


def test_so_many_run_at_once_and_the_rest_waits_its_turn(blocked: Blocked) -> None:
    workers = Workers(3)
    assert not workers.all_busy
    results = [workers.spawn(blocked) for _ in range(10)]
    poll(lambda: blocked.begun == 3)
    assert workers.all_busy
    gevent.sleep(0.05)
    assert blocked.begun == 3
    blocked.release()
    gevent.joinall(results, timeout=30)
    assert [result.get(timeout=30) for result in results]
    assert len(blocked.threads) == 3
    poll(lambda: not workers.all_busy)


def test_a_thread_does_one_piece_of_work_after_the_other_and_ends_when_there_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.05)
    workers = Workers(4)
    ended = threading.Event()
    serve = workers._serve

    def watched() -> None:
        serve()
        ended.set()

    monkeypatch.setattr(workers, "_serve", watched)
    for _ in range(5):
        assert workers.run(lambda: 1) == 1
    poll(ended.is_set)
    poll(lambda: workers._threads == 0)
    assert workers.run(lambda: 2) == 2


def test_work_is_never_lost_between_a_thread_that_ends_and_one_that_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pools, "IDLE_SECONDS", 0.0)
    workers = Workers(2)
    results = []
    for number in range(500):
        results.append(workers.spawn(lambda number=number: number))  # type: ignore[misc]
        if number % 7 == 0:
            gevent.sleep(0)
    assert [result.get(timeout=30) for result in results] == list(range(500))
    poll(lambda: workers._threads == 0)


def test_where_no_thread_can_be_had_the_caller_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*args: Any) -> int:
        raise RuntimeError("can't start new thread")

    workers = Workers(1)
    with monkeypatch.context() as patch:
        patch.setattr(pools, "_start_new_thread", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            workers.run(lambda: 1)
    assert workers.run(lambda: 2) == 2


def test_a_hub_that_is_gone_leaves_no_word(
    blocked: Blocked, capfd: pytest.CaptureFixture[str]
) -> None:
    workers = Workers(1)

    def use_a_hub() -> None:
        hub = gevent.get_hub()
        waiting = gevent.spawn(workers.run, blocked)
        gevent.sleep(0)
        waiting.kill(block=False)
        hub.destroy(destroy_loop=True)

    thread = threading.Thread(target=use_a_hub)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    blocked.release()
    assert workers.run(lambda: 2) == 2
    assert capfd.readouterr().err == ""


PROGRAMS = {
    "a process that has forked": """
        import os
        import threading
        import gevent
        from smtp_blinker.pools import LOOKUPS, Workers
        workers = Workers(1)
        release = threading.Event()
        busy = workers.spawn(release.wait)
        assert LOOKUPS.run(lambda: 1) == 1
        assert workers.all_busy
        pid = os.fork()
        if not pid:
            gevent.reinit()
            assert not workers.all_busy
            assert workers.run(lambda: 2) == LOOKUPS.run(lambda: 2) == 2
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        release.set()
        assert busy.get() is True
    """,
    "a process that is monkey patched": """
        from gevent import monkey
        real = monkey.get_original("threading", "get_ident")
        monkey.patch_all()
        import time
        import gevent
        from smtp_blinker.pools import Workers
        workers = Workers(1)
        release = monkey.get_original("_thread", "allocate_lock")()
        release.acquire()
        busy = workers.spawn(release.acquire)
        gevent.sleep(0.01)  # other greenlets run
        release.release()
        assert busy.get() is True
        assert workers.run(real) != real()
    """,
    "a process that ends while a thread is busy": """
        import threading
        import gevent
        from smtp_blinker.pools import Workers
        begun = threading.Event()
        Workers(1).spawn(lambda: (begun.set(), threading.Event().wait()))
        begun.wait()
    """,
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_threads_are_at_home_in(program: str) -> None:
    lines = PROGRAMS[program].split("\n")
    ended = subprocess.run(
        # CPython 3.12 warns of a fork beside threads, which is what is tried.
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            "\n".join(line[8:] for line in lines),
        ],
        capture_output=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_mail_is_stored_while_look_ups_hang_and_every_password_thread_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups, passwords = Blocked(), Blocked()
    monkeypatch.setattr(_socket, "gethostbyaddr", lookups)
    monkeypatch.setattr(users._Hash, "verify", passwords)
    set_password(tmp_path / "users", "alice", "sesame")
    try:
        with running(
            disable_reverse_lookup=False,
            on_auth=UserFile(tmp_path / "users"),
            auth_optional=True,
            allow_insecure_auth=True,
            on_data=MaildirStore(tmp_path / "Maildir"),
        ) as server:
            clients = [Client(server, hello="EHLO me") for _ in range(12)]
            for client in clients:
                client.send(b"AUTH PLAIN AGFsaWNlAHNlc2FtZQ==\r\n")
            poll(lambda: lookups.begun == LOOKUPS.most and LOOKUPS.all_busy)
            poll(lambda: passwords.begun == PASSWORDS.most)
            # So this client has no name that it would have to wait for.
            assert Client(server, hello="EHLO me").message().startswith("250")
            assert len(list((tmp_path / "Maildir" / "new").iterdir())) == 1
            # Neither does the program's own look-up wait for ours.
            assert gevent.spawn(gevent.socket.getaddrinfo, "127.0.0.1", 25).get(timeout=30)
            passwords.release()
            for client in clients:
                assert client.reply().startswith(("235", "535"))
    finally:
        lookups.release()
        passwords.release()


def test_names_are_looked_up_while_the_disk_hangs_and_mail_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocked: Blocked
) -> None:
    monkeypatch.setattr(_socket, "gethostbyaddr", lambda address: ("mail.example", [], [address]))
    busy = [STORES.spawn(blocked) for _ in range(STORES.most)]
    names: AsyncResult[str] = AsyncResult()
    with talking(
        disable_reverse_lookup=False,
        on_mail_from=lambda address, session: names.set(session.client_hostname),
        on_data=MaildirStore(tmp_path / "Maildir"),
    ) as client:
        client.begin()
        assert names.get(timeout=30) == "mail.example"
        client.send(b"x\r\n.\r\n")
        until_read(client.server, client)
        assert not list((tmp_path / "Maildir" / "new").iterdir())
        blocked.release()
        assert client.reply().startswith("250")
    gevent.joinall(busy, timeout=30)  # type: ignore[type-var]


def test_another_resolver_of_gevent_s_is_asked_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        getaddrinfo = staticmethod(_socket.getaddrinfo)

        def gethostbyaddr(self, address: str) -> tuple[str, list[str], list[str]]:
            return "other.example", [], [address]

        def close(self) -> None:
            pass

    monkeypatch.setattr(gevent.get_hub(), "resolver", Other())
    names: AsyncResult[str] = AsyncResult()
    with running(
        disable_reverse_lookup=False,
        on_mail_from=lambda address, session: names.set(session.client_hostname),
    ) as server:
        Client(server, hello="EHLO me").ok("MAIL FROM:<>")
        assert names.get(timeout=30) == "other.example"


def test_look_ups_that_hang_hold_up_neither_stop_nor_a_thread_s_end(
    monkeypatch: pytest.MonkeyPatch, blocked: Blocked, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_socket, "gethostbyaddr", blocked)
    server = SMTPServer(("127.0.0.1", 0), close_timeout=0)
    with server.run_in_thread():
        client = Client(server.address)
        poll(lambda: blocked.begun)
        client.close()
    blocked.release()
    poll(lambda: not LOOKUPS.all_busy)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no priority per thread")
def test_passwords_stand_back_when_processors_are_scarce() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    inside = PASSWORDS.run(os.getpriority, os.PRIO_PROCESS, 0)
    assert inside == min(own + 10, 19)
    assert STORES.run(os.getpriority, os.PRIO_PROCESS, 0) == own
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
