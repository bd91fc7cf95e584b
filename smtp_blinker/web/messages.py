"""The part of the JSON API about the mail: a function for each route."""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import closing
from smtplib import SMTPException
from typing import Any, Final, TypeVar
from urllib.parse import quote

import gevent
from flask import Blueprint, Response, abort, current_app, g, request

from .. import __version__
from ..smtp.reply import Reject
from ..stores.relay import RelayFailure
from .changes import check_parameters, is_change
from .child import Failed
from .inbox import Download, Inbox, log
from .reader import markup
from .reader import query as search
from .reader.details import INLINE, not_readable
from .reader.errors import in_one_line
from .reader.part import clean_name
from .reader.tags import BY_HAND, MAX_TAG

T = TypeVar("T")

#: Messages per page of the list, by default and at most.
PAGE: Final = 50
MAX_PAGE: Final = 500
#: The longest `wait` in seconds, and seconds between two checks.
MAX_WAIT: Final = 60.0
LOOK_EVERY: Final = 0.1

_NOT_IN_A_NAME = re.compile(r"[^ !#-\[\]-~]")

NO_INBOX: Final = "there is no such inbox; /api/inboxes lists them"

#: The routes that accept ``undo=SECONDS``.
_CAN_BE_UNDONE: Final = ("delete_messages", "delete_message")

routes = Blueprint("messages", __name__, url_prefix="/api/messages")


def choose_inbox(endpoint: str | None, values: dict[str, Any] | None) -> None:
    """The inbox of a request: the first one, unless the path names another."""
    g.inbox = "" if values is None else values.pop("inbox", "")


routes.url_value_preprocessor(choose_inbox)


@routes.before_request
def check_change() -> None:
    """Refuse a change if any part of the request isn't understood."""
    if not is_change():
        return
    known: tuple[str, ...] = () if "id" in (request.view_args or {}) else ("q", "id")
    function = (request.endpoint or "").rpartition(".")[2]
    if function in _CAN_BE_UNDONE:
        known += ("undo",)
    if function == "release_message":
        known += ("to",)
    check_parameters(known, repeatable=("id", "to"))
    if "" in request.args.getlist("id"):
        abort(400, "an id is empty")
    if "undo" in request.args and not 0 <= request.args.get("undo", -1.0, type=float) <= MAX_WAIT:
        abort(400, f"undo takes seconds, {MAX_WAIT:g} at most")
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
        _inbox().refresh() if patience is None else _inbox().glance(patience)
        matching, body = _inbox().page(request.args.get("q", ""), offset, limit)
        if matching or time.monotonic() >= deadline:
            return _json_response(body)
        gevent.sleep(LOOK_EVERY)


@routes.delete("")
def delete_messages() -> Response:
    _inbox().refresh()
    return _deleted(**_which())


@routes.post("/undo/<int:number>")
def undo_deletion(number: int) -> Response:
    return _json(restored=_there(_inbox().restore(number), "it is too late, or was never deleted"))


@routes.get("/codes")
def show_codes() -> Response:
    """The one-time codes and links of the newest message that matches, for tests."""
    q = request.args.get("q", "")
    deadline = time.monotonic() + _seconds("wait", MAX_WAIT)
    while True:
        _inbox().refresh()
        found = json.loads(_inbox().page(q, 0, 1)[1])["messages"]
        message = _inbox().look(found[0]["id"], "describe") if found else None
        if message is not None:
            shown = json.loads(message.body)
            return _json(**{name: shown[name] for name in ("id", "subject", "codes", "links")})
        if time.monotonic() >= deadline:
            abort(404, "no message matches")
        gevent.sleep(LOOK_EVERY)


@routes.put("/seen")
def see_messages() -> Response:
    _inbox().refresh()
    return _json(changed=_inbox().mark(read=True, **_which()))


@routes.put("/tags/<tag>")
def tag_messages(tag: str) -> Response:
    _inbox().refresh()
    return _tagged(tag, on=True, **_which())


@routes.delete("/tags/<tag>")
def untag_messages(tag: str) -> Response:
    _inbox().refresh()
    return _tagged(tag, on=False, **_which())


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
    return _deleted(id=id)


@routes.put("/<id>/tags/<tag>")
def tag_message(id: str, tag: str) -> Response:
    _known(id)
    return _tagged(tag, on=True, id=id)


@routes.delete("/<id>/tags/<tag>")
def untag_message(id: str, tag: str) -> Response:
    _known(id)
    return _tagged(tag, on=False, id=id)


