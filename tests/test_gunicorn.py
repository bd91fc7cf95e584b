"""The gunicorn worker as a user runs it: an arbiter, its workers, real clients and signals."""

from __future__ import annotations

import contextlib
import json
import mailbox
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import SECONDS, BlockingClient, ClientReply, poll, python, wait_until
from support import run as run_program

pytest.importorskip("gunicorn")

from gevent import socket as gevent_socket

from smtp_blinker.gunicorn import SMTPWorker, run  # after the importorskip
from smtp_blinker.sharing import Acceptor, Share

ROOT = Path(__file__).resolve().parent.parent
WORKER = ("-k", "smtp_blinker.gunicorn.SMTPWorker")
#: For USR2: what ``python -m gunicorn`` would start anew finds gunicorn's http for Python's.
PROGRAM_FILE = str(Path(sys.executable).with_name("gunicorn"))

# What most tests let gunicorn load, and what serves under `run`.
PROGRAM = """
import logging, os
from smtp_blinker import SMTPServer
from smtp_blinker.gunicorn import SMTPWorker
from smtp_blinker.sharing import Share
from smtp_blinker.stores import MaildirStore

store = MaildirStore("Maildir")

def on_data(stream, session):
    store(stream, session)
    return f"stored by {os.getpid()}"

def make_server(**options):
    log = logging.getLogger("gunicorn.error")
    return SMTPServer(None, on_data=on_data, disable_reverse_lookup=True, logger=log, **options)

server = make_server(name=os.environ.get("NAME", "smtp.test"), max_clients=100)
other = make_server(lmtp=True)
listening = SMTPServer(("127.0.0.1", 0))

def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]

def fails():
    raise LookupError("it can't be made")

services = [server, page]

def count(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(sum(list(Share._table)[1::2])).encode()]

counting = [server, count]

class CountingWorker(SMTPWorker):
    def notify(self):
        super().notify()
        with open("beats", "a") as file:
            file.write(f"{os.getpid()}\\n")
"""


def _lives(process: psutil.Process) -> bool:
    """Whether *process* is there and no zombie; it may go while it is looked at."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Gunicorn:
    """A gunicorn in *folder*; *arguments* follow ``python -m gunicorn``, or are all of it."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        *,
        sockets: int = 1,
        module: Sequence[str] = ("-m", "gunicorn"),
        before: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> None:
        self.folder = folder
        self.errors = folder / "stderr"
        path = os.pathsep.join([str(ROOT), str(folder)])
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*before, sys.executable, *module, *arguments],
                cwd=folder,
                # gunicorn's control socket would be in the user's home.
                env={**os.environ, "HOME": str(folder), "PYTHONPATH": path, **environment},
                stdout=errors,
                stderr=errors,
                pass_fds=pass_fds,
            )
        self._sockets = sockets

    @property
    def said(self) -> str:
        return self.errors.read_text()

    def wait_for(self, pattern: str, times: int = 1) -> list[str]:
        """What *pattern* found in the log, once it is there that often."""

        def found() -> list[str] | None:
            matches = re.findall(pattern, self.said)
            if len(matches) < times:
                assert self.process.poll() is None, self.said
                return None
            return matches

        matches: list[str] = wait_until(found, f"{pattern} in {self.errors}")
        return matches

    @property
    def ports(self) -> list[int]:
        self.wait_for("Listening at")
        line = self.wait_for(r"Listening at: (\S+)")[0]
        found = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+)", line)]
        assert len(found) == self._sockets
        return found

    @property
    def workers(self) -> set[int]:
        """The workers that have booted and not ended, by their number."""
        children = psutil.Process(self.process.pid).children()
        return {child.pid for child in children if _lives(child)}

    @property
    def accepting(self) -> set[int]:
        """The workers that listen."""
        listening = set()
        for worker in self.workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                sockets = psutil.Process(worker).net_connections()
                if any(one.status == psutil.CONN_LISTEN for one in sockets):
                    listening.add(worker)
        return listening

    def have_gone(self, workers: set[int]) -> bool:
        return not self.workers & workers

    def client(self, number: int = 0, hello: str = "EHLO") -> BlockingClient:
        """A client of the *number*th socket that was greeted and has said *hello*."""
        client = BlockingClient(("127.0.0.1", self.ports[number]), greet=False)
        assert client.reply().code == 220
        assert client.cmd(f"{hello} client.example").code == 250
        return client

    def deliver(self, number: int = 0, subject: str = "hello", hello: str = "EHLO") -> int:
        """Send a message; returns the number of the process that took it."""
        with self.client(number, hello) as client:
            begin(client)
            return stored_by(finish(client, subject))

    def page(self, number: int, path: str = "/") -> str:
        url = f"http://127.0.0.1:{self.ports[number]}{path}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            text: str = answer.read().decode()
            return text

    def subjects(self) -> list[str]:
        return [str(one["Subject"]) for one in mailbox.Maildir(self.folder / "Maildir")]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_status(self) -> int:
        return self.process.wait(SECONDS * 2)

    def end(self) -> None:
        if self.process.poll() is None:
            children = psutil.Process(self.process.pid).children()
            self.process.kill()
            self.process.wait()
            for child in children:
                if _lives(child):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        child.kill()


