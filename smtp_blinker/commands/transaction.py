"""The mail transaction: MAIL, RCPT, DATA, BDAT, RSET."""

from __future__ import annotations

from typing import Any, Final

from ..extensions import set_mail_parameters, set_rcpt_parameters
from ..session import Address, Envelope
from ..smtp import reply
from ..smtp.paths import parse_parameters, parse_path
from ..smtp.reply import Refusal, Reject, Reply
from .context import CommandContext
from .forwarding import forget_transaction_client

#: Parameters of RFC 3461, which some devices send even if EHLO doesn't offer DSN.
DSN_PARAMETERS: Final = frozenset({"RET", "ENVID", "NOTIFY", "ORCPT"})


def mail(context: CommandContext, argument: str) -> Reply:
    if context.announced is None:
        context.emit_connect()
    if context.forwarded.used:
        forget_transaction_client(context)
    session = context.session
    options = context.options
    if options.max_messages is not None and session.transaction > options.max_messages:
        raise Refusal(reply.TOO_MANY_MESSAGES)
    # Only the parameters after the path say whether non-ASCII is allowed.
    text, rest = parse_path(argument, True, True, options.lenient_address_parsing)
    args = None
    # The envelope is a new one unless an earlier MAIL was refused.
    envelope = session.envelope
    if rest:
        args = _parameters(context, rest)
        envelope = Envelope()
        set_mail_parameters(args, _offered(context), envelope, context.capabilities)
    if not (envelope.smtputf8 or argument.isascii()):
        # RFC 6531 section 3.5: 550 or 553 with X.6.7
        raise Reject(550, "Non-ASCII characters without SMTPUTF8", "5.6.7")
    session.envelope = envelope
    address = Address(text, args)
    if context.hooks.on_mail_from is not None:
        try:
            context.call_hook("on_mail_from", address, session)
        except Refusal:
            session.envelope = Envelope()
            raise
    envelope.mail_from = address
    context.forwarded.used = context.forwarded.real_client is not None
    return reply.SENDER_OK


def _parameters(context: CommandContext, text: str) -> dict[str, Any]:
    """The parameters after a path, without those that a lenient server ignores."""
    args = parse_parameters(text)
    if context.options.lenient_address_parsing and "DSN" not in _offered(context):
        return {name: value for name, value in args.items() if name not in DSN_PARAMETERS}
    return args


def rcpt(context: CommandContext, argument: str) -> Reply:
    session = context.session
    options = context.options
    envelope = session.envelope
    text, rest = parse_path(argument, False, envelope.smtputf8, options.lenient_address_parsing)
    if rest:
        args = _parameters(context, rest)
        if not (envelope.smtputf8 or rest.isascii()):
            raise Reject(553, "Non-ASCII characters without SMTPUTF8", "5.6.7")
        address = Address(text, args)
        set_rcpt_parameters(args, _offered(context), address)
    else:
        address = Address(text)
    recipients = envelope.rcpt_to
    limit = options.max_recipients
    if limit is not None and len(recipients) >= limit:
        # RFC 5321 section 4.5.3.1.10: 452; the accepted recipients stay valid.
        raise Refusal(reply.TOO_MANY_RECIPIENTS)
    domains = None
    if options.max_rcpt_domains is not None:
        domains = envelope.rcpt_domains | _domains(text)
        if len(domains) > options.max_rcpt_domains:
            # RFC 9422 section 4.3; the accepted recipients stay valid, as above.
            raise Refusal(reply.TOO_MANY_DOMAINS)
    if context.hooks.on_rcpt_to is not None:
        context.call_hook("on_rcpt_to", address, session)
    if domains is not None:
        envelope.rcpt_domains = domains
    recipients.append(address)
    return reply.RECIPIENT_OK


def _domains(address: str) -> frozenset[str]:
    """A set with the domain of *address* in lower case; empty for "postmaster"."""
    _, at, domain = address.rpartition("@")
    return frozenset((domain.lower(),)) if at else frozenset()


def _offered(context: CommandContext) -> frozenset[str]:
    """The extensions whose parameters are allowed: none after HELO (RFC 5321 section 2.2.1)."""
    if context.session.opening_command == "HELO":
        return frozenset()
    return context.options.extensions  # type: ignore[return-value]  # Options made it one


def data(context: CommandContext, argument: str) -> Reply:
    if context.session.envelope.body_type == "binarymime":
        # RFC 3030 section 3: DATA can't transfer binary content, which has no lines.
        raise Reject(503, "BODY=BINARYMIME needs BDAT", "5.5.1")
    return reply.START_CONTENT


def bdat(context: CommandContext, argument: str) -> Reply:
    """RFC 3030 section 2. The reply is sent when all octets of the chunk have arrived."""
    if "CHUNKING" not in context.options.extensions:
        raise Refusal(reply.NOT_IMPLEMENTED)
    if context.session.opening_command == "HELO":
        # RFC 5321 section 2.2.1: HELO offers no extension.
        raise Reject(503, "Send EHLO first: BDAT is an extension", "5.5.1")
    if context.protocol.chunk_left == 0 and not context.protocol.chunk_is_last:
        context.limits.junk()  # BDAT 0 adds nothing to the message
    return reply.CHUNK_OK


def rset(context: CommandContext, argument: str) -> Reply:
    context.session.envelope = Envelope()
    return reply.FLUSHED
