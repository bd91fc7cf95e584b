"""XOAUTH2 and OAUTHBEARER: access tokens, with failures reported to the client as JSON."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from ..session import Credentials
from ..smtp.reply import AuthenticationFailed, Refusal
from .mechanism import (
    Ask,
    Facts,
    Mechanism,
    check_name,
    decode_name,
    decode_saslname,
    decode_text,
    malformed,
)

_GS2_HEADER: Final = re.compile(r"[ny],(?:a=((?:[^=,]|=2C|=3D)*))?,")


def xoauth2(initial: bytes | None, facts: Facts) -> Mechanism:
    """Google's XOAUTH2: user=… ^A auth=Bearer … ^A ^A."""
    response = (yield b"") if initial is None else initial
    fields = _fields(response)
    username = check_name(fields.get("user", ""))
    token = _bearer_token(fields)
    if not username or not token:
        raise malformed("XOAUTH2 takes user= and auth=Bearer")
    return (yield from _ask(Credentials("XOAUTH2", username, access_token=token)))


def oauthbearer(initial: bytes | None, facts: Facts) -> Mechanism:
    """RFC 7628 section 3.1: a GS2 header, then key=value pairs, all ended by ^A."""
    response = (yield b"") if initial is None else initial
    header, separator, rest = response.partition(b"\x01")
    found = _GS2_HEADER.fullmatch(decode_name(header))
    token = _bearer_token(_fields(rest))
    if found is None or not separator or not token:
        raise malformed("OAUTHBEARER takes a GS2 header and auth=Bearer")
    authzid = decode_saslname(found[1] or "")
    credentials = Credentials("OAUTHBEARER", authzid, authzid=authzid, access_token=token)
    return (yield from _ask(credentials))


def _fields(response: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in response.split(b"\x01"):
        key, equals, value = part.partition(b"=")
        if equals:
            fields.setdefault(decode_text(key).lower(), decode_text(value))
    return fields


def _bearer_token(fields: dict[str, str]) -> str:
    """The token, or "" if there is none or it isn't printable."""
    scheme, _, token = fields.get("auth", "").strip().partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token.isprintable() else ""


def _ask(credentials: Credentials) -> Mechanism:
    try:
        return (yield Ask(credentials))
    except AuthenticationFailed as failure:
        if failure.code >= 500:
            # RFC 7628 section 3.2.3: the client sends some response to the JSON; only then the
            # server reports the failure.
            with suppress(Refusal):
                yield failure.challenge
        raise
