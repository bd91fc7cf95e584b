"""The part of the JSON API that is about the mail."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, Final, TypeVar
from urllib.parse import quote

import gevent
from flask import Blueprint, Response, abort, request

from . import charsets, html, mime
from . import query as search
from .checks import check
from .entry import Entry, shown_text
from .errors import in_one_line
from .inbox import READABLE, Inbox, in_thread, log
from .steps import WINDOW, breathe

T = TypeVar("T")

#: Messages on a page of the list, by default and at most.
PAGE: Final = 50
MAX_PAGE: Final = 500
#: Seconds that `wait` may take, and between two looks.
MAX_WAIT: Final = 60.0
LOOK_EVERY: Final = 0.1
#: Octets of text and of source that are shown; the whole can be downloaded.
MAX_TEXT: Final = 2**20

#: What the browser may show in place, and can't be made to run anything.
_INLINE: Final = html.IMAGE_TYPES - {"image/svg+xml"}


def make_blueprint(inbox: Inbox) -> Blueprint:
    """The routes under /api/messages."""
    routes = Blueprint("messages", __name__, url_prefix="/api/messages")

    @routes.before_request
    def check_change() -> None:
        """Refuse a request for a change that says anything which isn't understood."""
        if request.method in {"GET", "HEAD", "OPTIONS"}:
            return
        if request.content_length or "Transfer-Encoding" in request.headers:
            abort(400, "a request for a change has no body")
        about_all = "id" not in (request.view_args or {})
        for name, values in request.args.lists():
            if name != "q" or not about_all or len(values) > 1:
                abort(400, f"the parameter {name[:40]!a} is unknown here, or is given twice")
            problem = search.problem(values[0])
            if problem is not None:
                abort(400, problem)
        if request.query_string and not request.args:
            abort(400, "the query is empty")

    @routes.get("")
    def list_messages() -> Response:
        query = request.args.get("q", "")
        offset = _number("offset", 0, 2**31)
        limit = _number("limit", PAGE, MAX_PAGE)
        deadline = time.monotonic() + _seconds("wait", MAX_WAIT)
        # The page asks for what is known by then; a program gets the whole truth.
        patience = _seconds("within", MAX_WAIT) if "within" in request.args else None
        while True:
            inbox.refresh(patience)
            found = inbox.find(query)
            if found or time.monotonic() >= deadline:
                break
            gevent.sleep(LOOK_EVERY)
        return _json(
            messages=[
                entry.as_dict() for entry in inbox.looked_into(found[offset : offset + limit])
            ],
            offset=offset,
            matching=len(found),
            total=len(inbox),
            unread=inbox.unread,
            pending=inbox.pending,
        )

    @routes.delete("")
    def delete_messages() -> Response:
        return _json(deleted=inbox.delete(matching()))

    @routes.put("/seen")
    def see_messages() -> Response:
        return _json(changed=inbox.mark(matching(), read=True))

    @routes.get("/<id>")
    def show_message(id: str) -> Response:
        entry = known(id)

        def describe(data: bytes, message: mime.Message) -> list[bytes]:
            return _encode(_describe(entry, data, message))

        try:
            found = inbox.examine(entry, describe)
        except Exception as exc:  # what is wrong with it isn't known; it can be downloaded
            log.error("a message can't be read: %a: %s", id, in_one_line(exc))
            nothing = _describe(entry, b"", mime.parse(b""))
            found = _encode({**nothing, "checks": [], "unreadable": True})
        return _json_response(there(found))

    @routes.delete("/<id>")
    def delete_message(id: str) -> Response:
        return _json(deleted=inbox.delete([known(id)]))

    @routes.put("/<id>/seen")
    def see_message(id: str) -> Response:
        return _json(changed=inbox.mark([known(id)], read=True))

    @routes.delete("/<id>/seen")
    def unsee_message(id: str) -> Response:
        return _json(changed=inbox.mark([known(id)], read=False))

    @routes.get("/<id>/html")
    def show_html(id: str) -> Response:
        def document(data: bytes, message: mime.Message) -> list[bytes]:
            return html.document(message, data)

        pieces = there(inbox.examine(known(id), document))
        if not pieces:
            abort(404, "the message has no HTML")
        response = Response(pieces, mimetype="text/html")
        response.headers["Content-Security-Policy"] = html.policy(
            remote_images=request.args.get("images") == "remote"
        )
        return response

    @routes.get("/<id>/source")
    def show_source(id: str) -> Response:
        text = in_thread(charsets.decode, there(inbox.read(known(id), MAX_TEXT)), "utf-8")
        return _inert(Response(text.encode(), mimetype="text/plain"))

    @routes.get("/<id>/raw")
    def download(id: str) -> Response:
        entry = known(id)
        pieces = there(inbox.pieces(entry))
        name = mime.clean_name(entry.subject) or "message"
        return _inert(_attachment(pieces, "message/rfc822", f"{name}.eml"))

    @routes.get("/<id>/parts/<int:number>")
    def download_part(id: str, number: int) -> Response:
        entry = known(id)
        parts = there(inbox.examine(entry, lambda data, message: message.parts))
        part = next((part for part in parts if part.number == number), None)
        if part is None or part.is_multipart:
            abort(404, "the message has no such part")
        pieces = there(inbox.pieces(entry, part))
        if "inline" in request.args and part.content_type in _INLINE:
            return _inert(Response(pieces, mimetype=part.content_type))
        # The page may load scripts and styles from here: nothing of a message counts as one.
        loadable = re.search("script|css", part.content_type) is not None
        content_type = "application/octet-stream" if loadable else part.content_type
        return _inert(_attachment(pieces, content_type, part.filename or f"part-{number}"))

    def matching() -> list[Entry]:
        inbox.refresh()
        return inbox.find(request.args.get("q", ""))

    def known(id: str) -> Entry:
        entry = inbox.get(id)
        if entry is None or not entry.indexed:
            inbox.refresh()
            entry = inbox.get(id)
        if entry is None:
            abort(404, "there is no such message")
        return entry

    def there(found: T | None) -> T:
        if found is None:
            abort(404, "the message is gone")
        return found

    return routes


