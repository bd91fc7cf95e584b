"""Checks messages for spam with rspamd over HTTP.

The protocol is at https://rspamd.com/doc/developers/protocol.html.
"""

from __future__ import annotations

import http.client
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from gevent import socket, ssl

from ..session import Session
from ..smtp.reply import Reject
from ..trace import header_address
from ..turns import let_others_run
from .base import LOOPBACK, BasePolicy, Finding, Networks, OnFailure
from .scanner import ScannerFailure, deadline, pieces_of, printable, size_of

#: The longest answer in octets. Usually it has a few KiB; a longer one would block while parsed.
MAX_ANSWER: Final = 256 * 1024
#: The most changes of the header in an answer, and the longest value in characters; others are
#: left out.
MAX_CHANGES: Final = 200
MAX_VALUE: Final = 8 * 1024
MAX_SYMBOLS: Final = 500
#: The field that marks a message as spam, the same as that of rspamd's own milter.
SPAM_FIELD: Final = "X-Spam"
_DEFERRED: Final = frozenset({"greylist", "soft reject"})
_MARKED: Final = frozenset({"add header", "rewrite subject"})
#: An enhanced status code at the beginning of rspamd's message; the reply has its own code.
_STATUS: Final = re.compile(r"[245]\.\d{1,3}\.\d{1,3} +")
#: RFC 5322 section 2.2.3: the line ends of a folded value.
_FOLDS: Final = re.compile(r"\r?\n[ \t]+|\t")


@dataclass(frozen=True, slots=True)
class RspamdResult(Finding):
    """rspamd's verdict on a message."""

    #: "no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", or another
    #: that the configuration of rspamd defines.
    action: str
    score: float
    #: The score at which rspamd rejects.
    required_score: float
    #: The names of the rules that matched.
    symbols: tuple[str, ...] = ()
    #: rspamd's message to the client, or "".
    message: str = ""
    #: Requested changes of the header that were not made, with the reasons.
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def verdict(self) -> str:
        return self.action


class Rspamd(BasePolicy):
    """Lets rspamd decide about each message.

    *url* is the URL of rspamd's worker, ``"http://HOST:11333"`` or https. rspamd's actions have
    these effects: ``reject`` is 550 5.7.1; ``soft reject`` and ``greylist`` are 451 4.7.1;
    ``add header`` adds ``X-Spam: Yes`` on top; ``rewrite subject`` replaces the subject; with any
    other action the message passes. The policy also adds and removes the header fields that rspamd
    names. The verdict is in ``session.envelope.results["rspamd"]``. No answer within *timeout*
    seconds, or an invalid one, is a failure. Raises ValueError for a wrong *url*.
    """

    name = "rspamd"

    def __init__(
        self,
        url: str,
        *,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = 30.0,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        self._host, self._port, self._target, tls = _split(url)
        self._context = _client_context() if tls else None

    def on_message(self, content: BinaryIO, session: Session) -> None:
        if not self.judges(session):
            return
        fields = list(_facts(session))
        try:
            with deadline(self.timeout):
                answer = _parsed(self._ask(fields, content))
            found = _verdict(answer)
        except (OSError, http.client.HTTPException, ScannerFailure) as exc:
            self.tell(session, None)
            self.fail(session, exc)
            return
        refusal = _refusal(found)
        left_out = () if refusal else tuple(_edit_header(session, found.action, answer))
        self.note(session, session.envelope.results, replace(found, left_out=left_out))
        if refusal is not None:
            raise refusal

    def _ask(self, fields: list[tuple[str, bytes]], content: BinaryIO) -> bytes:
        connection = _Connection(self._host, self._port, self._context)
        try:
            connection.putrequest("POST", self._target, skip_accept_encoding=True)
            connection.putheader("Content-Length", str(size_of(content)))
            for name, value in fields:
                connection.putheader(name, value)
            connection.endheaders()
            for piece in pieces_of(content):
                connection.send(piece)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER + 1)
            if response.status != 200:
                reason = printable(response.reason)
                raise ScannerFailure(f"it answered {response.status} {reason}")
            if len(body) > MAX_ANSWER:
                raise ScannerFailure(f"its answer is longer than {MAX_ANSWER} bytes")
            return body
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection that uses gevent's sockets, also without monkey patching."""

    def __init__(self, host: str, port: int, context: Any) -> None:
        super().__init__(host, port)
        self._context = context

    def connect(self) -> None:
        sock: Any = socket.create_connection((self.host, self.port))
        if self._context is not None:
            try:
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
            except BaseException:
                sock.close()
                raise
        self.sock = sock


def _client_context() -> Any:
    # create_default_context would make a standard library context, whose sockets block the hub.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context


def _split(url: object) -> tuple[str, int, str, bool]:
    """Host, port, target, and whether it is TLS."""
    if isinstance(url, str) and url.isascii() and url.isprintable() and " " not in url:
        try:
            parts = urlsplit(url)
            tls = parts.scheme == "https"
            port = parts.port or (443 if tls else 80)
        except ValueError:  # the port, or what should be an IPv6 address
            parts = urlsplit("")
        rest = parts.query or parts.fragment or parts.username is not None
        if parts.scheme in {"http", "https"} and parts.hostname and not rest:
            path = parts.path.rstrip("/").removesuffix("/checkv2")
            return parts.hostname, port, f"{path}/checkv2", tls
    raise ValueError(f"the URL of rspamd is http://HOST:11333 or https://HOST, not {url!r}")


