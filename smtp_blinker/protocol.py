"""The order of things, and lines out of octets: no socket, no clock, no hook.

Everything that moves the state of a session stands in `SEQUENCE`. Only a positive reply moves
it, which is for the connection to do, and a line is given out only after the last one was
answered, so pipelined commands (RFC 2920) wait in the buffer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final

from . import reply
from .content import ContentDecoder
from .reply import MAX_AUTH_LINE, Reply

_BDAT: Final = re.compile(rb"BDAT\b", re.I)
_HTTP_METHOD: Final = rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT|PATCH|PRI) "
_HTTP_START: Final = re.compile(_HTTP_METHOD, re.I)
HTTP_REQUEST: Final = re.compile(_HTTP_METHOD + rb".* HTTP/[0-9.]+ *", re.I | re.S)


_TLS_RECORD: Final = b"\x16\x03"


def is_binary(line: bytes) -> bool:
    """Whether *line* is of a binary protocol: no SMTP follows it, whatever octets it has."""
    return b"\0" in line or line.startswith(_TLS_RECORD)


class State(IntEnum):
    """Where a session is; from AUTH on, what comes next on the wire is no command."""

    START = 0  # nobody said HELO
    READY = 1
    MAIL = 2  # a reverse-path was accepted
    RCPT = 3  # and a forward-path
    AUTH = 4  # after a 334: a response of a SASL exchange comes next
    CONTENT = 5  # content comes next
    UPGRADE = 6  # a TLS handshake comes next
    CLOSED = 7


# In CPython 3.11 an Enum gives out its members slowly.
_READY: Final = State.READY
_ANY = (State.START, State.READY, State.MAIL, State.RCPT)


#: Known and not implemented: 502 (RFC 5321 section 4.2.4) instead of 500.
NOT_IMPLEMENTED_VERBS: Final = ("TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML")


def _stay(*states: State) -> dict[State, State]:
    return {state: state for state in states}


#: verb -> state -> state after a positive reply; a state that isn't there is a 503.
SEQUENCE: Final[Mapping[str, Mapping[State, State]]] = {
    # RFC 5321 section 4.1.4: EHLO is good at any time and resets the transaction.
    "HELO": dict.fromkeys(_ANY, State.READY),
    "EHLO": dict.fromkeys(_ANY, State.READY),
    "LHLO": dict.fromkeys(_ANY, State.READY),  # RFC 2033 section 4.1
    "MAIL": {State.READY: State.MAIL},
    "RCPT": {State.MAIL: State.RCPT, State.RCPT: State.RCPT},
    "DATA": {State.RCPT: State.CONTENT},
    "RSET": {
        State.START: State.START,
        State.READY: State.READY,
        State.MAIL: State.READY,
        State.RCPT: State.READY,
    },
    "NOOP": _stay(*_ANY),
    "HELP": _stay(*_ANY),
    "VRFY": _stay(*_ANY),
    "QUIT": dict.fromkeys(_ANY, State.CLOSED),
    # RFC 3207 section 4; not inside a transaction, whose state it would throw away.
    "STARTTLS": {State.START: State.UPGRADE, State.READY: State.UPGRADE},
    # RFC 4954 section 4: not during a mail transaction. Once the exchange has ended: READY.
    "AUTH": {State.READY: State.AUTH},
    # Postfix's XCLIENT_README: the session is then as if it had just been greeted.
    "XCLIENT": {State.START: State.START, State.READY: State.START},
    "XFORWARD": {State.START: State.START, State.READY: State.READY},
    **{verb: _stay(*_ANY) for verb in ("EXPN", "BDAT", *NOT_IMPLEMENTED_VERBS)},
}

_MAIL_VERBS = frozenset({"MAIL", "RCPT", "DATA", "AUTH"})


def out_of_sequence(verb: str, state: State) -> Reply:
    """The 503 for a verb that `SEQUENCE` has no row for in *state*."""
    if state is State.START and verb in _MAIL_VERBS:
        return reply.HELLO_FIRST
    if verb == "MAIL":
        return reply.NESTED_MAIL
    if verb == "RCPT" or (verb == "DATA" and state is State.READY):
        return reply.MAIL_FIRST
    if verb == "DATA":
        return reply.RECIPIENT_FIRST
    return reply.BAD_SEQUENCE


class Problem(Enum):
    """What `Protocol.next_line` gives instead of a line."""

    NEED_DATA = "nothing whole has arrived yet"
    TOO_LONG = "a line was longer than the limit and has been dropped"
    RESPONSE_TOO_LONG = "a line of AUTH was longer than the limit and has been dropped"
    BARE_NEWLINE = "a CR or LF stood alone in a line, which has been dropped"
    HTTP = "a line that was too long or had a CR or LF alone began as an HTTP request does"
    BINARY = "a line of TLS or another binary protocol, which is no SMTP"
    BROKEN_CHUNK = "a BDAT line was too long or had a CR or LF alone; its chunk follows"


NEED_DATA: Final = Problem.NEED_DATA


class Protocol:
    """What has arrived and was not looked at yet, and where the session is.

    *max_line* is in octets with the line's CRLF. *policy* is the bare_newline option: with
    "reject" only CRLF ends a line (RFC 5321 section 2.3.8), with the others LF does too.
    Memory: a line that passes the limit is dropped as it arrives, never kept.
    """

    __slots__ = (
        "_longest",
        "_max_line",
        "_position",
        "_searched",
        "_skipping",
        "_strict",
        "buffer",
        "policy",
        "state",
    )

    def __init__(self, max_line: int, policy: str) -> None:
        #: Octets that were not looked at, and perhaps some before them that were.
        self.buffer = b""
        self._position = 0
        self._searched = 0
        #: What is wrong with the line that is being dropped.
        self._skipping: Problem | None = None
        #: What no line passes unexamined; with a larger *max_line* those of AUTH still stop here.
        self._max_line = min(max_line, MAX_AUTH_LINE)
        self._longest = max_line
        self.set_policy(policy)
        self.state = State.START

    def set_policy(self, policy: str) -> None:
        self.policy = policy
        self._strict = policy == "reject"

    def receive_data(self, data: bytes) -> None:
        """Store what arrived; `next_line` or `start_content` will look at it."""
        if self._position:
            self._searched -= self._position
            self.buffer = self.buffer[self._position :] + data
            self._position = 0
        else:
            self.buffer += data

    def next_line(self) -> bytes | Problem:
        """The next line without its CRLF, or what is wrong. Raises nothing for any input."""
        buffer = self.buffer
        start = self._position
        end = buffer.find(b"\r\n" if self._strict else b"\n", self._searched)
        if end < 0:
            return self._incomplete()
        if self._strict:
            after = end + 2
        else:
            after = end + 1
            if end > start and buffer[end - 1] == 13:
                end -= 1
        line = buffer[start:end]
        if after == len(buffer):
            self.buffer = b""
            self._position = self._searched = 0
        else:
            self._position = self._searched = after
        if self._skipping is not None:
            problem, self._skipping = self._skipping, None
            return problem
        if after - start > self._max_line:
            too_long = self._too_long(line, after - start)
            if too_long is not None:
                return too_long
        if b"\n" in line or b"\r" in line:
            return self._broken(line, Problem.BARE_NEWLINE)
        return line

    def _broken(self, line: bytes, problem: Problem) -> Problem:
        """*problem*, or why what follows *line* can't be commands."""
        if self.state is State.AUTH:
            return problem
        if is_binary(line):
            return Problem.BINARY
        if _BDAT.match(line):
            return Problem.BROKEN_CHUNK
        return Problem.HTTP if _HTTP_START.match(line) else problem

    def _incomplete(self) -> Problem:
        length = len(self.buffer) - self._position
        if self._skipping is None and self.state is not State.AUTH and self.begins_with_tls:
            return Problem.BINARY
        if length > self._max_line and self._skipping is None:
            self._skipping = self._too_long(self._unread(), length)
        if self._skipping is not None:
            # The last octet may be the CR of the line's end.
            self.buffer = self.buffer[-1:]
            self._position = self._searched = 0
        else:
            self._searched = max(len(self.buffer) - 1, self._position)
        return Problem.NEED_DATA

    def _too_long(self, line: bytes, length: int) -> Problem | None:
        """What is wrong with a line of more than the limit; those of AUTH have their own."""
        if self.state is State.AUTH or line[:5].upper() == b"AUTH ":
            return Problem.RESPONSE_TOO_LONG if length > MAX_AUTH_LINE else None
        if length <= self._longest:
            return None
        return self._broken(line, Problem.TOO_LONG)

    def _unread(self) -> bytes:
        return self.buffer[self._position :]

    @property
    def begins_with_tls(self) -> bool:
        """Whether what waits is a TLS handshake record (RFC 8446 section 5.1), not a command."""
        return self.buffer.startswith(_TLS_RECORD, self._position)

    @property
    def ends_with_bare_newline(self) -> bool:
        """Whether all that waits is a line that ends with a bare LF where only CRLF would do."""
        return self._strict and self.buffer.endswith(b"\n")

    def drop_bare_line(self) -> Problem:
        """Drop what `ends_with_bare_newline` tells of: the client waits for an answer to it."""
        problem = self._skipping or self._broken(self._unread(), Problem.BARE_NEWLINE)
        self.buffer = b""
        self._position = self._searched = 0
        self._skipping = None
        return problem

    @property
    def has_data(self) -> bool:
        """Whether anything has arrived that was not looked at."""
        return self._position < len(self.buffer)

    def start_content(self) -> tuple[ContentDecoder, bytes]:
        """A decoder for the message that 354 asked for, and what of it has arrived already."""
        return ContentDecoder(self.policy), self.take_all() if self.buffer else b""

    def end_content(self, rest: bytes) -> None:
        """The content has ended; *rest* is what followed it."""
        self.buffer = rest
        self.state = _READY

    def take_all(self) -> bytes:
        """Everything unread, which is then gone from here."""
        data = self._unread()
        self.buffer = b""
        self._position = self._searched = 0
        self._skipping = None
        return data
