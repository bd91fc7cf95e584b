"""DNS for policies, with gevent's sockets. Needs ``pip install 'smtp_blinker[dns]'``.

dnspython makes and parses the messages. Policies accept any object with the method `query` of
`Resolver`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from gevent import Timeout
from gevent import socket as gevent_socket
from gevent.lock import BoundedSemaphore

from ..pools import ANSWERS

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.rcode
    import dns.rdatatype
    import dns.resolver
except ImportError as exc:
    raise ImportError("this policy needs dnspython: pip install 'smtp_blinker[dns]'") from exc

#: Seconds until a query is repeated, with the next server.
TRY_SECONDS: Final = 1.5
#: The most octets and records of a reply: a sender may have chosen its contents.
MAX_REPLY: Final = 16_384
MAX_RECORDS: Final = 200
#: RFC 9715 section 3: a size that every network passes without fragments.
_UDP_PAYLOAD: Final = 1232
#: The longest time in seconds to cache an answer, even if its TTL is longer.
MAX_TTL: Final = 86400
MAX_CACHED: Final = 10_000
#: Queries of one `Resolver` in progress at a time; each has a socket.
MAX_AT_ONCE: Final = 100


class _NoSuchName(tuple[str | bytes, ...]):
    __slots__ = ()


#: `Queries.query` returns it if neither the name nor any name below it exists (RFC 8020). It is
#: empty, like the answer for a name that has only records of other kinds.
NO_SUCH_NAME: Final[tuple[str | bytes, ...]] = _NoSuchName()


class DNSFailure(Exception):
    """No server replied in time, or all replied SERVFAIL or an invalid message."""


class Queries(Protocol):
    """The interface of a resolver for policies."""

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        """The records of *kind* ("A", "TXT", …) at *name*, perhaps none.

        TXT records are bytes with their strings joined; others are text as in a zone file. Returns
        `NO_SUCH_NAME` for NXDOMAIN. Raises `DNSFailure` without an answer within *timeout* seconds.
        """


class Resolver:
    """Queries recursive name servers, and caches answers, also negative ones (RFC 2308), for their
    TTL.

    *servers*: addresses, or pairs of address and port; by default those of /etc/resolv.conf, which
    is read once. At most `MAX_AT_ONCE` queries are in progress; further ones wait, but not longer
    than their own timeout. Several hubs may share it. Raises ValueError without any server.
    """

    def __init__(self, servers: Sequence[str | tuple[str, int]] | None = None) -> None:
        if servers is None:
            try:
                servers = [str(one) for one in dns.resolver.Resolver().nameservers]
            except dns.resolver.NoResolverConfiguration:
                servers = []
        self._servers = [(one, 53) if isinstance(one, str) else one for one in servers]
        if not self._servers:
            raise ValueError("Resolver needs a name server; /etc/resolv.conf names none")
        self._cache: OrderedDict[tuple[str, str], tuple[float, tuple[str | bytes, ...]]]
        self._cache = OrderedDict()
        self._free = BoundedSemaphore(MAX_AT_ONCE)

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        key = name.lower().rstrip("."), kind
        known = self._cache.get(key)
        now = time.monotonic()
        if known is not None and known[0] > now:
            self._cache.move_to_end(key)
            return known[1]
        try:
            question = dns.message.make_query(
                name, kind, use_edns=0, payload=_UDP_PAYLOAD, want_dnssec=False
            )
            if not self._free.acquire(timeout=timeout):
                raise DNSFailure(f"{kind} of {name}: {MAX_AT_ONCE} other queries are in progress")
            try:
                answer = self._ask(question, now + timeout)
            finally:
                self._free.release()
        except dns.exception.DNSException as exc:  # a name that is too long, …
            raise DNSFailure(f"{kind} of {name}: {type(exc).__name__}") from exc
        self._cache[key] = now + answer.ttl, answer.records
        self._cache.move_to_end(key)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return answer.records

    def _ask(self, question: Any, deadline: float) -> _Answer:
        """The first valid reply of any server; raises `DNSFailure`."""
        problems: dict[str, str] = {}
        failed: set[tuple[str, int]] = set()
        while True:
            for server in self._servers:
                left = deadline - time.monotonic()
                if left <= 0 or len(failed) == len(self._servers):
                    raise DNSFailure(
                        f"{question.question[0]}: "
                        + (", ".join(f"{who}: {why}" for who, why in problems.items()) or "late")
                    )
                timer = Timeout.start_new(min(left, TRY_SECONDS))
                try:
                    answer = _exchange(question, server)
                except Timeout as exc:
                    if exc is not timer:
                        raise
                    problems[server[0]] = "no reply"
                except (OSError, dns.exception.DNSException, RuntimeError, ValueError) as exc:
                    problems[server[0]] = str(exc) or type(exc).__name__
                    failed.add(server)
                else:
                    if answer.code in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                        return answer
                    problems[server[0]] = dns.rcode.to_text(answer.code)
                    failed.add(server)
                finally:
                    timer.close()


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a reply says."""

    code: Any
    is_truncated: bool
    records: tuple[str | bytes, ...] = ()
    #: Seconds for which it is kept.
    ttl: float = 0.0


