"""The HTTP server of the page: it answers monitors, however many others ask or listen slowly."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import Any, Final

import gevent
from gevent.pool import Pool
from gevent.pywsgi import Input, WSGIHandler, WSGIServer

from .reader.errors import in_one_line

log = logging.getLogger(__name__)

#: The most connections at a time; each open page keeps one.
MAX_CLIENTS: Final = 1000
#: Timeouts in seconds to receive a whole request, and to send a piece of a response.
TIMEOUT: Final = 60.0

# RFC 9112 section 3.2.2: the host, and the rest, which is the target in origin-form.
_ABSOLUTE_FORM: Final = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE)

_BAD_REQUEST: Final = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class PageHandler(WSGIHandler):
    """One connection. If its greenlet is killed, it ends silently."""

    server: Any
    #: Whether its response is an endless stream of events.
    has_events = False
    #: The headers, until they are sent together with the first data: each system call wakes the
    #: client, which takes more time than to copy the data.
    _held: list[bytes] | None = None
    # What gevent's TimeoutError has in the place of a number: the client takes no more.
    ignored_socket_errors: Any = (*WSGIHandler.ignored_socket_errors, "timed out")

    def handle(self) -> None:
        with suppress(OSError):  # the client has disconnected before the error
            super().handle()

    def handle_one_request(self) -> Any:
        self.server.moves(self)
        self._deadline = gevent.Timeout.start_new(self.server.timeout, gevent.GreenletExit)
        try:
            return super().handle_one_request()
        finally:
            self._deadline.close()

    def read_request(self, raw_requestline: str) -> Any:
        try:
            return super().read_request(raw_requestline)
        finally:
            self._deadline.close()

    def get_environ(self) -> Any:
        target = _ABSOLUTE_FORM.fullmatch(self.path or "")
        if target is not None:
            self.path = target[2] if target[2].startswith("/") else f"/{target[2]}"
        environ = super().get_environ()
        if target is not None:
            environ["HTTP_HOST"] = target[1]  # the Host field must be ignored
        # No route reads a body, so none is waited for; what follows can't be a request.
        if self.content_length or "HTTP_TRANSFER_ENCODING" in environ:
            self.close_connection = True
        self.wsgi_input = environ["wsgi.input"] = Input(self.rfile, 0)
        return environ

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        content_type = dict(headers).get("Content-Type", "")
        self.has_events = content_type.startswith("text/event-stream")
        return super().start_response(status, headers, exc_info)

    def finalize_headers(self) -> None:
        super().finalize_headers()
        if self.command == "HEAD":
            # gevent would end the content that isn't there, in front of the next answer.
            self.response_use_chunked = False

    def _write_with_headers(self, data: bytes) -> None:
        self._held = []
        try:
            super()._write_with_headers(data)  # type: ignore[misc]
        finally:
            pieces, self._held = self._held, None
        self._sendall(b"".join(pieces))

    def _sendall(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        else:
            super()._sendall(data)  # type: ignore[misc]

    def write(self, data: bytes) -> None:
        super().write(data)
        self.server.moves(self)

    def handle_error(self, t: Any, v: Any, tb: Any) -> None:
        self.close_connection = True
        if not issubclass(t, gevent.GreenletExit):
            log.error("the answer to %a broke off: %s", self.requestline, in_one_line(v))

    def _handle_client_error(self, ex: Exception) -> tuple[str, bytes] | None:
        if isinstance(ex, OSError):
            return None  # the client has disconnected
        log.warning("%a sent what isn't HTTP: %s", self.client_address, in_one_line(ex))
        return "400", _BAD_REQUEST


class PageServer(WSGIServer):
    """Serves the page *app* on *listener*, which is whatever `gevent.server.StreamServer` takes.

    A client has *timeout* seconds for a whole request, even if its octets come one at a time, and
    for each piece of an answer. If *max_clients* are connected and another one comes, the server
    disconnects the client that has been inactive for the longest time, and a page with an event
    stream only if there are no others. So it always answers a monitor.
    """

    handler_class = PageHandler
    #: Connections to accept in one turn of the loop, since mail waits for their requests.
    max_accept = 4

    def __init__(
        self,
        listener: Any,
        app: Any,
        *,
        max_clients: int = MAX_CLIENTS,
        timeout: float = TIMEOUT,
    ) -> None:
        # A pool without a size, to end with the server; a full one would accept no client.
        super().__init__(listener, app, spawn=Pool(), log=None, error_log=log)
        self.max_clients = max_clients
        self.timeout = timeout
        #: The connections with the longest inactivity first.
        self._greenlets: dict[PageHandler, Any] = {}

    def handle(self, sock: Any, address: Any) -> None:
        sock.settimeout(self.timeout)
        if len(self._greenlets) >= self.max_clients:
            self._disconnect_one()
        handler = self.handler_class(sock, address, self)
        self._greenlets[handler] = gevent.getcurrent()
        try:
            handler.handle()
        finally:
            self._greenlets.pop(handler, None)

    def moves(self, handler: PageHandler) -> None:
        """Record that the client of *handler* sent a request or received a piece of a response."""
        greenlet = self._greenlets.pop(handler, None)
        if greenlet is not None:
            self._greenlets[handler] = greenlet

    def _disconnect_one(self) -> None:
        handlers = [handler for handler in self._greenlets if not handler.has_events]
        oldest = next(iter(handlers or self._greenlets))
        self._greenlets.pop(oldest).kill(block=False)
