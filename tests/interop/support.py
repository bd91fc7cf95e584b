"""What the interoperability tests share: programs, a server that keeps its mail, waiting."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support import SECONDS as SECONDS  # also for the tests beside this
from support import free_port as free_port
from support import wait_until as wait_until

import smtp_blinker
from smtp_blinker import SMTPServer, signals

#: With this variable set, as .ci/run does, a missing program is a failure and not a skip.
NO_SKIP = "SMTP_BLINKER_NO_SKIP"
#: The folder of `.ci/debian_beside`.
BESIDE = "SMTP_BLINKER_BESIDE"
PROGRAM_SECONDS = 90.0

#: Where the library under test was imported from; children import the same.
LIBRARY = str(Path(smtp_blinker.__file__).resolve().parents[1])

HOST = "127.0.0.1"
NAME = "mail.example.test"
USER, PASSWORD, TOKEN = "user@example.com", "sesame öffne dich", "ya29.token"

#: Dots at the start of lines, an empty line, a long line, octets beyond ASCII, no text at the end.
CONTENT = (
    b"From: sender@example.org\r\nTo: rcpt@example.com\r\nSubject: dots\r\n\r\n"
    b".\r\n..\r\n.one\r\n\r\nmiddle .\r\n" + b"x" * 900 + b"\r\ncaf\xc3\xa9\r\n\r\n"
)
ASCII_CONTENT = CONTENT.replace(b"caf\xc3\xa9", b"cafe")


# Programs


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


def run(*command: str | Path, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """The program's end, whatever its exit status."""
    return subprocess.run(
        [str(word) for word in command],
        input=stdin,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PROGRAM_SECONDS,
        env=environment(**env),
        check=False,
    )


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


# The server


@dataclass
class Mail:
    """One message and what the session was when it came."""

    content: bytes
    mail_from: str
    rcpt_to: list[str]
    envelope: Any
    session: Any
    remote_address: str
    transmission_type: str
    xforward: dict[str, str | None]

    @property
    def body(self) -> bytes:
        return self.content.partition(b"\r\n\r\n")[2]


@dataclass
class Served:
    """A running server, its mail and its signals."""

    server: Any
    mails: list[Mail] = field(default_factory=list)
    connects: list[Any] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)
    secures: list[Any] = field(default_factory=list)
    auths: list[Any] = field(default_factory=list)
    disconnects: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        port: int = self.server.server_port
        return port

    @property
    def mail(self) -> Mail:
        """The only one."""
        assert len(self.mails) == 1
        return self.mails[0]

    def wait_for(self, count: int) -> list[Mail]:
        wait_until(lambda: len(self.mails) >= count, f"{count} messages, {self}")
        return self.mails

    def on_data(self, stream: Any, session: Any) -> str:
        content = stream.read()
        envelope = session.envelope
        self.mails.append(
            Mail(
                content,
                envelope.mail_from.address,
                [one.address for one in envelope.rcpt_to],
                envelope,
                session,
                session.remote_address,
                session.transmission_type,
                dict(session.xforward),
            )
        )
        return f"queued as {len(self.mails)}"


def on_auth(auth: Any, session: Any) -> str | None:
    """The one user that there is."""
    good = (
        auth.access_token == TOKEN if auth.method == "XOAUTH2" else auth.validate_password(PASSWORD)
    )
    return auth.username if good and auth.username == USER else None


@contextmanager
def serving(listener: Any = (HOST, 0), **options: Any) -> Iterator[Served]:
    """A server in a thread of its own; nobody may have had an error that isn't taken away."""
    served = Served(None)
    defaults = {"name": NAME, "disable_reverse_lookup": True, "on_data": served.on_data}
    server = served.server = SMTPServer(listener, **{**defaults, **options})
    with ExitStack() as stack:
        for signal, events in (
            (signals.connect, served.connects),
            (signals.error, served.errors),
            (signals.secure, served.secures),
            (signals.auth, served.auths),
            (signals.disconnect, served.disconnects),
        ):
            stack.enter_context(signal.connected_to(_append_to(events), server))
        with server.run_in_thread():
            yield served
        assert not server.connections
        assert served.errors == []


def _append_to(events: list[Any]) -> Callable[..., None]:
    def append(server: Any, event: Any) -> None:
        events.append(event)

    return append


# Certificates


@dataclass(frozen=True)
class Certificates:
    """PEM files; those of certificates hold their key too."""

    ca: Path
    server: Path
    other: Path
    client: Path

    @property
    def options(self) -> Mapping[str, Any]:
        """For a server."""
        return {"certfile": self.server, "keyfile": self.server}

    def context(self) -> ssl.SSLContext:
        """For a client."""
        return ssl.create_default_context(cafile=self.ca)
