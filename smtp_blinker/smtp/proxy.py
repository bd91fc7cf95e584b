"""Parses PROXY protocol headers, versions 1 and 2, without I/O.

The section numbers refer to HAProxy's specification, doc/proxy-protocol.txt. Section 5: accept a
header only if the configuration requires it, and only from trusted peers. The caller does this,
and limits the time to wait.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType

__all__ = [
    "MAX_V1_LENGTH",
    "MAX_V2_LENGTH",
    "ProxyError",
    "ProxyHeader",
    "ProxySSL",
    "parse_proxy_header",
]

MAX_V1_LENGTH = 107  # octets of a whole v1 line with its CRLF; section 2.1
# Octets after the fixed 16 of v2. The field allows 65535 (section 2.2). Here the limit for a whole
# header is 16 KiB, the default size of HAProxy's own buffer (tune.bufsize).
MAX_V2_LENGTH = 16 * 1024 - 16

ALPN, AUTHORITY, CRC32C, NOOP, UNIQUE_ID, SSL, NETNS = 0x01, 0x02, 0x03, 0x04, 0x05, 0x20, 0x30
SSL_VERSION, SSL_CN, SSL_CIPHER, SSL_SIG_ALG, SSL_KEY_ALG = range(0x21, 0x26)  # section 2.2.6
MAX_UNIQUE_ID = 128  # octets; section 2.2.5

# The possible beginnings of a v1 line, and patterns for an incomplete rest: at most four fields
# with exactly one space between them; after UNKNOWN anything without CR and LF (section 2.1).
_V1_STARTS = {
    b"PROXY TCP4 ": re.compile(rb"(?:[0-9.]+ ){0,3}[0-9.]*"),
    b"PROXY TCP6 ": re.compile(rb"(?:[0-9A-Fa-f:.]+ ){0,3}[0-9A-Fa-f:.]*"),
    b"PROXY UNKNOWN ": re.compile(rb"[^\r\n]*"),
    b"PROXY UNKNOWN\r\n": re.compile(rb""),
}
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")  # section 2.1: no heading zeroes

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # section 2.2
_V2_FIXED = 16  # octets: signature, version and command, family and transport, length
# The 14th octet and its address block (section 2.2). If a nibble is UNSPEC (0), a receiver must
# ignore the addresses, so these octets have no row.
_IPV4, _IPV6, _UNIX = (struct.Struct(f) for f in ("!4s4sHH", "!16s16sHH", "!108s108s"))
_V2_FAMILIES = {
    0x11: ("TCP4", _IPV4),
    0x12: ("UDP4", _IPV4),
    0x21: ("TCP6", _IPV6),
    0x22: ("UDP6", _IPV6),
    0x31: ("UNIX", _UNIX),
    0x32: ("UNIX_DGRAM", _UNIX),
}


class ProxyError(ValueError):
    """The octets are not an acceptable PROXY header. Close the connection."""


@dataclass(frozen=True, slots=True)
class ProxySSL:
    """The client's TLS according to the proxy (section 2.2.6); a missing text is None.

    `client` is a bit field: 1 the client used TLS, 2 it sent a certificate on this connection,
    4 it sent one during this TLS session. `verify` is 0 if the proxy verified that certificate;
    check the bits 2 and 4 too before you trust it. The texts are printable.
    """

    client: int
    verify: int
    version: str | None = None
    cn: str | None = None
    cipher: str | None = None
    sig_alg: str | None = None
    key_alg: str | None = None


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """One PROXY header.

    `version` is 1 or 2; `command` "PROXY" or "LOCAL"; `family` "TCP4", "TCP6", "UDP4", "UDP6",
    "UNIX", "UNIX_DGRAM" or "UNKNOWN". IPv6 addresses are in the short lower-case form, IPv4-mapped
    ones in the IPv4 form (the family stays "TCP6"). Unix addresses are printable paths up to the
    first NUL, with the ports 0. LOCAL and UNKNOWN always have the addresses "", the ports 0 and no
    TLVs.

    `tlvs` has the values of v2 by type number, without NOOP; the first one of a repeated type. The
    constructor checks all values and raises ProxyError; the properties never raise, and are None
    if the header has no such TLV.
    """

    version: int
    command: str
    family: str
    source_address: str = ""
    source_port: int = 0
    destination_address: str = ""
    destination_port: int = 0
    tlvs: Mapping[int, bytes] = field(default_factory=lambda: MappingProxyType({}), hash=False)

    def __post_init__(self) -> None:
        for name in ("authority", "unique_id", "netns", "ssl"):
            getattr(self, name)

    @property
    def is_client(self) -> bool:
        """Whether the source is a client whose address replaces that of the socket."""
        return self.command == "PROXY" and self.family in ("TCP4", "TCP6")

    @property
    def alpn(self) -> bytes | None:
        """The application protocol in use; section 2.2.1."""
        return self.tlvs.get(ALPN)

    @property
    def authority(self) -> str | None:
        """The printable host name that the client requested by SNI; section 2.2.2."""
        return _text(self.tlvs.get(AUTHORITY), "utf-8")

    @property
    def unique_id(self) -> bytes | None:
        """The proxy's id of the connection, at most 128 octets; section 2.2.5."""
        value = self.tlvs.get(UNIQUE_ID)
        if value is not None and len(value) > MAX_UNIQUE_ID:
            raise ProxyError("unique id too long")
        return value

    @property
    def netns(self) -> str | None:
        """The name of the network namespace, printable ASCII; section 2.2.7."""
        return _text(self.tlvs.get(NETNS), "ascii")

    @property
    def ssl(self) -> ProxySSL | None:
        """The client's TLS; section 2.2.6."""
        value = self.tlvs.get(SSL)
        if value is None:
            return None
        if len(value) < 5:
            raise ProxyError("SSL TLV too short")
        inner = {kind: value[place] for kind, place in _tlv_places(value, 5).items()}
        return ProxySSL(
            client=value[0],
            verify=int.from_bytes(value[1:5], "big"),
            version=_text(inner.get(SSL_VERSION), "ascii"),
            cn=_text(inner.get(SSL_CN), "utf-8"),
            cipher=_text(inner.get(SSL_CIPHER), "ascii"),
            sig_alg=_text(inner.get(SSL_SIG_ALG), "ascii"),
            key_alg=_text(inner.get(SSL_KEY_ALG), "ascii"),
        )


