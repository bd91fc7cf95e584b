"""Finds the parts that a mail program shows as the text of a message, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from . import enriched, markup_text, pictures, signed
from .mime import Message
from .part import Part

#: Messages within messages whose text is shown, and characters of each field above it.
MAX_FORWARDED: Final = 3
MAX_SHOWN_FIELD: Final = 1000

_READ: Final = frozenset({"text/plain", "text/html"})
#: Types that are text, but an attachment if the part has a name.
_ALSO_READ: Final = frozenset({"text/calendar", "text/csv"})
#: Types that are shown in place, even for an attachment.
MESSAGES: Final = frozenset({"message/rfc822", "message/global"})
#: Text of a report (RFC 3464, RFC 8098, RFC 5965), and the line above it.
REPORTS: Final = {
    "message/delivery-status": "Delivery status",
    "message/global-delivery-status": "Delivery status",
    "message/disposition-notification": "Disposition notification",
    "message/global-disposition-notification": "Disposition notification",
    "message/feedback-report": "Feedback report",
    "text/rfc822-headers": "Header of the message",
    "message/global-headers": "Header of the message",
}
#: No text for people, or the same for devices that show no other.
_FOR_OTHERS: Final = frozenset(
    {"text/x-amp-html", "text/watch-html", "text/vnd.google.email-reaction+json"}
)
_NOT_READ: Final = frozenset({"text/rtf"}) | _FOR_OTHERS


def texts(message: Message, subtype: str) -> list[Part]:
    """All parts that are the message's text, as "plain" or as "html"."""
    return [part for part in _candidates(message.parts) if part.content_type == f"text/{subtype}"]


def bodies(message: Message, subtype: str) -> list[Part]:
    """The parts to show one after the other to a reader who prefers "plain" or "html"."""
    if not message.parts:
        return []
    candidates = {part.number for part in _candidates(message.parts, _is_read)}
    return _chosen(message.parts, 0, candidates, f"text/{subtype}")


def attachments(message: Message, data: bytes) -> list[Part]:
    """The parts that are neither the message's text nor pictures that its HTML shows."""
    shown = {part.number for part in _candidates(message.parts)}
    in_html = pictures.shown(message, data, texts(message, "html"))
    return [
        part
        for part in message.parts
        if not part.is_multipart
        and part.number not in shown
        and (part.attached or part.number not in in_html)
        and (part.attached or part.content_type not in _FOR_OTHERS)
    ]


def text_of(part: Part, data: bytes, limit: int, depth: int = 0) -> str:
    """The text of *part* for people, from its first *limit* octets."""
    if part.content_type == "text/html":
        return markup_text.html_text(part.text(data, min(limit, markup_text.LOOKED_AT)))
    if part.content_type in MESSAGES:
        if depth >= MAX_FORWARDED:
            return ""
        return "\n".join(_forwarded(part.content(data, limit), limit, depth + 1)).rstrip("\n")
    text = part.text(data, limit)
    if part.content_type in enriched.TYPES:
        return enriched.plain(text, part.content_type)
    if part.content_type in REPORTS:
        return f"{_line(REPORTS[part.content_type])}\n{text}".rstrip("\n")
    return text


def _line(title: str) -> str:
    return f"---------- {title} ----------"


def shown_text(message: Message, data: bytes, limit: int, depth: int = 0) -> str:
    """The text of the message; the text of its HTML, without tags, if there is no other.

    *limit* bounds the encoded octets that are read from all parts; fewer are read from HTML.
    """
    plain = bodies(message, "plain")
    text = _joined(plain, data, limit, depth)
    if not text.strip():  # an empty part beside the HTML tells nothing
        html = bodies(message, "html")
        if html != plain:
            return _joined(html, data, limit, depth)
    return text


def is_from_html(message: Message, data: bytes, limit: int) -> bool:
    """Whether `shown_text` takes the text from the HTML."""
    plain = texts(message, "plain")
    return bool(texts(message, "html")) and not any(
        part.text(data, limit).strip() for part in plain
    )


def _joined(parts: list[Part], data: bytes, limit: int, depth: int) -> str:
    found = []
    for part in parts:
        found.append(text_of(part, data, limit, depth))
        limit -= part.end - part.start
        if limit <= 0:
            break
    return "\n\n".join(found).strip("\n")


def _forwarded(data: bytes, limit: int, depth: int) -> Iterator[str]:
    message, data = signed.read(data)
    yield from head_of(message)
    yield ""
    yield shown_text(message, data, limit, depth)


def head_of(message: Message) -> Iterator[str]:
    """The lines above a message that is shown within another."""
    yield _line("Message within")
    for name in ("From", "To", "Date", "Subject"):
        if text := message.first(name):
            yield f"{name}: {text[:MAX_SHOWN_FIELD]}"


def _is_read(content_type: str) -> bool:
    """Whether parts of that type can be read; an unknown text is text (RFC 2046 section 4.1.4)."""
    return content_type in _ALSO_READ | MESSAGES | REPORTS.keys() or (
        content_type.startswith("text/") and content_type not in _NOT_READ
    )


def _candidates(
    parts: Sequence[Part], wanted: Callable[[str], bool] = _READ.__contains__
) -> Iterator[Part]:
    """The parts of *wanted* types that are text of the message, also those not shown for another.

    One with a name is text too, where it is all there is, comes first or is an alternative.
    """
    above: list[Part] = []
    for part in parts:
        del above[part.depth :]
        is_message = part.content_type in MESSAGES
        if wanted(part.content_type) and (is_message or not part.attached):
            parent = above[-1] if above else None
            first = (
                parent is None
                or part.number == parent.number + 1
                or (part.content_id is not None and part.content_id == parent.root)
            )
            chosen = parent is not None and parent.content_type == "multipart/alternative"
            if (
                is_message
                or part.filename is None
                or (part.content_type in _READ and (first or chosen))
            ):
                yield part
        above.append(part)


def _chosen(parts: Sequence[Part], number: int, candidates: set[int], wanted: str) -> list[Part]:
    part = parts[number]
    if not part.is_multipart:
        return [part] if number in candidates else []
    found = [
        chosen
        for child in _children(parts, number)
        if (chosen := _chosen(parts, child, candidates, wanted))
    ]
    if part.content_type == "multipart/alternative" and found:
        # RFC 2046 section 5.1.4: the last alternative is the best.
        found = [each for each in found if _READ & {one.content_type for one in each}] or found
        best = [each for each in found if wanted in {one.content_type for one in each}] or found
        return best[-1]
    return [each for chosen in found for each in chosen]


def _children(parts: Sequence[Part], number: int) -> Iterator[int]:
    depth = parts[number].depth + 1
    for part in parts[number + 1 :]:
        if part.depth < depth:
            return
        if part.depth == depth:
            yield part.number
