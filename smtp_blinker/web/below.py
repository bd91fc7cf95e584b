"""Serves the page below a path, for a proxy that passes the path on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def below(path: str, app: WSGIApplication) -> WSGIApplication:
    """Serve *app* below *path*, which begins and ends with a slash, and also at the root.

    So monitors can still ask for ``/healthz``, and a proxy may remove the path or keep it: all
    addresses in the page are relative.
    """
    prefix = path.rstrip("/")

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = environ.get("PATH_INFO", "")
        if asked == prefix:
            headers = [("Location", path), ("Content-Length", "0")]
            start_response("308 Permanent Redirect", headers)
            return []
        if asked.startswith(path):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
            environ["PATH_INFO"] = asked[len(prefix) :]
        return app(environ, start_response)

    return application
