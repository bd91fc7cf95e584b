"""The verbs: one row and one function each. Session and argument in, reply out.

A function returns its positive reply or raises `Reject`; it never sees octets or a socket, and
the order of commands isn't its business (`protocol.SEQUENCE`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

from . import reply
from .auth import OAUTH_MECHANISMS, Exchange
from .conduct import Conduct
from .hooks import Hooks
from .offers import Offers
from .options import Options
from .paths import parse_parameters, parse_path
from .protocol import NOT_IMPLEMENTED_VERBS, SEQUENCE, State
from .reply import AuthenticationFailed, Refusal, Reject, Reply
from .session import (
    Address,
    Credentials,
    Envelope,
    EnvelopeDSN,
    RecipientDSN,
    Session,
)
from .xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES, parse_attributes


class Client(Protocol):
    """What a command may use of a connection."""

    session: Session
    options: Options
    hooks: Hooks
    #: The AUTH exchange in progress.
    exchange: Exchange | None
    auth_failures: int

    offers: Offers
    conduct: Conduct
    #: The address and port that the latest `connect` told of; None before the first.
    announced: tuple[str, int] | None
    #: The argument of the last HELO, EHLO or LHLO in lower case.
    hello_name: str | None
    #: The client as it was before XCLIENT or XFORWARD named another; None where none did.
    first_client: tuple[Any, ...] | None
    #: The client without what XFORWARD said of it; None where it has said nothing.
    real_client: tuple[Any, ...] | None
    #: Whether a transaction has begun since XFORWARD spoke.
    xforward_used: bool
    #: Why the connection ends after the reply; None when it goes on.
    close_reason: str | None

    def call_hook(self, name: str, *args: Any) -> Any:
        """Call a hook that is there; raises its Reject, or a Refusal with 451 for a fault of the
        program's."""

    def pause(self, seconds: float) -> None:
        """Keep the client waiting."""

    def authenticated(self, method: str, username: str | None, success: bool) -> None:
        """An AUTH exchange ended."""

    def announce(self) -> None:
        """Send `connect`."""

    def client_changed(self) -> None:
        """XCLIENT or XFORWARD gave the client another address."""

    def greeting(self) -> Reply: ...


@dataclass(frozen=True)
class Command:
    """A verb and its facts."""

    verb: str
    run: Callable[[Client, str], Reply]
    #: State -> state after a positive reply; a state that isn't there gets 503.
    sequence: Mapping[State, State]
    #: False for those that take none (RFC 5321 section 4.3.2).
    takes_argument: bool = True
    #: Allowed only after AUTH where AUTH is demanded.
    needs_auth: bool = False
    #: Whether it counts against max_junk_commands.
    junk: bool = False
    #: Whether non-ASCII text may stand in the argument (RFC 6531 section 3.4).
    utf8: bool = False


# Session


def _hello(client: Client, argument: str, verb: str) -> Reply:
    name = argument.strip(" ")
    if not name or " " in name or len(name) > MAX_HOST_NAME:
        raise Reject(501, f"Syntax: {verb} hostname", "5.5.4")
    session = client.session
    if session.opening_command is not None:
        client.conduct.junk()  # once is needed; MAIL and EHLO in turn is a loop without a message
    session.opening_command = verb
    session.host_name_appears_as = client.hello_name = name.lower()
    session.envelope = Envelope()
    offers = client.offers
    if client.announced is None and not (
        offers.forwarding("XCLIENT") or offers.forwarding("XFORWARD")
    ):
        client.announce()
    first, *rest = client.options.helo_response.split("%s")
    greeting = first
    for number, text in enumerate(rest):
        greeting += (session.client_hostname if number else client.options.name) + text
    if verb == "HELO":
        return _hello_reply(greeting)
    return _hello_reply(greeting, *_features(client))


@lru_cache(maxsize=256)
def _hello_reply(*lines: str) -> Reply:
    """The same for most clients of a server, and dear to make."""
    return Reply(250, lines)


#: RFC 5321 section 4.5.3.1.2 has 255 octets for a domain; an address literal is shorter.
MAX_HOST_NAME: Final = 255


