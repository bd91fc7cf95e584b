"""A client that sends exactly the octets it is told to."""

from __future__ import annotations

import base64
import socket
import ssl
import struct
from types import ModuleType
from typing import Any, Self

import gevent.socket

from smtp_blinker import SMTPServer

from .certificates import trusting
from .replies import ClientReply, take_replies, take_reply
from .waiting import MOMENT, SECONDS


def auth_plain(name: str, password: str, authzid: str = "") -> str:
    """The command that authenticates by the mechanism PLAIN."""
    return "AUTH PLAIN " + base64.b64encode(f"{authzid}\0{name}\0{password}".encode()).decode()


def begins_with_tls(server: SMTPServer) -> bool:
    options = server.options
    return (options.secure or options.needs_upgrade) and not options.secured


class Client:
    """A TCP or UNIX client on the test's own hub; a context manager.

    *server* is one, or an address. With *greet* it has read the 220 (after the handshake, where
    *server* speaks TLS from the first octet), with *hello* it has sent that command. It keeps no
    rule of SMTP by itself.
    """

    sockets: ModuleType = gevent.socket
    buffer = b""
    #: Octets on the wire.
    sent = 0
    _tls: ssl.SSLObject | None = None

    def __init__(
        self,
        server: Any,
        *,
        hello: str | None = None,
        greet: bool = True,
        source: str | None = None,
        rcvbuf: int | None = None,
    ) -> None:
        address = server.address if isinstance(server, SMTPServer) else server
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock: Any = self.sockets.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        if rcvbuf is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.connect(address if isinstance(address, str) else address[:2])
        self.port = 0
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.port = self.sock.getsockname()[1]
        if greet:
            if isinstance(server, SMTPServer) and begins_with_tls(server):
                self.start_tls()
            self.greeting = self.reply()
        if hello:
            assert self.cmd(hello).code == 250

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    close = __exit__

    def reset(self) -> None:
        """Leave with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Octets

    def send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        self._send_raw(data)

    def _send_raw(self, data: bytes) -> None:
        self.sent += len(data)
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
            data: bytes = self.sock.recv(65536)
        except ConnectionError:
            return b""
        return data

    def rest(self) -> bytes:
        """All that comes until the server closes; a reset counts as a close."""
        data, self.buffer = self.buffer, b""
        while piece := self.recv():
            data += piece
        return data

    def ended(self) -> bool:
        """Whether the server closes without another word."""
        return not self.buffer and not self.recv()

    def ends_with(self, reply: str) -> None:
        """The next reply begins so, and the server closes after it."""
        assert self.reply().startswith(reply)
        assert self.ended()

    def silent(self, seconds: float = MOMENT) -> bool:
        """Whether nothing comes for a moment."""
        if self.buffer:
            return False
        self.sock.settimeout(seconds)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(SECONDS)
        return False

    # TLS

    @property
    def tls(self) -> ssl.SSLObject:
        """Of a client that has shaken hands."""
        assert self._tls is not None
        return self._tls

    def start_tls(
        self, context: ssl.SSLContext | None = None, name: str | None = "localhost"
    ) -> ssl.SSLObject:
        """Shake hands; raises ssl.SSLError or OSError when that fails."""
        assert not self.buffer, f"plain text before the handshake: {self.buffer!r}"
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = (context or trusting()).wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_raw(self._outgoing.read())
                data = self._raw()
                if not data:
                    raise ConnectionResetError("closed in the handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                self._send_raw(self._outgoing.read())  # the alert
                raise
            else:
                break
        self._send_raw(self._outgoing.read())
        self._tls = tls
        return tls

    def starttls(self) -> None:
        self.ok("STARTTLS")
        self.start_tls()

    # SMTP

    def reply(self) -> ClientReply:
        """The next reply, all its lines; fails when the server closes or keeps silent."""
        while True:
            one, self.buffer = take_reply(self.buffer)
            if one is not None:
                return one
            data = self.recv()
            if not data:
                raise EOFError(f"closed after {self.buffer!r}")
            self.buffer += data

    def replies(self, number: int) -> list[ClientReply]:
        return [self.reply() for _ in range(number)]

    def rest_of_replies(self) -> list[ClientReply]:
        return take_replies(self.rest())

    def cmd(self, line: str | bytes) -> ClientReply:
        """Send *line* with a CRLF, and read its reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
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
        assert self.cmd("DATA").code == 354

    def message(
        self, content: bytes = b"Subject: x\r\n\r\nhello\r\n", *recipients: str
    ) -> ClientReply:
        self.begin(*recipients)
        self.send(content + b".\r\n")
        return self.reply()


class BlockingClient(Client):
    """The same for a server that isn't on this hub: one in a thread or in another process."""

    sockets = socket
