"""Each message to the next hop, by SMTP or LMTP, before the client gets 250."""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from ..connection.spool import Spool
from ..session import Address, Envelope, Session
from ..smtp.reply import Reject
from ..trace import BEGINNING, header_address, received, separator
from .circuit import Circuit, check_timeout, within
from .next_hop import Connection, NextHop
from .pool import Pool
from .received import PIECE, Source
from .whole import whole_message

#: Connections to the next hop at a time.
MOST: Final = 10
_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})[ ]?")

Outcome = str | Reject


class RelayFailure(Exception):
    """The next hop was not reached, or didn't go on."""


class _Ending(Exception):
    """The next hop ends a connection that was used before: 421 where a message begins."""


class RelayStore:
    """Hands each message to the next hop: ``SMTPServer(address, on_data=RelayStore(…))``.

    *url* is ``smtp://HOST:PORT`` (port 25), ``smtps://HOST:PORT`` (TLS from the first octet, 465)
    or ``lmtp://HOST:PORT`` (24), with ``USER:PASSWORD@`` for AUTH; ``lmtp:///PATH`` is a UNIX
    socket.
    STARTTLS is used where the next hop offers it, its certificate verified; *starttls* True demands
    it, False leaves it out, and None, the default, leaves it out for a next hop on loopback only.
    AUTH is never sent without TLS but to loopback. *name* is what EHLO and the Received field say;
    by default this host's name. *timeout* is seconds for one message, from the connection to the
    last reply: greater than 0. There is no queue: 250 means that the next hop has said 250 for
    every recipient.

    Where it refuses a recipient nothing is sent, and its refusal is our reply: one of 4yz if there
    is one. With LMTP on our side each recipient has its own reply, and those that it accepted get
    the message. Where only LMTP on its side refuses some after the content, our SMTP client gets
    the refusal (again one of 4yz if there is one), and those that accepted have the message.

    8BITMIME, SIZE, SMTPUTF8, DSN, REQUIRETLS and MT-PRIORITY are passed on where the next hop has
    them. What it must have for the message and hasn't is a refusal: SMTPUTF8 (550 5.6.7), 8BITMIME
    for 8-bit content (554 5.6.3), REQUIRETLS (550 5.7.30); BINARYMIME and FUTURERELEASE are not
    passed on (554). A bare CR or LF in the content becomes CRLF. A Received field is added; a loop
    is ended by the server's own count of them. Connections are kept and used again.

    When the next hop is away, slow, or its own trouble speaks, an OSError, an
    `smtplib.SMTPException` or `RelayFailure` goes out: 451 4.3.0 and an `error` event. After three
    in a row mail is refused at once for five seconds, with ``server.use(store)`` at MAIL. Raises
    ValueError for a wrong *url* or *timeout*.
    """

    def __init__(
        self,
        url: str,
        *,
        starttls: bool | None = None,
        name: str | None = None,
        timeout: float = 60,
    ) -> None:
        check_timeout(timeout)
        self.name = name or socket.getfqdn()
        self._hop = NextHop(url, starttls, self.name)
        self.timeout = timeout
        self.circuit = Circuit()
        self._pool = Pool(MOST, self._hop.connect, _is_alive, _quit)

    #: What `check` is about, in messages.
    engine: Final = "The next hop"
    #: For the page: `check` uses connections that belong to the greenlets of this thread.
    needs_thread: Final = False

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse before the content is sent while the next hop is away."""
        self.circuit.check()

    def __call__(self, stream: Source, session: Session) -> str | list[Outcome]:
        self.circuit.check()
        by_recipient = session.opening_command == "LHLO"
        content = _Content(received(session, self.name, _id(session)))
        with (
            whole_message(stream, session, content.look) as content.spool,
            self.circuit.attempt() as attempt,
        ):
            outcomes = self._hand_over(content, session.envelope, by_recipient)
            refusals = [one for one in outcomes if isinstance(one, Reject)]
            if refusals:
                attempt.outcome = "refused"
        if by_recipient:
            return outcomes
        if refusals:
            raise _temporary_first(refusals)
        return str(outcomes[0])

    def _hand_over(
        self, content: _Content, envelope: Envelope, by_recipient: bool
    ) -> list[Outcome]:
        with self._deadline():
            while True:
                try:
                    with self._pool.use() as smtp:
                        return _Transaction(smtp, content, envelope, by_recipient).run()
                except _Ending:
                    pass  # it takes no more on that connection, and may on another

    def _deadline(self) -> AbstractContextManager[None]:
        text = f"{self._hop.shown} did not take a message within {self.timeout:g} s"
        return within(self.timeout, RelayFailure(text))

    def check(self) -> None:
        """For the page: raise what keeps mail from being handed over now.

        `Reject` (451) while it is refused because of failures, and as for a message where the next
        hop doesn't begin a session. It sends no message.
        """
        self.circuit.check()
        with self._deadline(), self._pool.use():
            pass

    def close(self) -> None:
        """Close the connections that wait for messages."""
        self._pool.close()


class _Content:
    """The message, kept whole before anything is sent to the next hop; a Received field on top."""

    #: The message itself.
    spool: Spool

    def __init__(self, received: bytes) -> None:
        self._received = received
        #: Whether there are octets above 127.
        self.is_8bit = not received.isascii()

    def look(self, piece: bytes) -> None:
        """See a piece of the message as it comes."""
        self.is_8bit = self.is_8bit or not piece.isascii()

    @property
    def size(self) -> int:
        return len(self._received) + self.spool.size

    def pieces(self) -> Iterator[bytes]:
        """As DATA wants it: lines that end with CRLF, a dot before each first dot, no end yet."""
        text = self._received + separator(self.spool.read(0, BEGINNING))
        offset, at_start, held = 0, True, b""
        while text:
            text = held + text
            held = b"\r" if text.endswith(b"\r") else b""
            text = _NEWLINE.sub(b"\r\n", text[: len(text) - len(held)])
            # RFC 5321 section 4.5.2
            stuffed = text.replace(b"\r\n.", b"\r\n..")
            yield b"." + stuffed if at_start and text.startswith(b".") else stuffed
            at_start = text.endswith(b"\r\n") if text else at_start
            text = self.spool.read(offset, PIECE)
            offset += len(text)
        if held or not at_start:
            yield b"\r\n"


class _Transaction:
    """One message on a connection to the next hop.

    *by_recipient*: whether the client gets a reply for each recipient.
    """

    def __init__(
        self, smtp: Connection, content: _Content, envelope: Envelope, by_recipient: bool
    ) -> None:
        self._smtp = smtp
        self._content = content
        self._envelope = envelope
        self._by_recipient = by_recipient
        self._lmtp = isinstance(smtp, smtplib.LMTP)

    def run(self) -> list[Outcome]:
        """An outcome for each recipient."""
        recipients = self._envelope.rcpt_to
        refusal = self._missing()
        if refusal is not None:
            return [refusal] * len(recipients)
        # RFC 6531 section 3.4: UTF-8 in paths with SMTPUTF8 only.
        self._smtp.command_encoding = "utf-8" if self._envelope.smtputf8 else "ascii"
        sender = self._envelope.mail_from or Address("")
        was_used, self._smtp.was_used = self._smtp.was_used, True
        reply = self._say("MAIL FROM:", sender, self._mail_parameters())
        if reply[0] == 421 and was_used:
            # Not for this message: it has had enough of them on this connection.
            raise _Ending
        refusal = _refusal(reply)
        if refusal is not None:
            self._smtp.rset()
            return [refusal] * len(recipients)
        replies = [self._say("RCPT TO:", one, self._rcpt_parameters(one)) for one in recipients]
        outcomes = [_refusal(reply) for reply in replies]
        refused = [one for one in outcomes if one is not None]
        if refused and (len(refused) == len(outcomes) or not self._by_recipient):
            self._smtp.rset()
            return [one or _temporary_first(refused) for one in outcomes]
        accepted = iter(self._send(len(outcomes) - len(refused)))
        return [next(accepted) if one is None else one for one in outcomes]

    def _say(self, verb: str, address: Address, parameters: Iterator[str]) -> tuple[int, bytes]:
        path = header_address(address.address, self._envelope)
        return self._smtp.docmd(" ".join([f"{verb}<{path}>", *parameters]))

    def _send(self, accepted: int) -> list[Outcome]:
        code, text = self._smtp.docmd("DATA")
        if code != 354:
            self._smtp.rset()
            return [_refusal((code, text)) or _unexpected(code)] * accepted
        for piece in self._content.pieces():
            self._smtp.send(piece)
        self._smtp.send(b".\r\n")
        count = accepted if self._lmtp else 1  # RFC 2033 section 4.2
        outcomes: list[Outcome] = []
        for _ in range(count):
            reply = self._smtp.getreply()
            outcomes.append(_refusal(reply) or f"relayed: {_text(reply[1])[1]}")
        return outcomes if self._lmtp else outcomes * accepted

    def _missing(self) -> Reject | None:
        """The refusal of a message that the next hop can't take as it is."""
        envelope, has = self._envelope, self._smtp.has_extn
        if envelope.smtputf8 and not has("smtputf8"):
            # RFC 6531 section 3.5
            return Reject(550, "The next hop takes no internationalized mail", "5.6.7")
        if envelope.body_type == "binarymime":
            return Reject(554, "Binary content can't be passed on", "5.6.1")
        if self._content.is_8bit and not has("8bitmime"):
            # RFC 6152 section 3: it may not be sent, and we don't convert.
            return Reject(554, "The next hop takes no 8-bit content", "5.6.3")
        if envelope.require_tls and not has("requiretls"):
            # RFC 8689 section 4.2.1
            return Reject(550, "REQUIRETLS needed, the next hop hasn't got it", "5.7.30")
        if envelope.hold_for is not None or envelope.hold_until is not None:
            return Reject(554, "A message to be held can't be passed on", "5.3.3")
        return None

    def _mail_parameters(self) -> Iterator[str]:
        envelope, has = self._envelope, self._smtp.has_extn
        if has("size"):
            yield f"SIZE={self._content.size}"
        if self._content.is_8bit or (envelope.body_type == "8bitmime" and has("8bitmime")):
            yield "BODY=8BITMIME"
        if envelope.smtputf8:
            yield "SMTPUTF8"
        if envelope.require_tls:
            yield "REQUIRETLS"
        if envelope.priority is not None and has("mt-priority"):
            yield f"MT-PRIORITY={envelope.priority}"
        if has("dsn"):
            if envelope.dsn.ret is not None:
                yield f"RET={envelope.dsn.ret}"
            if envelope.dsn.envid is not None:
                yield f"ENVID={_xtext(envelope.dsn.envid)}"

    def _rcpt_parameters(self, address: Address) -> Iterator[str]:
        if self._smtp.has_extn("dsn"):
            if address.dsn.notify is not None:
                yield f"NOTIFY={','.join(address.dsn.notify)}"
            if address.dsn.orcpt is not None and address.dsn.orcpt.isascii():
                yield f"ORCPT={_xtext(address.dsn.orcpt)}"