@routes.post("/<id>/release")
def release_message(id: str) -> Response:
    release = current_app.extensions["smtp_blinker"].release
    if release is None:
        abort(404, "no relay is configured: smtp-blinker --release-to, or create_app(release=…)")
    envelope = _there(_inbox().look(id, "envelope")).fields
    recipients = request.args.getlist("to") or envelope["rcpt_to"]
    try:
        with closing(_there(_inbox().raw(id))) as pieces:
            said = release.send(
                pieces, envelope["trace_end"], envelope["mail_from"] or "", recipients
            )
    except ValueError as exc:
        abort(400, str(exc))
    except Reject as exc:
        abort(502, f"{release.to} refused it: {exc}")
    except (OSError, SMTPException, RelayFailure) as exc:
        log.error("a message can't be released to %s: %s", release.to, in_one_line(exc))
        abort(502, f"{release.to} can't be reached, or didn't go on; the log says more")
    return _json(released=len(recipients), to=release.to, reply=said)


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
    response = _sent(pieces, "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = markup.policy(
        remote_images=request.args.get("images") == "remote"
    )
    return response


@routes.get("/<id>/source")
def show_source(id: str) -> Response:
    return _inert(Response(_there(_inbox().look(id, "source")).body, mimetype="text/plain"))


@routes.get("/<id>/raw")
def download(id: str) -> Response:
    subject = re.sub(r"[/\\]", "-", _known(id)["listed"]["subject"])  # it has no folders
    name = clean_name(subject) or "message"
    return _inert(_attachment(_there(_inbox().raw(id)), "message/rfc822", f"{name}.eml"))


@routes.get("/<id>/parts/<int:number>")
def download_part(id: str, number: int) -> Response:
    inline = "inline" in request.args
    answer, pieces = _there(_inbox().look_into_file(id, "part", number=number, as_text=inline))
    if not answer.fields["found"]:
        abort(404, "the message has no such part")
    content_type = answer.fields["content_type"]
    if inline and answer.fields["image"] in INLINE:
        return _inert(_sent(pieces, answer.fields["image"]))
    if answer.fields.get("is_text"):
        return _inert(_sent(pieces, "text/plain; charset=utf-8"))
    # The page may load scripts and styles from here: nothing of a message counts as one.
    if re.search("script|css", content_type) is not None:
        content_type = "application/octet-stream"
    return _inert(_attachment(pieces, content_type, answer.fields["filename"]))


def _inbox() -> Inbox:
    inbox: Inbox | None = current_app.extensions["smtp_blinker"].inboxes.get(g.inbox)
    return _there(inbox, NO_INBOX)


def _known(id: str) -> dict[str, Any]:
    message = _inbox().get(id)
    if message is None:
        abort(404, "there is no such message")
    return message


def _there(found: T | None, problem: str = "there is no such message") -> T:
    if found is None:
        abort(404, problem)
    return found


def _which() -> dict[str, Any]:
    """The messages that a request for several selects."""
    return {"ids": request.args.getlist("id"), "q": request.args.get("q", "")}


def _deleted(**which: Any) -> Response:
    seconds = _seconds("undo", MAX_WAIT)
    if not seconds:
        return _json(deleted=_inbox().delete(**which))
    deleted, number = _inbox().hide(seconds, **which)
    return _json(deleted=deleted, undo=number)


def _tagged(tag: str, *, on: bool, **which: Any) -> Response:
    if BY_HAND.fullmatch(tag) is None:
        abort(
            400, f"a tag is up to {MAX_TAG} letters, digits and . _ - and begins with one of both"
        )
    changed = _inbox().tag(tag, on=on, **which)
    if changed is None:
        abort(409, "there are 26 tags by hand already, as many as a Maildir has letters for")
    return _json(changed=changed)


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


def _sent(content: Download, content_type: str) -> Response:
    """*content*, or the part of it that the client asks for: a download can be continued."""
    response = Response(content, content_type=content_type)
    response.content_length = content.size
    # A message never changes; how it is decoded may change with the version.
    made_of = f"{__version__} {g.inbox} {request.path} {request.query_string!r}"
    response.set_etag(hashlib.sha256(made_of.encode("utf-8", "replace")).hexdigest()[:32])
    response.make_conditional(request, accept_ranges=True, complete_length=content.size)
    if response.status_code == 412:
        content.close()
        abort(412)  # without the content
    return response


def _attachment(content: Download, content_type: str, name: str) -> Response:
    response = _sent(content, content_type)
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    plain = _NOT_IN_A_NAME.sub("_", name)  # for clients that don't know filename* (curl -OJ)
    response.headers["Content-Disposition"] = (
        f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    )
    return response


def _inert(response: Response) -> Response:
    """*response*, with content of a message, as a document without any permissions."""
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


tag_routes = Blueprint("tags", __name__, url_prefix="/api/tags")
tag_routes.url_value_preprocessor(choose_inbox)


@tag_routes.get("")
def list_tags() -> Response:
    _inbox().refresh()
    return _json(tags=_inbox().tags())
