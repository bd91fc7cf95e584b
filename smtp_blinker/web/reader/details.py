"""Everything that the page shows of a message except its HTML and its source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from . import idn, markup, mime, tnef
from .bodies import REPORTS, attachments, is_from_html, shown_text, texts
from .checks import check
from .codes import codes
from .fields import MAX_RECIPIENTS
from .files import READABLE
from .markup_text import LOOKED_AT
from .part import Part
from .pictures import IMAGE_TYPES, image_type

#: The most octets of text to show; the whole can be downloaded.
MAX_TEXT: Final = 2**20

#: Text that isn't called so.
_ALSO_TEXT: Final = frozenset(
    {
        *("application/ics", "application/json", "application/xml", "application/xhtml+xml"),
        *("application/ld+json", "application/pgp-signature", "application/pgp-encrypted"),
    }
)
#: What the browser may show in place, and can't be made to run anything.
INLINE: Final = IMAGE_TYPES - {"image/svg+xml"}


def describe(listed: dict[str, Any], data: bytes, message: mime.Message) -> dict[str, Any]:
    """*listed*, the entry of the list, together with all other details."""
    trace = message.trace
    htmls = list(markup.html_texts(message, data))
    html = "".join(htmls)
    text = shown_text(message, data, MAX_TEXT)
    attached = {part.number for part in attachments(message, data)}
    links = markup.links(html, text, message.first("list-unsubscribe"))
    left_out = [*message.left_out, *_left_out(listed["size"], message)]
    return {
        **listed,
        "to": idn.readable(", ".join(message.every("to"))),
        "cc": idn.readable(", ".join(message.every("cc"))),
        "reply_to": idn.readable(message.first("reply-to")),
        "date": message.first("date"),
        "message_id": message.first("message-id"),
        "envelope": {"mail_from": trace.mail_from, "rcpt_to": trace.rcpt_to[:MAX_RECIPIENTS]},
        "session": None if trace.received is None else asdict(trace.received),
        "results": trace.results,
        "headers": [[each.name, each.text] for each in message.fields],
        "text": text[:MAX_TEXT],
        "text_from_html": is_from_html(message, data, MAX_TEXT),
        "html": bool(htmls),
        "remote_content": markup.has_remote(html),
        "links": links,
        "codes": codes(message.first("subject"), text),
        "checks": check(message, data, listed["time"], links),
        "parts": [_describe_part(part, part.number in attached, data) for part in message.parts],
        "cut": bool(left_out),
        "left_out": left_out,
        "unreadable": False,
    }


def not_readable(listed: dict[str, Any]) -> dict[str, Any]:
    """The same for a message that could not be read: it can be downloaded."""
    return {**describe(listed, b"", mime.parse(b"")), "checks": [], "unreadable": True}


def _left_out(size: int, message: mime.Message) -> Iterator[str]:
    """Sentences about the parts of a message that are too long to be shown."""
    if size > READABLE:
        yield f"Only its first {READABLE // 2**20} MiB were read."
    if sum(part.end - part.start for part in texts(message, "plain")) > MAX_TEXT:
        yield f"Of its text the first {MAX_TEXT // 1024} KiB are shown."
    for part in texts(message, "html")[:1]:
        if part.end - part.start > LOOKED_AT:
            yield (
                "Text, links and mistakes were looked for in the first "
                f"{LOOKED_AT // 1024} KiB of its HTML."
            )
        if part.end - part.start > markup.MAX_HTML:
            yield f"Of its HTML the first {markup.MAX_HTML // 1024} KiB are shown."


def is_text(part: Part) -> bool:
    """Whether people can read *part* as text."""
    return part.content_type.startswith("text/") or part.content_type in _ALSO_TEXT | REPORTS.keys()


def _describe_part(part: Part, attached: bool, data: bytes) -> dict[str, Any]:
    encoded = part.end - part.start
    is_tnef = part.content_type in tnef.TYPES or (part.filename or "").lower() == tnef.NAME
    return {
        "number": part.number,
        "depth": part.depth,
        "content_type": part.content_type,
        "charset": part.charset,
        "encoding": part.encoding,
        "filename": part.filename,
        "content_id": part.content_id,
        "content_location": part.location,
        "multipart": part.is_multipart,
        "attachment": attached,
        "image": image_type(part, data) in INLINE,
        # Shown as text where it stands, with ?inline.
        "readable": is_text(part),
        "contains": tnef.names(part.content(data, tnef.LOOKED_AT)) if is_tnef else [],
        # A rough size for people, without decoding all of it.
        "size": encoded * 3 // 4 if part.encoding == "base64" else encoded,
    }
