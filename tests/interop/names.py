"""What the interoperability tests share: names, a message, a user, certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import Served, serve

NAME = "mail.example.test"
USER, PASSWORD, TOKEN = "user@example.com", "sesame öffne dich", "ya29.token"

#: Dots at the start of lines, an empty line, a long line, octets beyond ASCII, no text at the end.
CONTENT = (
    b"From: sender@example.org\r\nTo: rcpt@example.com\r\nSubject: dots\r\n\r\n"
    b".\r\n..\r\n.one\r\n\r\nmiddle .\r\n" + b"x" * 900 + b"\r\ncaf\xc3\xa9\r\n\r\n"
)
ASCII_CONTENT = CONTENT.replace(b"caf\xc3\xa9", b"cafe")


def on_auth(auth: Any, session: Any) -> str | None:
    """The one user that there is."""
    good = (
        auth.access_token == TOKEN if auth.method == "XOAUTH2" else auth.validate_password(PASSWORD)
    )
    return auth.username if good and auth.username == USER else None


@contextmanager
def serving(*listener: Any, **options: Any) -> Iterator[Served]:
    """`serve` with NAME; it fails after an error that the test has not made it forget."""
    with serve(*listener, **{"name": NAME, **options}) as served:
        yield served
    assert served.of("error") == []


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
