"""The part of the JSON API that is about the mail: a function for each route."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final, TypeVar
from urllib.parse import quote

import gevent
from flask import Blueprint, Response, abort, current_app, request

from .changes import check_parameters, is_change
from .child import Failed
from .inbox import Inbox, log
from .reader import markup
from .reader import query as search
from .reader.details import INLINE, not_readable
from .reader.mime import clean_name

T = TypeVar("T")

#: Messages on a page of the list, by default and at most.
PAGE: Final = 50
MAX_PAGE: Final = 500
#: Seconds that `wait` may take, and between two looks.
MAX_WAIT: Final = 60.0
LOOK_EVERY: Final = 0.1

_NOT_IN_A_NAME = re.compile(r"[^ !#-\[\]-~]")

routes = Blueprint("messages", __name__, url_prefix="/api/messages")


@routes.before_request
def check_change() -> None:
    """Refuse a request for a change that says anything which isn't understood."""
    if not is_change():
        return
    about_all = "id" not in (request.view_args or {})
    check_parameters(("q",) if about_all else ())
    problem = search.problem(request.args["q"]) if "q" in request.args else None
    if problem is not None:
        abort(400, problem)


@routes.get("")
def list_messages() -> Response:
    offset = _number("offset", 0, 2**31)
    limit = _number("limit", PAGE, MAX_PAGE)
    deadline = time.monotonic() + _seconds("wait", MAX_WAIT)
    # The page asks for what is known by then; a program gets the whole truth.
    patience = _seconds("within", MAX_WAIT) if "within" in request.args else None
    while True:
        _inbox().refresh(patience)
        matching, body = _inbox().page(request.args.get("q", ""), offset, limit)
        if matching or time.monotonic() >= deadline:
            return _json_response(body)
        gevent.sleep(LOOK_EVERY)


@routes.delete("")
def delete_messages() -> Response:
    _inbox().refresh()
    return _json(deleted=_inbox().delete(q=request.args.get("q", "")))


@routes.put("/seen")
def see_messages() -> Response:
    _inbox().refresh()
    return _json(changed=_inbox().mark(q=request.args.get("q", ""), read=True))


@routes.get("/<id>")
def show_message(id: str) -> Response:
    try:
        return _json_response(_there(_inbox().look(id, "describe")).body)
    except Failed as exc:  # what is wrong with it isn't known; it can be downloaded
        log.error("a message can't be read: %a: %s", id, exc)
        return _json(**not_readable(_known(id)["listed"]))


@routes.delete("/<id>")
def delete_message(id: str) -> Response:
    _known(id)
    return _json(deleted=_inbox().delete(id=id))


@routes.put("/<id>/seen")
def see_message(id: str) -> Response:
    _known(id)
    return _json(changed=_inbox().mark(id=id, read=True))


@routes.delete("/<id>/seen")
def unsee_message(id: str) -> Response:
    _known(id)
    return _json(changed=_inbox().mark(id=id, read=False))


@routes.get("/<id>/html")
def show_html(id: str) -> Response:
    answer, pieces = _there(_inbox().look_into_file(id, "document"))
    if not answer.fields["size"]:
        abort(404, "the message has no HTML")
    response = Response(pieces, mimetype="text/html")
    response.headers["Content-Security-Policy"] = markup.policy(
        remote_images=request.args.get("images") == "remote"
    )
    return response


@routes.get("/<id>/source")
def show_source(id: str) -> Response:
    return _inert(Response(_there(_inbox().look(id, "source")).body, mimetype="text/plain"))


@routes.get("/<id>/raw")
def download(id: str) -> Response:
    name = clean_name(_known(id)["listed"]["subject"]) or "message"
    return _inert(_attachment(_there(_inbox().raw(id)), "message/rfc822", f"{name}.eml"))


@routes.get("/<id>/parts/<int:number>")
def download_part(id: str, number: int) -> Response:
    inline = "inline" in request.args
    answer, pieces = _there(_inbox().look_into_file(id, "part", number=number, as_text=inline))
    if not answer.fields["found"]:
        abort(404, "the message has no such part")
    content_type = answer.fields["content_type"]
    if inline and answer.fields["image"] in INLINE:
        return _inert(Response(pieces, mimetype=answer.fields["image"]))
    if answer.fields.get("is_text"):
        return _inert(Response(pieces, mimetype="text/plain"))
    # The page may load scripts and styles from here: nothing of a message counts as one.
    if re.search("script|css", content_type) is not None:
        content_type = "application/octet-stream"
    return _inert(_attachment(pieces, content_type, answer.fields["filename"]))


def _inbox() -> Inbox:
    inbox: Inbox = current_app.extensions["smtp_blinker"].inbox
    return inbox


def _known(id: str) -> dict[str, Any]:
    message = _inbox().get(id)
    if message is None:
        abort(404, "there is no such message")
    return message


def _there(found: T | None) -> T:
    if found is None:
        abort(404, "there is no such message")
    return found


def _number(name: str, default: int, most: int) -> int:
    value = request.args.get(name, default, type=int)
    return min(max(value, 0), most)


def _seconds(name: str, most: float) -> float:
    value = request.args.get(name, 0.0, type=float)
    return min(value, most) if value > 0 else 0.0  # NaN isn't either


def _json(**fields: Any) -> Response:
    return _json_response(json.dumps(fields).encode())


def _json_response(body: bytes) -> Response:
    return Response(body, mimetype="application/json")


def _attachment(content: bytes | Iterator[bytes], content_type: str, name: str) -> Response:
    response = Response(content, content_type=content_type)
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    plain = _NOT_IN_A_NAME.sub("_", name)  # for what doesn't know the other one (curl -OJ)
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    )
    return response


def _inert(response: Response) -> Response:
    """*response*, which came from a message, as a document that can do nothing."""
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response
