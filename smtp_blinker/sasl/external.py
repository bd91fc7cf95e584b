"""EXTERNAL (RFC 4422 appendix A): authentication by the client's TLS certificate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..session import Credentials
from .mechanism import Ask, Facts, Mechanism, decode_name


def external(initial: bytes | None, facts: Facts) -> Mechanism:
    """The response is the authzid; an empty one means the user that the certificate names."""
    authzid = decode_name((yield b"") if initial is None else initial)
    name = certificate_name(facts.certificate or {})
    return (yield Ask(Credentials("EXTERNAL", name, authcid=name, authzid=authzid)))


def certificate_name(certificate: Mapping[str, Any]) -> str:
    """The user that a certificate names: its first mail address, else its first DNS name (both in
    subjectAltName), else its common name, else "". Names that aren't printable are skipped.

    *certificate* is what `ssl.SSLSocket.getpeercert` returns.
    """
    for name in _names(certificate):
        if name and name.isprintable():
            return name
    return ""


def _names(certificate: Mapping[str, Any]) -> Iterator[str]:
    for wanted in ("email", "DNS"):
        for kind, name in certificate.get("subjectAltName", ()):
            if kind == wanted:
                yield name
    for relative_name in certificate.get("subject", ()):
        for attribute, value in relative_name:
            if attribute == "commonName":
                yield value