Start = Callable[..., Gunicorn]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Runs gunicorn in a folder where PROGRAM is ``program.py``."""
    started: list[Gunicorn] = []

    def start(*arguments: str, **keywords: Any) -> Gunicorn:
        started.append(Gunicorn(tmp_path, arguments, **keywords))
        return started[-1]

    (tmp_path / "program.py").write_text(PROGRAM)
    yield start
    for one in started:
        one.end()


def bind(sockets: int) -> list[str]:
    return ["-b", "127.0.0.1:0"] * sockets


def begin(client: BlockingClient) -> None:
    """A transaction up to the 354."""
    client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
    assert [reply.code for reply in client.replies(3)] == [250, 250, 354]


def finish(client: BlockingClient, subject: str = "hello") -> ClientReply:
    client.send(f"Subject: {subject}\r\n\r\nText\r\n.\r\n".encode())
    reply = client.reply()
    assert reply.code == 250, reply
    return reply


def stored_by(reply: ClientReply) -> int:
    return int(reply.text.rpartition(" ")[2])


class Load:
    """Clients that send one message after the other and notice every one who is lost."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self._port = port
        self.accepted: list[str] = []
        self.told_to_come_back = 0
        self.lost: list[BaseException] = []
        self._enough = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number,)) for number in range(clients)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, messages: int) -> None:
        goal = len(self.accepted) + messages
        wait_until(lambda: self.lost or len(self.accepted) >= goal, f"{goal} messages")

    def _send(self, number: int) -> None:
        sent = 0
        try:
            while not self._enough.is_set():
                subject = f"{number}-{sent}"
                if self._deliver(subject):
                    self.accepted.append(subject)
                    sent += 1
                else:
                    self.told_to_come_back += 1
        except BaseException as exc:
            self.lost.append(exc)

    def _deliver(self, subject: str) -> bool:
        """Whether it was taken; False when the server said 421 in proper form."""
        with BlockingClient(("127.0.0.1", self._port), greet=False) as client:
            if client.reply().code == 421:
                return False
            content = f"Subject: {subject}\r\n\r\nText\r\n.\r\n"
            commands = (
                "EHLO c.example",
                "MAIL FROM:<a@b.example>",
                "RCPT TO:<c@d.example>",
                "DATA",
            )
            for command in (*commands, content.removesuffix("\r\n"), "QUIT"):
                try:
                    reply = client.cmd(command)
                except OSError:
                    # It was told before it sent this.
                    reply = client.reply()
                if command == "QUIT":
                    break
                if reply.code == 421:
                    assert command != content, "the end of a transaction may be waited for"
                    return False
                assert reply.code in (250, 354), reply
        return True


# What gunicorn loads


@pytest.mark.parametrize("name", ["program", "program:server", "program:make_server"])
def test_a_server_or_a_function_that_makes_one_gets_every_socket(start: Start, name: str) -> None:
    gunicorn = start(*WORKER, *bind(2), name, sockets=2)
    assert gunicorn.deliver(0) == gunicorn.deliver(1)
    assert gunicorn.subjects() == ["hello"] * 2


def test_a_list_has_a_service_for_each_socket(start: Start, tmp_path: Path) -> None:
    (tmp_path / "three.py").write_text("from program import *\nlist_ = [server, other, page]")
    gunicorn = start(*WORKER, *bind(3), "three:list_", sockets=3)
    worker = gunicorn.deliver(0)
    assert gunicorn.deliver(1, hello="LHLO") == worker
    assert gunicorn.page(2) == str(worker)


def test_a_unix_socket_is_served(start: Start, tmp_path: Path) -> None:
    gunicorn = start(*WORKER, "-b", "unix:lmtp.sock", "program:other", sockets=0)
    gunicorn.wait_for("Booting worker")
    with BlockingClient(str(tmp_path / "lmtp.sock"), greet=False) as client:
        assert client.reply().code == 220
        assert client.cmd("LHLO client.example").code == 250


def test_a_function_can_be_preloaded(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "--preload", "program:make_server")
    wait_until(lambda: len({gunicorn.deliver() for _ in range(10)}) == 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["program:nothing"], "Failed to find attribute 'nothing' in 'program'"),
        (["program:listening"], "has a listener of its own; use SMTPServer(None, …)"),
        (["program:services"], "2 services for 1 sockets"),
        (["program:fails"], "it can't be made"),
        (["--certfile", "program.py", "program"], "give certificates to SMTPServer"),
    ],
)
def test_what_cannot_be_served_ends_the_arbiter(
    start: Start, arguments: list[str], complaint: str
) -> None:
    gunicorn = start(*WORKER, *bind(1), *arguments)
    assert gunicorn.exit_status() != 0
    assert complaint in gunicorn.said


