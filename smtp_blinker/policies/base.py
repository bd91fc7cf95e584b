"""The base of all policies: which clients they judge, and what happens if they can't judge."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any, ClassVar, Final, Literal, get_args

from ..options import Network, Trust
from ..session import Session
from ..signals import ErrorEvent, VerdictEvent, emit, emit_error, verdict
from ..smtp.reply import Reject

#: The effect of a failure: the mail passes, or the client gets 451 4.7.1.
OnFailure = Literal["accept", "defer"]
Networks = Iterable[str | IPv4Address | IPv6Address | Network]
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
#: Addresses in the cache of trust. Rarely are more clients connected at a time.
_KNOWN_ADDRESSES: Final = 10_000


class PolicyFailure(Exception):
    """A policy could not judge; ``__cause__`` says why. The `error` event carries it."""


class Finding:
    """The base class of the results of policies, which are frozen dataclasses with slots."""

    __slots__ = ()

    @property
    def verdict(self) -> str:
        """The result in a word or two, from a fixed set."""
        raise NotImplementedError

    def as_dict(self) -> dict[str, Any]:
        """The verdict and the fields as JSON-ready values."""
        return {"verdict": self.verdict, **asdict(self)}  # type: ignore[call-overload]


class BasePolicy:
    """The base class of policies: the name, the clients to judge, and what happens on failures.

    *trusted*: addresses and networks of clients that it doesn't judge; a client of a UNIX socket
    counts as 127.0.0.1. *judge_authenticated*: whether it also judges clients after AUTH.
    *timeout*: seconds that one judgement may wait for the other service, greater than 0.
    *on_failure*: what happens without an answer: the mail passes (``"accept"``) or the client gets
    451 4.7.1 (``"defer"``). Raises TypeError or ValueError for a wrong value.
    """

    #: The key in `Session.results` and `Envelope.results`, and the policy's name in `error`.
    name: ClassVar[str] = ""

    def __init__(
        self,
        *,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = 5.0,
        on_failure: OnFailure = "accept",
    ) -> None:
        if isinstance(trusted, bool):
            raise TypeError(f"trusted takes a list of addresses and networks, not {trusted!r}")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout takes a number of seconds, not {timeout!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be greater than 0, not {timeout!r}")
        if on_failure not in get_args(OnFailure):
            raise ValueError(f'on_failure is "accept" or "defer", not {on_failure!r}')
        self.judge_authenticated = judge_authenticated
        self.timeout = timeout
        self.on_failure = on_failure
        trust = Trust("trusted", trusted)
        self._is_trusted = lru_cache(_KNOWN_ADDRESSES)(trust.__contains__)
        self._servers: weakref.WeakSet[Any] = weakref.WeakSet()

    def attach(self, server: Any) -> None:
        """`SMTPServer.use` calls it. Failures then go to *server*'s `error` signal."""
        self._servers.add(server)

    def judges(self, session: Session) -> bool:
        """Whether this policy judges the client of *session*."""
        if session.user is not None and not self.judge_authenticated:
            return False
        return not self._is_trusted(session.remote_address or "127.0.0.1")

    def note(self, session: Session, results: dict[str, Any], found: Finding) -> None:
        """Put *found* into *results*, of *session* or of its envelope, and send `verdict`."""
        results[self.name] = found
        self.tell(session, found)

    def tell(self, session: Session, found: Finding | None) -> None:
        """Send `verdict` about *found*, or about a failure without a result."""
        if not verdict.receivers:
            return
        server = self._server_of(session)
        if server is None or session.remote_address in server.options.ignored_hosts:
            return
        event = VerdictEvent(
            session.id,
            session.transaction,
            self.name,
            "failure" if found is None else found.verdict,
            {} if found is None else found.as_dict(),
        )
        emit(verdict, server, event)

    def fail(self, session: Session, cause: BaseException | str) -> None:
        """Handle that this client or message can't be judged: send `error`.

        With ``on_failure="defer"`` it raises Reject 451 4.7.1; else it returns, so the mail passes.
        """
        deferred = self.on_failure == "defer"
        self.report(session, cause, 451 if deferred else None)
        if deferred:
            raise self.deferral()

    def report(
        self, session: Session, cause: BaseException | str, response_code: int | None = None
    ) -> None:
        """Only send `error` about *cause*."""
        failure = PolicyFailure(f"{self.name}: {_described(cause)}")
        if isinstance(cause, BaseException):
            failure.__cause__ = cause
        event = ErrorEvent(
            failure,
            "PolicyFailure",
            session.remote_address,
            response_code,
            {"policy": self.name},
            session.id,
        )
        emit_error(self._server_of(session), event)

    def deferral(self) -> Reject:
        """The refusal of a client or message that can't be judged now."""
        return Reject(451, "Try again later: this server can't check mail now", "4.7.1")

    def _server_of(self, session: Session) -> Any:
        """The server of *session*, among those that use this policy."""
        servers = list(self._servers)
        if len(servers) < 2:
            return servers[0] if servers else None
        attributes = session.__dict__  # cached, because a search of all connections takes a while
        if "_server" not in attributes:
            attributes["_server"] = next(
                (one for one in servers[1:] if _serves(one, session)), servers[0]
            )
        return attributes["_server"]


def _serves(server: Any, session: Session) -> bool:
    return any(connection.session is session for connection in list(server.connections))


def _described(cause: BaseException | str) -> str:
    if isinstance(cause, str):
        return cause
    return f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
