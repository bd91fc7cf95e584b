"""The end of data, dot-stuffing and bare newlines, held against a deliberately plain model."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hostile_rows import CONTENT_ROWS
from hypothesis import given
from hypothesis import strategies as st
from support import cut_at, octets, two_pieces

from smtp_blinker.smtp.content import MAX_CR_RUN, MAX_RECEIVED_FIELDS, ContentDecoder

POLICIES = ("reject", "normalize", "allow")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


@dataclass
class Model:
    """What a decoder must make of *data*, worked out line by line on the whole of it."""

    content: bytes
    rest: bytes
    ended: bool
    bare: bool
    received: int


def model(data: bytes, policy: str) -> Model:
    # RFC 5321 section 4.1.1.4: the CRLF before the dot may be that of the DATA command.
    whole = b"\r\n" + data
    end = whole.find(b"\r\n.\r\n")
    ended = end >= 0
    body = whole[2 : end + 2] if ended else data
    lines = [line.removeprefix(b".") for line in body.split(b"\r\n")]
    content = b"\r\n".join(lines)
    bare = _BARE.search(body) is not None
    if policy == "normalize":
        content = re.sub(rb"\r+\n|\r|\n", b"\r\n", content)
    readable = re.sub(rb"\r\n|\r|\n", b"\r\n", content) if policy == "allow" else content
    header = (b"\r\n" + readable).partition(b"\r\n\r\n")[0]
    received = (b"\r\n" + header).lower().count(b"\r\nreceived:")
    return Model(content, whole[end + 5 :] if ended else b"", ended, bare, received)


def decode(pieces: Sequence[bytes], policy: str) -> tuple[ContentDecoder, list[bytes]]:
    """Feed *pieces* until the content ends; what came out, and the decoder."""
    decoder = ContentDecoder(policy)
    out = []
    for number, piece in enumerate(pieces):
        out.append(decoder.feed(piece))
        if decoder.ended:
            decoder.rest += b"".join(pieces[number + 1 :])
            break
    return decoder, out


def check(pieces: Sequence[bytes], policy: str) -> None:
    expected = model(b"".join(pieces), policy)
    decoder, out = decode(pieces, policy)
    assert decoder.ended == expected.ended, pieces
    assert decoder.bare_newline == expected.bare, pieces
    if expected.ended:
        assert (b"".join(out), decoder.rest) == (expected.content, expected.rest), pieces
        assert decoder.count_received() == expected.received, pieces


def three_pieces(data: bytes) -> Iterator[list[bytes]]:
    for first in range(1, len(data) - 1):
        for second in range(first + 1, len(data)):
            yield [data[:first], data[first:second], data[second:]]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", CONTENT_ROWS, ids=lambda row: row.id)
def test_every_row_comes_out_the_same_at_all_splits(row: Any, policy: Any) -> None:
    data = row.sent + b"NOOP\r\n"
    assert model(data, policy).content == (row.normalized if policy == "normalize" else row.content)
    check([data], policy)
    for pieces in two_pieces(data):
        check(pieces, policy)
    check(octets(data), policy)
    if len(data) < 60:
        for pieces in three_pieces(data):
            check(pieces, policy)


# Octets that mean something here, in all orders: where mistakes are.
ALPHABET = [b"\r", b"\n", b".", b"a", b"\r\n", b"\r\n.\r\n", b"\r\n."]


@given(
    st.lists(st.sampled_from(ALPHABET), max_size=14).map(b"".join),
    st.lists(st.integers(0, 40), max_size=5),
    st.sampled_from(POLICIES),
)
def test_any_octets_in_any_pieces_are_what_the_model_says(
    data: Any, cuts: list[int], policy: Any
) -> None:
    check(cut_at(data + b"\r\n.\r\nQUIT\r\n", cuts), policy)


@given(st.binary(max_size=60), st.sampled_from(POLICIES))
def test_any_octets_one_by_one_are_what_the_model_says(data: bytes, policy: Any) -> None:
    check(octets(data + b"\r\n.\r\n"), policy)


@pytest.mark.parametrize("policy", POLICIES)
def test_all_short_contents_in_all_pieces(policy: Any) -> None:
    for length in range(1, 6):
        for chosen in itertools.product(b"\r\n.a", repeat=length):
            data = bytes(chosen) + b"\r\n.\r\n"
            check([data], policy)
            check(octets(data), policy)
            for pieces in two_pieces(data):
                check(pieces, policy)


@given(st.lists(st.sampled_from(ALPHABET), max_size=14).map(b"".join))
def test_at_most_four_octets_are_held_back(data: Any) -> None:
    decoder = ContentDecoder("allow")
    came_out = 0
    for put_in, octet in enumerate(octets(data), 1):
        came_out += len(decoder.feed(octet))
        if decoder.ended:
            break
        stuffed = data[:put_in].count(b"\n.")
        assert put_in - came_out <= 4 + stuffed


@given(st.lists(st.sampled_from(ALPHABET), max_size=14).map(b"".join), st.integers(1, 5))
def test_crlf_is_never_cut_in_two(data: Any, size: int) -> None:
    data += b"\r\n.\r\n"
    _, out = decode([data[at : at + size] for at in range(0, len(data), size)], "allow")
    pieces = [piece for piece in out if piece]
    for one, other in itertools.pairwise(pieces):
        assert not (one.endswith(b"\r") and other.startswith(b"\n"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("length", [1000, MAX_CR_RUN - 1, MAX_CR_RUN, MAX_CR_RUN + 3, 10**6])
@pytest.mark.parametrize("size", [1000, 65536, 10**7])
def test_a_long_run_of_crs_is_one_line_end_up_to_a_bound(length: Any, size: Any) -> None:
    one = min(length, MAX_CR_RUN)
    for after, line_ends in ((b"\n", length - one + 1), (b"x", length)):
        data = b"a" + b"\r" * length + after + b"\r\n.\r\n"
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        decoder = ContentDecoder("normalize")
        out = []
        for piece in pieces:
            out.append(decoder.feed(piece))
            assert len(out[-1]) <= 2 * (len(piece) + MAX_CR_RUN)
        expected = b"a" + b"\r\n" * line_ends + after.strip() + b"\r\n"
        assert b"".join(out) == expected


def test_a_long_run_of_crs_comes_out_the_same_octet_by_octet() -> None:
    data = b"a" + b"\r" * (MAX_CR_RUN + 2) + b"\nb" + b"\r" * (MAX_CR_RUN + 2) + b"c\r\n.\r\n"
    start = MAX_CR_RUN - 5
    decoder = ContentDecoder("normalize")
    out = decoder.feed(data[:start])
    for octet in octets(data[start : start + 20]):
        out += decoder.feed(octet)
    out += decoder.feed(data[start + 20 :])
    assert out == ContentDecoder("normalize").feed(data)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("part", [b"\r", b"\n", b"\r\r\n", b"\r\ra", b"\n\r", b"\r" * 500 + b"a"])
def test_no_newlines_take_for_ever(part: bytes) -> None:
    decoder = ContentDecoder("normalize")
    piece = part * (65536 // len(part))
    for _ in range(50):
        decoder.feed(piece)


def test_lines_that_end_with_cr_cr_lf_are_header_fields() -> None:
    """Programs that open a pipe or a file as text on Windows send such lines."""
    for newline in (b"\r\r\n", b"\r\r\r\n", b"\n"):
        header = newline.join([b"Received: a", b"Received: b", b"X: y", b"", b"Received: no", b""])
        for pieces in ([header + b"\r\n.\r\n"], octets(header + b"\r\n.\r\n")):
            decoder, out = decode(pieces, "normalize")
            assert decoder.count_received() == 2
            assert (
                b"".join(out) == b"Received: a\r\nReceived: b\r\nX: y\r\n\r\nReceived: no\r\n\r\n"
            )


def test_what_follows_the_end_is_kept_whole() -> None:
    decoder, _ = decode([b"x\r\n.\r\nRSET\r\n.\r\nQUIT\r\n"], "reject")
    assert decoder.rest == b"RSET\r\n.\r\nQUIT\r\n"


@pytest.mark.parametrize(
    "name", [b"Received:", b"RECEIVED:", b"received:", b"ReCeIvEd: from x by y"]
)
def test_received_fields_of_the_header_are_counted(name: bytes) -> None:
    data = b"A: b\r\n" + (name + b"\r\n") * 5 + b"\r\n" + (name + b"\r\n") * 7 + b".\r\n"
    for pieces in [[data], octets(data), *two_pieces(data)]:
        decoder, _ = decode(pieces, "reject")
        assert decoder.count_received() == 5


def test_received_field_may_be_the_first_line_and_the_header_may_be_all() -> None:
    decoder, _ = decode([b"Received: a\r\nReceived: b\r\n.\r\n"], "reject")
    assert decoder.count_received() == 2


def test_loop_is_not_assumed_before_a_hundred_fields() -> None:
    assert MAX_RECEIVED_FIELDS >= 100  # RFC 5321 section 6.3


def test_large_content_goes_through_in_pieces() -> None:
    line = b"..stuffed and long " + b"x" * 50 + b"\r\n"
    data = line * 20_000 + b".\r\n"
    pieces = [data[at : at + 65_536] for at in range(0, len(data), 65_536)]
    decoder, out = decode(pieces, "reject")
    assert decoder.ended
    assert b"".join(out) == line[1:] * 20_000


@pytest.mark.parametrize("policy", ["reject", "normalize", "allow"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n", b"\r"])
def test_received_fields_are_counted_once_however_the_header_is_cut(
    policy: str, newline: bytes
) -> None:
    header = b"a\nb\r\n" + (b"Received: x" + newline) * 56
    decoder = ContentDecoder(policy)
    for octet in header + b"\r\n\r\nReceived: no\r\n.\r\n":
        decoder.feed(bytes([octet]))
    strict = policy == "reject" and newline != b"\r\n"
    assert decoder.count_received() == (1 if strict else 56)
