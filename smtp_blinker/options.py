"""The options of SMTPServer, each with its type, default and line of help.

The constructor checks all of them, so that a mistake shows before the first client connects.
"""

from __future__ import annotations

import difflib
import logging
import os
import socket
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal, Protocol, get_args

from .certificates import CERTIFICATE_SETTINGS, check_certificates
from .extensions import DEFAULT_EXTENSIONS, OPT_IN_EXTENSIONS, check_extensions
from .sasl.exchange import MECHANISMS
from .smtp.verbs import VERB_NAMES

Network = IPv4Network | IPv6Network

BareNewline = Literal["reject", "normalize", "allow"]
BareNewlines = BareNewline | Mapping[str, BareNewline]
SNIOptions = Mapping[str, ssl.SSLContext | Mapping[str, Any]]
#: All peers (True), none (False), or these addresses and networks.
Trusted = bool | Iterable[str | IPv4Address | IPv6Address | Network]

AUTH_METHODS = tuple(MECHANISMS)
#: RFC 4865: the seconds of FUTURERELEASE have 9 digits at most.
MAX_HOLD = 999_999_999
BARE_NEWLINE_POLICIES: tuple[str, ...] = get_args(BareNewline)


class Resolver(Protocol):
    """An object that finds the host names of an IP address; the option `resolver`."""

    def reverse(self, ip: str, /) -> Iterable[str]:
        """Return the host names of *ip*. It may block and may raise."""


class Trust:
    """Which peers an option trusts: all (True), none (False), or addresses and networks."""

    __slots__ = ("_all", "_networks")

    def __init__(self, name: str, value: object) -> None:
        self._all = value is True
        self._networks: tuple[Network, ...] = ()
        if isinstance(value, bool):
            return
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise TypeError(
                f"{name} takes True, False or a list of addresses and networks, not {value!r}"
            )
        self._networks = tuple(_network(name, entry) for entry in value)

    def __bool__(self) -> bool:
        return self._all or bool(self._networks)

    def __contains__(self, address: str) -> bool:
        if self._all:
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


