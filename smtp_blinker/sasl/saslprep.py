"""SASLprep (RFC 4013): the canonical form of names and passwords that look the same."""

from __future__ import annotations

import stringprep as tables
from typing import Final
from unicodedata import ucd_3_2_0  # RFC 3454 uses this version of Unicode

#: The longest text in characters, because the work per character is expensive.
MAX_LENGTH: Final = 1024

# RFC 4013 section 2.3
_PROHIBITED: Final = (
    tables.in_table_c12,
    tables.in_table_c21_c22,
    tables.in_table_c3,
    tables.in_table_c4,
    tables.in_table_c5,
    tables.in_table_c6,
    tables.in_table_c7,
    tables.in_table_c8,
    tables.in_table_c9,
)


def saslprep(text: str, *, allow_unassigned: bool = False) -> str:
    """The form of *text* for comparisons.

    *allow_unassigned* is for text that is looked up (RFC 3454 section 7, "query") and not for text
    that is kept ("stored string"). Raises ValueError for a prohibited character, for text that
    mixes directions, and for more than MAX_LENGTH characters. The message never shows *text*.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"more than {MAX_LENGTH} characters")
    if text.isascii():
        if not text.isprintable():
            raise ValueError("a control character")
        return text
    mapped = "".join(
        " " if tables.in_table_c12(char) else char  # RFC 4013 section 2.1
        for char in text
        if not tables.in_table_b1(char)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)  # RFC 4013 section 2.2
    for char in set(prepared):
        if any(is_prohibited(char) for is_prohibited in _PROHIBITED):
            raise ValueError("a character that SASLprep prohibits")
        if not allow_unassigned and tables.in_table_a1(char):
            raise ValueError("a character that Unicode 3.2 doesn't have")
    if any(map(tables.in_table_d1, prepared)):
        # RFC 3454 section 6: text with right-to-left characters begins and ends with them, and has
        # no left-to-right ones.
        ends = tables.in_table_d1(prepared[0]) and tables.in_table_d1(prepared[-1])
        if not ends or any(map(tables.in_table_d2, prepared)):
            raise ValueError("text that mixes directions")
    return prepared