def test_limits_say_that_they_are_per_worker(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "program")
    gunicorn.wait_for("max_clients=100 counts per worker: 2 workers take up to 200")


def test_a_single_worker_says_nothing_of_limits(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    gunicorn.deliver()
    assert "counts per worker" not in gunicorn.said


# Workers come and go


def test_a_killed_worker_comes_back(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    killed = gunicorn.deliver()
    os.kill(killed, signal.SIGKILL)
    assert gunicorn.deliver() != killed


def test_a_worker_is_replaced_after_max_requests_clients(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "--max-requests", "3", "program")
    first = [gunicorn.deliver() for _ in range(3)]
    assert len(set(first)) == 1
    wait_until(lambda: gunicorn.deliver() not in first)
    gunicorn.wait_for("Autorestarting worker after 3 clients")


def test_hup_under_load_loses_no_client(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "program")
    with Load(gunicorn.ports[0]) as load:
        load.wait_for_more(10)
        for _ in range(2):
            before = gunicorn.workers
            gunicorn.signal(signal.SIGHUP)
            wait_until(partial(gunicorn.have_gone, before))
            load.wait_for_more(10)
    assert load.lost == []
    assert sorted(gunicorn.subjects()) == sorted(load.accepted)


def test_hup_loads_the_program_anew(start: Start, tmp_path: Path) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    gunicorn.deliver()
    (tmp_path / "program.py").write_text(PROGRAM.replace("stored by", "taken by"))
    gunicorn.signal(signal.SIGHUP)

    def taken() -> bool:
        with gunicorn.client() as client:
            begin(client)
            return "taken by" in finish(client).text

    wait_until(taken)


def test_hup_leaves_a_transaction_to_its_end(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    with gunicorn.client() as busy, gunicorn.client() as idle:
        begin(busy)
        [old] = gunicorn.workers
        gunicorn.signal(signal.SIGHUP)
        assert idle.reply().status == "421 4.3.2"
        assert gunicorn.deliver() != old
        assert stored_by(finish(busy)) == old
        assert busy.reply().status == "421 4.3.2"
    wait_until(lambda: old not in gunicorn.workers)


def test_term_lets_transactions_end_and_then_ends(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "program")
    with gunicorn.client() as busy, gunicorn.client() as idle:
        begin(busy)
        gunicorn.signal(signal.SIGTERM)
        assert idle.reply().status == "421 4.3.2"
        with pytest.raises(ConnectionRefusedError):
            BlockingClient(("127.0.0.1", gunicorn.ports[0]), greet=False)
        finish(busy)
        assert busy.reply().status == "421 4.3.2"
    assert gunicorn.exit_status() == 0
    assert gunicorn.subjects() == ["hello"]


def test_after_graceful_timeout_a_transaction_is_told_421(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "--graceful-timeout", "4", "program")
    with gunicorn.client() as client:
        begin(client)
        gunicorn.signal(signal.SIGTERM)
        assert client.reply().status == "421 4.3.2"
    assert gunicorn.exit_status() == 0
    assert gunicorn.subjects() == []


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_quit_and_int_wait_for_nobody(start: Start, number: int) -> None:
    gunicorn = start(*WORKER, *bind(1), "--graceful-timeout", "1000", "program")
    with gunicorn.client() as busy, gunicorn.client() as idle:
        begin(busy)
        gunicorn.signal(number)
        assert busy.reply().status == "421 4.3.2"
        assert idle.reply().status == "421 4.3.2"
    assert gunicorn.exit_status() == 0


# Like a busy machine: the new process has no processor for a while.
SLOW_FORK = """
import os, time
from pathlib import Path

def post_fork(arbiter, worker):
    Path(f"begun-{os.getpid()}").touch()
    while not os.path.exists("go"):
        time.sleep(0.01)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_hears_a_signal_that_came_before_it_was_ready(
    start: Start, tmp_path: Path, number: int
) -> None:
    """It served on, and the arbiter killed it after graceful_timeout."""
    (tmp_path / "slow.py").write_text(SLOW_FORK)
    gunicorn = start(
        *("-c", "slow.py", "--graceful-timeout", "1000"), *WORKER, *bind(1), "-w", "2", "program"
    )
    begun = wait_until(lambda: list(tmp_path.glob("begun-*")))
    first = int(begun[0].name.partition("-")[2])
    os.kill(first, number)
    (tmp_path / "go").touch()
    wait_until(lambda: first not in gunicorn.workers)
    assert gunicorn.deliver() != first
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.exit_status() == 0


def test_quit_hastens_a_worker_that_drains(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "--graceful-timeout", "1000", "program")
    with gunicorn.client() as busy, gunicorn.client() as idle:
        begin(busy)
        [worker] = gunicorn.workers
        os.kill(worker, signal.SIGTERM)
        assert idle.reply().code == 421
        os.kill(worker, signal.SIGQUIT)
        assert busy.reply().status == "421 4.3.2"
    wait_until(lambda: worker not in gunicorn.workers)


def test_a_draining_worker_shows_that_it_lives(start: Start, tmp_path: Path) -> None:
    beats = tmp_path / "beats"
    gunicorn = start("-k", "program.CountingWorker", *bind(1), "program")
    with gunicorn.client() as busy, gunicorn.client() as idle:
        begin(busy)
        [worker] = gunicorn.workers
        os.kill(worker, signal.SIGTERM)
        assert idle.reply().code == 421

        def count() -> int:
            return beats.read_text().split().count(str(worker))

        before = count()
        wait_until(lambda: count() >= before + 2)
        finish(busy)


def busy_clients(gunicorn: Gunicorn, stack: contextlib.ExitStack) -> dict[int, BlockingClient]:
    """A client of each of two workers, in a transaction's content; *stack* closes them."""
    clients: dict[int, BlockingClient] = {}

    def everywhere() -> bool:
        client = stack.enter_context(gunicorn.client())
        begin(client)
        clients.setdefault(stored_by(finish(client, "first")), client)
        return len(clients) == 2

    wait_until(everywhere)
    for client in clients.values():
        begin(client)
    return clients


def test_ttin_under_load_makes_a_worker_that_takes_part(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    gunicorn.deliver()
    with Load(gunicorn.ports[0]) as load:
        load.wait_for_more(5)
        before = gunicorn.workers
        gunicorn.signal(signal.SIGTTIN)
        wait_until(lambda: gunicorn.deliver(subject="more") not in before)
        assert gunicorn.workers > before
        load.wait_for_more(5)
    assert load.lost == []
    assert load.told_to_come_back == 0


def test_ttou_under_load_loses_no_client(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "program")
    with Load(gunicorn.ports[0]) as load, contextlib.ExitStack() as stack:
        clients = busy_clients(gunicorn, stack)
        gunicorn.signal(signal.SIGTTOU)
        wait_until(lambda: len(gunicorn.accepting) == 1)
        [staying] = gunicorn.accepting
        load.wait_for_more(5)
        for worker, client in clients.items():
            assert stored_by(finish(client, "second")) == worker
            if worker != staying:
                assert client.reply().status == "421 4.3.2"
        wait_until(lambda: gunicorn.workers == {staying})
        assert clients[staying].cmd("NOOP").code == 250
        load.wait_for_more(5)
    assert load.lost == []
    assert gunicorn.subjects().count("second") == 2


def successor(gunicorn: Gunicorn) -> psutil.Process:
    """Send USR2 to a gunicorn that writes its number into ``pid``; the new arbiter, at work."""
    gunicorn.signal(signal.SIGUSR2)
    file = gunicorn.folder / "pid.2"
    arbiter = psutil.Process(int(wait_until(lambda: file.exists() and file.read_text())))
    wait_until(arbiter.children)
    return arbiter


def end(arbiter: psutil.Process) -> None:
    """End an arbiter whose starter has gone; its workers end by themselves."""
    with contextlib.suppress(psutil.NoSuchProcess):
        arbiter.kill()


def test_usr2_under_load_loses_no_client(start: Start, tmp_path: Path) -> None:
    arguments = (*WORKER, *bind(1), "-w", "2", "--pid", "pid", "program")
    gunicorn = start(*arguments, module=[PROGRAM_FILE])
    with contextlib.ExitStack() as stack:
        with Load(gunicorn.ports[0]) as load:
            clients = busy_clients(gunicorn, stack)
            arbiter = successor(gunicorn)
            stack.callback(end, arbiter)
            load.wait_for_more(5)
            gunicorn.signal(signal.SIGTERM)
            wait_until(lambda: not gunicorn.accepting & set(clients))
            load.wait_for_more(5)
            for worker, client in clients.items():
                assert stored_by(finish(client, "second")) == worker
                assert client.reply().status == "421 4.3.2"
            assert gunicorn.exit_status() == 0
            load.wait_for_more(5)
        assert load.lost == []
        assert gunicorn.deliver() in {child.pid for child in arbiter.children()}
        wait_until(lambda: (tmp_path / "pid").exists())
        assert int((tmp_path / "pid").read_text()) == arbiter.pid


def test_an_upgrade_can_be_taken_back(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "--pid", "pid", "program", module=[PROGRAM_FILE])
    with Load(gunicorn.ports[0]) as load:
        load.wait_for_more(5)
        before = gunicorn.workers
        arbiter = successor(gunicorn)
        load.wait_for_more(5)
        arbiter.terminate()
        wait_until(lambda: not _lives(arbiter))
        load.wait_for_more(5)
        assert gunicorn.deliver() in before
    assert load.lost == []


def test_workers_end_when_the_arbiter_was_killed(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(1), "program")
    worker = psutil.Process(gunicorn.deliver())
    gunicorn.process.kill()
    gunicorn.process.wait()
    worker.wait(SECONDS)


def test_a_program_with_a_syntax_error_is_refused_until_it_is_mended(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "program.py").write_text("server = \n")
    gunicorn = start(*WORKER, *bind(1), "--reload", "program")
    with BlockingClient(("127.0.0.1", gunicorn.ports[0]), greet=False) as client:
        assert client.reply().status == "421 4.3.0"
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    touched = time.monotonic()

    def mended() -> bool:
        # A reloader that first looked after the change sees none: it gets another now and then.
        nonlocal touched
        if time.monotonic() - touched > 3:
            touched = time.monotonic()
            os.utime(program, (time.time(), time.time()))
        with BlockingClient(("127.0.0.1", gunicorn.ports[0]), greet=False) as client:
            return client.reply().code == 220

    wait_until(mended)


# Clients are shared out


class Named:
    """Has the part of a server that an acceptor needs."""

    def __init__(self, name: str, served: list[str]) -> None:
        self._name = name
        self._served = served

    def handle(self, sock: Any, address: Any) -> None:
        self._served.append(self._name)
        with contextlib.closing(sock):
            sock.recv(1)  # until the client closes


@pytest.fixture
def shares() -> Iterator[tuple[Share, Share]]:
    """What two workers that accept would have."""
    one, other = Share(1), Share(2)
    for share in (one, other, one):
        share.beat()
    yield one, other
    one.leave()
    other.leave()


@pytest.fixture
def accept(stack: contextlib.ExitStack) -> Callable[..., None]:
    """Begins to accept clients of a socket, as a worker does that has a `Share`."""

    def accept(sock: Any, name: str, served: list[str], share: Share) -> None:
        acceptor = Acceptor(sock, Named(name, served), share, lambda: None)  # type: ignore[arg-type]
        stack.callback(acceptor.close)
        acceptor.start()

    return accept


def test_a_worker_that_has_more_clients_leaves_the_next_to_the_other(
    shares: tuple[Share, Share], accept: Callable[..., None], stack: contextlib.ExitStack
) -> None:
    served: list[str] = []
    listener = gevent_socket.socket()  # one of create_server would stall the hub
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    for sock, name, share in zip((listener, listener.dup()), "ab", shares, strict=True):
        accept(sock, name, served, share)
    for number in range(20):
        stack.enter_context(gevent_socket.create_connection(listener.getsockname()))
        poll(lambda number=number: len(served) > number)  # type: ignore[misc]
        assert abs(served.count("a") - served.count("b")) <= 1 + number / 4


def test_clients_that_another_worker_does_not_take_are_served(
    shares: tuple[Share, Share], accept: Callable[..., None], stack: contextlib.ExitStack
) -> None:
    served: list[str] = []
    listener = gevent_socket.socket()  # one of create_server would stall the hub
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    accept(listener, "a", served, shares[0])
    for _ in range(5):
        stack.enter_context(gevent_socket.create_connection(listener.getsockname()))
    poll(lambda: len(served) == 5)


def test_a_worker_that_accepts_no_more_is_left_nobody(shares: tuple[Share, Share]) -> None:
    one, other = shares
    one.add(1)
    assert one.is_larger
    assert not other.is_larger
    other.leave()
    one.beat()
    assert not one.is_larger


def test_workers_know_of_each_others_clients(start: Start) -> None:
    gunicorn = start(*WORKER, *bind(2), "-w", "2", "program:counting", sockets=2)
    with contextlib.ExitStack() as stack:
        for number in range(1, 7):
            stack.enter_context(gunicorn.client())
            assert float(gunicorn.page(1)) == number
    wait_until(lambda: float(gunicorn.page(1)) == 0)


# Around it


def test_listeners_hear_where_a_server_listens(start: Start, tmp_path: Path) -> None:
    (tmp_path / "heard.py").write_text(
        "from program import *\n"
        "from smtp_blinker.signals import listening\n"
        "@listening.connect\n"
        "def heard(sender):\n"
        "    sender.logger.info('%s is heard of', sender.server_port)\n"
    )
    gunicorn = start(*WORKER, *bind(1), "heard")
    assert [int(port) for port in gunicorn.wait_for(r"(\d+) is heard of")] == gunicorn.ports


def test_sockets_of_systemd_are_used(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        # systemd gives them from 3 on, and names the process that they are for.
        script = f'exec 3<&{first.fileno()}; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        gunicorn = start(
            *WORKER,
            "program",
            before=["/bin/bash", "-c", script, "bash"],
            pass_fds=[first.fileno()],
        )
        assert gunicorn.ports == [first.getsockname()[1]]
        gunicorn.deliver()
        gunicorn.signal(signal.SIGTERM)
        assert gunicorn.exit_status() == 0
        # Who comes while it is down waits for the next one.
        with BlockingClient(("127.0.0.1", first.getsockname()[1]), greet=False):
            pass


def test_usr1_opens_the_log_anew(start: Start, tmp_path: Path) -> None:
    gunicorn = start(*WORKER, *bind(1), "--log-file", "log", "--log-level", "debug", "program")
    log, rotated = tmp_path / "log", tmp_path / "log.1"
    gunicorn.errors = log
    wait_until(log.exists)
    gunicorn.deliver()
    log.rename(rotated)
    ports = [int(port) for port in re.findall(r"127\.0\.0\.1:(\d+) ", rotated.read_text())][:1]
    gunicorn.signal(signal.SIGUSR1)
    wait_until(log.exists)

    def worker_writes_there() -> bool:
        with BlockingClient(("127.0.0.1", ports[0]), greet=False) as client:
            client.reply()
        return "connection from 127.0.0.1" in log.read_text()

    wait_until(worker_writes_there)


def test_usr1_under_load_loses_no_client(start: Start, tmp_path: Path) -> None:
    gunicorn = start(*WORKER, *bind(1), "-w", "2", "--log-file", "log", "program")
    log = gunicorn.errors = tmp_path / "log"
    wait_until(log.exists)
    with Load(gunicorn.ports[0]) as load, contextlib.ExitStack() as stack:
        clients = busy_clients(gunicorn, stack)
        for number in range(3):
            log.rename(tmp_path / f"log.{number}")
            gunicorn.signal(signal.SIGUSR1)
            wait_until(log.exists)
            load.wait_for_more(5)
        assert gunicorn.workers == set(clients)
        for worker, client in clients.items():
            assert stored_by(finish(client)) == worker
    assert load.lost == []
    assert load.told_to_come_back == 0


EXAMPLES = str(ROOT / "examples")
EXAMPLE_PORTS = dict.fromkeys(("SMTP_BIND", "HTTP_BIND", "METRICS_BIND"), "127.0.0.1:0")


def test_metrics_add_up_over_the_workers(start: Start, tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    counts.mkdir()
    gunicorn = start(
        *("--chdir", EXAMPLES, "-c", f"{EXAMPLES}/gunicorn_smtp_conf.py"),
        "gunicorn_smtp:services",
        sockets=2,
        MAILDIR=str(tmp_path / "Maildir"),
        PROMETHEUS_MULTIPROC_DIR=str(counts),
        **EXAMPLE_PORTS,
    )

    def metric(name: str) -> int:
        match = re.search(rf"^{name} (\S+)$", gunicorn.page(1), re.M)
        return int(float(match[1])) if match else 0

    clients: list[BlockingClient] = []

    def both_have_clients() -> bool:
        clients.append(gunicorn.client())
        here = psutil.CONN_ESTABLISHED
        with_clients = [
            worker
            for worker in gunicorn.workers
            if any(one.status == here for one in psutil.Process(worker).net_connections())
        ]
        return len(with_clients) == 2

    wait_until(both_have_clients)
    for client in clients:
        begin(client)
        finish(client)
    for _ in range(6):  # whichever worker is asked
        assert metric("smtp_connections_open") == len(clients)
        wait_until(lambda: metric('smtp_messages_total{code="250"}') == len(clients))

    os.kill(min(gunicorn.workers), signal.SIGKILL)
    wait_until(lambda: 0 < metric("smtp_connections_open") < len(clients))
    assert metric("smtp_connections_total") == len(clients)
    for client in clients:
        client.close()


# A Flask app and an SMTP server in one worker, both ways round

FLASK = {
    "in the SMTP worker": (*WORKER, *bind(2), "flask_and_smtp:services"),
    "in the gevent worker": ("-c", f"{EXAMPLES}/flask_and_smtp_conf.py", "flask_and_smtp:app"),
}


class FlaskAndSMTP:
    def __init__(self, gunicorn: Gunicorn, smtp: int) -> None:
        self.gunicorn = gunicorn
        self.smtp = smtp
        self.http = 1 - smtp

    def subjects(self) -> list[str]:
        subjects: list[str] = json.loads(self.gunicorn.page(self.http))
        return subjects

    def worker(self) -> int:
        return int(self.gunicorn.page(self.http, "/process"))

    def send(self, subject: str) -> None:
        with self.gunicorn.client(self.smtp) as client:
            begin(client)
            finish(client, subject)


@pytest.fixture(params=FLASK)
def both(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> FlaskAndSMTP:
    pytest.importorskip("flask")
    gunicorn = start(
        *("--chdir", EXAMPLES, "--pid", str(tmp_path / "pid"), "--graceful-timeout", "1000"),
        *FLASK[request.param],
        sockets=2,
        module=[PROGRAM_FILE],
        MAILDIR=str(tmp_path / "Maildir"),
        **EXAMPLE_PORTS,
    )
    return FlaskAndSMTP(gunicorn, smtp=0 if "SMTP" in request.param else 1)


def test_flask_shows_the_mail_that_came_to_its_process(both: FlaskAndSMTP) -> None:
    both.send("one")
    both.send("two")
    assert both.subjects() == ["one", "two"]
    assert both.gunicorn.workers == {both.worker()}


def test_flask_and_smtp_come_back_with_a_new_worker(both: FlaskAndSMTP) -> None:
    killed = both.worker()
    os.kill(killed, signal.SIGKILL)
    both.send("after")
    assert both.subjects() == ["after"]
    assert both.worker() != killed


def test_hup_under_load_loses_no_smtp_client_beside_flask(both: FlaskAndSMTP) -> None:
    old = both.worker()
    with Load(both.gunicorn.ports[both.smtp], clients=2) as load:
        load.wait_for_more(5)
        both.gunicorn.signal(signal.SIGHUP)
        wait_until(lambda: old not in both.gunicorn.workers)
        load.wait_for_more(5)
    assert load.lost == []
    assert both.subjects() == sorted(load.accepted)


def test_ttin_and_ttou_under_load_lose_no_smtp_client_beside_flask(both: FlaskAndSMTP) -> None:
    gunicorn = both.gunicorn
    old = both.worker()
    with Load(gunicorn.ports[both.smtp], clients=2) as load:
        load.wait_for_more(5)
        gunicorn.signal(signal.SIGTTIN)
        wait_until(lambda: len(gunicorn.accepting) == 2)
        load.wait_for_more(5)
        gunicorn.signal(signal.SIGTTOU)  # the oldest
        wait_until(lambda: old not in gunicorn.workers)
        load.wait_for_more(5)
    assert load.lost == []
    assert both.subjects() == sorted(load.accepted)


def test_usr2_under_load_loses_no_smtp_client_beside_flask(both: FlaskAndSMTP) -> None:
    gunicorn = both.gunicorn
    with contextlib.ExitStack() as stack:
        with Load(gunicorn.ports[both.smtp], clients=2) as load:
            load.wait_for_more(5)
            arbiter = successor(gunicorn)
            stack.callback(end, arbiter)
            load.wait_for_more(5)
            gunicorn.signal(signal.SIGTERM)
            assert gunicorn.exit_status() == 0
            load.wait_for_more(5)
        assert load.lost == []
        assert both.worker() in {child.pid for child in arbiter.children()}


def test_term_lets_a_transaction_end_beside_flask(both: FlaskAndSMTP) -> None:
    gunicorn = both.gunicorn
    with gunicorn.client(both.smtp) as busy, gunicorn.client(both.smtp) as idle:
        begin(busy)
        gunicorn.signal(signal.SIGTERM)
        assert idle.reply().status == "421 4.3.2"
        finish(busy, "late")
        assert busy.reply().status == "421 4.3.2"
    assert gunicorn.exit_status() == 0
    assert gunicorn.subjects() == ["late"]


def test_quit_waits_for_nobody_beside_flask(both: FlaskAndSMTP) -> None:
    gunicorn = both.gunicorn
    with gunicorn.client(both.smtp) as busy:
        begin(busy)
        gunicorn.signal(signal.SIGQUIT)
        assert busy.reply().status == "421 4.3.2"
    assert gunicorn.exit_status() == 0


def test_an_answer_of_http_ends_before_the_worker_does(start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import gevent, os\n"
        "from program import *\n"
        "def page(environ, start_response):\n"
        "    open('asked', 'w').close()\n"
        "    while not os.path.exists('answer'):\n"
        "        gevent.sleep(0.01)\n"
        "    start_response('200 OK', [('Content-Length', '4')])\n"
        "    return [b'late']\n"
        "services = [server, page]\n"
    )
    gunicorn = start(*WORKER, *bind(2), "slow:services", sockets=2)
    with socket.create_connection(("127.0.0.1", gunicorn.ports[1]), SECONDS) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until((tmp_path / "asked").exists)
        with gunicorn.client() as idle:
            gunicorn.signal(signal.SIGTERM)
            assert idle.reply().code == 421
        (tmp_path / "answer").touch()
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert gunicorn.exit_status() == 0


def test_a_socket_that_bind_lacks_is_told(start: Start, tmp_path: Path) -> None:
    conf = (
        "from smtp_blinker.gunicorn import Beside\n"
        "worker_class = 'gevent'\n"
        "post_worker_init, worker_int, worker_exit = Beside('program:server', [1]).hooks\n"
    )
    (tmp_path / "conf.py").write_text(conf)
    gunicorn = start("-c", "conf.py", *bind(1), "program:page")
    assert gunicorn.exit_status() != 0
    assert "bind has no such sockets: [1]" in gunicorn.said


# Without gunicorn's command line

RUN = """
import os, sys
from program import make_server
from smtp_blinker.gunicorn import run

def factory():
    name = open("name").read()
    if not name:
        raise ValueError("no name")
    return [make_server(name=name), make_server(name=name, lmtp=True)]

run(factory, [("127.0.0.1", 0), f"unix:{os.getcwd()}/lmtp.sock"], workers=2)
"""


@pytest.fixture
def start_run(start: Start, tmp_path: Path) -> Callable[[str], Gunicorn]:
    def start_run(name: str) -> Gunicorn:
        (tmp_path / "run.py").write_text(RUN)
        (tmp_path / "name").write_text(name)
        return start(module=["run.py"])

    return start_run


def greeting(gunicorn: Gunicorn) -> str:
    with BlockingClient(("127.0.0.1", gunicorn.ports[0]), greet=False) as client:
        return client.reply().text


def test_run_serves_each_address_with_its_server(
    start_run: Callable[[str], Gunicorn], tmp_path: Path
) -> None:
    gunicorn = start_run("mx.test")
    wait_until(lambda: len({gunicorn.deliver() for _ in range(10)}) == 2)
    with BlockingClient(str(tmp_path / "lmtp.sock"), greet=False) as client:
        assert client.reply().text == "mx.test LMTP"
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.exit_status() == 0
    assert not (tmp_path / "lmtp.sock").exists()


def test_run_makes_the_servers_anew_for_hup(
    start_run: Callable[[str], Gunicorn], tmp_path: Path
) -> None:
    gunicorn = start_run("old.test")
    assert greeting(gunicorn) == "old.test ESMTP"
    (tmp_path / "name").write_text("new.test")
    gunicorn.signal(signal.SIGHUP)
    wait_until(lambda: greeting(gunicorn) == "new.test ESMTP")


def test_run_keeps_what_it_has_when_hup_cannot_make_it_anew(
    start_run: Callable[[str], Gunicorn], tmp_path: Path
) -> None:
    gunicorn = start_run("old.test")
    wait_until(lambda: len({gunicorn.deliver() for _ in range(10)}) == 2)
    before = gunicorn.workers
    (tmp_path / "name").write_text("")
    gunicorn.signal(signal.SIGHUP)
    gunicorn.wait_for("HUP failed: the servers are unchanged")
    gunicorn.wait_for("ValueError: no name")
    wait_until(lambda: len(gunicorn.workers - before) == 2 and not gunicorn.workers & before)
    assert greeting(gunicorn) == "old.test ESMTP"


def test_run_raises_what_the_first_factory_call_raises() -> None:
    def factory() -> Any:
        raise LookupError("it can't be made")

    with pytest.raises(LookupError, match="it can't be made"):
        run(factory, [("127.0.0.1", 0)])


@pytest.mark.parametrize("module", ["gunicorn", "packaging"])
def test_what_is_not_installed_is_named(module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; import smtp_blinker.gunicorn"
    ran = python("-c", code)
    assert re.search(rf"needs {module}\S*: pip install 'smtp_blinker\[gunicorn\]'", ran.stderr)


# What is in contrib/


def unit_options(path: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", path.read_text(), re.M)


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None,
    reason="systemd-analyze is missing: install Debian's systemd",
)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in (ROOT / "contrib").glob("smtp_blinker.s*"):
        # It looks whether the program is there.
        text = unit.read_text().replace("/opt/smtp_blinker/bin/gunicorn", sys.executable)
        (tmp_path / unit.name).write_text(text)
    verify = run_program("systemd-analyze", "verify", *sorted(tmp_path.glob("smtp_blinker.*")))
    ours = [line for line in verify.stderr.splitlines() if "smtp_blinker" in line]
    assert (verify.returncode, ours) == (0, [])


def test_the_command_of_the_systemd_unit_serves(start: Start, tmp_path: Path) -> None:
    [command] = unit_options(ROOT / "contrib" / "smtp_blinker.service", "ExecStart")
    _, *arguments = command.replace("/etc/smtp_blinker", str(tmp_path)).split()
    (tmp_path / "myapp.py").write_text("from program import *")
    gunicorn = start(*arguments, *bind(1))
    gunicorn.deliver()
    assert arguments[arguments.index("--worker-class") + 1].endswith(SMTPWorker.__name__)


def test_the_command_of_the_dockerfile_serves(start: Start, tmp_path: Path) -> None:
    dockerfile = (ROOT / "contrib" / "Dockerfile").read_text().replace("\\\n", "")
    command = dockerfile.rpartition("\nCMD ")[2]
    _, *arguments = json.loads(command.replace("0.0.0.0:2525", "127.0.0.1:0"))
    (tmp_path / "myapp.py").write_text("from program import *")
    gunicorn = start(*arguments)
    gunicorn.deliver()
    gunicorn.signal(signal.SIGTERM)
    assert gunicorn.exit_status() == 0
