"""The program smtp-blinker as a process of a test."""

from __future__ import annotations

import mailbox
import os
import re
import signal
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Self

from .waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
SERVE = ROOT / "scripts" / "serve.py"
ANYWHERE = ("--listen", "127.0.0.1:0")
MESSAGE = "Subject: hello\n\nOne\n.\n..Two\n"
#: How long the program may take to end.
SECONDS = 60


def environment(**extra: str) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if "SMTP_BLINKER" not in name}
    return {**kept, **extra}


class SmtpBlinker:
    """A serve.py in *folder*; leaving the block asks it to stop and waits until it has."""

    def __init__(self, folder: Path, *args: str, under: tuple[str, ...] = (), **env: str) -> None:
        self.folder = folder
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, sys.executable, str(SERVE), *args],
                cwd=folder,
                env=environment(**env),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.said: list[str] = []
        last = "Listening" if "--trusted-proxy" in args else "Try:"
        while not self.said or not self.said[-1].startswith(last):
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.log.read_text()}"
            self.said.append(line.rstrip("\n"))
        found = [re.match(r"Listening on \S+:(\d+) \(", line) for line in self.said]
        self.ports = [int(match[1]) for match in found if match is not None]
        self.port = self.ports[0] if self.ports else 0
        pages = [re.match(r"Web page: http://\S+:(\d+)/", line) for line in self.said]
        #: That of the web page, 0 without one.
        self.http_port = next((int(match[1]) for match in pages if match is not None), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self.process.communicate()

    def client(self) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, timeout=SECONDS)

    def messages(self, maildir: str = "Maildir") -> list[mailbox.MaildirMessage]:
        return list(mailbox.Maildir(self.folder / maildir, create=False))

    def signal(self, number: int) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        assert self.process.poll() is None, f"it ended by itself: {self.log.read_text()}"
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def wait_for_log(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log.read_text().count(text) >= times)


def run(folder: Path, *args: str, text: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """A serve.py that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, str(SERVE), *args],
        cwd=folder,
        env=environment(**env),
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def adduser(folder: Path, name: str, password: str) -> None:
    added = run(folder, "adduser", name, "--users", "users", "--password-stdin", text=password)
    assert added.returncode == 0, added.stderr


def refused(folder: Path, *args: str, **env: str) -> str:
    """The line that serve.py says why it doesn't start."""
    ended = run(folder, *args, **env)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith("serve.py: ")
    return line
