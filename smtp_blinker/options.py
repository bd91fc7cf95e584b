"""The options of SMTPServer: every one with its unit, its bounds and where it comes from.

All are checked when the server is made, so that a mistake shows before the first client does.
"""

from __future__ import annotations

import difflib
import logging
import os
import socket
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from .extensions import DEFAULT_EXTENSIONS, OPT_IN_EXTENSIONS, check_extensions
from .smtp.verbs import VERB_NAMES

Network = IPv4Network | IPv6Network

AUTH_METHODS = (
    *("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"),
    *("SCRAM-SHA-256", "SCRAM-SHA-1", "EXTERNAL"),
)
BARE_NEWLINE_POLICIES = ("reject", "normalize", "allow")


class Trust:
    """Which peers an option trusts: all (True), none (False), or addresses and networks."""

    __slots__ = ("_everybody", "_networks")

    def __init__(self, name: str, value: object) -> None:
        self._everybody = value is True
        self._networks: tuple[Network, ...] = ()
        if isinstance(value, bool):
            return
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(
                f"{name} takes True, False or a list of addresses and networks, not {value!r}"
            )
        self._networks = tuple(_network(name, entry) for entry in value)

    def __bool__(self) -> bool:
        return self._everybody or bool(self._networks)

    def __contains__(self, address: str) -> bool:
        if self._everybody:
            return True
        if not self._networks or not address:
            return False
        parsed = ip_address(address)
        return any(parsed in network for network in self._networks)


def _network(name: str, entry: object) -> Network:
    try:
        return ip_network(str(entry), strict=False)
    except ValueError as exc:
        raise ValueError(f"{name}: {exc}") from None


def _policy(name: str, policy: object) -> str:
    if policy not in BARE_NEWLINE_POLICIES:
        raise ValueError(f"{name} is one of {', '.join(BARE_NEWLINE_POLICIES)}, not {policy!r}")
    return str(policy)


