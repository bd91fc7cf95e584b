"""A server in a patched process of its own, whose store hands mail to a queue."""

from __future__ import annotations

import json
import smtplib
import threading
from pathlib import Path
from typing import Any

from .engines import start_program
from .support import SECONDS, wait_until

PROGRAM = Path(__file__).parent / "programs" / "queue_store.py"
CONTENT = b"Subject: Hi\r\n\r\nHello\r\n"


class Node:
    """A server whose store hands mail to a queue, in a patched process of its own."""

    def __init__(self, store: str, url: str, keywords: dict[str, Any], **options: Any) -> None:
        words = (store, url, json.dumps(keywords), json.dumps(options))
        self.process = start_program(PROGRAM, *words)
        self.lines: list[str] = []
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        if not first:
            _, err = self.process.communicate(timeout=SECONDS)
            raise AssertionError(err)
        self.port = int(first)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

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

    def wait_for(self, text: str) -> None:
        wait_until(lambda: any(text in line for line in self.lines), f"{text} in {self.lines}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def reply(answer: tuple[int, bytes]) -> str:
    return f"{answer[0]} {answer[1].decode()}"
