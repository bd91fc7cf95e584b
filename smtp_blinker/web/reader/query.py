"""The search language of the inbox.

Words must all occur; ``"several words"`` together; ``-word`` must not. ``from:``, ``to:``, ``cc:``,
``subject:``, ``message-id:`` and ``text:`` look in one place only, ``header:`` in the other fields
of the header, as in ``header:x-campaign`` and ``header:"x-campaign: spring"``. ``is:unread``,
``is:read``, ``has:attachment``, ``larger:10k``, ``smaller:1M``, ``after:2026-11-28`` and
``before:2026-11-29`` look at the message, ``tag:`` at its tags; days are UTC. Case makes no
difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final, NamedTuple

from .entry import BETWEEN, INSTEAD, SEARCHED, Entry

#: Characters of a query, and words, that are looked at.
MAX_QUERY: Final = 500
MAX_WORDS: Final = 20

_PLACES: Final = "from|to|cc|subject|message-id|header|text|is|has|tag|larger|smaller|after|before"
_WORD = re.compile(rf'(-?)(?:({_PLACES}):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)
#: What these compare, and whether it must be more than the number that they take.
_COMPARED: Final = {
    "larger": ("size", True),
    "smaller": ("size", False),
    "after": ("time", True),
    "before": ("time", False),
}
_SIZE = re.compile(r"(\d{1,15})([kmg]?)b?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_ORDER: Final = {place: number for number, place in enumerate(SEARCHED)}
_STATE: Final = "is"
_STATES: Final = frozenset({"unread", "read"})
_ATTACHMENT: Final = "attachment"
_PLACE = re.compile(r"[^\W\d_]+:")


#: Whether a message matches.
Test = Callable[[Entry], bool]


def select(query: str, entries: list[Entry]) -> list[Entry]:
    """Those of *entries* that match; all match an empty query.

    Word by word, and without a call for each entry where texts are looked at: that takes a third of
    the time. What wasn't looked into has no words, and doesn't lack any either.
    """
    for word in _looked_for(query):
        text, place, negated = word.text, word.place, word.negated
        if place in _ORDER:
            at = _ORDER[place]
            entries = [
                each
                for each in entries
                if each.words and (text in each.words.split(BETWEEN, at + 1)[at]) is not negated
            ]
        elif place:
            test = _test(word)
            entries = [each for each in entries if (place == _STATE or each.words) and test(each)]
        elif negated:
            entries = [each for each in entries if each.words and text not in each.words]
        else:
            entries = [each for each in entries if text in each.words]
    return entries


def _looked_for(query: str) -> list[_Word]:
    return [word for word in _words(query)[:MAX_WORDS] if word.text]


def _test(word: _Word) -> Test:
    """Made for one word: a search calls it for each of many messages."""
    place, text, negated = word.place, word.text, word.negated
    if place == _STATE and text in _STATES:
        unread = (text == "unread") is not negated
        return lambda message: message.unread is unread
    if place in _COMPARED:
        return _comparison(*_COMPARED[place], _number(word), negated)
    if place == "has":
        has = text.startswith(_ATTACHMENT)
        return lambda message: (has and message.attachments > 0) is not negated
    if place == "tag":
        return lambda message: (text in message.tags) is not negated
    if place == "header":
        return lambda message: (text in message.header) is not negated
    return lambda message: (text in message.words) is not negated  # "is:" with another state


def _comparison(what: str, more: bool, number: float | None, negated: bool) -> Test:
    if number is None:
        return lambda message: False
    value = attrgetter(what)
    if more is not negated:
        return lambda message: value(message) >= number
    return lambda message: value(message) < number


def problem(query: str) -> str | None:
    """Why a change can't use *query* to choose messages, or None.

    Every part of it must be valid, or the change would affect more messages than its user wants.
    """
    words = _words(query)
    if not words:
        return "the search is empty"
    if len(query) > MAX_QUERY or len(words) > MAX_WORDS:
        return f"the search is longer than {MAX_QUERY} characters or {MAX_WORDS} words"
    for word in words:
        if not word.text or not (word.quoted or word.text.strip("-")):
            return "a word of the search is empty"
        if word.place == "is" and word.text not in _STATES:
            return "is: takes unread or read"
        if word.place in _COMPARED and _number(word) is None:
            takes = "a size as 10k" if _COMPARED[word.place][0] == "size" else "a day as 2026-11-28"
            return f"{word.place}: takes {takes}"
        if word.place == "has" and not word.text.startswith(_ATTACHMENT):
            return "has: takes attachment"
        # Found nowhere, so that all messages would lack it.
        if word.negated and not word.quoted and not word.place and _PLACE.match(word.text):
            return "there is no such place to search; other words with a colon need quotation marks"
    return None


def hint(query: str) -> str | None:
    """What a person who searches may have meant otherwise, or None."""
    if not query.strip():
        return None
    for word in _words(query):
        place = _PLACE.match(word.text)
        if place is not None and not word.place and not word.quoted and place[0] != word.text:
            return f"{place[0][:40]} is not a place to search; it was looked for as text"
    return problem(query)


class _Word(NamedTuple):
    negated: bool
    #: In lower case, "" for all of them.
    place: str
    quoted: bool
    #: Casefolded.
    text: str


def _words(query: str) -> list[_Word]:
    return [
        _Word(bool(sign), place.lower(), not plain, (quoted or plain).casefold())
        for sign, place, quoted, plain in _WORD.findall(query[:MAX_QUERY].replace(BETWEEN, INSTEAD))
    ]


def _number(word: _Word) -> float | None:
    """Octets, or seconds since the epoch, that a word of `_COMPARED` names."""
    if word.place not in _COMPARED:
        return None
    if _COMPARED[word.place][0] == "size":
        found = _SIZE.fullmatch(word.text)
        return None if found is None else int(found[1]) * 1024 ** " kmg".index(found[2] or " ")
    if _DAY.fullmatch(word.text) is None:
        return None
    try:
        return datetime.fromisoformat(word.text).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
