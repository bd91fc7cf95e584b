"""The server name in a ClientHello: where it is found, and that nothing hostile costs much."""

from __future__ import annotations

import ssl
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker.connection.client_hello import MAX_OCTETS, ClientHello


def hello_of(name: str | None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def records(message: bytes, size: int) -> bytes:
    """*message* in records of *size* octets."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(pack(">BHH", 22, 0x0301, len(piece)) + piece for piece in pieces)


def fed(*pieces: bytes) -> ClientHello:
    hello = ClientHello()
    for piece in pieces:
        assert not hello.complete
        hello.feed(piece)
    return hello


def octet_by_octet(octets: bytes) -> ClientHello:
    hello = ClientHello()
    for number in range(len(octets)):
        hello.feed(octets[number : number + 1])
        assert hello.complete == (number == len(octets) - 1)
    return hello


def message(extensions: bytes, before: bytes = b"\0\0\2\x13\1\1\0") -> bytes:
    body = b"\3\3" + b"r" * 32 + before + pack(">H", len(extensions)) + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def extension(kind: int, body: bytes) -> bytes:
    return pack(">HH", kind, len(body)) + body


@pytest.mark.parametrize("name", ["mx.example", "a", "x" * 63 + ".example"])
@pytest.mark.parametrize("size", [1, 2, 5, 100, 16384])
def test_the_name_is_found_in_any_records_and_pieces(name: str, size: int) -> None:
    octets = hello_of(name)
    assert fed(octets).server_name == name.encode()
    cut = records(octets[5:], size)
    for hello in (fed(cut), octet_by_octet(cut)):
        assert hello.server_name == name.encode()
        assert hello.octets == cut


@pytest.mark.parametrize("before", [b"\x16\3\1\0\0", b"\x15\3\1\0\2\1\0" * 3])
def test_empty_records_and_alerts_hide_no_name(before: bytes) -> None:
    octets = before + hello_of("mx.example")
    for hello in (fed(octets), octet_by_octet(octets)):
        assert hello.server_name == b"mx.example"


def test_a_hello_without_a_name_has_none() -> None:
    assert fed(hello_of(None)).server_name is None
    assert fed(hello_of(None)).complete


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO me\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x80\x2e\1\3\1",
        b"\x16\2\0\0\4\1\0\0\0", b"\x16\3\1\0\5hello",
        b"\x16\3\1\0\4\1\xff\xff\xff", b"\x14\3\3\0\1\1",
    ],
)  # fmt: skip
def test_what_is_no_client_hello_is_left_to_openssl_at_once(octets: bytes) -> None:
    hello = fed(octets)
    assert hello.complete
    assert hello.server_name is None
    assert hello.octets == octets


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        (b"", None),
        (extension(0, b"\0\7\0\0\4\xff\0ab"), b"\xff\0ab"),
        (extension(10, b"\0\2\0\x17") + extension(0, b"\0\4\0\0\1a"), b"a"),
        (extension(0, b"\0\4\0\0\1a") + extension(0, b"\0\4\0\0\1b"), b"a"),
        (extension(0, b""), None),
        (extension(0, b"\0\3\0\0"), None),
        (extension(0, b"\0\4\1\0\1a"), None),
        (extension(0, b"\0\4\0\0\xffa"), b"a"),
        (b"\0\0\0\xff\0\4\0\0\1a", b"a"),
        (b"\0\0\0", None),
    ],
)
def test_odd_extensions_are_read_without_a_fault(extensions: bytes, name: bytes | None) -> None:
    assert fed(records(message(extensions), 16384)).server_name == name


def test_it_keeps_a_bounded_number_of_octets() -> None:
    hello = ClientHello()
    fragment = records(b"\1\0\x40\0" + b"x" * 16384, 1)
    fed = 0
    while not hello.complete:
        hello.feed(fragment[fed : fed + 100])
        fed += 100
    assert len(hello.octets) <= MAX_OCTETS + 100


@given(st.binary(max_size=300), st.booleans())
def test_nothing_is_raised(octets: bytes, framed: bool) -> None:
    hello = ClientHello()
    if framed:
        octets = records(b"\1" + len(octets).to_bytes(3, "big") + octets, 200)
    whole = ClientHello()
    whole.feed(octets)
    for number in range(len(octets)):
        if not hello.complete:
            hello.feed(octets[number : number + 1])
    assert (whole.complete, whole.server_name) == (hello.complete, hello.server_name)