def _refusal(reply: tuple[int, bytes]) -> Reject | None:
    """What the next hop's *reply* refuses, as our reply; None where it accepts."""
    code, octets = reply
    if 200 <= code < 300:
        return None
    if not 400 <= code < 600:
        return _unexpected(code)
    enhanced, text = _text(octets)
    if code == 421:
        code = 451  # its connection ends, not ours
    if enhanced is None or enhanced[0] != str(code)[0]:
        enhanced = "4.0.0" if code < 500 else "5.0.0"
    return Reject(code, text or "Refused by the next hop", enhanced)


def _unexpected(code: int) -> Reject:
    return Reject(451, f"The next hop answered {code}", "4.3.0")


def _text(octets: bytes) -> tuple[str | None, str]:
    """The enhanced status code of a reply, and its text in one line."""
    line = " ".join(octets.decode("utf-8", "replace").split())
    found = _ENHANCED.match(line)
    if found is not None:
        line = " ".join(line.replace(found[1], "").split())
    line = "".join(char if " " <= char <= "~" else "?" for char in line)
    return None if found is None else found[1], line[:400]


def _temporary_first(refusals: Sequence[Reject]) -> Reject:
    return next((one for one in refusals if one.code < 500), refusals[0])


def _xtext(text: str) -> str:
    """RFC 3461 section 4"""
    return "".join(
        char
        if "!" <= char <= "~" and char not in "+="
        else "".join(f"+{o:02X}" for o in char.encode())
        for char in text
    )


def _id(session: Session) -> str:
    return f"{session.id}-{session.transaction}"


def _is_alive(smtp: smtplib.SMTP) -> bool:
    try:
        return smtp.rset()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _quit(smtp: smtplib.SMTP) -> None:
    try:
        smtp.putcmd("quit")  # without waiting for the answer
    except (OSError, smtplib.SMTPException):
        pass
    smtp.close()


__all__ = ["RelayFailure", "RelayStore"]
