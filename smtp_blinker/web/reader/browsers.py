"""Where browsers and Python's codecs read a charset differently (WHATWG Encoding, section 4).

Two differences remain: about 190 rare characters of Big5 (HKSCS-2008), and charsets that browsers
refuse for the safety of their scripts (ISO-2022-KR, HZ).
"""

from __future__ import annotations

import codecs
from importlib import import_module
from typing import Final

#: The name of the handler for octets that these codecs don't know.
ERRORS: Final = "smtp_blinker.browsers"
WITH_ERRORS: Final = frozenset({"euc_jp", "gb18030", "iso2022_jp_ext"})

# Characters that are read as others.
_CP932: Final = dict.fromkeys(range(63728, 63732), "�")
# JIS X 0208 as windows-31j has it.
_JIS: Final = dict(zip(map(ord, "〜‖−¢£¬"), "～∥－￠￡￢", strict=True))  # noqa: RUF001
_BIG5: Final = dict(zip(map(ord, "•､‾∼♁☉＼¥¢£"), "‧﹑¯～⊕⊙﹨￥￠￡", strict=True))  # noqa: RUF001
# GB 18030 of 2005 as that of 2022.
_GB18030: Final = {0xE5E5: "\u3000", 0xE7C7: "ḿ"} | dict(
    zip(
        (*range(0xE78D, 0xE797), *(0xE81E, 0xE826, 0xE82B, 0xE82C, 0xE832, 0xE843, 0xE854, 0xE864)),
        "︐︒︑︓︔︕︖︗︘︙龴龵龶龷龸龹龺龻",
        strict=True,
    )
)
CHARACTERS: Final[dict[str, dict[int, str]]] = {
    "big5hkscs": _BIG5,
    "cp932": _CP932,
    "euc_jp": _JIS,
    "gb18030": _GB18030,
    "iso2022_jp_ext": _JIS,
}
# Octets that are read as others.
_OCTETS: Final = {"cp1255": {0xCA: "\u05ba"}, "koi8_u": {0xAE: "ў", 0xBE: "Ў"}}


def table(codec: str) -> str | None:
    """The characters of the 256 octets, where each octet is one; U+FFFD for none."""
    if codec == USER_DEFINED:
        return "".join(chr(octet if octet < 0x80 else 0xF700 + octet) for octet in range(256))
    found: str | None = getattr(import_module(f"encodings.{codec}"), "decoding_table", None)
    if found is None:
        return None
    characters = list(found)
    if codec.startswith("cp125") or codec == "cp874":
        for octet in range(0x80, 0xA0):
            if characters[octet] == "\ufffe":
                characters[octet] = chr(octet)
    for octet, character in _OCTETS.get(codec, {}).items():
        characters[octet] = character
    return "".join(characters).replace("\ufffe", "\ufffd")


#: Octets as characters that no font has, which no codec of Python's is.
USER_DEFINED: Final = "x_user_defined"


def _unknown(exc: UnicodeError) -> tuple[str, int]:
    """What browsers read where Python's codec knows nothing."""
    assert isinstance(exc, UnicodeDecodeError)
    if exc.encoding == "gb18030":
        if exc.object[exc.start] == 0x80:
            return "€", exc.start + 1
        return "\ufffd", exc.end  # it may be called for each octet of a long text
    octets = exc.object[exc.start : exc.start + 2]
    if len(octets) == 2:
        text = _windows_31j(octets[0], octets[1], high=exc.encoding == "euc_jp")
        if text:
            return text, exc.start + 2
    return "\ufffd", exc.end


def _windows_31j(first: int, second: int, *, high: bool) -> str:
    """The character of JIS X 0208 and its extensions; "" if there is none."""
    offset = 0xA0 if high else 0x20
    row, cell = first - offset, second - offset
    if not (1 <= row <= 94 and 1 <= cell <= 94):
        return ""
    lead = (row - 1) // 2 + (0x81 if row < 63 else 0xC1)
    trail = cell + 0x9E if row % 2 == 0 else cell + (0x3F if cell < 64 else 0x40)
    return bytes((lead, trail)).decode("cp932", "ignore")


codecs.register_error(ERRORS, _unknown)
