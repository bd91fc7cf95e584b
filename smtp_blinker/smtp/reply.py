"""Replies as values: checked and encoded once, and always well-formed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any, Final

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets with its code and CRLF.
MAX_REPLY_LINE: Final = 512

# RFC 4954 section 4: a line of an AUTH exchange may have 12288 octets with its CRLF.
MAX_AUTH_LINE: Final = 12288

# Control characters, line separators and everything else that isn't printable ASCII. No text of a
# hook, a client or a DNS answer may end a line or start an escape sequence.
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")

# The default enhanced status codes (RFC 3463) for reply codes.
_DEFAULT_DETAIL: Final[dict[int, str]] = {
    421: "4.3.2",
    450: "4.2.1",
    451: "4.3.0",
    452: "4.3.1",
    454: "4.7.0",
    455: "4.5.4",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
    521: "5.3.2",
    530: "5.7.0",
    534: "5.7.9",
    535: "5.7.8",
    538: "5.7.11",
    550: "5.7.1",
    551: "5.1.6",
    552: "5.3.4",
    553: "5.1.3",
    554: "5.7.1",
    555: "5.5.4",
    556: "5.1.10",
}
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


def printable(text: str) -> str:
    """*text* in printable ASCII: other characters become a space or question marks."""

    if text.isascii() and text.isprintable():
        return text

    def replace(found: re.Match[str]) -> str:
        run = found.group()
        return " " if run.isspace() or not run.isprintable() else "?" * len(run)

    return _UNPRINTABLE.sub(replace, text)


class Reply:
    """One SMTP reply: code, enhanced status code, text, and the octets of both forms.

    *code* is 200 to 599. *enhanced* is a code of RFC 3463 whose class is that of *code*
    (RFC 2034 section 4), or None for replies without one: the greeting, 334, 354 and those to HELO
    and EHLO. *text* is one line, or a tuple of lines for a multi-line reply. Unprintable characters
    are replaced and long lines are wrapped, so that no text can break a reply.

    Raises ValueError for a code out of range or an enhanced code of another class.
    """

    __slots__ = ("code", "enhanced", "plain", "text", "wire")

    def __init__(self, code: int, text: str | tuple[str, ...], enhanced: str | None = None) -> None:
        if not isinstance(code, int) or not 200 <= code <= 599:
            raise ValueError(f"a reply code must be a number from 200 to 599, not {code!r}")
        if enhanced is not None and (
            not _ENHANCED.fullmatch(enhanced) or enhanced[0] != str(code)[0]
        ):
            raise ValueError(
                f"the enhanced status code of a {code} reply looks like "
                f'"{str(code)[0]}.x.x" (RFC 3463), not {enhanced!r}'
            )
        lines = [printable(line) for line in ((text,) if isinstance(text, str) else text)]
        self.code = code
        self.enhanced = enhanced
        self.text = "\n".join(lines)
        #: The octets without the enhanced status code, for sessions without ENHANCEDSTATUSCODES.
        self.plain = _encode(code, "", lines)
        #: The octets with the enhanced status code.
        self.wire = _encode(code, f"{enhanced} ", lines) if enhanced else self.plain

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    def __str__(self) -> str:
        return self.wire.decode("ascii").rstrip().replace("\r\n", "\n")

    def __repr__(self) -> str:
        return f"<Reply {self.wire.decode('ascii').rstrip()!r}>"


def _encode(code: int, prefix: str, lines: list[str]) -> bytes:
    """The octets of a reply with these printable *lines*."""
    # A challenge is one line.
    longest = MAX_AUTH_LINE if code == 334 else MAX_REPLY_LINE
    room = longest - 6 - len(prefix)
    if len(lines) == 1 and len(lines[0]) <= room:  # as most replies have
        return f"{code} {prefix}{lines[0]}\r\n".encode("ascii")
    wrapped = [part for line in lines for part in _wrap(line, room)]
    last = len(wrapped) - 1
    # RFC 2034 section 4: each line of a multi-line reply has the enhanced code.
    return "".join(
        f"{code}{' ' if number == last else '-'}{prefix}{line}\r\n"
        for number, line in enumerate(wrapped)
    ).encode("ascii")


def _wrap(line: str, room: int) -> list[str]:
    if len(line) <= room:
        return [line]
    parts = []
    while len(line) > room:
        cut = line.rfind(" ", 0, room)
        cut = cut if cut > 0 else room
        parts.append(line[:cut])
        line = line[cut:].lstrip(" ")
    return [*parts, line]


class Refusal(Exception):
    """An exception that refuses, with the reply. Programs raise the subclass `Reject`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply)
        self.reply = reply


