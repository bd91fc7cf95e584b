"""The search language of the inbox.

Words must all occur; ``"several words"`` together; ``-word`` must not. ``from:``, ``to:``,
``subject:`` and ``text:`` look in one place only. ``is:unread``, ``is:read`` and
``has:attachment`` look at the message. Case makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

#: Characters of a query, and words, that are looked at.
MAX_QUERY: Final = 500
MAX_WORDS: Final = 20

_WORD = re.compile(r'(-?)(?:(from|to|subject|text|is|has):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)
_STATES: Final = frozenset({"unread", "read"})
_ATTACHMENT: Final = "attachment"
_PLACE = re.compile(r"[^\W\d_]+:")


class Searchable(Protocol):
    """What a query needs to know of a message; texts are casefolded."""

    @property
    def unread(self) -> bool: ...
    @property
    def attachments(self) -> int: ...
    @property
    def folded(self) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True)
class _Term:
    place: str
    text: str
    negated: bool

    def __call__(self, message: Searchable) -> bool:
        # What wasn't looked into has no words, and doesn't lack any either.
        if self.place != "is" and not message.folded:
            return False
        return self._found(message) is not self.negated

    def _found(self, message: Searchable) -> bool:
        if self.place == "is" and self.text in _STATES:
            return message.unread is (self.text == "unread")
        if self.place == "has":
            return self.text.startswith(_ATTACHMENT) and message.attachments > 0
        if self.place in message.folded:
            return self.text in message.folded[self.place]
        for text in message.folded.values():  # noqa: SIM110 - any() would take twice as long
            if self.text in text:
                return True
        return False


def compile_query(query: str) -> Callable[[Searchable], bool]:
    """A function that says whether a message matches; everything matches an empty query."""
    terms = [
        _Term(word.place, word.text, word.negated)
        for word in _words(query)[:MAX_WORDS]
        if word.text
    ]
    if len(terms) == 1:
        return terms[0]
    return lambda message: all(term(message) for term in terms)


def problem(query: str) -> str | None:
    """Why *query* can't say which messages are to be changed, or None.

    Every part of it must count, or more messages would match than was meant.
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
        if word.place == "has" and not word.text.startswith(_ATTACHMENT):
            return "has: takes attachment"
        # Found nowhere, so that all messages would lack it.
        if word.negated and not word.quoted and not word.place and _PLACE.match(word.text):
            return "there is no such place to search; other words with a colon need quotation marks"
    return None


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
        for sign, place, quoted, plain in _WORD.findall(query[:MAX_QUERY])
    ]
