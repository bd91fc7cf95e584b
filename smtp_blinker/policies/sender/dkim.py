"""DKIM (RFC 6376): the domains that signed a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from ...smtp.names import ascii_domain
from .body_hash import BodyForm
from .header_fields import Field
from .results import DKIMResult
from .signature import (
    KeyRecords,
    Signature,
    SignatureError,
    check_body,
    header_digest,
    is_expired,
    parse_signature,
    select_key,
    signature_tags,
    signed_names,
)
from .tags import TagError, number, without_space

#: The number of signatures of one message that are verified, from the top.
MAX_SIGNATURES: Final = 10


def dkim_signatures(fields: Iterable[Field]) -> list[Signature | DKIMResult]:
    """The first `MAX_SIGNATURES` signatures, or for a malformed one its result."""
    found: list[Signature | DKIMResult] = []
    for field in fields:
        if field.name != "dkim-signature":
            continue
        if len(found) == MAX_SIGNATURES:
            break
        tags: dict[str, str] = {}
        try:
            tags = signature_tags(field)
            found.append(_parse(field, tags))
        except TagError as exc:
            found.append(_result("permerror", tags, str(exc)))
        except SignatureError as exc:
            found.append(_result(exc.result, tags, str(exc)))
    return found


def _parse(field: Field, tags: dict[str, str]) -> Signature:
    if tags.get("v") != "1":
        raise TagError("v= isn't 1")
    signature = parse_signature(field, tags)
    if "from" not in signed_names(tags):
        raise TagError("the From field isn't signed")
    if "q" in tags and "dns/txt" not in without_space(tags["q"]).split(":"):
        raise TagError("q= doesn't have dns/txt")
    domain = _identity(tags).rpartition("@")[2].lower()
    own = signature.domain.lower()
    if domain != own and not domain.endswith(f".{own}"):
        raise TagError("i= isn't within d=")
    if is_expired(tags):
        raise SignatureError("fail", "the signature has expired")
    if "t" in tags and "x" in tags and number("x", tags["x"]) <= number("t", tags["t"]):
        raise TagError("x= isn't after t=")
    return signature


def _identity(tags: Mapping[str, str]) -> str:
    local, _, domain = (tags.get("i") or tags.get("d", "")).rpartition("@")
    return f"{local}@{ascii_domain(domain)}"


def verify_dkim(
    signature: Signature,
    fields: Iterable[Field],
    records: KeyRecords,
    digests: Mapping[BodyForm, tuple[bytes, int]],
) -> DKIMResult:
    """The result of *signature*. For a thread: it takes up to two milliseconds."""
    bits = 0
    try:
        key = select_key(signature, records)
        bits = key.bits
        domain = _identity(signature.tags).rpartition("@")[2]
        if key.is_strict and domain.lower() != signature.domain.lower():
            raise SignatureError("permerror", "the key is for the domain itself only")
        assert signature.body is not None
        check_body(signature, *digests[signature.body])
        if not key.verifies(signature.signature, header_digest(signature, fields)):
            raise SignatureError("fail", "the signature doesn't verify")
    except SignatureError as exc:
        return _result(exc.result, signature.tags, str(exc), bits)
    return _result("pass", signature.tags, "", bits)


def _result(result: str, tags: Mapping[str, str], reason: str, bits: int = 0) -> DKIMResult:
    domain = ascii_domain(tags.get("d", "")).lower()
    return DKIMResult(
        result,
        domain,
        ascii_domain(tags.get("s", "")),
        _identity(tags) if domain else "",
        tags.get("a", ""),
        bits,
        without_space(tags.get("b", ""))[:8],
        reason,
    )
