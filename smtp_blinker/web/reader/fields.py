"""Header fields of a message, and the parameters of a field.

No function raises. The time is linear in the number of octets, which is bounded.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from ...trace import Trace, parse_trace
from . import charsets, transfer

#: Header fields of a message that are looked at, and their octets; trace fields don't count.
MAX_FIELDS: Final = 1000
MAX_HEADER: Final = 256 * 1024
#: Octets of one field, and of one that describes a part.
MAX_FIELD: Final = 64 * 1024
MAX_CONTENT_FIELD: Final = 4096
#: Recipients that are named.
MAX_RECIPIENTS: Final = 1000
#: Parameters of one field, and pieces of one parameter (RFC 2231 section 3).
MAX_PARAMETERS: Final = 100

_FIELD_NAME = re.compile(rb"[!-9;-~]{1,100}")
_CONTENT_FIELD = re.compile(
    rb"^(content-(?:type|disposition|transfer-encoding|id|location))"
    rb"[ \t]*:((?:[^\n]*\n[ \t])*[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
# RFC 2045 section 5.1. A quoted string that isn't closed ends with the field.
_PARAMETER = re.compile(
    r";\s*([^\s=;\"]{1,80})\s*=\s*(\"[^\"\\]*(?:\\.[^\"\\]*)*\"?|[^;]*)", re.DOTALL
)
# A quoted string, a quoted pair, a parenthesis, or what is none of them.
_TOKEN = re.compile(r"\"(?:[^\"\\]|\\.)*\"?|\\.?|[()]|[^\"()\\]+", re.DOTALL)
# RFC 2047 section 2; spaces and question marks in the text are wrong and common. "?=" before two
# digits of a quoted octet is such a question mark; no text goes beyond the beginning of a word, so
# the time is linear in the length of the field. Some write all of a long field into one word.
_WORD = re.compile(
    r"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{0,20})?\?([QqBb])\?"
    r"((?:[^?=]|=(?!\?[^=])|\?(?!=)|\?(?==[0-9A-F]{2}))*)\?="
)
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# They make a line read otherwise than it is written, "gnp.exe" as "exe.png".
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


class Field(NamedTuple):
    """A header field: its name as it was written, its value unfolded but not decoded."""

    name: str
    value: str
    #: The value as octets if it is neither ASCII nor UTF-8; else empty.
    octets: bytes = b""

    def written_in(self, charset: str) -> Field:
        """The same read in *charset* instead of windows-1252, if it can be and isn't UTF-8."""
        if not self.octets:
            return self
        return self._replace(value=_in_charset(self.octets, charset))

    @property
    def text(self) -> str:
        """The value for people: encoded words decoded, no control characters."""
        return decode_words(self.value)


class Header(NamedTuple):
    """The header section of a message, as far as it was read."""

    #: The trace fields of the last hop, with the first `MAX_RECIPIENTS` Delivered-To fields, and
    #: then all others.
    fields: list[Field]
    #: What the trace fields say, which the server wrote.
    trace: Trace
    #: Whether there were more or longer fields behind the trace than are looked at.
    cut: bool


def read_header(data: bytes, end: int) -> Header:
    """Read the header section ``data[:end]``.

    Fields that the server itself wrote at the top don't count towards the bounds for the rest: the
    server writes a field for each recipient.
    """
    trace = parse_trace(data)
    found = list(_trace_fields(data, trace.end))
    start = trace.end
    cut = end - start > MAX_HEADER
    for number, (each, stop) in enumerate(_fields(data, start, min(end, start + MAX_HEADER))):
        if number >= MAX_FIELDS:
            cut = True
            break
        if each is not None:
            found.append(each)
            cut = cut or stop - start > MAX_FIELD
        start = stop
    return Header(found, trace, cut)


def _trace_fields(data: bytes, end: int) -> Iterator[Field]:
    recipients = 0
    for each, _ in _fields(data, 0, end):
        if each is None:
            continue
        if each.name.lower() == "delivered-to":
            recipients += 1
            if recipients > MAX_RECIPIENTS:
                continue
        yield each


def _fields(data: bytes, start: int, end: int) -> Iterator[tuple[Field | None, int]]:
    """Each field in ``data[start:end]`` and where it ends; None for what isn't a field."""
    while start < end:
        stop = start
        most = min(end, start + MAX_HEADER)
        while True:
            stop = data.find(b"\n", stop, most) + 1 or most
            if stop == most or data[stop] not in b" \t":
                break
        yield _field(data[start : min(stop, start + MAX_FIELD)]), stop
        start = stop


def _field(raw: bytes) -> Field | None:
    raw_name, colon, value = raw.partition(b":")
    raw_name = raw_name.rstrip()
    # Anything else (a "From " line, junk) is not a field, and neither is what continues it.
    if not colon or _FIELD_NAME.fullmatch(raw_name) is None:
        return None
    octets = _unfolded(value)
    if charsets.is_jis(octets):
        return Field(raw_name.decode(), charsets.decode_unlabelled(octets).strip())
    try:
        return Field(raw_name.decode(), octets.decode().strip())
    except UnicodeDecodeError:
        return Field(raw_name.decode(), charsets.decode_unlabelled(octets).strip(), octets)


