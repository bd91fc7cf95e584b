"""Clients that try to pass the limits that the nodes share, and what they came to."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

#: More at once than a network may have connections.
THREADS = 6
#: Seconds after which they are of another network, which has all its limits before it.
NETWORK_SECONDS = 6.0


@dataclass
class Network:
    """What one network got."""

    #: 250 to MAIL.
    messages: int = 0
    #: From the greeting to when a command was sent that was answered: it lived all the time.
    lives: list[tuple[float, float]] = field(default_factory=list)

    @property
    def connections(self) -> int:
        """The most that lived at once, at least."""
        # An end before a beginning at the same time.
        changes = sorted([(end, -1) for _, end in self.lives] + [(at, 1) for at, _ in self.lives])
        most = now = 0
        for _, change in changes:
            now += change
            most = max(most, now)
        return most


class Crowd:
    """Clients of one network after the other, through the port that takes PROXY headers."""

    def __init__(self, port: int, seed: int) -> None:
        self._port = port
        self._dice = random.Random(seed)
        self.networks: dict[str, Network] = defaultdict(Network)
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._started = time.monotonic()
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            number = int((time.monotonic() - self._started) / NETWORK_SECONDS)
            # 198.18.0.0/15 is there for benchmarks (RFC 2544).
            self._visit(f"198.18.{number // 250}.{number % 250 + 1}")
            self._stop.wait(self._dice.uniform(0.05, 0.3))

    def _visit(self, network: str) -> None:
        try:
            with socket.create_connection(("127.0.0.1", self._port), 60) as sock:
                sock.sendall(f"PROXY TCP4 {network} 192.0.2.1 40000 25\r\n".encode())
                self._talk(sock, network)
        except OSError:
            self.answers["lost"] += 1

    def _talk(self, sock: socket.socket, network: str) -> None:
        file = sock.makefile("rb")
        if self._answer(file.readline()) != "220":
            return
        began = lived = time.monotonic()
        until = began + self._dice.uniform(0.2, 1.0)
        try:
            while time.monotonic() < until:
                for command in ("HELO client.example", "MAIL FROM:<a@example.net>", "RSET"):
                    sent = time.monotonic()
                    sock.sendall(f"{command}\r\n".encode())
                    code = self._answer(file.readline())
                    if code in ("421", "lost"):
                        return
                    lived = sent
                    if command.startswith("MAIL") and code == "250":
                        with self._lock:
                            self.networks[network].messages += 1
                time.sleep(0.1)
            sock.sendall(b"QUIT\r\n")
            self._answer(file.readline())
        finally:
            with self._lock:
                self.networks[network].lives.append((began, lived))

    def _answer(self, line: bytes) -> str:
        code = line[:3].decode("latin-1") if line.endswith(b"\n") else "lost"
        self.answers[code] += 1
        return code


@dataclass
class Excess:
    """How one limit was kept."""

    what: str
    number: int
    #: The largest that a network got.
    most: int = 0
    #: The most that the nodes granted a network alone, and how many nodes did for one network.
    alone: int = 0
    nodes_alone: int = 0
    #: Networks that got more than the number and what nodes granted alone: once more at most.
    passed: dict[str, int] = field(default_factory=dict)

    def add(self, network: str, got: int, alone: list[str]) -> None:
        self.most = max(self.most, got)
        self.alone = max(self.alone, len(alone))
        self.nodes_alone = max(self.nodes_alone, len(set(alone)))
        # However many nodes counted alone: they may grant as much as one could.
        if got > self.number + min(len(alone), self.number):
            self.passed[network] = got

    def __str__(self) -> str:
        beyond = max(0, self.most - self.number)
        return (
            f"{self.what}: at most {self.most} of {self.number} for a network, {beyond} too many; "
            f"granted by a node alone: {self.alone} (by {self.nodes_alone} nodes)"
        )


def judge(
    crowd: Crowd, local: dict[str, list[str]], connections: int, messages: int
) -> list[Excess]:
    """How both limits were kept; *local* is what nodes granted alone, by key."""
    by_connection = Excess("connections", connections)
    by_message = Excess("messages", messages)
    for network, got in crowd.networks.items():
        alone: dict[str, list[str]] = {"connections": [], "rate": []}
        for key, nodes in local.items():
            kind, _, rest = key.partition(":")
            if rest.rpartition(":")[2] == network:
                alone[kind] += nodes
        by_connection.add(network, got.connections, alone["connections"])
        by_message.add(network, got.messages, alone["rate"])
    return [by_connection, by_message]
