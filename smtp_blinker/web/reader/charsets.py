"""Decodes text, in the charsets of mail and in no others.

A charset name of a message is never passed to `codecs`, which remembers every name. Some of its
codecs aren't charsets, and some take quadratic time (punycode).
"""

from __future__ import annotations

import codecs
import re
from encodings.aliases import aliases
from typing import Final

from . import browsers

#: Octets that are decoded at once. Most codecs take a microsecond for each that they don't know.
STEP: Final = 8192

# Python's names of those that are known.
_NAMES: Final = """
ascii utf_7 utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le
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
_BY_NAME = {name: name for name in _CODECS} | {
    alias: codec for alias, codec in aliases.items() if codec in _CODECS
}
# Labels that browsers know (WHATWG Encoding, section 4.2) and Python does not.
_LABELS: Final = {
    "utf_8": "unicode_1_1_utf_8 unicode11utf8 unicode20utf8 x_unicode20utf8",
    "utf_16_le": "csunicode iso_10646_ucs_2 ucs_2 unicode unicodefeff",
    "utf_16_be": "unicodefffe",
    "latin_1": "csisolatin1 iso_ir_100 x_cp1252 ansi_x3_4_1968",
    "iso8859_2": "csisolatin2 iso_ir_101",
    "iso8859_3": "csisolatin3 iso_ir_109",
    "iso8859_4": "csisolatin4 iso_ir_110",
    "iso8859_5": "csisolatincyrillic iso_ir_144",
    "iso8859_6": "csisolatinarabic csiso88596e csiso88596i iso_8859_6_e iso_8859_6_i iso_ir_127",
    "iso8859_7": "csisolatingreek iso_ir_126 sun_eu_greek",
    "iso8859_8": "csisolatinhebrew csiso88598e csiso88598i iso_8859_8_e iso_8859_8_i iso_ir_138 "
    "logical visual",
    "iso8859_10": "csisolatin6 iso_ir_157",
    "iso8859_15": "csisolatin9",
    "cp1250": "x_cp1250",
    "cp1251": "x_cp1251",
    "cp1253": "x_cp1253",
    "cp1254": "csisolatin5 iso_ir_148 x_cp1254",
    "cp1255": "x_cp1255",
    "cp1256": "x_cp1256",
    "cp1257": "x_cp1257",
    "cp1258": "x_cp1258",
    "cp866": "csibm866",
    "cp874": "windows_874 dos_874",
    "koi8_r": "koi koi8 cskoi8r",
    "koi8_u": "koi8_ru",
    "mac_roman": "csmacintosh mac x_mac_roman",
    "mac_cyrillic": "x_mac_cyrillic x_mac_ukrainian",
    "gb2312": "chinese csgb2312 gb_2312 gb_2312_80 csiso58gb231280 iso_ir_58",
    "gbk": "x_gbk",
    "big5": "cn_big5 csbig5 x_x_big5 big5_eten",
    "euc_jp": "cseucpkdfmtjapanese x_euc_jp",
    "shift_jis": "csshiftjis x_sjis",
    "cp932": "ms932 ms_kanji windows_31j",
    "euc_kr": "cseuckr csksc56011987 iso_ir_149 korean ks_c_5601_1989 ksc_5601",
    "cp949": "windows_949",
    "iso2022_jp": "csiso2022jp",
    # These browsers don't know either; programs that send mail write them.
    "iso2022_jp_ext": "iso_2022_jp_ms cp50220 cp50221 cp50222",
    "mac_latin2": "x_mac_ce x_mac_centraleurroman",
    "mac_greek": "x_mac_greek",
    "mac_turkish": "x_mac_turkish",
    "mac_iceland": "x_mac_icelandic",
    "utf_7": "unicode_1_1_utf_7 unicode_2_0_utf_7 csutf7 x_utf_7",
}
_BY_NAME |= {label: codec for codec, labels in _LABELS.items() for label in labels.split()}
_BY_NAME |= {codec.replace("_", ""): codec for codec in _CODECS if codec.startswith("iso8859")} | {
    "iso88591": "latin_1",
    browsers.USER_DEFINED: browsers.USER_DEFINED,
}
_BY_NAME_IN_ONE = {label.replace("_", ""): codec for label, codec in _BY_NAME.items()}
# Labels that end in a number, of Windows, DOS, ISO 8859 and the Macintosh, by their first words.
_NUMBERED = re.compile(
    r"(?:x_)?(cp|win|windows|windows_cp|ms|dos|oem|ibm|latin|iso8859|iso_8859|8859|)_?0{0,3}(\d{1,5})"
)
#: Code pages whose number isn't in the name of their codec.
_CODE_PAGES: Final = {
    int(number): codec
    for number, codec in re.findall(
        r"(\d+) (\S+)",
        "819 latin_1 936 gbk 943 cp932 1200 utf_16_le 1201 utf_16_be 10000 mac_roman "
        "10007 mac_cyrillic 10029 mac_latin2 20127 ascii 20866 koi8_r 21866 koi8_u 28591 latin_1 "
        "50220 iso2022_jp 51932 euc_jp 51936 gb2312 51949 euc_kr 54936 gb18030 65000 utf_7 "
        "65001 utf_8",
    )
} | {28590 + number: f"iso8859_{number}" for number in range(2, 17)}
#: What browsers read instead of these, since it has all of them and is often meant.
_LARGER: Final = {
    "ascii": "cp1252",
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
    "iso2022_jp": "iso2022_jp_ext",
}
_META = re.compile(
    rb"<meta\b[^<>]{0,500}?\bcharset\s{0,9}=\s{0,9}[\"']?\s{0,9}([A-Za-z0-9_:.+-]{1,40})",
    re.IGNORECASE,
)
_XML = re.compile(
    rb"<\?xml\b[^<>]{0,500}?\bencoding\s{0,9}=\s{0,9}[\"']([A-Za-z0-9_:.+-]{1,40})[\"']"
)
_COMMENT = re.compile(rb"<!--(?:-?>|.*?(?:--!?>|\Z))", re.DOTALL)
_TO_JIS = re.compile(rb"\x1b\$[@B]")
_SEPARATED = re.compile(r"[\s,]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_OTHER = re.compile("[^a-z0-9]+")
_MARKED: Final = (
    (codecs.BOM_UTF8, "utf_8"),
    (codecs.BOM_UTF16_BE, "utf_16_be"),
    (codecs.BOM_UTF16_LE, "utf_16_le"),
)
# Where the byte order mark doesn't say otherwise, octets come as most machines write them.
_BYTE_ORDER_MARKS: Final = {"utf_16": codecs.BOM_UTF16_BE, "utf_32": codecs.BOM_UTF32_BE}


def _codec(charset: str) -> str | None:
    """Python's name of *charset*, None if it isn't one of ours."""
    label = _label(charset)
    codec = _BY_NAME.get(label) or _misspelt(label)
    if codec is None and (first := _SEPARATED.split(charset[:60].strip(), maxsplit=1)[0]):
        label = _label(first)  # what follows is another parameter, without its semicolon
        codec = _BY_NAME.get(label) or _misspelt(label)
    return codec


def _label(charset: str) -> str:
    return _OTHER.sub("_", charset[:60].lower()).strip("_")


def _misspelt(label: str) -> str | None:
    """The codec that *label* is likely to mean, which no browser knows: "win-1251", "x-gb2312"."""
    if (found := _NUMBERED.fullmatch(label)) is not None:
        number = int(found[2])
        if found[1] == "latin":
            return _BY_NAME.get(f"latin{number}")
        if "8859" in found[1]:
            return _BY_NAME.get(f"iso8859_{number}")
        return _CODE_PAGES.get(number) or _BY_NAME.get(f"cp{number}")
    return _BY_NAME_IN_ONE.get(label.removeprefix("x_").replace("_", ""))


def _decode(data: bytes, codec: str, errors: str) -> str:
    mark = _BYTE_ORDER_MARKS.get(codec)
    if mark is not None:
        decoded = _decode(data, f"{codec}_{'be' if data.startswith(mark) else 'le'}", errors)
        return decoded.removeprefix("\ufeff")
    if errors == "replace":
        table = browsers.table(codec)
        if table is not None:  # one octet, one character: no need to stop at what it doesn't know
            return codecs.charmap_decode(data, errors, table)[0]
        if codec in browsers.WITH_ERRORS:
            errors = browsers.ERRORS
    if codec == "utf_7":  # in pieces it would read a long run of base64 again for each
        return _SURROGATE.sub("\ufffd", codecs.utf_7_decode(data, errors, True)[0])
    decoder = codecs.getincrementaldecoder(codec)(errors)
    found = []
    for start in range(0, len(data), STEP):
        piece = data[start : start + STEP]
        try:
            found.append(decoder.decode(piece, start + STEP >= len(data)))
        except UnicodeDecodeError:
            raise
        except UnicodeError:  # an escape sequence without end, of which it keeps no more
            decoder.reset()
            found.append(piece.decode(codec, errors))
    text = "".join(found)
    others = None if errors == "strict" else browsers.CHARACTERS.get(codec)
    return text if others is None else text.translate(others)


def problem(data: bytes, charset: str) -> str | None:
    """What keeps *data* from being text in *charset*, or None."""
    codec = _BY_NAME.get(_label(charset))
    if codec is None:  # even if it is readable here
        return f"{charset[:60]} is not a known charset."
    if codec == browsers.USER_DEFINED:
        return None
    try:
        _decode(data, codec, "strict")
    except UnicodeError:
        return f"not all of it is {charset[:60]}."
    return None


def decode(data: bytes, charset: str | None) -> str:
    """Decode *data*, in *charset* if it is known, else in the likeliest charset.

    A byte order mark wins over *charset* (WHATWG Encoding, section 6). Octets that are invalid in
    the charset become U+FFFD. The time is linear in the length of *data*.
    """
    codec = _codec(charset) if charset is not None else None
    if codec is None or not codec.startswith("utf_32"):
        for mark, marked in _MARKED:
            if data.startswith(mark):
                return _decode(data[len(mark) :], marked, "replace")
    if codec is None or (codec == "utf_7" and not data.isascii()):
        return decode_unlabelled(data)
    return _decode(data, _LARGER.get(codec, codec), "replace")


def declared_in_html(data: bytes) -> str | None:
    """The charset that HTML names in itself, where nothing else says it (HTML section 13.2.3)."""
    data = _COMMENT.sub(b"", data[:1024])
    found = _XML.match(data) or _META.search(data)
    if found is None:
        return None
    label = found[1].decode()
    codec = _codec(label) or ""
    if codec == "utf_7":
        return None
    # What could be read so far can't be in these.
    return "utf-8" if codec.startswith(("utf_16", "utf_32")) else label


def is_jis(data: bytes) -> bool:
    """Whether *data* has an escape sequence to JIS X 0208 (RFC 1468), and so is not for UTF-8."""
    return b"\x1b$" in data and _TO_JIS.search(data) is not None and data.isascii()


def decode_unlabelled(data: bytes) -> str:
    """*data* as ISO-2022-JP if it switches to that, else as UTF-8 if it is that, else as
    windows-1252."""
    if is_jis(data):
        return _decode(data, _LARGER["iso2022_jp"], "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _decode(data, "cp1252", "replace")