def _features(client: Client) -> list[str]:
    options = client.options
    offers = client.offers
    extensions = options.extensions
    features = [
        name
        for name in ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN")
        if name in extensions
    ]
    if "SIZE" in extensions:
        hidden = options.hide_size or not options.size
        features.append("SIZE" if hidden else f"SIZE {options.size}")
    # RFC 4954 section 4: not while a mechanism would need TLS first, nor after success.
    if (
        "AUTH" in extensions
        and client.session.user is None
        and offers.auth
        and not offers.auth_needs_tls
    ):
        features.append(" ".join(("AUTH", *options.auth_methods)))
    if offers.starttls:
        features.append("STARTTLS")
    # RFC 8689 section 2: only after TLS
    if "REQUIRETLS" in extensions and client.session.secure:
        features.append("REQUIRETLS")
    if offers.forwarding("XCLIENT"):
        features.append(" ".join(("XCLIENT", *XCLIENT_ATTRIBUTES)))
    if offers.forwarding("XFORWARD"):
        features.append(" ".join(("XFORWARD", *XFORWARD_ATTRIBUTES)))
    return features


def helo(client: Client, argument: str) -> Reply:
    if client.options.lmtp:
        raise Reject(500, "This is an LMTP server, send LHLO", "5.5.1")  # RFC 2033 section 4.1
    return _hello(client, argument, "HELO")


def ehlo(client: Client, argument: str) -> Reply:
    if client.options.lmtp:
        raise Reject(500, "This is an LMTP server, send LHLO", "5.5.1")
    return _hello(client, argument, "EHLO")


def lhlo(client: Client, argument: str) -> Reply:
    if not client.options.lmtp:
        raise Reject(500, "This is an SMTP server, send EHLO", "5.5.1")
    return _hello(client, argument, "LHLO")


def noop(client: Client, argument: str) -> Reply:
    return reply.OK


def rset(client: Client, argument: str) -> Reply:
    client.session.envelope = Envelope()
    return reply.FLUSHED


def quit_(client: Client, argument: str) -> Reply:
    return reply.BYE


def help_(client: Client, argument: str) -> Reply:
    disabled = client.offers.disabled
    verbs = " ".join(verb for verb in HELP_VERBS if verb not in disabled)
    return Reply(214, f"Commands: {verbs}; see RFC 5321", "2.0.0")


def vrfy(client: Client, argument: str) -> Reply:
    if not argument:
        raise Reject(501, "Syntax: VRFY address", "5.5.4")
    return reply.CANNOT_VERIFY  # RFC 5321 section 3.5.3: tells nothing


def not_implemented(client: Client, argument: str) -> Reply:
    raise Refusal(reply.NOT_IMPLEMENTED)


# Mail transaction


def mail(client: Client, argument: str) -> Reply:
    if client.announced is None:
        client.announce()
    if client.xforward_used:
        _forget_forwarded(client)
    session = client.session
    options = client.options
    if options.max_messages is not None and session.transaction > options.max_messages:
        raise Refusal(reply.TOO_MANY_MESSAGES)
    # Whether non-ASCII is allowed is known when the parameters behind the path are.
    text, rest = parse_path(argument, True, True, options.lenient_address_parsing)
    args = None
    # The envelope is a new one unless an earlier MAIL was refused.
    envelope = session.envelope
    if rest:
        args = parse_parameters(rest)
        envelope = Envelope()
        for keyword, value in args.items():
            extension, parse = _MAIL_PARAMETERS.get(keyword, ("", None))
            if (
                parse is None
                or extension not in options.extensions
                or session.opening_command == "HELO"
            ):
                raise _unknown_parameter(keyword)
            parse(client, envelope, value)
    if not (envelope.smtputf8 or argument.isascii()):
        # RFC 6531 section 3.5: 550 or 553 with X.6.7
        raise Reject(550, "Non-ASCII characters without SMTPUTF8", "5.6.7")
    session.envelope = envelope
    address = Address(text, args)
    if client.hooks.on_mail_from is not None:
        try:
            client.call_hook("on_mail_from", address, session)
        except Refusal:
            session.envelope = Envelope()
            raise
    envelope.mail_from = address
    client.xforward_used = client.real_client is not None
    return reply.SENDER_OK


def rcpt(client: Client, argument: str) -> Reply:
    session = client.session
    options = client.options
    envelope = session.envelope
    text, rest = parse_path(argument, False, envelope.smtputf8, options.lenient_address_parsing)
    if rest:
        address = _recipient_with_parameters(client, text, rest)
    else:
        address = Address(text)
    recipients = envelope.rcpt_to
    limit = options.max_recipients
    if limit is not None and len(recipients) >= limit:
        # RFC 5321 section 4.5.3.1.10: 452, and those accepted stay valid.
        raise Refusal(reply.TOO_MANY_RECIPIENTS)
    if client.hooks.on_rcpt_to is not None:
        client.call_hook("on_rcpt_to", address, session)
    recipients.append(address)
    return reply.RECIPIENT_OK


