"""Ctrl-C in programs that serve: no traceback, wherever it strikes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support import SECONDS, BlockingClient, free_port, serve, wait_until

from smtp_blinker.connection.connection import Connection

ROOT = Path(__file__).resolve().parent.parent
#: The status of a program that Ctrl-C ended; a shell shows both as 130.
ENDED = 130 if sys.version_info < (3, 14) else -signal.SIGINT

PROGRAM = """
import sys, time
import gevent
from smtp_blinker import SMTPServer
from smtp_blinker.signals import listening

{hook}

server = SMTPServer(("127.0.0.1", int(sys.argv[1])), on_data=on_data)

@listening.connect_via(server)
def tell(server):
    print("listening", flush=True)

{end}
"""
STORE = """
def on_data(stream, session):
    stream.read()
"""
SERVE = "server.serve_forever()"


def ctrl_c(process: subprocess.Popen[Any]) -> None:
    """Strike while the program waits for something; else it may strike a client's greenlet."""
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "S")
    process.send_signal(signal.SIGINT)


class Program:
    """A running program that has said that it listens; all that it printed afterwards."""

    def __init__(self, folder: Path, hook: str = STORE, end: str = SERVE) -> None:
        path = folder / "program.py"
        path.write_text(PROGRAM.format(hook=hook, end=end))
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, str(path), str(self.port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "listening\n"

    def ctrl_c(self) -> None:
        ctrl_c(self.process)

    def client(self) -> BlockingClient:
        client = BlockingClient(("127.0.0.1", self.port), greet=False)
        assert client.reply().code == 220
        assert client.cmd("EHLO client.example").code == 250
        return client

    def amid_a_message(self) -> BlockingClient:
        client = self.client()
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        assert [reply.code for reply in client.replies(3)] == [250, 250, 354]
        return client

    def said(self, line: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{line}\n"

    def ended(self) -> tuple[int, str]:
        """The exit status, and what was printed and not read yet."""
        printed, _ = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, printed


@contextmanager
def running(folder: Path, hook: str = STORE, end: str = SERVE) -> Iterator[Program]:
    program = Program(folder, hook, end)
    try:
        yield program
    finally:
        program.process.kill()
        program.process.communicate()


def test_ctrl_c_ends_the_first_program_with_status_130(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    source = readme.partition("## A first program")[2].split("```python\n")[1].split("```")[0]
    port = free_port()
    path = tmp_path / "first.py"
    path.write_text(source.replace("2525", str(port)))
    with subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:

        def client() -> BlockingClient | None:
            with suppress(ConnectionRefusedError):
                return BlockingClient(("127.0.0.1", port), greet=False)
            return None

        with wait_until(client) as idle:
            assert idle.reply().code == 220
            ctrl_c(process)
            assert idle.reply().code == 421
        assert process.communicate(timeout=SECONDS) == (b"", None)  # type: ignore[comparison-overlap]
        assert process.returncode == ENDED


@pytest.mark.parametrize("clients", [0, 1, 3])
def test_ctrl_c_ends_idle_clients(tmp_path: Path, clients: int) -> None:
    with running(tmp_path) as program:
        connected = [program.client() for _ in range(clients)]
        program.ctrl_c()
        for client in connected:
            assert client.reply().code == 421
        assert program.ended() == (ENDED, "")


def test_ctrl_c_lets_a_message_end(tmp_path: Path) -> None:
    with running(tmp_path) as program, program.amid_a_message() as client:
        with program.client() as idle:
            program.ctrl_c()
            assert idle.reply().code == 421
        client.send(b"Subject: hello\r\n\r\n.\r\n")
        assert [reply.code for reply in client.rest_of_replies()] == [250, 421]
        assert program.ended() == (ENDED, "")


def test_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with running(tmp_path) as program, program.amid_a_message():
        with program.client() as idle:
            program.ctrl_c()
            assert idle.reply().code == 421
        program.ctrl_c()
        assert program.ended() == (ENDED, "")


WAITS = """
def on_data(stream, session):
    print("in the hook", flush=True)
    gevent.sleep(3600)
"""
BLOCKS = """
def on_data(stream, session):
    print("in the hook", flush=True)
    time.sleep(3600)
"""
COMPUTES = """
def on_data(stream, session):
    print("in the hook", flush=True)
    while True:
        pass
"""
GREENLET = """
def compute():
    print("in the hook", flush=True)
    while True:
        pass

def on_data(stream, session):
    gevent.spawn(compute).join()
"""


@pytest.mark.parametrize("hook", [WAITS, BLOCKS])
def test_ctrl_c_inside_a_hook_that_waits(tmp_path: Path, hook: str) -> None:
    with running(tmp_path, hook, "server.serve_forever(0)") as program, program.amid_a_message():
        program.said("in the hook")
        # Not a moment before it sleeps: without any library CPython 3.14 sleeps on, in 15 of 300
        # times, if SIGINT comes between two instructions of which the second is time.sleep.
        program.ctrl_c()
        assert program.ended() == (ENDED, "")


@pytest.mark.parametrize("hook", [COMPUTES, GREENLET])
def test_ctrl_c_inside_a_hook_that_computes(tmp_path: Path, hook: str) -> None:
    with running(tmp_path, hook, "server.serve_forever(0)") as program, program.amid_a_message():
        program.said("in the hook")
        program.process.send_signal(signal.SIGINT)
        assert program.ended() == (ENDED, "")


DESTRUCTOR = """
import os, signal

class Struck:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

def on_data(stream, session):
    Struck()
"""
CAUGHT = """
import os, signal

def on_data(stream, session):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
    except BaseException as exc:
        print("ignored", type(exc).__name__)
"""


@pytest.mark.parametrize("hook", [DESTRUCTOR, CAUGHT])
def test_ctrl_c_that_nobody_hears_is_raised_again(tmp_path: Path, hook: str) -> None:
    with running(tmp_path, hook) as program, program.amid_a_message() as client:
        client.send(b"Subject: hello\r\n\r\n.\r\n")
        assert [reply.code for reply in client.rest_of_replies()] == [250, 421]
        status, printed = program.ended()
    assert status == ENDED
    assert "ignored" in printed
    assert "KeyboardInterrupt" in printed


HUB = """
from gevent.hub import Hub

def struck(hub):
    raise KeyboardInterrupt

Hub.run = struck

def on_data(stream, session):
    pass
"""


def test_ctrl_c_at_the_first_line_of_the_hub(tmp_path: Path) -> None:
    with running(tmp_path, HUB) as program:
        assert program.ended() == (ENDED, "")


@pytest.mark.parametrize("struck", range(5))
def test_ctrl_c_under_load(tmp_path: Path, struck: int) -> None:
    with running(tmp_path) as program:

        def send() -> None:
            with suppress(OSError, EOFError, AssertionError):
                while True:
                    with program.amid_a_message() as client:
                        client.send(b"Subject: hello\r\n\r\n.\r\nQUIT\r\n")
                        client.rest()

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.01 * struck)
        program.process.send_signal(signal.SIGINT)  # anywhere
        status, printed = program.ended()
        assert status == ENDED
        # What Python prints where it ignores one, such as in a weakref callback of an import.
        assert not printed or printed.startswith("Exception ignored")
        for thread in threads:
            thread.join(SECONDS)


def test_a_client_whose_greenlet_was_struck_before_it_served_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Connection, "run", lambda connection: None)
    with serve(close_timeout=10 * SECONDS) as served, BlockingClient(served.address, greet=False):
        wait_until(lambda: served.server.connections)
        served.start_to_stop().join(SECONDS)
        assert not served.server.connections


def test_a_program_may_catch_it(tmp_path: Path) -> None:
    end = """
try:
    server.serve_forever()
except KeyboardInterrupt:
    print("bye")
"""
    with running(tmp_path, end=end) as program:
        program.ctrl_c()
        assert program.ended() == (0, "bye\n")


def test_what_the_program_does_at_its_end_is_done(tmp_path: Path) -> None:
    end = """
import atexit
atexit.register(print, "at exit")
try:
    server.serve_forever()
finally:
    print("closed", server.closed)
"""
    with running(tmp_path, end=end) as program:
        program.ctrl_c()
        assert program.ended() == (ENDED, "closed True\nat exit\n")


def test_ctrl_c_ends_serve_forever_of_a_server_that_runs_in_a_thread(tmp_path: Path) -> None:
    end = "with server.run_in_thread():\n    server.serve_forever()"
    with running(tmp_path, end=end) as program, program.client() as client:
        program.ctrl_c()
        assert client.reply().code == 421
        assert program.ended() == (ENDED, "")


@pytest.mark.parametrize("handle", ["gevent.signal_handler", "signal.signal"])
def test_a_handler_of_the_program_goes_before(tmp_path: Path, handle: str) -> None:
    end = f"""
import signal
{handle}(signal.SIGINT, lambda *_: gevent.spawn(server.stop) and None)
server.serve_forever()
print("stopped")
"""
    with running(tmp_path, end=end) as program:
        program.ctrl_c()
        assert program.ended() == (0, "stopped\n")


def test_a_prompt_is_not_left(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    port = free_port()
    path.write_text(PROGRAM.format(hook=STORE, end=""))
    with subprocess.Popen(
        [sys.executable, "-i", str(path), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_BASIC_REPL": "1"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("server.serve_forever()\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith("listening\n")
        process.send_signal(signal.SIGINT)
        try:
            printed, _ = process.communicate("print('still here')\n", timeout=SECONDS)
        finally:
            process.kill()
        assert "still here" in printed


def test_ctrl_c_is_heard_in_the_moment_before_the_hub_waits(tmp_path: Path) -> None:
    end = """
import ctypes, functools, os, signal
# Nothing of this is Python code: Python gets no chance to run the signal's handler.
once = map(ctypes.CDLL(None).kill, [os.getpid()], [signal.SIGINT])
before_it_waits = gevent.get_hub().loop.prepare(priority=-2)  # after gevent's own
gevent.get_hub().loop.timer(0.2).start(
    before_it_waits.start, functools.partial(next, once, None)
)
server.serve_forever()
"""
    with running(tmp_path, end=end) as program:
        assert program.ended() == (ENDED, "")


def test_the_programs_own_wakeup_fd_is_left(tmp_path: Path) -> None:
    end = """
import signal, socket
ours, theirs = socket.socketpair()
theirs.setblocking(False)
signal.set_wakeup_fd(theirs.fileno())
try:
    server.serve_forever()
except KeyboardInterrupt:
    assert signal.set_wakeup_fd(-1) == theirs.fileno()
    assert ours.recv(1) == bytes([signal.SIGINT])
    print("theirs")
"""
    with running(tmp_path, end=end) as program:
        program.ctrl_c()
        assert program.ended() == (0, "theirs\n")


def test_gevent_prints_tracebacks_again_afterwards() -> None:
    code = """
import gevent
from smtp_blinker import SMTPServer
server = SMTPServer(("127.0.0.1", 0))
gevent.spawn(server.stop)
server.serve_forever()
assert gevent.get_hub().NOT_ERROR == type(gevent.get_hub()).NOT_ERROR
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=SECONDS)
