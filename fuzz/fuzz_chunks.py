"""BDAT (RFC 3030): what arrives as which message, and which reply each command gets.

The first octet of an input chooses the pieces that the octets come in, the second how the program
reads. Each octet behind them is a command; those of a chunk take its content from what follows.
"""

from __future__ import annotations

import re
from typing import Any

from harness import Script, Talk, converse, cut, take

from smtp_blinker import MessageStream, Session
from smtp_blinker.options import Options

_OPTIONS = Options(
    name="mx.example.com",
    disable_reverse_lookup=True,
    max_errors=None,
    max_junk_commands=None,
    max_refused_recipients=None,
)
_BEGIN = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


def _read_all(talk: Talk, stream: MessageStream, session: Session) -> None:
    take(talk, stream.read(), session)


def _read_pieces(talk: Talk, stream: MessageStream, session: Session) -> None:
    content = b""
    while piece := stream.read(7):
        content += piece + stream.read1(3) + stream.readline(5)
    take(talk, content, session)


def _read_lines(talk: Talk, stream: MessageStream, session: Session) -> None:
    take(talk, b"".join(stream), session)


_ON_DATA: tuple[Any, ...] = (_read_all, _read_pieces, _read_lines)


class _Expected:
    """A model: the octets to send, the codes of their replies, and the messages."""

    def __init__(self) -> None:
        self.octets = b"EHLO me\r\n" + _BEGIN
        self.codes = [220, 250, 250, 250]
        self.messages: list[bytes] = []
        #: What came of the message; None when no transaction is open.
        self._content: bytes | None = b""
        self._has_chunks = False

    def chunk(self, content: bytes, last: bool) -> None:
        self.octets += b"BDAT %d%s\r\n%s" % (len(content), b" LAST" if last else b"", content)
        if self._content is None:
            self.codes.append(503)
            return
        self._content += content
        self._has_chunks = True
        self.codes.append(250)
        if last:
            # Each run of CRs before a LF, each LF and each other CR is one line end.
            self.messages.append(re.sub(rb"\r+\n|\r|\n", b"\r\n", self._content))
            self._end()

    def _end(self) -> None:
        self._content = None
        self._has_chunks = False

    def begin(self) -> None:
        self.octets += _BEGIN
        if self._content is None:
            self._content = b""
            self.codes += [250, 250]
        else:
            self.codes += [503, 503 if self._has_chunks else 250]

    def reset(self) -> None:
        self.octets += b"RSET\r\n"
        self.codes.append(250)
        self._end()

    def broken_chunk(self, content: bytes) -> None:
        """Its octets are no commands, and what lacks them is no message."""
        self.octets += b"BDAT 0%d  LAST\r\n%s" % (len(content), content)
        self.codes.append(501)
        self._end()

    def noop(self) -> None:
        self.octets += b"NOOP\r\n"
        self.codes.append(250)


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    mode, way, rest = data[0], data[1], data[2:]
    expected = _Expected()
    while rest:
        choice, size, rest = rest[0] % 8, rest[0] // 8, rest[1:]
        if choice == 3 and size == 31:
            expected.broken_chunk(rest[:size])
            rest = rest[size:]
        elif choice < 5:
            expected.chunk(rest[:size], last=choice == 4)
            rest = rest[size:]
        elif choice == 5:
            expected.begin()
        elif choice == 6:
            expected.reset()
        else:
            expected.noop()
    on_data = _ON_DATA[way % len(_ON_DATA)]
    talk = converse(Script(cut(expected.octets, mode), "eof"), _OPTIONS, on_data)
    assert [answer.code for answer in talk.answers] == expected.codes
    assert talk.delivered == expected.messages
