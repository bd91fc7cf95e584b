"""The results of sender authentication, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..base import Finding


@dataclass(frozen=True, slots=True)
class SPFResult:
    """SPF (RFC 7208 section 2.6)."""

    #: "none", "neutral", "pass", "fail", "softfail", "temperror" or "permerror".
    result: str
    #: The domain whose record was looked up.
    domain: str
    #: "mailfrom", or "helo" where that name was checked.
    scope: str
    #: The mechanism that matched, as the record has it, or "".
    mechanism: str = ""
    #: The domain's explanation of a fail; hostile text, printable ASCII, or "".
    explanation: str = ""
    #: Why there is no better result, or "".
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DKIMResult:
    """One DKIM signature (RFC 6376; the results of RFC 8601 section 2.7.1)."""

    #: "pass", "fail", "policy", "temperror" or "permerror".
    result: str
    #: The signing domain (d=), or "" if the signature doesn't have one.
    domain: str
    selector: str = ""
    #: The identity that it signs for (i=).
    identity: str = ""
    algorithm: str = ""
    #: Of the key; 0 where it isn't known.
    bits: int = 0
    #: The beginning of b=, which tells signatures of one domain apart (RFC 6008).
    signature: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ARCResult:
    """The chain of servers that passed the message on (RFC 8617 section 5.2)."""

    #: "none", "pass" or "fail", which it also is where a key can't be looked up (section 5.2.1).
    result: str
    #: The sets of its fields: the highest instance.
    instances: int = 0
    #: Who sealed it last (d=), or "".
    domain: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """The policy of the author's domain for the message (RFC 9989)."""

    #: "none", "pass", "fail", "temperror" or "permerror".
    result: str
    #: Of the From field, as A-labels; "" where there is none.
    domain: str
    #: What the domain asks for where the result is "fail": "none", "quarantine" or "reject".
    policy: str = "none"
    #: Whose record it is, or "".
    record_domain: str = ""
    #: "spf" or "dkim" where the result is "pass".
    aligned: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SenderAuthenticationResult(Finding):
    """All of it: `spf` and `helo` since MAIL, the others once the message was there."""

    spf: SPFResult
    dkim: tuple[DKIMResult, ...] = ()
    arc: ARCResult | None = None
    dmarc: DMARCResult | None = None
    #: SPF of the name in HELO or EHLO, which decides nothing; None for a bounce, whose `spf` it is.
    helo: SPFResult | None = None

    @property
    def verdict(self) -> str:
        """DMARC's result, with the policy of a fail ("fail reject"); SPF's until it is known."""
        if self.dmarc is None:
            return self.spf.result
        if self.dmarc.result == "fail":
            return f"fail {self.dmarc.policy}"
        return self.dmarc.result
