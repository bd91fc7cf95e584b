"""Connections to the next hop: smtplib with gevent's sockets, without monkey patching."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from gevent import socket, ssl

from .client_tls import client_context
from .urls import wrong_url

#: Commands sent together. The next hop has to hold the replies until they are read, RFC 2920
#: section 3.1.
GROUP: Final = 100
_PORTS: Final = {"smtp": 25, "smtps": 465, "lmtp": 24}


class _UTF8(str):
    """Text that smtplib sends in UTF-8 (RFC 4616 section 2) where it asks for ASCII."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", errors)


class Connection(smtplib.SMTP):
    """An SMTP connection whose socket *hop* opens."""

    hop: NextHop
    #: Whether it has sent a message.
    was_used = False

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        return self.hop.open()

    def auth_plain(self, challenge: Any = None) -> str:
        return _UTF8(super().auth_plain(challenge))

    def auth_cram_md5(self, challenge: Any = None) -> Any:
        response: str | None = super().auth_cram_md5(challenge)
        return None if response is None else _UTF8(response)

    def groups(self, commands: Sequence[str]) -> Iterator[list[tuple[int, bytes]]]:
        """Send *commands*, and give the replies to each group.

        A group is sent when the one before has been looked at. Without PIPELINING (RFC 2920) in
        the reply to EHLO it is one command.
        """
        size = GROUP if self.has_extn("pipelining") else 1
        for start in range(0, len(commands), size):
            group = commands[start : start + size]
            if any("\r" in command or "\n" in command for command in group):
                raise ValueError("A command with a newline would be two commands")
            self.send("".join(f"{command}\r\n" for command in group))
            yield self._replies(len(group))

    def _replies(self, count: int) -> list[tuple[int, bytes]]:
        replies: list[tuple[int, bytes]] = []
        while len(replies) < count:
            reply = self.getreply()
            # After 421 nothing is answered any more, RFC 5321 section 3.8.
            replies += [reply] * (count - len(replies) if reply[0] == 421 else 1)
        return replies


class _SMTP(Connection):
    pass


class _LMTP(Connection, smtplib.LMTP):
    def helo(self, name: str = "") -> tuple[int, bytes]:
        # smtplib tries it after a refused LHLO. An SMTP server would accept it, and later the
        # message, but with one reply only, while this store waits for one for each recipient.
        return 502, b"it refuses LHLO, so it doesn't speak LMTP"


class NextHop:
    """The next hop of a URL; opens connections to it.

    *starttls* and *url* are those of `RelayStore`. Raises ValueError for a wrong *url*.
    """

    def __init__(self, url: str, starttls: bool | None, name: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"the URL is a text, not {url!r}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:  # the port is not a number, or a bracket is missing
            parts, port = urlsplit(""), 0
        self._scheme = parts.scheme
        self._path = unquote(parts.path) if parts.scheme == "lmtp" and not parts.netloc else ""
        self._host = parts.hostname or ""
        shape = self._path.startswith("/") if self._path else self._host and parts.path in {"", "/"}
        if parts.scheme not in _PORTS or port == 0 or not shape or parts.query or parts.fragment:
            raise wrong_url(
                "smtp://HOST:PORT, smtps://HOST:PORT, lmtp://HOST:PORT or lmtp:///PATH", url
            )
        if starttls and parts.scheme == "smtps":
            raise ValueError("starttls doesn't go with smtps://, which has TLS from the beginning")
        self._port = port or _PORTS[parts.scheme]
        self._user = None if parts.username is None else unquote(parts.username)
        self._password = unquote(parts.password or "")
        self._is_near = bool(self._path) or _is_loopback(self._host)
        self._starttls = starttls
        self._name = name
        self._context = client_context()
        #: The URL without the password, for people.
        self.shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def open(self) -> Any:
        """Open a socket; for smtps with TLS."""
        if self._path:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.connect(self._path)
            except BaseException:
                sock.close()
                raise
            return sock
        sock = socket.create_connection((self._host, self._port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._scheme != "smtps":
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname=self._host)
        except BaseException:
            sock.close()
            raise

    def connect(self) -> Connection:
        """Open a connection that is ready for a transaction. Raises OSError and SMTPException."""
        make: type[Connection] = _LMTP if self._scheme == "lmtp" else _SMTP
        smtp = make(local_hostname=self._name)
        smtp.hop = self
        setattr(smtp, "_host", self._host)  # noqa: B010  # the name that STARTTLS verifies
        try:
            self._begin(smtp)
        except BaseException:
            smtp.close()
            raise
        return smtp

    def _begin(self, smtp: smtplib.SMTP) -> None:
        code, text = smtp.connect(self._host or "localhost", self._port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, text)
        smtp.ehlo_or_helo_if_needed()
        if self._wants_starttls(smtp):
            smtp.starttls(context=self._context)
            smtp.ehlo_or_helo_if_needed()
        if self._user is not None:
            if not (isinstance(smtp.sock, ssl.SSLSocket) or self._is_near):
                raise smtplib.SMTPNotSupportedError(
                    f"{self.shown} offers no TLS: the password isn't sent"
                )
            smtp.login(_UTF8(self._user), _UTF8(self._password))

    def _wants_starttls(self, smtp: smtplib.SMTP) -> bool:
        if self._starttls:
            if not smtp.has_extn("starttls"):
                raise smtplib.SMTPNotSupportedError(f"{self.shown} offers no STARTTLS")
            return True
        if self._starttls is None and self._scheme != "smtps" and smtp.has_extn("starttls"):
            return not self._is_near or self._needs_tls_for_auth(smtp)
        return False

    def _needs_tls_for_auth(self, smtp: smtplib.SMTP) -> bool:
        return self._user is not None and not smtp.has_extn("auth")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
