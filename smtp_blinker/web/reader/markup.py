"""Show a message's HTML without letting it do anything.

The HTML is served as a document of its own, into a frame. What keeps it in there is the
browser: the sandbox gives it an origin that is nobody's and no scripts, forms or downloads,
and the content security policy lets it load nothing but the images that it carries. Nothing is
filtered out of the HTML for safety's sake, since filters can be fooled; what is rewritten here
is what a policy has no say in.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from . import transfer
from .mime import Message, Part

#: Octets of HTML that are shown, and of its images after base64, all together.
MAX_HTML: Final = 2 * 2**20
MAX_IMAGES: Final = 20 * 2**20
#: Characters of HTML in which links, pictures and mistakes are looked for.
LOOKED_AT: Final = 512 * 1024
#: Links that are listed, and places where a picture is put in.
MAX_LINKS: Final = 200
MAX_PLACES: Final = 1000

#: What an <img> may show. A script in an SVG doesn't run there.
IMAGE_TYPES: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/svg+xml"}
)

# A <link> may make the browser connect to a host ahead of use, which no policy forbids; <base>
# and <meta> would contradict ours. An unknown element in their place does nothing, and since
# nothing is removed, nothing new can grow together from what is left.
_RENAMED = re.compile(r"<(?=(?:link|meta|base)\b)", re.IGNORECASE)
# A picture by its Content-ID.
_CID = re.compile(r"cid:([^\s\"'<>()]{1,300})", re.IGNORECASE)
# With `\s*` on both sides of what may be missing, a run of spaces would be tried in all ways.
_REMOTE = re.compile(
    r"(?:\b(?:src|srcset|background|poster)\s{0,9}=\s{0,9}[\"']?|\burl\(\s{0,9}[\"']?)"
    r"\s{0,9}(?:https?:)?//",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"\bhref\s{0,9}=\s{0,9}(?:\"([^\"]{0,2000})\"|'([^']{0,2000})'|([^\s\"'<>]{1,2000}))",
    re.IGNORECASE,
)
_LINK_SCHEME = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_URL_IN_TEXT = re.compile(r"https?://[^\s<>\"']{1,2000}")

_UNSEEN_NAMES: Final = ("style", "script", "head", "title", "template")
_UNSEEN = re.compile(rf"<(?:({'|'.join(_UNSEEN_NAMES)})\b|!--)", re.IGNORECASE | re.ASCII)
_CLOSING: Final = {"": re.compile("-->")} | {
    name: re.compile(rf"</{name}\b[^<>]{{0,1000}}>", re.IGNORECASE) for name in _UNSEEN_NAMES
}
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/li|/h[1-6]|/table)\b[^<>]*>", re.IGNORECASE)
# `[^<>]`, not `[^>]`: a run of "<" must not be searched to its end from each of them.
_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n\s*")
_LONG_NUMBER = re.compile(r"&#(?:[xX][0-9a-fA-F]{8,}|[0-9]{8,});?")


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
    """The message's HTML for its frame, with its own images in it; nothing if it has none.

    UTF-8, in pieces.
    """
    parts = message.texts("html")
    if not parts:
        return []
    # Links leave the frame; in it they would be refused.
    beginning = b'<!doctype html><base target="_blank">'
    return [beginning, *_with_images(parts[0].text(data, MAX_HTML), message.parts, data)]


def has_remote(markup: str) -> bool:
    """Whether *markup* asks for something from another host."""
    return _REMOTE.search(markup) is not None


def links(markup: str, text: str) -> list[str]:
    """The addresses that the message links to, each once: web pages, mail, telephones."""
    in_markup = (
        unescape(match[1] or match[2] or match[3] or "").strip() for match in _LINK.finditer(markup)
    )
    in_text = (match[0].rstrip(".,;:!?)]}") for match in _URL_IN_TEXT.finditer(text))
    found: dict[str, None] = {}
    for link in chain(in_markup, in_text):
        if _LINK_SCHEME.match(link):
            found[link] = None
            if len(found) == MAX_LINKS:
                break
    return list(found)


def content_ids(markup: str) -> Iterator[re.Match[str]]:
    """The places where *markup* shows a picture by its Content-ID, which is the first group."""
    return _CID.finditer(markup)


def _with_images(markup: str, parts: Iterable[Part], data: bytes) -> Iterator[bytes]:
    """*markup* with the images that it names by Content-ID as ``data:`` addresses."""
    images = {
        part.content_id: part
        for part in parts
        if part.content_id is not None and part.content_type in IMAGE_TYPES
    }
    made: dict[str, list[bytes]] = {}
    room = MAX_IMAGES
    at = 0
    for match in islice(content_ids(markup), MAX_PLACES):
        name = unescape(match[1])
        part = images.get(name)
        if part is None or _size_in_base64(part) > room:
            continue
        if name not in made:
            octets = transfer.decode(transfer.cut(data, part.start, part.end), part.encoding)
            beginning = f"data:{part.content_type};base64,".encode()
            made[name] = [beginning, *_to_base64(octets)]
        room -= sum(map(len, made[name]))  # each time: it stands in the HTML that often
        yield from _harmless(markup[at : match.start()])
        yield from made[name]
        at = match.end()
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
    yield _RENAMED.sub("<x-", markup).encode("utf-8", "replace")


def unescape(text: str) -> str:
    """`html.unescape` for numbers of any length, which Python refuses to read."""
    return html.unescape(_LONG_NUMBER.sub(_shorten, text))


def _shorten(reference: re.Match[str]) -> str:
    digits = reference[0].removesuffix(";").lstrip("&#xX0")
    if len(digits) > 7:
        return "\ufffd"  # no character has such a number
    return f"&#{'x' if reference[0][2] in 'xX' else ''}{digits or '0'};"


def html_text(markup: str) -> str:
    """What a person would read of *markup*, roughly; linear in its length."""
    seen: list[str] = []
    at = 0
    while (found := _UNSEEN.search(markup, at)) is not None:
        seen.append(markup[at : found.start()])
        end = _CLOSING[(found[1] or "").lower()].search(markup, found.end())
        at = end.end() if end is not None else len(markup)
    seen.append(markup[at:])
    return _text("".join(seen)).strip()


def _text(markup: str) -> str:
    text = _TAG.sub(" ", _BREAK.sub("\n", markup.replace("\n", " ")))
    return _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", unescape(text)))
