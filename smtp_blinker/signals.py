"""The signals, the events that they carry, and the functions that send them.

The sender is always the server. All signals but `close` and `listening` have one keyword
argument, ``event``. A listener can observe but not refuse. If it raises, the other listeners still
run, the client notices nothing, and `error` reports the exception.

``signal.connect`` holds the receiver weakly, as usual with blinker: keep a reference to it.
``signal.connect_via(server)`` holds it strongly, and connects it to the signals of one server.
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
    """A blinker signal that caches the receivers of each sender."""

    def __init__(self, name: str, doc: str | None = None) -> None:
        super().__init__(name, doc)
        # By the id of the sender: a reference to it, because a later object may get the same id;
        # `state` before its receivers were computed, because another thread may connect meanwhile;
        # and its receivers.
        self._cached: dict[int, tuple[weakref.ref[Any], object, tuple[Any, ...]]] = {}
        #: A new object after each change of the receivers.
        self.state = object()

    def connect(self, receiver: _Receiver, sender: Any = ANY, weak: bool = True) -> _Receiver:
        super().connect(receiver, sender, weak)
        self._change()
        return receiver

    def _disconnect(self, receiver_id: Hashable, sender_id: Hashable) -> None:
        # blinker calls this for `disconnect`, and after the end of a weakly held receiver.
        super()._disconnect(receiver_id, sender_id)
        self._change()

    def _clear_state(self) -> None:
        super()._clear_state()  # blinker has it for tests
        self._change()

    def _change(self) -> None:
        self.state = object()
        self._cached.clear()

    def receivers_of(self, sender: Any) -> tuple[Any, ...]:
        """The receivers for *sender*; weak references to those that are held weakly."""
        known = self._cached.get(id(sender))
        if known is not None and known[0]() is sender and known[1] is self.state:
            return known[2]
        state = self.state
        held = [one for one in [*self.receivers.values()] if not isinstance(one, weakref.ref)]
        receivers = tuple(
            receiver if receiver in held else _weakly(receiver)
            for receiver in self.receivers_for(sender)
        )
        try:
            self._cached[id(sender)] = weakref.ref(sender), state, receivers
        except TypeError:
            pass  # *sender* can't be referenced weakly, so it isn't a server
        return receivers


def _weakly(receiver: Callable[..., Any]) -> weakref.ref[Callable[..., Any]]:
    if inspect.ismethod(receiver):
        return weakref.WeakMethod(receiver)
    return weakref.ref(receiver)


# Not made by blinker.signal, whose "connect" other libraries may share.
#: A client is ready to proceed (`ConnectEvent`).
connect = EventSignal("connect")
#: The server or a connection failed, or a hook or a listener raised (`ErrorEvent`).
error = EventSignal("error")
#: `stop` has finished: the listener is closed and every connection has ended. No event.
close = EventSignal("close")
#: The server listens. No event.
listening = EventSignal("listening")
#: A TLS handshake succeeded (`SecureEvent`).
secure = EventSignal("secure")
#: An AUTH exchange ended (`AuthEvent`).
auth = EventSignal("auth")
#: The server replied to a message (`MessageEvent`).
message = EventSignal("message")
#: The server refused a command, or a client before its greeting (`RefusedEvent`).
refused = EventSignal("refused")
#: A policy judged a client or a message (`VerdictEvent`).
verdict = EventSignal("verdict")
#: A connection ended; sent for every accepted connection (`DisconnectEvent`).
disconnect = EventSignal("disconnect")
#: A connection begins, before its greeting; its commands and replies are kept
#: (`dialogue.DialogueEvent`).
dialogue = EventSignal("dialogue")


class Event:
    """The base class of all events."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """The event's fields, with values that `json.dumps` accepts."""
        # The __slots__ of a dataclass are its fields in order. Frequent events override this
        # method with their fields written out, which takes a fifth of the time.
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
    """str(value), or a substitute if that raises, as it may for a program's exception."""
    try:
        return make(value)
    except Exception as exc:
        return f"({type(value).__name__}, which has no text: {type(exc).__name__})"


