"""The type of a SASL mechanism: a generator of challenges and of questions to the program."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from ..session import Credentials
from ..smtp.reply import Reject


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the program for the user with these credentials."""

    credentials: Credentials
    #: False if the client's proof was wrong. Then the answer is AuthenticationFailed, without a
    #: call of the program's hook.
    is_proved: bool = True


@dataclass(frozen=True, slots=True)
class AskKeys:
    """Ask the program for the `ScramKeys` of *username*."""

    username: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What a mechanism may know about its session."""

    server_name: str
    #: The client's verified certificate as `ssl.SSLSocket.getpeercert` returns it, or None.
    certificate: Mapping[str, Any] | None = None


Question = Ask | AskKeys

#: A generator. It yields a challenge (before base64) and receives the client's response; yields
#: `Ask` and receives the user; yields `AskKeys` and receives ScramKeys or None. A refusal (by the
#: program, by a cancelled exchange, by a response that isn't base64) is raised at the yield. It
#: returns the user, and raises Reject for malformed responses.
Mechanism = Generator[bytes | Question, Any, Any]


def malformed(why: str) -> Reject:
    return Reject(501, f"Malformed credentials: {why}", "5.5.2")


def decode_text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")  # RFC 4616 section 2
    except UnicodeDecodeError:
        raise malformed("not UTF-8") from None


def decode_name(octets: bytes) -> str:
    """Decode a user name, which must be printable because logs and headers show it."""
    return check_name(decode_text(octets))


def check_name(name: str) -> str:
    if not name.isprintable():
        raise malformed("a name holds a character that can't be printed")
    return name


def decode_saslname(name: str) -> str:
    """Decode a saslname of a GS2 header or of SCRAM (RFC 5801 section 4, RFC 5802 section 5.1)."""
    return name.replace("=2C", ",").replace("=3D", "=")
