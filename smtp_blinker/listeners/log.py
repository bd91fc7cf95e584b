"""Logs each event to a `logging.Logger`, as one line of text or JSON.

    EventLog().attach(server)

writes to the logger ``smtp_blinker.events``. The program configures handlers, levels and formats.
Each record has its event as the dict ``record.smtp``, and `JSONFormatter` writes that too::

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.getLogger("smtp_blinker.events").addHandler(handler)
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from blinker import ANY

from ..signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    VerdictEvent,
    auth,
    close,
    connect,
    disconnect,
    error,
    listening,
    message,
    refused,
    secure,
    verdict,
)
from .lines import MAX_TEXT, address_of, one_line, place, recipients

_PROGRAM: Final = {"HookError", "HookTimeout", "ListenerError"}
_NETWORK: Final = {
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETRESET",
    "ENETUNREACH",
    "ENOTCONN",
    "EPIPE",
    "ESHUTDOWN",
    "ETIMEDOUT",
}
_LISTENER: Final = {
    "EACCES",
    "EADDRINUSE",
    "EADDRNOTAVAIL",
    "EAFNOSUPPORT",
    "EMFILE",
    "ENFILE",
    "ENOBUFS",
    "ENOMEM",
    "EPERM",
    "EPROTONOSUPPORT",
}
#: Category "other" for every exception: the network between a store and us isn't a client's.
_OTHER: Final = {"StoreAway", "SpoolFailed", "SpoolError"}
#: Faults of clients and of their network are WARNING. All others are ERROR.
_CLIENT_SIDE: Final = {"network", "tls", "proxy"}

#: Instead of the address for a client of a UNIX socket, which has none.
_UNIX: Final = "unix"


def category(event: ErrorEvent) -> str:
    """The kind of fault in *event*, by who should look into it:

    * ``"program"``: a hook or a listener raised, or a hook took too long;
    * ``"tls"``: a handshake or a TLS record failed;
    * ``"proxy"``: a proxy sent no acceptable PROXY header;
    * ``"listener"``: the server's own socket can't be opened (EADDRINUSE, EACCES), or the process
      lacks the resources to accept a client (EMFILE, ENFILE, ENOBUFS);
    * ``"network"``: the connection to a client broke or stalled (ECONNRESET, EPIPE, ETIMEDOUT);
    * ``"other"``: anything else, such as a fault of the library, or a store that is unreachable.
    """
    code = event.code
    if code in _PROGRAM:
        return "program"
    if code in _OTHER:
        return "other"
    if code == "TLSError":
        return "tls"
    if code == "ProxyError":
        return "proxy"
    if code in _LISTENER:
        return "listener"
    if code in _NETWORK or isinstance(event.error, (ConnectionError, TimeoutError)):
        return "network"
    if isinstance(event.error, OSError):  # an errno, or a name look-up, that isn't listed above
        return "listener" if event.remote_address is None else "network"
    return "other"


class EventLog:
    """Writes one line for each connection, AUTH, message, refused command, verdict of a policy,
    error and disconnect, and for the server's start and end.

    *logger*: by default ``logging.getLogger("smtp_blinker.events")``.
    *alert_after*, *alert_per*: that many errors within that many seconds make one CRITICAL line
    that begins with ALERT. The next alert comes only after *alert_per* seconds with fewer errors.
    ``alert_after=None``: no alerts.
    *tracebacks*: records of faults of `category` "program" and "other" have their traceback as
    ``exc_info``. `JSONFormatter` keeps it within the line; a text formatter writes it as further
    lines, which may contain unescaped text of a client. Without *tracebacks* the line names the
    files and line numbers of the traceback.

    *level*: the log doesn't listen to events whose records never reach this level, so that the
    server needn't make them. Give it if *logger* has a level above INFO that doesn't change.

    Levels: TLS handshakes DEBUG; connections, AUTH, messages, refused commands, verdicts,
    disconnects, start and end INFO; failed AUTH and faults of clients WARNING; faults of the
    program and the server ERROR. A refused command isn't a WARNING, because scanners cause many of
    them on every public port. An event is always one line of text: unprintable characters are
    escaped. Text that a client or a hook chose is at the end of the line.
    """

    def __init__(
        self,
        logger: logging.Logger | None = None,
        *,
        alert_after: int | None = 100,
        alert_per: float = 60.0,
        tracebacks: bool = False,
        level: int = logging.NOTSET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if alert_after is not None and alert_after < 1:
            raise ValueError(f"alert_after is a number of errors, at least 1, not {alert_after!r}")
        self.logger = logging.getLogger("smtp_blinker.events") if logger is None else logger
        self.alert_per = alert_per
        self.tracebacks = tracebacks
        self._clock = clock
        # The times of the latest errors. A full deque has enough of them for an alert.
        self._errors: deque[float] | None = None
        if alert_after is not None:
            self._errors = deque(maxlen=alert_after)
        self._quiet_until = float("-inf")
        self._models: dict[int, dict[str, Any]] = {}
        # With the highest level of their records.
        receivers: tuple[tuple[int, Any, Callable[..., None]], ...] = (
            (logging.INFO, listening, self._on_listening),
            (logging.INFO, connect, self._on_connect),
            (logging.DEBUG, secure, self._on_secure),
            (logging.WARNING, auth, self._on_auth),
            (logging.INFO, message, self._on_message),
            (logging.INFO, refused, self._on_refused),
            (logging.INFO, verdict, self._on_verdict),
            (logging.CRITICAL, error, self._on_error),
            (logging.INFO, disconnect, self._on_disconnect),
            (logging.INFO, close, self._on_close),
        )
        self._receivers = [one[1:] for one in receivers if one[0] >= level]

    def attach(self, server: object = None) -> EventLog:
        """Listen to *server*, or to every server of the process. Returns the listener."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, ANY if server is None else server, weak=False)
        return self

    def detach(self) -> None:
        """Stop listening to all servers."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)

    # The level is checked first, so that a disabled log costs almost nothing.

    def _on_listening(self, server: object, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            address = address_of(server)
            self._write(logging.INFO, "listening", {"address": address}, "listening on %s", address)

    def _on_close(self, server: object, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            address = address_of(server)
            self._write(logging.INFO, "close", {"address": address}, "closed %s", address)

    def _on_connect(self, server: object, event: ConnectEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            self._write(
                logging.INFO,
                "connect",
                event.as_dict(),
                "[%s] connect from %s port %s, %s, calls itself %s",
                event.id,
                event.remote_address or _UNIX,
                event.remote_port,
                event.client_hostname,
                event.host_name_appears_as or "nothing",
            )

    def _on_secure(self, server: object, event: SecureEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.DEBUG):
            self._write(
                logging.DEBUG,
                "secure",
                event.as_dict(),
                "[%s] secure with %s, %s, server name %s",
                event.id,
                event.protocol,
                event.cipher,
                event.servername or "not given",
            )

    def _on_auth(self, server: object, event: AuthEvent, **extra: object) -> None:
        level = logging.INFO if event.success else logging.WARNING
        if self.logger.isEnabledFor(level):
            self._write(
                level,
                "auth",
                event.as_dict(),
                "[%s] AUTH %s %s, user %s",
                event.id,
                event.method,
                "succeeded" if event.success else "failed",
                "not given" if event.username is None else event.username,
            )

    def _on_message(self, server: object, event: MessageEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            self._write(
                logging.INFO,
                "message",
                event.as_dict(),
                "[%s] message %s answered %s, %s bytes in %.3f s, from <%s> to %s: %s",
                event.id,
                event.transaction,
                event.code,
                event.size,
                event.seconds,
                event.mail_from,
                recipients(event.rcpt_to),
                event.reply,
            )

    def _on_refused(self, server: object, event: RefusedEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            self._write(
                logging.INFO,
                "refused",
                event.as_dict(),
                "[%s] refused %s, answered %s %s%s",
                event.id,
                event.remote_address or _UNIX,
                event.code,
                event.reply,
                f": {event.command} {event.argument}".rstrip() if event.command else "",
            )

    def _on_verdict(self, server: object, event: VerdictEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            fields = event.as_dict()
            self._write(
                logging.INFO,
                "verdict",
                fields,
                "[%s] verdict of %s: %s%s",
                event.id,
                event.policy,
                event.verdict,
                f", {json.dumps(fields['result'])}" if event.result else "",
            )

    def _on_disconnect(self, server: object, event: DisconnectEvent, **extra: object) -> None:
        if self.logger.isEnabledFor(logging.INFO):
            self._write(
                logging.INFO,
                "disconnect",
                event.as_dict(),
                "[%s] disconnect of %s, %s after %.3f s, %s messages, %s bytes in, %s bytes out%s",
                event.id,
                event.remote_address or _UNIX,
                event.reason,
                event.seconds,
                event.messages,
                event.bytes_in,
                event.bytes_out,
                f": {event.detail}" if event.detail else "",
            )

    def _on_error(self, server: object, event: ErrorEvent, **extra: object) -> None:
        kind = category(event)
        level = logging.WARNING if kind in _CLIENT_SIDE else logging.ERROR
        if self.logger.isEnabledFor(level):
            failure = event.error
            ours = kind in {"program", "other"}  # show where in the code it happened
            facts = [
                f"{name} {value}"
                for name, value in (
                    ("client", event.remote_address),
                    ("answered", event.response_code),
                    *event.meta.items(),
                    ("at", place(failure) if ours else None),
                )
                if value not in (None, "")
            ]
            self._write(
                level,
                "error",
                {"category": kind, **event.as_dict()},
                "[%s] error %s (%s), %s: %s",
                event.id or "-",
                event.code,
                kind,
                ", ".join(facts) or "server",
                f"{type(failure).__name__}: {failure}",
                failure=failure if self.tracebacks and ours else None,
            )
        if self._errors is not None:
            self._watch(self._errors)

    def _watch(self, errors: deque[float]) -> None:
        """Count an error, and log an alert if there are too many."""
        now = self._clock()
        errors.append(now)
        if len(errors) != errors.maxlen or now - errors[0] > self.alert_per:
            return
        calm = now > self._quiet_until
        # With or without an alert now, the next one comes only after a calm time.
        self._quiet_until = now + self.alert_per
        if calm and self.logger.isEnabledFor(logging.CRITICAL):
            self._write(
                logging.CRITICAL,
                "alert",
                {"errors": len(errors), "seconds": self.alert_per},
                "ALERT: %s errors within %g seconds",
                len(errors),
                self.alert_per,
            )

    def _write(
        self,
        level: int,
        signal: str,
        fields: dict[str, Any],
        template: str,
        *values: object,
        failure: BaseException | None = None,
    ) -> None:
        # If the whole line is printable, its parts needn't be checked.
        line = template % values
        if not line.isprintable() or len(line) > MAX_TEXT:
            values = tuple([one_line(value) for value in values])
        fields["signal"] = signal
        record = self._record(level, template, values)
        record.smtp = fields
        if failure is not None:
            record.exc_info = (type(failure), failure, failure.__traceback__)
        self.logger.handle(record)

    def _record(self, level: int, template: str, values: tuple[object, ...]) -> Any:
        """Make the LogRecord of a line, from a copy of an earlier record of this level.

        LogRecord's constructor spends most of its time on names of files, threads and processes.
        """
        factory = logging.getLogRecordFactory()
        if factory is not logging.LogRecord:
            return factory(self.logger.name, level, __file__, 0, template, values, None)
        model = self._models.get(level)
        if model is None or model["process"] != os.getpid():
            record = factory(self.logger.name, level, __file__, 0, template, values, None)
            self._models[level] = record.__dict__.copy()
            return record
        record = logging.LogRecord.__new__(logging.LogRecord)
        now = time.time()
        fields = model.copy()
        fields["msg"] = template
        fields["args"] = values
        fields["created"] = now
        fields["levelname"] = logging.getLevelName(level)
        fields["msecs"] = int(now % 1 * 1000) + 0.0  # as the module logging computes it
        fields["relativeCreated"] += (now - model["created"]) * 1000
        record.__dict__ = fields
        return record


class JSONFormatter(logging.Formatter):
    """Formats any record as one line of JSON in ASCII.

    The keys are ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``; ``smtp`` (``signal``
    and the event's fields) for the record of an event; and ``traceback`` if it has one.
    """

    def format(self, record: logging.LogRecord) -> str:
        time_ = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": time_.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, "smtp", None)
        if event is not None:
            line["smtp"] = event
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
