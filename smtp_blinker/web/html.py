"""Show a message's HTML without letting it do anything.

The HTML is served as a document of its own, into a frame. What keeps it in there is the
browser: the sandbox gives it an origin that is nobody's and no scripts, forms or downloads,
and the content security policy lets it load nothing but the images that it carries. Nothing is
filtered out of the HTML for safety's sake, since filters can be fooled; what is rewritten here
is what a policy has no say in.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import unescape
from typing import Final

from .mime import Message, Part

#: Octets of HTML that are shown, and of its images after base64, all together.
MAX_HTML: Final = 2 * 2**20
MAX_IMAGES: Final = 20 * 2**20
MAX_LINKS: Final = 200

#: What an <img> may show. A script in an SVG doesn't run there.
IMAGE_TYPES: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/svg+xml"}
)

# A <link> may make the browser connect to a host ahead of use, which no policy forbids; <base>
# and <meta> would contradict ours. An unknown element in their place does nothing, and since
# nothing is removed, nothing new can grow together from what is left.
_RENAMED = re.compile(r"<(?=(?:link|meta|base)\b)", re.IGNORECASE)
#: A picture by its Content-ID.
CID: Final = re.compile(r"cid:([^\s\"'<>()]{1,300})", re.IGNORECASE)
# With `\s*` on both sides of what may be missing, a run of spaces would be tried in all ways.
_REMOTE = re.compile(
    r"(?:\b(?:src|srcset|background|poster)\s{0,9}=\s{0,9}[\"']?|\burl\(\s{0,9}[\"']?)"
    r"\s{0,9}(?:https?:)?//",
    re.IGNORECASE,
)
_LINK = re.compile(r"\bhref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'<>]+))", re.IGNORECASE)
_LINK_SCHEME = re.compile(r"(?:https?://|mailto:|tel:)", re.IGNORECASE)
_URL_IN_TEXT = re.compile(r"https?://[^\s<>\"']{1,2000}")


def policy(*, remote_images: bool = False) -> str:
    """The Content-Security-Policy of a message's HTML."""
    images = "data: http: https:" if remote_images else "data:"
    return (
        # A link that the reader clicks opens in a tab of its own, which is out of the sandbox.
        "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; "
        f"img-src {images}; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'self'"
    )


def document(message: Message, data: bytes) -> str | None:
    """The message's HTML for its frame, with its own images in it; None if it has none."""
    parts = message.texts("html")
    if not parts:
        return None
    html = _RENAMED.sub("<x-", parts[0].text(data, MAX_HTML))
    html = _with_images(html, message.parts, data)
    # Links leave the frame; in it they would be refused.
    return f'<!doctype html><base target="_blank">{html}'


def has_remote(html: str) -> bool:
    """Whether *html* asks for something from another host."""
    return _REMOTE.search(html) is not None


def links(html: str, text: str) -> list[str]:
    """The addresses that the message links to, each once: web pages, mail, telephones."""
    candidates: Iterable[str] = (
        *(unescape(next(filter(None, found), "")).strip() for found in _LINK.findall(html)),
        *(found.rstrip(".,;:!?)]}") for found in _URL_IN_TEXT.findall(text)),
    )
    found = dict.fromkeys(link for link in candidates if _LINK_SCHEME.match(link))
    return list(found)[:MAX_LINKS]


def _with_images(html: str, parts: Iterable[Part], data: bytes) -> str:
    """*html* with the images that it names by Content-ID as ``data:`` addresses."""
    images = {
        part.content_id: part
        for part in parts
        if part.content_id is not None and part.content_type in IMAGE_TYPES
    }
    made: dict[str, str] = {}
    room = MAX_IMAGES

    def address(match: re.Match[str]) -> str:
        nonlocal room
        name = unescape(match[1])
        part = images.get(name)
        if part is None:
            return match[0]
        if name not in made:
            encoded = base64.b64encode(part.content(data)).decode()
            made[name] = f"data:{part.content_type};base64,{encoded}"
        room -= len(made[name])  # each time: it stands in the HTML that often
        return made[name] if room >= 0 else match[0]

    return CID.sub(address, html)
