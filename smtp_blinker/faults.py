"""Faults on demand, to test how a program that sends mail handles them.

    faults = Faults()
    server.use(faults)
    server.on_data(faults.around(store))
    faults.refuse("ann@example.com", 451, chance=0.5)

`smtp_blinker.testing` and ``smtp-blinker --faults`` use this module.
"""

from __future__ import annotations

import random
import shlex
import socket
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import gevent

from . import signals
from .server import SMTPServer
from .session import Address, Credentials, Session
from .smtp.reply import Reject
from .stream import MessageStream

#: The stages of a session at which a fault can strike. CONNECT is before the greeting, DATA
#: between the 354 and the end of the content, CONTENT after that end.
STAGES: Final = ("CONNECT", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "CONTENT")
#: The most faults at a time, and the most seconds that one fault can delay a client.
MOST: Final = 100
MAX_SECONDS: Final = 3600.0
#: Octets to read at a time from a message that is read to its end and dropped.
_PIECE: Final = 65536

#: For each kind of fault, the arguments that `add` accepts and how it converts their text.
_WORDS: Final[dict[str, dict[str, Callable[[str], Any]]]] = {
    "refuse": {"code": int, "text": str},
    "delay": {"seconds": float},
    "drop": {},
}
_COMMON: Final[dict[str, Callable[[str], Any]]] = {
    "at": str.upper,
    "sender": str,
    "recipient": str,
    "chance": float,
    "times": int,
}


