"""DNS blocklists (RFC 5782)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address
from time import monotonic
from typing import Final

import gevent

from ..session import Address, Session
from ..smtp.names import ascii_domain
from ..smtp.reply import Reject
from .base import LOOPBACK, BasePolicy, Finding, Networks, OnFailure
from .dns import DNSFailure, Queries, Resolver

#: The most characters of a list's TXT record in a reply.
MAX_TEXT: Final = 200
#: RFC 5782 section 2.1: a listing is an address in this network.
_LISTINGS: Final = IPv4Network("127.0.0.0/8")
#: The answers of lists to clients that ask too often, or through a public resolver: Spamhaus
#: returns an address in this network, URIBL and others 127.0.0.1, dnswl.org 127.0.0.255.
_ERRORS: Final = IPv4Network("127.255.255.0/24")
_REFUSALS: Final = frozenset({IPv4Address("127.0.0.1"), IPv4Address("127.0.0.255")})
#: The longest name in front of a zone: 32 nibbles with their dots.
_MAX_ZONE: Final = 253 - 64


@dataclass(frozen=True, slots=True)
class Listing:
    """One list's entry for a client."""

    zone: str
    #: The answers in 127.0.0.0/8; each list defines what its answers mean.
    answers: tuple[str, ...]
    #: Its TXT record in printable ASCII, or "".
    text: str


@dataclass(frozen=True, slots=True)
class DNSBlocklistResult(Finding):
    """The results of all lists for a client."""

    address: str
    listings: tuple[Listing, ...]
    #: The zones without an answer, with the reason.
    failures: tuple[tuple[str, str], ...] = ()

    @property
    def verdict(self) -> str:
        if self.listings:
            return "listed"
        return "failure" if self.failures else "not listed"


class DNSBlocklist(BasePolicy):
    """Refuses MAIL with 554 5.7.1 if the client's address is in a DNS blocklist.

    *zone*: the zone of the list, or several zones, which are queried in parallel. *reject*: with
    False it only records the result in ``session.results["dnsblocklist"]``. *resolver*: a
    `dns.Resolver`, by default one with the servers of /etc/resolv.conf. These are failures and not
    listings: an answer that means "query refused", an answer outside the range of listings, and no
    answer within *timeout* seconds. Many lists don't answer public resolvers: use one of your own.
    Raises ValueError for a wrong zone.
    """

    name = "dnsblocklist"

    def __init__(
        self,
        zone: str | Iterable[str],
        *,
        reject: bool = True,
        resolver: Queries | None = None,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = 5.0,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        zones = [zone] if isinstance(zone, str) or not isinstance(zone, Iterable) else zone
        self.zones = tuple(_checked_zone(one) for one in zones)
        if not self.zones:
            raise ValueError("DNSBlocklist needs one zone or more")
        self.reject = reject
        self._resolver: Queries = Resolver() if resolver is None else resolver

    def on_mail_from(self, address: Address, session: Session) -> None:
        if not session.remote_address or not self.judges(session):
            return
        found = session.results.get(self.name)
        if found is None or found.address != session.remote_address or found.failures:
            found = self._look_up(session.remote_address)
            self.note(session, session.results, found)
        if found.listings and self.reject:
            listing = found.listings[0]
            text = f"Client address [{found.address}] is listed by {listing.zone}"
            raise Reject(554, f"{text}: {listing.text}" if listing.text else text, "5.7.1")
        if found.failures and not found.listings:
            self.fail(session, "; ".join(f"{zone}: {why}" for zone, why in found.failures))

    def _look_up(self, client: str) -> DNSBlocklistResult:
        labels = _reversed(client)
        deadline = monotonic() + self.timeout
        # Each of them ends by the deadline itself.
        asked = [gevent.spawn(self._ask, labels, zone, deadline) for zone in self.zones]
        gevent.joinall(asked)
        listings: list[Listing] = []
        failures: list[tuple[str, str]] = []
        for zone, one in zip(self.zones, asked, strict=True):
            if isinstance(one.value, Listing):
                listings.append(one.value)
            elif one.value is not None:
                failures.append((zone, one.value))
        return DNSBlocklistResult(client, tuple(listings), tuple(failures))

    def _ask(self, labels: str, zone: str, deadline: float) -> Listing | str | None:
        """The listing, None if there is none, or why that isn't known."""
        name = f"{labels}.{zone}"
        try:
            answers = self._resolver.query(name, "A", max(deadline - monotonic(), 0.001))
            codes = tuple(str(answer) for answer in answers)
        except Exception as exc:  # a program's own resolver may raise anything
            return str(exc) if isinstance(exc, DNSFailure) else f"{type(exc).__name__}: {exc}"
        good = tuple(code for code in codes if _is_listing(code))
        if not good:
            return f"it answered {', '.join(codes[:5])}, which is not a listing" if codes else None
        try:
            texts = self._resolver.query(name, "TXT", max(deadline - monotonic(), 0.001))
            text = _printable(texts[0]) if texts else ""
        except Exception:
            text = ""  # it only explains
        return Listing(zone, good, text)


def _checked_zone(zone: object) -> str:
    if isinstance(zone, str):
        name = ascii_domain(zone.strip().rstrip(".")).lower()
        labels = name.split(".")
        if len(labels) > 1 and len(name) <= _MAX_ZONE and all(map(_is_label, labels)):
            return name
    raise ValueError(f'a zone is a name like "bl.example.org", not {zone!r}')


def _is_label(label: str) -> bool:
    return 0 < len(label) < 64 and label.replace("-", "a").replace("_", "a").isalnum()


def _reversed(client: str) -> str:
    """The labels for an address (RFC 5782 sections 2.1 and 2.4)."""
    address = ip_address(client.partition("%")[0])
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.version == 4:
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(address.exploded.replace(":", "")))


def _is_listing(code: str) -> bool:
    try:
        address = IPv4Address(code)
    except ValueError:
        return False
    return address in _LISTINGS and address not in _ERRORS and address not in _REFUSALS


def _printable(text: str | bytes) -> str:
    """*text* as printable ASCII for a reply, at most MAX_TEXT characters."""
    text = text[: MAX_TEXT * 4]
    decoded = text.decode("ascii", "replace") if isinstance(text, bytes) else text
    clean = "".join(char if " " <= char <= "~" else "?" for char in decoded)
    return clean[:MAX_TEXT].strip()
