"""Splits octets into lines, and detects lines that SMTP doesn't allow.

Memory: a line that exceeds the limit is dropped while it arrives.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from .reply import MAX_AUTH_LINE
from .verbs import VERBS

_BDAT: Final = re.compile(rb"[ \t]*BDAT", re.I)
_HTTP_METHOD: Final = rb"(?:GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|CONNECT|PATCH|PRI) "
_HTTP_START: Final = re.compile(_HTTP_METHOD, re.I)
_HTTP_REQUEST: Final = re.compile(_HTTP_METHOD + rb".* HTTP/[0-9.]+ *", re.I | re.S)
#: RFC 5322 section 2.2, with the blanks before the colon of section 4.5. But a verb without its
#: blank, as in ``MAILFROM:<…>`` and ``RCPT-TO:<…>``, is a typing error and not a header field.
_HEADER_FIELD: Final = re.compile(
    rb"(?!(?:%s)[-_]?(?:FROM|TO|)[ \t]*:)[!-9;-~]++[ \t]*+:" % b"|".join(VERBS), re.I
)
#: The first octets of a TLS record with a handshake (RFC 8446 section 5.1).
TLS_RECORD: Final = b"\x16\x03"


def is_binary(line: bytes) -> bool:
    """Whether *line* belongs to a binary protocol, so that no SMTP follows it."""
    return b"\0" in line or line.startswith(TLS_RECORD)


def begins_as_bdat(line: bytes) -> bool:
    """Whether a chunk may follow *line*, which isn't a command (RFC 3030 section 2)."""
    return _BDAT.match(line) is not None


def is_http_request(line: bytes) -> bool:
    return _HTTP_REQUEST.fullmatch(line) is not None


def is_header_field(line: bytes) -> bool:
    """Whether *line*, which isn't a command, is a header field, that is content of a message."""
    return _HEADER_FIELD.match(line) is not None


class Problem(Enum):
    """The results of `LineReader.next_line` other than a line."""

    NEED_DATA = "nothing whole has arrived yet"
    TOO_LONG = "a line was longer than the limit and has been dropped"
    RESPONSE_TOO_LONG = "a line of AUTH was longer than the limit and has been dropped"
    BARE_NEWLINE = "a CR or LF stood alone in a line, which has been dropped"
    HTTP = "a line that was too long or had a CR or LF alone began as an HTTP request does"
    CONTENT = "a line that was too long or had a CR or LF alone began as a header field does"
    BINARY = "a line of TLS or another binary protocol, which is no SMTP"
    BROKEN_CHUNK = "a BDAT line was too long or had a CR or LF alone; its chunk follows"


NEED_DATA: Final = Problem.NEED_DATA


