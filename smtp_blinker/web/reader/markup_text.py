"""Extracts the text of HTML."""

from __future__ import annotations

import html
import re
from typing import Final

#: Characters of HTML in which text, links, pictures and mistakes are looked for.
LOOKED_AT: Final = 512 * 1024

_UNSEEN_NAMES: Final = ("style", "script", "head", "title", "template")
_UNSEEN = re.compile(rf"<(?:({'|'.join(_UNSEEN_NAMES)})\b|!--)", re.IGNORECASE | re.ASCII)
_CLOSING: Final = {"": re.compile("--!?>")} | {
    name: re.compile(rf"</{name}\b[^<>]{{0,1000}}>", re.IGNORECASE) for name in _UNSEEN_NAMES
}
# The rest of a tag. `[^<>]`, not `[^>]`: a run of "<" must not be searched to its end from each of
# them. The quoted values of attributes may have a ">"; if one isn't closed, the first ends the tag.
_REST: Final = r"(?:(?:[^<>=]++|=\s*+(?:\"[^\"<]*+\"|'[^'<]*+')?+)*+>|[^<>]*>)"
_BREAK = re.compile(rf"<(?:br|/p|/div|/tr|/li|/h[1-6]|/table)\b{_REST}", re.IGNORECASE)
_TAG = re.compile(rf"</?[A-Za-z!?]{_REST}")
# They are within a word, too.
_IN_LINES: Final = (
    *(
        "a",
        "abbr",
        "b",
        "bdi",
        "bdo",
        "big",
        "cite",
        "code",
        "del",
        "em",
        "font",
        "i",
        "ins",
        "kbd",
    ),
    *("mark", "s", "small", "span", "strong", "sub", "sup", "tt", "u", "wbr"),
)
_TAG_IN_LINE = re.compile(rf"</?(?:{'|'.join(_IN_LINES)})(?=[\s/>]){_REST}", re.IGNORECASE)
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n\s*")
_LONG_NUMBER = re.compile(r"&#(?:[xX][0-9a-fA-F]{8,}|[0-9]{8,});?")


def unescape(text: str) -> str:
    """`html.unescape` for numbers of any length, which Python refuses to read."""
    return html.unescape(_LONG_NUMBER.sub(_shorten, text))


def _shorten(reference: re.Match[str]) -> str:
    digits = reference[0].removesuffix(";").lstrip("&#xX0")
    if len(digits) > 7:
        return "\ufffd"  # no character has such a number
    return f"&#{'x' if reference[0][2] in 'xX' else ''}{digits or '0'};"


def html_text(markup: str) -> str:
    """The approximate text of *markup*; the time is linear in its length."""
    seen: list[str] = []
    at = 0
    while (found := _UNSEEN.search(markup, at)) is not None:
        seen.append(markup[at : found.start()])
        # The hyphens that open a comment may close it, too: "<!-->" (HTML section 13.2.5.43).
        start = found.end() if found[1] else found.start() + 2
        end = _CLOSING[(found[1] or "").lower()].search(markup, start)
        at = end.end() if end is not None else len(markup)
    seen.append(markup[at:])
    return _text("".join(seen)).strip()


def _text(markup: str) -> str:
    text = _BREAK.sub("\n", markup.replace("\n", " "))
    text = _TAG.sub(" ", _TAG_IN_LINE.sub("", text))
    return _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", unescape(text)))
