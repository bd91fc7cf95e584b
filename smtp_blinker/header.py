"""The header fields that policies add to a message and remove from it (RFC 5322 section 2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Octets of a header that are searched; the rest stays unchanged.
MAX_HEADER: Final = 2**20
# RFC 5322 section 3.6.8: printable US-ASCII without the colon.
_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
#: Controls, line separators and surrogates.
_NOT_IN_VALUE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5322 section 2.1.1: octets of a line, without its CRLF.
_GOOD_LINE: Final = 78
_LONGEST_LINE: Final = 998


class HeaderEdits:
    """The edits of one message, in the order in which they were made."""

    __slots__ = ("_added", "_removed")

    def __init__(self) -> None:
        #: The fields on top, the lowest first: name in lower case, value, octets.
        self._added: list[tuple[str, str, bytes]] = []
        #: The fields to remove, by the name in lower case; without a pattern all of that name.
        self._removed: dict[bytes, list[re.Pattern[str] | None]] = {}

    def add(self, name: str, value: str, utf8: bool) -> None:
        octets = _field(name, value, utf8)
        self._added.append((name.lower(), value, octets))

    def remove(self, name: str, matching: str | re.Pattern[str] | None) -> None:
        key = _checked_name(name).lower()
        if matching is not None:
            matching = re.compile(matching)
            if not isinstance(matching.pattern, str):
                raise TypeError(f"matching takes a regular expression of text, not {matching!r}")
        self._removed.setdefault(key.encode("ascii"), []).append(matching)
        self._added = [
            one
            for one in self._added
            if one[0] != key or not (matching is None or matching.search(one[1]))
        ]

    @property
    def top(self) -> bytes:
        """The fields that were added, the last one first."""
        return b"".join(octets for _, _, octets in reversed(self._added))

    @property
    def removes(self) -> bool:
        return bool(self._removed)

    def left_of(self, header: bytes) -> Iterator[tuple[bytes, int]]:
        """Each field of *header*, b"" for one that is taken away, and the octets that were looked
        at since the one before.

        The first is b"" with all octets: after the whole was looked at once, others can have their
        turn.
        """
        joined = _joined(header)
        yield b"", len(header)
        end = 0
        while end < len(header):
            start, end = end, joined.find(b"\n", end) + 1 or len(header)
            field = header[start:end]
            yield b"" if self._takes(field) else field, len(field)

    def _takes(self, field: bytes) -> bool:
        colon = field.find(b":")
        # RFC 5322 section 4.5.8 had spaces before the colon.
        patterns = self._removed.get(field[: max(colon, 0)].rstrip(b" \t").lower())
        if patterns is None:
            return False
        if None in patterns:
            return True
        # RFC 5322 section 2.2.3: unfolding
        octets = field[colon + 1 :].replace(b"\r\n", b"").replace(b"\n", b"")
        try:
            value = octets.decode().strip()
        except UnicodeDecodeError:
            value = octets.decode("latin-1").strip()
        return any(pattern is None or pattern.search(value) for pattern in patterns)


class EditableHeader:
    """The part of an envelope that edits the header of its message."""

    #: What `add_header` and `remove_header` did, or None.
    header_edits: HeaderEdits | None = None
    smtputf8: bool

    def add_header(self, name: str, value: str) -> None:
        """Put a header field on top of the message that `on_data` reads.

        *value* is folded at its spaces. Only a message that is spooled is edited, as every message
        is while a policy has `on_message`. Raises ValueError for a name that isn't a field's, for
        a value with CR, LF or another control, for one that isn't ASCII where the message isn't
        SMTPUTF8, and for a word that is longer than a line may be (998 octets).
        """
        if self.header_edits is None:
            self.header_edits = HeaderEdits()
        self.header_edits.add(name, value, self.smtputf8)

    def remove_header(self, name: str, matching: str | re.Pattern[str] | None = None) -> None:
        """Take all header fields *name* away from the message that `on_data` reads.

        With *matching*, a regular expression, only those in whose unfolded value it is found; the
        value is the client's, so it must not take exponential time. Fields that were added before
        go too, those that are added later stay. The first 1 MiB of the header is looked at. Only
        a message that is spooled is edited, as with `add_header`. Raises ValueError for a name
        that isn't a field's and re.error for what is not a regular expression.
        """
        if self.header_edits is None:
            self.header_edits = HeaderEdits()
        self.header_edits.remove(name, matching)


def header_length(content: bytes, is_whole: bool) -> int:
    """Octets of the header with which *content*, the beginning of a message or all of it, begins.

    The empty line isn't counted. Where there is none, a last field that may go on isn't either.
    """
    if content.startswith((b"\r\n", b"\n")):
        return 0
    ends = [at + 1 for at in (content.find(b"\n\r\n"), content.find(b"\n\n")) if at >= 0]
    if ends:
        return min(ends)
    if is_whole:
        return len(content)
    return _joined(content).rfind(b"\n", 0, len(content) - 1) + 1


def _joined(header: bytes) -> bytes:
    """*header*, as long as it is, with the LF before each continued line replaced: those that are
    left end a field. By `replace`, since no loop and no regular expression is as fast on a field
    of half a million lines."""
    return header.replace(b"\n ", b"  ").replace(b"\n\t", b"  ")


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a header field is text, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a header field: {name!r}")
    return name


def _field(name: str, value: str, utf8: bool) -> bytes:
    """The field as it is sent, folded; raises what `add_header` says."""
    _checked_name(name)
    if not isinstance(value, str):
        raise TypeError(f"the value of {name} is text, not {value!r}")
    if _NOT_IN_VALUE.search(value):
        raise ValueError(f"the value of {name} holds a control: {value!r}")
    if not utf8 and not value.isascii():
        # RFC 6532 section 3: UTF-8 in a header is for SMTPUTF8 messages.
        raise ValueError(f"the value of {name} is not ASCII, and the message not SMTPUTF8")
    lines = [f"{name}:".encode("ascii")]
    for word in re.findall(" *[^ ]+", f" {value.strip(' ')}"):
        octets = word.encode()
        # The first word stays beside the name: some programs misread a first line without a value.
        if len(lines[-1]) + len(octets) > _GOOD_LINE and not lines[-1].endswith(b":"):
            lines.append(octets)
        else:
            lines[-1] += octets
    if max(map(len, lines)) > _LONGEST_LINE:
        raise ValueError(f"the value of {name} has a word that is longer than a line may be")
    return b"\r\n".join(lines) + b"\r\n"
