"""The verbs STARTTLS and AUTH."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..sasl.exchange import Exchange
from ..sasl.mechanism import Ask, AskKeys, Facts, Question
from ..sasl.scram import ScramKeys
from ..smtp import reply
from ..smtp.reply import AuthenticationFailed, Refusal, Reject, Reply
from .context import CommandContext


def starttls(context: CommandContext, argument: str) -> Reply:
    if context.session.secure:
        raise Reject(503, "TLS is already active", "5.5.1")
    if not context.capabilities.starttls:
        raise Reject(502, "STARTTLS is not available", "5.5.1")
    return reply.START_TLS


def auth(context: CommandContext, argument: str) -> Reply:
    """RFC 4954 section 4."""
    if not context.capabilities.auth:
        raise Reject(502, "AUTH is not available", "5.5.1")
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise Reject(501, "Syntax: AUTH mechanism [initial-response]", "5.5.4")
    options = context.options
    if context.capabilities.auth_needs_tls:
        raise Reject(538, "Encryption required: send STARTTLS first", "5.7.11")
    if context.session.user is not None:
        raise Reject(503, "Already authenticated", "5.5.1")
    method = words[0].upper()
    if method not in context.capabilities.mechanisms:
        raise Reject(504, "Unrecognized authentication mechanism", "5.5.4")
    limit = options.max_auth_failures
    if limit is not None and context.limits.auth_failures >= limit:
        raise Refusal(reply.TOO_MANY_AUTH_FAILURES)
    context.mechanism = method
    tls = context.session.tls
    certificate = None if tls is None else tls.peer_certificate
    exchange = context.exchange = Exchange(method, Facts(options.name, certificate))
    initial = words[1].encode("ascii") if len(words) == 2 else None
    return _go_on(context, exchange, lambda: exchange.begin(initial))


def auth_response(context: CommandContext, exchange: Exchange, line: bytes) -> Reply:
    """Reply to a *line* of the client within the exchange."""
    return _go_on(context, exchange, lambda: exchange.respond(line))


def _go_on(
    context: CommandContext, exchange: Exchange, step: Callable[[], Reply | Question]
) -> Reply:
    """Call *step*, answer the mechanism's questions with the hooks, and return the reply."""
    try:
        result = step()
        while not isinstance(result, Reply):
            result = _ask(context, exchange, result)
    except Refusal:
        context.exchange = None
        context.authenticated(exchange.method, exchange.username, False)
        if not exchange.has_failed:
            # Each 334 resets the count of errors, so aborted exchanges need a limit of their own.
            context.limits.junk()
        raise
    if result is reply.AUTHENTICATED:
        context.session.user = exchange.user
        context.exchange = None
        context.authenticated(exchange.method, exchange.username, True)
    return result


#: The first failed AUTH is answered after this many seconds, each further one after as many more.
AUTH_FAILURE_DELAY: Final = 0.25


def _ask(context: CommandContext, exchange: Exchange, question: Question) -> Reply | Question:
    """Answer *question* by a hook, and continue the exchange."""
    answer: Any
    try:
        if isinstance(question, AskKeys):
            exchange.username = question.username
            answer = _scram_keys(context, question)
        else:
            exchange.username = question.credentials.username
            answer = _user(context, question)
    except Refusal as refusal:
        if refusal.reply.code >= 500:
            # Count before the reply, so that a guess counts even if the client disconnects.
            exchange.has_failed = True
            context.limits.auth_failures += 1
            context.pause(AUTH_FAILURE_DELAY * context.limits.auth_failures)
        return exchange.refuse(refusal)
    return exchange.answer(answer)


def _scram_keys(context: CommandContext, question: AskKeys) -> ScramKeys | None:
    """Call `on_scram` for the keys of a user name; None if there is no such user."""
    if context.hooks.on_scram is None:
        return None
    keys: ScramKeys | None = context.call_hook(
        "on_scram", question.username, question.mechanism, context.session
    )
    return keys


def _user(context: CommandContext, question: Ask) -> Any:
    """Call `on_auth` for the user of the credentials; raises Refusal for wrong ones."""
    credentials = question.credentials
    if not question.is_proved:
        # Policies run also after a wrong proof, so that their replies don't reveal which it was.
        context.call_policies("on_auth", credentials, context.session)
        raise AuthenticationFailed
    hook = context.hooks.on_auth
    user = None if hook is None else context.call_hook("on_auth", credentials, context.session)
    if not user:
        raise AuthenticationFailed
    if credentials.has_unread_authzid:
        # RFC 4616 section 2: acting for another user needs authorization by the program.
        raise AuthenticationFailed("Acting for another user is not allowed")
    return user
