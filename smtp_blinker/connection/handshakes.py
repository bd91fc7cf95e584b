"""The beginning of a connection: its addresses, the PROXY header, the TLS handshake."""

from __future__ import annotations

import ssl
from typing import Any

from ..session import Session
from ..smtp.proxy import ProxyError, ProxyHeader, parse_proxy_header
from ..smtp.reply import Reply
from ..smtp.xclient import plain_address
from .clock import monotonic
from .tls import TLSChannel, tls_failure
from .transport import Interrupted, Transport

#: Octets to read at a time while a header is expected.
_HEADER_READ = 8 * 1024


class Ended(Exception):
    """The connection ends for *reason*, after the reply *final* or without one.

    *detail* explains the reason; *fault* is the exception for the `error` signal.
    """

    def __init__(
        self,
        reason: str,
        detail: str = "",
        final: Reply | None = None,
        fault: Exception | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail
        self.final = final
        self.fault = fault


def set_addresses(session: Session, sock: Any, address: Any) -> None:
    """The addresses of both ends of *sock*, whose peer is *address*."""
    if isinstance(address, tuple):
        # The system writes an IPv4 address without "::ffff:".
        remote = address[0]
        session.remote_address = plain_address(remote) if ":" in remote else remote
        session.remote_port = address[1]
        try:
            local = sock.getsockname()
        except OSError:
            return  # the client has disconnected already
        session.local_address = plain_address(local[0]) if ":" in local[0] else local[0]
        session.local_port = local[1]
    else:
        # A UNIX socket's peer has no address; it is on this machine.
        session.client_hostname = "localhost"


def read_proxy_header(transport: Transport, timeout: float) -> tuple[ProxyHeader, bytes]:
    """HAProxy's PROXY protocol: the header, and the octets after it.

    Without a header it sends no reply and raises Ended.
    """
    deadline = monotonic() + timeout
    received = b""
    try:
        while (parsed := parse_proxy_header(received)) is None:
            data = transport.receive(_HEADER_READ, deadline)
            if not data:
                raise Ended("proxy", "the peer closed before a PROXY header")
            received += data
    except TimeoutError:
        raise Ended("proxy", f"no PROXY header within {timeout:g} s") from None
    except Interrupted:
        raise Ended("shutdown") from None
    except ProxyError as exc:
        raise Ended("proxy", f"not a PROXY header: {exc}", fault=exc) from None
    header, length = parsed
    return header, received[length:]


def use_proxy_header(session: Session, header: ProxyHeader) -> None:
    session.proxy = header
    if header.is_client:
        session.remote_address = header.source_address
        session.remote_port = header.source_port
        session.local_address = header.destination_address
        session.local_port = header.destination_port
        session.client_hostname = ""  # "localhost" is the name of a peer on a UNIX socket


def shake_hands(transport: Transport, channel: TLSChannel, timeout: float) -> None:
    """The TLS handshake, for STARTTLS and for TLS from the first octet; raises Ended."""
    try:
        transport.start_tls(channel, monotonic() + timeout)
    except (EOFError, ConnectionError):
        raise Ended("tls", "the client left during the TLS handshake") from None
    except TimeoutError:
        raise Ended("tls", f"no TLS handshake within {timeout:g} s") from None
    except ssl.SSLError as exc:
        raise Ended("tls", tls_failure(exc), fault=exc) from None
    except Interrupted:
        raise Ended("shutdown") from None
