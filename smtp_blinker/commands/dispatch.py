"""Turns an event into its positive reply, or raises `Refusal`.

It checks whether this client may send this command now.
"""

from __future__ import annotations

from ..smtp import reply
from ..smtp.protocol import Command, Event, Fault
from ..smtp.reply import Refusal, Reject, Reply
from ..smtp.verbs import State, out_of_sequence
from .auth import auth_response
from .context import CommandContext
from .table import COMMANDS


def answer(context: CommandContext, event: Event) -> Reply:
    """Return the positive reply to *event*, or raise Refusal.

    Clients can observe the order of the checks: first whether the command is allowed, then its
    syntax, then the sequence.
    """
    if isinstance(event, Command):
        verb = context.verb = event.verb
        if context.is_restricted or context.session.disabled_commands:
            _check_allowed(context, event)
        if verb.junk:
            context.limits.junk()
        if event.fault is not None:
            raise Refusal(event.fault)
        state = context.protocol.state
        if state not in verb.transitions:
            raise Refusal(out_of_sequence(verb.name, state))
        return COMMANDS[verb](context, event.argument)
    if isinstance(event, Fault):
        raise _fault(context, event)
    context.events.log("C: (a response)")
    assert context.exchange is not None
    return auth_response(context, context.exchange, event.line)


def _check_allowed(context: CommandContext, command: Command) -> None:
    """Checks that only some servers need: logged commands, disabled commands, commands that require
    AUTH."""
    verb = command.verb
    context.events.log_command(verb.name, command.argument)
    if verb.name in context.capabilities.disabled:
        raise Refusal(reply.NOT_IMPLEMENTED)
    session = context.session
    if not context.auth_demanded or session.user is not None or not context.capabilities.auth:
        return
    if verb.name != "AUTH":
        context.limits.unauthenticated()
    if verb.needs_auth:
        if context.protocol.state is State.START:
            raise Refusal(reply.HELLO_FIRST)
        if verb.name == "MAIL" and context.announced is None:
            context.emit_connect()
        text = context.options.auth_required_message or "Authentication required"
        raise Reject(530, text, "5.7.0")


def _fault(context: CommandContext, fault: Fault) -> Refusal:
    """The Refusal for a line that isn't a command."""
    exchange, context.exchange = context.exchange, None
    if exchange is not None:
        # RFC 4954 section 4: the exchange ends, the session goes on.
        context.authenticated(exchange.method, exchange.username, False)
        context.limits.junk()
    else:
        context.verb = fault.verb
    context.close_reason = fault.ends
    context.events.log("C: (%s)", fault.seen)
    if fault.unrecognized:
        context.limits.unrecognized()
    return Refusal(fault.reply)
