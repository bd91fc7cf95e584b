"""Text out of octets, in the charsets that mail is written in and in no others.

A name out of a message is never given to `codecs`: it remembers every name that it is asked for,
and among its codecs are some that aren't charsets and some that take quadratic time (punycode).
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from importlib import import_module
from typing import Final

#: Octets that are decoded at once. Most codecs take a microsecond for each that they don't know.
STEP: Final = 8192

# Python's names of those that are known.
_NAMES: Final = """
ascii utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le
latin_1 iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9
iso8859_10 iso8859_11 iso8859_13 iso8859_14 iso8859_15 iso8859_16
cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
cp437 cp737 cp775 cp850 cp852 cp855 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866
cp869 cp874 cp1125 koi8_r koi8_t koi8_u kz1048 ptcp154 tis_620 hp_roman8
mac_cyrillic mac_greek mac_iceland mac_latin2 mac_roman mac_turkish
big5 big5hkscs cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz
iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr
johab shift_jis shift_jis_2004 shift_jisx0213
"""
_CODECS: Final = frozenset(_NAMES.split())
_BY_NAME: Final = {name: name for name in _CODECS} | {
    alias: codec for alias, codec in aliases.items() if codec in _CODECS
}
_OTHER = re.compile("[^a-z0-9]+")
# Where the byte order mark doesn't say otherwise, octets come as most machines write them.
_BYTE_ORDER_MARKS: Final = {"utf_16": codecs.BOM_UTF16_BE, "utf_32": codecs.BOM_UTF32_BE}


def _codec(charset: str) -> str | None:
    """Python's name of *charset*, None if it isn't one of ours."""
    return _BY_NAME.get(_OTHER.sub("_", charset[:60].lower()).strip("_"))


def _decode(data: bytes, codec: str, errors: str) -> str:
    mark = _BYTE_ORDER_MARKS.get(codec)
    if mark is not None:
        decoded = _decode(data, f"{codec}_{'be' if data.startswith(mark) else 'le'}", errors)
        return decoded.removeprefix("\ufeff")
    if errors == "replace":
        table = getattr(import_module(f"encodings.{codec}"), "decoding_table", None)
        if table is not None:  # one octet, one character: no need to stop at what it doesn't know
            return codecs.charmap_decode(data, errors, table.replace("\ufffe", "\ufffd"))[0]
    decoder = codecs.getincrementaldecoder(codec)(errors)
    found = []
    for start in range(0, len(data), STEP):
        found.append(decoder.decode(data[start : start + STEP]))
    found.append(decoder.decode(b"", True))
    return "".join(found)


def problem(data: bytes, charset: str) -> str | None:
    """What keeps *data* from being text in *charset*, or None."""
    codec = _codec(charset)
    if codec is None:
        return f"{charset[:60]} is no charset that is known."
    try:
        _decode(data, codec, "strict")
    except UnicodeError:
        return f"not all of it is {charset[:60]}."
    return None


def decode(data: bytes, charset: str | None) -> str:
    """*data* as text: in *charset* if that is a known one, else in the likeliest.

    What the charset doesn't know becomes U+FFFD. The time is linear in the length of *data*.
    """
    codec = _codec(charset) if charset is not None else None
    return decode_unlabelled(data) if codec is None else _decode(data, codec, "replace")


def decode_unlabelled(data: bytes) -> str:
    """*data* as UTF-8 if it is that, else as ISO 8859-1."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
