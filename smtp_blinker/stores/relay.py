"""Sends each message to the next hop by SMTP or LMTP before the client gets 250."""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from ..connection.spool import Spool
from ..session import Address, Envelope, Session
from ..smtp.reply import Reject
from ..trace import BEGINNING, header_address, received, separator
from .circuit import Circuit, Deadline, check_timeout
from .next_hop import Connection, NextHop
from .pool import Pool
from .received import PIECE, Source
from .whole import whole_message

#: Connections to the next hop at a time.
MOST: Final = 10
_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")
_END_OF_HEADER: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
#: The ids in Received fields that this store writes.
_OUR_ID: Final = re.compile(rb"\bid ([a-z2-7]{16}-[0-9]+)")
_ENHANCED: Final = re.compile(r"([245]\.\d{1,3}\.\d{1,3})[ ]?")

Outcome = str | Reject


class RelayFailure(Exception):
    """The next hop was unreachable or ended the transaction."""


class _Ending(Exception):
    """The next hop ends a used connection by 421 to the first command of a message."""


class RelayStore:
    """Hands each message to the next hop: ``SMTPServer(address, on_data=RelayStore(…))``.

    *url* is ``smtp://HOST:PORT`` (port 25), ``smtps://HOST:PORT`` (TLS from the first octet, 465)
    or ``lmtp://HOST:PORT`` (24), with ``USER:PASSWORD@`` for AUTH; ``lmtp:///PATH`` is a UNIX
    socket.
    STARTTLS with a verified certificate is used if the next hop offers it and isn't on loopback, or
    offers AUTH only then; with *starttls* True it is required, with False it isn't used. AUTH
    without TLS is only sent to loopback. *name* is this host's name in EHLO and the Received field.
    *timeout* is the number of seconds for one message, from the connection to the last reply,
    greater than 0. There is no queue: 250 means that the next hop has accepted the message for
    every recipient.

    If the next hop refuses a recipient, nothing is sent, and our reply is its refusal (a 4yz one if
    there is any). But if our server speaks LMTP, each recipient has its own reply, and the accepted
    recipients get the message. If the next hop speaks LMTP and refuses some recipients after the
    content, our SMTP client gets the refusal (again a 4yz one if there is any), although the other
    recipients have the message.

    8BITMIME, SIZE, SMTPUTF8, DSN, REQUIRETLS and MT-PRIORITY are passed on if the next hop supports
    them. If the message needs one that the next hop lacks, it is refused: SMTPUTF8 (550 5.6.7),
    8BITMIME for 8-bit content (554 5.6.3), REQUIRETLS (550 5.7.30). Messages with BINARYMIME and
    FUTURERELEASE aren't passed on (554). If the next hop supports PIPELINING, it gets MAIL and RCPT
    together. A bare CR or LF in the content becomes CRLF. A Received field is added. By its id this
    store recognises a message that comes back while the next hop has it (554 5.4.6); a server
    detects other loops by the number of these fields. Connections are kept open for reuse.

    If the next hop is unreachable, slow or fails, the hook raises OSError, `smtplib.SMTPException`
    or `RelayFailure`: 451 4.3.0 and an `error` event. After three failures in a row mail is refused
    at once for five seconds, with ``server.use(store)`` at MAIL. Raises ValueError for a wrong
    *url* or *timeout*.
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
        #: Ids of the messages that are on their way to the next hop.
        self._under_way: set[bytes] = set()

    #: The name in messages of `check`.
    engine: Final = "The next hop"
    #: For the page: `check` uses connections that belong to the greenlets of this thread.
    needs_thread: Final = False

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse MAIL while the next hop is unreachable."""
        self.circuit.check()

    def __call__(self, stream: Source, session: Session) -> str | list[Outcome]:
        self.circuit.check()
        by_recipient = session.opening_command == "LHLO"
        id = _id(session)
        content = _Content(received(session, self.name, id))
        with (
            whole_message(stream, session, content.look) as content.spool,
            self.circuit.attempt() as attempt,
            self._watched(id, content),
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

    @contextmanager
    def _watched(self, id: str, content: _Content) -> Iterator[None]:
        """Raise `Reject` if this is a message that waits for the end of this block in another call.

        Each pass of such a loop holds a connection until the next one ends. So it would wait for a
        free one before the number of Received fields shows the loop.
        """
        if not self._under_way.isdisjoint(content.our_ids()):
            raise Reject(554, "The message has come back, this is a loop", "5.4.6")
        own = id.encode()
        self._under_way.add(own)
        try:
            yield
        finally:
            self._under_way.discard(own)

    def _hand_over(
        self, content: _Content, envelope: Envelope, by_recipient: bool
    ) -> list[Outcome]:
        with self._deadline():
            while True:
                try:
                    with self._pool.use() as smtp:
                        return _Transaction(smtp, content, envelope, by_recipient).run()
                except _Ending:
                    pass  # try again on another connection

    def _deadline(self) -> Deadline:
        return Deadline(self.timeout, self._late)

    def _late(self) -> RelayFailure:
        return RelayFailure(f"{self._hop.shown} did not take a message within {self.timeout:g} s")

    def check(self) -> None:
        """For the page: raise if mail can't be delivered now. It sends no message.

        Raises `Reject` (451) while mail is refused because of failures, and as for a message if the
        next hop doesn't begin a session.
        """
        self.circuit.check()
        with self._deadline(), self._pool.use():
            pass

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()


class _Content:
    """A whole message, stored before it is sent to the next hop, with a Received field on top."""

    #: The message itself.
    spool: Spool

    def __init__(self, received: bytes) -> None:
        self._received = received
        #: Whether there are octets above 127.
        self.is_8bit = not received.isascii()

    def look(self, piece: bytes) -> None:
        """Check a piece of the message for 8-bit octets when it arrives."""
        self.is_8bit = self.is_8bit or not piece.isascii()

    @property
    def size(self) -> int:
        return len(self._received) + self.spool.size

    def our_ids(self) -> list[bytes]:
        """The ids in the Received fields on top."""
        return _OUR_ID.findall(_END_OF_HEADER.split(self.spool.read(0, PIECE), maxsplit=1)[0])

    def pieces(self) -> Iterator[bytes]:
        """The octets for DATA: lines with CRLF and dot-stuffing, without the end of data."""
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
        was_used, self._smtp.was_used = self._smtp.was_used, True
        replies: list[tuple[int, bytes]] = []
        for group in self._smtp.groups(self._commands()):
            replies += group
            reply = replies[0]
            if reply[0] == 421 and was_used:
                # This isn't about the message: the connection has transferred enough of them.
                raise _Ending
            refusal = _refusal(reply)
            if refusal is not None:
                self._smtp.rset()
                return [refusal] * len(recipients)
        outcomes = [_refusal(reply) for reply in replies[1:]]
        refused = [one for one in outcomes if one is not None]
        if refused and (len(refused) == len(outcomes) or not self._by_recipient):
            self._smtp.rset()
            return [one or _temporary_first(refused) for one in outcomes]
        accepted = iter(self._send(len(outcomes) - len(refused)))
        return [next(accepted) if one is None else one for one in outcomes]

    def _commands(self) -> list[str]:
        """MAIL, and RCPT for each recipient."""
        sender = self._envelope.mail_from or Address("")
        commands = [self._command("MAIL FROM:", sender, self._mail_parameters())]
        for one in self._envelope.rcpt_to:
            commands.append(self._command("RCPT TO:", one, self._rcpt_parameters(one)))
        return commands

    def _command(self, verb: str, address: Address, parameters: Iterator[str]) -> str:
        path = header_address(address.address, self._envelope)
        return " ".join([f"{verb}<{path}>", *parameters])

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
        """The refusal of a message for which the next hop lacks an extension, or None."""
        envelope, has = self._envelope, self._smtp.has_extn
        if envelope.smtputf8 and not has("smtputf8"):
            # RFC 6531 section 3.5
            return Reject(550, "The next hop takes no internationalized mail", "5.6.7")
        if envelope.body_type == "binarymime":
            return Reject(554, "Binary content can't be passed on", "5.6.1")
        if self._content.is_8bit and not has("8bitmime"):
            # RFC 6152 section 3: don't send it without 8BITMIME. This store doesn't convert it.
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
            if address.dsn.orcpt is not None:
                yield f"ORCPT={_orcpt(address.dsn.orcpt)}"


def _refusal(reply: tuple[int, bytes]) -> Reject | None:
    """Our refusal for the next hop's *reply*; None if it accepts."""
    code, octets = reply
    if 200 <= code < 300:
        return None
    if not 400 <= code < 600:
        return _unexpected(code)
    enhanced, text = _text(octets)
    if code == 421:
        code = 451  # only the connection to the next hop ends
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


def _orcpt(text: str) -> str:
    """RFC 3461 section 4.2, and RFC 6533 section 3 for an address of the type utf-8."""
    kind, _, address = text.partition(";")
    if address.isascii() or kind.lower() != "utf-8":
        return _xtext(text)
    # In this form the next hop needs no SMTPUTF8.
    return f"{kind};" + _escaped(address, lambda char: f"\\x{{{ord(char):X}}}")


def _xtext(text: str) -> str:
    """RFC 3461 section 4"""
    return _escaped(text, lambda char: "".join(f"+{octet:02X}" for octet in char.encode()))


def _escaped(text: str, escape: Callable[[str], str]) -> str:
    return "".join(
        char if "!" <= char <= "~" and char not in "+=" else escape(char) for char in text
    )


def _id(session: Session) -> str:
    return f"{session.id}-{session.transaction}"


def _is_alive(smtp: smtplib.SMTP) -> bool:
    try:
        return smtp.rset()[0] == 250
    except (OSError, smtplib.SMTPException):
        return False


def _quit(smtp: smtplib.SMTP) -> None:
    # Without waiting: for an answer, or for a next hop that has stopped reading. The deadline may
    # be over.
    if smtp.sock is not None:
        smtp.sock.settimeout(0)
        with suppress(OSError, smtplib.SMTPException):
            smtp.putcmd("quit")
    smtp.close()


__all__ = ["RelayFailure", "RelayStore"]
