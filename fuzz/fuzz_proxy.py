"""PROXY headers, versions 1 and 2: a header that is safe to believe, "more", or ProxyError.

The first octet of an input chooses the pieces; what follows is what a proxy sends.
"""

from __future__ import annotations

from ipaddress import ip_address
from itertools import accumulate

from harness import cut

from smtp_blinker.smtp.proxy import (
    MAX_V1_LENGTH,
    MAX_V2_LENGTH,
    ProxyError,
    ProxyHeader,
    parse_proxy_header,
)


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    octets = data[1:]
    whole = _parse(octets)
    # However it arrives: "more" until it is whole, then always the same.
    pieces = cut(octets, data[0])
    step = len(pieces) // 100 + 1
    for part in list(accumulate(pieces))[::step]:
        found = _parse(part)
        assert found is None or found == whole, "more octets changed the answer"
        if found is not None:
            break
    if whole is None or isinstance(whole, str):
        return
    header, length = whole
    limit = MAX_V1_LENGTH if header.version == 1 else 16 + MAX_V2_LENGTH
    assert 0 < length <= min(limit, len(octets))
    assert _parse(octets[:length]) == whole, "octets behind the header matter"
    assert _parse(octets[: length - 1]) is None, "it was whole before its end"
    _check(header)
    if header.version == 1 and header.is_client:
        again = (
            f"PROXY {header.family} {header.source_address} {header.destination_address} "
            f"{header.source_port} {header.destination_port}\r\n"
        )
        if ":" in header.source_address and ":" in header.destination_address:
            assert _parse(again.encode()) == (header, len(again))


def _parse(octets: bytes) -> tuple[ProxyHeader, int] | str | None:
    try:
        return parse_proxy_header(octets)
    except ProxyError:
        return "error"


def _check(header: ProxyHeader) -> None:
    assert header.command in ("PROXY", "LOCAL")
    ends = (header.source_address, header.destination_address)
    ports = (header.source_port, header.destination_port)
    assert all(0 <= port < 65536 for port in ports)
    if header.family in ("TCP4", "UDP4", "TCP6", "UDP6"):
        for address in ends:
            assert ip_address(address).compressed == address
    else:
        assert ports == (0, 0)
        assert all(address.isprintable() for address in ends)
    if header.family == "UNKNOWN":
        assert ends == ("", "")
        assert not header.tlvs
    assert header.is_client == (header.command == "PROXY" and header.family in ("TCP4", "TCP6"))
    assert header.unique_id is None or len(header.unique_id) <= 128
    texts = [header.authority, header.netns]
    if header.ssl is not None:
        tls = header.ssl
        texts += [tls.version, tls.cn, tls.cipher, tls.sig_alg, tls.key_alg]
    assert all(text is None or text.isprintable() for text in texts), texts
    repr(header), hash(header)
