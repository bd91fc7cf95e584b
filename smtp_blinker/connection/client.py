"""One client: its session and transport, and the methods for commands and messages."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Final, Protocol

import gevent
from gevent import GreenletExit, getcurrent

from ..commands.capabilities import Capabilities
from ..commands.context import Forwarded
from ..commands.limits import Limits
from ..deciders import Stage
from ..hooks import Hooks, checked
from ..options import Options
from ..sasl.exchange import Exchange
from ..session import Session
from ..signals import refused
from ..smtp import reply
from ..smtp.protocol import Protocol as SMTPProtocol
from ..smtp.reply import Refusal, Reply
from ..smtp.verbs import Verb
from .clock import monotonic
from .events import ConnectionEvents
from .handshakes import set_addresses
from .hook_timer import HookTimedOut, HookTimer
from .incoming import Incoming
from .resolver import ReverseResolver
from .tls import SecureContexts
from .transport import Transport

#: `Client.admission` of a peer that hasn't sent its PROXY header yet.
UNINTRODUCED: Final = "unintroduced"


class Server(Protocol):
    """The part of the server that a connection uses. The server is the sender of its signals."""

    options: Options
    hooks: Hooks
    contexts: SecureContexts
    resolver: ReverseResolver
    logger: logging.Logger | None
    connections: set[Any]
    #: Connections whose client still sends after the last reply.
    lingering: int

    def admit_peer(self, connection: Client) -> bool:
        """Whether the server may wait for one more peer's PROXY header."""

    def admit(self, connection: Client) -> Reply | None:
        """Count the connection; returns the refusal if there are too many, or None."""

    def release(self, connection: Client) -> None:
        """Stop counting the connection. Further calls do nothing."""

    def ended(self, connection: Client) -> None:
        """Remove it from `connections`."""