def _facts(session: Session) -> Iterator[tuple[str, bytes]]:
    """The header fields that tell rspamd about the client and the envelope."""
    envelope = session.envelope
    if envelope.mail_from is not None:
        yield "From", _octets(header_address(envelope.mail_from.address, envelope) or "<>")
    for recipient in envelope.rcpt_to:
        yield "Rcpt", _octets(header_address(recipient.address, envelope))
    if session.remote_address:
        yield "Ip", _octets(session.remote_address)
        name = session.client_hostname
        if not name.startswith("["):
            yield "Hostname", _octets(name)
    if session.host_name_appears_as:
        yield "Helo", _octets(session.host_name_appears_as)
    if session.user is not None:
        yield "User", _octets(str(session.user))
    yield "Queue-Id", _octets(session.id)


def _octets(text: str) -> bytes:
    """*text* as the value of an HTTP field, without control characters."""
    clean = "".join(char if char.isprintable() else "?" for char in text[:1000])
    return clean.encode()


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ScannerFailure(f"its answer is not JSON: {printable(str(exc))}") from None
    if not isinstance(answer, dict):
        raise ScannerFailure("its answer is not a JSON object")
    return answer


def _verdict(answer: dict[str, Any]) -> RspamdResult:
    action = answer.get("action")
    if not isinstance(action, str) or not action:
        error = answer.get("error")
        why = f": {printable(error)}" if isinstance(error, str) else ""
        raise ScannerFailure(f"its answer has no action{why}")
    messages = answer.get("messages")
    message = messages.get("smtp_message") if isinstance(messages, dict) else None
    symbols = answer.get("symbols")
    names = list(symbols)[:MAX_SYMBOLS] if isinstance(symbols, dict) else []
    return RspamdResult(
        printable(action),
        _number(answer, "score"),
        _number(answer, "required_score"),
        tuple(map(printable, names)),
        _STATUS.sub("", printable(message), count=1) if isinstance(message, str) else "",
    )


def _number(answer: dict[str, Any], name: str) -> float:
    number = answer.get(name)
    if isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) < 1e9:
        return float(number)  # neither NaN nor infinite
    raise ScannerFailure(f"its answer has no {name}")


def _refusal(found: RspamdResult) -> Reject | None:
    if found.action == "reject":
        return Reject(550, found.message or "The message is rejected as spam", "5.7.1")
    if found.action in _DEFERRED:
        return Reject(451, found.message or "Try again later", "4.7.1")
    return None


# The header

#: The value of a field to add, None to remove all fields of that name, or a ValueError that tells
#: why the change isn't possible.
_Change = str | ValueError | None


def _edit_header(
    session: Session, action: str, answer: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Edit the message's header as the answer requests; yields changes that failed, and why."""
    milter = answer.get("milter")
    milter = milter if isinstance(milter, dict) else {}
    edits: list[tuple[str, _Change]] = list(_removals(milter.get("remove_headers")))
    # The field that is added last is on top.
    edits += reversed(list(_additions(milter.get("add_headers"))))
    if action in _MARKED:
        subject = answer.get("subject") if action == "rewrite subject" else None
        mark = ("Subject", subject) if isinstance(subject, str) else (SPAM_FIELD, "Yes")
        edits += [(mark[0], None), mark]
    for number, (name, value) in enumerate(edits):
        if number >= MAX_CHANGES:
            yield "", "too many changes"
            return
        try:
            _edit(session, name, value)
        except ValueError as exc:
            yield printable(name), printable(str(exc))
        let_others_run()  # a long value takes a while


def _removals(fields: object) -> Iterator[tuple[str, _Change]]:
    """Yields names of fields, each with None or a ValueError."""
    for name, number in fields.items() if isinstance(fields, dict) else ():
        yield name, None if number == 0 else ValueError("only all fields of a name can be removed")


def _additions(fields: object) -> Iterator[tuple[str, _Change]]:
    """Yields names of fields, each with a value or a ValueError.

    For each name rspamd sends text, ``{"value": text, "order": number}``, or a list of these.
    """
    for name, values in fields.items() if isinstance(fields, dict) else ():
        for value in values if isinstance(values, list) else [values]:
            text = value.get("value") if isinstance(value, dict) else value
            yield name, text if isinstance(text, str) else ValueError("the value isn't text")


def _edit(session: Session, name: str, value: _Change) -> None:
    """Remove all fields *name*, or add one; raises *value* if it is a ValueError."""
    if isinstance(value, ValueError):
        raise value
    if value is None:
        session.envelope.remove_header(name)
    else:
        session.envelope.add_header(name, _value(value, session.envelope.smtputf8))


def _value(text: str, utf8: bool) -> str:
    """*text* unfolded, and in ASCII unless the message is SMTPUTF8; ValueError if it's too long."""
    if len(text) > MAX_VALUE:
        raise ValueError(f"the value has more than {MAX_VALUE} characters")
    unfolded = _FOLDS.sub(" ", text).strip()
    if utf8 or unfolded.isascii():
        return unfolded
    # RFC 2047 section 2: encoded words have 75 characters at most; 10 characters are 40 octets.
    return " ".join(
        f"=?utf-8?b?{b64encode(unfolded[at : at + 10].encode()).decode()}?="
        for at in range(0, len(unfolded), 10)
    )
