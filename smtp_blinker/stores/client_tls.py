"""TLS towards servers that we are the client of."""

from __future__ import annotations

from typing import Any

from gevent import ssl


def client_context() -> Any:
    """A context that verifies the other side against the system's authorities.

    Or against those of the environment's SSL_CERT_FILE. gevent's own `create_default_context`
    makes one of the standard library's in a program that isn't patched, and blocks the hub.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies, and checks the name
    context.load_default_certs()
    return context
