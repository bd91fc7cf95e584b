"""HTTP/1.1 with gevent's sockets, without monkey patching and threads."""

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
from .urls import wrong_url

#: Connections to one endpoint at a time.
MOST: Final = 10
#: Octets of a response to read; after a longer one the connection is closed.
LONGEST_ANSWER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    #: The media type in lower case, without parameters.
    content_type: str
    #: The beginning of the body.
    body: bytes


class _HeaderLines:
    """The lines of a response's header section. http.client takes half a section for a whole one;
    this raises IncompleteRead."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._has_begun = False

    def readline(self, limit: int) -> bytes:
        line: bytes = self._file.readline(limit)
        if line.endswith(b"\n"):
            self._has_begun = True
        elif line or self._has_begun:
            raise http.client.IncompleteRead(line)
        return line

    def close(self) -> None:
        self._file.close()


class _Response(http.client.HTTPResponse):
    def begin(self) -> None:
        file = self.fp
        self.fp: Any = _HeaderLines(file)
        try:
            super().begin()
        finally:
            self.fp = file

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 102 <= found[1] < 200:
                return found
            # RFC 9110 section 15.2: the response comes later. http.client knows 100 only.
            http.client.parse_headers(self.fp)


class _Connection(http.client.HTTPConnection):
    """A connection to *host* by gevent's socket; over TLS with a *context*."""

    #: Whether it has received a response.
    was_used = False
    response_class = _Response

    def __init__(self, host: str, port: int, context: Any) -> None:
        super().__init__(host, port)
        self._context = context
        if context is not None:
            self.default_port = 443  # which the Host field doesn't name

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
    """A URL for requests, with persistent connections.

    The certificate of an https URL is verified with the system's CA certificates, or those in the
    environment variable SSL_CERT_FILE. A name and password in the URL are sent as an Authorization
    field. Raises ValueError for a wrong URL.
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
        """POST *body*, which has *size* octets and must be iterable repeatedly.

        Raises OSError and http.client.HTTPException, also for half a response. If an idle
        connection breaks before any octet of the response, the request is sent once more on a new
        connection.
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
            if response.length and len(text) < LONGEST_ANSWER:
                raise http.client.IncompleteRead(text, response.length)
            if not response.isclosed():
                connection.close()  # the response is longer than LONGEST_ANSWER
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
        """Close the idle connections."""
        self._pool.close()


class _Stale(Exception):
    """The server has closed an idle connection; ``__cause__`` is the error."""


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
        # The server may have responded without reading everything, for example with 413.
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
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # the port is not a number, or a bracket is missing
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise wrong_url("http://HOST/PATH or https://HOST/PATH", url)
    return parts
