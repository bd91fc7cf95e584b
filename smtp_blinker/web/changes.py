"""Requests that change something: refused as a whole if any part isn't understood."""

from __future__ import annotations

from collections.abc import Collection

from flask import abort, request


def is_change() -> bool:
    """Whether this request may change something."""
    return request.method not in {"GET", "HEAD", "OPTIONS"}


def check_parameters(known: Collection[str] = (), repeatable: Collection[str] = ()) -> None:
    """Abort with 400 if the request has a body, an unknown parameter or a repeated one.

    *known* are the names of the parameters, *repeatable* those that may occur several times.
    """
    if request.content_length or "Transfer-Encoding" in request.headers:
        abort(400, "a request for a change has no body")
    for name, values in request.args.lists():
        if name not in known or (len(values) > 1 and name not in repeatable):
            abort(400, f"the parameter {name[:40]!a} is unknown here, or is given twice")
    if request.query_string and not request.args:
        abort(400, "the query is empty")
