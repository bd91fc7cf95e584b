"""The extensions, a row each: the EHLO line, the parameters of MAIL and RCPT, and what they need.

A parser takes the value of a parameter and sets a field of the envelope or the address; it raises
`Reject` with the reply that the client gets. To add a parameter: a row, or a line of one, here,
and the field in `session.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from .session import Address, Envelope, EnvelopeDSN, RecipientDSN
from .smtp.reply import Reject
from .smtp.xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES

Value = str | bool


class Facts(Protocol):
    """What a row may ask about the server and the session."""

    @property
    def size(self) -> int:
        """The largest message, 0 for no limit."""

    @property
    def hide_size(self) -> bool: ...

    @property
    def secure(self) -> bool: ...

    @property
    def binarymime(self) -> bool:
        """Whether BODY=BINARYMIME is offered."""

    @property
    def starttls(self) -> bool:
        """Whether STARTTLS can be used now."""

    @property
    def mechanisms(self) -> Sequence[str]:
        """The mechanisms that AUTH offers now."""

    def forwarding(self, verb: str) -> bool:
        """Whether the peer may use XCLIENT or XFORWARD now."""


MailParser = Callable[[Value, Envelope, Facts], None]
RcptParser = Callable[[Value, Address], None]


@dataclass(frozen=True)
class Extension:
    """One extension."""

    keyword: str
    #: The EHLO line, or None when it isn't shown in this session.
    line: Callable[[Facts], str | None]
    #: On by default: it needs no promise from the program.
    default: bool = True
    #: Part of the option `extensions`; the others have options of their own.
    optional: bool = True
    #: Keywords without which it makes no sense.
    needs: tuple[str, ...] = ()
    mail: Mapping[str, MailParser] = field(default_factory=dict)
    rcpt: Mapping[str, RcptParser] = field(default_factory=dict)


# The values of parameters


def _text(keyword: str, value: Value) -> str:
    if not isinstance(value, str):
        raise Reject(501, f"{keyword} takes a value", "5.5.4")
    return value


def _no_value(keyword: str, value: Value) -> None:
    if value is not True:
        raise Reject(501, f"{keyword} takes no value", "5.5.4")


def _size(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 1870 section 3: 1 to 20 digits."""
    text = _text("SIZE", value)
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Reject(501, "SIZE takes 1 to 20 digits", "5.5.4")
    envelope.size = int(text)
    # Without a limit of ours there is still that of any file.
    limit = facts.size or 2**63 - 1
    if envelope.size > limit:
        raise Reject(552, f"Message exceeds the maximum size of {limit} octets", "5.3.4")


_BODIES: Final = frozenset({"7bit", "8bitmime"})


