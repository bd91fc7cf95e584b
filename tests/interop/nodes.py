"""A server in a patched process of its own, whose store hands mail to a queue."""

from __future__ import annotations

import json
import smtplib
from pathlib import Path
from typing import Any

from support import Program

PROGRAM = Path(__file__).parent / "programs" / "queue_store.py"
CONTENT = b"Subject: Hi\r\n\r\nHello\r\n"


class Node(Program):
    """A server whose store hands mail to a queue, in a patched process of its own."""

    def __init__(self, store: str, url: str, keywords: dict[str, Any], **options: Any) -> None:
        super().__init__(PROGRAM, store, url, json.dumps(keywords), json.dumps(options))
        self.port = self.number()

    def client(self, timeout: float = 60) -> smtplib.SMTP:
        return smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout)

    def send(self, content: bytes = CONTENT, sender: str = "bob@example.net") -> str:
        """The reply to one message; of a refused command, its reply."""
        with self.client() as smtp:
            smtp.ehlo()
            for answer in (smtp.mail(sender), smtp.rcpt("ann@example.com")):
                if answer[0] != 250:
                    return reply(answer)
            return reply(smtp.data(content))


def reply(answer: tuple[int, bytes]) -> str:
    return f"{answer[0]} {answer[1].decode()}"
