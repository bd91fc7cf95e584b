"""The named signals, the events they carry, and how one is sent to its listeners.

The sender is always the server. All signals but `close` and `listening` carry one keyword,
``event``. A listener observes: it can't refuse anything, and when it raises, the other
listeners still run and the client notices nothing (`error` reports it).

A receiver connected with ``signal.connect`` is held weakly (blinker's rule): keep a reference
to it. ``signal.connect_via(server)`` holds it strongly, for the signals of one server.
"""

from __future__ import annotations

import errno
import inspect
import logging
import ssl
import traceback
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from blinker import ANY, NamedSignal
from greenlet import getcurrent

log = logging.getLogger("smtp_blinker")


_Receiver = TypeVar("_Receiver", bound=Callable[..., Any])


class EventSignal(NamedSignal):
    """A blinker signal that caches the receivers of a sender; blinker doesn't."""

    def __init__(self, name: str, doc: str | None = None) -> None:
        super().__init__(name, doc)
        # By the sender's id: what tells it from a later object in its place, and what `state`
        # was before the audience was worked out. Another thread may connect meanwhile.
        self._audiences: dict[int, tuple[weakref.ref[Any], object, tuple[Any, ...]]] = {}
        #: Another object after each change of the receivers.
        self.state = object()

    def connect(self, receiver: _Receiver, sender: Any = ANY, weak: bool = True) -> _Receiver:
        super().connect(receiver, sender, weak)
        self._change()
        return receiver

    def _disconnect(self, receiver_id: Hashable, sender_id: Hashable) -> None:
        # What blinker calls for `disconnect` and when a receiver that it held weakly has died.
        super()._disconnect(receiver_id, sender_id)
        self._change()

    def _clear_state(self) -> None:
        super()._clear_state()  # blinker's, for tests
        self._change()

    def _change(self) -> None:
        self.state = object()
        self._audiences.clear()

    def audience(self, sender: Any) -> tuple[Any, ...]:
        """What to call for *sender*: receivers, or references to those that are held weakly."""
        known = self._audiences.get(id(sender))
        if known is not None and known[0]() is sender and known[1] is self.state:
            return known[2]
        state = self.state
        held = [one for one in [*self.receivers.values()] if not isinstance(one, weakref.ref)]
        audience = tuple(
            receiver if receiver in held else _weakly(receiver)
            for receiver in self.receivers_for(sender)
        )
        try:
            self._audiences[id(sender)] = weakref.ref(sender), state, audience
        except TypeError:
            pass  # an object that can't be referred to weakly: no server of ours
        return audience


def _weakly(receiver: Callable[..., Any]) -> weakref.ref[Callable[..., Any]]:
    if inspect.ismethod(receiver):
        return weakref.WeakMethod(receiver)
    return weakref.ref(receiver)


# Made here and not by blinker.signal: another library's "connect" is another signal.
#: A client is ready to proceed (`ConnectEvent`).
connect = EventSignal("connect")
#: The server or a connection failed, a hook or a listener raised (`ErrorEvent`).
error = EventSignal("error")
#: `stop` has finished: nothing listens, every connection has ended. Carries no event.
close = EventSignal("close")
#: The socket listens. Carries no event.
listening = EventSignal("listening")
#: A TLS handshake succeeded (`SecureEvent`).
secure = EventSignal("secure")
#: An AUTH exchange ended (`AuthEvent`).
auth = EventSignal("auth")
#: A message was answered (`MessageEvent`).
message = EventSignal("message")
#: A command was refused, or a client before its greeting (`RefusedEvent`).
refused = EventSignal("refused")
#: A policy judged a client or a message (`VerdictEvent`).
verdict = EventSignal("verdict")
#: A connection ended, each one that was accepted (`DisconnectEvent`).
disconnect = EventSignal("disconnect")
#: A connection begins, before its greeting; what is said on it is kept (`dialogue.DialogueEvent`).
dialogue = EventSignal("dialogue")


class Event:
    """What all events have in common."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """The event's fields as values that `json.dumps` takes."""
        # A dataclass with slots names its fields there, in their order. Events that come by the
        # thousand have theirs written out: that takes a fifth of the time.
        names: tuple[str, ...] = type(self).__slots__
        return {
            name: value if type(value := getattr(self, name)) in _JSON_TYPES else _plain(value)
            for name in names
        }


