"""The parts of a fleet, each a process that can be killed, stopped and started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from interop.engines import Engine, RabbitMQ, Redis
from support import environment, free_port, program

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NODES, CONSUMERS = 3, 2
#: Seconds that everything may take to recover when nothing is killed any more.
RECOVERY = 120.0

#: Clients of the second port say by a PROXY header which network they are of.
PROXY = """
global
    maxconn 1000
    stats socket {stats} level user
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option redispatch 1
    retries 3
frontend smtp
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{proxied} accept-proxy
    default_backend nodes
backend nodes
    balance roundrobin
    default-server check inter 500ms fall 1 rise 1 send-proxy-v2 check-send-proxy
{servers}
"""


class Part:
    """A process that can be killed and started again."""

    def __init__(self, name: str, command: list[Any], folder: Path) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=environment(PYTHONPATH=str(ROOT)),
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    end = kill


class Node(Part):
    """A node on *port*."""

    def __init__(self, name: str, port: int, words: list[Any], folder: Path) -> None:
        super().__init__(name, [sys.executable, HERE / "node.py", name, port, *words], folder)
        self.port = port

    def drain(self) -> None:
        """SIGTERM: messages on their way end, and then the process."""
        assert self.process is not None
        self.signal(signal.SIGTERM)
        self.process.wait(RECOVERY)
        self.process = None

    def listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


class Fleet:
    """All parts, for one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        #: Not killed: that limits are kept is what the others' deaths are to show.
        # Counters need no disk, and a command that waits for one is counted by its node alone.
        self.counters = Redis(folder / "counters", "--appendonly", "no")
        self.handled = folder / "handled"
        self.local = folder / "local"
        for path in (self.handled, self.local):
            path.touch()
        contents = folder / "contents"
        self.port, self.proxied_port = free_port(), free_port()
        self._stats = folder / "haproxy.sock"
        words = [engine.url, self.counters.url, contents, self.local]
        self.nodes = [Node(f"node{n}", free_port(), words, folder) for n in range(NODES)]
        config = folder / "haproxy.cfg"
        config.write_text(
            PROXY.format(
                stats=self._stats,
                port=self.port,
                proxied=self.proxied_port,
                servers="".join(f"    server {n.name} 127.0.0.1:{n.port}\n" for n in self.nodes),
            )
        )
        consume = [sys.executable, HERE / "consumer.py", engine.url, contents, self.handled]
        self.parts: list[Part] = [
            *self.nodes,
            *(Part(f"consumer{n}", consume, folder) for n in range(CONSUMERS)),
            Part("haproxy", [program("haproxy", "haproxy"), "-db", "-f", config], folder),
        ]

    def start(self, try_once: Callable[[str, str], bool]) -> None:
        """*try_once* sends a message with a marker and a body."""
        self.counters.start()
        self.engine.start()
        for part in self.parts:
            part.start()
        wait(lambda: try_once("first", ""), "the first message is accepted")
        wait(lambda: "first" in self.content_ids(), "the first message is handled")
        if isinstance(self.engine, RabbitMQ):
            # Now it has the names of its new queues on the disk: see docs/howto/queue.md.
            self.engine.restart()
            wait(lambda: try_once("second", ""), "a message after the restart is accepted")
        for node in self.nodes:
            wait(lambda node=node: self.is_up(node), f"{node.name} is up")

    def content_ids(self) -> dict[str, list[str]]:
        """The content ids with which each message was handled, by marker."""
        found: dict[str, list[str]] = defaultdict(list)
        for line in self.handled.read_text().splitlines():
            marker, _, content_id = line.partition(" ")
            found[marker].append(content_id)
        return found

    def local_grants(self) -> dict[str, list[str]]:
        """For each key of a limit the nodes that granted it alone, once for each time."""
        found: dict[str, list[str]] = defaultdict(list)
        for line in self.local.read_text().splitlines():
            node, _, key = line.partition(" ")
            found[key].append(node)
        return found

    def is_up(self, node: Node) -> bool:
        """Whether HAProxy gives it clients, and it takes them."""
        if not node.listens():
            return False
        with suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(self._stats))
            sock.sendall(b"show stat\n")
            rows = b"".join(iter(lambda: sock.recv(65536), b"")).decode().splitlines()
            column = rows[0].split(",").index("status")
            fields = [row.split(",") for row in rows if row.startswith(f"nodes,{node.name},")]
            return bool(fields) and fields[0][column].startswith("UP")
        return False

    def rolling_restart(self) -> None:
        """Each node after the other, as an upgrade does it."""
        for node in self.nodes:
            node.drain()
            node.start()
            wait(lambda node=node: self.is_up(node), f"{node.name} is up again")

    def end(self) -> None:
        for part in self.parts:
            part.end()
        self.engine.end()
        self.counters.end()


def wait(fact: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + RECOVERY
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {RECOVERY:g} s: {what}")
        time.sleep(0.2)
