"""A row for each extension: its EHLO line, its MAIL and RCPT parameters, and what it requires.

To add a parameter, add it to a row here, its parser to `parameters.py` and its field to
`session.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Final

from . import parameters
from .parameters import Facts, MailParser, RcptParser, Value
from .session import Address, Envelope
from .smtp.reply import Reject
from .smtp.xclient import XCLIENT_ATTRIBUTES, XFORWARD_ATTRIBUTES


@dataclass(frozen=True)
class Extension:
    """One extension."""

    keyword: str
    #: Returns the EHLO line, or None if this session doesn't show it. Without a function the line
    #: is the keyword.
    line: Callable[[Facts], str | None] | None = None
    #: Whether it is on by default, because it needs no promise from the program.
    default: bool = True
    #: Whether the option `extensions` may name it; the others have options of their own.
    optional: bool = True
    #: Keywords of the extensions that it depends on.
    needs: tuple[str, ...] = ()
    mail: Mapping[str, MailParser] = field(default_factory=dict)
    rcpt: Mapping[str, RcptParser] = field(default_factory=dict)


# EHLO lines that depend on the session


def _size_line(facts: Facts) -> str:
    return "SIZE" if facts.hide_size or not facts.size else f"SIZE {facts.size}"


def _auth_line(facts: Facts) -> str | None:
    # RFC 4954 section 4: hidden while AUTH needs TLS first, and after a successful AUTH.
    return " ".join(("AUTH", *facts.mechanisms)) if facts.mechanisms else None


def _requiretls_line(facts: Facts) -> str | None:
    return "REQUIRETLS" if facts.secure else None  # RFC 8689 section 2: only under TLS


def _forwarding_line(verb: str, attributes: tuple[str, ...]) -> Callable[[Facts], str | None]:
    line = " ".join((verb, *attributes))
    return lambda facts: line if facts.forwarding(verb) else None


def _limits_line(facts: Facts) -> str | None:
    return _limits(facts.max_messages, facts.max_recipients, facts.max_rcpt_domains)


@lru_cache(maxsize=16)
def _limits(messages: int | None, recipients: int | None, domains: int | None) -> str | None:
    # RFC 9422 sections 4.1 to 4.3 count all MAIL, RCPT and domains, whatever the reply was. This
    # server counts fewer, so a client that stays within the limits is never refused.
    limits = (
        ("MAILMAX", messages),
        ("RCPTMAX", recipients),
        ("RCPTDOMAINMAX", domains),
    )
    # RFC 9422 section 4: values have six digits at most. The order is free (section 3).
    shown = [f"{name}={limit}" for name, limit in limits if limit is not None and limit < 10**6]
    return " ".join(("LIMITS", *shown)) if shown else None


def _future_release_line(facts: Facts) -> str:
    # RFC 4865 section 3, items 2 and 3: the longest time and the latest, in UTC.
    # Rounded down to the minute, because the EHLO reply is cached and would change every second.
    latest = facts.now.replace(second=0, microsecond=0) + timedelta(seconds=facts.max_hold)
    return f"FUTURERELEASE {facts.max_hold} {latest:%Y-%m-%dT%H:%M:%SZ}"


#: Every extension, in the order of EHLO.
EXTENSIONS: Final = (
    Extension("PIPELINING"),  # RFC 2920
    Extension("8BITMIME", mail={"BODY": parameters.body}),  # RFC 6152
    Extension(
        "SMTPUTF8",  # RFC 6531
        needs=("8BITMIME",),  # RFC 6531 section 3.1
        mail={"SMTPUTF8": parameters.smtputf8},
    ),
    Extension("ENHANCEDSTATUSCODES"),  # RFC 2034
    Extension(
        "DSN",  # RFC 3461
        default=False,
        mail={"RET": parameters.ret, "ENVID": parameters.envid},
        rcpt={"NOTIFY": parameters.notify, "ORCPT": parameters.orcpt},
    ),
    Extension("CHUNKING", lambda facts: "CHUNKING" if facts.bdat else None),  # RFC 3030 section 2
    Extension(
        "BINARYMIME",  # RFC 3030 section 3
        lambda facts: "BINARYMIME" if facts.binarymime else None,
        default=False,
        needs=("CHUNKING", "8BITMIME"),
    ),
    Extension("SIZE", _size_line, mail={"SIZE": parameters.size}),  # RFC 1870
    Extension("AUTH", _auth_line, mail={"AUTH": parameters.auth}),  # RFC 4954
    Extension("STARTTLS", lambda facts: "STARTTLS" if facts.starttls else None),  # RFC 3207
    Extension(
        "REQUIRETLS",  # RFC 8689
        _requiretls_line,
        default=False,
        mail={"REQUIRETLS": parameters.requiretls},
    ),
    Extension("LIMITS", _limits_line),  # RFC 9422 section 3
    Extension(
        "DELIVERBY",  # RFC 2852 section 3; without a number, since no by-time is too short
        default=False,
        mail={"BY": parameters.deliver_by},
    ),
    Extension(
        "MT-PRIORITY",  # RFC 6710 section 3; without the name of a profile
        default=False,
        mail={"MT-PRIORITY": parameters.mt_priority},
    ),
    Extension(
        "FUTURERELEASE",  # RFC 4865, for the submission port only (section 4.2, item 2)
        _future_release_line,
        default=False,
        mail={"HOLDFOR": parameters.hold_for, "HOLDUNTIL": parameters.hold_until},
    ),
    Extension("RRVS", default=False, rcpt={"RRVS": parameters.rrvs}),  # RFC 7293 section 3.1
    Extension("XCLIENT", _forwarding_line("XCLIENT", XCLIENT_ATTRIBUTES), optional=False),
    Extension("XFORWARD", _forwarding_line("XFORWARD", XFORWARD_ATTRIBUTES), optional=False),
)

#: The extensions that EHLO shows by default: those that need no promise from the program.
DEFAULT_EXTENSIONS: Final = frozenset(
    one.keyword for one in EXTENSIONS if one.default and one.optional
)
#: Promises about delivery that the program must keep, so the program has to enable them.
OPT_IN_EXTENSIONS: Final = frozenset(one.keyword for one in EXTENSIONS if not one.default)

#: For each parameter, the keyword of its extension and its parser.
_MAIL: Final = {
    name: (one.keyword, parse) for one in EXTENSIONS for name, parse in one.mail.items()
}
_RCPT: Final = {
    name: (one.keyword, parse) for one in EXTENSIONS for name, parse in one.rcpt.items()
}


def check_extensions(keywords: Collection[str]) -> None:
    """Raise ValueError when *keywords* lacks an extension that another one needs."""
    for one in EXTENSIONS:
        missing = [need for need in one.needs if need not in keywords]
        if one.keyword in keywords and missing:
            raise ValueError(f"extensions has {one.keyword}, which needs {' and '.join(missing)}")


def ehlo_lines(offered: frozenset[str], facts: Facts) -> list[str]:
    """The lines of the EHLO reply after the first; *offered* is the option `extensions`."""
    lines = []
    for one in _offered(offered):
        line = one.keyword if one.line is None else one.line(facts)
        if line is not None:
            lines.append(line)
    return lines


@lru_cache(maxsize=16)
def _offered(keywords: frozenset[str]) -> tuple[Extension, ...]:
    return tuple(one for one in EXTENSIONS if one.keyword in keywords or not one.optional)


def set_mail_parameters(
    args: Mapping[str, Value], offered: Collection[str], envelope: Envelope, facts: Facts
) -> None:
    """Set fields of *envelope* from the parameters of MAIL.

    Raises Reject for an unknown parameter or a wrong value.
    """
    for keyword, value in args.items():
        extension, parse = _MAIL.get(keyword, ("", None))
        if parse is None or extension not in offered:
            raise _unknown(keyword)
        parse(value, envelope, facts)


def set_rcpt_parameters(
    args: Mapping[str, Value], offered: Collection[str], address: Address
) -> None:
    """Set fields of *address* from the parameters of RCPT.

    Raises Reject for an unknown parameter or a wrong value.
    """
    for keyword, value in args.items():
        extension, parse = _RCPT.get(keyword, ("", None))
        if parse is None or extension not in offered:
            raise _unknown(keyword)
        parse(value, address)


def _unknown(keyword: str) -> Reject:
    # RFC 5321 section 4.1.1.11
    return Reject(555, f"Parameter {keyword} is not recognized", "5.5.4")
