"""Parsing and verification of the signatures of a message. Both run in a thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from .arc import Chain, arc_chain, verify_arc
from .authors import author_domains
from .body_hash import hash_bodies
from .dkim import dkim_signatures, verify_dkim
from .header_fields import Field, read_header
from .results import ARCResult, DKIMResult
from .signature import KeyRecords, Signature


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parsed signatures and authors of a message; nothing is verified yet."""

    fields: list[Field]
    body_start: int
    dkim: list[Signature | DKIMResult]
    arc: Chain | ARCResult
    #: The domains in From; empty if it is missing or malformed.
    authors: list[str]

    @property
    def signatures(self) -> list[Signature]:
        found = [one for one in self.dkim if isinstance(one, Signature)]
        if isinstance(self.arc, Chain):
            found += self.arc.signatures
        return found

    @property
    def key_names(self) -> list[str]:
        """The DNS names of the keys, without duplicates."""
        return list(dict.fromkeys(one.key_name for one in self.signatures))


def parse_message(content: BinaryIO) -> Parsed:
    """Parse the header of *content*; raises `HeaderTooLong`."""
    fields, start = read_header(content)
    dkim, arc = dkim_signatures(fields), arc_chain(fields)
    return Parsed(fields, start, dkim, arc, author_domains(fields))


def verify_message(
    content: BinaryIO, parsed: Parsed, records: Mapping[str, KeyRecords]
) -> tuple[tuple[DKIMResult, ...], ARCResult]:
    """Verify the signatures with the key *records*, which are given by their DNS names."""
    forms = [one.body for one in parsed.signatures if one.body is not None]
    digests = hash_bodies(content, parsed.body_start, forms)
    dkim = tuple(
        one
        if isinstance(one, DKIMResult)
        else verify_dkim(one, parsed.fields, records[one.key_name], digests)
        for one in parsed.dkim
    )
    arc = parsed.arc
    if isinstance(arc, Chain):
        arc = verify_arc(arc, parsed.fields, records, digests)
    return dkim, arc
