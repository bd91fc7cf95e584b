"""The table of the function for each verb, and the functions that are one line long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..smtp import reply
from ..smtp.reply import Refusal, Reply
from ..smtp.verbs import VERBS, Verb
from .auth import auth, starttls
from .context import CommandContext
from .forwarding import xclient, xforward
from .hello import ehlo, helo, lhlo
from .transaction import bdat, data, mail, rcpt, rset
from .verify import expn, vrfy

HELP_VERBS: Final = ("HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP")


def noop(context: CommandContext, argument: str) -> Reply:
    return reply.OK


def quit_(context: CommandContext, argument: str) -> Reply:
    return reply.BYE


def help_(context: CommandContext, argument: str) -> Reply:
    disabled = context.capabilities.disabled
    verbs = " ".join(verb for verb in HELP_VERBS if verb not in disabled)
    return Reply(214, f"Commands: {verbs}; see RFC 5321", "2.0.0")


def not_implemented(context: CommandContext, argument: str) -> Reply:
    raise Refusal(reply.NOT_IMPLEMENTED)


_FUNCTIONS: Final = {
    "HELO": helo,
    "EHLO": ehlo,
    "LHLO": lhlo,
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "BDAT": bdat,
    "RSET": rset,
    "NOOP": noop,
    "HELP": help_,
    "VRFY": vrfy,
    "EXPN": expn,
    "QUIT": quit_,
    "STARTTLS": starttls,
    "AUTH": auth,
    "XCLIENT": xclient,
    "XFORWARD": xforward,
}

#: Each function takes the context and the argument, and returns the positive reply or raises
#: `Refusal`. It has no access to octets or the socket. The caller has checked the sequence.
COMMANDS: Final[dict[Verb, Callable[[CommandContext, str], Reply]]] = {
    verb: _FUNCTIONS.get(verb.name, not_implemented) for verb in VERBS.values()
}
