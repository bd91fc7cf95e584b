"""Ready-made policies for `SMTPServer.use`. They use only the public names of the library.

All have the keywords of `base.BasePolicy`. Each is imported at its first use, so that no policy
needs the extra of another one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .base import BasePolicy, PolicyFailure
    from .clamav import ClamAV
    from .counters import MemoryCounters
    from .dnsbl import DNSBlocklist
    from .greylist import Greylist
    from .limits import AuthLockout, ConnectionLimit, RateLimit
    from .redis_counters import RedisCounters
    from .rspamd import Rspamd
    from .sender.policy import SenderAuthentication

#: The module of each name.
_MODULES: Final = {
    "AuthLockout": "limits",
    "BasePolicy": "base",
    "ClamAV": "clamav",
    "ConnectionLimit": "limits",
    "DNSBlocklist": "dnsbl",
    "Greylist": "greylist",
    "MemoryCounters": "counters",
    "PolicyFailure": "base",
    "RateLimit": "limits",
    "RedisCounters": "redis_counters",
    "Rspamd": "rspamd",
    "SenderAuthentication": "sender.policy",
}

__all__ = [
    "AuthLockout",
    "BasePolicy",
    "ClamAV",
    "ConnectionLimit",
    "DNSBlocklist",
    "Greylist",
    "MemoryCounters",
    "PolicyFailure",
    "RateLimit",
    "RedisCounters",
    "Rspamd",
    "SenderAuthentication",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{module}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