def _recipient_with_parameters(client: Client, text: str, rest: str) -> Address:
    args = parse_parameters(rest)
    if not (client.session.envelope.smtputf8 or rest.isascii()):
        raise Reject(553, "Non-ASCII characters without SMTPUTF8", "5.6.7")
    dsn = RecipientDSN()
    offered = "DSN" in client.options.extensions and client.session.opening_command != "HELO"
    for keyword, value in args.items():
        if keyword == "NOTIFY" and offered:
            dsn = RecipientDSN(_notify(value), dsn.orcpt)
        elif keyword == "ORCPT" and offered:
            dsn = RecipientDSN(dsn.notify, _orcpt(value))
        else:
            raise _unknown_parameter(keyword)
    return Address(text, args, dsn)


def _notify(value: str | bool) -> tuple[str, ...]:
    """RFC 3461 section 4.1."""
    wanted = tuple(_value("NOTIFY", value).upper().split(","))
    if not set(wanted) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}:
        raise Reject(501, "NOTIFY takes NEVER, or SUCCESS, FAILURE and DELAY", "5.5.4")
    if "NEVER" in wanted and len(wanted) > 1:
        raise Reject(501, "NOTIFY=NEVER stands alone", "5.5.4")
    return wanted


def _orcpt(value: str | bool) -> str:
    """RFC 3461 section 4.2: 500 octets, an address type and an address."""
    text = _value("ORCPT", value)
    kind, semicolon, address = text.partition(";")
    if len(text) > 500 or not semicolon or not kind or not address:
        raise Reject(501, "ORCPT takes addr-type;address, 500 characters at most", "5.5.4")
    if not kind.replace("-", "").isalnum() or not kind.isascii():
        raise Reject(501, "ORCPT takes an address type such as rfc822", "5.5.4")
    return text


def data(client: Client, argument: str) -> Reply:
    return reply.START_CONTENT


# Parameters of MAIL


