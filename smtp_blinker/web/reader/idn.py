"""Host names as people write them: "bücher.example" for "xn--bcher-kva.example"."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_A_LABEL = re.compile(r"(?<=[@.])xn--[a-z0-9-]{1,59}(?![a-z0-9-])", re.IGNORECASE)
#: Scripts that are written with each other, by the first word of their characters' names.
_TOGETHER: Final = ({"CJK", "HIRAGANA", "KATAKANA"}, {"CJK", "HANGUL"}, {"CJK", "BOPOMOFO"})
#: Scripts whose letters look like Latin ones: a name of theirs alone may pretend to be another.
_ALIKE: Final = frozenset({"CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC", "LISU"})


def readable(text: str) -> str:
    """*text*, which has addresses, with A-labels as U-labels where that can't mislead.

    A name stays unchanged if IDNA 2008 would not make it of the U-label, if it mixes scripts, or if
    all its letters look like Latin ones.
    """
    if "xn--" not in text.lower():
        return text
    return _A_LABEL.sub(lambda found: _u_label(found[0]), text)


def _u_label(label: str) -> str:
    try:
        encoded = label[4:].lower()
        decoded = encoded.encode().decode("punycode")
        same = decoded.encode("punycode").decode() == encoded
    except Exception:  # it raises various exceptions, depending on the Python version
        return label
    if not same or decoded.isascii() or decoded.startswith("-") or decoded.endswith("-"):
        return label
    if unicodedata.normalize("NFKC", decoded).casefold() != decoded and "ß" not in decoded:
        return label
    kinds = {unicodedata.category(each) for each in decoded if each != "-"}
    if not kinds <= {"Ll", "Lo", "Lm", "Mn", "Mc", "Nd"} or unicodedata.combining(decoded[0]):
        return label
    scripts = {unicodedata.name(each, "?").split()[0] for each in decoded if each.isalpha()}
    if len(scripts) > 1 and not any(scripts <= each for each in _TOGETHER):
        return label
    if scripts <= _ALIKE and not _is_clearly_other(decoded):
        return label
    return decoded


def _is_clearly_other(label: str) -> bool:
    """Whether a letter of *label* looks like none of Latin: no "scope" in Cyrillic."""
    return any(each.isalpha() and each not in _LOOK_LATIN for each in label)


#: Cyrillic and Greek letters that look like a Latin one.
_LOOK_LATIN: Final = frozenset("ӏавеѕіјһкмнорԛстухԝзьгѵαινοτυχκρωγ")