@dataclass(frozen=True)
class Options:
    """Checked options. Raises TypeError for a wrong type, ValueError for a wrong value."""

    # Names and texts
    name: str = field(default_factory=socket.gethostname)
    banner: str | None = None
    helo_response: str = "%s Nice to meet you, %s"

    # What is offered
    size: int = 0  # octets, 0 for no limit; RFC 1870
    reject_oversized: bool = True
    hide_size: bool = False
    extensions: Collection[str] = DEFAULT_EXTENSIONS
    disabled_commands: Collection[str] = ()
    auth_methods: Collection[str] = ("PLAIN", "LOGIN")
    auth_optional: bool = False
    auth_required_message: str | None = None
    allow_insecure_auth: bool = False
    lmtp: bool = False  # RFC 2033

    # TLS
    certfile: str | os.PathLike[str] | None = None
    keyfile: str | os.PathLike[str] | None = None
    ca_certs: str | os.PathLike[str] | None = None
    cert_reqs: int | None = None  # ssl.CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED
    ciphers: str | None = None
    ssl_context: ssl.SSLContext | None = None
    secure: bool = False  # RFC 8314: TLS from the first octet
    needs_upgrade: bool = False
    secured: bool = False
    sni_options: Mapping[str, Any] = field(default_factory=dict)

    # Who the client is
    disable_reverse_lookup: bool = False
    resolver: Any = None
    use_proxy: Any = False
    use_xclient: Any = False
    use_xforward: Any = False
    ignored_hosts: Collection[str] = ()

    # How strict
    greeting_delay: float = 0  # seconds
    bare_newline: str | Mapping[str, str] = "reject"
    chunk_bare_newline: str | Mapping[str, str] = "normalize"
    lenient_address_parsing: bool = False
    logger: logging.Logger | bool | None = None

    # Limits: counts
    max_clients: int | None = None
    max_clients_per_ip: int | None = None
    max_recipients: int | None = 1000  # RFC 5321 section 4.5.3.1.8 asks for 100 at least
    max_refused_recipients: int | None = 1000
    max_messages: int | None = None
    max_command_length: int = 2048  # octets with CRLF; RFC 5321 section 4.5.3.1.4 asks for 512
    max_unauthenticated_commands: int | None = 10
    max_errors: int | None = 20
    max_junk_commands: int | None = 100
    max_auth_failures: int | None = 3  # RFC 4954 section 9: not below 3

    # Limits: seconds
    socket_timeout: float = 60
    session_timeout: float | None = None
    data_timeout: float | None = 600
    handshake_timeout: float = 30
    proxy_timeout: float = 5
    hook_timeout: float | None = None
    close_timeout: float = 30

    def __post_init__(self) -> None:
        for name in _TEXTS:
            self._expect(name, str, optional=name in {"banner", "auth_required_message", "ciphers"})
        for name in _FLAGS:
            self._expect(name, bool)
        for name, (lowest, optional) in _COUNTS.items():
            self._number(name, int, lowest, optional)
        for name, optional in _SECONDS.items():
            self._number(name, (int, float), 0, optional)
            if getattr(self, name) == 0 and name not in _MAY_BE_NO_TIME:
                raise ValueError(f"{name} is more than 0: no client is that fast")
        self._collections()
        self._addresses()
        self._tls()

    # What follows from them

    @property
    def enhanced(self) -> bool:
        """Whether replies carry enhanced status codes."""
        return "ENHANCEDSTATUSCODES" in self.extensions

    @property
    def offers_tls(self) -> bool:
        return self.certfile is not None or self.ssl_context is not None

    @property
    def begins_with_tls(self) -> bool:
        """Whether a handshake comes before the greeting."""
        return (self.secure or self.needs_upgrade) and not self.secured

    def bare_newline_policy(self, address: str) -> str:
        """The policy for a client's address: that of the smallest network it is in."""
        return self._policy_for("bare_newline", address)

    def chunk_policy(self, address: str) -> str:
        """The same for content that comes by BDAT."""
        return self._policy_for("chunk_bare_newline", address)

    def _policy_for(self, name: str, address: str) -> str:
        option = getattr(self, name)
        if isinstance(option, str):
            return option
        policies: tuple[tuple[Network, str], ...] = self.__dict__[f"_{name}"]
        if address:
            parsed = ip_address(address)
            for network, policy in policies:
                if parsed in network:
                    return policy
        return "reject"

    # Validation

    def _set(self, name: str, value: object) -> None:
        self.__dict__[name] = value

    def _expect(self, name: str, kind: type, *, optional: bool = False) -> None:
        value = getattr(self, name)
        if optional and value is None:
            return
        if not isinstance(value, kind):
            raise TypeError(f"{name} takes {_KINDS[kind]}, not {value!r}")

    def _number(
        self, name: str, kind: type | tuple[type, ...], lowest: float, optional: bool
    ) -> None:
        value: Any = getattr(self, name)
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, kind):
            what = "a whole number" if kind is int else "a number of seconds"
            raise TypeError(f"{name} takes {what}{' or None' if optional else ''}, not {value!r}")
        number: Any = value
        if not lowest <= number < float("inf"):
            raise ValueError(f"{name} is at least {lowest} and finite, not {value!r}")

    def _collections(self) -> None:
        known = DEFAULT_EXTENSIONS | OPT_IN_EXTENSIONS
        self._keywords("extensions", known)
        check_extensions(self.extensions)
        if "REQUIRETLS" in self.extensions and not (
            "STARTTLS" in self.extensions or self.begins_with_tls or self.secured
        ):
            # RFC 8689 section 2: it is offered under TLS only.
            raise ValueError("extensions has REQUIRETLS without STARTTLS, and nothing begins TLS")
        self._keywords("disabled_commands", VERB_NAMES)
        self._keywords("auth_methods", frozenset(AUTH_METHODS))
        for name in ("name", "banner", "helo_response", "auth_required_message"):
            text = getattr(self, name)
            if text is not None and not text.isprintable():
                raise ValueError(f"{name} holds a character that can't be printed: {text!r}")
        if not self.name:
            raise ValueError("name is empty: give the host name that greetings show")
        if self.helo_response.count("%s") > 2:
            raise ValueError("helo_response takes at most two %s: the server and the client")

    def _keywords(self, name: str, known: frozenset[str] | None) -> None:
        value: Any = getattr(self, name)
        if isinstance(value, str) or not isinstance(value, Collection):
            raise TypeError(f"{name} takes a set of keywords, not {value!r}")
        for keyword in value:
            if not isinstance(keyword, str):
                raise TypeError(f"{name} holds keywords, not {keyword!r}")
        upper = [keyword.upper() for keyword in value]
        unknown = set(upper) - known if known is not None else set()
        if unknown:
            wrong, right = ", ".join(sorted(unknown)), ", ".join(sorted(known or ()))
            raise ValueError(f"{name} has {wrong}; known are {right}")
        # The order of AUTH methods is the order that EHLO shows.
        self._set(name, tuple(dict.fromkeys(upper)) if name == "auth_methods" else frozenset(upper))

    def _addresses(self) -> None:
        for name in ("use_proxy", "use_xclient", "use_xforward", "ignored_hosts"):
            self._set(name, Trust(name, getattr(self, name)))
        if self.resolver is not None and not callable(getattr(self.resolver, "reverse", None)):
            raise TypeError(
                f"resolver takes an object with reverse(ip) -> names, not {self.resolver!r}"
            )
        for name in ("bare_newline", "chunk_bare_newline"):
            self._newline_policies(name)
        if not (self.logger is None or isinstance(self.logger, (bool, logging.Logger))):
            raise TypeError(f"logger takes a logging.Logger, True or None, not {self.logger!r}")

    def _newline_policies(self, name: str) -> None:
        option = getattr(self, name)
        if isinstance(option, str):
            _policy(name, option)
        elif isinstance(option, Mapping):
            policies = [
                (_network(name, network), _policy(name, policy))
                for network, policy in option.items()
            ]
            policies.sort(key=lambda entry: -entry[0].prefixlen)
            self._set(f"_{name}", tuple(policies))
        else:
            raise TypeError(f"{name} takes a policy or a mapping of networks, not {option!r}")

    def _tls(self) -> None:
        check_certificates({name: getattr(self, name) for name in CERTIFICATE_SETTINGS})
        if not self.offers_tls:
            for name in ("secure", "needs_upgrade"):
                if getattr(self, name) and not self.secured:
                    raise ValueError(f"{name} needs a certificate: give certfile or ssl_context")
            for name in ("ca_certs", "ciphers", "cert_reqs", "sni_options"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs a certificate: give certfile or ssl_context")


#: What makes a context, and what replaces or accompanies it.
CERTIFICATE_SETTINGS = (
    "certfile", "keyfile", "ca_certs", "cert_reqs", "ciphers", "ssl_context", "sni_options",
)  # fmt: skip

#: What a dict in sni_options may have.
_SNI_SETTINGS = frozenset(CERTIFICATE_SETTINGS[:5])


def check_certificates(settings: Mapping[str, Any]) -> None:
    """Raise the TypeError or ValueError of a wrong or contradictory setting, before a file is
    opened. None is no setting; of CERTIFICATE_SETTINGS any may be missing."""
    for name in ("certfile", "keyfile", "ca_certs"):
        value = settings.get(name)
        # The standard library takes a number for a file descriptor, and closes it.
        if value is not None and not isinstance(value, (str, os.PathLike)):
            raise TypeError(f"{name} takes a path, not {value!r}")
    ciphers, cert_reqs = settings.get("ciphers"), settings.get("cert_reqs")
    if ciphers is not None and not isinstance(ciphers, str):
        raise TypeError(f"ciphers takes text, not {ciphers!r}")
    if cert_reqs is not None and cert_reqs not in tuple(ssl.VerifyMode):
        raise ValueError(f"cert_reqs is one of ssl.CERT_*, not {cert_reqs!r}")
    context = settings.get("ssl_context")
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"ssl_context takes an ssl.SSLContext, not {context!r}")
        for name in CERTIFICATE_SETTINGS[:5]:
            if settings.get(name) is not None:
                raise ValueError(f"give either ssl_context or {name}: set it on the context")
    if settings.get("keyfile") is not None and settings.get("certfile") is None:
        raise ValueError("keyfile is given without certfile")
    if cert_reqs == ssl.CERT_REQUIRED and context is None and settings.get("ca_certs") is None:
        raise ValueError("cert_reqs needs ca_certs, or no client's certificate is good enough")
    demanded = ssl.CERT_REQUIRED in (cert_reqs, context.verify_mode if context else None)
    by_name = settings.get("sni_options", {})
    if not isinstance(by_name, Mapping):
        raise TypeError(f"sni_options takes a mapping of host name to context, not {by_name!r}")
    for name, entry in by_name.items():
        if not isinstance(name, str):
            raise TypeError(f"sni_options has host names as its keys, not {name!r}")
        if isinstance(entry, ssl.SSLContext):
            if demanded and entry.verify_mode == ssl.CERT_NONE:
                # Which is also what a context has that says nothing.
                raise ValueError(
                    f"sni_options[{name!r}] asks for no client certificate, though the default "
                    "requires one: set its verify_mode, or give a dict with cert_reqs=CERT_NONE"
                )
            continue
        if (
            not isinstance(entry, Mapping)
            or not set(entry) <= _SNI_SETTINGS
            or entry.get("certfile") is None
        ):
            raise TypeError(
                f"sni_options[{name!r}] takes an ssl.SSLContext or a dict with certfile and "
                f"keyfile, not {entry!r}"
            )
        try:
            check_certificates(sni_settings(settings, entry))
        except (TypeError, ValueError) as exc:
            raise type(exc)(f"sni_options[{name!r}]: {exc}") from None