_JSON_TYPES = frozenset({str, int, float, bool, type(None)})


def _plain(value: Any) -> Any:
    if type(value) in _JSON_TYPES:
        return value
    if isinstance(value, BaseException):
        return {"type": type(value).__name__, "message": _text(value)}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return _text(value)


def _text(value: object, make: Callable[[object], str] = str) -> str:
    """str(value); a program's exception may not even have that."""
    try:
        return make(value)
    except Exception as exc:
        return f"({type(value).__name__}, which has no text: {type(exc).__name__})"


@dataclass(frozen=True, slots=True)
class ConnectEvent(Event):
    """A client is ready to proceed: after HELO, EHLO or LHLO, or the XCLIENT/XFORWARD ADDR."""

    id: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    #: The argument of HELO, EHLO or LHLO; None where XCLIENT came first.
    host_name_appears_as: str | None
    #: The name by reverse DNS, or ``[address]``.
    client_hostname: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "local_address": self.local_address,
            "local_port": self.local_port,
            "remote_address": self.remote_address,
            "remote_port": self.remote_port,
            "host_name_appears_as": self.host_name_appears_as,
            "client_hostname": self.client_hostname,
        }


@dataclass(frozen=True, slots=True)
class ErrorEvent(Event):
    """Something failed. Without a listener it is logged at ERROR on the logger smtp_blinker."""

    error: BaseException
    #: The name of the errno ("ECONNRESET"), or TLSError, HookError, HookTimeout, ListenerError,
    #: ProxyError, or the exception's class name.
    code: str
    #: None when the server itself failed.
    remote_address: str | None = None
    #: The code of the reply that the client got for it, if any.
    response_code: int | None = None
    #: Context: ``stage``, ``command``, ``hook``, ``protocol`` (of TLS) …
    meta: Mapping[str, Any] = field(default_factory=dict)
    #: The session's id, or None when the server itself failed.
    id: str | None = None


@dataclass(frozen=True, slots=True)
class SecureEvent(Event):
    """A TLS handshake succeeded."""

    id: str
    servername: str | None
    #: For example "TLSv1.3".
    protocol: str
    #: OpenSSL's name of the cipher suite.
    cipher: str


@dataclass(frozen=True, slots=True)
class AuthEvent(Event):
    """An AUTH exchange ended. It never carries a secret."""

    id: str
    method: str
    #: None where the exchange ended before a user name was known.
    username: str | None
    success: bool


@dataclass(frozen=True, slots=True)
class MessageEvent(Event):
    """A message was answered, whatever the answer was."""

    id: str
    #: 1 for the connection's first message.
    transaction: int
    #: "" for the null reverse-path.
    mail_from: str
    rcpt_to: tuple[str, ...]
    #: Octets of content, dots unstuffed.
    size: int
    #: The reply code; with LMTP 250 when at least one recipient was accepted, else the first.
    code: int
    #: The text of that reply.
    reply: str
    #: From the 354 to the answer.
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "transaction": self.transaction,
            "mail_from": self.mail_from,
            "rcpt_to": list(self.rcpt_to),
            "size": self.size,
            "code": self.code,
            "reply": self.reply,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class RefusedEvent(Event):
    """A command was refused (4yz or 5yz), or a client before its greeting. A refused message is
    in `MessageEvent`."""

    id: str
    remote_address: str
    #: The verb; "" before the greeting, and for a line without a known verb.
    command: str
    #: As the protocol's log shows it: it never holds a secret, and every character prints. "" for
    #: a line without a known verb; of AUTH it is the mechanism.
    argument: str
    code: int
    #: The text of the reply.
    reply: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "remote_address": self.remote_address,
            "command": self.command,
            "argument": self.argument,
            "code": self.code,
            "reply": self.reply,
        }


