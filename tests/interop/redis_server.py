"""A redis-server of a test's own, which may be killed, stopped and started anew."""

from __future__ import annotations

import signal
import socket
import subprocess
from pathlib import Path

from .support import HOST, environment, free_port, program, wait_until


class RedisServer:
    """A process on a free port and a UNIX socket in *folder*; nothing of it outlives it."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.command = program("redis-server", "redis-server")
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.path = folder / "redis.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.command, "--port", str(self.port), "--bind", HOST, "--save", "", "--dir",
             str(self.folder), "--unixsocket", str(self.path), *self.options],
            stdout=subprocess.DEVNULL,
            env=environment(),
        )  # fmt: skip
        wait_until(self.answers, "redis-server answers")

    def answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(100)[:1] in (b"+", b"-")
        except OSError:
            return False

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a machine dies; more than once is fine."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