def _exchange(question: Any, server: tuple[str, int]) -> _Answer:
    family = gevent_socket.AF_INET6 if ":" in server[0] else gevent_socket.AF_INET
    with gevent_socket.socket(family, gevent_socket.SOCK_DGRAM) as sock:
        sock.connect(server)  # so that only this server's datagrams arrive
        sock.send(question.to_wire())
        # A datagram that isn't the reply to this question may be forged.
        while (answer := _read(question, sock.recv(65535))) is None:
            pass
    if answer.is_truncated:
        answer = _exchange_by_tcp(question, server)  # RFC 7766 section 5
    return answer


def _exchange_by_tcp(question: Any, server: tuple[str, int]) -> _Answer:
    wire = question.to_wire()
    with gevent_socket.create_connection(server) as sock:
        sock.sendall(len(wire).to_bytes(2, "big") + wire)
        with sock.makefile("rb") as stream:
            length = int.from_bytes(stream.read(2), "big")
            if length > MAX_REPLY:
                raise ValueError(f"a reply of {length} octets")
            answer = _read(question, stream.read(length))
    if answer is None:
        raise ValueError("a malformed reply")
    return answer


def _read(question: Any, wire: bytes) -> _Answer | None:
    """The answer in *wire*, or None if it isn't a reply to *question*."""
    # RFC 1035 section 4.1.1: the ID, and the numbers of answers, name servers and additional
    # records.
    records = sum(int.from_bytes(wire[place : place + 2], "big") for place in (6, 8, 10))
    if int.from_bytes(wire[:2], "big") != question.id:
        return None
    if len(wire) > MAX_REPLY or records > MAX_RECORDS:
        return None
    return ANSWERS.run(_parsed, question, wire)


def _parsed(question: Any, wire: bytes) -> _Answer | None:
    """Parse *wire*, in a thread because dnspython takes up to 30 ms. Raises DNSException for a
    broken chain of aliases."""
    try:
        reply = dns.message.from_wire(wire)
        if not question.is_response(reply):
            return None
    except (dns.exception.DNSException, ValueError):
        return None
    code = reply.rcode()
    if reply.flags & dns.flags.TC or code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return _Answer(code, bool(reply.flags & dns.flags.TC))
    chain = cast("dns.message.QueryMessage", reply).resolve_chaining()
    records = tuple(_record(item) for item in chain.answer or ())
    # An alias exists, even if its target doesn't.
    if code == dns.rcode.NXDOMAIN and not chain.cnames:
        records = NO_SUCH_NAME
    ttl = min(chain.minimum_ttl, MAX_TTL)
    if not records and not chain.cnames and ttl == MAX_TTL:
        ttl = 0  # RFC 2308 section 5: don't cache a negative answer without SOA
    return _Answer(code, False, records, ttl)


def _record(item: Any) -> str | bytes:
    if item.rdtype == dns.rdatatype.TXT:
        return b"".join(item.strings)
    return str(item.to_text())
