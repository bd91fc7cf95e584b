"""The pictures that a message brings for its HTML: by Content-ID (RFC 2392) or by
Content-Location (RFC 2557)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import unquote, urljoin

from .markup_text import LOOKED_AT, unescape
from .mime import Message
from .part import Part

#: Places that are looked at.
MAX_PLACES: Final = 3000

#: What an <img> may show. A script in an SVG doesn't run there.
IMAGE_TYPES: Final = frozenset(
    {
        *("image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"),
        "image/svg+xml",
    }
)

# What others call them, and how a file of theirs begins.
_SAME_TYPES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "image/x-ms-bmp": "image/bmp",
    "image/svg": "image/svg+xml",
}
_SIGNATURES: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
}

# A character of an address without quotation marks: in the HTML's style attributes they are
# character references.
_BARE: Final = r"(?:[^\s\"'<>()&]|&(?!quot;|apos;|#0{0,5}3[49];|#x0{0,5}2[27];))"
_CID: Final = rf"(?<=[\"'])(cid:[^\"'<>]{{1,300}})(?=[\"'])|(cid:{_BARE}{{1,300}})"
_BY_ID = re.compile(_CID, re.IGNORECASE)
_BY_ANY = re.compile(
    rf"{_CID}|(?:"
    r"\b(?:src|srcset|background|poster)\s{0,9}=\s{0,9}|<image\b[^<>]{0,1000}?\bhref\s{0,9}=\s{0,9}"
    r"|\burl\(\s{0,9}(?:&quot;|&apos;|&#39;|&#34;)?"
    rf")(?:\"([^\"<>]{{1,2000}})\"|'([^'<>]{{1,2000}})'|({_BARE}{{1,2000}}))",
    re.IGNORECASE,
)
_WORD_OF_SRCSET = re.compile(r"([^\s,]\S{0,2000}?),*(?=\s|$)")
_BASE = re.compile(r"<base\b[^<>]{0,1000}?\bhref\s{0,9}=\s{0,9}[\"']?([^\"'<>\s]{1,2000})", re.I)
#: What addresses are relative to where nothing says it; Word writes it too.
_NOWHERE: Final = "file:///"


class Place(NamedTuple):
    """Where HTML names a picture: ``html[start:end]``."""

    start: int
    end: int
    #: The Content-ID that stands there, or "".
    content_id: str
    #: The part that is the picture, if there is one.
    part: Part | None


def shown(message: Message, data: bytes, html_parts: list[Part]) -> set[int]:
    """The numbers of the parts that the HTML in *html_parts* shows."""
    pictures = Pictures(message.parts, data)
    if not pictures:
        return set()
    return {
        place.part.number
        for html in html_parts
        for place in pictures.places(html.text(data, LOOKED_AT), html)
        if place.part is not None
    }


class Pictures:
    """The pictures among *parts*."""

    def __init__(self, parts: list[Part], data: bytes) -> None:
        self._parts = parts
        self._by_id: dict[str, Part] = {}
        self._by_location: dict[str, Part] = {}
        #: The type of each, by the number of its part.
        self.types: dict[int, str] = {}
        for part in parts:
            if part.content_id is None and part.location is None:
                continue
            if (content_type := image_type(part, data)) is None:
                continue
            self.types[part.number] = content_type
            if part.content_id is not None:
                self._by_id[part.content_id] = part
            if part.location is not None:
                base = self._base(part.number, part.depth)
                self._by_location.setdefault(_resolved(base, part.location), part)

    def __bool__(self) -> bool:
        return bool(self.types)

    def places(self, html: str, part: Part) -> Iterator[Place]:
        """Where *html*, the text of *part*, names pictures by Content-ID, or those that there are
        by Content-Location; in order."""
        pattern = _BY_ANY if self._by_location else _BY_ID
        base = self._base_of_html(html, part) if self._by_location else ""
        for match in islice(pattern.finditer(html), MAX_PLACES):
            start, end = match.span(match.lastindex or 0)
            place = self._place(html, start, end, base)
            words = [place]
            if place.part is None and html.find(" ", start, end) >= 0:  # a srcset names several
                words = [
                    self._place(html, *word.span(1), base)
                    for word in _WORD_OF_SRCSET.finditer(html, start, end)
                ]
            found = [word for word in words if word.part is not None]
            yield from found or ([place] if place.content_id else [])

    def without(self, html: str, part: Part) -> str:
        """*html*, the text of *part*, without the addresses of pictures that there are."""
        kept: list[str] = []
        at = 0
        for place in self.places(html, part):
            if place.part is not None:
                kept.append(html[at : place.start])
                at = place.end
        return "".join([*kept, html[at:]])

    def _place(self, html: str, start: int, end: int, base: str) -> Place:
        address = unescape(html[start:end]).strip()
        if address[:4].lower() == "cid:":
            content_id = unquote(address[4:]).strip().strip("<>")
            return Place(start, end, content_id, self._by_id.get(content_id))
        return Place(start, end, "", self._by_location.get(_resolved(base, address)))

    def _base_of_html(self, html: str, part: Part) -> str:
        """What addresses in *html* are relative to (RFC 2557 section 5)."""
        base = self._base(part.number, part.depth + 1)
        found = _BASE.search(html)
        return base if found is None else _joined(base, unescape(found[1]))

    def _base(self, number: int, depth: int) -> str:
        """What is said by the parts that lie above *depth* and hold part *number*, or are it."""
        base = _NOWHERE
        locations: list[str | None] = [None] * depth
        for part in self._parts[: number + 1]:
            if part.depth < depth:
                locations[part.depth :] = [part.location, *[None] * (depth - part.depth - 1)]
        for location in filter(None, locations):
            base = _joined(base, location)
        return base


def image_type(part: Part, data: bytes) -> str | None:
    """The type as which *part* is shown in an <img>; None if it isn't shown."""
    content_type = _SAME_TYPES.get(part.content_type, part.content_type)
    if content_type in IMAGE_TYPES:
        return content_type
    if content_type == "application/octet-stream" or content_type.startswith("image/"):
        beginning = part.content(data, 64)
        for signature, content_type in _SIGNATURES.items():
            if beginning.startswith(signature):
                return content_type
    return None


def _resolved(base: str, address: str) -> str:
    """*address* in the form in which it is compared: long ones are folded, and some are quoted."""
    return "".join(unquote(_joined(base, address)).split())


def _joined(base: str, address: str) -> str:
    try:
        return urljoin(base, address)
    except ValueError:  # a bracket that isn't closed
        return address
