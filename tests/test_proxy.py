"""PROXY headers: what is accepted, what is refused and how early, and that no octet is lost."""

import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker.smtp.proxy import (
    MAX_V1_LENGTH,
    MAX_V2_LENGTH,
    ProxyError,
    ProxyHeader,
    ProxySSL,
    parse_proxy_header,
)

SIGNATURE = bytes.fromhex("0D0A0D0A000D0A515549540A")
IPV4 = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HH", 56324, 25)
IPV6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "::ffff:192.0.2.2")
    + struct.pack("!HH", 65535, 0)
)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/smtp\0junk".ljust(108, b"\0")
LONGEST_UNKNOWN = b"PROXY UNKNOWN " + b"f" * (MAX_V1_LENGTH - 16) + b"\r\n"
V4_ENDS = ("192.0.2.1", 56324, "192.0.2.2", 25)
V6_ENDS = ("2001:db8::1", 65535, "192.0.2.2", 0)


def v2(command_octet: int = 0x21, family: int = 0x11, block: bytes = IPV4) -> bytes:
    return SIGNATURE + bytes([command_octet, family]) + struct.pack("!H", len(block)) + block


def tlv(kind: int, value: bytes) -> bytes:
    return bytes([kind]) + struct.pack("!H", len(value)) + value


def crc32c(octets: bytes) -> int:
    """Bit by bit, so as not to share the table of the module under test."""
    crc = 0xFFFFFFFF
    for octet in octets:
        for bit in range(8):
            carry = (crc ^ (octet >> bit)) & 1
            crc = (crc >> 1) ^ (0x82F63B78 * carry)
    return crc ^ 0xFFFFFFFF


def with_crc(before: bytes = b"", after: bytes = b"") -> bytes:
    zeroed = v2(block=IPV4 + before + tlv(0x03, bytes(4)) + after)
    return v2(block=IPV4 + before + tlv(0x03, struct.pack("!I", crc32c(zeroed))) + after)


def parsed(data: bytes) -> ProxyHeader:
    result = parse_proxy_header(data)
    assert result is not None
    header, octets = result
    assert octets == len(data)
    return header


def outcome(data: bytes) -> object:
    try:
        return parse_proxy_header(data)
    except ProxyError:
        return ProxyError


VALID = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\r\n", ProxyHeader(1, "PROXY", "TCP4", *V4_ENDS)),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ProxyHeader(1, "PROXY", "TCP4", "255.255.255.255", 65535, "255.255.255.255", 65535),
    ),
    (
        b"PROXY TCP4 0.0.0.0 10.0.0.1 0 1\r\n",
        ProxyHeader(1, "PROXY", "TCP4", "0.0.0.0", 0, "10.0.0.1", 1),
    ),
    (
        b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::FFFF:192.0.2.2 65535 0\r\n",
        ProxyHeader(1, "PROXY", "TCP6", *V6_ENDS),
    ),
    (
        b"PROXY TCP6 ::ffff:c000:0201 :: 1 25\r\n",
        ProxyHeader(1, "PROXY", "TCP6", "192.0.2.1", 1, "::", 25),
    ),
    (
        b"PROXY TCP6 " + b" ".join([b":".join([b"ffff"] * 8)] * 2) + b" 65535 65535\r\n",
        ProxyHeader(
            1, "PROXY", "TCP6", ":".join(["ffff"] * 8), 65535, ":".join(["ffff"] * 8), 65535
        ),
    ),
    (b"PROXY UNKNOWN\r\n", ProxyHeader(1, "PROXY", "UNKNOWN")),
    (b"PROXY UNKNOWN \r\n", ProxyHeader(1, "PROXY", "UNKNOWN")),
    (b"PROXY UNKNOWN  \xff\x00 no address 99999\r\n", ProxyHeader(1, "PROXY", "UNKNOWN")),
    (LONGEST_UNKNOWN, ProxyHeader(1, "PROXY", "UNKNOWN")),
    (v2(), ProxyHeader(2, "PROXY", "TCP4", *V4_ENDS)),
    (v2(family=0x12), ProxyHeader(2, "PROXY", "UDP4", *V4_ENDS)),
    (v2(family=0x21, block=IPV6), ProxyHeader(2, "PROXY", "TCP6", *V6_ENDS)),
    (v2(family=0x22, block=IPV6), ProxyHeader(2, "PROXY", "UDP6", *V6_ENDS)),
    (
        v2(family=0x31, block=UNIX),
        ProxyHeader(2, "PROXY", "UNIX", "/run/client", 0, "/run/smtp", 0),
    ),
    (
        v2(family=0x32, block=bytes(216)),
        ProxyHeader(2, "PROXY", "UNIX_DGRAM", "", 0, "", 0),
    ),
    (v2(block=IPV4 + tlv(0xEA, b"x")), ProxyHeader(2, "PROXY", "TCP4", *V4_ENDS, {0xEA: b"x"})),
    *((v2(family=f, block=b""), ProxyHeader(2, "PROXY", "UNKNOWN")) for f in (0, 1, 2, 0x10, 0x30)),
    (v2(family=0x00, block=b"\x03\xff"), ProxyHeader(2, "PROXY", "UNKNOWN")),
    (v2(family=0x20, block=IPV6 + tlv(2, b"\n")), ProxyHeader(2, "PROXY", "UNKNOWN")),
    (v2(0x20, 0x00, b""), ProxyHeader(2, "LOCAL", "UNKNOWN")),
    (v2(0x20, 0x11, IPV4), ProxyHeader(2, "LOCAL", "UNKNOWN")),
    (v2(0x20, 0x11, IPV4 + tlv(0x02, b"mx.example")), ProxyHeader(2, "LOCAL", "UNKNOWN")),
    (v2(0x20, 0x21, b"\xff"), ProxyHeader(2, "LOCAL", "UNKNOWN")),
    (v2(0x20, 0xF3, b"QUIT\r\n"), ProxyHeader(2, "LOCAL", "UNKNOWN")),
    (with_crc(), None),
]
EVERY_VALID = pytest.mark.parametrize("data", [data for data, _ in VALID])


