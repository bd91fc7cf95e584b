"""What a client sends never piles up in the server's memory, and holds up nobody else.

The server is a process of its own, whose greatest resident size is what counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import pytest
from support import BlockingClient

MEBIBYTE = 2**20
#: Octets for the interpreter, gevent, ssl and the library, and a bounded rest.
MOST = 100 * MEBIBYTE
#: How long another client waits for its answer at worst.
PATIENCE = 10.0

PROGRAM = """
import json, sys
import gevent
from smtp_blinker import SMTPServer

sizes = []

def on_data(stream, session):
    size = 0
    reader = session.envelope.rcpt_to[0].address.partition("@")[0]
    if reader == "lines":
        for line in stream:
            size += len(line)
    elif reader == "slow":
        while piece := stream.read(64 * 1024):
            size += len(piece)
            gevent.sleep(0.002)
    elif reader != "none":
        while piece := stream.read(64 * 1024):
            size += len(piece)
    sizes.append(size)

def peak():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024

options = json.loads(sys.argv[1])
server = SMTPServer(("127.0.0.1", 0), on_data=on_data, disable_reverse_lookup=True, **options)
server.start()
print(server.server_port, flush=True)
gevent.get_hub().threadpool.apply(sys.stdin.readline)
server.stop(timeout=0)
print(json.dumps({"peak": peak(), "sizes": sizes}), flush=True)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Process:
    """A server in a process; `finish` ends it and fills in the rest."""

    address: tuple[str, int]
    peak = 0
    sizes: list[int]


@contextmanager
def process(**options: Any) -> Iterator[Process]:
    one = Process()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            one.address = ("127.0.0.1", int(running.stdout.readline()))
            yield one
            running.stdin.write("\n")
            running.stdin.flush()
            told = json.loads(running.stdout.readline())
            one.peak, one.sizes = told["peak"], told["sizes"]
        finally:
            running.kill()
    assert one.peak < MOST, f"{one.peak / MEBIBYTE:.0f} MiB"


def greeted(server: Process) -> BlockingClient:
    client = BlockingClient(server.address, greet=False)
    client.sock.settimeout(60)
    assert client.reply().code == 220
    assert client.cmd("EHLO me").code == 250
    return client


def begin(client: BlockingClient, reader: str = "pieces") -> None:
    for command in ("MAIL FROM:<a@example.org>", f"RCPT TO:<{reader}@example.com>", "DATA"):
        assert client.cmd(command).code in (250, 354)


@contextmanager
def another_client(server: Process) -> Iterator[None]:
    """While the block runs a second client is served again and again."""
    done = threading.Event()
    waits: list[float] = []
    failures: list[BaseException] = []

    def talk() -> None:
        try:
            while not done.is_set():
                began = monotonic()
                with greeted(server) as client:
                    begin(client, "other")
                    client.send(b"hi\r\n.\r\n")
                    assert client.reply().code == 250
                waits.append(monotonic() - began)
                done.wait(0.01)
        except BaseException as exc:
            failures.append(exc)

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    assert not failures, failures
    assert waits
    assert max(waits) < PATIENCE