@dataclass(frozen=True, kw_only=True)
class Options:
    """Checked options, each with its line of help.

    Raises TypeError for a wrong type, ValueError for a wrong value.
    """

    # Names and texts
    name: Annotated[str, "Host name in the greeting and replies"] = field(
        default_factory=socket.gethostname
    )
    banner: Annotated[str | None, "Text after ESMTP in the greeting"] = None
    helo_response: Annotated[
        str, "Reply to HELO and EHLO; first %s: server's name, second %s: client's name"
    ] = "%s Nice to meet you, %s"

    # What is offered
    size: Annotated[int, "Largest message in bytes, 0 for no limit (RFC 1870)"] = 0
    reject_oversized: Annotated[bool, "Refuse messages larger than size"] = True
    spool_memory: Annotated[int, "Bytes of a spooled message to keep in memory"] = 2**20
    hide_size: Annotated[bool, "Show SIZE in EHLO without the number"] = False
    extensions: Annotated[Collection[str], "Keywords that EHLO may show"] = DEFAULT_EXTENSIONS
    disabled_commands: Annotated[Collection[str], "Verbs to answer with 502"] = ()
    auth_methods: Annotated[Collection[str], "SASL mechanisms in the order of EHLO"] = (
        "PLAIN",
        "LOGIN",
    )
    auth_optional: Annotated[bool, "Accept mail without AUTH, even with on_auth"] = False
    auth_required_message: Annotated[str | None, "Text of the 530 reply before AUTH"] = None
    allow_insecure_auth: Annotated[bool, "Offer AUTH without TLS, even with STARTTLS"] = False
    lmtp: Annotated[bool, "Speak LMTP (RFC 2033) instead of SMTP"] = False
    max_hold: Annotated[int, "Longest hold with FUTURERELEASE in seconds"] = 7 * 24 * 3600

    # TLS
    certfile: Annotated[str | os.PathLike[str] | None, "PEM file with certificate and chain"] = None
    keyfile: Annotated[
        str | os.PathLike[str] | None, "PEM file with its key, unless in certfile"
    ] = None
    ca_certs: Annotated[
        str | os.PathLike[str] | None, "PEM file with CAs for client certificates"
    ] = None
    cert_reqs: Annotated[int | None, "ssl.CERT_NONE, CERT_OPTIONAL or CERT_REQUIRED"] = None
    ciphers: Annotated[str | None, "OpenSSL cipher string for TLS 1.2"] = None
    ssl_context: Annotated[ssl.SSLContext | None, "Instead of certfile … ciphers"] = None
    secure: Annotated[bool, "TLS from the first octet (RFC 8314)"] = False
    needs_upgrade: Annotated[bool, "The same as secure; the name that smtp-server uses"] = False
    secured: Annotated[bool, "A proxy ends TLS: sessions count as secure"] = False
    sni_options: Annotated[SNIOptions, "Certificates by host name"] = field(default_factory=dict)

    # Who the client is
    disable_reverse_lookup: Annotated[bool, "Don't look up the client's name"] = False
    resolver: Annotated[Resolver | None, "Finds host names; None for gevent's"] = None
    use_proxy: Annotated[Trusted, "Peers that must send a PROXY header"] = False
    use_xclient: Annotated[Trusted, "Peers that may use XCLIENT"] = False
    use_xforward: Annotated[Trusted, "Peers that may use XFORWARD"] = False
    ignored_hosts: Annotated[Collection[str], "Addresses without log lines and signals"] = ()

    # How strict
    greeting_delay: Annotated[float, "Seconds before the greeting; 421 for early talkers"] = 0
    bare_newline: Annotated[BareNewlines, "How to treat a bare CR or LF"] = "reject"
    chunk_bare_newline: Annotated[BareNewlines, "The same for BDAT content"] = "normalize"
    lenient_address_parsing: Annotated[bool, "Accept addresses that break RFC 5321"] = False
    logger: Annotated[logging.Logger | bool | None, "Logs commands and replies"] = None

    # Limits: counts
    max_clients: Annotated[int | None, "Maximum connections at a time"] = None
    max_clients_per_ip: Annotated[int | None, "The same per IPv4 address or IPv6 /64"] = None
    # RFC 5321 section 4.5.3.1.8: at least 100
    max_recipients: Annotated[int | None, "Maximum recipients of one message"] = 1000
    max_rcpt_domains: Annotated[int | None, "Maximum recipient domains of one message"] = None
    max_refused_recipients: Annotated[int | None, "Maximum RCPT refused per connection"] = 1000
    max_messages: Annotated[int | None, "Maximum messages per connection"] = None
    # RFC 5321 section 4.5.3.1.4: at least 512
    max_command_length: Annotated[int, "Maximum octets of a command line"] = 2048
    max_unauthenticated_commands: Annotated[int | None, "Maximum commands before AUTH"] = 10
    max_errors: Annotated[int | None, "Maximum 5yz replies in a row"] = 20
    max_junk_commands: Annotated[int | None, "Maximum NOOP, RSET … between messages"] = 100
    # RFC 4954 section 9: at least 3
    max_auth_failures: Annotated[int | None, "Maximum failed AUTH per connection"] = 3

    # Limits: seconds
    socket_timeout: Annotated[float, "Seconds for a command or the next piece of content"] = 60
    session_timeout: Annotated[float | None, "Seconds for the whole connection"] = None
    data_timeout: Annotated[float | None, "Seconds for the content of one message"] = 600
    handshake_timeout: Annotated[float, "Seconds for a TLS handshake"] = 30
    proxy_timeout: Annotated[float, "Seconds for the PROXY header"] = 5
    hook_timeout: Annotated[
        float | None, "Seconds for a hook, without its waits for the client"
    ] = None
    close_timeout: Annotated[float, "Seconds that stop() waits for messages in progress"] = 30

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
                raise ValueError(f"{name} must be greater than 0")
        if self.max_hold > MAX_HOLD:
            raise ValueError(f"max_hold must be at most {MAX_HOLD}, not {self.max_hold!r}")
        self._collections()
        self._addresses()
        self._tls()

    # Derived values

    @property
    def enhanced(self) -> bool:
        """Whether replies carry enhanced status codes."""
        return "ENHANCEDSTATUSCODES" in self.extensions

    @property
    def offers_tls(self) -> bool:
        return self.certfile is not None or self.ssl_context is not None

    @property
    def begins_with_tls(self) -> bool:
        """Whether the server does a TLS handshake before the greeting."""
        return (self.secure or self.needs_upgrade) and not self.secured

    def trust(self, name: Literal["use_proxy", "use_xclient", "use_xforward"]) -> Trust:
        """Which peers the option *name* trusts."""
        trust: Trust = getattr(self, name)
        return trust

    def bare_newline_policy(self, address: str) -> str:
        """The policy for DATA from the client *address*.

        If the option is a mapping, the smallest network with *address* counts, else "reject".
        """
        return self._policy_for("bare_newline", address, "reject")

    def chunk_policy(self, address: str) -> str:
        """The same for BDAT; outside all networks it is "normalize"."""
        return self._policy_for("chunk_bare_newline", address, "normalize")

    def _policy_for(self, name: str, address: str, default: str) -> str:
        option = getattr(self, name)
        if isinstance(option, str):
            return option
        policies: tuple[tuple[Network, str], ...] = self.__dict__[f"_{name}"]
        if address:
            parsed = ip_address(address)
            for network, policy in policies:
                if parsed in network:
                    return policy
        return default

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
            raise ValueError(f"{name} must be at least {lowest} and finite, not {value!r}")

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
    "max_rcpt_domains": (1, True),
    "max_hold": (1, False),
    "spool_memory": (0, False),
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

# For these 0 means not to wait; for the others 0 would end every connection at once.
_MAY_BE_NO_TIME = frozenset({"greeting_delay", "close_timeout"})


def make_options(values: Mapping[str, Any], hooks: Iterable[str] = ()) -> Options:
    """Make Options from keywords; *hooks* are the names of the hooks.

    Raises TypeError for an unknown keyword, with the most similar name of an option or a hook, and
    what `Options` raises.
    """
    known = {f.name for f in fields(Options)}
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *hooks], n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise TypeError(f"SMTPServer has no option {name!r}{hint}")
    return Options(**values)
