"""The message that `on_data` reads while it arrives."""

from __future__ import annotations

import io
from collections.abc import Callable


class MessageStream(io.BufferedIOBase):
    """A binary file that ends where the message ends, dots already unstuffed.

    Reading blocks the client's greenlet and nobody else's. At most one received piece
    (128 KiB) is held here, so a slow reader slows its sender down. What is left unread when
    the hook returns is read and dropped by the server.

    Every reading method raises ConnectionError when the client vanishes or times out before
    the end, and `Reject` when the server refuses the message (bare CR or LF, too large, a
    loop): neither can be taken for a whole message. Let it pass; the server knows the answer.
    """

    def __init__(self, next_piece: Callable[[], bytes], limit: int) -> None:
        self._next_piece = next_piece
        self._limit = limit
        self._piece = b""
        self._position = 0
        self._ended = False
        #: Octets that have arrived so far.
        self.byte_length = 0

    @property
    def size_exceeded(self) -> bool:
        """Whether more than the option `size` has arrived."""
        return 0 < self._limit < self.byte_length

    def _fill(self) -> bool:
        """Get the next piece; False at the end."""
        if self._ended:
            return False
        self._piece = b""
        self._position = 0
        piece = self._next_piece()
        if not piece:
            self._ended = True
            return False
        self._piece = piece
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Up to *size* octets, fewer only at the end of the message; all of it for -1."""
        if size is None or size < 0:
            pieces = [self._piece[self._position :]]
            while self._fill():
                pieces.append(self._piece)
            self._piece = b""
            self._position = 0
            return b"".join(pieces)
        pieces = []
        while size > 0:
            piece = self.read1(size)
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, size: int = -1) -> bytes:
        """What is at hand, up to *size* octets, waiting for the first; b"" at the end."""
        if size == 0:
            return b""
        if self._position >= len(self._piece) and not self._fill():
            return b""
        start = self._position
        end = len(self._piece) if size is None or size < 0 else start + size
        if start == 0 and end >= len(self._piece):
            piece, self._piece = self._piece, b""
            return piece
        piece = self._piece[start:end]
        self._position = start + len(piece)
        return piece

    def readline(self, size: int | None = -1) -> bytes:
        """The next line with its newline, or *size* octets of it."""
        left = -1 if size is None else size
        pieces = []
        while left != 0:
            if self._position >= len(self._piece) and not self._fill():
                break
            start = self._position
            end = self._piece.find(b"\n", start) + 1 or len(self._piece)
            if 0 < left < end - start:
                end = start + left
            piece = self._piece[start:end]
            self._position = end
            pieces.append(piece)
            if left > 0:
                left -= len(piece)
            if piece.endswith(b"\n"):
                break
        return b"".join(pieces)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def drain(self) -> None:
        """Read and drop what is left. The server does this after `on_data`."""
        while self._fill():
            pass