def _body(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 6152 section 2, RFC 3030 section 3."""
    body_type = _text("BODY", value).lower()
    if body_type not in ({"7bit", "8bitmime", "binarymime"} if facts.binarymime else _BODIES):
        raise Reject(501, "BODY takes 7BIT or 8BITMIME", "5.5.4")
    envelope.body_type = body_type


def _smtputf8(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 6531 section 3.4."""
    _no_value("SMTPUTF8", value)
    envelope.smtputf8 = True


def _requiretls(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 8689 section 2."""
    _no_value("REQUIRETLS", value)
    if not facts.secure:
        raise Reject(530, "REQUIRETLS needs TLS: send STARTTLS first", "5.7.10")
    envelope.require_tls = True


def _ret(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 3461 section 4.3."""
    ret = _text("RET", value).upper()
    if ret not in {"FULL", "HDRS"}:
        raise Reject(501, "RET takes FULL or HDRS", "5.5.4")
    envelope.dsn = EnvelopeDSN(ret, envelope.dsn.envid)


def _envid(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 3461 section 4.4: 100 characters."""
    envid = _text("ENVID", value)
    if len(envid) > 100:
        raise Reject(501, "ENVID takes 100 characters at most", "5.5.4")
    envelope.dsn = EnvelopeDSN(envelope.dsn.ret, envid)


def _notify(value: Value, address: Address) -> None:
    """RFC 3461 section 4.1."""
    wanted = tuple(_text("NOTIFY", value).upper().split(","))
    if not set(wanted) <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"}:
        raise Reject(501, "NOTIFY takes NEVER, or SUCCESS, FAILURE and DELAY", "5.5.4")
    if "NEVER" in wanted and len(wanted) > 1:
        raise Reject(501, "NOTIFY=NEVER stands alone", "5.5.4")
    address.dsn = RecipientDSN(wanted, address.dsn.orcpt)


def _orcpt(value: Value, address: Address) -> None:
    """RFC 3461 section 4.2: 500 octets, an address type and an address."""
    text = _text("ORCPT", value)
    kind, semicolon, original = text.partition(";")
    if len(text) > 500 or not semicolon or not kind or not original:
        raise Reject(501, "ORCPT takes addr-type;address, 500 characters at most", "5.5.4")
    if not kind.replace("-", "").isalnum() or not kind.isascii():
        raise Reject(501, "ORCPT takes an address type such as rfc822", "5.5.4")
    address.dsn = RecipientDSN(address.dsn.notify, text)


def _auth(value: Value, envelope: Envelope, facts: Facts) -> None:
    """RFC 4954 section 5."""
    envelope.auth = _text("AUTH", value)


# EHLO lines that depend on the session


def _size_line(facts: Facts) -> str:
    return "SIZE" if facts.hide_size or not facts.size else f"SIZE {facts.size}"


def _auth_line(facts: Facts) -> str | None:
    # RFC 4954 section 4: not while a mechanism would need TLS first, nor after success.
    return " ".join(("AUTH", *facts.mechanisms)) if facts.mechanisms else None


def _requiretls_line(facts: Facts) -> str | None:
    return "REQUIRETLS" if facts.secure else None  # RFC 8689 section 2: only under TLS


def _forwarding_line(verb: str, attributes: tuple[str, ...]) -> Callable[[Facts], str | None]:
    line = " ".join((verb, *attributes))
    return lambda facts: line if facts.forwarding(verb) else None


def _always(keyword: str) -> Callable[[Facts], str | None]:
    return lambda facts: keyword


#: Every extension, in the order of EHLO.
EXTENSIONS: Final = (
    Extension("PIPELINING", _always("PIPELINING")),  # RFC 2920
    Extension("8BITMIME", _always("8BITMIME"), mail={"BODY": _body}),  # RFC 6152
    Extension(
        "SMTPUTF8",  # RFC 6531
        _always("SMTPUTF8"),
        needs=("8BITMIME",),  # RFC 6531 section 3.1
        mail={"SMTPUTF8": _smtputf8},
    ),
    Extension("ENHANCEDSTATUSCODES", _always("ENHANCEDSTATUSCODES")),  # RFC 2034
    Extension(
        "DSN",  # RFC 3461
        _always("DSN"),
        default=False,
        mail={"RET": _ret, "ENVID": _envid},
        rcpt={"NOTIFY": _notify, "ORCPT": _orcpt},
    ),
    Extension("CHUNKING", _always("CHUNKING")),  # RFC 3030 section 2
    Extension("BINARYMIME", _always("BINARYMIME"), default=False, needs=("CHUNKING", "8BITMIME")),
    Extension("SIZE", _size_line, mail={"SIZE": _size}),  # RFC 1870
    Extension("AUTH", _auth_line, mail={"AUTH": _auth}),  # RFC 4954
    Extension("STARTTLS", lambda facts: "STARTTLS" if facts.starttls else None),  # RFC 3207
    Extension(
        "REQUIRETLS",  # RFC 8689
        _requiretls_line,
        default=False,
        mail={"REQUIRETLS": _requiretls},
    ),
    Extension("XCLIENT", _forwarding_line("XCLIENT", XCLIENT_ATTRIBUTES), optional=False),
    Extension("XFORWARD", _forwarding_line("XFORWARD", XFORWARD_ATTRIBUTES), optional=False),
)

#: What EHLO advertises by default: all that needs no promise from the program.
DEFAULT_EXTENSIONS: Final = frozenset(
    one.keyword for one in EXTENSIONS if one.default and one.optional
)
#: Promises about delivery, so a program has to ask for them.
OPT_IN_EXTENSIONS: Final = frozenset(one.keyword for one in EXTENSIONS if not one.default)

#: The extension that a parameter belongs to, and its parser.
_MAIL: Final = {
    name: (one.keyword, parse) for one in EXTENSIONS for name, parse in one.mail.items()
}
_RCPT: Final = {
    name: (one.keyword, parse) for one in EXTENSIONS for name, parse in one.rcpt.items()
}


def check_extensions(keywords: Collection[str]) -> None:
    """Raise the ValueError of keywords that contradict each other."""
    for one in EXTENSIONS:
        missing = [need for need in one.needs if need not in keywords]
        if one.keyword in keywords and missing:
            raise ValueError(f"extensions has {one.keyword}, which needs {' and '.join(missing)}")


def ehlo_lines(offered: Collection[str], facts: Facts) -> list[str]:
    """The lines of EHLO behind its first; *offered* is the option `extensions`."""
    return [
        line
        for one in EXTENSIONS
        if (one.keyword in offered or not one.optional) and (line := one.line(facts)) is not None
    ]


def set_mail_parameters(
    args: Mapping[str, Value], offered: Collection[str], envelope: Envelope, facts: Facts
) -> None:
    """Set the fields of *envelope* that the parameters of MAIL are about; raises Reject."""
    for keyword, value in args.items():
        extension, parse = _MAIL.get(keyword, ("", None))
        if parse is None or extension not in offered:
            raise _unknown(keyword)
        parse(value, envelope, facts)


def set_rcpt_parameters(
    args: Mapping[str, Value], offered: Collection[str], address: Address
) -> None:
    """Set the fields of *address* that the parameters of RCPT are about; raises Reject."""
    for keyword, value in args.items():
        extension, parse = _RCPT.get(keyword, ("", None))
        if parse is None or extension not in offered:
            raise _unknown(keyword)
        parse(value, address)


def _unknown(keyword: str) -> Reject:
    # RFC 5321 section 4.1.1.11
    return Reject(555, f"Parameter {keyword} is not recognized", "5.5.4")
