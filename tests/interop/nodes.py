"""A server in a patched process of its own, whose store hands mail to a queue."""

from __future__ import annotations

import json
import signal
import smtplib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import SECONDS, Program, wait_until

from .engines import Engine

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


#: A fixture that starts one, with options of the server and keywords of the store.
Start = Callable[..., Node]


def accepted_amid_kills(
    node: Node, engine: Engine, kills: int, content: Callable[[int, int], bytes]
) -> set[bytes]:
    """What clients got 250 for while *engine* was killed; they send *content*(client, number)."""
    accepted: set[bytes] = set()
    stop = threading.Event()

    def send(client: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            sent = content(client, number)
            if node.send(sent).startswith("250 "):
                accepted.add(sent)
            else:
                time.sleep(0.05)  # as a client waits before it sends again

    threads = [threading.Thread(target=send, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            before = len(accepted)
            wait_until(lambda before=before: len(accepted) > before + 50, f"mail {node.lines}")  # type: ignore[misc]
            engine.kill()
            engine.start()
    finally:
        stop.set()
        for thread in threads:
            thread.join(SECONDS)
    assert len(accepted) > 50 * kills
    return accepted


def check_silence(node: Node, engine: Engine, name: str) -> None:
    """*engine* answers nothing for a while: 451 within the deadline of 0.5 s, and then at MAIL."""
    assert node.send().startswith("250 ")
    engine.signal(signal.SIGSTOP)
    try:
        for _ in range(3):
            assert node.send().startswith("451 4.3.0 ")
        node.wait_for(f"Unavailable: {name} did not answer within 0.5 s")
        with node.client() as smtp:
            smtp.ehlo()
            assert reply(smtp.mail("bob@example.net")) == (
                "451 4.3.0 Mail can't be stored at the moment, try again later"
            )
    finally:
        engine.signal(signal.SIGCONT)
    wait_until(lambda: node.send().startswith("250 "), "it stores again")


def reply(answer: tuple[int, bytes]) -> str:
    return f"{answer[0]} {answer[1].decode()}"
