"""The results of sender authentication."""

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
    #: "mailfrom", or "helo" if the HELO name was checked.
    scope: str
    #: The text of the mechanism that matched, or "".
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
    #: The identity of the signer (i=).
    identity: str = ""
    algorithm: str = ""
    #: The length of the key in bits; 0 if it isn't known.
    bits: int = 0
    #: The beginning of b=, which distinguishes signatures of one domain (RFC 6008).
    signature: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ARCResult:
    """The chain of servers that passed the message on (RFC 8617 section 5.2)."""

    #: "none", "pass" or "fail"; also "fail" if the look-up of a key failed (section 5.2.1).
    result: str
    #: The number of ARC sets, that is the highest instance.
    instances: int = 0
    #: The domain of the last seal (d=), or "".
    domain: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DMARCResult:
    """The policy of the author's domain for the message (RFC 9989)."""

    #: "none", "pass", "fail", "temperror" or "permerror".
    result: str
    #: The domain in From in A-labels; "" if there is none.
    domain: str
    #: The domain's policy if the result is "fail": "none", "quarantine" or "reject".
    policy: str = "none"
    #: The domain of the DMARC record, or "".
    record_domain: str = ""
    #: "spf" or "dkim" if the result is "pass".
    aligned: str = ""
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class SenderAuthenticationResult(Finding):
    """All results: `spf` and `helo` after MAIL, the others after the message."""

    spf: SPFResult
    dkim: tuple[DKIMResult, ...] = ()
    arc: ARCResult | None = None
    dmarc: DMARCResult | None = None
    #: SPF of the name in HELO or EHLO, which decides nothing; None for a bounce, whose `spf` it is.
    helo: SPFResult | None = None

    @property
    def verdict(self) -> str:
        """DMARC's result, for a fail with the policy ("fail reject"); before that SPF's result."""
        if self.dmarc is None:
            return self.spf.result
        if self.dmarc.result == "fail":
            return f"fail {self.dmarc.policy}"
        return self.dmarc.result