class Client:
    """The state of a connection, and what its commands and messages use.

    It is the `CommandContext` of commands. *sock* is a connected, non-blocking socket.
    """

    __slots__ = (
        "_enhanced",
        "admission",
        "announced",
        "auth_demanded",
        "capabilities",
        "close_reason",
        "detail",
        "draining",
        "events",
        "exchange",
        "forwarded",
        "greenlet",
        "hooks",
        "incoming",
        "is_restricted",
        "killed",
        "limits",
        "mechanism",
        "messages",
        "options",
        "protocol",
        "server",
        "session",
        "session_deadline",
        "since",
        "transport",
        "turn_ends",
        "verb",
    )

    def __init__(self, server: Server, sock: Any, address: Any) -> None:
        options = self.options = server.options
        self.hooks = server.hooks
        self.server = server
        self.greenlet: Any = getcurrent()
        #: When it was accepted, in seconds of `clock.monotonic`.
        self.since = monotonic()
        patience = options.session_timeout
        self.session_deadline = float("inf") if patience is None else self.since + patience
        self.transport = Transport(sock, options.socket_timeout, self.session_deadline)
        self.session = Session(lmtp=options.lmtp, secure=options.secured)
        self.session.disabled_commands = options.disabled_commands
        set_addresses(self.session, sock, address)
        self.capabilities = Capabilities(options, server.hooks, server.contexts, self.session)
        self.protocol = SMTPProtocol(options.max_command_length, "reject")
        self._enhanced = options.enhanced
        self.events = ConnectionEvents(server, self.session, server.logger)
        self.limits = Limits(options)
        #: Messages that were answered with 250.
        self.messages = 0
        #: When other clients get their turn, as long as events arrive without a wait; else 0.
        self.turn_ends = 0.0
        self.draining = False
        self.killed = False
        #: How the server counts it: by this address, "" without a limit per address, UNINTRODUCED
        #: until the PROXY header has arrived, None if not at all.
        self.admission: str | None = None
        self.exchange: Exchange | None = None
        #: The mechanism of the last AUTH.
        self.mechanism = ""
        self.auth_demanded = self.hooks.on_auth is not None and not options.auth_optional
        #: Whether commands need more checks or reports: a log, disabled verbs, required
        #: for AUTH, a dialogue.
        self.is_restricted = (
            server.logger is not None or self.auth_demanded or bool(options.disabled_commands)
        )
        self.announced: tuple[str, int] | None = None
        self.forwarded = Forwarded()
        self.close_reason = ""
        #: The `detail` of the `disconnect` event.
        self.detail = ""
        #: The verb of the current or the last command.
        self.verb: Verb | None = None
        self.incoming: Incoming | None = None

    @property
    def bytes_in(self) -> int:
        return self.transport.bytes_in

    @property
    def bytes_out(self) -> int:
        return self.transport.bytes_out

    def greeting(self) -> Reply:
        options = self.options
        kind = "LMTP" if options.lmtp else "ESMTP"
        return _greeting_reply(options.name, kind, options.banner)

    def refuse(self, refusal: Reply) -> Reply:
        """Count a refusal, record whether it ends the connection, and return the reply to send."""
        refusal = self.limits.error(refusal)
        self.session.error = refusal
        if refusal.code == 421:
            # RFC 5321 section 3.8: 421 announces the close.
            self.close_reason = "abuse" if refusal in reply.ABUSE else "refused"
            self.detail = refusal.text
        return refusal

    def call_hook(self, name: str, *args: Any) -> Any:
        """Call the registered hook *name*; returns the checked result.

        Raises the hook's Reject, or a Refusal with 451 for a fault of the program. If the
        connection was lost meanwhile, the caller must notice it.
        """
        hook = getattr(self.hooks, name)
        if type(hook) is not Stage:
            return self.call(name, hook, args)
        self.call_policies(name, *args)
        return None if hook.program is None else self.call(name, hook.program, args)

    def call_policies(self, name: str, *args: Any) -> None:
        """Call only the policies of the stage *name*, if there are any."""
        hook = getattr(self.hooks, name)
        if type(hook) is not Stage:
            return
        for method in hook.methods:
            try:
                self.call_policy(name, method, *args)
            except Refusal:
                if name != "on_close":
                    raise
        if name == "on_auth":
            # A policy that reads authzid doesn't allow another identity by that.
            args[0].forget_reads()

    def call_policy(self, name: str, method: Any, *args: Any) -> None:
        """Call a policy's method in the same way; its result is ignored."""
        self.call(name, method, args, ignored=True)

    def call(self, name: str, hook: Any, args: tuple[Any, ...], ignored: bool = False) -> Any:
        """Call *hook*, the program's own part of the hook *name*; see `call_hook`."""
        seconds = self.options.hook_timeout
        timer = None
        incoming = self.incoming
        if name != "on_data":
            incoming = None  # for a command between two chunks, which has its own clock
        if seconds is not None:
            timer = HookTimer(seconds)
            if incoming is not None:
                incoming.hook_timer = timer
        try:
            try:
                result = hook(*args)
                return None if result is None or ignored else checked(name, result, args)
            finally:
                # The time of listeners doesn't count as the hook's.
                if timer is not None:
                    timer.pause()
                    if incoming is not None:
                        incoming.hook_timer = None
        except Refusal as refusal:
            # If the program raises the same object again and again, its traceback would keep
            # every refused session alive.
            raise refusal.with_traceback(None) from None
        except KeyboardInterrupt:
            raise
        except BaseException as exc:
            # SystemExit, GreenletExit and gevent.Timeout aren't Exceptions, but faults here too.
            if self.killed and isinstance(exc, GreenletExit):
                raise
            lost = incoming is not None and incoming.lost is not None
            if lost and isinstance(exc, ConnectionError):
                return None  # the stream raised it
            code = "HookTimeout" if isinstance(exc, HookTimedOut) else "HookError"
            answered = None if name == "on_close" else 451
            where = getattr(hook, "__qualname__", type(hook).__qualname__)
            self.report_fault(exc, code, response_code=answered, hook=where)
            raise Refusal(reply.LOCAL_ERROR) from None

    def pause(self, seconds: float) -> None:
        gevent.sleep(seconds)

    def send(self, answer: Reply) -> None:
        """Send *answer* with the next flush."""
        if self.events.logs:
            self.events.log_reply(answer)
        self.transport.unsent += answer.wire if self._enhanced else answer.plain

    def authenticated(self, method: str, username: str | None, success: bool) -> None:
        self.events.auth(method, username, success)

    def emit_connect(self) -> None:
        session = self.session
        self.announced = session.remote_address, session.remote_port
        self.events.connect()

    def client_changed(self) -> None:
        """The client has another address: limits for each address apply to the new one."""
        address = self.session.remote_address
        self.protocol.set_policy(self.options.bare_newline_policy(address))
        self.events.ignored = address in self.options.ignored_hosts

    # Reports

    def report_refused(self, argument: str, answer: Reply) -> None:
        if refused.receivers and self.events.hears(refused):
            verb = "" if self.verb is None else self.verb.name
            self.events.refused(verb, argument, answer)

    def report_fault(
        self, fault: BaseException, code: str, *, response_code: int | None = None, **meta: Any
    ) -> None:
        """Send `error`."""
        meta.setdefault("stage", self.protocol.state.name)
        if self.verb is not None:
            meta.setdefault("command", self.verb.name)
        self.events.error(fault, code, response_code, meta)


@lru_cache(maxsize=16)
def _greeting_reply(name: str, kind: str, banner: str | None) -> Reply:
    return Reply(220, f"{name} {kind} {banner}" if banner else f"{name} {kind}")
