"""Checks what a server shall listen on, before gevent guesses; opens UNIX sockets."""

from __future__ import annotations

import os
import socket
import stat
from _socket import socket as RawSocket
from ipaddress import IPv6Address
from typing import Any, Final

from gevent.socket import socket as gevent_socket

#: The type of the first argument of `SMTPServer`.
Listener = tuple[str, int] | tuple[str, int, int, int] | str | socket.socket | gevent_socket | None

#: Prefix of the path of a UNIX-domain socket.
UNIX_PREFIX: Final = "unix:"

_RIGHT: Final = (
    'a listener is (host, port), such as ("127.0.0.1", 2525); "host:port", or ":2525" for all '
    'addresses; "unix:/path"; a bound socket; or None'
)


def check_listener(listener: Any, *misplaced: object) -> None:
    """Raise TypeError or ValueError for a wrong listener; the message shows the right forms.

    *misplaced* are further positional arguments, as in ``SMTPServer("127.0.0.1", 2525)``; any of
    them is an error. So is a port without a host, for which gevent would listen on all addresses.
    """
    if misplaced:
        raise _wrong(TypeError, f"host and port are one argument, not {1 + len(misplaced)}")
    if listener is None:
        return
    if hasattr(listener, "accept"):
        _check_socket(listener)
    elif isinstance(listener, tuple):
        _check_address(listener)
    elif isinstance(listener, str):
        _check_text(listener)
    else:
        raise _wrong(TypeError, f"{listener!r} is not a listener")


def _wrong(kind: type[TypeError | ValueError], problem: str) -> TypeError | ValueError:
    return kind(f"{problem}; {_RIGHT}")


def _check_socket(sock: Any) -> None:
    if hasattr(sock, "do_handshake"):
        raise _wrong(TypeError, "the socket does TLS itself, which is for certfile and secure=True")
    name = sock.getsockname()
    if isinstance(name, tuple) and name[1] == 0:
        # listen() would choose a port and listen on all addresses.
        raise _wrong(ValueError, "the socket isn't bound")


def _check_address(address: tuple[Any, ...]) -> None:
    if len(address) < 2:
        raise _wrong(TypeError, f"{address!r} has no port")
    host, port, *rest = address
    if not isinstance(host, str):
        raise _wrong(TypeError, f"the host in {address!r} is a {type(host).__name__}, not a str")
    for number in (port, *rest):
        if not isinstance(number, int) or isinstance(number, bool):
            kind = type(number).__name__
            raise _wrong(TypeError, f"{number!r} in {address!r} is a {kind}, not an int")
    if ":" in host:
        _check_ipv6(host, address)
    # An IPv6 address may be followed by a flow label and a scope id.
    if len(rest) > (2 if ":" in host else 0):
        raise _wrong(TypeError, f"{address!r} has {len(address)} parts")
    _check_port(port, address)


def _check_text(text: str) -> None:
    if text.startswith(UNIX_PREFIX):
        # For an empty path Linux would choose a name itself.
        if text == UNIX_PREFIX or "\0" in text:
            raise _wrong(ValueError, f"{text!r} has no path")
        return
    host, colon, port = text.rpartition(":")
    if not colon:
        if port.isdecimal():
            raise _wrong(TypeError, f"{text!r} has no host")
        raise _wrong(ValueError, f"{text!r} has no port")
    if not port.isascii() or not port.isdecimal():
        raise _wrong(ValueError, f"{port!r} in {text!r} is not a port number")
    if host.startswith("[") and host.endswith("]"):
        _check_ipv6(host[1:-1], text)
    elif ":" in host:
        raise _wrong(ValueError, f"an IPv6 address needs brackets, [{host}]:{port}, not {text!r}")
    _check_port(int(port), text)


def _check_ipv6(host: str, listener: object) -> None:
    try:
        IPv6Address(host)
    except ValueError:
        raise _wrong(ValueError, f"{host!r} in {listener!r} is no IPv6 address") from None


def _check_port(port: int, listener: object) -> None:
    if not 0 <= port <= 65535:
        raise _wrong(ValueError, f"the port in {listener!r} is not from 0 to 65535")


def open_unix_listener(path: str, backlog: int) -> gevent_socket:
    """Open a listening UNIX socket at *path*; replaces a socket file without a listener.

    Raises OSError. The caller closes the socket and unlinks the path.
    """
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
            os.unlink(path)
    except FileNotFoundError:
        pass
    sock = gevent_socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        sock.listen(backlog or 128)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def client_socket(like: Any, descriptor: int) -> RawSocket:
    """The non-blocking socket of an accepted client; its family and type are those of *like*.

    `Transport` waits for it itself. A gevent socket would have two watchers of its own, which cost
    a connection 5 % of its CPU time.
    """
    sock = RawSocket(like.family, like.type, like.proto, fileno=descriptor)
    sock.setblocking(False)
    return sock


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.setblocking(False)  # a busy server may not accept at once
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    finally:
        probe.close()
    return True