def sni_settings(settings: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the context of *entry*, a dict in sni_options.

    What it doesn't say is that of *settings*; but a keyfile belongs to its own certfile.
    """
    inherited = {name: settings.get(name) for name in ("ca_certs", "cert_reqs", "ciphers")}
    return inherited | {name: value for name, value in entry.items() if value is not None}


_KINDS: dict[type, str] = {str: "text", bool: "True or False"}
_TEXTS = ("name", "banner", "helo_response", "auth_required_message", "ciphers")
_FLAGS = (
    "reject_oversized",
    "hide_size",
    "auth_optional",
    "allow_insecure_auth",
    "lmtp",
    "secure",
    "needs_upgrade",
    "secured",
    "disable_reverse_lookup",
    "lenient_address_parsing",
)
# name: (lowest, may be None)
_COUNTS: dict[str, tuple[int, bool]] = {
    "size": (0, False),
    "max_clients": (0, True),
    "max_clients_per_ip": (1, True),
    "max_recipients": (1, True),
    "max_refused_recipients": (0, True),
    "max_messages": (1, True),
    "max_command_length": (1, False),
    "max_unauthenticated_commands": (0, True),
    "max_errors": (0, True),
    "max_junk_commands": (0, True),
    "max_auth_failures": (0, True),
}
# name: may be None
_SECONDS = {
    "greeting_delay": False,
    "socket_timeout": False,
    "session_timeout": True,
    "data_timeout": True,
    "handshake_timeout": False,
    "proxy_timeout": False,
    "hook_timeout": True,
    "close_timeout": False,
}

# 0 is no waiting; of the others it would end everybody at once.
_MAY_BE_NO_TIME = frozenset({"greeting_delay", "close_timeout"})


def make_options(values: Mapping[str, Any]) -> Options:
    """Options from keywords; TypeError names an unknown one and the nearest that exists."""
    known = {f.name for f in fields(Options)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"SMTPServer has no option {name!r}{hint}")
    return Options(**values)
