"""XCLIENT and XFORWARD: a trusted proxy names the real client."""

from __future__ import annotations

from ..session import Credentials, Envelope
from ..smtp import reply
from ..smtp.reply import Reject, Reply
from ..smtp.xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES, parse_attributes
from .context import CommandContext


def _check_forwarding(context: CommandContext, verb: str) -> None:
    if context.session.xclient.get("ADDR"):
        raise Reject(503, "The client's address is set already", "5.5.1")
    if not context.capabilities.forwarding(verb):
        raise Reject(550, f"{verb} is not allowed for you", "5.7.0")


def forget_transaction_client(context: CommandContext) -> None:
    """End the effect of XFORWARD, which is for one transaction (Postfix's XFORWARD_README).

    The proxy doesn't send it again for mail from its own host.
    """
    session = context.session
    if context.forwarded.real_client is not None:
        session.restore_client(context.forwarded.real_client)
        session.host_name_appears_as = context.forwarded.hello_name
        context.forwarded.real_client = None
        context.client_changed()
    session.xforward = {}
    context.forwarded.used = False


def forget_before_tls(context: CommandContext) -> None:
    """RFC 3207 section 4.2: after STARTTLS, forget what XCLIENT and XFORWARD set before."""
    first = context.forwarded.first_client
    if first is None:
        return
    session = context.session
    session.restore_client(first)
    session.xclient = {}
    session.xforward = {}
    context.forwarded.first_client = context.forwarded.real_client = None
    context.forwarded.used = False
    context.client_changed()
    if context.announced != (session.remote_address, session.remote_port):
        context.announced = None


def xclient(context: CommandContext, argument: str) -> Reply:
    """Postfix's XCLIENT_README."""
    _check_forwarding(context, "XCLIENT")
    attributes = parse_attributes(argument, XCLIENT_ATTRIBUTES)
    if context.forwarded.used:
        forget_transaction_client(context)
    context.forwarded.real_client = None  # XCLIENT replaces the real client itself
    session = context.session
    if context.forwarded.first_client is None:
        context.forwarded.first_client = session.save_client()
    login = attributes.get("LOGIN")
    address = attributes.get("ADDR")
    if address:
        session.xclient.setdefault("ADDR:DEFAULT", session.remote_address)
        # The session now belongs to another client, which must not inherit the user.
        session.user = None
        session.remote_address = address
        session.client_hostname = ""
    if "NAME" in attributes:
        session.client_hostname = attributes["NAME"] or ""
    if attributes.get("PORT"):
        session.remote_port = int(attributes["PORT"] or 0)
    if attributes.get("DESTADDR"):
        session.local_address = attributes["DESTADDR"] or ""
    if attributes.get("DESTPORT"):
        session.local_port = int(attributes["DESTPORT"] or 0)
    session.host_name_appears_as = (attributes.get("HELO") or "").lower() or None
    context.forwarded.hello_name = session.host_name_appears_as
    session.xclient.update(attributes)
    session.envelope = Envelope()
    session.opening_command = None
    if address:
        context.client_changed()
        context.emit_connect()
    if login and context.hooks.on_auth is not None:
        session.user = None
        # If the login fails, the connection ends: the other attributes have taken effect already.
        context.close_reason = "refused"
        try:
            credentials = Credentials("XCLIENT", login)
            session.user = context.call_hook("on_auth", credentials, session) or None
        finally:
            context.authenticated("XCLIENT", login, session.user is not None)
        if session.user is None:
            raise Reject(550, "The forwarded login is not accepted", "5.7.8")
        context.close_reason = ""
    elif "LOGIN" in attributes:
        session.user = None
    return context.greeting()


def xforward(context: CommandContext, argument: str) -> Reply:
    """Postfix's XFORWARD_README."""
    _check_forwarding(context, "XFORWARD")
    attributes = parse_attributes(argument, XFORWARD_ATTRIBUTES)
    if context.forwarded.used:
        forget_transaction_client(context)
    session = context.session
    if context.forwarded.first_client is None:
        context.forwarded.first_client = session.save_client()
    if context.forwarded.real_client is None:
        context.forwarded.real_client = session.save_client()
    address = attributes.get("ADDR")
    if address:
        session.xforward.setdefault("ADDR:DEFAULT", session.remote_address)
        session.remote_address = address
        session.client_hostname = ""
    if "NAME" in attributes:
        session.client_hostname = attributes["NAME"] or ""
    if attributes.get("PORT"):
        session.remote_port = int(attributes["PORT"] or 0)
    if "HELO" in attributes:
        session.host_name_appears_as = (attributes["HELO"] or "").lower() or None
    session.xforward.update(attributes)
    session.envelope = Envelope()
    if address:
        context.client_changed()
        if context.announced != (session.remote_address, session.remote_port):
            context.emit_connect()  # but not again if Postfix repeats the client for each message
    return reply.OK
