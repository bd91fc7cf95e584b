"""HTTP/1.1 on gevent's sockets: no patching, and no thread, is needed for it."""

from __future__ import annotations

import http.client
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from gevent import socket

from .client_tls import client_context
from .pool import Pool

#: Connections to one endpoint at a time.
MOST: Final = 10
#: Octets of an answer that are read; after a longer one the connection is closed.
LONGEST_ANSWER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    #: The media type in lower case, without parameters.
    content_type: str
    #: The beginning of the body.
    body: bytes


class _Connection(http.client.HTTPConnection):
    """To *host*; over TLS where there is a *context*. Its socket is gevent's."""

    #: Whether an answer has come on it.
    was_used = False

    def __init__(self, host: str, port: int, context: Any) -> None:
        super().__init__(host, port)
        self._context = context

    def connect(self) -> None:
        sock = socket.create_connection((self.host, self.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is not None:
            try:
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
            except BaseException:
                sock.close()
                raise
        self.sock = sock


class Endpoint:
    """One URL that takes requests; the connections to it are used again.

    An https URL's certificate is verified against the system's authorities (or those that the
    environment's SSL_CERT_FILE names). A name and a password in the URL become an Authorization
    field. Raises ValueError for what is not an http or https URL.
    """

    def __init__(self, url: str) -> None:
        parts = _split(url)
        self._host = parts.hostname or ""
        tls = parts.scheme == "https"
        self._port = parts.port or (443 if tls else 80)
        self._context = client_context() if tls else None
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._fields: dict[str, str] = {}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._fields["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        self._pool = Pool(MOST, self._connect, lambda each: each.sock is not None, _close)
        #: The URL without the password, for people.
        self.shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def _connect(self) -> _Connection:
        return _Connection(self._host, self._port, self._context)

    def post(self, fields: dict[str, str], body: Iterable[bytes], size: int) -> Answer:
        """POST *body*, which can be iterated over more than once and has *size* octets.

        Raises OSError and http.client.HTTPException. A request that was lost on a connection that
        had waited, before anything of an answer came, is sent once more on a new one.
        """
        fields = {**self._fields, **fields, "Content-Length": str(size)}
        try:
            return self._post(fields, body)
        except _Stale as exc:
            self._pool.close()
            try:
                return self._post(fields, body)
            except _Stale:
                raise exc.__cause__ or exc from None

    def _post(self, fields: dict[str, str], body: Iterable[bytes]) -> Answer:
        with self._pool.use() as connection:
            try:
                response = _exchange(connection, self._target, fields, body)
            except ConnectionError as exc:
                if connection.was_used:
                    raise _Stale from exc
                raise
            connection.was_used = True
            text = response.read(LONGEST_ANSWER)
            if not response.isclosed():
                connection.close()  # there is more of it than anyone wants
            content_type = (response.headers.get_content_type() or "").lower()
            return Answer(response.status, content_type, text)

    def check(self) -> None:
        """Open a connection and close it. Raises OSError."""
        connection = self._connect()
        try:
            connection.connect()
        finally:
            connection.close()

    def close(self) -> None:
        """Close the connections that wait."""
        self._pool.close()


class _Stale(Exception):
    """The server has closed a connection that had waited; the cause is what was seen of it."""


def _exchange(
    connection: http.client.HTTPConnection,
    target: str,
    fields: dict[str, str],
    body: Iterable[bytes],
) -> http.client.HTTPResponse:
    connection.putrequest("POST", target)
    for name, value in fields.items():
        connection.putheader(name, value)
    connection.endheaders()
    try:
        for piece in body:
            connection.send(piece)
    except ConnectionError:
        # It may have answered without reading all: 413, for example.
        try:
            return connection.getresponse()
        except (ConnectionError, http.client.HTTPException):
            pass
        raise
    return connection.getresponse()


def _close(connection: _Connection) -> None:
    connection.close()


def _split(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise TypeError(f"the URL is a text, not {url!r}")
    parts = urlsplit(url)
    try:
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"the URL must be http://HOST/PATH or https://HOST/PATH, not {url!r}")
    return parts
