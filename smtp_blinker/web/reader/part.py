"""A part of a message: the position of its octets, and their meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from . import charsets, transfer, uuencode
from .flowed import unflow

#: Characters of a file name.
MAX_NAME: Final = 200
#: Characters of an extension that is kept when the name is cut.
MAX_EXTENSION: Final = 10

_NOT_IN_NAMES = re.compile('[<>:"|?*]')


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
    #: The Content-Location (RFC 2557 section 4) as it was written.
    location: str | None
    attached: bool
    start: int
    end: int
    #: Whether it is format=flowed (RFC 3676), and whether with DelSp=yes.
    flowed: bool = False
    delete_space: bool = False
    #: Whether what the encoding made is quoted-printable too: a file in a text that is.
    quoted: bool = False
    #: Of a multipart/related, the Content-ID of the part to show (RFC 2387 section 3.2).
    root: str | None = None

    @property
    def is_multipart(self) -> bool:
        return self.content_type.startswith("multipart/")

    def content(self, data: bytes, limit: int | None = None) -> bytes:
        """The octets of the part, without their transfer encoding.

        With *limit*, at most *limit* octets of the encoded text are read.
        """
        return b"".join(self.pieces(data, limit))

    def pieces(self, data: bytes, limit: int | None = None) -> Iterator[bytes]:
        """The same a piece at a time."""
        end = self.end if limit is None else min(self.end, self.start + limit)
        octets = transfer.cut(data, self.start, end)
        if self.quoted:
            octets = transfer.decode(octets, "quoted-printable")
        return transfer.decode(octets, self.encoding)

    def text(self, data: bytes, limit: int | None = None) -> str:
        """The part's text with LF line ends; what its charset doesn't know becomes U+FFFD."""
        content = self.content(data, limit)
        charset = self.charset
        if charset is None and self.content_type == "text/html":
            charset = charsets.declared_in_html(content)
        text = _with_line_feeds(charsets.decode(content, charset)).replace("\x00", "\ufffd")
        if self.flowed and self.content_type == "text/plain":
            return unflow(text, delete_space=self.delete_space)
        return text


def with_files(text: Part, data: bytes) -> list[Part]:
    """*text*; if it contains files, a multipart of the files and the texts around them."""
    if text.encoding == "base64" or text.encoding in transfer.UUENCODE:
        return [text]
    quoted = text.encoding == "quoted-printable"
    inner = replace(text, depth=text.depth + 1, content_id=None, location=None)
    found = [replace(text, content_type="multipart/mixed", charset=None)]
    at = text.start
    for each in uuencode.files(data, text.start, text.end, quoted=quoted):
        if not data[at : each.start].isspace() and each.start > at:
            found.append(replace(inner, start=at, end=each.start))
        found.append(
            replace(
                inner,
                content_type="application/octet-stream",
                charset=None,
                encoding=each.encoding,
                filename=clean_name(charsets.decode_unlabelled(each.name)) or None,
                start=each.content,
                end=each.content_end,
                flowed=False,
                quoted=quoted,
            )
        )
        at = each.end
    if len(found) == 1:
        return [text]
    if at < text.end and not data[at : text.end].isspace():
        found.append(replace(inner, start=at))
    return found


def _with_line_feeds(text: str) -> str:
    """*text* with LF for each run of CRs before a LF, and for each other CR."""
    if "\r" not in text:
        return text
    *lines, rest = text.split("\n")
    return "\n".join([*(line.rstrip("\r") for line in lines), rest]).replace("\r", "\n")


def clean_name(name: str) -> str:
    """*name* as the name of a file: no folders, nothing that doesn't print."""
    name = re.split(r"[/\\]", name)[-1]
    if not name.isprintable():
        name = "".join(filter(str.isprintable, name))
    name = _NOT_IN_NAMES.sub("", name).strip(" .")
    if len(name) <= MAX_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > MAX_EXTENSION:
        return name[:MAX_NAME]
    return stem[: MAX_NAME - len(extension) - 1] + dot + extension
