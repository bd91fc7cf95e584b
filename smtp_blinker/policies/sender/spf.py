"""SPF (RFC 7208): checks whether a client may send mail for a domain."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final

from ..dns import DNSFailure
from .lookups import Lookups, is_name
from .results import SPFResult
from .spf_macros import Macros
from .spf_record import Mechanism, Record, SPFSyntaxError, is_record, parse

# RFC 7208 section 4.6.4
MAX_TERMS: Final = 10
MAX_VOID: Final = 2
MAX_HOSTS: Final = 10

_RESULTS: Final = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_LOOKS_UP: Final = frozenset({"include", "a", "mx", "ptr", "exists"})


class _End(Exception):
    """Ends the check with a result."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


@dataclass(slots=True)
class _Budget:
    terms: int = MAX_TERMS
    void: int = MAX_VOID


def check_spf(
    client: str, sender: str, helo: str, lookups: Lookups, receiver: str = "unknown"
) -> SPFResult:
    """The result for a client with the address *client*, the HELO name *helo* and MAIL *sender*.

    With an empty *sender* (a bounce, or a check of HELO) the domain *helo* is checked (sections 2.3
    and 2.4). All domains are in A-labels (RFC 8616 section 4). Never raises.
    """
    scope = "mailfrom" if sender else "helo"
    local, at, domain = sender.rpartition("@")
    if not at:
        local, domain = "", sender or helo
    address = ip_address(client.partition("%")[0])
    if address.version == 6 and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    check = _Check(address, local or "postmaster", domain, helo, lookups, receiver)
    mechanism = explanation = reason = ""
    try:
        result, mechanism, explanation = check.check_host(domain, True)
    except _End as end:
        result, reason = end.result, end.reason
    except SPFSyntaxError as exc:
        result, reason = "permerror", str(exc)
    except DNSFailure as exc:
        result, reason = "temperror", str(exc)
    return SPFResult(result, domain, scope, mechanism, explanation, reason)


class _Check:
    def __init__(
        self,
        client: IPv4Address | IPv6Address,
        local: str,
        domain: str,
        helo: str,
        lookups: Lookups,
        receiver: str,
    ) -> None:
        self._client = client
        self._lookups = lookups
        self._budget = _Budget()
        self._macros = Macros(client, local, domain, helo, receiver, self._validated_name)

    # Section 4: the function check_host

    def check_host(self, domain: str, is_first: bool) -> tuple[str, str, str]:
        """Return result, mechanism, explanation; raises `_End`, SPFSyntaxError, DNSFailure."""
        domain = domain.rstrip(".")
        if not is_name(domain) or "." not in domain or domain.startswith("["):
            raise _End("none", f"{domain[:100]!r} isn't a domain")  # section 4.3
        found = [one for one in self._lookups.ask(domain, "TXT") if is_record(one)]
        if not found:
            raise _End("none", f"{domain} has no SPF record")
        if len(found) > 1:  # section 4.5
            raise _End("permerror", f"{domain} has {len(found)} SPF records")
        record = parse(found[0])
        for mechanism in record.mechanisms:
            if self._matches(mechanism, domain):
                result = _RESULTS[mechanism.qualifier]
                explanation = ""
                if result == "fail" and is_first:
                    explanation = self._explanation(record, domain)
                return result, mechanism.text, explanation
        redirect = record.redirect
        if redirect is not None and not self._macros.match_nothing(redirect):  # section 6.1
            self._count_term()
            target = self._macros.domain(redirect, domain)
            try:
                return self.check_host(target, is_first)
            except _End as end:
                if end.result == "none":
                    raise _End("permerror", f"redirect: {end.reason}") from None
                raise
        return "neutral", "", ""

    def _explanation(self, record: Record, domain: str) -> str:
        """The explanation of the domain's owner (section 6.2) in printable ASCII, or ""."""
        if record.exp is None:
            return ""
        try:
            texts = self._lookups.ask(self._macros.domain(record.exp, domain), "TXT")
            if len(texts) != 1 or not texts[0].isascii():
                return ""
            text = self._macros.text(texts[0].decode("ascii"), domain)
        except (DNSFailure, SPFSyntaxError):
            return ""
        return text if text.isprintable() and text.isascii() else ""

    # Section 5: the mechanisms

    def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name in _LOOKS_UP:
            self._count_term()
        if name == "all":
            return True
        if name in ("ip4", "ip6"):
            network = mechanism.network
            return network.version == self._client.version and self._client in network
        target = domain
        if self._macros.match_nothing(mechanism.domain):
            return False
        if mechanism.domain:
            target = self._macros.domain(mechanism.domain, domain)
        if name == "include":
            return self._includes(target)
        if name == "exists":
            return bool(self._records(target, "A"))
        if name == "ptr":
            return self._has_name_below(target)
        hosts: tuple[str, ...] = (target,)
        if name == "mx":
            hosts = self._records(target, "MX")
            if len(hosts) > MAX_HOSTS:
                raise _End("permerror", f"{target} has more than {MAX_HOSTS} MX records")
        prefix = mechanism.cidr4 if self._client.version == 4 else mechanism.cidr6
        return any(self._is_at(host, prefix, name == "a") for host in hosts)

    def _includes(self, target: str) -> bool:
        """Section 5.2"""
        try:
            result, _, _ = self.check_host(target, False)
        except _End as end:
            if end.result == "none":
                raise _End("permerror", f"include: {end.reason}") from None
            raise
        return result == "pass"

    def _is_at(self, host: str, prefix: int, counts: bool) -> bool:
        for one in self._addresses(host, counts):
            if self._client in ip_network((one, prefix), strict=False):
                return True
        return False

    def _addresses(self, host: str, counts: bool) -> tuple[Any, ...]:
        kind = "A" if self._client.version == 4 else "AAAA"
        return self._records(host, kind) if counts else self._lookups.ask(host, kind)

    def _has_name_below(self, target: str) -> bool:
        """Section 5.5"""
        target = target.lower().rstrip(".")
        return any(one == target or one.endswith(f".{target}") for one in self._names())

    def _names(self) -> list[str]:
        """The names of the client by reverse DNS whose addresses include the client."""
        try:
            names = self._lookups.ask(self._client.reverse_pointer, "PTR")
        except DNSFailure:
            return []
        validated = []
        for one in names[:MAX_HOSTS]:
            name = one.rstrip(".").lower()
            try:
                if self._client in self._addresses(name, False):
                    validated.append(name)
            except DNSFailure:
                continue
        return validated

    def _validated_name(self, domain: str) -> str:
        """The value of the macro "p" (section 7.3)."""
        names = self._names()
        domain = domain.lower()
        for name in names:
            if name == domain:
                return name
        below = [name for name in names if name.endswith(f".{domain}")]
        return (below or names or ["unknown"])[0]

    # The limits

    def _count_term(self) -> None:
        self._budget.terms -= 1
        if self._budget.terms < 0:
            raise _End("permerror", f"more than {MAX_TERMS} terms need DNS")

    def _records(self, name: str, kind: str) -> tuple[Any, ...]:
        found = self._lookups.ask(name, kind)
        if not found:
            self._budget.void -= 1
            if self._budget.void < 0:
                raise _End("permerror", f"more than {MAX_VOID} queries had no answer")
        return found
