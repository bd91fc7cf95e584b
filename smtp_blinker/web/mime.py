"""Read a message that may be anything: broken, enormous, or made to hurt its reader.

The standard library's parser asks each line about each enclosing boundary and recurses per
level, and its header parser can be kept busy for minutes. Here every step is one pass over the
octets, the number of levels, parts and fields is bounded, and nothing raises.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message as HeaderFields
from html import unescape
from typing import Any, Final, NamedTuple

#: Levels of multiparts, parts, and header fields that are looked at; the rest is left as it is.
MAX_DEPTH: Final = 20
MAX_PARTS: Final = 500
MAX_FIELDS: Final = 1000
#: Octets of a header section, and of one field, that are looked at.
MAX_HEADER: Final = 256 * 1024
MAX_FIELD: Final = 8192
#: Characters of a file name.
MAX_NAME: Final = 200

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
# RFC 2045 section 5.1, without what a header field of HTTP could be cut at
_MEDIA_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,60}")
_FIELD_NAME = re.compile(rb"[!-9;-~]{1,100}")
# RFC 2047 section 2; spaces in the text are wrong and common.
_WORD = re.compile(
    r"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{0,20})?\?([QqBb])\?([^?]{0,4000})\?="
)
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(?==\?)")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
# They make a line read otherwise than it is written, "gnp.exe" as "exe.png".
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
_NOT_BASE64: Final = bytes(
    set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
)
# Their decoders take quadratic time, or aren't charsets.
_NO_CHARSETS: Final = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)
_UNSEEN = re.compile(r"<(?:(style|script|head|title|template)\b|!--)", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/p|/div|/tr|/li|/h[1-6]|/table)\b[^<>]*>", re.IGNORECASE)
# `[^<>]`, not `[^>]`: a run of "<" must not be searched to its end from each of them.
_TAG = re.compile(r"</?[A-Za-z!?][^<>]*>")
_BLANKS = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n\s*\n\s*")


class Field(NamedTuple):
    """A header field: its name as it was written, its value unfolded but not decoded."""

    name: str
    value: str

    @property
    def text(self) -> str:
        """The value for people: encoded words decoded, no control characters."""
        return decode_words(self.value)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message, multiparts included. Its content lies in ``data[start:end]``."""

    number: int
    #: 0 for the message itself.
    depth: int
    #: For example "text/plain", in lower case.
    content_type: str
    charset: str | None
    #: The Content-Transfer-Encoding in lower case.
    encoding: str
    filename: str | None
    #: Without its angle brackets.
    content_id: str | None
    attached: bool
    start: int
    end: int

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/")

    @property
    def is_inline_image(self) -> bool:
        return (
            self.content_id is not None
            and not self.attached
            and self.content_type.startswith("image/")
        )

    def content(self, data: bytes, limit: int | None = None) -> bytes:
        """The part's octets, their transfer encoding undone.

        With *limit* no more than some *limit* octets of the encoded text are read.
        """
        end = self.end if limit is None else min(self.end, self.start + limit)
        raw = data[self.start : end]
        if self.encoding == "base64":
            return _from_base64(raw)
        if self.encoding == "quoted-printable":
            return binascii.a2b_qp(raw)
        return raw

    def text(self, data: bytes, limit: int | None = None) -> str:
        """The part's text with LF line ends; what its charset doesn't know becomes U+FFFD."""
        text = decode_text(self.content(data, limit), self.charset)
        return text.replace("\r\n", "\n").replace("\x00", "\ufffd")


@dataclass(frozen=True, slots=True)
class Message:
    """What `parse` found."""

    fields: list[Field]
    parts: list[Part] = field(default_factory=list)

    def first(self, name: str) -> str:
        """The text of the first field of that name, or ""."""
        name = name.lower()
        return next((each.text for each in self.fields if each.name.lower() == name), "")

    def every(self, name: str) -> list[str]:
        """The texts of all fields of that name."""
        name = name.lower()
        return [each.text for each in self.fields if each.name.lower() == name]

    @property
    def attachments(self) -> list[Part]:
        """The parts that are neither the message's text nor pictures for its HTML."""
        html = self.texts("html")
        shown = {part.number for part in self.texts("plain") + html}
        return [
            part
            for part in self.parts
            if not part.is_multipart
            and part.number not in shown
            and not (html and part.is_inline_image)
        ]

    def texts(self, subtype: str) -> list[Part]:
        """The parts that are the message's text, as "plain" or as "html"."""
        content_type = f"text/{subtype}"
        return [
            part
            for part in self.parts
            if part.content_type == content_type and not part.attached and part.filename is None
        ]


def parse(data: bytes) -> Message:
    """The header fields and the parts of a message. Raises nothing."""
    message = Message([])
    _parse_part(data, 0, len(data), 0, "text/plain", message)
    return message


