"""Sends each message as a POST request to a URL."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from typing import Final

import gevent

from ..connection.spool import Spool
from ..session import Address, Session, new_id
from ..smtp.reply import Reject
from .circuit import Circuit, Deadline, check_timeout
from .entry import Entry
from .http import Answer, Endpoint
from .received import PIECE, Source
from .whole import whole_message

#: The HTTP statuses that refuse a message permanently, with reply code and enhanced status code.
REFUSALS: Final = {
    406: (550, "5.7.1"),
    410: (550, "5.7.1"),
    413: (552, "5.3.4"),
    422: (550, "5.7.1"),
}
_DEFAULT_TEXT: Final = {552: "Message is larger than the receiver takes"}
#: The most characters of a response's line in the text of a reply.
_LONGEST_LINE: Final = 400
# A code at the beginning of the text, which could be taken for the code of the reply.
_CODE: Final = re.compile(r"[2-5](\d\d\b|\.\d{1,3}\.\d)")


class WebhookFailure(Exception):
    """The endpoint neither accepted nor refused the message."""


class WebhookStore:
    """POSTs each message to *url*: ``SMTPServer(address, on_data=WebhookStore(…))``.

    The request is multipart/form-data with `envelope` (the JSON of `Envelope.as_json`) and the file
    `message` (message/rfc822) with the unchanged octets. The field Idempotency-Key has the
    envelope's `content_id`, which stays the same if a client sends a message again. With a *secret*
    the field ``X-SMTP-Signature: t=SECONDS,v1=HEX`` signs the request: HMAC-SHA256, with the secret
    in UTF-8 as the key, over SECONDS (Unix time), a dot, and the body. *timeout* is the number of
    seconds for the whole request, including the wait for a connection, greater than 0.

    2xx accepts; the first line of a text/plain response becomes the text of the reply. 406, 410 and
    422 refuse permanently (550 5.7.1 with that line), 413 too (552 5.3.4). For any other response,
    also a redirect, and without a response in time the hook raises `WebhookFailure`, OSError or
    http.client.HTTPException: 451 4.3.0 and an `error` event. After three of these in a row mail is
    refused at once (451 4.3.0) for five seconds, with ``server.use(store)`` at MAIL; then one
    message is tried.

    A message is kept in memory up to 1 MiB, else in a temporary file. At most ten requests are in
    progress at a time. Raises ValueError for a wrong *url* or *timeout*.
    """

    def __init__(self, url: str, *, secret: str | None = None, timeout: float = 30) -> None:
        check_timeout(timeout)
        if secret is not None and not isinstance(secret, str):
            raise TypeError(f"secret takes a text, not {type(secret).__name__}")
        if secret == "":
            raise ValueError("secret must not be empty; None is for no signature")
        self._endpoint = Endpoint(url)
        self._secret = None if secret is None else secret.encode()
        self.timeout = timeout
        self.circuit = Circuit()

    #: The name in messages of `check`.
    engine: Final = "The webhook"
    #: For the page: `check` opens a connection as this thread's greenlets do.
    needs_thread: Final = False

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse MAIL while the endpoint is unreachable."""
        self.circuit.check()

    def __call__(self, stream: Source, session: Session) -> str:
        self.circuit.check()
        digest = hashlib.sha256()
        with (
            whole_message(stream, session, digest.update) as spool,
            self.circuit.attempt() as attempt,
        ):
            entry = Entry.of(session, spool.size, digest.hexdigest())
            answer = self._post(_Form(entry.head, spool), entry)
            result = self._result(answer, entry)
            if isinstance(result, Reject):
                attempt.outcome = "refused"  # the endpoint is reachable
        if isinstance(result, Reject):
            raise result
        return result

    def _post(self, form: _Form, entry: Entry) -> Answer:
        fields = {
            "Content-Type": form.content_type,
            "Idempotency-Key": entry.content_id,
            "User-Agent": "smtp_blinker",
        }
        with self._deadline():
            if self._secret is not None:
                fields["X-SMTP-Signature"] = _signature(self._secret, form)
            return self._endpoint.post(fields, form, form.size)

    def _deadline(self) -> Deadline:
        return Deadline(self.timeout, self._late)

    def _late(self) -> WebhookFailure:
        return WebhookFailure(f"{self._endpoint.shown} did not answer within {self.timeout:g} s")

    def _result(self, answer: Answer, entry: Entry) -> str | Reject:
        """The text of the reply, or the refusal. Raises `WebhookFailure` for other responses."""
        line = _first_line(answer)
        if 200 <= answer.status < 300:
            return line or f"delivered as {entry.id}"
        if answer.status in REFUSALS:
            code, enhanced = REFUSALS[answer.status]
            text = line or _DEFAULT_TEXT.get(code, "The receiver refuses this message")
            return Reject(code, text, enhanced)
        what = f": {line}" if line else ""
        raise WebhookFailure(f"{self._endpoint.shown} answered {answer.status}{what}")

    def check(self) -> None:
        """For the page: raise if mail can't be delivered now. It sends no request.

        Raises `Reject` (451) while mail is refused because of failures, and as for a message if it
        can't connect.
        """
        self.circuit.check()
        with self._deadline():
            self._endpoint.check()

    def close(self) -> None:
        """Close the idle connections."""
        self._endpoint.close()


class _Form:
    """The body of a request in pieces. Each iteration reads the message again."""

    def __init__(self, envelope: bytes, spool: Spool) -> None:
        # RFC 7578 section 4.1: the boundary mustn't occur in the content. This one is random.
        boundary = f"smtp-blinker-{new_id()}{new_id()}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._head = (
            f"--{boundary}\r\n"
            'Content-Disposition: form-data; name="envelope"\r\n'
            "Content-Type: application/json\r\n\r\n"
        ).encode() + envelope
        self._head += (
            f"\r\n--{boundary}\r\n"
            'Content-Disposition: form-data; name="message"; filename="message.eml"\r\n'
            "Content-Type: message/rfc822\r\n\r\n"
        ).encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._spool = spool
        self.size = len(self._head) + spool.size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        offset = 0
        while piece := self._spool.read(offset, PIECE):
            yield piece
            offset += len(piece)
        yield self._tail


def _signature(secret: bytes, form: _Form) -> str:
    seconds = int(time.time())
    code = hmac.new(secret, f"{seconds}.".encode(), "sha256")
    for piece in form:
        code.update(piece)
        gevent.sleep(0)  # let other greenlets run: 64 KiB take 0.1 ms
    return f"t={seconds},v1={code.hexdigest()}"


def _first_line(answer: Answer) -> str:
    """The first line of a text/plain response as the text of a reply; "" without one."""
    if answer.content_type != "text/plain":
        return ""
    line = answer.body.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    line = "".join(char if " " <= char <= "~" else "?" for char in line.strip())[:_LONGEST_LINE]
    return "" if _CODE.match(line) else line


__all__ = ["WebhookFailure", "WebhookStore"]
