"""The DNS queries for one message, with their limits."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from ...turns import let_others_run
from ..dns import NO_SUCH_NAME, DNSFailure, Queries

#: The most queries for one message. SPF alone needs 10 for its mechanisms, and up to 100 for the
#: hosts of MX and PTR records (RFC 7208 section 4.6.4).
MAX_QUESTIONS: Final = 150
_MAX_NAME: Final = 253


class Lookups:
    """DNS for one message, with a deadline and a maximum number of queries for all of it.

    Answers are cached. Use it only in greenlets of the hub.
    """

    def __init__(self, resolver: Queries, seconds: float, most: int = MAX_QUESTIONS) -> None:
        self._resolver = resolver
        self._deadline = time.monotonic() + seconds
        self._left = most
        self._known: dict[tuple[str, str], tuple[Any, ...] | DNSFailure] = {}

    def ask(self, name: str, kind: str) -> tuple[Any, ...]:
        """The records, perhaps none: addresses for A and AAAA, names for MX and PTR, bytes for TXT.

        Returns `NO_SUCH_NAME` if the resolver does. Raises `DNSFailure`. An invalid name has no
        records. Each call lets other greenlets run, even for a cached answer, because the caller
        works on it for some milliseconds.
        """
        let_others_run()
        name = name.rstrip(".").lower()
        if not is_name(name):
            return ()
        key = name, kind
        if key not in self._known:
            self._known[key] = self._answer(name, kind)
        known = self._known[key]
        if isinstance(known, DNSFailure):
            raise known
        return known

    def _answer(self, name: str, kind: str) -> tuple[Any, ...] | DNSFailure:
        left = self._deadline - time.monotonic()
        if self._left <= 0 or left <= 0:
            why = "too many questions" if self._left <= 0 else "too late"
            return DNSFailure(f"{kind} of {name}: {why}")
        self._left -= 1
        try:
            found = self._resolver.query(name, kind, left)
            if found is NO_SUCH_NAME:
                return found
            return tuple(_value(kind, one) for one in found)
        except DNSFailure as exc:
            return exc
        except Exception as exc:  # a program's own resolver may raise anything
            return DNSFailure(f"{kind} of {name}: {type(exc).__name__}: {exc}")


def _value(kind: str, record: Any) -> Any:
    """Convert a record; raises if it is invalid, which a program's own resolver may return."""
    if kind == "TXT":
        if not isinstance(record, (bytes, str)):
            raise TypeError(f"a TXT record is bytes, not {record!r}")
        return record.encode() if isinstance(record, str) else record
    if kind in ("A", "AAAA"):
        return IPv4Address(record) if kind == "A" else IPv6Address(record)
    return str(record).split()[-1]  # the name after the preference


def is_name(name: str) -> bool:
    """Whether *name* (without a final dot) is possible in DNS (RFC 1035 section 2.3.4)."""
    if not 0 < len(name) <= _MAX_NAME or not name.isascii():
        return False
    return all(0 < len(label) < 64 for label in name.split("."))