def _size(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 1870 section 3: 1 to 20 digits."""
    text = _value("SIZE", value)
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Reject(501, "SIZE takes 1 to 20 digits", "5.5.4")
    envelope.size = int(text)
    # Without a limit of ours there is still that of any file.
    limit = client.options.size or 2**63 - 1
    if envelope.size > limit:
        raise Reject(552, f"Message exceeds the maximum size of {limit} octets", "5.3.4")


def _body(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 6152 section 2."""
    body_type = _value("BODY", value).lower()
    if body_type not in {"7bit", "8bitmime"}:
        raise Reject(501, "BODY takes 7BIT or 8BITMIME", "5.5.4")
    envelope.body_type = body_type


def _smtputf8(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 6531 section 3.4."""
    _no_value("SMTPUTF8", value)
    envelope.smtputf8 = True


def _requiretls(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 8689 section 2."""
    _no_value("REQUIRETLS", value)
    if not client.session.secure:
        raise Reject(530, "REQUIRETLS needs TLS: send STARTTLS first", "5.7.10")
    envelope.require_tls = True


def _ret(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 3461 section 4.3."""
    ret = _value("RET", value).upper()
    if ret not in {"FULL", "HDRS"}:
        raise Reject(501, "RET takes FULL or HDRS", "5.5.4")
    envelope.dsn = EnvelopeDSN(ret, envelope.dsn.envid)


def _envid(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 3461 section 4.4: 100 characters."""
    envid = _value("ENVID", value)
    if len(envid) > 100:
        raise Reject(501, "ENVID takes 100 characters at most", "5.5.4")
    envelope.dsn = EnvelopeDSN(envelope.dsn.ret, envid)


def _auth(client: Client, envelope: Envelope, value: str | bool) -> None:
    """RFC 4954 section 5."""
    envelope.auth = _value("AUTH", value)


#: The extension that a parameter belongs to, and what takes its value.
_MAIL_PARAMETERS: Final = {
    "SIZE": ("SIZE", _size),
    "BODY": ("8BITMIME", _body),
    "SMTPUTF8": ("SMTPUTF8", _smtputf8),
    "REQUIRETLS": ("REQUIRETLS", _requiretls),
    "RET": ("DSN", _ret),
    "ENVID": ("DSN", _envid),
    "AUTH": ("AUTH", _auth),
}


def _value(keyword: str, value: str | bool) -> str:
    if not isinstance(value, str):
        raise Reject(501, f"{keyword} takes a value", "5.5.4")
    return value


def _no_value(keyword: str, value: str | bool) -> None:
    if value is not True:
        raise Reject(501, f"{keyword} takes no value", "5.5.4")


def _unknown_parameter(keyword: str) -> Reject:
    # RFC 5321 section 4.1.1.11
    return Reject(555, f"Parameter {keyword} is not recognized", "5.5.4")


# TLS and AUTH


def starttls(client: Client, argument: str) -> Reply:
    if client.session.secure:
        raise Reject(503, "TLS is already active", "5.5.1")
    if not client.offers.starttls:
        raise Reject(502, "STARTTLS is not available", "5.5.1")
    return reply.START_TLS


def auth(client: Client, argument: str) -> Reply:
    """RFC 4954 section 4."""
    if not client.offers.auth:
        raise Reject(502, "AUTH is not available", "5.5.1")
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise Reject(501, "Syntax: AUTH mechanism [initial-response]", "5.5.4")
    options = client.options
    if client.offers.auth_needs_tls:
        raise Reject(538, "Encryption required: send STARTTLS first", "5.7.11")
    if client.session.user is not None:
        raise Reject(503, "Already authenticated", "5.5.1")
    method = words[0].upper()
    if method not in options.auth_methods:
        raise Reject(504, "Unrecognized authentication mechanism", "5.5.4")
    limit = options.max_auth_failures
    if limit is not None and client.auth_failures >= limit:
        raise Refusal(reply.TOO_MANY_AUTH_FAILURES)
    exchange = client.exchange = Exchange(method, options.name)
    initial = words[1].encode("ascii") if len(words) == 2 else None
    return _auth_step(client, exchange, lambda: exchange.begin(initial))


def auth_response(client: Client, exchange: Exchange, line: bytes) -> Reply:
    """The answer to a line inside the exchange."""
    return _auth_step(client, exchange, lambda: exchange.respond(line))


def _auth_step(
    client: Client, exchange: Exchange, step: Callable[[], Reply | Credentials]
) -> Reply:
    try:
        result = step()
        return result if isinstance(result, Reply) else _decide(client, exchange, result)
    except Refusal:
        client.exchange = None
        client.authenticated(exchange.method, exchange.username, False)
        if exchange.username is None:
            # The 334 before it was a good reply: without this there is no end of begun exchanges.
            client.conduct.junk()
        raise


#: Seconds that a failed AUTH is answered later than the failure before it.
AUTH_FAILURE_DELAY: Final = 0.25


def _decide(client: Client, exchange: Exchange, credentials: Credentials) -> Reply:
    exchange.username = credentials.username
    try:
        user = _user(client, credentials)
    except Refusal as refusal:
        if refusal.reply.code < 500:
            client.conduct.junk()
            raise
        # Counted before the client hears of it in any form: whatever it sends next, or if it
        # leaves, it has made this guess.
        client.auth_failures += 1
        client.pause(AUTH_FAILURE_DELAY * client.auth_failures)
        if exchange.method in OAUTH_MECHANISMS and isinstance(refusal, AuthenticationFailed):
            return exchange.challenge_failure(refusal)
        raise
    client.session.user = user
    client.exchange = None
    client.authenticated(exchange.method, credentials.username, True)
    return reply.AUTHENTICATED


def _user(client: Client, credentials: Credentials) -> Any:
    """The user whose credentials these are; raises what refuses them."""
    hook = client.hooks.on_auth
    user = None if hook is None else client.call_hook("on_auth", credentials, client.session)
    if not user:
        raise AuthenticationFailed
    if credentials.is_unasked_for_another:
        # RFC 4616 section 2: acting for another has to be authorized, and the program has not.
        raise AuthenticationFailed("Acting for another user is not allowed")
    return user


# XCLIENT and XFORWARD


def _check_forwarding(client: Client, verb: str) -> None:
    if client.session.xclient.get("ADDR"):
        raise Reject(503, "The client's address is set already", "5.5.1")
    if not client.offers.forwarding(verb):
        raise Reject(550, f"{verb} is not allowed for you", "5.7.0")


def _forget_forwarded(client: Client) -> None:
    """Postfix's XFORWARD_README: what it said is about one transaction. It names the client of
    the next one only where there is one: mail of its own host comes without."""
    session = client.session
    if client.real_client is not None:
        session.restore_client(client.real_client)
        session.host_name_appears_as = client.hello_name
        client.real_client = None
        client.client_changed()
    session.xforward = {}
    client.xforward_used = False


def forget_before_tls(client: Client) -> None:
    """RFC 3207 section 4.2: what XCLIENT and XFORWARD said before TLS doesn't count under it."""
    first = client.first_client
    if first is None:
        return
    session = client.session
    session.restore_client(first)
    session.xclient = {}
    session.xforward = {}
    client.first_client = client.real_client = None
    client.xforward_used = False
    client.client_changed()
    if client.announced != (session.remote_address, session.remote_port):
        client.announced = None


def xclient(client: Client, argument: str) -> Reply:
    """Postfix's XCLIENT_README."""
    _check_forwarding(client, "XCLIENT")
    attributes = parse_attributes(argument, XCLIENT_ATTRIBUTES)
    if client.xforward_used:
        _forget_forwarded(client)
    client.real_client = None  # from now on it is this one
    session = client.session
    if client.first_client is None:
        client.first_client = session.save_client()
    login = attributes.get("LOGIN")
    address = attributes.get("ADDR")
    if address:
        session.xclient.setdefault("ADDR:DEFAULT", session.remote_address)
        # The session belongs to another client now, which does not inherit an identity.
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
    client.hello_name = session.host_name_appears_as
    session.xclient.update(attributes)
    session.envelope = Envelope()
    session.opening_command = None
    if address:
        client.client_changed()
        client.announce()
    if login and client.hooks.on_auth is not None:
        session.user = None
        # Half of what the proxy said can't be taken back.
        client.close_reason = "refused"
        try:
            credentials = Credentials("XCLIENT", login)
            session.user = client.call_hook("on_auth", credentials, session) or None
        finally:
            client.authenticated("XCLIENT", login, session.user is not None)
        if session.user is None:
            raise Reject(550, "The forwarded login is not accepted", "5.7.8")
        client.close_reason = None
    elif "LOGIN" in attributes:
        session.user = None
    return client.greeting()


def xforward(client: Client, argument: str) -> Reply:
    """Postfix's XFORWARD_README."""
    _check_forwarding(client, "XFORWARD")
    attributes = parse_attributes(argument, XFORWARD_ATTRIBUTES)
    if client.xforward_used:
        _forget_forwarded(client)
    session = client.session
    if client.first_client is None:
        client.first_client = session.save_client()
    if client.real_client is None:
        client.real_client = session.save_client()
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
        client.client_changed()
        if client.announced != (session.remote_address, session.remote_port):
            client.announce()  # Postfix names the client again for each of its messages
    return reply.OK


# The table

HELP_VERBS: Final = ("HELO", "EHLO", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT", "VRFY", "HELP")


def _row(verb: str, run: Callable[[Client, str], Reply], **facts: bool) -> tuple[bytes, Command]:
    return verb.encode("ascii"), Command(verb, run, SEQUENCE[verb], **facts)


COMMANDS: Final[dict[bytes, Command]] = dict(
    (
        _row("HELO", helo),
        _row("EHLO", ehlo),
        _row("LHLO", lhlo),
        _row("MAIL", mail, needs_auth=True, utf8=True),
        _row("RCPT", rcpt, needs_auth=True, utf8=True),
        _row("DATA", data, takes_argument=False, needs_auth=True),
        _row("RSET", rset, takes_argument=False, junk=True),
        _row("NOOP", noop, junk=True),
        _row("HELP", help_, junk=True),
        _row("VRFY", vrfy, junk=True, utf8=True),
        _row("QUIT", quit_, takes_argument=False),
        _row("STARTTLS", starttls, takes_argument=False),
        _row("AUTH", auth),
        _row("XCLIENT", xclient, junk=True),
        _row("XFORWARD", xforward, junk=True),
        _row("EXPN", not_implemented, junk=True, utf8=True),
        *(_row(verb, not_implemented, junk=True) for verb in NOT_IMPLEMENTED_VERBS),
        _row("BDAT", not_implemented),
    )
)
AUTH: Final = COMMANDS[b"AUTH"]
BDAT: Final = COMMANDS[b"BDAT"]

#: Octets of the longest line that `plain_command` takes, and what is read where one is expected:
#: CPython has room for so much at hand, for more it asks the system's allocator.
MAX_PLAIN: Final = 479
_PLAIN: Final = re.compile(rb"([A-Za-z]+)(?: ([ -~]*[!-~])|)\r\n")


# The same lines come again and again: those without an argument, and the same few addresses.
@lru_cache(maxsize=1024)
def plain_command(line: bytes) -> tuple[Command, str]:
    """The command and the argument of a *line* with nothing unusual about it.

    That is: a known verb, with an argument only if it takes one, in printable ASCII, no blank but
    CRLF at the end, MAX_PLAIN octets at most. LookupError for anything else, and for AUTH: what is
    remembered here holds no secrets.
    """
    found = _PLAIN.fullmatch(line)
    if found is None or len(line) > MAX_PLAIN:
        raise LookupError
    verb, argument = found.groups(b"")
    command = COMMANDS[verb.upper()]
    if command.verb == "AUTH" or (argument and not command.takes_argument):
        raise LookupError
    return command, argument.decode()
