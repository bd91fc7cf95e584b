"""Show the HTML of a message so that it can't do anything.

The page shows the HTML as a separate document in a frame, and the browser confines it: the sandbox
gives it an origin of its own, without scripts, forms or downloads, and the content security policy
lets it load only the images of the message. Nothing is filtered out of the HTML for safety, because
filters can be fooled. This module only rewrites what a policy doesn't cover.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from . import signed
from .bodies import MAX_FORWARDED, MESSAGES, bodies, head_of, text_of, texts
from .markup_text import LOOKED_AT, unescape
from .mime import Message
from .part import Part
from .pictures import Pictures

#: Octets of HTML that are shown, and of its images after base64, all together.
MAX_HTML: Final = 2 * 2**20
MAX_IMAGES: Final = 20 * 2**20
#: Links that are listed, and places where a picture is put in.
MAX_LINKS: Final = 200
MAX_PLACES: Final = 1000

# A <link> may make the browser connect to a host ahead of use, which no policy forbids; for a frame
# Chromium connects before the policy stops it. <base> and <meta> would contradict ours. An unknown
# element in their place does nothing, and since nothing is removed, nothing new can grow together
# from what is left.
_RENAMED = re.compile(r"<(?=(?:link|meta|base|i?frame)\b)", re.IGNORECASE)
# A link to a place in the message, which must not leave the frame.
_FRAGMENT = re.compile(
    r"<(a|area)(?=\s[^<>]{0,2000}?\bhref\s{0,9}=\s{0,9}[\"']?\s{0,9}#)", re.IGNORECASE
)
# What says that the HTML has colours for dark screens; it is renamed with the other <meta>.
_DARK = re.compile(
    r"<meta\b(?=[^<>]{0,300}?\bname\s{0,9}=\s{0,9}[\"']?(?:supported-)?color-schemes?\b)"
    r"[^<>]{0,300}?\bcontent\s{0,9}=[^<>]{0,100}?\bdark\b",
    re.IGNORECASE,
)
# Where browsers would ask another host: they take a backslash for a slash, need none behind
# "https:", and pass over line ends. In a style sheet a backslash may stand for any letter. With
# `\s*` on both sides of what may be missing, a run of spaces would be tried in all ways.
_ELSEWHERE: Final = r"(?:h\s{0,3}t\s{0,3}t\s{0,3}p\s{0,3}s?\s{0,3}:|[/\\]\s{0,3}[/\\])"
_REMOTE = re.compile(
    r"\burl\(\s{0,9}[\"']?\s{0,9}\\|(?:"
    r"\b(?:src|background|poster)\s{0,9}=\s{0,9}[\"']?"
    r"|<image\b[^<>]{0,1000}?\bhref\s{0,9}=\s{0,9}[\"']?"
    r"|\bimage-set\([^<>()]{0,1000}?[\"']"
    r"|\burl\(\s{0,9}[\"']?"
    rf")\s{{0,9}}{_ELSEWHERE}",
    re.IGNORECASE,
)
_SRCSET = re.compile(r"\bsrcset\s{0,9}=\s{0,9}[\"']?([^\"'<>]{0,20000})", re.IGNORECASE)
_IN_SRCSET = re.compile(_ELSEWHERE, re.IGNORECASE)
# The first alternative, which has no group, skips elements that users don't click on.
_LINK = re.compile(
    r"<(?:link|base|image|use)\b[^<>]{0,2000}"
    r"|\bhref\s{0,9}=\s{0,9}(?:\"([^\"]{0,2000})\"|'([^']{0,2000})'|([^\s\"'<>]{1,2000}))",
    re.IGNORECASE,
)
_ANY_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,40}:", re.IGNORECASE)
_LINK_SCHEME = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
IN_BRACKETS = re.compile(r"<\s{0,9}([^<>\s]{1,2000})\s{0,9}>")
_URL_IN_TEXT = re.compile(r"https?://[^\s<>\"']{1,2000}", re.IGNORECASE)
#: What ends a sentence rather than an address.
_ENDS: Final = ".,;:!?]}。，、！？）」』"  # noqa: RUF001


def policy(*, remote_images: bool = False) -> str:
    """The Content-Security-Policy of a message's HTML."""
    images = "data: http: https:" if remote_images else "data:"
    return (
        # A link that the reader clicks opens in a tab of its own, which is out of the sandbox.
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
        f"img-src {images}; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'self'"
    )


def document(message: Message, data: bytes) -> list[bytes]:
    """The HTML of the message for its frame, with its own images; empty if it has no HTML.

    In UTF-8, in pieces.
    """
    if next(html_texts(message, data), None) is None:
        return []
    # Links open outside the frame, which would refuse them.
    pieces = [b'<!doctype html><base target="_blank">']
    if any(_DARK.search(part.text(data, LOOKED_AT)) for part in texts(message, "html")):
        pieces.append(b'<meta name="color-scheme" content="light dark">')
    pieces += _shown(message, data, _Room(MAX_HTML), 0)
    return pieces


def html_texts(message: Message, data: bytes) -> Iterator[str]:
    """The HTML parts of the message and of the messages in it, without the addresses of pictures
    that there are; together `LOOKED_AT` octets or less are read."""
    return _html_texts(message, data, _Room(LOOKED_AT), 0)


