"""A row for each verb with its facts and transitions, without its function.

Only a positive reply changes the state; `protocol.Protocol.answered` does it by these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from . import reply
from .reply import Reply


class State(IntEnum):
    """The state of a session. From AUTH on, the client's next octets are not a command."""

    START = 0  # no HELO, EHLO or LHLO yet
    READY = 1
    MAIL = 2  # a reverse-path was accepted
    RCPT = 3  # and a forward-path
    CHUNKS = 4  # between two chunks of a message
    AUTH = 5  # after a 334: a response of a SASL exchange comes next
    CONTENT = 6  # content comes next
    CHUNK = 7  # the octets of a chunk come next
    UPGRADE = 8  # a TLS handshake comes next
    CLOSED = 9


_ANY: Final = (State.START, State.READY, State.MAIL, State.RCPT, State.CHUNKS)
_STAY: Final = {state: state for state in _ANY}


@dataclass(frozen=True, eq=False)
class Verb:
    """A verb and its facts."""

    name: str
    #: Maps a state to the state after a positive reply. In a missing state the reply is 503.
    transitions: Mapping[State, State]
    #: False for verbs without argument (RFC 5321 section 4.3.2).
    takes_argument: bool = True
    #: Whether it needs AUTH, on a server that requires AUTH.
    needs_auth: bool = False
    #: Whether it counts against max_junk_commands.
    junk: bool = False
    #: Whether the argument may be non-ASCII (RFC 6531 section 3.4).
    utf8: bool = False
    #: Whether lines may be cached. Not for AUTH, which has secrets, and BDAT, before a chunk.
    cacheable: bool = True


_ROWS: Final = (
    # RFC 5321 section 4.1.4: EHLO is allowed at any time and resets the transaction.
    Verb("HELO", dict.fromkeys(_ANY, State.READY)),
    Verb("EHLO", dict.fromkeys(_ANY, State.READY)),
    Verb("LHLO", dict.fromkeys(_ANY, State.READY)),  # RFC 2033 section 4.1
    Verb("MAIL", {State.READY: State.MAIL}, needs_auth=True, utf8=True),
    Verb("RCPT", {State.MAIL: State.RCPT, State.RCPT: State.RCPT}, needs_auth=True, utf8=True),
    Verb("DATA", {State.RCPT: State.CONTENT}, takes_argument=False, needs_auth=True),
    # RFC 3030 section 2: DATA and BDAT can't be mixed, and the transaction ends with LAST.
    Verb(
        "BDAT",
        {State.RCPT: State.CHUNK, State.CHUNKS: State.CHUNK},
        needs_auth=True,
        cacheable=False,
    ),
    Verb(
        "RSET",
        {**dict.fromkeys(_ANY, State.READY), State.START: State.START},
        takes_argument=False,
        junk=True,
    ),
    Verb("NOOP", _STAY, junk=True),
    Verb("HELP", _STAY, junk=True),
    Verb("VRFY", _STAY, junk=True, utf8=True),
    Verb("EXPN", _STAY, junk=True, utf8=True),
    Verb("QUIT", dict.fromkeys(_ANY, State.CLOSED), takes_argument=False),
    # RFC 3207 section 4; not during a transaction, because it would discard its state.
    Verb(
        "STARTTLS",
        {State.START: State.UPGRADE, State.READY: State.UPGRADE},
        takes_argument=False,
    ),
    # RFC 4954 section 4: not during a mail transaction. Only a 334 leads to the state AUTH.
    Verb("AUTH", {State.READY: State.AUTH}, cacheable=False),
    # Postfix's XCLIENT_README: XCLIENT returns the session to the state after the greeting.
    Verb("XCLIENT", {State.START: State.START, State.READY: State.START}, junk=True),
    Verb("XFORWARD", {State.START: State.START, State.READY: State.READY}, junk=True),
    # Known and not implemented: 502 (RFC 5321 section 4.2.4) instead of 500.
    *(Verb(name, _STAY, junk=True) for name in ("TURN", "ETRN", "ATRN", "SEND", "SOML", "SAML")),
)

#: Every verb by the octets of its name in upper case.
VERBS: Final[Mapping[bytes, Verb]] = {verb.name.encode("ascii"): verb for verb in _ROWS}
VERB_NAMES: Final = frozenset(verb.name for verb in _ROWS)

_MAIL_VERBS: Final = frozenset({"MAIL", "RCPT", "DATA", "BDAT", "AUTH"})
_CONTENT_VERBS: Final = frozenset({"DATA", "BDAT"})


def out_of_sequence(verb: str, state: State) -> Reply:
    """The 503 reply for a verb without a transition from *state*."""
    if state is State.START and verb in _MAIL_VERBS:
        return reply.HELLO_FIRST
    if verb == "MAIL":
        return reply.NESTED_MAIL
    if state is State.READY and (verb == "RCPT" or verb in _CONTENT_VERBS):
        return reply.MAIL_FIRST
    if state is State.MAIL and verb in _CONTENT_VERBS:
        return reply.RECIPIENT_FIRST
    return reply.BAD_SEQUENCE