class Reject(Refusal):
    """A hook raises it to refuse with this reply.

    *code* is 400 to 599, by default 554; 421 also ends the connection. The default of *enhanced*
    depends on *code*. Raises ValueError for other codes or an enhanced code of another class.
    """

    def __init__(
        self, code: int = 554, text: str = "Transaction failed", enhanced: str | None = None
    ) -> None:
        if not isinstance(code, int) or not 400 <= code <= 599:
            raise ValueError(f"Reject takes a reply code from 400 to 599, not {code!r}")
        if enhanced is None:
            enhanced = _DEFAULT_DETAIL.get(code, f"{code // 100}.0.0")
        super().__init__(Reply(code, text, enhanced))

    @property
    def code(self) -> int:
        return self.reply.code

    @property
    def text(self) -> str:
        return self.reply.text

    @property
    def enhanced(self) -> str | None:
        return self.reply.enhanced

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced} {self.text}"


class AuthenticationFailed(Reject):
    """`on_auth` raises it if the credentials are wrong.

    *data* is the JSON object that the server sends to an XOAUTH2 or OAUTHBEARER client before the
    535, for example ``{"status": "401", "schemes": "bearer"}``; other mechanisms ignore it. Raises
    TypeError for data that JSON can't represent, and ValueError if it is too long for a challenge.
    """

    def __init__(
        self,
        text: str = "Authentication credentials invalid",
        *,
        data: Mapping[str, Any] | None = None,
        code: int = 535,
        enhanced: str | None = None,
    ) -> None:
        super().__init__(code, text, enhanced)
        self.data = dict(data or {})
        #: *data* as JSON, the challenge of a 334 reply. Made here, so that the program sees errors.
        self.challenge = json.dumps(self.data).encode()
        if len(base64.b64encode(self.challenge)) > MAX_AUTH_LINE - 6:
            raise ValueError("data is too long for a challenge: about 9 KB of JSON at most")


# The standing replies, made once.
OK = Reply(250, "OK", "2.0.0")
FLUSHED = Reply(250, "Flushed", "2.0.0")
SENDER_OK = Reply(250, "Accepted", "2.1.0")
RECIPIENT_OK = Reply(250, "Accepted", "2.1.5")
MESSAGE_OK = Reply(250, "OK: message queued", "2.0.0")
BYE = Reply(221, "Bye", "2.0.0")
START_CONTENT = Reply(354, "End data with <CR><LF>.<CR><LF>")
CHUNK_OK = Reply(250, "Chunk received", "2.0.0")
START_TLS = Reply(220, "Ready to start TLS", "2.0.0")
CANNOT_VERIFY = Reply(252, "Cannot verify the user, but will try to deliver", "2.5.0")
AUTHENTICATED = Reply(235, "Authentication successful", "2.7.0")

