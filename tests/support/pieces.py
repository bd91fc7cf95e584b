"""Octets in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def two_pieces(data: bytes) -> Iterator[list[bytes]]:
    """*data* at every cut between two octets."""
    for cut in range(1, len(data)):
        yield [data[:cut], data[cut:]]


def octets(data: bytes) -> list[bytes]:
    """*data* octet by octet."""
    return [data[at : at + 1] for at in range(len(data))]


def cut_at(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """*data* in pieces that end at *cuts*; none is empty."""
    ends = [*sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]