@dataclass(slots=True, eq=False)
class Fault:
    """One fault."""

    #: Identifies it for `Faults.remove`; the first fault is 1.
    id: int
    #: "refuse", "delay" or "drop".
    kind: str
    #: Members of `STAGES`.
    stages: tuple[str, ...]
    #: The sender and the recipient that it strikes, in lower case: an address, or "@" and a
    #: domain; None for all.
    sender: str | None = None
    recipient: str | None = None
    #: The probability that it strikes, more than 0 and up to 1.
    chance: float = 1.0
    #: How many more times it strikes; None for no limit.
    times: int | None = None
    reply: Reject | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON-ready values, only those that its kind has."""
        fields: dict[str, Any] = {
            "id": self.id,
            "do": self.kind,
            "at": list(self.stages),
            "sender": self.sender,
            "recipient": self.recipient,
            "chance": self.chance,
            "times": self.times,
        }
        if self.reply is not None:
            fields |= {"code": self.reply.code, "text": self.reply.text}
        if self.kind == "delay":
            fields["seconds"] = self.seconds
        return fields

    def strikes(self, stage: str, sender: str | None, recipient: str | None) -> bool:
        return (
            stage in self.stages
            and _fits(self.sender, sender)
            and _fits(self.recipient, recipient)
            and (self.chance >= 1 or random.random() < self.chance)
        )


def _fits(wanted: str | None, address: str | None) -> bool:
    if wanted is None or address is None:
        return wanted is None
    return address.endswith(wanted) if wanted.startswith("@") else address == wanted


@dataclass(slots=True)
class Kept:
    """The current faults, the oldest first, and the last id that was given out."""

    faults: list[Fault]
    last: int


class Faults:
    """The faults of one or several servers; there are none until one is added.

    A policy for `SMTPServer.use`, which calls `attach`. Faults at DATA and CONTENT also need
    `around`. Faults at AUTH also need ``server.use(faults.at_auth)``, and a server that offers
    AUTH. Any thread may add and remove faults. The methods that add one raise ValueError for a
    fault that could never strike.
    """

    def __init__(self) -> None:
        self._kept = Kept([], 0)
        self._lock = threading.Lock()
        self._servers: weakref.WeakSet[SMTPServer] = weakref.WeakSet()
        self.at_auth = _AtAuth(self)

    @property
    def all(self) -> list[Fault]:
        """The current faults, the oldest first."""
        return list(self._kept.faults)

    @contextmanager
    def _changing(self) -> Iterator[Kept]:
        """Lock the list of faults to change it."""
        with self._lock:
            yield self._kept

    def refuse(
        self,
        recipient: str | None = None,
        code: int = 550,
        text: str = "Refused by the test",
        *,
        at: str | None = None,
        sender: str | None = None,
        chance: float = 1.0,
        times: int | None = None,
    ) -> Fault:
        """Refuse with the reply *code* and *text*, at RCPT or *at* another of `STAGES`.

        *recipient* (at RCPT only) and *sender* (from MAIL on) are an address, or "@" and a
        domain; None matches all. A *sender* without *recipient* and *at* is refused at MAIL.
        *chance* is the probability, more than 0 and up to 1. *times* is how many times it
        strikes, at least 1; None for no limit.
        """
        if at is None:
            at = "MAIL" if sender is not None and recipient is None else "RCPT"
        if at in ("EHLO", "STARTTLS"):
            raise ValueError(f"a server can't refuse {at}; drop the connection")
        return self._add(
            "refuse", (at,), sender, recipient, chance, times, reply=Reject(code, text)
        )

    def delay(
        self,
        seconds: float,
        at: str | None = None,
        *,
        recipient: str | None = None,
        sender: str | None = None,
        chance: float = 1.0,
        times: int | None = None,
    ) -> Fault:
        """Delay each reply by *seconds*, or only the replies *at* one of `STAGES`.

        *seconds* is 0 to MAX_SECONDS; the other arguments are those of `refuse`.
        """
        if not 0 <= seconds <= MAX_SECONDS:
            raise ValueError(f"a client can wait 0 to {MAX_SECONDS:g} seconds, not {seconds:g}")
        # Without *at* DATA is left out: in the middle of the content the client awaits no reply.
        if at is not None:
            stages: tuple[str, ...] = (at,)
        elif recipient is not None:
            stages = ("RCPT",)
        else:
            after_mail = STAGES.index("MAIL") if sender is not None else 0
            stages = tuple(one for one in STAGES[after_mail:] if one != "DATA")
        return self._add("delay", stages, sender, recipient, chance, times, seconds=seconds)

    def drop(
        self,
        after: str = "DATA",
        *,
        recipient: str | None = None,
        sender: str | None = None,
        chance: float = 1.0,
        times: int | None = None,
    ) -> Fault:
        """Close the connection without a reply *after* the client reached one of `STAGES`.

        The message then isn't received, not even with "CONTENT". The other arguments are those
        of `refuse`.
        """
        return self._add("drop", (after,), sender, recipient, chance, times)

    def add(self, words: Mapping[str, str]) -> Fault:
        """Add a fault from texts: ``do`` is refuse, delay or drop, the others its arguments."""
        kind = words.get("do", "")
        if kind not in _WORDS:
            raise ValueError(f"do takes {', '.join(_WORDS)}, not {kind[:40]!a}")
        known = _WORDS[kind] | _COMMON
        values: dict[str, Any] = {}
        for name, text in words.items():
            if name == "do":
                continue
            if name not in known:
                raise ValueError(f"{kind} takes {', '.join(known)}, not {name[:40]!a}")
            try:
                values[name] = known[name](text)
            except ValueError:
                raise ValueError(f"{name} takes a number, not {text[:40]!a}") from None
        if kind == "delay" and "seconds" not in values:
            raise ValueError("delay needs seconds")
        if kind == "drop" and "at" in values:
            values["after"] = values.pop("at")
        method: Callable[..., Fault] = getattr(self, kind)
        return method(**values)

    def add_text(self, text: str) -> Fault:
        """Add a fault from a line such as ``refuse recipient=ann@example.com code=451 chance=0.5``.

        Raises ValueError for a line that can't be parsed.
        """
        kind, *words = shlex.split(text) or [""]
        if kind not in _WORDS:
            raise ValueError(f"a fault begins with refuse, delay or drop, not {kind[:40]!a}")
        pairs = [word.partition("=") for word in words]
        wrong = [name for name, separator, _ in pairs if not separator]
        if wrong:
            raise ValueError(f"{kind} is followed by NAME=VALUE, not {wrong[0][:40]!a}")
        return self.add({"do": kind, **{name: value for name, _, value in pairs if name != "do"}})

    def remove(self, id: int) -> bool:
        """Remove the fault *id*; False if there is none."""
        with self._changing() as kept:
            before = len(kept.faults)
            kept.faults = [fault for fault in kept.faults if fault.id != id]
            return len(kept.faults) < before

    def clear(self) -> int:
        """Remove all faults; returns how many there were."""
        with self._changing() as kept:
            faults, kept.faults = kept.faults, []
            return len(faults)

    def _add(
        self,
        kind: str,
        stages: Collection[str],
        sender: str | None,
        recipient: str | None,
        chance: float,
        times: int | None,
        **more: Any,
    ) -> Fault:
        for stage in stages:
            if stage not in STAGES:
                raise ValueError(f"{stage!r} is not one of {', '.join(STAGES)}")
            if recipient is not None and stage != "RCPT":
                raise ValueError(f"a recipient is refused at RCPT, not at {stage}")
            if sender is not None and STAGES.index(stage) < STAGES.index("MAIL"):
                raise ValueError(f"a sender is known from MAIL on, not at {stage}")
        if times is not None and times < 1:
            raise ValueError(f"times is at least 1, not {times}")
        if not 0 < chance <= 1:
            raise ValueError(f"chance is more than 0 and at most 1, not {chance:g}")
        with self._changing() as kept:
            if len(kept.faults) >= MOST:
                raise ValueError(f"there are {MOST} faults already")
            kept.last += 1
            fault = Fault(
                kept.last,
                kind,
                tuple(stages),
                None if sender is None else sender.lower(),
                None if recipient is None else recipient.lower(),
                chance,
                times,
                **more,
            )
            kept.faults.append(fault)
            return fault

    def _spend(self, fault: Fault) -> bool:
        """Count one strike of *fault*; False if it has no strike left."""
        if fault.times is None:
            return True
        with self._changing() as kept:
            for each in kept.faults:
                if each.id == fault.id and each.times is not None:
                    each.times -= 1
                    if each.times <= 0:
                        kept.faults.remove(each)
                    return True
        return False

    # In the server

    def strike(
        self,
        stage: str,
        session: Session,
        *,
        recipient: str | None = None,
        sender: str | None = None,
        stream: MessageStream | None = None,
    ) -> None:
        """Apply the faults for *stage*: wait, raise Reject, or close the connection and raise it.

        *stream* is read to its end before its message is refused or dropped.
        """
        for fault in self.all:
            if sender is None and session.envelope.mail_from is not None:
                sender = session.envelope.mail_from.address.lower()
            if not fault.strikes(stage, sender, recipient) or not self._spend(fault):
                continue
            if fault.kind == "delay":
                gevent.sleep(fault.seconds)
                continue
            while stream is not None and stream.read(_PIECE):
                pass
            if fault.reply is not None:
                raise Reject(fault.reply.code, fault.reply.text, fault.reply.enhanced)
            self.drop_connection(session)

    def drop_connection(self, session: Session) -> None:
        """Close the connection of *session* without a reply; raises Reject to end the command."""
        for server in list(self._servers):
            for connection in list(server.connections):
                if connection.session.id == session.id:
                    try:
                        connection.transport.socket.shutdown(socket.SHUT_RDWR)
                    except OSError:
                        pass  # the client has closed it already
        raise Reject(421, "Dropped")  # the client never receives it

    def around(self, on_data: Callable[[MessageStream, Session], Any]) -> Callable[..., Any]:
        """Wrap the hook *on_data* so that the faults at DATA and CONTENT strike before it."""

        def with_faults(stream: MessageStream, session: Session) -> Any:
            self.strike("DATA", session)
            self.strike("CONTENT", session, stream=stream)
            return on_data(stream, session)

        return with_faults

    # For SMTPServer.use

    def attach(self, server: SMTPServer) -> None:
        self._servers.add(server)
        signals.connect.connect(self._on_ehlo, sender=server)

    def _on_ehlo(self, server: SMTPServer, event: signals.ConnectEvent) -> None:
        for connection in list(server.connections):
            if connection.session.id == event.id:
                try:
                    self.strike("EHLO", connection.session)
                except Reject:
                    pass  # a listener can't refuse, and the connection is dropped already

    def on_connect(self, session: Session) -> None:
        self.strike("CONNECT", session)

    def on_secure(self, session: Session) -> None:
        self.strike("STARTTLS", session)

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.strike("MAIL", session, sender=address.address.lower())

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.strike("RCPT", session, recipient=address.address.lower())


class _AtAuth:
    """The faults at AUTH, as a separate policy with `on_auth`."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def on_auth(self, credentials: Credentials, session: Session) -> None:
        self._faults.strike("AUTH", session)
