"""The text of text/enriched (RFC 1896), and of text/richtext (RFC 1341 section 7.1.3)."""

from __future__ import annotations

import re
from typing import Final

TYPES: Final = frozenset({"text/enriched", "text/richtext"})

_TOKEN = re.compile(r"</?[A-Za-z0-9-]{1,60}>|\n+|<<")
#: Commands of text/richtext that stand for characters.
_CHARACTERS: Final = {"<lt>": "<", "<nl>": "\n", "<np>": "\n\n"}
#: What stands between these is for programs.
_NOT_SHOWN: Final = frozenset({"param", "comment"})


def plain(text: str, content_type: str) -> str:
    """*text* of that type without its formatting commands; linear in its length."""
    found: list[str] = []
    hidden = filled = 0
    at = 0
    is_rich = content_type == "text/richtext"
    for token in _TOKEN.finditer(text):
        if not hidden:
            found.append(text[at : token.start()])
        at = token.end()
        written = token[0]
        if written.startswith("\n"):
            shown = written if filled else _lines(len(written), is_rich)
        elif written == "<<":
            shown = "<<" if is_rich else "<"  # text/richtext writes <lt>
        else:
            name = written.strip("</>").lower()
            step = -1 if written.startswith("</") else 1
            if name in _NOT_SHOWN:
                hidden = max(0, hidden + step)
            elif name == "nofill":
                filled = max(0, filled + step)
            shown = _CHARACTERS.get(written.lower(), "") if is_rich else ""
        if not hidden:
            found.append(shown)
    if not hidden:
        found.append(text[at:])
    return "".join(found)


def _lines(number: int, is_rich: bool) -> str:
    """What that many line ends in a row stand for."""
    return " " if number == 1 or is_rich else "\n" * (number - 1)