@pytest.mark.parametrize(("data", "expected"), VALID)
def test_valid_header_gives_its_values(data: bytes, expected: ProxyHeader | None) -> None:
    header = parsed(data)
    if expected is not None:
        assert header == expected


@EVERY_VALID
def test_header_cut_anywhere_needs_more_octets_then_reads_the_same(data: bytes) -> None:
    for cut in range(len(data)):
        assert parse_proxy_header(data[:cut]) is None, cut
    parsed(data)


@EVERY_VALID
@pytest.mark.parametrize("after", [b"E", b"EHLO x\r\n", b"\n", b"\r\n", SIGNATURE, b"\0" * 70_000])
def test_octets_after_the_header_are_the_clients(data: bytes, after: bytes) -> None:
    assert parse_proxy_header(data + after) == (parsed(data), len(data))


@pytest.mark.parametrize("data", [b"", b"P", b"PROXY", b"\r", SIGNATURE, SIGNATURE + b"\x21\x11"])
def test_incomplete_header_needs_more_octets(data: bytes) -> None:
    assert parse_proxy_header(data) is None


@pytest.mark.parametrize(
    ("data", "client"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", True),
        (b"PROXY TCP6 ::1 ::2 1 25\r\n", True),
        (b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 25\r\n", False),
        (v2(), True),
        (v2(family=0x21, block=IPV6), True),
        (v2(0x20), False),
        (v2(0x20, 0x21, IPV6), False),
        (v2(family=0x00), False),
        (v2(family=0x10), False),
        (v2(family=0x12), False),
        (v2(family=0x22, block=IPV6), False),
        (v2(family=0x31, block=UNIX), False),
        (v2(family=0x32, block=UNIX), False),
    ],
)
def test_only_a_proxied_tcp_client_replaces_the_socket_address(data: bytes, client: bool) -> None:
    assert parsed(data).is_client is client


def test_local_header_is_no_client_even_with_addresses() -> None:
    assert not ProxyHeader(2, "LOCAL", "TCP4", *V4_ENDS).is_client


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 100000000000000000000",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 01 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 00",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 025",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1_0 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1.0 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 0x1 25",
        "PROXY TCP4 1.2.3.4 1.2.3.4 \u0661 25".encode(),  # a digit, but not of ASCII
        b"PROXY TCP4 1.2.3.4 1.2.3.4 \xb2 25",
        b"PROXY TCP6 ::1 ::2 a 25",
        b"PROXY TCP6 ::1 ::2 1 ::",
        b"PROXY TCP4 01.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.00 1 25",
        b"PROXY TCP4 1.2.3.256 1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3 1.2.3.4 1 25",
        b"PROXY TCP4 16909060 1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4/32 1.2.3.4 1 25",
        b"PROXY TCP4 ::1 ::2 1 25",
        b"PROXY TCP4 ::ffff:1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP6 1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP6 ::1 1.2.3.4 1 25",
        b"PROXY TCP6 fe80::1%eth0 ::2 1 25",
        b"PROXY TCP6 fe80::1%1 ::2 1 25",
        b"PROXY TCP6 [::1] ::2 1 25",
        b"PROXY TCP6 1::2::3 ::2 1 25",
        b"PROXY TCP6 12345::1 ::2 1 25",
        b"PROXY TCP6 ::1/128 ::2 1 25",
        b"PROXY TCP6 : ::2 1 25",
        b"PROXY TCP6 ::ffff:1.2.3.04 ::2 1 25",
        b"PROXY TCP6 " + b" ".join([b":".join([b"0000"] * 6) + b":255.255.255.255"] * 2) + b" 1 25",
        b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP4  1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4  1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4  1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1  25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25 ",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25 x",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25 26",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\0",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\r",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\n",
        b"PROXY TCP4\t1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4\t1.2.3.4 1 25",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 ",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1",
        b"PROXY TCP4 ",
        b"PROXY TCP4",
        b"PROXY ",
        b"PROXY",
        b"proxy TCP4 1.2.3.4 1.2.3.4 1 25",
        b"PROXY tcp4 1.2.3.4 1.2.3.4 1 25",
        b"PROXY unknown",
        b"PROXY UDP4 1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP5 1.2.3.4 1.2.3.4 1 25",
        b"PROXY TCP46 1.2.3.4 1.2.3.4 1 25",
        b"PROXY UNKNOWNS",
        b"PROXY UNKNOWN\t",
        b"PROXY UNKNOWN\n",
        b"PROXY UNKNOWN \rx",
        b" PROXY UNKNOWN",
        b"EHLO client.example",
    ],
)
def test_malformed_line_is_refused(line: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(line + b"\r\n")


@pytest.mark.parametrize("end", [b"\n", b"\rE", b"\r\r", b"\n\r"])
@pytest.mark.parametrize(
    "line", [b"PROXY UNKNOWN", b"PROXY UNKNOWN x", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25"]
)
def test_lone_cr_or_lf_is_refused_at_once(line: bytes, end: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(line + end)
    assert parse_proxy_header(line + b"\r") is None


def test_line_of_108_octets_is_refused_before_its_end() -> None:
    line = b"PROXY UNKNOWN " + b"f" * (MAX_V1_LENGTH - 15) + b"\r\n"
    assert len(line) == 108
    with pytest.raises(ProxyError):
        parse_proxy_header(line)
    assert parse_proxy_header(line[:105]) is None
    with pytest.raises(ProxyError):
        parse_proxy_header(line[:106])  # no room for the CRLF any more


@pytest.mark.parametrize(
    "data",
    [
        b"p",
        b"E",
        b"\n",
        b"\0",
        b"\x16",
        b"PA",
        b"PROXY\t",
        b"PROXY X",
        b"PROXY TCP5",
        b"PROXY UNKNOWNx",
        b"PROXY TCP4  ",
        b"PROXY TCP4 :",
        b"PROXY TCP6 g",
        b"PROXY TCP4 1 2 3 4 ",
        b"\r\r",
        b"\r\nQ",
        SIGNATURE[:11] + b"\r",
        SIGNATURE + b"\x11",
        SIGNATURE + b"\x21\xf1",
        SIGNATURE + b"\x21\x11\x40",
    ],
)
def test_first_wrong_octet_is_refused_without_waiting(data: bytes) -> None:
    assert parse_proxy_header(data[:-1]) is None
    with pytest.raises(ProxyError):
        parse_proxy_header(data)


@pytest.mark.parametrize("octet", sorted(set(range(256)) - {0x20, 0x21}))
def test_v2_version_or_command_unassigned_is_refused(octet: int) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(SIGNATURE + bytes([octet]))


@pytest.mark.parametrize("octet", [o for o in range(256) if o >> 4 > 3 or o & 15 > 2])
def test_v2_family_or_transport_unassigned_is_refused(octet: int) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(SIGNATURE + bytes([0x21, octet]))


@pytest.mark.parametrize("command", [0x20, 0x21])
@pytest.mark.parametrize("length", [MAX_V2_LENGTH + 1, 16 * 1024, 16 * 1024 + 1, 65535])
def test_v2_length_over_the_bound_is_refused_from_the_fixed_octets(
    command: int, length: int
) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(SIGNATURE + bytes([command, 0x11]) + struct.pack("!H", length))


@pytest.mark.parametrize("family", [0x00, 0x11, 0x21, 0x31])
@pytest.mark.parametrize("command", [0x20, 0x21])
def test_v2_length_at_the_bound_is_read(command: int, family: int) -> None:
    size = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}[family]
    padding = tlv(0x04, bytes(MAX_V2_LENGTH - size - 3))
    parsed(v2(command, family, bytes(size) + padding))


@pytest.mark.parametrize(
    ("family", "length"),
    [(0x11, 0), (0x11, 11), (0x12, 11), (0x21, 12), (0x21, 35), (0x22, 35), (0x31, 215), (0x32, 0)],
)
def test_v2_length_below_the_addresses_is_refused_from_the_fixed_octets(
    family: int, length: int
) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(SIGNATURE + bytes([0x21, family]) + struct.pack("!H", length))


@pytest.mark.parametrize("path", [b"/run/\n", b"\xff", b"/run/\x1b[2J"])
def test_unix_path_that_is_not_printable_is_refused(path: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(v2(family=0x31, block=path.ljust(108, b"\0") + bytes(108)))


def test_tlvs_are_given_by_type() -> None:
    header = parsed(
        v2(
            block=IPV4
            + tlv(0x01, b"smtp")
            + tlv(0x02, "mx.bücher.example".encode())
            + tlv(0x04, b"padding")
            + tlv(0x05, bytes(128))
            + tlv(0x30, b"blue")
            + tlv(0xEE, b"")
            + tlv(0xF1, b"\xff\0")
        )
    )
    assert header.alpn == b"smtp"
    assert header.authority == "mx.bücher.example"
    assert header.unique_id == bytes(128)
    assert header.netns == "blue"
    assert header.ssl is None
    assert sorted(header.tlvs) == [0x01, 0x02, 0x05, 0x30, 0xEE, 0xF1]
    assert header.tlvs[0xEE] == b""
    assert header.tlvs[0xF1] == b"\xff\0"


@pytest.mark.parametrize("data", [v2(), v2(0x20), b"PROXY TCP4 1.2.3.4 1.2.3.4 1 25\r\n"])
def test_header_without_tlvs_has_none_of_the_values(data: bytes) -> None:
    header = parsed(data)
    values = (header.alpn, header.authority, header.unique_id, header.netns, header.ssl)
    assert values == (None,) * 5
    assert dict(header.tlvs) == {}


def test_repeated_tlv_keeps_the_first() -> None:
    header = parsed(v2(block=IPV4 + tlv(0x02, b"first") + tlv(0x02, b"second\n")))
    assert header.authority == "first"


def test_header_can_not_be_changed() -> None:
    header = parsed(v2(block=IPV4 + tlv(0x02, b"first")))
    with pytest.raises(AttributeError):
        header.family = "TCP6"  # type: ignore[misc]
    with pytest.raises(TypeError):
        header.tlvs[0x02] = b"other"  # type: ignore[index]
    assert header in {header}


@pytest.mark.parametrize(
    "block",
    [
        b"\x02",
        b"\x02\x00",
        b"\x02\x00\x01",
        b"\x04\x00\x01",
        b"\xee\xff\xff" + bytes(100),
        tlv(0x01, b"x") + b"\0",
        tlv(0x02, b"a\r\nb"),
        tlv(0x02, b"a\0b"),
        tlv(0x02, b"a\x7f"),
        tlv(0x02, "a\u0085".encode()),
        tlv(0x02, b"\xff"),
        tlv(0x02, b"\xed\xa0\x80"),  # a surrogate
        tlv(0x05, bytes(129)),
        tlv(0x30, "é".encode()),
        tlv(0x30, b"a\tb"),
        tlv(0x03, b""),
        tlv(0x03, bytes(3)),
        tlv(0x03, bytes(5)),
        tlv(0x03, bytes(4)),
        tlv(0x20, b""),
        tlv(0x20, bytes(4)),
        tlv(0x20, bytes(5) + b"\x21"),
        tlv(0x20, bytes(5) + b"\x21\x00\x08TLSv1.3"),
        tlv(0x20, bytes(5) + tlv(0x21, b"TLS\n")),
        tlv(0x20, bytes(5) + tlv(0x21, "é".encode())),
        tlv(0x20, bytes(5) + tlv(0x22, b"\xff")),
        tlv(0x20, bytes(5) + tlv(0x22, b"a\r\n")),
        tlv(0x20, bytes(5) + tlv(0x23, b"\0")),
        tlv(0x20, bytes(5) + tlv(0x24, b"\x80")),
        tlv(0x20, bytes(5) + tlv(0x25, b"\x1b")),
    ],
)
def test_malformed_tlv_is_refused(block: bytes) -> None:
    with pytest.raises(ProxyError):
        parse_proxy_header(v2(block=IPV4 + block))


def test_header_made_by_hand_is_checked_as_well() -> None:
    with pytest.raises(ProxyError):
        ProxyHeader(2, "PROXY", "TCP4", *V4_ENDS, {0x02: b"\n"})


def test_ssl_tlv_gives_the_clients_tls() -> None:
    inner = (
        tlv(0x21, b"TLSv1.3")
        + tlv(0x22, "Zoë Example".encode())
        + tlv(0x23, b"TLS_AES_256_GCM_SHA384")
        + tlv(0x24, b"SHA256")
        + tlv(0x25, b"RSA2048")
        + tlv(0x26, b"\xff unknown")
        + tlv(0x21, b"again")
    )
    header = parsed(v2(block=IPV4 + tlv(0x20, b"\x07\x00\x00\x01\x02" + inner)))
    assert header.ssl == ProxySSL(
        client=7,
        verify=0x102,
        version="TLSv1.3",
        cn="Zoë Example",
        cipher="TLS_AES_256_GCM_SHA384",
        sig_alg="SHA256",
        key_alg="RSA2048",
    )


def test_ssl_tlv_without_texts_has_none() -> None:
    header = parsed(v2(block=IPV4 + tlv(0x20, b"\x01\xff\xff\xff\xff")))
    assert header.ssl == ProxySSL(client=1, verify=0xFFFFFFFF)


def test_checksum_of_this_file_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("before", [b"", tlv(0x02, b"mx.example"), tlv(0x04, bytes(5))])
@pytest.mark.parametrize("after", [b"", tlv(0x05, b"id"), tlv(0x03, b"repeated")])
def test_right_checksum_is_accepted_and_any_flipped_bit_refused(
    before: bytes, after: bytes
) -> None:
    data = with_crc(before, after)
    header = parsed(data)
    assert header.source_address == "192.0.2.1"
    assert len(header.tlvs[0x03]) == 4
    addresses_and_checksum = [*range(16, 28), *range(31 + len(before), 35 + len(before))]
    for at in addresses_and_checksum:
        for bit in range(8):
            wrong = bytearray(data)
            wrong[at] ^= 1 << bit
            with pytest.raises(ProxyError):
                parse_proxy_header(bytes(wrong))


def test_checksum_takes_no_account_of_what_follows_the_header() -> None:
    data = with_crc()
    assert parse_proxy_header(data + b"EHLO x\r\n") == (parsed(data), len(data))


NEAR_VALID = st.builds(
    lambda data, at, octet, drop: data[:at] + octet + data[at + drop :],
    st.sampled_from([data for data, _ in VALID] + [with_crc(tlv(0x20, bytes(5)))]),
    st.integers(0, 120),
    st.binary(max_size=3),
    st.integers(0, 3),
)
SIGNED = st.builds(
    lambda command, family, block: v2(command, family, block),
    st.sampled_from([0x20, 0x21]),
    st.sampled_from([0x00, 0x11, 0x12, 0x21, 0x31]),
    st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: IPV4 + tail),
)
LINES = st.builds(
    lambda start, rest: start + rest,
    st.sampled_from([b"PROXY ", b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"]),
    st.text("0123456789abf.: \r\n", max_size=110).map(str.encode),
)


@given(st.binary(max_size=150) | NEAR_VALID | SIGNED | LINES)
def test_arbitrary_octets_raise_nothing_but_proxy_error(data: bytes) -> None:
    try:
        result = parse_proxy_header(data)
    except ProxyError:
        return
    if result is not None:
        header, octets = result
        assert 0 < octets <= len(data)
        assert header.version in (1, 2)
        assert 0 <= header.source_port <= 65535
        assert header.source_address.isprintable()
        _ = (header.alpn, header.authority, header.unique_id, header.netns, header.ssl)


@given(NEAR_VALID | SIGNED | LINES, st.binary(max_size=20))
def test_an_answer_is_never_changed_by_more_octets(data: bytes, after: bytes) -> None:
    data += after
    answers = [outcome(data[:cut]) for cut in range(len(data) + 1)]
    settled = [answer for answer in answers if answer is not None]
    assert answers[: len(answers) - len(settled)] == [None] * (len(answers) - len(settled))
    assert all(answer == settled[0] for answer in settled)


PORTS = st.integers(0, 65535)
IPV4_ENDS = st.tuples(st.ip_addresses(v=4), PORTS)
IPV6_ENDS = st.tuples(st.ip_addresses(v=6), PORTS)


def as_text(address: IPv4Address | IPv6Address) -> str:
    return str(getattr(address, "ipv4_mapped", None) or address)


@given(st.tuples(IPV4_ENDS, IPV4_ENDS) | st.tuples(IPV6_ENDS, IPV6_ENDS), st.sampled_from([1, 2]))
def test_headers_of_the_proxyprotocol_package_give_the_same_addresses(
    ends: Any,
    version: int,
) -> None:
    pytest.importorskip("proxyprotocol")
    from proxyprotocol.result import ProxyResultIPv4, ProxyResultIPv6
    from proxyprotocol.v1 import ProxyProtocolV1
    from proxyprotocol.v2 import ProxyProtocolV2

    source, destination = ends
    ipv4 = isinstance(source[0], IPv4Address)
    result = (ProxyResultIPv4 if ipv4 else ProxyResultIPv6)(
        source, destination, protocol=socket.SOCK_STREAM
    )
    data = (ProxyProtocolV1() if version == 1 else ProxyProtocolV2()).pack(result)
    assert parsed(data) == ProxyHeader(
        version,
        "PROXY",
        "TCP4" if ipv4 else "TCP6",
        as_text(source[0]),
        source[1],
        as_text(destination[0]),
        destination[1],
    )


def test_other_headers_of_the_proxyprotocol_package_are_read() -> None:
    pytest.importorskip("proxyprotocol")
    from proxyprotocol.result import (
        ProxyResultIPv4,
        ProxyResultLocal,
        ProxyResultUnix,
        ProxyResultUnknown,
    )
    from proxyprotocol.tlv import ProxyProtocolSSLTLV, ProxyProtocolTLV
    from proxyprotocol.v1 import ProxyProtocolV1
    from proxyprotocol.v2 import ProxyProtocolV2

    assert parsed(ProxyProtocolV1().pack(ProxyResultUnknown())).family == "UNKNOWN"
    assert parsed(ProxyProtocolV2().pack(ProxyResultUnknown())).family == "UNKNOWN"
    assert parsed(ProxyProtocolV2().pack(ProxyResultLocal())).command == "LOCAL"
    unix = ProxyResultUnix("/run/a", "/run/b", protocol=socket.SOCK_STREAM)
    header = parsed(ProxyProtocolV2().pack(unix))
    assert (header.family, header.source_address) == ("UNIX", "/run/a")
    assert header.destination_address == "/run/b"
    ends = ((IPv4Address("192.0.2.1"), 1), (IPv4Address("192.0.2.2"), 25))
    tls = ProxyProtocolSSLTLV(has_ssl=True, version="TLSv1.3", cn="client", cipher="AES")
    tlvs = ProxyProtocolTLV(
        alpn=b"smtp", authority="mx.example", unique_id=b"id", ssl=tls, netns="blue"
    )
    packed = ProxyProtocolV2().pack(ProxyResultIPv4(*ends, protocol=socket.SOCK_STREAM, tlv=tlvs))
    header = parsed(packed)
    assert header.alpn == b"smtp"
    assert header.authority == "mx.example"
    assert header.unique_id == b"id"
    assert header.netns == "blue"
    assert header.ssl == ProxySSL(1, 1, version="TLSv1.3", cn="client", cipher="AES")
