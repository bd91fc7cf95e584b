"""What is wrong with a message, for people who test the program that wrote it.

It finds what a standard forbids, and what is known to cause problems for readers. A message without
findings may still have faults.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Final

from . import charsets, markup
from .bodies import texts
from .markup_text import LOOKED_AT as LOOKED_AT_IN_HTML
from .mime import Message
from .pictures import Pictures

#: The most findings about one message.
MAX_TOLD: Final = 50
#: Octets of HTML after which Gmail shows the rest on demand only.
CLIPPED: Final = 102 * 1024
#: The largest difference in seconds between Date and the arrival.
CLOCKS: Final = 86400.0
#: The most octets of text to check, of all parts together.
LOOKED_AT: Final = 2**20
#: Characters of a line, without its end (RFC 5322 section 2.1.1).
MAX_LINE: Final = 998
#: Characters of a Date field; one with a comment has some 50.
MAX_DATE: Final = 200
#: The most pictures and relative links to check.
MAX_PICTURES: Final = 1000
MAX_LINKS: Final = 1000

# RFC 5322 section 3.6
_ONCE: Final = frozenset(
    {
        "bcc",
        "cc",
        "date",
        "from",
        "in-reply-to",
        "message-id",
        "references",
        "reply-to",
        "sender",
        "subject",
        "to",
    }
)
_PLACEHOLDER = re.compile(r"\{\{[^{}\n]{0,80}\}\}|\{%[^{}\n]{0,80}%\}|<%=[^<>\n]{0,80}%>")
_LOCAL_LINK = re.compile(
    r"https?://(?:localhost|127\.\d+\.\d+\.\d+|0\.0\.0\.0|\[::1\])(?![\w.-])", re.IGNORECASE
)
_USELESS = re.compile(r"<(script|form|iframe|object|embed|video|audio)\b", re.IGNORECASE)
_STYLESHEET = re.compile(r"<link\b[^<>]{0,500}\bstylesheet\b", re.IGNORECASE)
_IMAGE = re.compile(r"<img\b([^<>]{0,5000})>", re.IGNORECASE)
_ALT = re.compile(r"\balt\b", re.IGNORECASE)


def check(message: Message, data: bytes, arrived: float, links: list[str]) -> list[str]:
    """The findings as sentences. *arrived* is in seconds since the epoch. Raises nothing."""
    found = [
        *_header(message, arrived),
        *_unsubscribing(message),
        *_octets(message, data),
        *_texts(message, data),
        *_html(message, data),
        *(
            f"A link leads to the reader's own machine: {link[:200]}"
            for link in links
            if _LOCAL_LINK.match(link)
        ),
    ]
    return list(dict.fromkeys(found))[:MAX_TOLD]


def _header(message: Message, arrived: float) -> Iterator[str]:
    count = Counter(each.name.lower() for each in message.fields)
    for name in ("From", "Date", "Message-ID"):
        if not count[name.lower()]:
            yield f"There is no {name} field."
    if not message.first("subject"):
        yield "The subject is empty."
    for name in sorted(_ONCE):
        if count[name] > 1:
            yield f"There are {count[name]} {name.title()} fields; there may be one."
    if count["bcc"]:
        yield "The Bcc field was sent along: every recipient can read it."
    if count["date"]:
        try:
            date = parsedate_to_datetime(message.first("date")[:MAX_DATE]).timestamp()
        except Exception:  # hostile dates raise various exceptions
            yield "The Date can't be read."
        else:
            if abs(date - arrived) > CLOCKS:
                yield "The Date is more than a day from the arrival."
    if (found := _PLACEHOLDER.search(message.first("subject"))) is not None:
        yield f"A placeholder wasn't filled in: {found[0]}"


def _unsubscribing(message: Message) -> Iterator[str]:
    """RFC 2369 and RFC 8058: what mail programs make a button of."""
    field = message.first("list-unsubscribe")
    addresses = [match[1].lower() for match in markup.IN_BRACKETS.finditer(field)]
    if field and not addresses:
        yield "List-Unsubscribe has no address in angle brackets."
    post = message.first("list-unsubscribe-post")
    if not post:
        return
    if post.replace(" ", "") != "List-Unsubscribe=One-Click":
        yield "List-Unsubscribe-Post must be List-Unsubscribe=One-Click."
    if not any(address.startswith("https://") for address in addresses):
        yield "List-Unsubscribe-Post needs an https address in List-Unsubscribe."


def _octets(message: Message, data: bytes) -> Iterator[str]:
    hop = message.trace.received
    # RFC 6531: with SMTPUTF8 header fields may be in UTF-8.
    if hop is None or not hop.protocol.startswith("UTF8"):
        for name in dict.fromkeys(each.name for each in message.fields if not each.value.isascii()):
            yield f"The field {name} isn't ASCII; it needs encoded words (RFC 2047) or SMTPUTF8."
    if has_long_line(data):
        yield "A line is longer than 998 octets; some servers cut it or refuse the message."
    declared = message.first("content-type").lower()
    if declared.startswith("multipart/") and not message.parts[0].is_multipart:
        yield "It says that it is a multipart, but its boundary doesn't occur."


def has_long_line(data: bytes) -> bool:
    """Whether a line is longer than `MAX_LINE` octets.

    From the start of a line it jumps past the last line end within `MAX_LINE` octets, so it looks
    at no octet more than twice.
    """
    at = 0
    while len(data) - at > MAX_LINE:
        reach = at + MAX_LINE + 1
        end = max(data.rfind(b"\n", at, reach), data.rfind(b"\r", at, reach))
        if end < 0:
            return True
        at = end + 1
    return False


def _texts(message: Message, data: bytes) -> Iterator[str]:
    plain, html = texts(message, "plain"), texts(message, "html")
    if html and not plain:
        yield "There is HTML but no text beside it."
    elif html and not any(part.text(data, LOOKED_AT).strip() for part in plain):
        yield "The text beside the HTML is empty."
    room = LOOKED_AT
    for part in plain + html:
        if room <= 0:
            break
        content = part.content(data, room)
        what = f"The {part.content_type} part"
        if part.charset is None:
            if not content.isascii():
                yield f"{what} isn't ASCII, and names no charset."
        elif part.end - part.start <= room:  # what is cut may be cut in a character
            problem = charsets.problem(content, part.charset)
            if problem is not None:
                yield f"{what}: {problem}"
        found = _PLACEHOLDER.search(charsets.decode(content, part.charset))
        if found is not None:
            yield f"A placeholder wasn't filled in: {found[0]}"
        room -= part.end - part.start


def _html(message: Message, data: bytes) -> Iterator[str]:
    ids = {part.content_id for part in message.parts}
    pictures = Pictures(message.parts, data)
    for part in texts(message, "html")[:1]:
        text = part.text(data, LOOKED_AT_IN_HTML)
        if len(text.encode("utf-8", "replace")) > CLIPPED:
            yield "The HTML is larger than 102 KiB; Gmail cuts off the rest."
        names = (place.content_id for place in pictures.places(text, part))
        for name in dict.fromkeys(islice(names, MAX_PICTURES)):
            if name and name not in ids:
                yield f"The HTML shows cid:{name[:100]}, which no part has."
        for link in dict.fromkeys(islice(markup.relative_links(text), MAX_LINKS)):
            yield f"A link says no host, so that it leads nowhere: {link[:200]}"
        useless = (found[1].lower() for found in _USELESS.finditer(text))
        for name in dict.fromkeys(useless):
            yield f"Mail programs don't show <{name}>, or not all of them."
        if _STYLESHEET.search(text) is not None:
            yield "Mail programs don't load style sheets; put the style into the HTML."
        images = islice(_IMAGE.finditer(text), MAX_PICTURES)
        bare = sum(_ALT.search(image[1]) is None for image in images)
        if bare:
            yield f"Pictures without an alt text: {bare}."
