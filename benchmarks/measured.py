"""serve.py in a process of its own whose hub is measured, with everything on: see stall.py."""

import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pulse import Meter

HERE = Path(__file__).resolve().parent
SERVE: Final = HERE.parent / "scripts" / "serve.py"
PROGRAM: Final = HERE / "servers" / "stall_server.py"
USER, PASSWORD = "user", "right"
SIZE: Final = 40 * 2**20  # a file of 25 MiB in base64 fits

_numbers = itertools.count(1)


def make_users(file: Path) -> None:
    """A users file with one user."""
    command = (sys.executable, str(SERVE), "adduser", USER, "--users", str(file))
    password = f"{PASSWORD}\n".encode()
    subprocess.run(
        (*command, "--password-stdin"), input=password, stdout=subprocess.DEVNULL, check=True
    )


class MeasuredServer:
    """A running serve.py with SMTP, SMTPS, AUTH, a Maildir and the page; `close` ends it.

    *folder* is an empty one for its files, *tls* its options for a certificate. Without *page* it
    has none, and `http` is 0. Raises RuntimeError when it doesn't start.
    """

    def __init__(
        self,
        folder: Path,
        users: Path,
        tls: Sequence[str] = ("--self-signed",),
        *,
        page: bool = True,
    ) -> None:
        self.maildir = folder / "Maildir"
        self.faults = folder / "faults"
        self.faults.mkdir()
        self.meter = Meter(folder / "pulse")
        self.log = folder / "log"
        command = (sys.executable, str(PROGRAM), str(folder / "pulse"), str(self.faults), *tls)
        listen = ("--listen", "127.0.0.1:0", "--listen", "smtps://127.0.0.1:0")
        http = "127.0.0.1:0" if page else "off"
        places = ("--http", http, "--maildir", str(self.maildir), "--users", str(users))
        clean = {name: value for name, value in os.environ.items() if "SMTP_BLINKER" not in name}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                (*command, *listen, *places, "--size", str(SIZE)),
                cwd=folder,  # where --self-signed writes its certificate
                env=clean,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.smtp = self._port(r"Listening on \S+:(\d+) \(SMTP\)")
        self.smtps = self._port(r"Listening on \S+:(\d+) \(SMTPS\)")
        self.http = self._port(r"Web page: http://\S+:(\d+)/") if page else 0

    def _port(self, pattern: str) -> int:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if (found := re.match(pattern, line)) is not None:
                return int(found[1])
        self.close()
        raise RuntimeError(f"serve.py didn't start: {self.log.read_text()}")

    def put(self, mail: bytes) -> str:
        """Have *mail* in the Maildir as if it had just come; returns its id."""
        id = f"{int(time.time())}.M0P{os.getpid()}Q{next(_numbers)}.benchmark"
        file = self.maildir / "tmp" / id
        file.write_bytes(mail)
        file.rename(self.maildir / "new" / id)
        return id

    def wait(self, seconds: float) -> bool:
        """Wait until the hub runs again; False if that takes more than so many seconds."""
        beats = self.meter.read().beats
        deadline = time.monotonic() + seconds
        # The beat after next has begun later than now.
        while self.meter.read().beats < beats + 2:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
