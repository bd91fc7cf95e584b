"""Clients that send for some seconds and tell how long each message took, as JSON.

python sender.py PORTS SECONDS [--connections N] [--each] [--starttls] [--size OCTETS] [--rate N]
                 [--seed N]

PORTS are separated by commas; the connections are shared out over them. Without --rate each of them
is kept and sends one message after the other, or with --each is opened again for each. With it,
messages come at random times, so many in a second on average, each on a connection of its own, and
a message's time begins when it was due. With --starttls each connection has TLS, with a full
handshake.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import ssl
import time
from collections.abc import Iterator
from typing import Any

import gevent
from gevent import socket
from gevent.ssl import SSLContext

LINE = b"x" * 76 + b"\r\n"
ENVELOPE = b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<recipient@example.com>\r\nDATA\r\n"


class Failure(Exception):
    """Another reply than the one that had to come."""


class Client:
    """One connection that has said EHLO; with a context after STARTTLS."""

    def __init__(self, port: int, context: SSLContext | None) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expect(b"220")
        self._command(b"EHLO client.example\r\n", b"250")
        if context is not None:
            self._command(b"STARTTLS\r\n", b"220")
            self._sock = context.wrap_socket(self._sock)
            self._command(b"EHLO client.example\r\n", b"250")

    def _command(self, line: bytes, code: bytes) -> None:
        self._sock.sendall(line)
        self._expect(code)

    def _expect(self, *codes: bytes) -> None:
        """Read a reply for each of *codes*."""
        # Not by a file of the socket, whose layers take longer than all the rest of a message.
        data = b""
        for code in codes:
            while True:
                line, newline, rest = data.partition(b"\n")
                if not newline:
                    more = self._sock.recv(4096)
                    if not more:
                        raise Failure(f"the connection has ended after {data!r}")
                    data += more
                    continue
                if line[:3] != code:
                    raise Failure(f"{line!r} and not {code!r}")
                data = rest
                if line[3:4] != b"-":
                    break

    def send(self, content: bytes) -> None:
        self._sock.sendall(ENVELOPE)
        self._expect(b"250", b"250", b"354")
        self._sock.sendall(content)
        self._expect(b"250")

    def quit(self) -> None:
        self._command(b"QUIT\r\n", b"221")
        self._sock.close()


def starttls() -> SSLContext:
    """For a certificate that no one has signed."""
    context = SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def content_of(size: int) -> Iterator[bytes]:
    """Messages of about *size* octets; none is like another."""
    run, body = time.time_ns(), LINE * (size // len(LINE)) + b".\r\n"
    for number in itertools.count():
        yield b"Subject: %d-%d\r\n\r\n%b" % (run, number, body)


def keep_sending(
    ports: list[int],
    connections: int,
    seconds: float,
    size: int,
    each: bool,
    context: SSLContext | None,
) -> dict[str, Any]:
    """So many clients send one message after the other; with *each* they connect for each."""
    contents = content_of(size)
    times: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()

    def run(port: int) -> None:
        client = None if each else Client(port, context)
        before = time.perf_counter()
        while before - start < seconds:
            used = client or Client(port, context)
            used.send(next(contents))
            if client is None:
                used.quit()
            after = time.perf_counter()
            times.append(after - before)
            before = after

    jobs = [gevent.spawn(run, ports[n % len(ports)]) for n in range(connections)]
    gevent.joinall(jobs, raise_error=True)
    return figures(times, time.perf_counter() - start, time.process_time() - cpu)


def send_at(
    ports: list[int],
    rate: float,
    seconds: float,
    size: int,
    dice: random.Random,
    context: SSLContext | None,
) -> dict[str, Any]:
    """A connection for each message, at random times."""
    contents = content_of(size)
    times: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()

    def run(port: int, due: float) -> None:
        client = Client(port, context)
        client.send(next(contents))
        times.append(time.perf_counter() - due)
        client.quit()

    due, jobs = 0.0, []
    for port in itertools.cycle(ports):
        due += dice.expovariate(rate)
        if due > seconds:
            break
        gevent.sleep(max(0.0, start + due - time.perf_counter()))
        jobs.append(gevent.spawn(run, port, start + due))
    gevent.joinall(jobs, raise_error=True)
    return figures(times, time.perf_counter() - start, time.process_time() - cpu)


def figures(times: list[float], seconds: float, cpu: float) -> dict[str, Any]:
    """What all programs of this kind print."""
    times.sort()
    return {
        "messages": len(times),
        "seconds": seconds,
        "cpu": cpu,
        "mean": sum(times) / len(times),
        "p50": times[len(times) // 2],
        "p99": times[min(len(times) - 1, int(len(times) * 0.99))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("ports", type=lambda text: [int(port) for port in text.split(",")])
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--each", action="store_true")
    parser.add_argument("--starttls", action="store_true")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ports, seconds, size = options.ports, options.seconds, options.size
    context = starttls() if options.starttls else None
    if options.rate is None:
        found = keep_sending(ports, options.connections, seconds, size, options.each, context)
    else:
        dice = random.Random(options.seed)
        found = send_at(ports, options.rate, seconds, size, dice, context)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
