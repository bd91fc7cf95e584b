"""What a command may use of the connection that it came on."""

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
    """What XCLIENT and XFORWARD have changed about a session; see `forwarding`."""

    __slots__ = ("first_client", "hello_name", "real_client", "used")

    def __init__(self) -> None:
        #: The argument of the last HELO, EHLO or LHLO in lower case.
        self.hello_name: str | None = None
        #: The client as it was before any of them named another; None where none did.
        self.first_client: tuple[Any, ...] | None = None
        #: The client as it was before XFORWARD; None without XFORWARD.
        self.real_client: tuple[Any, ...] | None = None
        #: Whether a transaction has begun since the last XFORWARD.
        self.used = False


class CommandLog(Protocol):
    """The protocol's own log."""

    def log(self, text: str, *args: object) -> None: ...

    def log_command(self, verb: str, argument: str) -> None: ...


class CommandContext(Protocol):
    """The session, and what a command may do besides changing it."""

    session: Session
    options: Options
    hooks: Hooks
    capabilities: Capabilities
    limits: Limits
    forwarded: Forwarded
    protocol: SMTPProtocol

    @property
    def events(self) -> CommandLog: ...

    #: Whether some commands aren't served, or are logged; only then each one is checked.
    is_restricted: bool
    #: Whether mail is accepted only after AUTH.
    auth_demanded: bool
    #: The verb of the command that is or was answered.
    verb: Verb | None
    #: The AUTH exchange in progress.
    exchange: Exchange | None
    #: The mechanism that the last AUTH named.
    mechanism: str
    #: The address and port that the latest `connect` named; None before the first.
    announced: tuple[str, int] | None
    #: Why the connection ends after the reply; "" when it goes on.
    close_reason: str

    def call_hook(self, name: str, *args: Any) -> Any:
        """Call a hook that is there; raises its Reject, or a Refusal with 451 for a fault of the
        program's."""

    def call_policies(self, name: str, *args: Any) -> None:
        """Ask the policies of a stage and not the program; raises as `call_hook` does."""

    def pause(self, seconds: float) -> None:
        """Keep the client waiting."""

    def authenticated(self, method: str, username: str | None, success: bool) -> None:
        """An AUTH exchange ended."""

    def emit_connect(self) -> None:
        """Send `connect`."""

    def client_changed(self) -> None:
        """The client has another address."""

    def greeting(self) -> Reply: ...
