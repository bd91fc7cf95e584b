"""Converts domain names between U-labels and A-labels (RFC 5890 section 2.3.2.1).

Nothing here raises. It converts labels up to 63 octets and domains up to 255 octets.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Final

MAX_LABEL: Final = 63  # octets; RFC 1035 section 2.3.4
MAX_DOMAIN: Final = 255  # octets; RFC 5321 section 4.5.3.1.2

_ACE_PREFIX: Final = "xn--"

# RFC 5892: exceptions and context-dependent characters (section 2.6), and sections 2.3 D to H,
# which the Unicode categories alone don't cover.
_ALSO_VALID: Final = frozenset("\u00df\u03c2\u06fd\u06fe\u0f0b\u3007")
_DISALLOWED: Final = re.compile(
    "[\u0640\u07fa\u302e\u302f\u3031-\u3035\u303b"
    "\u034f\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef"  # ignorable
    "\u20d0-\u20ff\U0001d100-\U0001d24f"  # signs of music and the like
    "\u1100-\u11ff\ua960-\ua97c\ud7b0-\ud7fb]"  # parts of Hangul syllables
)
_LETTERS_AND_DIGITS: Final = frozenset({"Ll", "Lu", "Lo", "Lm", "Mn", "Mc", "Nd"})
_ARABIC_DIGITS: Final = re.compile("[\u0660-\u0669]")
_EXTENDED_ARABIC_DIGITS: Final = re.compile("[\u06f0-\u06f9]")
_KANA_OR_HAN: Final = ("HIRAGANA ", "KATAKANA ", "CJK ", "IDEOGRAPHIC ")
_VIRAMA: Final = 9  # a canonical combining class

# RFC 5893 section 2, condition 2.
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN", "EN", "ES", "CS", "ET", "ON", "BN", "NSM"})


def unicode_domain(domain: str) -> str:
    """*domain* with its A-labels as U-labels; labels that aren't valid A-labels stay unchanged.

    A valid A-label decodes to a U-label (RFC 5890 section 2.3.2.1). A label that decodes to text
    that IDNA 2008 doesn't allow, such as a capital, would become another domain when encoded again.
    """
    if len(domain) > MAX_DOMAIN or _ACE_PREFIX not in domain.lower():
        return domain
    return ".".join(_unicode_label(label) for label in domain.split("."))


def ascii_domain(domain: str) -> str:
    """*domain* with its U-labels as A-labels; a domain in ASCII stays unchanged.

    The A-labels are those of IDNA 2008. Python's codec "idna" implements IDNA 2003, which turns a
    German sharp s into two letters, and so into another name. Capitals and full-width letters are
    mapped as in RFC 5895 section 2. Too long domains and labels stay unchanged, because the time to
    encode a label grows with the square of its length.
    """
    if domain.isascii() or len(domain) > MAX_DOMAIN:
        return domain
    domain = unicodedata.normalize("NFKC", domain.lower()).replace("\u3002", ".")
    return ".".join(
        label
        if label.isascii() or len(label) > MAX_LABEL
        else _ACE_PREFIX + label.encode("punycode").decode("ascii")
        for label in domain.split(".")
    )


def hides_syntax(domain: str) -> bool:
    """Whether IDNA's mappings would turn other characters of *domain* into ASCII punctuation.

    UTS 46 and Python's own codec turn U+3002 into a dot, U+2488 into "1." and U+FF20 into "@". A
    program that looks up such a name would use another domain than the one that was checked. No
    U-label contains them (RFC 5890 section 2.3.2.1). Characters are normalized one at a time, so
    the time is proportional to the length.
    """
    if domain.isascii():
        return False
    return any(
        one == "\u3002" or (one.isascii() and not one.isalnum())
        for char in domain
        if not char.isascii()
        for one in unicodedata.normalize("NFKC", char)
    )


def _unicode_label(label: str) -> str:
    encoded = label.lower()
    if not encoded.startswith(_ACE_PREFIX) or len(label) > MAX_LABEL or not label.isascii():
        return label
    encoded = encoded[len(_ACE_PREFIX) :]
    try:
        decoded = encoded.encode("ascii").decode("punycode")
        if decoded.encode("punycode").decode("ascii") != encoded:
            return label
    except (UnicodeError, OverflowError):  # CPython 3.13's decoder overflows on wild input
        return label
    return decoded if not decoded.isascii() and _is_u_label(decoded) else label


def _is_u_label(label: str) -> bool:
    """Whether IDNA 2008 allows *label*, which isn't empty (RFC 5891 section 4.2)."""
    return (
        unicodedata.is_normalized("NFC", label)  # section 4.2.1
        and label[0] != "-"  # section 4.2.3.1, and the two below
        and label[-1] != "-"
        and label[2:4] != "--"
        and unicodedata.category(label[0])[0] != "M"  # section 4.2.3.2
        and all(
            _is_valid(char) or _is_valid_in_context(label, index)
            for index, char in enumerate(label)
        )
        and _obeys_bidi_rule(label)  # section 4.2.3.4
    )