def _parse_part(
    data: bytes, start: int, end: int, depth: int, default: str, message: Message
) -> None:
    header_end, body = _header_end(data, start, end)
    fields = list(_fields(data[start : min(header_end, start + MAX_HEADER)]))
    if depth == 0:
        message.fields.extend(fields)
    part, boundary = _describe(fields, len(message.parts), depth, default, body, end)
    pieces: list[tuple[int, int]] = []
    if boundary and depth < MAX_DEPTH:
        pieces = _split(data, body, end, boundary, MAX_PARTS - len(message.parts))
    if part.is_multipart and not pieces:  # nothing to open: show what is there
        part = Part(part.number, depth, default, None, "", None, None, False, body, end)
    message.parts.append(part)
    default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
    for piece_start, piece_end in pieces:
        if len(message.parts) >= MAX_PARTS:
            return
        _parse_part(data, piece_start, piece_end, depth + 1, default, message)


def _header_end(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the header section ends, and where the body begins."""
    if data.startswith((b"\n", b"\r\n"), start, end):
        return start, data.index(b"\n", start) + 1
    blank = _BLANK_LINE.search(data, start, end)
    return (blank.start(), blank.end()) if blank is not None else (end, end)


def _fields(section: bytes) -> Iterator[Field]:
    name, value = "", b""
    found = 0
    for line in section.split(b"\n"):
        line = line.rstrip(b"\r")
        if line[:1] in (b" ", b"\t"):
            if len(value) < MAX_FIELD:
                value += line
            continue
        if name:
            yield Field(name, _decode_raw(value[:MAX_FIELD]).strip())
        raw_name, colon, value = line.partition(b":")
        raw_name = raw_name.rstrip()
        # Anything else (a "From " line, junk) is no field, and neither is what continues it.
        name = raw_name.decode() if colon and _FIELD_NAME.fullmatch(raw_name) else ""
        found += 1
        if found > MAX_FIELDS:
            return
    if name:
        yield Field(name, _decode_raw(value[:MAX_FIELD]).strip())


def _describe(
    fields: list[Field], number: int, depth: int, default: str, start: int, end: int
) -> tuple[Part, bytes]:
    """The part that has these fields, and its boundary if it has one."""
    header = HeaderFields()
    for each in fields:
        name = each.name.lower()
        if name.startswith("content-") and name not in header:
            header[name] = each.value[:4096]
    header.set_default_type(default)
    content_type = _quietly(header.get_content_type)
    if _MEDIA_TYPE.fullmatch(content_type) is None:
        # RFC 2045 section 5.2 takes what can't be read for text; it might be anything.
        content_type = "application/octet-stream" if content_type else default
    disposition = _quietly(header.get_content_disposition)
    filename = clean_name(decode_words(_quietly(header.get_filename) or "")) or None
    boundary = _quietly(header.get_boundary) if content_type.startswith("multipart/") else ""
    part = Part(
        number,
        depth,
        content_type,
        _quietly(header.get_content_charset) or None,
        str(header.get("content-transfer-encoding", "")).strip().lower()[:40],
        filename,
        str(header.get("content-id", "")).strip().strip("<>")[:200] or None,
        disposition == "attachment",
        start,
        end,
    )
    # RFC 2046 allows 70 characters; be generous, but not without end.
    return part, (boundary or "")[:200].encode("utf-8", "surrogateescape").rstrip()


def _quietly(question: Callable[[], Any]) -> str:
    """The answer as text. The standard library has many ways to fail at hostile parameters."""
    try:
        return str(question() or "")
    except Exception:
        return ""


def _split(data: bytes, start: int, end: int, boundary: bytes, most: int) -> list[tuple[int, int]]:
    """Where the parts of a multipart lie, *most* of them at most (RFC 2046 section 5.1.1)."""
    delimiter = b"--" + boundary
    pieces: list[tuple[int, int]] = []
    piece_start = -1
    at = data.find(delimiter, start, end)
    while at >= 0 and len(pieces) < most:
        line_end = data.find(b"\n", at, end)
        if line_end < 0:
            line_end = end
        tail = data[at + len(delimiter) : line_end]
        closes = tail.startswith(b"--")
        # A longer line is the delimiter of another multipart, or text.
        if (at == start or data[at - 1] == 0x0A) and (closes or not tail.strip()):
            if piece_start >= 0:
                # The line end before a delimiter belongs to it.
                piece_end = at - 1
                if piece_end > piece_start and data[piece_end - 1] == 0x0D:
                    piece_end -= 1
                pieces.append((piece_start, max(piece_start, piece_end)))
            if closes:
                return pieces
            piece_start = min(line_end + 1, end)
        at = data.find(delimiter, line_end, end)
    if 0 <= piece_start < end and len(pieces) < most:  # cut off: no closing delimiter
        pieces.append((piece_start, end))
    return pieces


def _from_base64(raw: bytes) -> bytes:
    """What can be decoded of *raw*, whatever else is in it."""
    raw = raw.translate(None, _NOT_BASE64)
    if len(raw) % 4 == 1:
        raw = raw[:-1]
    return binascii.a2b_base64(raw + b"=" * (-len(raw) % 4))


def _is_charset(charset: str) -> bool:
    return charset.lower().replace("-", "_") not in _NO_CHARSETS


def charset_problem(data: bytes, charset: str) -> str | None:
    """What keeps *data* from being text in *charset*, or None."""
    try:
        if not _is_charset(charset):
            raise LookupError
        data.decode(charset)
    except UnicodeDecodeError:
        return f"not all of it is {charset}."
    except Exception:
        return f"{charset[:60]} is no charset that is known."
    return None


def decode_text(data: bytes, charset: str | None) -> str:
    """*data* as text, in *charset* if that is one, else in the likeliest."""
    if charset is not None and _is_charset(charset):
        try:
            return data.decode(charset, "replace")
        except Exception:  # unknown, no charset at all, or a codec that doesn't know "replace"
            pass
    return _decode_raw(data)


def _decode_raw(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def decode_words(value: str) -> str:
    """A header field's value with its encoded words decoded (RFC 2047), in one line.

    Controls that change the direction of text are left out.
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
                pieces += [decode_text(pending, pending_charset), value[at : word.start()]]
                pending = b""
            # A character may be cut in two by the end of a word: decode neighbours together.
            pending += _word_octets(encoding, text)
            pending_charset = charset.lower()
            at = word.end()
        pieces += [decode_text(pending, pending_charset), value[at:]]
        value = "".join(pieces)
    return _CONTROLS.sub(" ", _DIRECTIONS.sub("", value)).strip()


def _word_octets(encoding: str, text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    if encoding in "Bb":
        return _from_base64(raw)
    return binascii.a2b_qp(raw, header=True)


def clean_name(name: str) -> str:
    """*name* as the name of a file: no folders, nothing that doesn't print."""
    name = re.split(r"[/\\]", name)[-1]
    name = "".join(char for char in name if char.isprintable() and char not in '<>:"|?*')
    return name.strip(" .")[:MAX_NAME]


def html_text(html: str) -> str:
    """What a person would read of *html*, roughly; linear in its length."""
    pieces: list[str] = []
    at = 0
    while (found := _UNSEEN.search(html, at)) is not None:
        pieces.append(html[at : found.start()])
        closing = rf"</{found[1]}\b[^<>]*>" if found[1] else "-->"
        end = re.compile(closing, re.IGNORECASE).search(html, found.end())
        at = end.end() if end is not None else len(html)
    pieces.append(html[at:])
    text = "".join(pieces).replace("\n", " ")
    text = unescape(_TAG.sub(" ", _BREAK.sub("\n", text)))
    return _BLANK_LINES.sub("\n\n", _BLANKS.sub(" ", text)).strip()


# What the server itself wrote at the top of a stored message

_RECEIVED = re.compile(
    r"from (?P<helo>\S+)(?: \((?:(?P<hostname>\S+) )?\[(?P<address>[^\]]*)\]\))?"
    r" by (?P<by>\S+) with (?P<protocol>\S+)"
    r"(?: \(version=(?P<tls>\S+) cipher=(?P<cipher>\S+)\))?"
    r"(?: id (?P<id>\S+))?(?: for <(?P<recipient>[^>]*)>)?; (?P<date>.*)"
)


@dataclass(frozen=True, slots=True)
class Trace:
    """The SMTP envelope and session, as Return-Path, Delivered-To and Received tell them."""

    #: None where the message has no Return-Path; "" is the null reverse-path.
    mail_from: str | None
    rcpt_to: list[str]
    #: helo, hostname, address, by, protocol, tls, cipher, id, recipient, date; None if unknown.
    session: dict[str, str | None] | None


def trace(fields: list[Field]) -> Trace:
    """The trace of the last hop: the fields above the first that isn't one of these.

    Fields further down were in the message when it arrived: its sender could write what he
    liked.
    """
    mail_from: str | None = None
    rcpt_to: list[str] = []
    for number, each in enumerate(fields):
        name = each.name.lower()
        if name == "return-path" and number == 0:
            mail_from = each.value.strip().removeprefix("<").removesuffix(">")
        elif name == "delivered-to":
            rcpt_to.append(each.value.strip())
        elif name == "received":
            match = _RECEIVED.match(re.sub(r"\s+", " ", each.value))
            return Trace(mail_from, rcpt_to, match.groupdict() if match is not None else None)
        else:
            break
    return Trace(mail_from, rcpt_to, None)
