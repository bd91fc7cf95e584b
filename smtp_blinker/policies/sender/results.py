"""What sender authentication found out, as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SPFResult:
    """SPF (RFC 7208 section 2.6)."""

    #: "none", "neutral", "pass", "fail", "softfail", "temperror" or "permerror".
    result: str
    #: Whose record was looked for.
    domain: str
    #: "mailfrom", or "helo" for a bounce.
    scope: str
    #: The mechanism that matched, as the record has it, or "".
    mechanism: str = ""
    #: What the domain says of a fail; printable ASCII of a stranger's, or "".
    explanation: str = ""
    #: Why there is no better result, or "".
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
