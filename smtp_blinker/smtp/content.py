"""Decodes the content of an incoming message.

Only CRLF "." CRLF ends the content (RFC 5321 section 4.1.1.4). A dot next to a bare CR or LF is
content; otherwise one server's message could be another server's commands. After the 354 a server
must read up to the true end before it refuses (section 4.3.2).
"""

from __future__ import annotations

import re
from codecs import latin_1_decode
from io import IncrementalNewlineDecoder
from typing import Final

END_OF_DATA: Final = b"\r\n.\r\n"
# Ends of a piece that may be the beginning of the end of data, longest first.
_BEGINNINGS: Final = tuple(END_OF_DATA[:length] for length in (4, 3, 2, 1))
_DOT_AT_LINE_START: Final = re.compile(rb"\n\.")
# Matches only from the first CR of a run: a long run without LF would be searched from each CR.
_CR_RUN: Final = re.compile(rb"(?<!\r)\r\r++\n")
#: The most CRs before a LF that are one line end with it; earlier ones are bare. They may arrive in
#: many pieces, and are held back until the next octet is known.
MAX_CR_RUN: Final = 64 * 1024

#: RFC 5321 section 6.3: a server should not assume a loop with fewer than 100 Received fields.
MAX_RECEIVED_FIELDS: Final = 100
_RECEIVED: Final = b"\r\nreceived:"


class ContentDecoder:
    """Finds the end of data, removes dot-stuffing, and records reasons to refuse the message.

    `feed` takes the octets that arrived and returns those that are certainly content. It never
    splits a CRLF. *policy* is "reject", "normalize" or "allow". Memory: between two calls it holds
    back at most four octets, with "normalize" also the number of up to `MAX_CR_RUN` CRs, and about
    1,100 octets of the header. `feed` raises nothing for any input.
    """

    __slots__ = (
        "_crs",
        "_fields",
        "_header",
        "_header_text",
        "_held",
        "_in_header",
        "_newlines",
        "_skip",
        "bare_newline",
        "changed",
        "ended",
        "is_loop",
        "policy",
        "rest",
    )

    def __init__(self, policy: str) -> None:
        self.policy = policy
        # Content begins at the start of a line, as if it came after a CRLF.
        self._held = b"\r\n"
        self._skip = True
        self._in_header = True
        #: The last octets of the header, whose Received fields aren't counted yet, and the count.
        self._header = b""
        self._fields = 0
        self._header_text: IncrementalNewlineDecoder | None = None
        #: With "normalize", the number of CRs at the end so far; a LF may follow.
        self._crs = 0
        if policy == "allow":
            self._header_text = IncrementalNewlineDecoder(None, True)
        # Detects the kinds of newlines in one pass in C; counting them would take three.
        self._newlines = IncrementalNewlineDecoder(None, False)
        #: Whether there was a bare CR or LF.
        self.bare_newline = False
        #: Whether the last piece was changed, which takes up to ten times as long as to check it.
        self.changed = False
        #: Whether the end of data was found.
        self.ended = False
        #: Whether the header has more than `MAX_RECEIVED_FIELDS` Received fields.
        self.is_loop = False
        #: The octets after the end of data: the next commands.
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        if data.endswith(END_OF_DATA) and data.find(b"\r\n.", 0, data.rfind(b".", 0, -3) + 1) < 0:
            # The usual case: only the last line begins with a dot. The search for the dot before it
            # costs almost nothing, and the octets after that dot needn't be searched.
            self.ended = True
            return self._take(data[:-3], False)
        piece, stuffed = self._cut(data)
        self.changed = stuffed
        return self._take(piece, stuffed)

    def _take(self, piece: bytes, stuffed: bool) -> bytes:
        """Convert *piece*, which is certainly content, to the octets for the program."""
        # A CR at the end of *piece* is bare: if a LF may follow, `_cut` has held it back.
        newlines = self._newlines
        newlines.decode(latin_1_decode(piece)[0], True)
        kinds = newlines.newlines
        if kinds != "\r\n" and kinds is not None:
            self.bare_newline = True
        if stuffed:
            # RFC 5321 section 4.5.2: the client added a dot at the beginning of these lines.
            piece = piece.replace(b"\r\n.", b"\r\n")
        if self.bare_newline and self.policy == "normalize":
            piece = self._normalize(piece)
            self.changed = True
        if self._in_header:
            self._look_at_header(piece)
        if self._skip and piece:
            piece = piece[2:]
            self._skip = False
        return piece

    def _normalize(self, piece: bytes) -> bytes:
        """*piece* with each run of CRs and a LF, each other LF and each other CR as CRLF."""
        piece = b"\r" * self._crs + piece
        self._crs = min(len(piece) - len(piece.rstrip(b"\r")), MAX_CR_RUN)
        piece = _CR_RUN.sub(_line_end, piece[: len(piece) - self._crs])
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def _last_crs(self) -> bytes:
        """The held back CRs at the end of chunked content; each of them is bare."""
        crs, self._crs = self._crs, 0
        return b"\r\n" * crs

    def _cut(self, data: bytes) -> tuple[bytes, bool]:
        """The part of *data* that is certainly content, and whether a line begins with a dot."""
        self._held = b""
        stuffed = False
        # Attachments in base64 have no dots, and the search for one octet costs almost nothing.
        dot_anywhere = data.find(b".")
        dot = None
        if dot_anywhere >= 0:
            dot = _DOT_AT_LINE_START.search(data, max(dot_anywhere - 1, 0))
        if dot is not None:
            first = dot.start() - 1
            end = data.find(END_OF_DATA, max(first, 0))
            if end >= 0:
                self.ended = True
                self.rest = data[end + 5 :]
                return data[: end + 2], first < end
            stuffed = True
        if data.endswith(_BEGINNINGS):
            hold = next(len(start) for start in _BEGINNINGS if data.endswith(start))
            data, self._held = data[:-hold], data[-hold:]
        return data, stuffed

    def _look_at_header(self, piece: bytes) -> None:
        if self._header_text is not None:
            # With the other policies, convert all line ends; the decoder waits for the second half
            # of a CRLF that is split between two pieces.
            text = self._header_text.decode(piece.decode("latin-1"))
            piece = text.encode("latin-1").replace(b"\n", b"\r\n")
        header = self._header + piece
        end = header.find(b"\r\n\r\n")
        if end >= 0:
            self._in_header = False
            header = header[: end + 2]
        self._header = header
        # Most headers are too short for so many fields: nothing is counted in them.
        if self._fields + len(header) // len(_RECEIVED) > MAX_RECEIVED_FIELDS:
            self.is_loop = self.count_received() > MAX_RECEIVED_FIELDS

    def count_received(self) -> int:
        """The number of Received fields in the header so far."""
        self._fields += self._header.lower().count(_RECEIVED)
        # One octet less than the field's name, so that it is counted once.
        self._header = self._header[1 - len(_RECEIVED) :]
        return self._fields


def _line_end(found: re.Match[bytes]) -> bytes:
    crs = len(found[0]) - 1
    return b"\n" * max(crs - MAX_CR_RUN + 1, 1)
