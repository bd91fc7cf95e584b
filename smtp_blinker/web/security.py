"""Who may use the page: only its reader, and only from the page itself.

A page of another site can make the reader's browser send requests to this page. With a name that
resolves to our address (DNS rebinding), it can even read the answers. So the Host field must have a
name that no other site can own, and a request must come from this page.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import gevent
from flask import Flask, Response, abort, request
from gevent.lock import BoundedSemaphore

#: The delay in seconds after a wrong password, and how many requests are delayed at a time.
WRONG_PASSWORD: Final = 0.5
_wrong = BoundedSemaphore(8)

#: The Content-Security-Policy of the page: its own files and nothing else, and no text that
#: became markup by mistake.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)

# Monitors have neither password nor browser, and learn nothing but "up" there.
_OPEN_TO_ALL: Final = frozenset({"/healthz/live", "/healthz/ready"})


def protect(app: Flask, credentials: tuple[str, str] | None, hosts: Collection[str]) -> None:
    """Put the checks before every request of *app* and the headers on every response."""
    names = {"localhost", *(host.lower().rstrip(".") for host in hosts)}

    @app.before_request
    def check() -> Response | None:
        if not _is_ours(request.host, names):
            abort(421, "this host name is not served here; see the option hosts (--http-host)")
        if request.path in _OPEN_TO_ALL:
            return None
        if _is_foreign():
            abort(403, "requests from other sites are refused")
        if credentials is not None and not _knows(credentials):
            if request.authorization is not None:
                with _wrong:
                    gevent.sleep(WRONG_PASSWORD)
            return Response(
                "a user name and a password are needed\n",
                401,
                {"WWW-Authenticate": 'Basic realm="smtp_blinker", charset="UTF-8"'},
                mimetype="text/plain",
            )
        return None

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in (
            ("Content-Security-Policy", POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("X-DNS-Prefetch-Control", "off"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
            ("Cache-Control", "no-store"),
        ):
            response.headers.setdefault(name, value)
        return response


def _is_ours(host: str, names: Collection[str]) -> bool:
    """Whether the Host field names this server: by an address, or by one of *names*."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if name in names or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True  # unlike a name, an address can't be rebound to another host


def _is_foreign() -> bool:
    """Whether another site made the browser send this request."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in {"same-origin", "none"}:
        # A link from another site to the page is allowed.
        to_page = request.method == "GET" and request.path == "/"
        return not (to_page and request.headers.get("Sec-Fetch-Dest") == "document")
    # Browsers send the former to trustworthy origins only, this one with whatever can change
    # something. A client that isn't a browser sends neither.
    origin = request.headers.get("Origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.host.lower()
    except ValueError:
        return True


def _knows(credentials: tuple[str, str]) -> bool:
    given = request.authorization
    if given is None or given.type != "basic":
        return False
    # Both are compared, and to the end, whatever the first one says.
    user = _same(given.username or "", credentials[0])
    password = _same(given.password or "", credentials[1])
    return user and password


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode("utf-8", "replace"))
