"""HELO, EHLO and LHLO."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from ..extensions import ehlo_lines
from ..session import Envelope
from ..smtp.reply import Reject, Reply
from .context import CommandContext

#: RFC 5321 section 4.5.3.1.2 has 255 octets for a domain; an address literal is shorter.
MAX_HOST_NAME: Final = 255


def helo(context: CommandContext, argument: str) -> Reply:
    _check_protocol(context, lmtp=False)
    return _hello_reply(_hello(context, argument, "HELO"))


def ehlo(context: CommandContext, argument: str) -> Reply:
    _check_protocol(context, lmtp=False)
    return _extended(context, argument, "EHLO")


def lhlo(context: CommandContext, argument: str) -> Reply:
    _check_protocol(context, lmtp=True)
    return _extended(context, argument, "LHLO")


def _check_protocol(context: CommandContext, lmtp: bool) -> None:
    """RFC 2033 section 4.1: LMTP has LHLO instead of HELO and EHLO."""
    if context.options.lmtp != lmtp:
        name, verb = ("n LMTP", "LHLO") if context.options.lmtp else ("n SMTP", "EHLO")
        raise Reject(500, f"This is a{name} server, send {verb}", "5.5.1")


def _extended(context: CommandContext, argument: str, verb: str) -> Reply:
    greeting = _hello(context, argument, verb)
    offered: frozenset[str] = context.options.extensions  # type: ignore[assignment]  # made one
    return _hello_reply(greeting, *ehlo_lines(offered, context.capabilities))


def _hello(context: CommandContext, argument: str, verb: str) -> str:
    """Reset the session; returns the first line of the reply."""
    name = argument.strip(" ")
    # RFC 5321 section 4.1.1.1 allows no spaces, but some scanners and printers send them.
    has_space = " " in name and not context.options.lenient_address_parsing
    if not name or has_space or len(name) > MAX_HOST_NAME:
        raise Reject(501, f"Syntax: {verb} hostname", "5.5.4")
    session = context.session
    if session.opening_command is not None:
        context.limits.junk()  # a repeated EHLO counts, else MAIL and EHLO could loop for ever
    session.opening_command = verb
    session.host_name_appears_as = context.forwarded.hello_name = name.lower()
    session.envelope = Envelope()
    capabilities = context.capabilities
    if context.announced is None and not (
        capabilities.forwarding("XCLIENT") or capabilities.forwarding("XFORWARD")
    ):
        context.emit_connect()
    first, *rest = context.options.helo_response.split("%s")
    for number, text in enumerate(rest):
        first += (session.client_hostname if number else context.options.name) + text
    return first


@lru_cache(maxsize=256)
def _hello_reply(*lines: str) -> Reply:
    """Cached, because it is expensive and the same for most clients."""
    return Reply(250, lines)
