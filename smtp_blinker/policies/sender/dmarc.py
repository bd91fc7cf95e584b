"""DMARC (RFC 9989): the policy of the author's domain for mail in its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..dns import NO_SUCH_NAME, DNSFailure
from .lookups import Lookups
from .results import DKIMResult, DMARCResult, SPFResult
from .signature import is_domain

#: RFC 9989 section 4.10: the most queries of one tree walk.
MAX_WALK: Final = 8
#: The most domains in From; DMARC isn't evaluated for a message with more.
MAX_AUTHORS: Final = 4
_MAX_RECORD: Final = 4096
#: Section 4.8: the name in any case, the version in capitals.
_VERSION: Final = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_POLICIES: Final = ("none", "quarantine", "reject")
#: t=y makes the policy one step weaker (section 4.7).
_TESTING: Final = {"reject": "quarantine", "quarantine": "none", "none": "none"}
#: With several authors the worst result counts: the last of these.
_ORDER: Final = ("pass", "none", "fail none", "temperror", "permerror", "fail quarantine")


@dataclass(slots=True)
class _Walk:
    """The records from a domain up to its top-level domain."""

    start: str
    records: dict[str, Mapping[str, str]] = field(default_factory=dict)
    #: Why a query failed: there may be more records than those.
    failure: str = ""

    @property
    def organization(self) -> str:
        """Section 4.10.2"""
        found = list(self.records)
        for domain in found:
            psd = self.records[domain].get("psd", "u").lower()
            if psd == "n":
                return domain
            if psd == "y" and domain != self.start:
                labels = self.start.split(".")
                return ".".join(labels[-domain.count(".") - 2 :])
        return found[-1] if found else self.start

    @property
    def public_suffix(self) -> str:
        """The domain above the organization that declares itself a public suffix, or ""."""
        last = next(reversed(self.records), "")
        is_one = last and self.records[last].get("psd", "").lower() == "y"
        return last if is_one and last != self.start else ""


class _Check:
    def __init__(self, spf: SPFResult, dkim: Sequence[DKIMResult], lookups: Lookups) -> None:
        self._lookups = lookups
        self._walks: dict[str, _Walk] = {}
        #: What may be aligned: how, the domain, the result.
        self._proofs = [("spf", spf.domain.lower().rstrip("."), spf.result)]
        self._proofs += [("dkim", one.domain, one.result) for one in dkim if one.domain]

    def judge(self, author: str) -> DMARCResult:
        """Sections 4.10.1 and 5.3.2 to 5.3.6"""
        try:
            own = self._record(author)
        except DNSFailure as exc:
            return DMARCResult("temperror", author, reason=str(exc))
        record, owner = own, author
        if record is None:
            walk = self._walk(author)
            owner = walk.organization if walk.organization in walk.records else walk.public_suffix
            record = walk.records.get(owner)
            if walk.failure and record is None:
                return DMARCResult("temperror", author, reason=walk.failure)
            if record is None:
                return DMARCResult("none", author, reason="there is no record")
        asked = self._policy(record, is_own=owner == author, author=author)
        if asked is None:
            return DMARCResult("none", author, "none", owner, reason="the record has no policy")
        if _yes(record, "t"):
            asked = _TESTING[asked]
        found = self._outcome(author, record, owner, asked)
        if found.result == "fail" and own is None and self._walk(author).failure:
            # Section 5.3.6: the record that counts may be one that DNS didn't return. A pass stays
            # valid: two domains below one record belong to one organization, whatever is above it.
            failure = self._walk(author).failure
            return DMARCResult("temperror", author, asked, owner, reason=failure)
        return found

    def _outcome(
        self, author: str, record: Mapping[str, str], owner: str, asked: str
    ) -> DMARCResult:
        unsure = ""
        # The same domain first: it needs no further queries.
        for how, domain, result in sorted(self._proofs, key=lambda one: one[1] != author):
            if result not in ("pass", "temperror"):
                continue
            mode = record.get("aspf" if how == "spf" else "adkim", "r").lower()
            aligned = domain == author or (mode != "s" and self._is_related(domain, author))
            if aligned is True and result == "pass":
                return DMARCResult("pass", author, asked, owner, how)
            if aligned is not False:
                unsure = f"{how} of {domain} can't be looked up"
        if unsure:
            return DMARCResult("temperror", author, asked, owner, reason=unsure)
        return DMARCResult("fail", author, asked, owner, reason="nothing is aligned")

    def _is_related(self, domain: str, author: str) -> bool | None:
        """Whether both domains belong to one organization; None if DNS gives no answer now."""
        walk = self._walk(author)
        organization = walk.organization
        # An organization is its domain's end: most of them need no walk.
        if domain != organization and not domain.endswith(f".{organization}"):
            if walk.failure and domain.rpartition(".")[2] == author.rpartition(".")[2]:
                return None
            return False
        other = self._walk(domain)
        if other.organization == organization:
            return True
        return None if other.failure or walk.failure else False

    def _policy(self, record: Mapping[str, str], is_own: bool, author: str) -> str | None:
        """The policy of a record (section 4.10.1); None if it has none."""
        for name in ("p", "sp", "np"):
            value = record.get(name)
            if (value is None and name == "p") or (
                value is not None and value.lower() not in _POLICIES
            ):
                return "none" if ":" in record.get("rua", "") else None
        policy = record["p"].lower()
        if is_own:
            return policy
        below = record.get("sp", policy).lower()
        if "np" in record and not self._exists(author):
            return record["np"].lower()
        return below

    def _exists(self, domain: str) -> bool:
        """Whether *domain* exists (section 3.2.13): only NXDOMAIN means that it doesn't."""
        try:
            return self._lookups.ask(domain, "A") is not NO_SUCH_NAME
        except DNSFailure:
            return True

    def _walk(self, domain: str) -> _Walk:
        """Section 4.10"""
        known = self._walks.get(domain)
        if known is not None:
            return known
        walk = self._walks[domain] = _Walk(domain)
        labels = domain.split(".")
        counts = [len(labels), *range(min(len(labels), MAX_WALK) - 1, 0, -1)]
        for count in counts:
            name = ".".join(labels[-count:])
            try:
                record = self._record(name)
            except DNSFailure as exc:
                walk.failure = walk.failure or str(exc)
                continue
            if record is None:
                continue
            walk.records[name] = record
            if record.get("psd", "u").lower() in ("n", "y"):  # steps 2 and 6
                break
        return walk

    def _record(self, domain: str) -> Mapping[str, str] | None:
        """The only record of *domain*, or None; raises DNSFailure."""
        texts = [one for one in self._lookups.ask(f"_dmarc.{domain}", "TXT") if _VERSION.match(one)]
        return _tags(texts[0]) if len(texts) == 1 else None


