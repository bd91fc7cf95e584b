"""The part of the connection that a command may use."""

from __future__ import annotations

from typing import Any, Protocol

from ..hooks import Hooks
from ..options import Options
from ..sasl.exchange import Exchange
from ..session import Session
from ..smtp.protocol import Protocol as SMTPProtocol
from ..smtp.reply import Reply
from ..smtp.verbs import Verb
from .capabilities import Capabilities
from .limits import Limits


class Forwarded:
    """What XCLIENT and XFORWARD have changed in a session; see `forwarding`."""

    __slots__ = ("first_client", "hello_name", "real_client", "used")

    def __init__(self) -> None:
        #: The argument of the last HELO, EHLO or LHLO in lower case.
        self.hello_name: str | None = None
        #: The client before the first XCLIENT or XFORWARD; None without any.
        self.first_client: tuple[Any, ...] | None = None
        #: The client before XFORWARD; None while no XFORWARD is in effect.
        self.real_client: tuple[Any, ...] | None = None
        #: Whether a transaction has begun since XFORWARD.
        self.used = False


class CommandLog(Protocol):
    """The log of commands and replies."""

    def log(self, text: str, *args: object) -> None: ...

    def log_command(self, verb: str, argument: str) -> None: ...


class CommandContext(Protocol):
    """The session, and everything else that a command may use or change."""

    session: Session
    options: Options
    hooks: Hooks
    capabilities: Capabilities
    limits: Limits
    forwarded: Forwarded
    protocol: SMTPProtocol

    @property
    def events(self) -> CommandLog: ...

    #: Whether each command must be checked first: some are disabled, require AUTH or are logged.
    is_restricted: bool
    #: Whether mail is accepted only after AUTH.
    auth_demanded: bool
    #: The verb of the current or the last command.
    verb: Verb | None
    #: The AUTH exchange in progress.
    exchange: Exchange | None
    #: The mechanism of the last AUTH.
    mechanism: str
    #: The address and port in the latest `connect` event; None before the first.
    announced: tuple[str, int] | None
    #: Why the connection ends after the reply; "" if it doesn't.
    close_reason: str

    def call_hook(self, name: str, *args: Any) -> Any:
        """Call the registered hook *name*. Raises its Reject, or a Refusal with 451 for a fault of
        the program."""

    def call_policies(self, name: str, *args: Any) -> None:
        """Call only the policies of the stage *name*; raises like `call_hook`."""

    def pause(self, seconds: float) -> None:
        """Wait *seconds* before the reply."""

    def authenticated(self, method: str, username: str | None, success: bool) -> None:
        """Report the end of an AUTH exchange."""

    def emit_connect(self) -> None:
        """Send the signal `connect`."""

    def client_changed(self) -> None:
        """Apply a new address of the client."""

    def greeting(self) -> Reply: ...
