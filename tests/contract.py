"""A server and its clients on one gevent hub.

Everything runs in the test's own thread, so that a test can count greenlets, look at the server
between two commands, and call `stop` while it talks to it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
from gevent import socket
from greenlet import greenlet
from support import SECONDS, SIGNALS, Witness, poll, take_reply

from smtp_blinker import SMTPServer

__all__ = [
    "MOMENT",
    "SECONDS",
    "SIGNALS",
    "Client",
    "Witness",
    "descriptors",
    "greenlets",
    "poll",
    "running",
    "trusting",
]

#: How long is waited for what must not happen.
MOMENT = 0.15


@contextmanager
def running(listener: Any = ("127.0.0.1", 0), **options: Any) -> Iterator[SMTPServer]:
    options.setdefault("disable_reverse_lookup", True)
    options.setdefault("name", "mx.test")
    server = SMTPServer(listener, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop(timeout=0)


# What a server must not leave behind, each thing by itself: a count would let something new hide
# behind what an earlier test left and has ended meanwhile.


def greenlets() -> set[greenlet]:
    """Those that live, after a look at what could be collected."""
    gc.collect()
    return {one for one in gc.get_objects() if isinstance(one, greenlet) and not one.dead}


def descriptors() -> set[tuple[str, str]]:
    """The open ones, each with what it is of."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the one that listed them
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


class Client:
    """A blunt SMTP client. Replies are text: the lines of one reply, joined with newlines."""

    def __init__(
        self,
        server: Any,
        *,
        hello: str | None = None,
        greet: bool = True,
        source: str | None = None,
    ) -> None:
        address = server.address if isinstance(server, SMTPServer) else server
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(SECONDS)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(
                address[:2], timeout=SECONDS, source_address=(source, 0) if source else None
            )
        self.buffer = b""
        self._tls: ssl.SSLObject | None = None
        self.greeting = self.reply() if greet else ""
        if hello:
            assert self.cmd(hello).startswith("250")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    close = __exit__

    # Octets

    def send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self.sock.sendall(data)

    def recv(self) -> bytes:
        """What is there; b"" when the server has closed or reset the connection."""
        if self._tls is None:
            return self._raw()
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                data = self._raw()
                if not data:
                    return b""
                self._incoming.write(data)
            except ssl.SSLError:
                return b""

    def _raw(self) -> bytes:
        try:
            return self.sock.recv(65536)
        except ConnectionError:
            return b""

    @property
    def tls(self) -> ssl.SSLObject:
        """Of a client that has shaken hands."""
        assert self._tls is not None
        return self._tls

    def start_tls(
        self, context: ssl.SSLContext | None = None, name: str | None = "localhost"
    ) -> ssl.SSLObject:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = (context or trusting()).wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                data = self._raw()
                if not data:
                    raise ConnectionResetError("closed in the handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                self.sock.sendall(self._outgoing.read())  # the alert
                raise
            else:
                break
        self.sock.sendall(self._outgoing.read())
        self._tls = tls
        return tls

    # SMTP

    def line(self) -> str:
        while b"\r\n" not in self.buffer:
            data = self.recv()
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("ascii")

    def reply(self) -> str:
        lines = [self.line()]
        while lines[-1][3:4] == "-":
            lines.append(self.line())
        # It checks what no reply may be.
        assert take_reply("".join(f"{line}\r\n" for line in lines).encode())[0] is not None
        return "\n".join(lines)

    def cmd(self, text: str | bytes) -> str:
        self.send((text.encode() if isinstance(text, str) else text) + b"\r\n")
        return self.reply()

    def ok(self, *commands: str) -> str:
        """Send *commands* one by one; each must succeed."""
        answer = ""
        for command in commands:
            answer = self.cmd(command)
            assert answer[0] in "23", (command, answer)
        return answer

    def envelope(self, *recipients: str, sender: str = "a@example.org") -> None:
        self.ok(f"MAIL FROM:<{sender}>")
        self.ok(*(f"RCPT TO:<{rcpt}>" for rcpt in recipients or ("b@example.com",)))

    def begin(self, *recipients: str) -> None:
        """A transaction up to the 354."""
        self.envelope(*recipients)
        assert self.cmd("DATA").startswith("354")

    def message(self, content: bytes = b"Subject: x\r\n\r\nhello\r\n", *recipients: str) -> str:
        self.begin(*recipients)
        self.send(content + b".\r\n")
        return self.reply()

    def ended(self) -> bool:
        """Whether the server closes without another word."""
        return not self.buffer and not self.recv()

    def everything(self) -> bytes:
        """All that comes until the server closes."""
        data = self.buffer
        self.buffer = b""
        while piece := self.recv():
            data += piece
        return data

    def reset(self) -> None:
        """Leave with a RST."""
        linger = socket.SO_LINGER
        self.sock.setsockopt(socket.SOL_SOCKET, linger, b"\1\0\0\0\0\0\0\0")
        self.sock.close()

    def silent(self, seconds: float = MOMENT) -> bool:
        """Whether nothing comes for a moment."""
        if self.buffer:
            return False
        with gevent.Timeout(seconds, False):  # type: ignore[arg-type]  # false is its word for silence
            self.sock.recv(1, socket.MSG_PEEK)
            return False
        return True


def trusting() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
