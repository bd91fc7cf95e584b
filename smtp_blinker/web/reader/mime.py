"""Parse a message that may be broken, enormous, or made to harm its reader.

The parser of the standard library compares each line with each enclosing boundary and recurses for
each level, and its header parser can be kept busy for minutes. This parser passes over the octets
once, whatever they are. Levels, parts, fields and possible delimiters are bounded, and it lists
what it leaves out. It never raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from ...trace import Trace
from . import charsets, uuencode
from .fields import (
    MAX_CONTENT_FIELD,
    MAX_FIELD,
    MAX_FIELDS,
    MAX_HEADER,
    MAX_RECIPIENTS,
    Field,
    content_fields,
    decode_words,
    end_of_fields,
    is_field,
    parse_parameters,
    read_header,
)
from .part import Part, clean_name, with_files

NO_TRACE: Final = Trace(None, (), None, 0)
#: Levels of multiparts and parts that are looked at; the rest is left as it is.
MAX_DEPTH: Final = 20
MAX_PARTS: Final = 500
#: Octets of a part's header section that are looked at, and of those of all parts.
MAX_PART_HEADER: Final = 32 * 1024
MAX_PART_HEADERS: Final = 512 * 1024
#: Lines beginning with "--" that are looked at.
MAX_DASHES: Final = 20_000
#: Octets of HTML, encoded, in which a charset is looked for.
BEGINNING_OF_HTML: Final = 4096
#: Characters of a Content-Location.
MAX_LOCATION: Final = 2000

# RFC 2046 section 5.1.1 allows 72 octets and blanks after them; be generous, but not without end.
_MAX_DELIMITER: Final = 200
_MAX_LINE: Final = 1000
# RFC 2045 section 5.1, without what a header field of HTTP could be cut at
_MEDIA_TYPE = re.compile(
    r"([a-z0-9!#$&^_.+-]{1,60})[ \t]{0,9}/[ \t]{0,9}([a-z0-9!#$&^_.+-]{1,60})(?![^ \t,;])"
)
_EMPTY_LINE = re.compile(rb"\r*\n")
_LINE_AND_EMPTY_LINE = re.compile(rb"\n\r*\n")
_CONTENT_NAMES: Final = frozenset(
    {
        *("content-type", "content-disposition", "content-transfer-encoding"),
        *("content-id", "content-location"),
    }
)


@dataclass(slots=True)
class Message:
    """What `parse` found."""

    #: The trace fields of the last hop, as far as they were read, and then all others.
    fields: list[Field]
    #: The envelope and the session, as far as the message tells.
    trace: Trace = NO_TRACE
    parts: list[Part] = field(default_factory=list)
    #: What was left out, in sentences.
    left_out: list[str] = field(default_factory=list)

    def first(self, name: str) -> str:
        """The text of the first field of that name, or ""."""
        name = name.lower()
        return next((each.text for each in self.fields if each.name.lower() == name), "")

    def every(self, name: str) -> list[str]:
        """The texts of all fields of that name."""
        name = name.lower()
        return [each.text for each in self.fields if each.name.lower() == name]


def parse(data: bytes) -> Message:
    """The header fields and the parts of a message. Raises nothing."""
    return _Parser(data).parse()


class _Multipart(NamedTuple):
    """A multipart whose closing delimiter hasn't come yet."""

    depth: int
    #: The type of a part in it that doesn't say its own.
    default: str


class _Delimiter(NamedTuple):
    """A line that is a delimiter (RFC 2046 section 5.1.1)."""

    line: int
    #: Where the next line begins.
    end: int
    #: Which of the open multiparts it belongs to.
    level: int
    closes: bool