@dataclass(frozen=True, slots=True)
class VerdictEvent(Event):
    """A policy judged a client or a message."""

    id: str
    #: 1 for the connection's first message.
    transaction: int
    #: The policy's name, which is its key in `Session.results` and `Envelope.results` too.
    policy: str
    #: In a word or two: "pass", "listed", "infected"; "failure" where it could not judge.
    verdict: str
    #: All that it found, as its result's `as_dict` says; empty where there is no result.
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DisconnectEvent(Event):
    """A connection ended."""

    id: str
    remote_address: str
    seconds: float
    #: Messages that were answered 250.
    messages: int
    bytes_in: int
    bytes_out: int
    #: "quit", "timeout", "reset" (ECONNRESET, EPIPE), "eof" (the client closed without QUIT),
    #: "shutdown", "refused" (`on_connect`, a hook's 421, or admission), "abuse" (a limit of
    #: the options was passed), "tls" (the handshake failed), "proxy" (no acceptable PROXY header),
    #: "error" (a fault of the program's or the library's own).
    reason: str
    #: A sentence that says more, or "": the TLS alert, "no PROXY header within 5 s".
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "remote_address": self.remote_address,
            "seconds": self.seconds,
            "messages": self.messages,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "reason": self.reason,
            "detail": self.detail,
        }


def error_code(exc: BaseException) -> str:
    """The `code` of an `ErrorEvent` for an exception of the network or of TLS."""
    if isinstance(exc, ssl.SSLError):
        return "TLSError"
    if isinstance(exc, OSError) and exc.errno is not None:
        return errno.errorcode.get(exc.errno, type(exc).__name__)
    return type(exc).__name__


def emit(signal: EventSignal, server: Any, event: Event | None = None) -> None:
    """Send *event* to every receiver of *signal*, whatever each of them does.

    Callers look at ``signal.receivers`` first, so that an event without a receiver isn't built.
    Raises nothing but KeyboardInterrupt and, in the program's main greenlet, SystemExit: there
    a listener may end the program, elsewhere it would end a client's session.
    """
    if signal.is_muted:
        return
    state = signal.state
    for receiver in signal.audience(server):
        if signal.state is not state and receiver not in signal.audience(server):
            continue  # one before it has disconnected it
        if isinstance(receiver, weakref.ref):
            receiver = receiver()
            if receiver is None:
                continue  # it has died
        try:
            result = receiver(server) if event is None else receiver(server, event=event)
            if result is not None and inspect.iscoroutine(result):
                result.close()
                raise TypeError(f"{receiver!r} is a coroutine function; receivers are called")
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # GreenletExit and gevent.Timeout don't derive from Exception
            if isinstance(exc, SystemExit) and getcurrent().parent is None:
                raise
            if signal is error:
                _log("a listener of the error signal raised", exc)
            else:
                meta = {"signal": signal.name, "listener": _text(receiver, repr)}
                emit_error(server, ErrorEvent(exc, "ListenerError", meta=meta))


def emit_error(server: Any, event: ErrorEvent) -> None:
    """Send *event* through `error`, or log it at ERROR when it has no receiver."""
    if error.audience(server):
        emit(error, server, event)
    else:
        # A listener's and a hook's traceback are the program's; a client's fault needs none.
        ours = event.code in {"HookError", "HookTimeout", "ListenerError"}
        where = f" ({event.remote_address})" if event.remote_address else ""
        text = f"{event.code}: {_one_line(_text(event.error))}{where}"
        _log(text, event.error if ours else None, event.as_dict())


# An exception's text may hold what a client sent. In a log of text it can neither end a line nor
# begin one, nor move a terminal's cursor.


def _log(text: str, exc: BaseException | None, event: Mapping[str, Any] | None = None) -> None:
    if not log.isEnabledFor(logging.ERROR):
        return
    info = None if exc is None else (type(exc), exc, exc.__traceback__)
    record = log.makeRecord(
        log.name, logging.ERROR, __file__, 0, "%s", (text,), info,
        extra=None if event is None else {"smtp": event},
    )  # fmt: skip
    if exc is not None:
        # What formatters of text take instead of making it; exc_info is there for the others.
        record.exc_text = _traceback(exc)
    log.handle(record)


def _traceback(exc: BaseException) -> str:
    """The traceback of *exc* and of what it came from, each message in a line."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = exc
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        message = _one_line(_text(current))
        parts.append(
            f"Traceback (most recent call last):\n{frames}{type(current).__name__}: {message}"
        )
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\n\nWhich led to:\n\n".join(reversed(parts))


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
