"""Clients that send mail and remember what they were answered."""

from __future__ import annotations

import smtplib
import threading
import time
from collections import Counter

CLIENTS = 4
#: Every so many messages one is larger than what is kept in the entry.
LARGE_EVERY, LARGE = 20, 200_000


class Load:
    """Clients that send without a pause until they are told to stop.

    A message is sent until it is accepted, or *tries* times; then it has *failed*.
    """

    def __init__(self, port: int, name: str, tries: int | None = None) -> None:
        self.port = port
        self._name = name
        self._tries = tries
        self.accepted: set[str] = set()
        self.failed: list[str] = []
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            filling = "x" * 70 + "\r\n"
            body = filling * (LARGE // len(filling) if count % LARGE_EVERY == 0 else 10)
            self._send_until_accepted(f"{self._name}-{number}-{count}", body)

    def _send_until_accepted(self, marker: str, body: str) -> None:
        tries = 0
        while not self.try_once(marker, body):
            tries += 1
            if self._tries is None and self._stop.is_set():
                return
            if tries == self._tries:
                self.failed.append(marker)
                return
            time.sleep(0.2)

    def try_once(self, marker: str, body: str) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=60) as smtp:
                smtp.sendmail("a@example.net", ["b@example.com"], f"Marker: {marker}\r\n\r\n{body}")
                self.accepted.add(marker)
        except smtplib.SMTPRecipientsRefused as exc:
            self.answers[str(next(iter(exc.recipients.values()))[0])] += 1
        except smtplib.SMTPResponseException as exc:
            # -1 is smtplib's for a connection that was lost before a reply.
            self.answers["lost" if exc.smtp_code < 0 else str(exc.smtp_code)] += 1
        except (OSError, smtplib.SMTPException):
            self.answers["lost"] += 1
        else:
            self.answers["250"] += 1
        # Answered 250 is accepted, though QUIT may have failed after it.
        return marker in self.accepted
