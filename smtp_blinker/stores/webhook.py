"""Each message as a POST request to a URL."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

import gevent

from ..connection.spool import Spool
from ..session import Address, Session, new_id
from ..smtp.reply import Reject
from .circuit import Circuit, check_timeout, within
from .entry import Envelope
from .http import Answer, Endpoint
from .received import PIECE, Source
from .whole import whole_message

#: The answers that refuse a message for good: reply code and enhanced status code.
REFUSALS: Final = {
    406: (550, "5.7.1"),
    410: (550, "5.7.1"),
    413: (552, "5.3.4"),
    422: (550, "5.7.1"),
}
_DEFAULT_TEXT: Final = {552: "Message is larger than the receiver takes"}
#: Characters of an answer's line that become the text of a reply.
_LONGEST_LINE: Final = 400
# What a reply's text can't begin with: it would be taken for the code.
_CODE: Final = re.compile(r"[2-5](\d\d\b|\.\d{1,3}\.\d)")


class WebhookFailure(Exception):
    """The endpoint gave no answer that decides about the message."""


class WebhookStore:
    """POSTs each message to *url*: ``SMTPServer(address, on_data=WebhookStore(…))``.

    The request is multipart/form-data with `envelope` (the JSON of `Envelope.as_json`) and the file
    `message` (message/rfc822), which has the octets as they came. The field Idempotency-Key has the
    envelope's `content_id`: the same when a client sends a message again. With a *secret* the field
    ``X-SMTP-Signature: t=SECONDS,v1=HEX`` signs it: HMAC-SHA256, keyed with the secret in UTF-8,
    over SECONDS (Unix time), a dot, and the body. *timeout* is seconds for the whole request,
    connecting and waiting for a connection too: greater than 0.

    2xx accepts: the first line of a text/plain answer becomes the reply's text. 406, 410 and 422
    refuse for good (550 5.7.1 with that line), 413 too (552 5.3.4). Any other answer, a redirect
    among them, and none in time let `WebhookFailure`, OSError or http.client.HTTPException out:
    451 4.3.0 and an `error` event. After three of those in a row mail is refused at once (451
    4.3.0) for five seconds, then one message is tried; with ``server.use(store)`` it is refused at
    MAIL.

    A message is kept in memory up to 1 MiB, in a temporary file beyond. Ten requests at most are
    under way at a time. Raises ValueError for a wrong *url* or *timeout*.
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

    #: What `check` is about, in messages.
    engine: Final = "The webhook"
    #: For the page: `check` opens a connection as this thread's greenlets do.
    needs_thread: Final = False

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse before the content is sent while the endpoint is away."""
        self.circuit.check()

    def __call__(self, stream: Source, session: Session) -> str:
        self.circuit.check()
        digest = hashlib.sha256()
        with (
            whole_message(stream, session, digest.update) as spool,
            self.circuit.attempt() as attempt,
        ):
            envelope = Envelope.of(session, spool.size, digest.hexdigest())
            answer = self._post(_Form(envelope.as_json(), spool), envelope)
            result = self._result(answer, envelope)
            if isinstance(result, Reject):
                attempt.outcome = "refused"  # and the endpoint is there
        if isinstance(result, Reject):
            raise result
        return result

    def _post(self, form: _Form, envelope: Envelope) -> Answer:
        fields = {
            "Content-Type": form.content_type,
            "Idempotency-Key": envelope.content_id,
            "User-Agent": "smtp_blinker",
        }
        with self._deadline():
            if self._secret is not None:
                fields["X-SMTP-Signature"] = _signature(self._secret, form)
            return self._endpoint.post(fields, form, form.size)

    def _deadline(self) -> AbstractContextManager[None]:
        text = f"{self._endpoint.shown} did not answer within {self.timeout:g} s"
        return within(self.timeout, WebhookFailure(text))

    def _result(self, answer: Answer, envelope: Envelope) -> str | Reject:
        """The reply's text, or the refusal. Raises `WebhookFailure` where neither was said."""
        line = _first_line(answer)
        if 200 <= answer.status < 300:
            return line or f"delivered as {envelope.id}"
        if answer.status in REFUSALS:
            code, enhanced = REFUSALS[answer.status]
            text = line or _DEFAULT_TEXT.get(code, "The receiver refuses this message")
            return Reject(code, text, enhanced)
        what = f": {line}" if line else ""
        raise WebhookFailure(f"{self._endpoint.shown} answered {answer.status}{what}")

    def check(self) -> None:
        """For the page: raise what keeps mail from being handed over now.

        `Reject` (451) while it is refused because of failures, and as for a message where no
        connection can be had. It sends no request.
        """
        self.circuit.check()
        with self._deadline():
            self._endpoint.check()

    def close(self) -> None:
        """Close the connections that wait for messages."""
        self._endpoint.close()


class _Form:
    """The body of a request, in pieces; the message is read again each time."""

    def __init__(self, envelope: bytes, spool: Spool) -> None:
        # RFC 7578 section 4.1: a boundary that stands nowhere else, here by chance.
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
        gevent.sleep(0)  # others have their turn: 64 KiB take 0.1 ms
    return f"t={seconds},v1={code.hexdigest()}"


def _first_line(answer: Answer) -> str:
    """The first line of a text/plain answer as the text of a reply; "" where there is none."""
    if answer.content_type != "text/plain":
        return ""
    line = answer.body.lstrip().split(b"\n", 1)[0].decode("utf-8", "replace")
    line = "".join(char if " " <= char <= "~" else "?" for char in line.strip())[:_LONGEST_LINE]
    return "" if _CODE.match(line) else line


__all__ = ["WebhookFailure", "WebhookStore"]
