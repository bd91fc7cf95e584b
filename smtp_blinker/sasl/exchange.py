"""SASL exchanges as pure objects (RFC 4422, RFC 4954): lines in, challenges and credentials out.

A mechanism is a generator: it yields challenges, is sent responses, and returns `Credentials`.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import time
from collections.abc import Callable, Generator
from typing import Final

from ..session import Credentials
from ..smtp.reply import AuthenticationFailed, Reject, Reply

# RFC 4648 section 4, with its padding and nothing else; b64decode would skip foreign octets.
_BASE64: Final = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII
)
_CRAM_RESPONSE: Final = re.compile(r"(.+) ([0-9A-Fa-f]{32})")

Mechanism = Generator[bytes, bytes, Credentials]


def decode_base64(text: bytes) -> bytes:
    """*text*'s octets; Reject 501 5.5.2 unless it is base64 in its one canonical form."""
    if _BASE64.fullmatch(text):
        try:
            decoded = base64.b64decode(text)
        except binascii.Error:
            pass
        else:
            if base64.b64encode(decoded) == text:
                return decoded
    raise Reject(501, "Cannot decode the response: not base64", "5.5.2")


def _text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")  # RFC 4616 section 2
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None


def _identity(octets: bytes) -> str:
    """A user name: it ends in logs and headers, so it holds nothing that can't be printed."""
    text = _text(octets)
    if not text.isprintable():
        raise _malformed("a name holds a character that can't be printed")
    return text


def _malformed(why: str) -> Reject:
    return Reject(501, f"Malformed credentials: {why}", "5.5.2")


def _plain(initial: bytes | None, name: str) -> Mechanism:
    """RFC 4616: authzid NUL authcid NUL passwd."""
    response = (yield b"") if initial is None else initial
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise _malformed("PLAIN takes authzid NUL authcid NUL password")
    authzid, authcid = _identity(parts[0]), _identity(parts[1])
    # Clients are about that give their name as the authzid and leave the authcid empty.
    username = authcid or authzid
    if not username:
        raise _malformed("no user name")
    return Credentials(
        "PLAIN", username, password=_text(parts[2]), authcid=authcid, authzid=authzid
    )


def _login(initial: bytes | None, name: str) -> Mechanism:
    """draft-murchison-sasl-login: two prompts; the name may come with the command."""
    username = _identity((yield b"Username:") if initial is None else initial)
    if not username:
        raise _malformed("no user name")
    password = _text((yield b"Password:"))
    if "\0" in password:
        raise _malformed("NUL in the password")
    return Credentials("LOGIN", username, password=password)


def _cram_md5(initial: bytes | None, name: str) -> Mechanism:
    """RFC 2195; the challenge comes from the system's random source."""
    if initial is not None:
        # RFC 4954 section 4: the server goes first in this mechanism.
        raise Reject(501, "CRAM-MD5 takes no initial response", "5.7.0")
    challenge = f"<{secrets.token_hex(16)}.{int(time.time())}@{name}>"
    response = _text((yield challenge.encode("ascii", "replace")))
    found = _CRAM_RESPONSE.fullmatch(response)
    if found is None:
        raise _malformed("CRAM-MD5 takes a user name, a space and a digest of 32 hex digits")
    return Credentials(
        "CRAM-MD5",
        _identity(found[1].encode()),
        challenge=challenge.encode("ascii", "replace").decode("ascii"),
        challenge_response=found[2].lower(),
    )


def _xoauth2(initial: bytes | None, name: str) -> Mechanism:
    """Google's XOAUTH2: user=… ^A auth=Bearer … ^A ^A."""
    response = (yield b"") if initial is None else initial
    fields: dict[str, str] = {}
    for part in response.split(b"\x01"):
        key, equals, value = part.partition(b"=")
        if equals:
            fields.setdefault(_text(key).lower(), _text(value))
    username = _identity(fields.get("user", "").encode())
    scheme, _, token = fields.get("auth", "").strip().partition(" ")
    token = token.strip()
    if not username or scheme.lower() != "bearer" or not token or not token.isprintable():
        raise _malformed("XOAUTH2 takes user= and auth=Bearer")
    return Credentials("XOAUTH2", username, access_token=token)


_GS2_HEADER: Final = re.compile(r"[ny],(?:a=((?:[^=,]|=2C|=3D)*))?,")


def _oauthbearer(initial: bytes | None, name: str) -> Mechanism:
    """RFC 7628 section 3.1: a GS2 header, then key=value pairs, all ended by ^A."""
    response = (yield b"") if initial is None else initial
    header, separator, rest = response.partition(b"\x01")
    found = _GS2_HEADER.fullmatch(_identity(header))
    fields: dict[str, str] = {}
    for part in rest.split(b"\x01"):
        key, equals, value = part.partition(b"=")
        if equals:
            fields.setdefault(_text(key).lower(), _text(value))
    scheme, _, token = fields.get("auth", "").strip().partition(" ")
    token = token.strip()
    if found is None or not separator or scheme.lower() != "bearer" or not token:
        raise _malformed("OAUTHBEARER takes a GS2 header and auth=Bearer")
    if not token.isprintable():
        raise _malformed("OAUTHBEARER takes a printable token")
    authzid = (found[1] or "").replace("=2C", ",").replace("=3D", "=")
    return Credentials("OAUTHBEARER", authzid, authzid=authzid, access_token=token)


#: Those whose failure is shown to the client as JSON before the 535.
OAUTH_MECHANISMS: Final = frozenset({"OAUTHBEARER", "XOAUTH2"})

MECHANISMS: Final[dict[str, Callable[[bytes | None, str], Mechanism]]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "CRAM-MD5": _cram_md5,
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
}


class Exchange:
    """One AUTH exchange. `begin` and `respond` return a 334 reply, or the credentials.

    Both raise Reject for what ends the exchange: a malformed response, "*", or, after
    `challenge_failure`, the failure itself.
    """

    __slots__ = ("_failure", "_mechanism", "_name", "method", "username")

    def __init__(self, method: str, name: str) -> None:
        self.method = method
        #: Known once the client has given credentials.
        self.username: str | None = None
        self._name = name
        self._mechanism: Mechanism | None = None
        self._failure: Reject | None = None

    def begin(self, initial: bytes | None) -> Reply | Credentials:
        """*initial* is the base64 initial response of the command, or None."""
        if initial is not None:
            # RFC 4954 section 4: "=" is an empty initial response.
            initial = b"" if initial == b"=" else decode_base64(initial)
        self._mechanism = MECHANISMS[self.method](initial, self._name)
        return self._step(None)

    def respond(self, line: bytes) -> Reply | Credentials:
        """*line* is a line of the client's without its CRLF."""
        if self._failure is not None:
            raise self._failure
        if line == b"*":
            raise Reject(501, "Authentication cancelled", "5.7.0")  # RFC 4954 section 4
        return self._step(decode_base64(line))

    def challenge_failure(self, failure: AuthenticationFailed) -> Reply:
        """The 334 that shows an OAuth client *failure*'s JSON; its answer gets the failure."""
        self._failure = failure
        return Reply(334, failure.challenge)

    def _step(self, response: bytes | None) -> Reply | Credentials:
        assert self._mechanism is not None
        try:
            challenge = self._mechanism.send(response)  # type: ignore[arg-type]
        except StopIteration as done:
            credentials: Credentials = done.value
            return credentials
        return Reply(334, base64.b64encode(challenge).decode("ascii"))
