"""Limits across connections, and with `RedisCounters` across nodes."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ..session import Address, Credentials, Session
from ..signals import AuthEvent, RefusedEvent, auth, refused
from ..smtp.reply import Reject
from .base import LOOPBACK, BasePolicy, Finding, Networks, OnFailure
from .counters import Counters, Hit, MemoryCounters, network_of

#: The events that `RateLimit` counts, and the keys that it counts them by.
Of = Literal["connections", "messages", "recipients"]
Key = Literal["network", "user", "sender"]
#: The units of a rate in seconds.
UNITS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
#: The largest number of a rate, because the time of each event is kept.
MAX_NUMBER: Final = 100_000
#: The time in seconds that a limit waits for its counters.
TIMEOUT: Final = 0.05
_RATE: Final = re.compile(r"([0-9]{1,6}) ?/ ?([0-9]{0,5}) ?(second|minute|hour|day)s?", re.ASCII)
#: Values up to this many characters are part of the key; longer ones are hashed.
_MAX_VALUE: Final = 80


def parse_rate(text: str) -> tuple[int, float]:
    """Parse a rate such as ``"100/minute"`` or ``"1000/6 hours"`` into a number and seconds.

    Raises ValueError for a wrong rate.
    """
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    number, per = (int(match[1]), int(match[2] or 1) * UNITS[match[3]]) if match else (0, 0)
    if not (1 <= number <= MAX_NUMBER and per):
        raise ValueError(
            f'a rate is like "100/minute" or "1000/6 hours", with a number from 1 to {MAX_NUMBER} '
            f"and second, minute, hour or day, not {text!r}"
        )
    return number, float(per)


def short_key(value: str) -> str:
    """*value*, or its hash if it is long: clients choose these values, and all are kept."""
    if len(value) <= _MAX_VALUE:
        return value
    octets = value.encode("utf-8", "backslashreplace")
    return hashlib.blake2b(octets, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class LimitResult(Finding):
    """The result of a limit. The signal `verdict` is sent only for refusals."""

    #: What was counted, for example "messages by network".
    counted: str
    #: The number that the limit allows.
    number: int
    refused: bool
    #: Seconds until the next one is allowed, or None if that isn't known.
    retry_after: float | None = None

    @property
    def verdict(self) -> str:
        return "refused" if self.refused else "allowed"


class CountingPolicy(BasePolicy):
    """A policy with `Counters`, by default `MemoryCounters`."""

    def __init__(
        self,
        counters: Counters | None,
        *,
        trusted: Networks,
        timeout: float,
        on_failure: OnFailure,
        judge_authenticated: bool = True,
    ) -> None:
        super().__init__(
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        self.counters: Counters = MemoryCounters() if counters is None else counters
        for method in ("hit", "lease", "triplet"):
            if not callable(getattr(self.counters, method, None)):
                raise TypeError(
                    f"counters takes MemoryCounters() or RedisCounters(url), not {counters!r}"
                )

    def attach(self, server: Any) -> None:
        super().attach(server)
        self.counters.attach(server)

    def check_counters(self) -> None:
        """Refuse if only this process was counted and the policy needs all nodes."""
        if self.on_failure == "defer" and self.counters.away:
            raise self.deferral()


class RateLimit(CountingPolicy):
    """At most *rate* connections, messages or recipients of one network, user or sender.

    *rate*: for example ``"100/minute"`` or ``"1000/6 hours"``; no period of that length has more.
    *of*: ``"connections"`` (421 4.7.0 before the greeting), ``"messages"`` (451 4.7.0 at MAIL) or
    ``"recipients"`` (452 4.7.0 at RCPT). *key*: ``"network"`` (an IPv4 address, or the /64 of an
    IPv6 address), ``"user"`` (only clients after AUTH) or ``"sender"`` (the reverse-path; the null
    reverse-path isn't counted). Refused ones aren't counted. Raises ValueError for a wrong rate,
    and for connections with another key than the network.
    """

    name = "rate_limit"

    def __init__(
        self,
        rate: str,
        *,
        of: Of = "messages",
        key: Key = "network",
        counters: Counters | None = None,
        trusted: Networks = LOOPBACK,
        timeout: float = TIMEOUT,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(counters, trusted=trusted, timeout=timeout, on_failure=on_failure)
        self.number, self.per = parse_rate(rate)
        if of not in get_args(Of):
            raise ValueError(f"of is one of {', '.join(get_args(Of))}, not {of!r}")
        if key not in get_args(Key):
            raise ValueError(f"key is one of {', '.join(get_args(Key))}, not {key!r}")
        if of == "connections" and key != "network":
            raise ValueError(f"connections are counted by network: they have no {key} yet")
        self.of = of
        self.key = key
        self._prefix = f"rate:{of}:{key}:{self.number}/{self.per:g}:"
        self._counted = f"{of} by {key}"

    def on_connect(self, session: Session) -> None:
        if self.of == "connections" and self.judges(session):
            self._count(session, network_of(session.remote_address), 421, session.results)

    def on_auth(self, credentials: Credentials, session: Session) -> None:
        if self.key == "user":
            # Used if the user that `on_auth` returns isn't text.
            session.__dict__["_rate_limit_name"] = credentials.username

    def on_mail_from(self, address: Address, session: Session) -> None:
        if self.of == "messages" and self.judges(session):
            self._count_by_key(session, address.address, 451)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if self.of == "recipients" and self.judges(session):
            sender = session.envelope.mail_from
            self._count_by_key(session, "" if sender is None else sender.address, 452)

    def _count_by_key(self, session: Session, sender: str, code: int) -> None:
        if self.key == "network":
            value = network_of(session.remote_address)
        elif self.key == "sender":
            value = sender.lower()
        elif session.user is None:
            value = ""
        else:
            user = session.user
            name = user if isinstance(user, str) else session.__dict__.get("_rate_limit_name", "")
            value = name or str(user)
        if value or self.key == "network":
            self._count(session, value, code, session.envelope.results)

    def _count(self, session: Session, value: str, code: int, results: dict[str, Any]) -> None:
        key = self._prefix + short_key(value)
        wait = self.counters.hit(key, self.number, self.per, self.timeout).wait
        self.check_counters()
        result = LimitResult(self._counted, self.number, wait > 0, wait or None)
        results[self.name] = result
        if wait > 0:
            self.tell(session, result)
            seconds = math.ceil(wait)
            text = f"Too many {self.of}, try again in {seconds} second{'s' * (seconds != 1)}"
            raise Reject(code, text, "4.7.0")


class ConnectionLimit(CountingPolicy):
    """At most *number* open connections of one network: 421 4.7.0 before the greeting.

    With `RedisCounters` it counts across all nodes, by leases that expire when a node dies. For one
    process the option ``max_clients_per_ip`` does the same at less cost. Raises ValueError for a
    *number* below 1.
    """

    name = "connection_limit"

    def __init__(
        self,
        number: int,
        *,
        counters: Counters,
        trusted: Networks = LOOPBACK,
        timeout: float = TIMEOUT,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(counters, trusted=trusted, timeout=timeout, on_failure=on_failure)
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"number must be a whole number from 1, not {number!r}")
        self.number = number
        #: The key of each session that holds a lease.
        self._held: dict[str, str] = {}

    def on_connect(self, session: Session) -> None:
        if not self.judges(session):
            return
        key = f"connections:{network_of(session.remote_address)}"
        given = self.counters.lease(key, session.id, self.number, self.timeout)
        if given:
            self._held[session.id] = key
        result = LimitResult("live connections", self.number, not given)
        session.results[self.name] = result
        if not given:
            self.tell(session, result)
            raise Reject(421, "Too many connections from your network", "4.7.0")
        self.check_counters()

    def on_close(self, session: Session) -> None:
        key = self._held.pop(session.id, None)
        if key is not None:
            self.counters.release(key, session.id)


@dataclass(slots=True)
class _Attempt:
    """An AUTH whose outcome isn't known yet, and its counted events."""

    network: str
    network_hit: Hit
    account: str
    account_hit: Hit


class AuthLockout(CountingPolicy):
    """Refuses AUTH after too many failed ones: *failures* within *per* seconds for an account or a
    network. Further AUTH, right or wrong, is 454 4.7.0 without a call of the program's `on_auth`.

    An attempt is counted before its outcome is known, so that parallel attempts can't exceed
    *failures*. A success clears the failures of the account, but not those of the network. A
    failure of the server (4yz) doesn't count. An unknown mechanism counts for the network only.
    Logins by `XCLIENT` aren't judged. Raises ValueError for less than 1 failure or 1 second.
    """

    name = "auth_lockout"

    def __init__(
        self,
        failures: int = 10,
        per: float = 900,
        *,
        counters: Counters | None = None,
        trusted: Networks = LOOPBACK,
        timeout: float = TIMEOUT,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(counters, trusted=trusted, timeout=timeout, on_failure=on_failure)
        if isinstance(failures, bool) or not isinstance(failures, int) or failures < 1:
            raise ValueError(f"failures must be a whole number from 1, not {failures!r}")
        if not per >= 1:
            raise ValueError(f"per must be 1 second or more, not {per!r}")
        self.failures = failures
        self.per = float(per)
        self._attempts: dict[str, _Attempt] = {}

    def attach(self, server: Any) -> None:
        super().attach(server)
        auth.connect(self._on_auth_ended, server, weak=False)
        refused.connect(self._on_refused, server, weak=False)

    def on_auth(self, credentials: Credentials, session: Session) -> None:
        if credentials.method == "XCLIENT" or not self.judges(session):
            return
        network = f"auth:network:{network_of(session.remote_address)}"
        account = f"auth:account:{short_key(credentials.username.casefold())}"
        by_account, by_network = self.counters.hit_both(
            account, network, self.failures, self.per, self.timeout
        )
        if by_account.wait:
            raise self._locked(session, "failed AUTH by account", by_account.wait)
        if by_network.wait:
            raise self._locked(session, "failed AUTH by network", by_network.wait)
        self._attempts[session.id] = _Attempt(network, by_network, account, by_account)
        session.results[self.name] = LimitResult("failed AUTH", self.failures, False)
        self.check_counters()

    def _locked(self, session: Session, counted: str, wait: float) -> Reject:
        self.note(session, session.results, LimitResult(counted, self.failures, True, wait))
        # RFC 4954 section 4.1: a temporary failure, which doesn't reveal whether it was right.
        return Reject(454, "Temporary authentication failure, try again later", "4.7.0")

    # The outcome

    def _on_auth_ended(self, server: object, event: AuthEvent, **extra: object) -> None:
        if event.success:
            self._succeeded(event.id)

    def _on_refused(self, server: object, event: RefusedEvent, **extra: object) -> None:
        if event.command != "AUTH":
            return
        attempt = self._attempts.pop(event.id, None)
        if attempt is None:
            if event.code == 504 and not self._is_trusted(event.remote_address or "127.0.0.1"):
                network = f"auth:network:{network_of(event.remote_address)}"
                self.counters.hit(network, self.failures, self.per, self.timeout)
        elif event.code < 500 and event.code != 421:
            self.counters.undo(attempt.account, attempt.account_hit.mark)
            self.counters.undo(attempt.network, attempt.network_hit.mark)

    def on_close(self, session: Session) -> None:
        # If no signal came (the option ignored_hosts, a lost connection).
        if session.user is not None:
            self._succeeded(session.id)
        self._attempts.pop(session.id, None)

    def _succeeded(self, id: str) -> None:
        attempt = self._attempts.pop(id, None)
        if attempt is not None:
            self.counters.clear(attempt.account)
            self.counters.undo(attempt.network, attempt.network_hit.mark)