@pytest.mark.parametrize("reader", ["pieces", "none"])
def test_a_message_of_a_gibibyte_takes_no_memory(reader: str) -> None:
    """Some seconds of work; nothing in it waits."""
    size = 2**30 if reader == "pieces" else 2**28
    line = b"x" * 1022 + b"\r\n"
    block = line * 64
    with process() as server, greeted(server) as client, another_client(server):
        begin(client, reader)
        for _ in range(size // len(block)):
            client.send(block)
        client.send(b".\r\n")
        assert client.reply().code == 250
    assert max(server.sizes) == (size if reader == "pieces" else 4)


@pytest.mark.parametrize("reader", ["pieces", "none"])
def test_a_chunk_of_a_gibibyte_takes_no_memory(reader: str) -> None:
    """RFC 3030 has no largest chunk; another client is served while it comes."""
    size = 2**30 if reader == "pieces" else 2**28
    block = (b"x" * 1022 + b"\r\n") * 64
    with process() as server, greeted(server) as client, another_client(server):
        for command in ("MAIL FROM:<a@example.org>", f"RCPT TO:<{reader}@example.com>"):
            assert client.cmd(command).code == 250
        client.send(b"BDAT %d LAST\r\n" % size)
        for _ in range(size // len(block)):
            client.send(block)
        assert client.reply().code == 250
    assert max(server.sizes) == (size if reader == "pieces" else 4)


def test_a_slow_reader_does_not_pile_up_what_its_client_sends() -> None:
    block = (b"x" * 1022 + b"\r\n") * 64
    with process() as server, greeted(server) as client, another_client(server):
        begin(client, "slow")
        for _ in range(64 * MEBIBYTE // len(block)):
            client.send(block)
        client.send(b".\r\n")
        assert client.reply().code == 250
    assert max(server.sizes) == 64 * MEBIBYTE


def test_a_message_over_the_limit_takes_no_memory() -> None:
    block = (b"x" * 1022 + b"\r\n") * 64
    with process(size=1000) as server, greeted(server) as client:
        begin(client)
        for _ in range(256 * MEBIBYTE // len(block)):
            client.send(block)
        client.send(b".\r\n")
        assert client.reply().status == "552 5.3.4"


@pytest.mark.parametrize(("line", "octets"), [(b"\r\n", 2), (b"..\r\n", 3)])
def test_a_million_short_lines_of_content(line: bytes, octets: int) -> None:
    with process() as server, greeted(server) as client, another_client(server):
        begin(client, "lines")
        for _ in range(100):
            client.send(line * 10000)
        client.send(b".\r\n")
        assert client.reply().code == 250
    assert max(server.sizes) == octets * 1000 * 1000


@pytest.mark.parametrize("start", [b"", b"AUTH PLAIN ", b"MAIL FROM:<"])
def test_a_command_of_many_megabytes_without_a_newline(start: bytes) -> None:
    with process() as server, greeted(server) as client, another_client(server):
        client.send(start)
        for _ in range(128):
            client.send(b"x" * MEBIBYTE)
        client.send(b"\r\n")
        assert client.reply().code == 500
        assert client.cmd("NOOP").code == 250


def test_content_of_many_megabytes_without_a_newline() -> None:
    with process() as server, greeted(server) as client, another_client(server):
        begin(client)
        for _ in range(128):
            client.send(b"x" * MEBIBYTE)
        client.send(b"\r\n.\r\n")
        assert client.reply().code == 250
    assert max(server.sizes) == 128 * MEBIBYTE + 2


def test_a_million_empty_lines_instead_of_commands() -> None:
    with process() as server, greeted(server) as client, another_client(server):
        try:
            for _ in range(100):
                client.send(b"\r\n" * 10000)
        except ConnectionError:
            pass  # it had enough
        client.rest()


@pytest.mark.parametrize("reading", [True, False])
def test_a_hundred_thousand_pipelined_commands(reading: bool) -> None:
    number = 100_000
    with process(max_junk_commands=None) as server, greeted(server) as client:
        with another_client(server):
            sender = threading.Thread(target=client.send, args=(b"NOOP\r\n" * number,))
            sender.start()
            if not reading:
                sender.join(1)
            answers = b""
            want = len(b"250 2.0.0 OK\r\n") * number
            while len(answers) < want:
                piece = client.sock.recv(65536)
                assert piece
                answers += piece
            sender.join()
        assert answers == b"250 2.0.0 OK\r\n" * number
        assert client.cmd("NOOP").code == 250


def test_many_recipients_with_long_addresses_are_bounded_by_their_limit() -> None:
    local = "x" * 60
    path = f"{local}@{'.'.join(['y' * 60] * 3)}"
    with process() as server, greeted(server) as client:
        assert client.cmd("MAIL FROM:<>").code == 250
        codes = [client.cmd(f"RCPT TO:<{path}>").code for _ in range(1100)]
    assert codes == [250] * 1000 + [452] * 100