def _is_valid(char: str) -> bool:
    """Whether *char* is PVALID (RFC 5892 section 3), by the Unicode of this Python."""
    if char in _ALSO_VALID:
        return True
    if char.isascii():
        return char == "-" or char.isdigit() or char.islower()
    if unicodedata.category(char) not in _LETTERS_AND_DIGITS or _DISALLOWED.match(char):
        return False
    if _is_digit_with_context(char):
        return False
    # Section 2.2: a character that is mapped to another one isn't allowed.
    return _normal(_normal(char).casefold()) == char


def _normal(char: str) -> str:
    return unicodedata.normalize("NFKC", char)


def _is_digit_with_context(char: str) -> bool:
    return bool(_ARABIC_DIGITS.match(char) or _EXTENDED_ARABIC_DIGITS.match(char))


def _is_valid_in_context(label: str, index: int) -> bool:
    """Whether the rules of RFC 5892 appendix A allow the character at *index* there.

    False if a rule needs a property that Python doesn't have. The label then stays an A-label,
    which is always correct.
    """
    char = label[index]
    before, after = label[index - 1 : index], label[index + 1 : index + 2]
    if char in "\u200c\u200d" and before and unicodedata.combining(before) == _VIRAMA:
        return True  # A.1 and A.2
    if char == "\u200c":
        return _joins(label[:index], label[index + 1 :])  # A.1
    if char == "\u00b7":
        return before == after == "l"  # A.3: as in Catalan
    if char == "\u0375":
        return _script_begins(after, "GREEK")  # A.4
    if char in "\u05f3\u05f4":
        return _script_begins(before, "HEBREW")  # A.5 and A.6
    if char == "\u30fb":
        return any(_script_begins(one, *_KANA_OR_HAN) for one in label if one != char)  # A.7
    if _ARABIC_DIGITS.match(char):
        return not _EXTENDED_ARABIC_DIGITS.search(label)  # A.8
    if _EXTENDED_ARABIC_DIGITS.match(char):
        return not _ARABIC_DIGITS.search(label)  # A.9
    return False


def _script_begins(char: str, *names: str) -> bool:
    """Whether the Unicode name of *char* begins with one of *names*; False for ""."""
    return bool(char) and unicodedata.name(char, "").startswith(names)


def _joins(before: str, after: str) -> bool:
    """Whether letters at the end of *before* and the beginning of *after* would join."""
    while before and unicodedata.category(before[-1]) == "Mn":
        before = before[:-1]
    while after and unicodedata.category(after[0]) == "Mn":
        after = after[1:]
    return _forms(before[-1:], "<initial>") and _forms(after[:1], "<final>")


def _forms(letter: str, form: str) -> bool:
    return letter in _arabic_letters(form)


@cache
def _arabic_letters(form: str) -> frozenset[str]:
    """The letters that have a presentation form of that kind."""
    found = set()
    for number in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFF00)):
        kind, _, letter = unicodedata.decomposition(chr(number)).partition(" ")
        if kind == form and len(letter) == 4:
            found.add(chr(int(letter, 16)))
    return frozenset(found)


def _obeys_bidi_rule(label: str) -> bool:
    """RFC 5893 section 2: the rule for labels with right-to-left letters or numbers."""
    classes = [unicodedata.bidirectional(char) for char in label]
    if not {"R", "AL", "AN"}.intersection(classes):
        return True
    end = next((one for one in reversed(classes) if one != "NSM"), "")
    return (
        classes[0] in {"R", "AL"}
        and _RIGHT_TO_LEFT.issuperset(classes)
        and end in {"R", "AL", "EN", "AN"}
        and not {"EN", "AN"}.issubset(classes)
    )
