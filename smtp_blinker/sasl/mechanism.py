"""The interface of a SASL mechanism: a generator of challenges and of questions to the program."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from ..session import Credentials
from ..smtp.reply import Reject


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the program whether these credentials are a user's."""

    credentials: Credentials
    #: False where the client's proof was wrong: then the answer is AuthenticationFailed, and the
    #: program isn't asked.
    is_proved: bool = True


@dataclass(frozen=True, slots=True)
class AskKeys:
    """Ask the program for the `ScramKeys` of *username*."""

    username: str
    mechanism: str


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about the session that a mechanism may use."""

    server_name: str
    #: The client's verified certificate, as `ssl.SSLSocket.getpeercert` has it, or None.
    certificate: Mapping[str, Any] | None = None


Question = Ask | AskKeys

#: Yields challenges, without base64, and is sent the client's responses to them. Yields `Ask`, and
#: is sent the user; yields `AskKeys`, and is sent ScramKeys or None. What refuses (the program's
#: verdict, a cancelled exchange, a response that isn't base64) is raised at the yield. It returns
#: the user that the program named, and raises Reject for what is malformed.
Mechanism = Generator[bytes | Question, Any, Any]


def malformed(why: str) -> Reject:
    return Reject(501, f"Malformed credentials: {why}", "5.5.2")


def decode_text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")  # RFC 4616 section 2
    except UnicodeDecodeError:
        raise malformed("not UTF-8") from None


def decode_name(octets: bytes) -> str:
    """A user name: it ends in logs and headers, so it holds nothing that can't be printed."""
    return check_name(decode_text(octets))


def check_name(name: str) -> str:
    if not name.isprintable():
        raise malformed("a name holds a character that can't be printed")
    return name


def decode_saslname(name: str) -> str:
    """A name of a GS2 header or of SCRAM (RFC 5801 section 4, RFC 5802 section 5.1)."""
    return name.replace("=2C", ",").replace("=3D", "=")