class LineReader:
    """A buffer of received octets that returns them as lines.

    *max_line* is in octets, including CRLF. *policy* is the option bare_newline: with "reject" only
    CRLF ends a line (RFC 5321 section 2.3.8), with the others LF does too. While `in_auth` is true,
    lines are responses of an AUTH exchange: they have a limit of their own, and are not checked for
    other protocols.
    """

    __slots__ = (
        "_longest",
        "_max_line",
        "_searched",
        "_skipping",
        "_strict",
        "buffer",
        "in_auth",
        "policy",
        "position",
    )

    def __init__(self, max_line: int, policy: str) -> None:
        #: Unread octets, perhaps after some that were read.
        self.buffer = b""
        #: The number of read octets at the beginning of `buffer`.
        self.position = 0
        self._searched = 0
        #: The problem of the line that is being dropped.
        self._skipping: Problem | None = None
        #: Longer lines are examined; lines of AUTH have the limit MAX_AUTH_LINE in any case.
        self._max_line = min(max_line, MAX_AUTH_LINE)
        self._longest = max_line
        self.in_auth = False
        self.set_policy(policy)

    def set_policy(self, policy: str) -> None:
        self.policy = policy
        self._strict = policy == "reject"

    def receive_data(self, data: bytes) -> None:
        """Add received octets to the buffer."""
        if self.position:
            self._searched -= self.position
            self.buffer = self.buffer[self.position :] + data
            self.position = 0
        else:
            self.buffer += data

    def next_line(self) -> bytes | Problem:
        """The next line without its CRLF, or a Problem. Raises nothing for any input."""
        buffer = self.buffer
        start = self.position
        end = buffer.find(b"\r\n" if self._strict else b"\n", self._searched)
        after = end + (2 if self._strict else 1)
        if self.policy == "normalize":
            end, after = self._normalized_end(end)
        elif not self._strict and end > start and buffer[end - 1] == 13:
            end -= 1
        if end < 0:
            return self._incomplete()
        line = buffer[start:end]
        if after == len(buffer):
            self.buffer = b""
            self.position = self._searched = 0
        else:
            self.position = self._searched = after
        if self._skipping is not None:
            problem, self._skipping = self._skipping, None
            return problem
        if after - start > self._max_line:
            too_long = self._too_long(line, after - start)
            if too_long is not None:
                return too_long
        if b"\n" in line or b"\r" in line:
            return self._broken(line, Problem.BARE_NEWLINE)
        return line

    def _normalized_end(self, lf: int) -> tuple[int, int]:
        """The end of the line and the beginning of the next one, or -1; *lf* is the next LF or -1.

        As in content, CRs and the LF after them are one line end, and each other CR is one. If a
        line with all the CRs after it is too long, all of it is dropped.
        """
        start = self.position
        cr = self.buffer.find(b"\r", start, lf if lf >= 0 else len(self.buffer))
        if cr < 0:
            return lf, lf + 1
        behind = len(self.buffer) - len(self.buffer[cr:].lstrip(b"\r"))
        if behind == len(self.buffer):
            return -1, -1  # a LF may follow
        if behind == lf:
            return cr, lf + 1
        too_long = behind - start > self._max_line or self._skipping is not None
        return cr, behind if too_long else cr + 1

    def _broken(self, line: bytes, problem: Problem) -> Problem:
        """*problem*, or another Problem if no commands can follow *line*."""
        if line.startswith(TLS_RECORD):
            return Problem.BINARY
        if self.in_auth:
            return problem
        if begins_as_bdat(line):
            return Problem.BROKEN_CHUNK
        if is_header_field(line[: self._max_line]):  # the same part however the octets arrive
            return Problem.CONTENT
        return Problem.HTTP if _HTTP_START.match(line) else problem

    def _incomplete(self) -> Problem:
        length = len(self.buffer) - self.position
        if self._skipping is None and self.begins_with_tls:
            return Problem.BINARY
        if length > self._max_line and self._skipping is None:
            self._skipping = self._too_long(self._unread(), length)
        if self._skipping is not None:
            # Keep the last octet: it may be the CR of the line end.
            self.buffer = self.buffer[-1:]
            self.position = self._searched = 0
        else:
            self._searched = max(len(self.buffer) - 1, self.position)
        return Problem.NEED_DATA

    def _too_long(self, line: bytes, length: int) -> Problem | None:
        """The Problem of a line that exceeds its limit, or None. AUTH has a limit of its own."""
        if self.in_auth or line[:5].upper() == b"AUTH ":
            return Problem.RESPONSE_TOO_LONG if length > MAX_AUTH_LINE else None
        if length <= self._longest:
            return None
        return self._broken(line, Problem.TOO_LONG)

    def _unread(self) -> bytes:
        return self.buffer[self.position :]

    @property
    def begins_with_tls(self) -> bool:
        """Whether the buffer begins with a TLS handshake record (RFC 8446 section 5.1)."""
        return self.buffer.startswith(TLS_RECORD, self.position)

    @property
    def ends_with_bare_newline(self) -> bool:
        """Whether the buffer is one line that ends with a bare LF, which the policy rejects."""
        return self._strict and self.buffer.endswith(b"\n")

    def drop_bare_line(self) -> Problem:
        """Drop the line of `ends_with_bare_newline`, for which the client waits for a reply."""
        problem = self._skipping or self._broken(self._unread(), Problem.BARE_NEWLINE)
        self.buffer = b""
        self.position = self._searched = 0
        self._skipping = None
        return problem

    @property
    def has_data(self) -> bool:
        """Whether there are unread octets."""
        return bool(self.buffer)  # it never has read octets only

    def take(self, size: int) -> bytes:
        """Remove and return up to *size* unread octets."""
        start = self.position
        data = self.buffer[start : start + size]
        end = start + len(data)
        if end == len(self.buffer):
            self.buffer = b""
            end = 0
        self.position = self._searched = end
        return data

    def take_all(self) -> bytes:
        """Remove and return all unread octets."""
        data = self.buffer[self.position :]
        self.buffer = b""
        self.position = self._searched = 0
        self._skipping = None
        return data