def _number(name: str, default: int, most: int) -> int:
    value = request.args.get(name, default, type=int)
    return min(max(value, 0), most)


def _seconds(name: str, most: float) -> float:
    value = request.args.get(name, 0.0, type=float)
    return min(value, most) if value > 0 else 0.0  # NaN isn't either


def _json(**fields: Any) -> Response:
    return _json_response(in_thread(_encode, fields))


def _json_response(pieces: list[bytes]) -> Response:
    return Response(pieces, mimetype="application/json")


def _encode(fields: dict[str, Any]) -> list[bytes]:
    """A JSON object in pieces. What is deeper in it than one level must be short."""
    pieces: list[bytes] = []
    texts: list[str] = []
    size = 0
    for text in _json_texts(fields):
        texts.append(text)
        size += len(text)
        if size >= WINDOW:
            pieces.append("".join(texts).encode())
            texts, size = [], 0
            breathe()
    return [*pieces, "".join(texts).encode()]


def _json_texts(fields: dict[str, Any]) -> Iterator[str]:
    before = "{"
    for name, value in fields.items():
        yield f'{before}"{name}":'
        before = ","
        if isinstance(value, str):
            yield '"'
            for start in range(0, len(value), WINDOW):
                yield json.dumps(value[start : start + WINDOW])[1:-1]
            yield '"'
        elif isinstance(value, list):
            yield "["
            for number, item in enumerate(value):
                yield f",{json.dumps(item)}" if number else json.dumps(item)
            yield "]"
        else:
            yield json.dumps(value)
    yield "}"


def _describe(entry: Entry, data: bytes, message: mime.Message) -> dict[str, Any]:
    """All that the page shows of a message, but its HTML and its source."""
    trace = message.trace
    html_parts = message.texts("html")
    markup = html_parts[0].text(data, html.LOOKED_AT) if html_parts else ""
    text = shown_text(message, data, MAX_TEXT)
    attached = {part.number for part in message.attachments}
    links = html.links(markup, text)
    left_out = [*message.left_out, *_left_out(entry, message)]
    return {
        **entry.as_dict(),
        "to": ", ".join(message.every("to")),
        "cc": ", ".join(message.every("cc")),
        "reply_to": message.first("reply-to"),
        "date": message.first("date"),
        "message_id": message.first("message-id"),
        "envelope": {"mail_from": trace.mail_from, "rcpt_to": trace.rcpt_to},
        "session": trace.session,
        "headers": [[each.name, each.text] for each in message.fields],
        "text": text[:MAX_TEXT],
        "text_from_html": not message.texts("plain") and bool(html_parts),
        "html": bool(html_parts),
        "remote_content": html.has_remote(markup),
        "links": links,
        "checks": check(message, data, entry.time, links),
        "parts": [_describe_part(part, part.number in attached) for part in message.parts],
        "cut": bool(left_out),
        "left_out": left_out,
    }


def _left_out(entry: Entry, message: mime.Message) -> Iterator[str]:
    """What isn't shown of a message because it is too long, in sentences."""
    if entry.size > READABLE:
        yield f"Only its first {READABLE // 2**20} MiB were read."
    if sum(part.end - part.start for part in message.texts("plain")) > MAX_TEXT:
        yield f"Of its text the first {MAX_TEXT // 1024} KiB are shown."
    for part in message.texts("html")[:1]:
        if part.end - part.start > html.LOOKED_AT:
            yield (
                f"Text, links and mistakes were looked for in the first {html.LOOKED_AT // 1024} "
                "KiB of its HTML."
            )
        if part.end - part.start > html.MAX_HTML:
            yield f"Of its HTML the first {html.MAX_HTML // 1024} KiB are shown."


def _describe_part(part: mime.Part, attached: bool) -> dict[str, Any]:
    encoded = part.end - part.start
    return {
        "number": part.number,
        "depth": part.depth,
        "content_type": part.content_type,
        "charset": part.charset,
        "encoding": part.encoding,
        "filename": part.filename,
        "content_id": part.content_id,
        "multipart": part.is_multipart,
        "attachment": attached,
        "image": part.content_type in _INLINE,
        # Good enough to be read by people, without decoding all of it.
        "size": encoded * 3 // 4 if part.encoding == "base64" else encoded,
    }


def _attachment(content: bytes | Iterator[bytes], content_type: str, name: str) -> Response:
    response = Response(content, content_type=content_type)
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{encoded}"
    return response


def _inert(response: Response) -> Response:
    """*response*, which came from a message, as a document that can do nothing."""
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response
