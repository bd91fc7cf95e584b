"""The part of the JSON API that is about the mail."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import gevent
from flask import Blueprint, Response, abort, jsonify, request

from . import html, mime
from .checks import check
from .inbox import READABLE, Entry, Inbox, in_thread, shown_text

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
        return jsonify(
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
        return jsonify(deleted=inbox.delete(matching()))

    @routes.put("/seen")
    def see_messages() -> Response:
        return jsonify(changed=inbox.mark(matching(), read=True))

    @routes.get("/<id>")
    def show_message(id: str) -> Response:
        entry = known(id)
        data, message = parsed(entry)
        return jsonify(in_thread(_describe, entry, data, message))

    @routes.delete("/<id>")
    def delete_message(id: str) -> Response:
        return jsonify(deleted=inbox.delete([known(id)]))

    @routes.put("/<id>/seen")
    def see_message(id: str) -> Response:
        return jsonify(changed=inbox.mark([known(id)], read=True))

    @routes.delete("/<id>/seen")
    def unsee_message(id: str) -> Response:
        return jsonify(changed=inbox.mark([known(id)], read=False))

    @routes.get("/<id>/html")
    def show_html(id: str) -> Response:
        data, message = parsed(known(id))
        text = in_thread(html.document, message, data)
        if text is None:
            abort(404, "the message has no HTML")
        response = Response(text.encode("utf-8", "replace"), mimetype="text/html")
        response.headers["Content-Security-Policy"] = html.policy(
            remote_images=request.args.get("images") == "remote"
        )
        return response

    @routes.get("/<id>/source")
    def show_source(id: str) -> Response:
        data = inbox.read(known(id), MAX_TEXT)
        if data is None:
            abort(404, "the message is gone")
        text = mime.decode_text(data, "utf-8")
        return _inert(Response(text.encode(), mimetype="text/plain"))

    @routes.get("/<id>/raw")
    def download(id: str) -> Response:
        entry = known(id)
        pieces = inbox.pieces(entry)
        if pieces is None:
            abort(404, "the message is gone")
        name = mime.clean_name(entry.subject) or "message"
        return _inert(_attachment(pieces, "message/rfc822", f"{name}.eml"))

    @routes.get("/<id>/parts/<int:number>")
    def download_part(id: str, number: int) -> Response:
        data, message = parsed(known(id))
        part = next((part for part in message.parts if part.number == number), None)
        if part is None or part.is_multipart:
            abort(404, "the message has no such part")
        content = in_thread(part.content, data)
        if "inline" in request.args and part.content_type in _INLINE:
            return _inert(Response(content, mimetype=part.content_type))
        # The page may load scripts and styles from here: nothing of a message counts as one.
        loadable = re.search("script|css", part.content_type) is not None
        content_type = "application/octet-stream" if loadable else part.content_type
        return _inert(_attachment(content, content_type, part.filename or f"part-{number}"))

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

    def parsed(entry: Entry) -> tuple[bytes, mime.Message]:
        found = inbox.parse(entry)
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


def _describe(entry: Entry, data: bytes, message: mime.Message) -> dict[str, Any]:
    """All that the page shows of a message, but its HTML and its source."""
    trace = mime.trace(message.fields)
    html_parts = message.texts("html")
    markup = html_parts[0].text(data, html.MAX_HTML) if html_parts else ""
    text = shown_text(message, data, MAX_TEXT)
    attached = {part.number for part in message.attachments}
    links = html.links(markup, text)
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
        "cut": entry.size > READABLE,
    }


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