@dataclass(slots=True)
class _Room:
    """How many octets may still be read of all parts together."""

    left: int

    def use(self, part: Part) -> None:
        self.left -= min(part.end - part.start, self.left)


def _html_texts(message: Message, data: bytes, room: _Room, depth: int) -> Iterator[str]:
    pictures = Pictures(message.parts, data)
    found = texts(message, "html")
    each = room.left // (len(found) or 1)
    for part in found:
        yield pictures.without(part.text(data, each), part)
        room.use(part)
    for part in bodies(message, "html"):
        if part.content_type in MESSAGES and depth < MAX_FORWARDED and room.left:
            yield from _html_texts(*signed.read(part.content(data, room.left)), room, depth + 1)
            room.use(part)


def _shown(message: Message, data: bytes, room: _Room, depth: int) -> Iterator[bytes]:
    """The bodies of the message as HTML, those of the messages in it at their places."""
    pictures = Pictures(message.parts, data)
    for number, part in enumerate(bodies(message, "html")):
        if number:
            yield b"<hr>"
        if part.content_type in MESSAGES and depth < MAX_FORWARDED:
            inner, content = signed.read(part.content(data, room.left))
            if next(html_texts(inner, content), None) is not None:
                yield from _harmless(_preformatted("\n".join(head_of(inner))))
                yield from _shown(inner, content, room, depth + 1)
                continue
        if part.content_type == "text/html":
            text = part.text(data, room.left)
        else:
            text = _preformatted(text_of(part, data, room.left, depth))
        room.use(part)
        yield from _with_images(text, part, pictures, data)


def _preformatted(text: str) -> str:
    return f"<pre style='white-space: pre-wrap'>{html.escape(text)}</pre>"


def has_remote(markup: str) -> bool:
    """Whether *markup* asks for something from another host."""
    text = unescape(markup)
    return _REMOTE.search(text) is not None or any(
        _IN_SRCSET.search(srcset[1]) for srcset in _SRCSET.finditer(text)
    )


def links(markup: str, text: str, unsubscribe: str = "") -> list[str]:
    """The addresses that the message links to, each once: web pages, mail, telephones.

    The last are those of its List-Unsubscribe field (RFC 2369).
    """
    in_text = (_without_end(match[0]) for match in _URL_IN_TEXT.finditer(text))
    found: dict[str, None] = {}
    in_field = (match[1] for match in IN_BRACKETS.finditer(unsubscribe))
    for link in chain(_in_markup(markup), in_text, in_field):
        if _LINK_SCHEME.match(link):
            found[link] = None
            if len(found) == MAX_LINKS:
                break
    return list(found)


def relative_links(markup: str) -> Iterator[str]:
    """What *markup* links to without saying where that is: a message is nowhere, unless the HTML
    says otherwise."""
    if re.search(r"<base\b", markup, re.IGNORECASE) is not None:
        return
    for link in _in_markup(markup):
        if not link.startswith("#") and _ANY_SCHEME.match(link) is None:
            yield link


def _in_markup(markup: str) -> Iterator[str]:
    for match in _LINK.finditer(markup):
        link = match[1] or match[2] or match[3]
        if link:  # browsers pass over line ends and tabs in an address
            link = "".join(re.split("[\t\r\n]", unescape(link))).strip()
        if link:
            yield link


def _without_end(link: str) -> str:
    """*link* without what ends the sentence or the parenthesis in which it stands."""
    link = link.rstrip(_ENDS)
    unopened = link.count(")") - link.count("(")
    while unopened > 0 and link.endswith(")"):
        unopened -= 1
        link = link[:-1].rstrip(_ENDS)
    return link


def _with_images(markup: str, part: Part, pictures: Pictures, data: bytes) -> Iterator[bytes]:
    """*markup*, the text of *part*, with the pictures of the message as ``data:`` addresses."""
    made: dict[int, list[bytes]] = {}
    room = MAX_IMAGES
    at = 0
    for place in islice(pictures.places(markup, part), MAX_PLACES):
        picture = place.part
        if picture is None or _size_in_base64(picture) > room:
            continue
        if picture.number not in made:
            beginning = f"data:{pictures.types[picture.number]};base64,".encode()
            made[picture.number] = [beginning, *_to_base64(picture.pieces(data))]
        room -= sum(map(len, made[picture.number]))  # each time: it stands there that often
        yield from _harmless(markup[at : place.start])
        yield from made[picture.number]
        at = place.end
    yield from _harmless(markup[at:])


def _size_in_base64(part: Part) -> int:
    """About how many octets of base64 *part* is, or somewhat less."""
    size = part.end - part.start
    return size if part.encoding == "base64" else size * 4 // 3


def _to_base64(octets: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in octets:
        rest += piece
        whole = len(rest) // 3 * 3
        yield base64.b64encode(rest[:whole])
        rest = rest[whole:]
    yield base64.b64encode(rest)


def _harmless(markup: str) -> Iterator[bytes]:
    markup = _FRAGMENT.sub(r'<\1 target="_self"', _RENAMED.sub("<x-", markup))
    yield markup.encode("utf-8", "replace")
