"""Programs that tests run: whether they are there, what they print, how they end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest

import smtp_blinker

from .waiting import SECONDS, wait_until

#: With this variable set, as .ci/run does, a missing program is a failure and not a skip.
NO_SKIP = "SMTP_BLINKER_NO_SKIP"
#: The folder of `.ci/debian_beside`.
BESIDE = "SMTP_BLINKER_BESIDE"
PROGRAM_SECONDS = 90.0

#: Where the library under test was imported from; children import the same.
LIBRARY = str(Path(smtp_blinker.__file__).resolve().parents[1])

HOST = "127.0.0.1"


def missing(what: str, package: str) -> NoReturn:
    reason = f"{what} is missing: install {package}"
    if os.environ.get(NO_SKIP, "0") not in ("", "0"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """The path of a program; a skip (with NO_SKIP a failure) naming *package* without it."""
    folders = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    path = shutil.which(name, path=folders)
    if path is None:
        missing(name, package)
    return path


def beside(path: str, package: str) -> str:
    """A program of a package that excludes the machine's mail server; *path* without its first "/".

    Where the package isn't installed, `.ci/debian_beside` has unpacked it into a folder.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    unpacked = Path(os.environ.get(BESIDE) or default / "smtp_blinker" / "beside") / package
    for found in (Path("/", path), unpacked / path):
        if found.is_file():
            return str(found)
    missing(path, f"{package}, or run .ci/debian_beside as root")


def environment(**more: str) -> dict[str, str]:
    """Ours without proxies: all that is spoken to is on this machine."""
    ours = {name: text for name, text in os.environ.items() if name not in proxies()}
    return {**ours, **more}


def proxies() -> dict[str, str]:
    """The variables that `environment` leaves out."""
    return {name: text for name, text in os.environ.items() if name.lower().endswith("_proxy")}


def run(
    *command: str | Path,
    stdin: str = "",
    folder: Any = None,
    seconds: Any = PROGRAM_SECONDS,
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """The program's end, whatever its exit status."""
    return subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=folder,
        timeout=seconds,
        env=environment(**env),
        check=False,
    )


def python(*words: str | Path, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """The same of ``python`` with *words*; it imports the library under test."""
    return run(sys.executable, *words, **{"PYTHONPATH": LIBRARY, **keywords})


def succeed(*command: str | Path, stdin: str = "", **env: str) -> str:
    """What the program wrote; it has to end with status 0."""
    done = run(*command, stdin=stdin, **env)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def bound_socket(family: int = socket.AF_INET) -> socket.socket:
    """A socket on a free port, not listening yet, for a child to inherit."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(("::1" if family == socket.AF_INET6 else HOST, 0))
    return sock


class Program:
    """A running program and what it has printed so far; leaving the block kills it.

    *words* are what follows ``python``, or with *python* False the whole command. It imports the
    library under test.
    """

    def __init__(
        self,
        *words: Any,
        folder: Path | None = None,
        python: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.lines: list[str] = []
        path = os.pathsep.join(filter(None, (LIBRARY, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [*([sys.executable] if python else []), *map(str, words)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(PYTHONPATH=path, PYTHONUNBUFFERED="1", **(variables or {})),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, text: str, times: int = 1) -> None:
        """Return once *text* was printed that many times; fails when the program ends before."""

        def found() -> bool:
            if self.process.poll() is not None:
                self._reader.join(SECONDS)
                assert self.output.count(text) >= times, f"ended without {text}:\n{self.output}"
            return self.output.count(text) >= times

        try:
            wait_until(found)
        except AssertionError as exc:
            raise AssertionError(f"{times} times {text} in:\n{self.output}") from exc

    def number(self) -> int:
        """The one that it prints first, its port."""
        return int(next(line for line in wait_until(self._numbers) if line.isdigit()))

    def _numbers(self) -> list[str]:
        has_ended = self.process.poll() is not None
        if has_ended:
            self._reader.join(SECONDS)
        numbers = [line for line in self.lines if line.isdigit()]
        assert numbers or not has_ended, f"it ended:\n{self.output}"
        return numbers

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_status(self) -> int:
        """Waits for the end, and for all that was printed."""
        status = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return status

    def terminate(self) -> int:
        """Ask it to end; returns the exit status."""
        self.signal(signal.SIGTERM)
        return self.exit_status()

    def end(self) -> None:
        self.process.kill()
        self.exit_status()
        assert self.process.stdout is not None
        self.process.stdout.close()
