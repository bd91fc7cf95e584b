"""The message that `on_data` reads while it arrives."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from time import monotonic
from typing import Final

from greenlet import getcurrent

from . import reply
from .content import MAX_RECEIVED_FIELDS, ContentDecoder
from .hook_timer import HookTimer
from .options import Options
from .reply import Reject, Reply
from .transport import Interrupted, Transport

#: Octets asked of the socket at once: the most of a message that is held in memory here. Below
#: 128 KiB, from where the allocator asks the system for every single one.
CONTENT_READ: Final = 64 * 1024
#: The same for a message's first octets, which are all of a small one: room for more costs time.
FIRST_CONTENT_READ: Final = 4 * 1024


_NO_END: Final = float("inf")


class TruncatedError(ConnectionAbortedError):
    """The client left, or its time was up, before the end of its message."""


class MessageStream:
    """A binary file that ends where the message ends, dots already unstuffed.

    Reading blocks the client's greenlet and nobody else's. At most one received piece
    (64 KiB) is held here, so a slow reader slows its sender down. What is left unread when
    the hook returns is read and dropped by the server, which also ends the stream: it can't
    be read later.

    Every reading method raises ConnectionError when the client vanishes or times out before
    the end, and `Reject` when the server refuses the message (bare CR or LF, too large, a
    loop): neither can be taken for a whole message. Let it pass; the server knows the answer.
    Outside the greenlet that the hook was called in, RuntimeError.
    """

    __slots__ = (
        "_arrived",
        "_decoder",
        "_options",
        "_patience",
        "_piece",
        "_position",
        "_transport",
        "byte_length",
        "hook_timer",
        "lost",
        "refusal",
    )

    def __init__(
        self, transport: Transport, decoder: ContentDecoder, arrived: bytes, options: Options
    ) -> None:
        self._transport = transport
        self._decoder = decoder
        #: Content that came with the commands before it.
        self._arrived = arrived
        self._options = options
        #: Seconds that the client may still be waited for.
        self._patience = _NO_END if options.data_timeout is None else options.data_timeout
        self._piece = b""
        self._position = 0
        #: Octets of the message so far.
        self.byte_length = 0
        # For the connection:
        self.hook_timer: HookTimer | None = None
        #: Why the message can't end any more.
        self.lost: Exception | None = None
        #: What the server itself will answer, whatever the hook does.
        self.refusal: Reply | None = None

    @property
    def size_exceeded(self) -> bool:
        """Whether more than the option `size` has arrived."""
        return 0 < self._options.size < self.byte_length

    # Reading

    def read(self, size: int | None = -1) -> bytes:
        """Up to *size* octets, fewer only at the end of the message; all of it for -1."""
        if size is None:
            size = -1
        if not self._piece:
            if size == 0:
                return b""
            piece = self._next_piece()
            if self._decoder.ended and (size < 0 or len(piece) <= size):
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
        """What is at hand, up to *size* octets, waiting for the first; b"" at the end."""
        piece = self._piece
        start = self._position
        if not piece:
            if size == 0:
                return b""
            piece = self._next_piece()
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
        """The next line with its newline, or *size* octets of it."""
        left = -1 if size is None else size
        parts: list[bytes] = []
        while left != 0:
            if not self._piece:
                try:
                    self._piece = self._next_piece()
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

    def readinto(self, buffer: bytearray | memoryview) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

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

    # The rest of a binary file, for those who check

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

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

    # Content

    def drain(self) -> None:
        """Read to the true end of the content and drop it; see `lost` for how that went."""
        self._piece = b""
        self._position = 0
        try:
            while not self._decoder.ended:
                self._receive()
        except ConnectionError:
            pass

    def _put_back(self, pieces: list[bytes]) -> None:
        """For the next read, when a gevent.Timeout of the program's own has cut one short."""
        if self.lost is None and self.refusal is None:  # these it must meet again
            self._piece = b"".join(pieces)

    def _next_piece(self) -> bytes:
        """The next decoded piece, b"" at the end; raises what the class says."""
        while not self._decoder.ended:
            piece = self._receive()
            if self.refusal is not None:
                break
            if piece:
                return piece
        if self.refusal is not None:
            raise Reject(self.refusal.code, self.refusal.text, self.refusal.enhanced)
        return b""

    def _receive(self) -> bytes:
        """What the next octets of the network decode to, which may be nothing."""
        decoder = self._decoder
        began = None
        data = self._arrived
        if data:
            self._arrived = b""
        else:
            began = monotonic()
            data = self._wait(began)
        piece = decoder.feed(data)
        self.byte_length += len(piece)
        if began is not None and not decoder.ended:
            # What a slow hook takes isn't the client's time, and the other way round.
            self._patience -= monotonic() - began
        # In this order, so that the reply doesn't depend on which of them arrived first.
        if decoder.bare_newline and decoder.policy == "reject":
            self.refusal = reply.NOT_DELIVERED_BARE_NEWLINE
        elif decoder.received_fields > MAX_RECEIVED_FIELDS:
            self.refusal = reply.LOOP_DETECTED
        elif self.refusal is None and self.size_exceeded and self._options.reject_oversized:
            text = f"Message exceeds the maximum size of {self._options.size} octets"
            self.refusal = Reply(552, text, "5.3.4")
        return piece

    def _wait(self, now: float) -> bytes:
        if self.lost is not None:
            raise TruncatedError(errno.ECONNABORTED, "the message was cut off") from self.lost
        transport = self._transport
        if getcurrent() is not transport.greenlet:
            # The hub would wake the wrong one, and this one never.
            raise RuntimeError("a message is read in the greenlet that its hook was called in")
        allowed = self._options.socket_timeout
        if self._patience < allowed:
            allowed = self._patience
        timer = self.hook_timer
        if timer is not None:
            timer.pause()
        try:
            size = CONTENT_READ if self.byte_length else FIRST_CONTENT_READ
            data = transport.receive(size, now + allowed)
            if not data:
                raise TruncatedError(errno.ECONNABORTED, "the client left inside a message")
            return data
        except (OSError, Interrupted) as exc:
            self.lost = exc
            if isinstance(exc, ConnectionError):
                raise
            raise TruncatedError(errno.ECONNABORTED, "the message was cut off") from exc
        finally:
            if timer is not None:
                timer.resume()


# It is one in all but inheritance, whose finalizer costs more than a small message's content.
io.BufferedIOBase.register(MessageStream)
