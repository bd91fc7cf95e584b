"""Greylisting (RFC 6647): a client that sends for the first time has to try again later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from ..session import Address, Session
from ..smtp.reply import Reject
from .base import LOOPBACK, Finding, Networks, OnFailure
from .counters import Counters, network_of
from .limits import TIMEOUT, CountingPolicy, short_key

#: RFC 6647 section 5 asks for both limits: the seconds within which an unknown client must come
#: back, and those for which a client stays known after its latest message.
RETRY_WINDOW: Final = 2 * 86400.0
KEEP: Final = 35 * 86400.0
#: Large senders try again from another address in the same network.
_IPV4_BITS: Final = 24


@dataclass(frozen=True, slots=True)
class GreylistResult(Finding):
    """The result of greylisting for the latest RCPT."""

    #: Seconds until the same triplet passes; 0 if it has passed.
    wait: float
    #: What identifies the client: its network, or the sender's domain if SPF has passed.
    client: str

    @property
    def verdict(self) -> str:
        return "wait" if self.wait else "known"


class Greylist(CountingPolicy):
    """Refuses RCPT with 451 4.7.1 for a new triplet of network, sender and recipient.

    It accepts a retry after *delay* seconds and within two days. After that the triplet is known,
    until it hasn't been used for 35 days. The network is the /24 of an IPv4 address or the /64 of
    an IPv6 address; if `SenderAuthentication`, used before this policy, found an SPF pass, it is
    the sender's domain instead. Clients after AUTH aren't greylisted, unless *judge_authenticated*.
    Raises ValueError for a *delay* that isn't greater than 0 and less than two days.
    """

    name = "greylist"

    def __init__(
        self,
        delay: float = 300,
        *,
        counters: Counters | None = None,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = TIMEOUT,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(
            counters,
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        if isinstance(delay, bool) or not 0 < delay < RETRY_WINDOW:
            raise ValueError(f"delay is from 0 to {RETRY_WINDOW:g} seconds, not {delay!r}")
        self.delay = float(delay)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        if not self.judges(session):
            return
        mail_from = session.envelope.mail_from
        sender = "" if mail_from is None else mail_from.address.lower()
        client = _spf_domain(session, sender) or network_of(session.remote_address, _IPV4_BITS)
        key = short_key(f"{client} {sender} {address.address.lower()}")
        wait = self.counters.triplet(key, self.delay, RETRY_WINDOW, KEEP, self.timeout)
        self.check_counters()
        self.note(session, session.envelope.results, GreylistResult(wait, client))
        if wait > 0:
            seconds = math.ceil(wait)
            text = f"Greylisted, try again in {seconds} second{'s' * (seconds != 1)}"
            raise Reject(451, text, "4.7.1")


def _spf_domain(session: Session, sender: str) -> str:
    """The domain of *sender* if SPF has passed for it, else ""."""
    found = session.envelope.results.get("sender_authentication")
    spf = getattr(found, "spf", None)
    domain = sender.rpartition("@")[2]
    return domain if domain and getattr(spf, "result", None) == "pass" else ""