class _Parser:
    """One pass over *data*: at each line that may be a delimiter, what are the open multiparts?

    A delimiter of an outer one ends all that is in it, whether that was closed or not.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.message = Message([])
        self._multiparts: list[_Multipart] = []
        #: Two hyphens and the boundary of each.
        self._delimiters: tuple[bytes, ...] = ()
        #: The same with the two hyphens behind it that close a multipart.
        self._closing: tuple[bytes, ...] = ()
        #: The numbers of the parts that haven't ended yet, the innermost last.
        self._unended: list[int] = []
        #: Of each part, the type it has if it turns out to be none of its own.
        self._defaults: list[str] = []
        self._dashes = 0
        self._headers = 0
        #: The first charset that a text names: fields that aren't encoded are likely to be in it.
        self._charset: str | None = None

    def parse(self) -> Message:
        at = self._begin_message()
        while (delimiter := self._next_delimiter(at, len(self.data))) is not None:
            multipart = self._multiparts[delimiter.level]
            self._end_parts(multipart.depth, delimiter.line)
            self._forget_multiparts(delimiter.level + (not delimiter.closes))
            at = delimiter.end
            if delimiter.closes or at == len(self.data):  # nothing begins here
                continue
            if len(self.message.parts) >= MAX_PARTS:
                self._leave_out(f"It has more than {MAX_PARTS} parts; the others are not shown.")
                break
            at = self._begin_part(at, multipart)
        self._show_what_is_no_multipart()
        self._take_out_files()
        if self._charset is None:
            self._charset = self._charset_in_html()
        if self._charset is not None:
            fields = self.message.fields
            self.message.fields = [field.written_in(self._charset) for field in fields]
        return self.message

    def _charset_in_html(self) -> str | None:
        """The charset that the first text names in itself, if it is HTML."""
        for part in self.message.parts:
            if part.content_type == "text/html":
                return charsets.declared_in_html(part.content(self.data, BEGINNING_OF_HTML))
        return None

    def _begin_message(self) -> int:
        """Read the header of the message; returns where its content begins."""
        header_end, body = _header_end(self.data, 0, len(self.data))
        if header_end == body == len(self.data):  # no empty line: where a line is not a field
            header_end = body = end_of_fields(self.data, header_end)
        header = read_header(self.data, header_end)
        self.message.fields = header.fields
        self.message.trace = header.trace
        if (recipients := len(header.trace.rcpt_to)) > MAX_RECIPIENTS:
            self._leave_out(f"It has {recipients} recipients or more; {MAX_RECIPIENTS} are shown.")
        if header.cut:
            self._leave_out(
                f"Of its header no more than {MAX_FIELDS} fields, {MAX_FIELD} octets of each and "
                f"{MAX_HEADER // 1024} KiB together were read."
            )
        content: dict[str, str] = {}
        for each in header.fields:
            if each.name.lower() in _CONTENT_NAMES:
                content.setdefault(each.name.lower(), each.value[:MAX_CONTENT_FIELD])
        self._add_part(content, 0, "text/plain", body)
        return body

    def _begin_part(self, start: int, parent: _Multipart) -> int:
        """Read the header of a part; returns where its content, if it has any, begins."""
        most = min(start + MAX_PART_HEADER, len(self.data))
        header_end, body = _header_end(self.data, start, most)
        if not is_field(self.data[start:header_end]):  # without its empty line, text begins here
            header_end = body = start
        delimiter = self._next_delimiter(start, body)
        if delimiter is not None:  # it ends the part even in its header
            header_end = body = delimiter.line
        elif body == most < len(self.data):
            self._leave_out(f"Of a part's header {MAX_PART_HEADER // 1024} KiB were read.")
        self._headers += header_end - start
        content: dict[str, str] = {}
        if self._headers <= MAX_PART_HEADERS:
            content = content_fields(self.data[start:header_end], self._charset)
        else:
            self._leave_out(f"Of its parts' headers {MAX_PART_HEADERS // 1024} KiB were read.")
        self._add_part(content, parent.depth + 1, parent.default, body)
        return body

    def _add_part(self, content: dict[str, str], depth: int, default: str, start: int) -> None:
        """Add the part that these fields describe, and expect its parts if it may have any."""
        content_type = parse_parameters(content.get("content-type", ""))
        disposition = parse_parameters(content.get("content-disposition", ""))
        charset = content_type.get("charset").lower()
        filename = disposition.get("filename") or content_type.get("name")
        part = Part(
            len(self.message.parts),
            depth,
            _media_type(content_type.value) if "content-type" in content else default,
            charset if charset and charset.isascii() else None,
            # Some write a comment behind it, or quotation marks around it.
            parse_parameters(content.get("content-transfer-encoding", "")).value.strip('",')[:40],
            clean_name(decode_words(filename)) or None,
            _content_id(content.get("content-id", "")) or None,
            decode_words(content.get("content-location", ""))[:MAX_LOCATION].strip('<>"') or None,
            disposition.value == "attachment",
            start,
            len(self.data),
            content_type.get("format").lower() == "flowed",
            content_type.get("delsp").lower() == "yes",
            root=_content_id(content_type.get("start")) or None,
        )
        if self._charset is None and part.content_type.startswith("text/"):
            self._charset = part.charset
        self.message.parts.append(part)
        self._unended.append(part.number)
        self._defaults.append(default)
        if part.is_multipart:
            self._expect_parts(part, content_type.get("boundary"))

    def _expect_parts(self, part: Part, boundary: str) -> None:
        delimiter = b"--" + boundary.rstrip().encode("utf-8", "replace")
        if not 2 < len(delimiter) <= _MAX_DELIMITER:
            return
        if part.depth >= MAX_DEPTH:
            self._leave_out(f"What is nested deeper than {MAX_DEPTH} levels is not taken apart.")
            return
        digest = part.content_type == "multipart/digest"  # RFC 2046 section 5.1.5
        default = "message/rfc822" if digest else "text/plain"
        self._multiparts.append(_Multipart(part.depth, default))
        self._delimiters += (delimiter,)
        self._closing += (delimiter + b"--",)

    def _next_delimiter(self, at: int, end: int) -> _Delimiter | None:
        """The first delimiter of an open multipart that begins in ``data[at:end]``."""
        data = self.data
        while self._multiparts:
            line = data.find(b"\n--", max(at - 1, 0), end + 2) + 1
            if not 0 < line < end:
                return None
            self._dashes += 1
            if self._dashes > MAX_DASHES:
                self._leave_out(f"It has more than {MAX_DASHES} lines that begin with --.")
                return None
            at = line + 2
            if data.startswith(self._delimiters, line):
                stop = data.find(b"\n", line, line + _MAX_LINE)
                at = stop + 1 if stop >= 0 else min(line + _MAX_LINE, len(data))
                found = self._delimiter(line, at)
                if found is not None:
                    return found
        return None

    def _delimiter(self, line: int, end: int) -> _Delimiter | None:
        """The delimiter that the line ``data[line:end]`` is, of the outermost multipart."""
        text = self.data[line:end]
        # A longer line is the delimiter of another multipart, or text.
        opened = text.rstrip()
        if opened not in self._delimiters and not text.startswith(self._closing):
            return None
        for level, delimiter in enumerate(self._delimiters):
            closes = text.startswith(self._closing[level])
            if closes or opened == delimiter:
                return _Delimiter(line, end, level, closes)
        return None

    def _end_parts(self, depth: int, line: int) -> None:
        """End what is in a multipart of that depth before its delimiter, which begins at *line*.

        The line end before a delimiter belongs to it (RFC 2046 section 5.1.1).
        """
        end = line - 1
        if self.data[end - 1 : end] == b"\r":
            end -= 1
        parts = self.message.parts
        while self._unended and parts[self._unended[-1]].depth > depth:
            number = self._unended.pop()
            parts[number] = replace(parts[number], end=max(parts[number].start, end))

    def _forget_multiparts(self, level: int) -> None:
        """Look for no delimiters any more of the multiparts from that level on."""
        del self._multiparts[level:]
        self._delimiters = self._delimiters[:level]
        self._closing = self._closing[:level]

    def _show_what_is_no_multipart(self) -> None:
        """Make a text of each multipart whose boundary doesn't occur: show what is there."""
        parts = self.message.parts
        for part, next_part in zip(parts, [*parts[1:], None], strict=True):
            if part.is_multipart and (next_part is None or next_part.depth <= part.depth):
                default = self._defaults[part.number]
                parts[part.number] = replace(
                    part,
                    content_type=default,
                    charset=None,
                    encoding="",
                    filename=None,
                    content_id=None,
                    location=None,
                    attached=False,
                )

    def _take_out_files(self) -> None:
        """Make attachments of the uuencoded files in texts, and a multipart of such a text."""
        if not uuencode.may_be_in(self.data):
            return
        found: list[Part] = []
        for part in self.message.parts:
            if part.content_type != "text/plain" or part.attached or part.filename is not None:
                pieces = [part]
            else:
                pieces = with_files(part, self.data)
            if len(found) + len(pieces) > MAX_PARTS:
                pieces = [part]
            found += [replace(each, number=len(found) + n) for n, each in enumerate(pieces)]
        self.message.parts = found

    def _leave_out(self, sentence: str) -> None:
        if sentence not in self.message.left_out:
            self.message.left_out.append(sentence)


def _header_end(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the header section ends, and where the body begins."""
    found = _EMPTY_LINE.match(data, start, end) or _LINE_AND_EMPTY_LINE.search(data, start, end)
    return (found.start(), found.end()) if found is not None else (end, end)


def _content_id(value: str) -> str:
    """The Content-ID in *value* without its angle brackets, which may be missing."""
    _, bracket, rest = value.partition("<")
    return (rest.partition(">")[0] if bracket else value).strip()[:200]


def _media_type(value: str) -> str:
    """The media type in *value*; what can't be read is text (RFC 2045 section 5.2)."""
    found = _MEDIA_TYPE.match(value)
    return f"{found[1]}/{found[2]}" if found is not None else "text/plain"