def parse_proxy_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Parse the PROXY header at the beginning of `data`, which are all octets received so far.

    Returns the header and its length in octets, at most MAX_V1_LENGTH or 16 + MAX_V2_LENGTH; the
    caller must keep the octets after it, which the client sent. None means that more octets are
    needed.

    Raises only ProxyError, for any octets: at the first octet that no header can have, or, for
    wrong addresses and TLVs, when the header is complete (sections 2.1 and 2.2). More octets never
    change a result.
    """
    return _parse_v1(data) if data.startswith(b"P") else _parse_v2(data)


def _parse_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    line, crlf, _ = data[:MAX_V1_LENGTH].partition(b"\r\n")
    octets = len(line) + len(crlf)
    start = next((s for s in _V1_STARTS if s.startswith(data[: len(s)])), None)
    if start is None:
        raise ProxyError("not a PROXY header")
    if not crlf:
        if line[MAX_V1_LENGTH - 2 :] not in (b"", b"\r"):  # section 2.1
            raise ProxyError("no CRLF in the first 107 octets")
        line = line.removesuffix(b"\r")  # its LF may follow
    rest = line[len(start) :]
    if not _V1_STARTS[start].fullmatch(rest):  # also for a bare CR or LF: section 2.1
        raise ProxyError("malformed PROXY line")
    if not crlf:
        return None
    family = start.split()[1].decode("ascii")
    if family == "UNKNOWN":
        return ProxyHeader(1, "PROXY", family), octets
    fields = rest.decode("ascii").split(" ")
    if len(fields) != 4:
        raise ProxyError("a PROXY line must have two addresses and two ports")
    source, destination = (_address(family, text) for text in fields[:2])
    source_port, destination_port = (_port(text) for text in fields[2:])
    ends = (source, source_port, destination, destination_port)
    return ProxyHeader(1, "PROXY", family, *ends), octets


def _parse_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    if not _V2_SIGNATURE.startswith(data[:12]):
        raise ProxyError("not a PROXY header")
    if len(data) > 12 and data[12] not in (0x20, 0x21):  # section 2.2
        raise ProxyError("version is not 2, or command neither LOCAL nor PROXY")
    # Section 2.2 says to reject unassigned families, and to ignore the family of LOCAL. For LOCAL
    # the second rule applies.
    local = data[12:13] == b"\x20"
    if len(data) > 13 and not local and (data[13] >> 4 > 3 or data[13] & 0x0F > 2):
        raise ProxyError("unassigned address family or transport")
    length = int.from_bytes(data[14:16].ljust(2, b"\0"), "big")  # a lower bound until octet 16
    if length > MAX_V2_LENGTH:
        raise ProxyError("PROXY header too long")
    if len(data) < _V2_FIXED:
        return None
    octets = _V2_FIXED + length
    # The length of the addresses of UNKNOWN, and so the position of its TLVs, can't be known.
    family, block = ("UNKNOWN", None) if local else _V2_FAMILIES.get(data[13], ("UNKNOWN", None))
    if block and length < block.size:
        raise ProxyError("PROXY header shorter than its addresses")
    if len(data) < octets:
        return None
    if block is None:
        return ProxyHeader(2, "LOCAL" if local else "PROXY", family), octets
    header = data[:octets]
    places = _tlv_places(header, _V2_FIXED + block.size)
    _check_crc32c(header, places.get(CRC32C))
    source, destination, *ports = block.unpack_from(header, _V2_FIXED)
    source, destination = _address(family, source), _address(family, destination)
    source_port, destination_port = ports or (0, 0)
    tlvs = MappingProxyType({kind: header[place] for kind, place in places.items()})
    ends = (source, source_port, destination, destination_port)
    return ProxyHeader(2, "PROXY", family, *ends, tlvs), octets


def _address(family: str, value: str | bytes) -> str:
    """The text of an address, which v1 has as text and v2 as octets in network order."""
    if isinstance(value, bytes) and family.startswith("UNIX"):
        return _text(value.partition(b"\0")[0], "utf-8") or ""
    try:
        if family.endswith("4"):
            return str(IPv4Address(value))
        address = IPv6Address(value)
    except ValueError:
        raise ProxyError(f"not an address of {family}") from None
    return str(address.ipv4_mapped or address)


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise ProxyError("not a port")
    return int(text)


def _text(value: bytes | None, encoding: str) -> str | None:
    """Decode text, which must be printable because logs may show it; raises ProxyError."""
    if value is None:
        return None
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError:
        raise ProxyError(f"not {encoding} text") from None
    if not text.isprintable():
        raise ProxyError("unprintable character")
    return text


def _tlv_places(octets: bytes, at: int) -> dict[int, slice]:
    """The position of each type's value in the TLVs from `at` to the end; section 2.2."""
    places: dict[int, slice] = {}
    while at < len(octets):
        end = at + 3 + int.from_bytes(octets[at + 1 : at + 3], "big")
        if end > len(octets):
            raise ProxyError("truncated TLV")
        places.setdefault(octets[at], slice(at + 3, end))
        at = end
    places.pop(NOOP, None)  # section 2.2.4
    return places


def _check_crc32c(header: bytes, place: slice | None) -> None:
    """Section 2.2.3: the checksum covers the whole header, with zeros in place of itself."""
    if place is None:
        return
    if len(header[place]) != 4:
        raise ProxyError("checksum is not 4 octets long")
    crc = _crc32c(header[: place.start] + bytes(4) + header[place.stop :])
    if crc != int.from_bytes(header[place], "big"):
        raise ProxyError("wrong checksum")


def _crc32c_row(index: int) -> int:
    for _ in range(8):
        index = index >> 1 ^ (0x82F63B78 if index & 1 else 0)  # the polynomial, bits reversed
    return index


_CRC32C_TABLE = tuple(map(_crc32c_row, range(256)))


def _crc32c(octets: bytes) -> int:
    """CRC32C, RFC 4960 appendix B."""
    crc = 0xFFFFFFFF
    for octet in octets:
        crc = crc >> 8 ^ _CRC32C_TABLE[(crc ^ octet) & 0xFF]
    return crc ^ 0xFFFFFFFF
