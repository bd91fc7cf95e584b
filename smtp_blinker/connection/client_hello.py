"""The server name that a TLS client asks for: octets in, a name out, before any TLS begins.

OpenSSL has a callback for it, but the callback can only change the certificate: the versions, the
session tickets and whether the client needs a certificate stay those of the first context. And
for a name that isn't ASCII Python's callback prints a traceback to standard error.
"""

from __future__ import annotations

from struct import unpack_from
from typing import Final

#: OpenSSL accepts a ClientHello of at most 16 KiB, even in records of one octet each.
_MAX_MESSAGE: Final = 16 * 1024
#: Octets that are kept while it isn't whole.
MAX_OCTETS: Final = 6 * (4 + _MAX_MESSAGE)

_ALERT: Final = 21  # RFC 8446 section 5.1: a kind of record; OpenSSL continues after a warning
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1  # section 4: a kind of handshake message
_SERVER_NAME: Final = 0  # RFC 6066 section 1.1: a kind of extension
_HOST_NAME: Final = 0  # section 3


class ClientHello:
    """What has arrived of a connection's first TLS message.

    It is `complete` when its name can be read. It is also `complete` if it can't be a ClientHello
    or grows too large: then `server_name` is None, and OpenSSL will report the error.
    Never raises. Memory: `MAX_OCTETS` and the last argument of `feed`.
    """

    __slots__ = ("_message", "_record", "complete", "octets", "server_name")

    def __init__(self) -> None:
        #: All that has arrived.
        self.octets = b""
        self.complete = False
        #: The name as it was sent, or None.
        self.server_name: bytes | None = None
        #: Where in `octets` the next record begins, and what those before it contained.
        self._record = 0
        self._message = b""

    def feed(self, data: bytes) -> None:
        self.octets += data
        while not self.complete and len(self.octets) >= self._record + 5:
            kind, version, _, length = unpack_from(">BBBH", self.octets, self._record)
            if kind not in (_HANDSHAKE, _ALERT) or version != 3:
                self.complete = True
                return
            end = self._record + 5 + length
            if len(self.octets) < end:
                break
            if kind == _HANDSHAKE and length:
                self._message += self.octets[self._record + 5 : end]
                self._read_message()
            self._record = end
        if len(self.octets) > MAX_OCTETS:
            self.complete = True

    def _read_message(self) -> None:
        message = self._message
        length = int.from_bytes(message[1:4], "big")
        if message[0] != _CLIENT_HELLO or length > _MAX_MESSAGE:
            self.complete = True
        elif 4 + length <= len(message):
            self.complete = True
            self.server_name = _server_name(message[4 : 4 + length])


def _server_name(hello: bytes) -> bytes | None:
    """The host name in the body of a ClientHello, or None."""
    # RFC 8446 section 4.1.2: version and random; session id, cipher suites and compression
    # methods, each with its length before it; the length of the extensions.
    at = 2 + 32
    for width in (1, 2, 1):
        at += width + int.from_bytes(hello[at : at + width], "big")
    at += 2
    while len(hello) >= at + 4:
        kind, length = unpack_from(">HH", hello, at)
        if kind == _SERVER_NAME:
            # RFC 6066 section 3: the length of a list, and its first entry's kind and length.
            entry = hello[at + 4 : at + 4 + length][2:]
            if len(entry) < 3 or entry[0] != _HOST_NAME:
                return None
            return entry[3 : 3 + int.from_bytes(entry[1:3], "big")]
        at += 4 + length
    return None