@dataclass(frozen=True, slots=True)
class ConnectEvent(Event):
    """A client is ready to proceed: after HELO, EHLO, LHLO, or XCLIENT or XFORWARD with ADDR."""

    id: str
    local_address: str
    local_port: int
    remote_address: str
    remote_port: int
    #: The argument of HELO, EHLO or LHLO; None if XCLIENT came first.
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
    #: The code of the reply that the client got because of it, or None.
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
    #: None if the exchange ended before the client sent a user name.
    username: str | None
    success: bool


@dataclass(frozen=True, slots=True)
class MessageEvent(Event):
    """The server replied to a message, with any reply code."""

    id: str
    #: 1 for the connection's first message.
    transaction: int
    #: "" for the null reverse-path.
    mail_from: str
    rcpt_to: tuple[str, ...]
    #: Octets of content after dot unstuffing.
    size: int
    #: The reply code. With LMTP: 250 if at least one recipient was accepted, else the first code.
    code: int
    #: The text of that reply.
    reply: str
    #: Seconds from the 354 to that reply.
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
    """The server refused a command (4yz or 5yz), or a client before its greeting. For a refused
    message it sends `MessageEvent`."""

    id: str
    remote_address: str
    #: The verb; "" before the greeting, and for a line without a known verb.
    command: str
    #: The argument as in the protocol log: printable and without secrets. For AUTH the mechanism;
    #: "" for a line without a known verb.
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
    #: The policy's name, also its key in `Session.results` and `Envelope.results`.
    policy: str
    #: One or two words: "pass", "listed", "infected"; "failure" if the policy could not judge.
    verdict: str
    #: The policy's result as `as_dict` returns it; empty without a result.
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DisconnectEvent(Event):
    """A connection ended."""

    id: str
    remote_address: str
    seconds: float
    #: Messages that the server accepted with 250.
    messages: int
    bytes_in: int
    bytes_out: int
    #: "quit", "timeout", "reset" (ECONNRESET, EPIPE), "eof" (the client closed without QUIT),
    #: "shutdown", "refused" (by `on_connect`, a hook's 421, or admission), "abuse" (the client
    #: exceeded a limit of the options), "tls" (the handshake failed), "proxy" (no acceptable PROXY
    #: header), "error" (a fault of the program or the library).
    reason: str
    #: Details such as the TLS alert or "no PROXY header within 5 s", or "".
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
    """Send *event* to every receiver of *signal*, even if some of them raise.

    Callers check ``signal.receivers`` first, so that no event is built without a receiver. Raises
    only KeyboardInterrupt and, in the program's main greenlet, SystemExit: there a listener may end
    the program, but in another greenlet it would end a client's session.
    """
    if signal.is_muted:
        return
    state = signal.state
    for receiver in signal.receivers_of(server):
        if signal.state is not state and receiver not in signal.receivers_of(server):
            continue  # an earlier receiver has disconnected it
        if isinstance(receiver, weakref.ref):
            receiver = receiver()
            if receiver is None:
                continue  # it was garbage collected
        try:
            result = receiver(server) if event is None else receiver(server, event=event)
            if result is not None and inspect.iscoroutine(result):
                result.close()
                raise TypeError(f"{receiver!r} is a coroutine function; give a plain function")
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
    """Send *event* through `error`, or log it at ERROR if that signal has no receiver."""
    if error.receivers_of(server):
        emit(error, server, event)
    else:
        # Faults of the program's hooks and listeners need a traceback, faults of clients don't.
        ours = event.code in {"HookError", "HookTimeout", "ListenerError"}
        where = f" ({event.remote_address})" if event.remote_address else ""
        text = f"{event.code}: {_one_line(_text(event.error))}{where}"
        _log(text, event.error if ours else None, event.as_dict())


# An exception's text may contain input of a client. Escaped, it can't add lines to a text log or
# control a terminal.


def _log(text: str, exc: BaseException | None, event: Mapping[str, Any] | None = None) -> None:
    if not log.isEnabledFor(logging.ERROR):
        return
    info = None if exc is None else (type(exc), exc, exc.__traceback__)
    record = log.makeRecord(
        log.name, logging.ERROR, __file__, 0, "%s", (text,), info,
        extra=None if event is None else {"smtp": event},
    )  # fmt: skip
    if exc is not None:
        # Text formatters use exc_text instead of formatting exc_info; others may need exc_info.
        record.exc_text = _traceback(exc)
    log.handle(record)


def _traceback(exc: BaseException) -> str:
    """The traceback of *exc* and of the exceptions that caused it, each message on one line."""
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
