"""SASL exchanges: challenges and credentials that are safe to log, or a refusal.

The first octet of an input chooses the mechanism and what the program thinks of the credentials;
the lines that follow are the initial response (an empty first line: none) and the responses.
"""

# ruff: noqa: PT017 - nothing here is a pytest test
from __future__ import annotations

import base64

import model

from smtp_blinker.sasl.exchange import MECHANISMS, Exchange, decode_base64
from smtp_blinker.sasl.mechanism import AskKeys, Facts
from smtp_blinker.sasl.scram import ScramKeys
from smtp_blinker.session import Credentials
from smtp_blinker.smtp.reply import AuthenticationFailed, Reject, Reply

_NAMES = tuple(MECHANISMS)
_KEYS = ScramKeys(b"salt", 4096, b"s" * 32, b"t" * 32)


def one_input(data: bytes) -> None:
    if not data:
        return
    # Lines come without newlines, whatever else is in them.
    lines = [line.replace(b"\r", b"") for line in data[1:].split(b"\n")]
    for line in lines:
        _base64(line)
    method = _NAMES[data[0] % len(_NAMES)]
    exchange = Exchange(method, Facts("mx.example.com"))
    first, *responses = lines
    initial = first if first and first.isascii() else None
    try:
        result = exchange.begin(initial)
        steps = 0
        while isinstance(result, Reply | AskKeys):
            steps += 1
            assert steps <= 4, "it never ends"
            if isinstance(result, AskKeys):
                _name(result.username, method)
                result = exchange.answer(_KEYS if len(result.username) % 2 else None)
                continue
            assert result.code == 334
            text = result.text.encode("ascii")
            assert base64.b64encode(base64.b64decode(text, validate=True)) == text
            if not responses:
                return
            result = exchange.respond(responses.pop(0))
        _credentials(result.credentials, method)
        failure = AuthenticationFailed("no", data={"status": "401"})
        try:
            if method in ("XOAUTH2", "OAUTHBEARER"):
                assert exchange.refuse(failure).code == 334
                exchange.respond(responses.pop(0) if responses else b"")
            else:
                exchange.refuse(failure)
        except AuthenticationFailed as raised:
            assert raised is failure
        else:
            raise AssertionError("a failed exchange went on")
    except Reject as refusal:
        assert refusal.code in (501, 535), refusal
        assert refusal.text.isprintable()


def _name(name: str, method: str) -> None:
    # RFC 7628 section 3.1: a bearer's token may be all there is; a certificate may have no name.
    assert name or method in ("OAUTHBEARER", "EXTERNAL")
    assert name.isprintable()


def _credentials(found: Credentials, method: str) -> None:
    assert found.method == method
    _name(found.username, method)
    for name in (found.authcid, found.authzid):
        assert name is None or name.isprintable()
    assert found.password is None or "\0" not in found.password
    secrets = [found.password, found.access_token]
    for secret in secrets:
        if secret and len(secret) > 8 and secret not in f"{found.method} {found.username!r}":
            assert secret not in repr(found)
    assert not found.validate_password("certainly not\0this")
    if found.password is not None:
        assert found.validate_password(found.password)
    if method in ("XOAUTH2", "OAUTHBEARER"):
        assert found.access_token
        assert found.access_token.isprintable()


def _base64(line: bytes) -> None:
    """Only the one canonical form is taken, and means what the standard library says."""
    try:
        decoded = decode_base64(line)
    except Reject as refusal:
        assert (refusal.code, refusal.enhanced) == (501, "5.5.2")
        try:
            plain = base64.b64decode(line, validate=True)
        except ValueError:
            return
        assert base64.b64encode(plain) != line, "canonical base64 was refused"
        return
    assert base64.b64encode(decoded) == line
    if decoded.isascii():
        assert model.Session._base64(line) == decoded.decode("ascii")
