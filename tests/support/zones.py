"""DNS for tests of sender authentication: a resolver that knows zones, as the public suites write
them."""

from __future__ import annotations

from typing import Any

from smtp_blinker.policies.dns import NO_SUCH_NAME, DNSFailure


class Zones:
    """`Queries` of *zonedata*: by name a list of {type: value}, or "TIMEOUT" for the types that
    aren't before it.

    As in the suite for SPF, what SPF has is in TXT too unless TXT says otherwise.
    """

    def __init__(self, zonedata: dict[str, Any]) -> None:
        self._names = {str(name).lower(): records for name, records in zonedata.items()}
        #: What was asked, in order.
        self.asked: list[tuple[str, str]] = []

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        self.asked.append((name, kind))
        return self._query(name.lower().rstrip("."), kind, 0)

    def _query(self, name: str, kind: str, depth: int) -> tuple[str | bytes, ...]:
        if depth > 10:
            raise DNSFailure(f"{kind} of {name}: ChainTooLong")
        if name not in self._names and not any(one.endswith(f".{name}") for one in self._names):
            return NO_SUCH_NAME
        records = self._names.get(name, [])
        found: list[str | bytes] = []
        has_txt = any(isinstance(one, dict) and "TXT" in one for one in records)
        for one in records:
            if one == "TIMEOUT":
                if found:
                    break
                raise DNSFailure(f"{kind} of {name}: late")
            [(type_, value)] = one.items()
            if type_ == "SPF" and not has_txt:
                type_ = "TXT"
            if type_ == "CNAME" and kind != "CNAME":
                return self._query(value.lower().rstrip("."), kind, depth + 1)
            if type_ != kind or value == "NONE":
                continue
            if value == "TIMEOUT":
                raise DNSFailure(f"{kind} of {name}: late")
            found.append(_record(kind, value))
        return tuple(found)


def _record(kind: str, value: Any) -> str | bytes:
    if kind == "TXT":
        texts = value if isinstance(value, list) else [value]
        return b"".join(
            one if isinstance(one, bytes) else one.encode("utf-8", "surrogateescape")
            for one in texts
        )
    if kind == "MX":
        return f"{value[0]} {value[1]}."
    return str(value)
