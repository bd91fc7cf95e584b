"""Parsers for values on the command line: addresses, names, domains, networks, sizes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final, cast, get_args
from urllib.parse import urlsplit

import click

from smtp_blinker import Reject
from smtp_blinker.policies.limits import Of, parse_rate
from smtp_blinker.smtp.paths import parse_path
from smtp_blinker.smtp.xclient import is_host_name
from smtp_blinker.stores import RelayStore

PROTOCOLS: Final = {"smtp": "SMTP", "smtps": "SMTPS", "lmtp": "LMTP"}
#: Instead of a network: all clients of UNIX sockets.
UNIX: Final = "unix"
UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Positive(click.FloatRange):
    """A number greater than 0; `click.FloatRange` takes "nan" too, which no comparison refuses."""

    def __init__(self, most: float | None = None) -> None:
        super().__init__(min=0, min_open=True, max=most)

    def convert(self, value: Any, param: Any, ctx: Any) -> float:
        number = float(super().convert(value, param, ctx))
        if number != number:
            self.fail("it must be a number", param, ctx)
        return number


@dataclass(frozen=True, slots=True)
class Listen:
    """One address to listen on."""

    scheme: str
    #: The listener for `SMTPServer`: host and port, or "unix:/path".
    address: tuple[str, int] | str

    def __str__(self) -> str:
        if isinstance(self.address, str):
            return self.address
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_listen(
    text: str, wrong: str = "is neither [SCHEME://]HOST:PORT nor lmtp:///PATH"
) -> Listen:
    """``[SCHEME://]HOST:PORT`` with smtp, smtps or lmtp as the scheme, or ``lmtp:///PATH``.

    Raises `click.BadParameter` for anything else: *wrong* is what the error says of the text.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "smtp", text
    if scheme not in PROTOCOLS:
        raise click.BadParameter(f"{scheme}:// is not smtp://, smtps:// or lmtp://")
    if scheme == "lmtp" and rest.startswith("/"):
        return Listen(scheme, f"unix:{rest}")
    host, colon, port = rest.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise click.BadParameter(f"an IPv6 address must be in brackets: [{host}]:{port}")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise click.BadParameter(f"{text!r} {wrong}")
    return Listen(scheme, (host, int(port)))


def parse_addresses(texts: Sequence[str]) -> tuple[Listen, ...]:
    """Parse one or more addresses; raises `click.BadParameter` for none (an empty variable)."""
    if not texts:
        raise click.BadParameter("it must not be empty")
    return tuple(map(parse_listen, texts))


def parse_http(text: str) -> Listen | None:
    """``HOST:PORT``, or None for "off"; raises `click.BadParameter` for anything else."""
    if text == "off":
        return None
    if "://" in text or ":" not in text:
        raise click.BadParameter(f"{text!r} is not HOST:PORT")
    return parse_listen(text, "is not HOST:PORT")


def parse_name(text: str) -> str:
    """Check a host name for replies; raises `click.BadParameter`."""
    if not is_host_name(text):
        raise click.BadParameter(
            f"{text!r} is not a host name; write an international one as xn--…"
        )
    return text


def parse_domain(text: str) -> str:
    """A domain in the form for comparisons; raises `click.BadParameter` for anything else."""
    try:
        address, rest = parse_path(f"TO:<postmaster@{text}>", False, True, False)
    except Reject:
        address, rest = "", ""
    if not address or rest:
        raise click.BadParameter(
            f"{text!r} is not a domain like example.com; in the environment, separate several by "
            "spaces"
        )
    return address.partition("@")[2].lower()


def parse_trust(text: str) -> str:
    """An address or network, or UNIX; raises `click.BadParameter` for anything else."""
    if text != UNIX:
        try:
            ip_network(text, strict=False)
        except ValueError as exc:
            raise click.BadParameter(f"{exc}; for UNIX sockets write {UNIX}") from None
    return text


def parse_inboxes(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Split each ``NAME=PATTERN``; raises `click.BadParameter` for anything else."""
    found = []
    for text in texts:
        name, _, pattern = text.partition("=")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", name) or not pattern:
            raise click.BadParameter(
                f"{text!r} is not NAME=PATTERN, as shop=@shop.example or ann=user:ann"
            )
        found.append((name, pattern))
    return tuple(found)


def parse_rates(texts: Sequence[str]) -> tuple[tuple[Of, str], ...]:
    """Split each ``[WHAT=]RATE``; the default WHAT is messages. Raises `click.BadParameter`."""
    rates: list[tuple[Of, str]] = []
    for text in texts:
        what, separator, rate = text.rpartition("=")
        of = what if separator else "messages"
        try:
            parse_rate(rate)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from None
        if of not in get_args(Of):
            raise click.BadParameter(f"{of} is not one of {', '.join(get_args(Of))}")
        rates.append((cast("Of", of), rate))
    return tuple(rates)


def parse_http_auth(text: str | None) -> tuple[str, str] | None:
    """Split ``NAME:PASSWORD``; raises `click.BadParameter`, which doesn't show the text."""
    if text is None:
        return None
    name, _, password = text.partition(":")
    if not name or not password:
        raise click.BadParameter("it must be NAME:PASSWORD, and neither may be empty")
    return name, password


def parse_size(text: str) -> int:
    """A number of bytes: ``1000``, or with a unit of 1024 ``10K``, ``25M``, ``2G``.

    Raises `click.BadParameter` for anything else.
    """
    found = re.fullmatch(r"([0-9]{1,20})([KMG]?)", text.upper())
    size = int(found[1]) * UNITS[found[2]] if found is not None else -1
    if not 0 <= size < 10**20:  # RFC 1870 section 3: 20 digits at most
        raise click.BadParameter(f"{text!r} is not a size like 10K, 25M or 26214400")
    return size


def parse_optional_size(text: str | None) -> int | None:
    """The same for an optional size; None if it is missing or 0."""
    return None if text is None else parse_size(text) or None


def parse_http_path(text: str) -> str:
    """A path with a slash at each end."""
    path = "/".join(["", *filter(None, text.split("/")), ""])
    if not re.fullmatch(r"[/A-Za-z0-9._~-]+", path):
        raise click.BadParameter("a path takes letters, digits and . _ ~ - between slashes")
    return path


def parse_relay(text: str | None) -> str | None:
    """The URL of a next hop; raises `click.BadParameter` for anything else."""
    if text is not None:
        try:
            RelayStore(text)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc
    return text


def without_password(url: str) -> str:
    """*url* without its password, for messages."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="").geturl()
