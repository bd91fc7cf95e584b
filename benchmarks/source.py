"""Send mail over TLS or by BDAT, as Postfix's smtp-source sends it without.

Usage: source.py PORT MESSAGES [--connections N] [--size OCTETS] [--kept] [--plain] [--bdat]

All connections are in step with each other: each sends its command, then each reads its reply. One
thread without a loop of events is enough for that, and takes little of the processor that the
server needs. Without --kept each message has a connection of its own, without --plain there is TLS.
Any reply but the expected one ends the program with an error.
"""

import argparse
import socket
import ssl
from collections.abc import Sequence

from idle import connect, expect

ENVELOPE = (
    (b"MAIL FROM:<sender@example.org>\r\n", b"250"),
    (b"RCPT TO:<recipient@example.com>\r\n", b"250"),
    (b"DATA\r\n", b"354"),
)
HELLO = b"EHLO client.example\r\n"
LINE = b"x" * 76 + b"\r\n"


def message(size: int) -> bytes:
    """A message of about that many octets, and the end of data."""
    return b"Subject: benchmark\r\n\r\n" + LINE * (size // len(LINE)) + b".\r\n"


def commands(size: int, bdat: bool) -> tuple[tuple[bytes, bytes], ...]:
    """What sends such a message, each with the code of its reply; by BDAT in one chunk."""
    content = message(size)
    if not bdat:
        return (*ENVELOPE, (content, b"250"))
    chunk = content.removesuffix(b".\r\n")
    return (*ENVELOPE[:-1], (b"BDAT %d LAST\r\n%b" % (len(chunk), chunk), b"250"))


def together(clients: Sequence[socket.socket], octets: bytes, code: bytes) -> None:
    """Each client sends *octets*, then each reads a reply, which must have that code."""
    for client in clients:
        client.sendall(octets)
    for client in clients:
        expect(client, code)


def connect_all(port: int, number: int, context: ssl.SSLContext | None) -> Sequence[socket.socket]:
    """So many connections that have said EHLO, with a context after STARTTLS."""
    plain = [connect(port) for _ in range(number)]
    for client in plain:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        expect(client, b"220")
    together(plain, HELLO, b"250")
    if context is None:
        return plain
    together(plain, b"STARTTLS\r\n", b"220")
    clients = [context.wrap_socket(client) for client in plain]
    together(clients, HELLO, b"250")
    return clients


def quit_all(clients: Sequence[socket.socket]) -> None:
    together(clients, b"QUIT\r\n", b"221")
    for client in clients:
        client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("port", type=int)
    parser.add_argument("messages", type=int)
    parser.add_argument("--connections", type=int, default=10)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--bdat", action="store_true")
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    dialogue = commands(options.size, options.bdat)
    left = options.messages
    clients: Sequence[socket.socket] = []
    while left > 0:
        number = min(options.connections, left)
        if not clients:
            clients = connect_all(options.port, number, None if options.plain else context)
        for command, code in dialogue:
            together(clients[:number], command, code)
        left -= number
        if left == 0 or not options.kept:
            quit_all(clients)
            clients = []


if __name__ == "__main__":
    main()
