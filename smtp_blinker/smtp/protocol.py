"""Turns octets into events. Only this module parses commands and changes the state of a session.

It has no socket, no clock and no hook. `next_event` returns the next event only after `answered`
has received the reply to the previous one, so pipelined commands (RFC 2920) wait in the buffer.
Only a positive reply changes the state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from . import reply
from .content import ContentDecoder
from .lines import (
    NEED_DATA,
    TLS_RECORD,
    LineReader,
    Problem,
    begins_as_bdat,
    is_binary,
    is_header_field,
    is_http_request,
)
from .reply import Reply
from .verbs import VERBS, State, Verb

#: Octets of the longest line that is cached, and what is asked of a socket where a command is
#: expected: larger objects bypass CPython's own allocator.
MAX_PLAIN: Final = 479
_PLAIN: Final = re.compile(rb"([A-Za-z]+)(?: ([ -~]*[!-~])|)\r\n")

#: C0 controls, DEL, C1 controls, and other characters that end a line. `paths` checks the other
#: unprintable ones, because some scripts' domain names need a ZWNJ.
_CONTROL: Final = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029]")

_BROKEN_LINES: Final = {
    Problem.TOO_LONG: reply.LINE_TOO_LONG,
    Problem.RESPONSE_TOO_LONG: reply.RESPONSE_TOO_LONG,
    Problem.BARE_NEWLINE: reply.BARE_NEWLINE,
    Problem.BINARY: reply.BINARY,
    Problem.HTTP: reply.HTTP_NOT_ALLOWED,
    Problem.CONTENT: reply.CONTENT_NOT_EXPECTED,
    Problem.BROKEN_CHUNK: reply.NOT_RECOGNIZED,
}
#: Why the connection ends with the reply to a broken line.
_ENDS: Final = {Problem.BINARY: "abuse", Problem.BROKEN_CHUNK: "refused"}

#: RFC 3030 section 2. Python raises for a number of thousands of digits, so leave out the zeros.
_CHUNK: Final = re.compile(r"0*([0-9]{1,18})( LAST)?", re.I | re.ASCII)
#: The size in a BDAT command that is malformed otherwise.
_CHUNK_SIZE: Final = re.compile(r" *0*([0-9]{1,18})(?![^ ])", re.ASCII)

_AUTH: Final = VERBS[b"AUTH"]
_BDAT: Final = VERBS[b"BDAT"]

# The states that every command uses: in CPython 3.11 access to an Enum's members is slow.
_STATE_READY: Final = State.READY
_STATE_AUTH: Final = State.AUTH


@dataclass(slots=True, eq=False)
class Command:
    """A command with a known verb. Don't change it: the cache returns the same object many times.

    It isn't frozen, because creating it would then take as long as reading the rest of its line.
    """

    verb: Verb
    #: Blanks at its end are not part of it (RFC 5321 section 4.1.1).
    argument: str
    #: The refusal of the argument's characters; None if they are allowed.
    fault: Reply | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """A line inside an AUTH exchange, without its CRLF."""

    line: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Fault:
    """A line that is neither a command nor a response."""

    #: The reply to it.
    reply: Reply
    #: A description for the log, because the line itself may contain a secret.
    seen: str
    #: Why the connection ends after the reply; "" if it doesn't.
    ends: str = ""
    #: Whether it is a whole line with an unknown verb.
    unrecognized: bool = False
    #: The verb and the argument, if they are known.
    verb: Verb | None = None
    argument: str = ""


Event = Command | Response | Fault
NeedData = Literal[Problem.NEED_DATA]


# Clients repeat the same lines: those without an argument, and those with the same few addresses.
@lru_cache(maxsize=1024)
def plain_command(line: bytes) -> Command:
    """The command in a usual *line*.

    That is: a known verb, with an argument only if it takes one, in printable ASCII, no blank but
    CRLF at the end, MAX_PLAIN octets at most. LookupError for anything else, and for verbs that
    aren't `cacheable`.
    """
    found = _PLAIN.fullmatch(line)
    if found is None or len(line) > MAX_PLAIN:
        raise LookupError
    name, argument = found.groups(b"")
    verb = VERBS[name.upper()]
    if not verb.cacheable or (argument and not verb.takes_argument):
        raise LookupError
    return Command(verb, argument.decode())


class Protocol(LineReader):
    """The octets and the state of one session.

    *max_line* and *policy*: see `LineReader`. `next_event` raises nothing for any input.
    """

    # It inherits from the reader of lines, and its state is not a property: for a small message,
    # each call would cost more than its work.
    __slots__ = ("_cacheable", "_verb", "chunk_is_last", "chunk_left", "state")

    def __init__(self, max_line: int, policy: str) -> None:
        super().__init__(max_line, policy)
        self._cacheable = min(max_line, MAX_PLAIN)
        #: Other modules may only read it.
        self.state = State.START
        #: The verb of the command that awaits its reply; None for a line without a verb.
        self._verb: Verb | None = None
        #: Octets of the latest BDAT's chunk that were not taken yet, whatever it is answered: they
        #: are never read as commands.
        self.chunk_left = 0
        self.chunk_is_last = False

    # Events

    def next_event(self, data: bytes = b"") -> Event | NeedData:
        """The next event, now that *data* has arrived too, or NEED_DATA."""
        if not self.buffer:
            # No line is being dropped: otherwise its last octet would be in the buffer.
            if len(data) <= self._cacheable and not self.in_auth:
                try:
                    # The usual case: exactly one whole command has arrived.
                    event = plain_command(data)
                except LookupError:
                    pass
                else:
                    self._verb = event.verb
                    return event
            self.buffer = data
        elif data:
            self.receive_data(data)
        if not self.buffer:
            return NEED_DATA
        line = self.next_line()
        if line is NEED_DATA:
            return NEED_DATA
        if isinstance(line, Problem):
            return self._broken_line(line)
        if self.in_auth and not line.startswith(TLS_RECORD):
            self._verb = _AUTH
            return Response(line)
        return self._command(line)

    def _command(self, line: bytes) -> Event:
        try:
            event = plain_command(line + b"\r\n")
        except LookupError:
            name, _, octets = line.partition(b" ")
            verb = VERBS.get(name.upper())
            if verb is None:
                return self._unrecognized(line)
            event = Command(verb, *_argument(octets, verb))
        self._verb = event.verb
        if event.verb is _BDAT:
            return self._chunk(event)
        return event

    def _chunk(self, command: Command) -> Event:
        found = _CHUNK.fullmatch(command.argument)
        if found is not None:
            self.chunk_left = int(found[1])
            self.chunk_is_last = found[2] is not None
            return command
        size = _CHUNK_SIZE.match(command.argument)
        if size is None or command.fault is not None:
            # The number of octets that follow is unknown, so no command after them can be found.
            self._verb = None
            seen, argument = "a BDAT without a size", command.argument
            return Fault(reply.BAD_CHUNK_SIZE, seen, "refused", verb=_BDAT, argument=argument)
        self.chunk_left = int(size[1])
        return Command(_BDAT, command.argument, reply.BAD_CHUNK)

    def _broken_line(self, problem: Problem) -> Fault:
        self._verb = None
        return Fault(_BROKEN_LINES[problem], problem.value, _ENDS.get(problem, ""))

    def _unrecognized(self, line: bytes) -> Fault:
        self._verb = None
        # Don't log the line: a client that is out of sync may have sent its password.
        seen = f"an unrecognized command of {len(line)} octets"
        if is_http_request(line):
            return Fault(reply.HTTP_NOT_ALLOWED, seen)
        if is_binary(line):
            # A PROXY header of version 2 among them: what follows isn't SMTP either.
            return Fault(reply.BINARY, seen, "abuse")
        if is_header_field(line):
            # The client sends content without a 354. Its next line could be a command.
            return Fault(reply.CONTENT_NOT_EXPECTED, seen)
        # What follows a BDAT that isn't written as one is still a chunk, of an unknown size.
        ends = "refused" if begins_as_bdat(line) else ""
        return Fault(reply.NOT_RECOGNIZED, seen, ends, unrecognized=True)

    def give_up_line(self) -> Fault:
        """The event for the line of `ends_with_bare_newline`, after the client was silent.

        Nothing shows whether the command has ended, and framing must not depend on time: what
        comes later is never read as a command.
        """
        fault = self._broken_line(self.drop_bare_line())
        return Fault(fault.reply, fault.seen, "refused")

    # Answers

    def answered(self, answer: Reply) -> State:
        """Record the reply to the last event. A positive reply changes the state; returns it."""
        verb = self._verb
        if answer.code >= 400:
            if self.in_auth:
                self._leave_auth()
            elif verb is _BDAT and (self.state is State.CHUNKS or answer is reply.BAD_CHUNK):
                # RFC 3030 section 2: a message that lacks a chunk stays invalid.
                self.state = min(self.state, _STATE_READY)
        elif verb is _AUTH:
            if answer.code == 334:
                self.state = _STATE_AUTH
                self.in_auth = True
            else:
                self._leave_auth()
        elif verb is not None:
            self.state = verb.transitions[self.state]
        return self.state

    def _leave_auth(self) -> None:
        self.state = _STATE_READY
        self.in_auth = False

    # Octets after a command that are not one

    def start_content(self) -> tuple[ContentDecoder, bytes]:
        """A decoder for the content after a 354, and the octets of it that have arrived already."""
        return ContentDecoder(self.policy), self.take_all() if self.buffer else b""

    def end_message(self, rest: bytes) -> None:
        """Record the end of a message, accepted or not; *rest* are the octets after it."""
        if rest:
            self.receive_data(rest)
        self.state = _STATE_READY

    def take_of_chunk(self) -> bytes:
        """The octets of the chunk that have arrived already."""
        data = self.take(self.chunk_left)
        self.chunk_left -= len(data)
        return data

    def await_chunk(self) -> None:
        """Record that all octets of a chunk have arrived, which isn't the last one."""
        self.state = State.CHUNKS

    def start_tls(self) -> None:
        """Record a successful handshake. RFC 3207 section 4: plain text before it is dropped, so
        that it never counts as protected, and the session starts again."""
        self.take_all()
        self.state = State.START


def _argument(octets: bytes, verb: Verb) -> tuple[str, Reply | None]:
    """The argument as text, and the reply that refuses its characters or None."""
    octets = octets.rstrip(b" \t")
    try:
        text = octets.decode("utf-8" if verb.utf8 else "ascii")
    except UnicodeDecodeError:
        return octets.decode("ascii", "backslashreplace"), reply.NOT_ASCII
    if text and not verb.takes_argument:
        return text, reply.NO_ARGUMENT
    if _CONTROL.search(text) is not None:
        return text, reply.CONTROL_CHARACTER
    return text, None
