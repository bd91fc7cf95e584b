"""The file from which `on_data` reads a message while it arrives."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Protocol


class TruncatedError(ConnectionAbortedError):
    """The client disconnected or timed out before the end of its message."""


class PieceSource(Protocol):
    """The source of the pieces of a message."""

    @property
    def byte_length(self) -> int:
        """Octets of the message so far."""

    @property
    def size_exceeded(self) -> bool:
        """Whether the message so far is larger than the option `size`."""

    @property
    def ended(self) -> bool:
        """Whether `next_piece` has returned the last piece."""

    @property
    def is_whole_so_far(self) -> bool:
        """False after `next_piece` raised an exception that is final."""

    def next_piece(self) -> bytes:
        """The next piece, b"" at the end; raises like the methods of `MessageStream`."""


# MessageStream derives from io.BufferedIOBase for type checkers only: the finalizer of io.IOBase
# takes more time than the content of a small message.
if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    _Base = io.BufferedIOBase
else:
    _Base = object


class MessageStream(_Base):
    """A readable binary file with the content of one message, after dot unstuffing.

    Reading blocks only the client's greenlet. The stream buffers at most one piece (64 KiB), so
    a slow reader slows down its client. When the hook returns, the server reads and drops the
    rest; the stream can't be read later.

    Every reading method raises ConnectionError if the client disconnects or times out before the
    end, and `Reject` if the server refuses the message (bare CR or LF, too large, a mail loop), so
    that an incomplete message never looks complete. Don't catch these: the server then sends the
    right reply. It raises RuntimeError outside the greenlet in which the hook was called.
    """

    __slots__ = ("_piece", "_position", "_source")

    def __init__(self, source: PieceSource) -> None:
        self._source = source
        self._piece = b""
        self._position = 0

    @property
    def byte_length(self) -> int:
        """Octets of the message so far."""
        return self._source.byte_length

    @property
    def size_exceeded(self) -> bool:
        """Whether the message so far is larger than the option `size`."""
        return self._source.size_exceeded

    # Reading

    def read(self, size: int | None = -1) -> bytes:
        """Read *size* octets, fewer only at the end of the message; all of it for -1 or None."""
        if size is None:
            size = -1
        if not self._piece:
            if size == 0:
                return b""
            piece = self._source.next_piece()
            if self._source.ended and (size < 0 or len(piece) <= size):
                return piece
            self._piece = piece
        pieces: list[bytes] = []
        try:
            while size and (piece := self.read1(size)):
                pieces.append(piece)
                if size > 0:
                    size -= len(piece)
        except BaseException:
            self._put_back(pieces)
            raise
        return b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """Read what has arrived, at most *size* octets; waits for the first. b"" at the end."""
        piece = self._piece
        start = self._position
        if not piece:
            if size == 0:
                return b""
            piece = self._source.next_piece()
            if size < 0 or len(piece) <= size:
                return piece
        end = len(piece) if size < 0 else start + size
        if end >= len(piece):
            self._piece = b""
            self._position = 0
            return piece[start:] if start else piece
        self._piece = piece
        self._position = end
        return piece[start:end]

    def readline(self, size: int | None = -1) -> bytes:
        """Read the next line with its newline, but at most *size* octets. b"" at the end."""
        left = -1 if size is None else size
        parts: list[bytes] = []
        while left != 0:
            if not self._piece:
                try:
                    self._piece = self._source.next_piece()
                except BaseException:
                    self._put_back(parts)
                    raise
                if not self._piece:
                    break
            start = self._position
            end = self._piece.find(b"\n", start) + 1 or len(self._piece)
            if 0 < left < end - start:
                end = start + left
            part = self._piece[start:end]
            if end == len(self._piece):
                self._piece = b""
                end = 0
            self._position = end
            parts.append(part)
            if left > 0:
                left -= len(part)
            if part.endswith(b"\n"):
                break
        return b"".join(parts)

    def readinto(self, buffer: WriteableBuffer) -> int:
        return _put_into(buffer, self.read)

    def readinto1(self, buffer: WriteableBuffer) -> int:
        return _put_into(buffer, self.read1)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        lines: list[bytes] = []
        octets = 0
        try:
            for line in self:
                lines.append(line)
                octets += len(line)
                if hint is not None and 0 < hint <= octets:
                    break
        except BaseException:
            self._put_back([*lines, self._piece])
            raise
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    # The rest of a binary file

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    @property
    def name(self) -> str:
        """Always ``"<message>"``; `io.TextIOWrapper` and others show it."""
        return "<message>"

    @property
    def closed(self) -> bool:
        return False

    def flush(self) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing: the server reads what is left."""

    def __enter__(self) -> MessageStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _unsupported(self, *args: Any) -> NoReturn:
        raise io.UnsupportedOperation("a message can only be read, once and in order")

    detach = fileno = seek = tell = truncate = write = writelines = _unsupported

    def forget(self) -> None:
        """Drop the buffered piece. The server calls it when the hook has returned."""
        self._piece = b""
        self._position = 0

    def _put_back(self, pieces: list[bytes]) -> None:
        """Keep *pieces* for the next read, after a gevent.Timeout of the program ended this one."""
        if self._source.is_whole_so_far:  # otherwise the next read must raise again
            self._piece = b"".join(pieces)


io.BufferedIOBase.register(MessageStream)


def _put_into(buffer: WriteableBuffer, read: Callable[[int], bytes]) -> int:
    """Fill *buffer* by one call of *read*; returns the number of octets."""
    view = memoryview(buffer).cast("B")
    data = read(len(view))
    view[: len(data)] = data
    return len(data)
