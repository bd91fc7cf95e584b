"""Signatures over a message: DKIM-Signature, ARC-Message-Signature and ARC-Seal."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ...smtp.names import ascii_domain
from .body_hash import BodyForm
from .header_fields import Field, relaxed_field
from .keys import Key, parse_key
from .lookups import is_name
from .tags import TagError, decode, number, parse_tags, without_space

#: The longest field of a signature in octets.
MAX_FIELD: Final = 16 * 1024
_B_TAG: Final = re.compile(rb"((?:^|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_LABEL: Final = re.compile("[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?", re.IGNORECASE)
_FORMS: Final = {"simple": False, "relaxed": True}

#: The result of a key look-up: the records, or why there is no answer.
KeyRecords = tuple[bytes, ...] | str


class SignatureError(Exception):
    """An invalid signature, with its result for Authentication-Results."""

    def __init__(self, result: str, reason: str) -> None:
        super().__init__(reason)
        self.result = result


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature with valid tags; it isn't verified yet."""

    field: Field
    tags: Mapping[str, str]
    #: In A-labels.
    domain: str
    selector: str
    signature: bytes
    #: Whether the header's form is relaxed, and how it covers the body; None for ARC-Seal.
    relaxed: bool
    body: BodyForm | None

    @property
    def key_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"


def parse_signature(
    field: Field,
    tags: Mapping[str, str],
    has_body: bool = True,
    default_form: str = "simple/simple",
) -> Signature:
    """The tags that all three kinds have; raises `TagError`."""
    for name in ("a", "b", "d", "s", *(("bh", "h") if has_body else ())):
        if name not in tags or (not tags[name] and name != "h"):
            raise TagError(f"{name}= is missing")
    if tags["a"] not in ("rsa-sha256", "ed25519-sha256"):  # RFC 8301 section 3.1: no SHA-1
        raise TagError(f"the algorithm {tags['a'][:20]!r} isn't accepted")
    domain, selector = ascii_domain(tags["d"]), ascii_domain(tags["s"])  # RFC 8616 section 5
    if not is_domain(domain) or not all(map(_LABEL.fullmatch, selector.split("."))):
        raise TagError("d= or s= isn't a name")
    if not is_name(f"{selector}._domainkey.{domain}"):
        raise TagError("d= and s= are too long")
    if "t" in tags:
        number("t", tags["t"])
    relaxed, body = True, None
    if has_body:
        relaxed, body = _forms(tags.get("c", default_form), tags)
    return Signature(field, tags, domain, selector, decode("b", tags["b"]), relaxed, body)


def signature_tags(field: Field) -> dict[str, str]:
    """The tags of a signature's field; raises `TagError`."""
    if len(field.raw) > MAX_FIELD:
        raise TagError(f"a field of {len(field.raw)} octets")
    return parse_tags(field.value.decode("utf-8", "replace"), utf8=True)


def _forms(forms: str, tags: Mapping[str, str]) -> tuple[bool, BodyForm]:
    header, slash, body = forms.partition("/")
    if not slash:
        body = "simple"
    if header not in _FORMS or body not in _FORMS:
        raise TagError("c= is unknown")
    length = number("l", tags["l"]) if "l" in tags else None
    return _FORMS[header], BodyForm(_FORMS[body], length)


def is_domain(name: str) -> bool:
    """Whether *name* is a domain of two labels or more."""
    return "." in name and is_name(name) and all(map(_LABEL.fullmatch, name.split(".")))


def signed_names(tags: Mapping[str, str]) -> list[str]:
    return [one.lower() for one in without_space(tags["h"]).split(":")]


def select_key(signature: Signature, found: KeyRecords) -> Key:
    """The key for *signature* among the records in DNS; raises `SignatureError`."""
    if isinstance(found, str):
        raise SignatureError("temperror", found)
    problem = "no key"
    for record in found[:4]:  # more than one is wrong (RFC 6376 section 3.6.2.2)
        try:
            key = parse_key(record)
        except TagError as exc:
            problem = str(exc)
            continue
        if signature.tags["a"] != f"{key.kind}-sha256":
            problem = "the key is for another algorithm"
            continue
        return key
    raise SignatureError("permerror", problem)


def check_body(signature: Signature, digest: bytes, whole: int) -> None:
    """Raise `SignatureError` unless the body, with a length of *whole* octets, was signed."""
    try:
        signed = decode("bh", signature.tags["bh"])
    except TagError as exc:
        raise SignatureError("permerror", str(exc)) from None
    length = signature.body.length if signature.body else None
    if length is not None and length > whole:
        raise SignatureError("permerror", "l= is longer than the body")
    if signed != digest:
        raise SignatureError("fail", "the body was changed")
    if length is not None and length < whole:
        # RFC 6376 section 8.2: an attacker may have added the rest.
        raise SignatureError("policy", "the signature doesn't cover the whole body")


def header_digest(signature: Signature, fields: Iterable[Field]) -> bytes:
    """The signed SHA-256 of the header (RFC 6376 section 3.7); *fields* are from the top down."""
    below: dict[str, list[Field]] = {}
    for field in fields:
        if field is not signature.field:
            below.setdefault(field.name, []).append(field)
    digest = hashlib.sha256()
    for name in signed_names(signature.tags):
        stack = below.get(name)
        if stack:  # section 5.4.2: the lowest first
            field = stack.pop()
            digest.update(field.relaxed if signature.relaxed else field.raw)
    digest.update(own_field(signature))
    return digest.digest()


def own_field(signature: Signature) -> bytes:
    """The signature's own field in its signed form: with an empty b= and without final CRLF."""
    field = signature.field
    value = _B_TAG.sub(rb"\1", field.value, count=1)
    if signature.relaxed:
        return relaxed_field(field.name, value)[:-2]
    colon = field.raw.index(b":") + 1
    whole = field.raw[:colon] + value
    return whole[:-2] if whole.endswith(b"\r\n") else whole


def is_expired(tags: Mapping[str, str]) -> bool:
    """Whether x= has passed (RFC 6376 section 3.5); raises `TagError`."""
    return "x" in tags and number("x", tags["x"]) < time.time()
