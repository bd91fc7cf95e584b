"""VRFY and EXPN."""

from __future__ import annotations

from ..smtp import reply
from ..smtp.reply import Refusal, Reject, Reply
from .context import CommandContext


def vrfy(context: CommandContext, argument: str) -> Reply:
    if not argument:
        raise Reject(501, "Syntax: VRFY address", "5.5.4")
    argument = _without_parameter(context, argument)
    text = None
    if context.hooks.on_vrfy is not None:
        text = context.call_hook("on_vrfy", argument, context.session)
    if text is None:
        return reply.CANNOT_VERIFY  # RFC 5321 section 3.5.3: reveals nothing
    return Reply(250, text, "2.1.5")


def _without_parameter(context: CommandContext, argument: str) -> str:
    """*argument* without the parameter SMTPUTF8 (RFC 6531 section 3.7.4.2), which curl sends."""
    if "SMTPUTF8" not in context.options.extensions:
        return argument
    text, _, last = argument.rpartition(" ")
    return text.rstrip(" ") if text and last.upper() == "SMTPUTF8" else argument


def expn(context: CommandContext, argument: str) -> Reply:
    # RFC 5321 section 7.3: EXPN would reveal the members of a mailing list to anyone.
    raise Refusal(reply.NOT_IMPLEMENTED)
