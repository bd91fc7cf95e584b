"""The page of smtp-blinker without a browser: its Maildir, its messages, its API."""

from __future__ import annotations

import base64
import itertools
import os
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from smtp_blinker.web.reader import details, entry, markup, mime

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TRACE = (
    b"Return-Path: <bounce@example.org>\n"
    b"Delivered-To: ada@example.com\n"
    b"Delivered-To: hidden@example.com\n"
    b"Received: from client.example (host.example.org [192.0.2.1])\n"
    b"\tby mx.example.com with ESMTPSA\n"
    b"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384) id abc;\n"
    b"\tSun, 22 Nov 2026 16:43:20 -0000\n"
)


class Folder:
    """A Maildir that another program writes to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = itertools.count(1)
        for name in ("tmp", "new", "cur"):
            (path / name).mkdir(parents=True)

    def put(self, content: bytes, *, at: int | None = None, flags: str | None = None) -> str:
        """Deliver a message; returns its id. Later ones are newer, unless *at* says when."""
        number = next(self._number)
        id = f"{1_700_000_000 + number if at is None else at}.M0P1Q{number}.test"
        name = id if flags is None else f"{id}:2,{flags}"
        target = self.path / ("new" if flags is None else "cur") / name
        (self.path / "tmp" / name).write_bytes(content)
        os.rename(self.path / "tmp" / name, target)
        return id

    def files(self) -> list[str]:
        return sorted(
            str(file.relative_to(self.path))
            for folder in ("new", "cur")
            for file in (self.path / folder).iterdir()
        )


def ask(client: FlaskClient, path: str, method: str = "GET", **keywords: Any) -> Any:
    response = client.open(path, method=method, **keywords)
    assert response.status_code == 200, response.text
    return response.get_json()


def subjects(client: FlaskClient, **query: str | int) -> list[str]:
    answer = ask(client, "/api/messages", query_string=query)
    return [message["subject"] for message in answer["messages"]]


def plain(subject: str = "hello", text: str = "Hello\n", **fields: str) -> bytes:
    lines = {"From": "Bob <bob@example.org>", "To": "ada@example.com", **fields}
    head = "".join(f"{name}: {value}\n" for name, value in lines.items())
    return f"{head}Subject: {subject}\n\n{text}".encode()


def described(data: bytes) -> dict[str, Any]:
    """A message as the page's API describes it."""
    listed = entry.Entry("id", "", 0.0, True, len(data)).as_dict()
    return details.describe(listed, data, mime.parse(data))


def document(data: bytes) -> str:
    """The HTML of a message as it is shown."""
    return b"".join(markup.document(mime.parse(data), data)).decode()
