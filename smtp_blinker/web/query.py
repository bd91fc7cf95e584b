"""The search language of the inbox.

Words must all occur; ``"several words"`` together; ``-word`` must not. ``from:``, ``to:``,
``subject:`` and ``text:`` look in one place only. ``is:unread``, ``is:read`` and
``has:attachment`` look at the message. Case makes no difference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

#: Characters of a query, and words, that are looked at.
MAX_QUERY: Final = 500
MAX_WORDS: Final = 20

_WORD = re.compile(r'(-?)(?:(from|to|subject|text|is|has):)?(?:"([^"]*)"?|(\S+))', re.IGNORECASE)


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
        return self._found(message) is not self.negated

    def _found(self, message: Searchable) -> bool:
        if self.place == "is" and self.text in {"unread", "read"}:
            return message.unread is (self.text == "unread")
        if self.place == "has":
            return self.text.startswith("attachment") and message.attachments > 0
        if self.place in message.folded:
            return self.text in message.folded[self.place]
        return any(self.text in text for text in message.folded.values())


def compile_query(query: str) -> Callable[[Searchable], bool]:
    """A function that says whether a message matches; everything matches an empty query."""
    terms = []
    for sign, place, quoted, plain in _WORD.findall(query[:MAX_QUERY])[:MAX_WORDS]:
        text = (quoted or plain).casefold()
        if text:
            terms.append(_Term(place.lower(), text, bool(sign)))
    return lambda message: all(term(message) for term in terms)
