"""Finds one-time codes in a message, which a person would type in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Characters of text that are looked at, and what may be a code in them; codes that are returned.
LOOKED_AT: Final = 64 * 1024
MOST_LOOKED_AT: Final = 300
MOST: Final = 10

#: Digits, in one piece or in two, or each in a box of its own; digits behind letters that people
#: don't type in (G-482913); or capitals and digits, of both at least one.
_CODE = re.compile(
    r"(?<![\w.,/:#@+$€£%=&?-])(?:"
    r"\d{4,8}|\d{3}[ -]\d{3}|\d{4}[ -]\d{4}"
    r"|(?<!\d\s)\d(?:\s\d){3,7}(?!\s\d)|[A-Z]{1,3}-(?=\d{5,8}\b)\d{5,8}"
    r"|[A-Z0-9]{3,4}-[A-Z0-9]{3,4}"
    r"|(?=[A-Z]{0,9}\d)(?=\d{0,9}[A-Z])[A-Z0-9]{5,10}"
    r")(?![\w/:@%-]|[.,]\d)"
)
#: Words near a code that identify it.
_WORD = re.compile(
    r"\b(?:(?:pass)?codes?|\w{0,20}code|otp|one[- ]time|pin|token|verif\w{0,12}|confirm\w{0,12}"
    r"|password|passwort|bestätigung\w{0,12}|código|codice|mot de passe|код)\b"
    r"|验证码|驗證碼|校验码|認証|確認コード|コード|인증|코드",
    re.IGNORECASE,
)
#: Characters before and after a code in which such a word may stand.
_BEFORE: Final = 80
_AFTER: Final = 50
#: Codes of which only the digits are given.
_IN_DIGITS = re.compile(r"(?:[A-Z]{1,3}-)?\d{4,8}|[\d\s-]+")
_YEAR = re.compile(r"(?:19|20)\d\d")
_ADDRESS = re.compile(r"https?://\S{1,2000}")


def codes(subject: str, text: str) -> list[str]:
    """Possible one-time codes, the likeliest first, without a blank or hyphen between their digits.

    These are codes near a word such as "code"; if there are none, codes that stand alone in a line.
    """
    # Numbers in addresses are not codes; links are in `links`.
    text = _ADDRESS.sub(" ", f"{subject[:1000]}\n{text[:LOOKED_AT]}")
    found = list(_candidates(text))
    likely = [code for code, is_near, _ in found if is_near]
    alone = [code for code, _, is_alone in found if is_alone]
    # A code with both signs is likelier than one with a single sign.
    both = [code for code, is_near, is_alone in found if is_near and is_alone]
    return list(dict.fromkeys(both + likely if likely else alone))[:MOST]


def _candidates(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Each with whether a word that says so is near, and whether it is all of its line."""
    for number, match in enumerate(_CODE.finditer(text)):
        if number == MOST_LOOKED_AT:
            return
        start, end = match.span()
        before = text[max(0, start - _BEFORE) : start]
        after = text[end : end + _AFTER]
        is_alone = not before.rpartition("\n")[2].strip() and not after.partition("\n")[0].strip()
        is_near = _WORD.search(before) is not None or _WORD.search(after) is not None
        if _YEAR.fullmatch(match[0]) and not is_alone:
            continue
        code = match[0]
        bare = re.sub(r"\s|(?:^[A-Z]{1,3})?-", "", code) if _IN_DIGITS.fullmatch(code) else code
        yield bare, is_near, is_alone
