"""The signals and log lines of one connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from .. import signals
from ..dialogue import Dialogue, DialogueEvent
from ..options import AUTH_METHODS
from ..session import Address, Session
from ..smtp.reply import Reply, printable
from .clock import monotonic


class Ending(Protocol):
    """What `disconnect` reports about a connection."""

    #: When it was accepted, in seconds of `clock.monotonic`.
    since: float
    #: Messages that were answered with 250.
    messages: int

    @property
    def bytes_in(self) -> int: ...

    @property
    def bytes_out(self) -> int: ...


class ConnectionEvents:
    """Sends *server*'s signals for *session* and writes its lines to *logger*.

    It builds no event without a receiver and no line that isn't logged. With `ignored` it
    reports nothing at all (the option ignored_hosts).
    """

    __slots__ = ("_dialogue", "_logger", "_server", "_session", "ignored", "logs")

    def __init__(self, server: Any, session: Session, logger: logging.Logger | None) -> None:
        self._server = server
        self._session = session
        self._logger = logger
        self._dialogue: Dialogue | None = None
        #: Whether the protocol's lines go anywhere: to a logger or a dialogue.
        self.logs = logger is not None
        self.ignored = False

    # Signals

    def hears(self, signal: signals.EventSignal) -> bool:
        """Whether any receiver of *signal* is for our server; *signal* must have receivers."""
        return not self.ignored and bool(signal.receivers_of(self._server))

    def begin(self) -> None:
        """Record the dialogue from here on, if a receiver of `dialogue` wants it."""
        if signals.dialogue.receivers and self.hears(signals.dialogue):
            session = self._session
            self._dialogue = Dialogue()
            self.logs = True
            event = DialogueEvent(session.id, session.remote_address, self._dialogue)
            signals.emit(signals.dialogue, self._server, event)

    def connect(self) -> None:
        if signals.connect.receivers and self.hears(signals.connect):
            session = self._session
            event = signals.ConnectEvent(
                session.id,
                session.local_address,
                session.local_port,
                session.remote_address,
                session.remote_port,
                session.host_name_appears_as,
                session.client_hostname,
            )
            signals.emit(signals.connect, self._server, event)

    def secure(self) -> None:
        session = self._session
        tls = session.tls
        assert tls is not None
        self.log("TLS: %s %s", tls.version, tls.cipher[0])
        if signals.secure.receivers and self.hears(signals.secure):
            event = signals.SecureEvent(session.id, session.servername, tls.version, tls.cipher[0])
            signals.emit(signals.secure, self._server, event)

    def auth(self, method: str, username: str | None, success: bool) -> None:
        self.log("AUTH %s for %s: %s", method, username, "good" if success else "failed")
        if signals.auth.receivers and self.hears(signals.auth):
            event = signals.AuthEvent(self._session.id, method, username, success)
            signals.emit(signals.auth, self._server, event)

    def message(
        self,
        sender: Address | None,
        recipients: Sequence[Address],
        size: int,
        answer: Reply,
        seconds: float,
    ) -> None:
        session = self._session
        event = signals.MessageEvent(
            session.id,
            session.transaction,
            sender.address if sender is not None else "",
            tuple([recipient.address for recipient in recipients]),
            size,
            answer.code,
            answer.text,
            seconds,
        )
        signals.emit(signals.message, self._server, event)

    def refused(self, verb: str, argument: str, answer: Reply) -> None:
        session = self._session
        event = signals.RefusedEvent(
            session.id,
            session.remote_address,
            verb,
            _shown(verb, argument),
            answer.code,
            answer.text,
        )
        signals.emit(signals.refused, self._server, event)

    def disconnect(self, connection: Ending, reason: str, detail: str) -> None:
        self.log("closed: %s%s%s", reason, ", " if detail else "", detail)
        if signals.disconnect.receivers and self.hears(signals.disconnect):
            event = signals.DisconnectEvent(
                self._session.id,
                self._session.remote_address,
                monotonic() - connection.since,
                connection.messages,
                connection.bytes_in,
                connection.bytes_out,
                reason,
                detail,
            )
            signals.emit(signals.disconnect, self._server, event)

    def error(
        self, exc: BaseException, code: str, response_code: int | None, meta: dict[str, Any]
    ) -> None:
        if self.ignored:
            return
        session = self._session
        if session.tls is not None:
            meta.setdefault("protocol", session.tls.version)
        event = signals.ErrorEvent(
            exc, code, session.remote_address, response_code, meta, session.id
        )
        signals.emit_error(self._server, event)

    # The protocol's log

    def log(self, text: str, *args: object) -> None:
        if self._dialogue is not None:
            self._dialogue.add(text, *args)
        if self._logger is not None and not self.ignored:
            self._logger.debug("[%s] " + text, self._session.id, *args)

    def log_reply(self, answer: Reply) -> None:
        if self._dialogue is not None:
            self._dialogue.add(answer)
        if self._logger is not None and not self.ignored:
            text = answer.wire.decode("ascii").rstrip().replace("\r\n", " | ")
            self._logger.debug("[%s] S: %s", self._session.id, text)

    def log_command(self, verb: str, argument: str) -> None:
        if self.logs:
            self.log("C: %s %s", verb, _shown(verb, argument))


def _shown(verb: str, argument: str) -> str:
    """The part of a command's argument that listeners and the log may see.

    Credentials never get there: of AUTH only a known mechanism is shown.
    """
    if verb != "AUTH":
        return printable(argument.encode().decode("ascii", "backslashreplace"))
    mechanism = argument.upper().partition(" ")[0]
    return mechanism if mechanism in AUTH_METHODS else "(something unknown)"