NOT_RECOGNIZED = Reply(500, "Command not recognized", "5.5.2")
BINARY = Reply(500, "TLS or another binary protocol where a command is expected", "5.5.2")
BARE_NEWLINE = Reply(500, "Bare CR or LF in the command; lines end with CRLF", "5.5.2")
BAD_CHUNK = Reply(501, "Syntax: BDAT size [LAST]", "5.5.4")
BAD_CHUNK_SIZE = Reply(501, "BDAT without a size, which is up to 18 digits", "5.5.4")
LINE_TOO_LONG = Reply(500, "Line too long", "5.5.2")
RESPONSE_TOO_LONG = Reply(500, "Authentication response too long", "5.5.6")
NOT_ASCII = Reply(500, "Only ASCII characters are allowed here", "5.5.2")
CONTROL_CHARACTER = Reply(501, "Control characters are not allowed", "5.5.4")
NO_ARGUMENT = Reply(501, "This command takes no argument", "5.5.4")
NOT_IMPLEMENTED = Reply(502, "Command not implemented", "5.5.1")
HELLO_FIRST = Reply(503, "Send HELO or EHLO first", "5.5.1")
BAD_SEQUENCE = Reply(503, "Bad sequence of commands", "5.5.1")
MAIL_FIRST = Reply(503, "Need MAIL command", "5.5.1")
RECIPIENT_FIRST = Reply(503, "Need RCPT command", "5.5.1")
NESTED_MAIL = Reply(503, "Nested MAIL command", "5.5.1")
NOT_DELIVERED_BARE_NEWLINE = Reply(
    550, "Bare CR or LF in the message; lines end with CRLF", "5.5.2"
)
LOOP_DETECTED = Reply(554, "Too many Received header fields, this looks like a loop", "5.4.6")
TOO_MANY_RECIPIENTS = Reply(452, "Too many recipients", "4.5.3")
INSUFFICIENT_STORAGE = Reply(452, "Insufficient system storage, try again later", "4.3.1")
TOO_MANY_DOMAINS = Reply(452, "Too many recipient domains", "4.5.3")

INTERNAL_ERROR = Reply(421, "Internal error, closing connection", "4.3.0")
LOCAL_ERROR = Reply(451, "Local error in processing, try again later", "4.3.0")
SHUTTING_DOWN = Reply(421, "Server shutting down", "4.3.2")
TIMED_OUT = Reply(421, "Timeout - closing connection", "4.4.2")
TOO_MANY_CLIENTS = Reply(421, "Too many connected clients, try again later", "4.3.2")
TOO_MANY_FROM_ADDRESS = Reply(421, "Too many connections from your address", "4.7.0")
TOO_MANY_ERRORS = Reply(421, "Too many errors", "4.7.0")
TOO_MANY_UNRECOGNIZED = Reply(421, "Too many unrecognized commands", "4.7.0")
TOO_MANY_JUNK = Reply(421, "Too many commands without a message", "4.7.0")
TOO_MANY_UNAUTHENTICATED = Reply(421, "Too many unauthenticated commands", "4.7.0")
TOO_MANY_AUTH_FAILURES = Reply(421, "Too many authentication failures", "4.7.0")
TOO_MANY_REFUSED_RECIPIENTS = Reply(421, "Too many refused recipients", "4.7.0")
TOO_MANY_MESSAGES = Reply(421, "Too many messages in one connection", "4.7.0")
HTTP_NOT_ALLOWED = Reply(421, "HTTP requests not allowed", "4.7.0")
CONTENT_NOT_EXPECTED = Reply(421, "Message content where a command is expected", "4.7.0")
TALKS_TOO_SOON = Reply(421, "You talk too soon", "4.7.0")

#: The 421 replies to misbehaviour of a client; the reason of `disconnect` is "abuse".
ABUSE = frozenset(
    (
        TOO_MANY_FROM_ADDRESS,
        TOO_MANY_ERRORS,
        TOO_MANY_UNRECOGNIZED,
        TOO_MANY_JUNK,
        TOO_MANY_UNAUTHENTICATED,
        TOO_MANY_AUTH_FAILURES,
        TOO_MANY_REFUSED_RECIPIENTS,
        TOO_MANY_MESSAGES,
        HTTP_NOT_ALLOWED,
        CONTENT_NOT_EXPECTED,
        TALKS_TOO_SOON,
    )
)