def end_of_fields(data: bytes, end: int) -> int:
    """Where in ``data[:end]``, which has no empty line, the first line is that isn't a field.

    It is at the beginning if there are no fields, except those of the trace.
    """
    at = begin = parse_trace(data).end
    has_fields = False
    for number, (each, stop) in enumerate(_fields(data, at, min(end, at + MAX_HEADER))):
        if number >= MAX_FIELDS:
            break
        if each is None and number:  # a "From " line may come first
            return at if has_fields else begin
        has_fields = has_fields or each is not None
        at = stop
    return end if has_fields else begin


def is_field(section: bytes) -> bool:
    """Whether *section*, a header section, begins with a field, or has none."""
    name = section.partition(b":")[0].rstrip()
    return not section or _FIELD_NAME.fullmatch(name) is not None


def _unfolded(value: bytes) -> bytes:
    return b"".join(line.rstrip(b"\r") for line in value.split(b"\n"))


def _in_charset(octets: bytes, charset: str | None) -> str:
    """*octets* as ISO-2022-JP or UTF-8, else in *charset*, else as windows-1252."""
    if charsets.is_jis(octets):
        return charsets.decode_unlabelled(octets).strip()
    try:
        return octets.decode().strip()
    except UnicodeDecodeError:
        text = charsets.decode(octets, charset)
        return (charsets.decode_unlabelled(octets) if "\ufffd" in text else text).strip()


def content_fields(section: bytes, charset: str | None = None) -> dict[str, str]:
    """What *section*, the header section of a part, says about it, by names in lower case.

    *charset* is that of values that should be encoded and aren't.
    """
    found: dict[str, str] = {}
    for match in _CONTENT_FIELD.finditer(section):
        value = _in_charset(_unfolded(match[2][:MAX_CONTENT_FIELD]), charset)
        found.setdefault(match[1].decode().lower(), value)
    return found


class Parameters(NamedTuple):
    """The value of a field such as Content-Type."""

    #: What stands before the parameters, in lower case.
    value: str
    #: The parameters by their names in lower case, not decoded; of equal names the first.
    parameters: dict[str, str]

    def get(self, name: str) -> str:
        """The parameter *name* decoded (RFC 2231), "" if there is none.

        Where it is there in both ways the plain one is for those who don't know the other.
        """
        found = self.parameters
        if f"{name}*" in found:
            charset, octets = _extended(found[f"{name}*"])
            if octets:
                return charsets.decode(octets, charset)
        if name in found and f"{name}*0*" not in found:
            return found[name]
        charset, octets = "", b""
        for number in range(MAX_PARAMETERS):
            piece = f"{name}*{number}"
            if f"{piece}*" in found and not number:
                charset, octets = _extended(found[f"{piece}*"])
            elif f"{piece}*" in found:
                octets += unquote_to_bytes(found[f"{piece}*"])
            elif piece in found:
                octets += found[piece].encode()
            elif number:  # some count from 1
                break
        return charsets.decode(octets, charset)


def parse_parameters(text: str) -> Parameters:
    """The value and the parameters of a field (RFC 2045 section 5.1)."""
    if "(" in text:
        text = _without_comments(text)
    value = text.partition(";")[0]
    found: dict[str, str] = {}
    for match in islice(_PARAMETER.finditer(text, len(value)), MAX_PARAMETERS):
        parameter = match[2].strip()
        if parameter.startswith('"'):
            parameter = _unescape(parameter[1:].removesuffix('"'))
        found.setdefault(match[1].lower(), parameter)
    return Parameters(value.strip(' \t\r\n"').lower(), found)


def _without_comments(text: str) -> str:
    """*text* without its comments (RFC 5322 section 3.2.2)."""
    kept: list[str] = []
    depth = 0
    for token in _TOKEN.findall(text):
        if token == "(":
            depth += 1
        elif token == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(token)
    return "".join(kept)


def _unescape(text: str) -> str:
    """Backslashes and quotation marks only: others write file names with single backslashes."""
    return "\\".join(piece.replace('\\"', '"') for piece in text.split("\\\\"))


def _extended(value: str) -> tuple[str, bytes]:
    """The charset and the octets of ``charset'language'text`` (RFC 2231 section 4)."""
    charset, quote, rest = value.partition("'")
    _, second_quote, text = rest.partition("'")
    if not quote or not second_quote:
        return "", unquote_to_bytes(value)
    return charset, unquote_to_bytes(text)


def decode_words(value: str) -> str:
    """The value of a header field in one line, with its encoded words decoded (RFC 2047).

    Control characters that change the direction of text are removed.
    """
    value = value[:MAX_FIELD]
    if "=?" in value:
        value = _BETWEEN_WORDS.sub(r"\1", value)
        pieces: list[str] = []
        at = 0
        pending, pending_charset = b"", ""
        for word in _WORD.finditer(value):
            charset, encoding, text = word.groups()
            if word.start() != at or charset.lower() != pending_charset:
                pieces += [charsets.decode(pending, pending_charset), value[at : word.start()]]
                pending = b""
            # A character may be cut in two by the end of a word: decode neighbours together.
            pending += _word_octets(encoding, text)
            pending_charset = charset.lower()
            at = word.end()
        pieces += [charsets.decode(pending, pending_charset), value[at:]]
        value = "".join(pieces)
    return _CONTROLS.sub(" ", _DIRECTIONS.sub("", value)).strip()


def _word_octets(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding in "Bb":
        return transfer.from_base64(raw)
    return binascii.a2b_qp(raw, header=True)
