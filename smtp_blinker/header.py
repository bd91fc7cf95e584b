"""Header fields that policies add to a message or remove from it (RFC 5322 section 2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: Octets of a header that can be edited; the rest stays unchanged.
MAX_HEADER: Final = 2**20
# RFC 5322 section 3.6.8: printable US-ASCII without the colon.
_NAME: Final = re.compile(r"[!-9;-~]{1,76}")
#: Controls, line separators and surrogates.
_NOT_IN_VALUE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# RFC 5322 section 2.1.1: octets of a line, without its CRLF.
_GOOD_LINE: Final = 78
_LONGEST_LINE: Final = 998


class HeaderEdits:
    """The edits of one message, in order."""

    __slots__ = ("_added", "_removed")

    def __init__(self) -> None:
        #: Added fields, the lowest in the header first: name in lower case, value, octets.
        self._added: list[tuple[str, str, bytes]] = []
        #: Patterns of removed fields, by their name in lower case; None removes all of that name.
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
        """The octets of the added fields; the field added last is the first."""
        return b"".join(octets for _, _, octets in reversed(self._added))

    @property
    def removes(self) -> bool:
        return bool(self._removed)

    def left_of(self, header: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield each field of *header* (b"" for a removed one) and its length in octets.

        The lengths tell the caller how much work was done, so that it can let other greenlets run.
        The first item is b"" with the length of *header*, for the preparation of the whole.
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
        # RFC 5322 section 4.5.8: the obsolete syntax allows spaces before the colon.
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
    """The methods of `Envelope` that edit the header of its message."""

    #: The edits of `add_header` and `remove_header`; None without any.
    header_edits: HeaderEdits | None = None
    smtputf8: bool

    def add_header(self, name: str, value: str) -> None:
        """Put a header field on top of the message that `on_data` reads.

        *value* is folded at its spaces. It has an effect only on spooled messages; every message is
        spooled while some policy has `on_message`. Raises ValueError if *name* isn't a valid field
        name, if *value* has a control character such as CR or LF, if it isn't ASCII in a message
        without SMTPUTF8, and if one of its words is longer than a line may be (998 octets).
        """
        if self.header_edits is None:
            self.header_edits = HeaderEdits()
        self.header_edits.add(name, value, self.smtputf8)

    def remove_header(self, name: str, matching: str | re.Pattern[str] | None = None) -> None:
        """Remove all header fields *name* from the message that `on_data` reads.

        *matching* is a regular expression: only fields whose unfolded value it finds something in
        are removed. The client chooses that value, so the expression must not need exponential
        time. Fields that `add_header` added before are removed too. Only the first 1 MiB of the
        header is searched. It has an effect only on spooled messages, as with `add_header`. Raises
        ValueError if *name* isn't a valid field name, and re.error for a wrong *matching*.
        """
        if self.header_edits is None:
            self.header_edits = HeaderEdits()
        self.header_edits.remove(name, matching)


def header_length(content: bytes, is_whole: bool) -> int:
    """The length in octets of the header at the beginning of *content*, without the empty line.

    *content* is the whole message or its beginning, as *is_whole* tells. In a beginning without an
    empty line the last field isn't counted, since it may continue.
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
    """*header*, with the LF before each continuation line replaced, so that each LF ends a field.

    The length doesn't change. For a field of half a million lines `replace` is faster than a loop
    or a regular expression.
    """
    return header.replace(b"\n ", b"  ").replace(b"\n\t", b"  ")


def _checked_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a header field is text, not {name!r}")
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a header field: {name!r}")
    return name


def _field(name: str, value: str, utf8: bool) -> bytes:
    """The octets of the folded field; raises like `add_header`."""
    _checked_name(name)
    if not isinstance(value, str):
        raise TypeError(f"the value of {name} is text, not {value!r}")
    if _NOT_IN_VALUE.search(value):
        raise ValueError(f"the value of {name} holds a control: {value!r}")
    if not utf8 and not value.isascii():
        # RFC 6532 section 3: only SMTPUTF8 messages may have UTF-8 in the header.
        raise ValueError(f"the value of {name} is not ASCII, and the message not SMTPUTF8")
    lines = [f"{name}:".encode("ascii")]
    for word in re.findall(" *[^ ]+", f" {value.strip(' ')}"):
        octets = word.encode()
        # The first word stays on the line of the name: some programs misread an empty first line.
        if len(lines[-1]) + len(octets) > _GOOD_LINE and not lines[-1].endswith(b":"):
            lines.append(octets)
        else:
            lines[-1] += octets
    if max(map(len, lines)) > _LONGEST_LINE:
        raise ValueError(f"the value of {name} has a word that is longer than a line may be")
    return b"\r\n".join(lines) + b"\r\n"