def check_dmarc(
    authors: Sequence[str], spf: SPFResult, dkim: Sequence[DKIMResult], lookups: Lookups
) -> DMARCResult:
    """The result for the domains of From; of several, the one that is worst (section 11.5).

    Never raises.
    """
    if not 0 < len(authors) <= MAX_AUTHORS:
        what = "no author's domain in From" if not authors else "too many domains in From"
        return DMARCResult("permerror", "", reason=what)
    check = _Check(spf, dkim, lookups)
    return max(map(check.judge, authors), key=_harm)


def _harm(result: DMARCResult) -> int:
    name = f"fail {result.policy}" if result.result == "fail" else result.result
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _tags(octets: bytes) -> Mapping[str, str]:
    """The tags of a record, without malformed ones (section 4.8)."""
    tags: dict[str, str] = {}
    for spec in octets[:_MAX_RECORD].decode("utf-8", "replace").split(";"):
        name, equals, value = spec.partition("=")
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    return tags


def _yes(record: Mapping[str, str], name: str) -> bool:
    return record.get(name, "").lower() == "y"


def checked_authors(domains: Iterable[str]) -> list[str]:
    """*domains* in lower case without duplicates; an empty list if one of them isn't a domain."""
    found = list(dict.fromkeys(one.lower().rstrip(".") for one in domains))
    return found if all(map(is_domain, found)) else []
