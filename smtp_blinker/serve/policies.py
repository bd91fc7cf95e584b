"""The policies for the options about limits and lists, in the order in which they are called."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from smtp_blinker.policies.clamav import ClamAV
from smtp_blinker.policies.counters import Counters, MemoryCounters
from smtp_blinker.policies.greylist import Greylist
from smtp_blinker.policies.limits import AuthLockout, ConnectionLimit, RateLimit
from smtp_blinker.policies.rspamd import Rspamd

from .servers import recipient_check
from .settings import Settings, Unusable


def open_policies(settings: Settings) -> list[Any]:
    """The policies for all servers, which share the objects so that limits count together."""
    counters = _open_counters(settings)
    policies: list[Any] = []
    if settings.counters is not None and settings.max_clients_per_ip is not None:
        policies.append(ConnectionLimit(settings.max_clients_per_ip, counters=counters))
    for of, rate in settings.rate:
        policies.append(RateLimit(rate, of=of, counters=counters))
    if settings.max_auth_failures_per_account is not None:
        lockout = AuthLockout(settings.max_auth_failures_per_account, counters=counters)
        policies.append(lockout)
    if settings.domain and (settings.greylist or settings.rate):
        # First, so that recipients that are refused anyway neither wait nor count.
        policies.insert(0, SimpleNamespace(on_rcpt_to=recipient_check(settings.domain)))
    if settings.dnsbl:
        policies.append(_open_lists(settings))
    if settings.sender_auth:
        # Before greylisting, which uses the SPF result.
        policies.append(_open_sender_authentication(settings))
    if settings.greylist:
        policies.append(Greylist(counters=counters))
    policies += _open_scanners(settings)
    return policies


def _open_counters(settings: Settings) -> Counters:
    if settings.counters is None:
        return MemoryCounters()
    if not (
        settings.rate
        or settings.greylist
        or settings.max_auth_failures_per_account is not None
        or settings.max_clients_per_ip is not None
    ):
        raise Unusable(
            "--counters has nothing to count; give it with --rate, --max-clients-per-ip, "
            "--max-auth-failures-per-account or --greylist"
        )
    try:
        from smtp_blinker.policies.redis_counters import RedisCounters

        return RedisCounters(settings.counters)
    except (ImportError, RuntimeError, ValueError) as exc:
        raise Unusable(f"--counters: {exc}") from exc


def _open_lists(settings: Settings) -> Any:
    try:
        from smtp_blinker.policies.dnsbl import DNSBlocklist

        return DNSBlocklist(settings.dnsbl)
    except (ImportError, ValueError) as exc:
        raise Unusable(f"--dnsbl: {exc}") from exc


def _open_sender_authentication(settings: Settings) -> Any:
    try:
        from smtp_blinker.policies.sender.policy import SenderAuthentication

        return SenderAuthentication(settings.name, enforce_dmarc=settings.enforce_dmarc)
    except (ImportError, ValueError) as exc:
        raise Unusable(f"--sender-auth: {exc}") from exc


def _open_scanners(settings: Settings) -> list[Any]:
    scanners: list[Any] = []
    for option, policy, place in (
        ("--clamav", ClamAV, settings.clamav),
        ("--rspamd", Rspamd, settings.rspamd),
    ):
        if place is not None:
            try:
                scanners.append(policy(place))
            except ValueError as exc:
                raise Unusable(f"{option}: {exc}") from exc
    return scanners
