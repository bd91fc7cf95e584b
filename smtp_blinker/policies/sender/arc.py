"""ARC (RFC 8617): whether the chain of servers that passed a message on is valid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from .body_hash import BodyForm
from .header_fields import Field
from .results import ARCResult
from .signature import (
    KeyRecords,
    Signature,
    SignatureError,
    check_body,
    header_digest,
    own_field,
    parse_signature,
    select_key,
    signature_tags,
    signed_names,
)
from .tags import TagError

#: RFC 8617 section 4.2.1
MAX_INSTANCES: Final = 50
_RESULTS: Final = "arc-authentication-results"
_MESSAGE: Final = "arc-message-signature"
_SEAL: Final = "arc-seal"
_KINDS: Final = (_RESULTS, _MESSAGE, _SEAL)
_INSTANCE: Final = re.compile("[1-9][0-9]?")
_RESULTS_INSTANCE: Final = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([1-9][0-9]?)[ \t\r\n]*;")


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain with a correct structure; its signatures aren't verified yet."""

    #: The newest message signature.
    message: Signature
    #: The seals in the order of their instances, and the fields of their sets.
    seals: tuple[Signature, ...]
    results: tuple[Field, ...]
    messages: tuple[Field, ...]

    @property
    def signatures(self) -> tuple[Signature, ...]:
        return (self.message, *self.seals)


def arc_chain(fields: Iterable[Field]) -> Chain | ARCResult:
    """The chain, or the result if it can't pass (section 5.2, steps 1 to 3)."""
    sets: dict[str, dict[int, tuple[Field, dict[str, str]]]] = {kind: {} for kind in _KINDS}
    count = 0
    for field in fields:
        if field.name not in sets:
            continue
        count += 1
        if count > 3 * MAX_INSTANCES:
            return ARCResult("fail", reason=f"more than {MAX_INSTANCES} sets")
        try:
            instance, tags = _instance(field)
        except TagError as exc:
            return ARCResult("fail", reason=f"{field.name}: {exc}")
        if instance in sets[field.name]:
            return ARCResult("fail", reason=f"{field.name} {instance} twice")
        sets[field.name][instance] = field, tags
    if not count:
        return ARCResult("none")
    last = max(max(one, default=0) for one in sets.values())
    wanted = set(range(1, last + 1))
    if any(set(one) != wanted for one in sets.values()) or last > MAX_INSTANCES:
        return ARCResult("fail", last, reason="sets are incomplete")
    try:
        return _chain(sets, last)
    except TagError as exc:
        return ARCResult("fail", last, reason=str(exc))


def _instance(field: Field) -> tuple[int, dict[str, str]]:
    if field.name == _RESULTS:
        found = _RESULTS_INSTANCE.match(field.value)
        if found is None:
            raise TagError("i= isn't first")
        return int(found[1]), {}
    tags = signature_tags(field)
    if not _INSTANCE.fullmatch(tags.get("i", "")):
        raise TagError("i= is missing or wrong")
    return int(tags["i"]), tags


def _chain(sets: dict[str, dict[int, tuple[Field, dict[str, str]]]], last: int) -> Chain:
    seals = []
    for instance in range(1, last + 1):
        field, tags = sets[_SEAL][instance]
        if tags.get("cv") != ("none" if instance == 1 else "pass"):
            raise TagError(f"seal {instance} marks the chain as broken")
        if "h" in tags:  # section 4.1.3
            raise TagError(f"seal {instance} has h=")
        seals.append(parse_signature(field, tags, has_body=False))
    messages = tuple(sets[_MESSAGE][one][0] for one in range(1, last + 1))
    # A seal always uses this form, and needn't name it.
    message = parse_signature(*sets[_MESSAGE][last], default_form="relaxed/relaxed")
    if _SEAL in signed_names(message.tags):  # section 4.1.2
        raise TagError("a seal is in h=")
    results = tuple(sets[_RESULTS][one][0] for one in range(1, last + 1))
    return Chain(message, tuple(seals), results, messages)


def verify_arc(
    chain: Chain,
    fields: Iterable[Field],
    records: Mapping[str, KeyRecords],
    digests: Mapping[BodyForm, tuple[bytes, int]],
) -> ARCResult:
    """Section 5.2, steps 4 to 6. Call it in a thread, because it takes some milliseconds."""
    number = len(chain.seals)
    domain = chain.seals[-1].domain.lower()
    try:
        message = chain.message
        assert message.body is not None
        key = select_key(message, records[message.key_name])
        check_body(message, *digests[message.body])
        if not key.verifies(message.signature, header_digest(message, fields)):
            raise SignatureError("fail", f"message signature {number} doesn't verify")
        before = hashlib.sha256()
        for place, seal in enumerate(chain.seals):
            before.update(chain.results[place].relaxed)
            before.update(chain.messages[place].relaxed)
            digest = before.copy()
            digest.update(own_field(seal))
            key = select_key(seal, records[seal.key_name])
            if not key.verifies(seal.signature, digest.digest()):
                raise SignatureError("fail", f"seal {place + 1} doesn't verify")
            before.update(seal.field.relaxed)
    except SignatureError as exc:
        # Section 5.2.1: fail, even if DNS has no answer.
        return ARCResult("fail", number, domain, str(exc))
    return ARCResult("pass", number, domain)
