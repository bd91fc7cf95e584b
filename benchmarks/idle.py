"""Idle connections: the memory each costs, whether all last, and what a fresh client notices."""

import resource
import socket
import time
from dataclasses import dataclass
from statistics import median

from peers import Server

BATCH = 100  # connections opened at once: fewer than any server's backlog
DIALOG = (
    (b"EHLO client.example\r\n", b"250"),
    (b"MAIL FROM:<sender@example.org>\r\n", b"250"),
    (b"RCPT TO:<recipient@example.com>\r\n", b"250"),
    (b"DATA\r\n", b"354"),
    (b"Subject: fresh\r\n\r\n" + (b"x" * 76 + b"\r\n") * 13 + b".\r\n", b"250"),
    (b"QUIT\r\n", b"221"),
)


@dataclass(frozen=True)
class Idle:
    kept: int  # connections that answered NOOP at the end
    bytes_each: float
    alone: float  # seconds a fresh client's transaction takes on the idle server
    beside: float  # the same beside the idle connections

    @property
    def slower(self) -> float:
        return self.beside / self.alone


def measure(server: Server, connections: int, transactions: int) -> Idle:
    """Must be done within a minute, the time after which some servers drop idle clients."""
    transaction_time(server.port, 20)  # the first ones load and compile
    alone = transaction_time(server.port, transactions)
    empty = server.memory()
    clients: list[socket.socket] = []
    try:
        for _ in range(0, connections, BATCH):
            batch = [connect(server.port) for _ in range(min(BATCH, connections - len(clients)))]
            clients += batch
            for client in batch:
                expect(client, b"220")
            for client in batch:
                client.sendall(b"EHLO client.example\r\n")
            for client in batch:
                expect(client, b"250")
        time.sleep(1)
        full = server.memory()
        beside = transaction_time(server.port, transactions)
        kept = sum(alive(client) for client in clients)
    finally:
        for client in clients:
            client.close()
    return Idle(kept, (full - empty) / connections, alone, beside)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def expect(client: socket.socket, code: bytes) -> None:
    """Read one whole reply and raise ConnectionError if it has another code."""
    reply = b""
    while not (reply.endswith(b"\r\n") and reply.splitlines()[-1][3:4] == b" "):
        if not (piece := client.recv(4096)):
            raise ConnectionError("closed by the server")
        reply += piece
    if not reply.startswith(code):
        raise ConnectionError(f"{code!r} expected, got {reply!r}")


def alive(client: socket.socket) -> bool:
    try:
        client.sendall(b"NOOP\r\n")
        expect(client, b"250")
    except OSError:
        return False
    return True


def transaction_time(port: int, most: int) -> float:
    """The median of up to `most` transactions in a row, for at most ten seconds or so."""
    deadline = time.monotonic() + 10
    times = [transaction(port)]
    while len(times) < most and time.monotonic() < deadline:
        times.append(transaction(port))
    return median(times)


def transaction(port: int) -> float:
    """Seconds from connecting to the reply to QUIT."""
    started = time.perf_counter()
    with connect(port) as client:
        expect(client, b"220")
        for command, code in DIALOG:
            client.sendall(command)
            expect(client, code)
    return time.perf_counter() - started


def raise_file_limit(wanted: int) -> int:
    """Allow this process and its children `wanted` sockets; return how many there may be."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit
