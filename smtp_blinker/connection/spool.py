"""A whole message, which policies read before `on_data` does."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from typing import IO, Any, BinaryIO, Final, Protocol, cast

from gevent import monkey

from ..header import MAX_HEADER, HeaderEdits, header_length
from ..pools import SPOOLS
from ..trace import BEGINNING, separator
from ..turns import let_others_run
from .incoming import CONTENT_READ

#: Header fields, and octets of them, to process before other clients have their turn: about 2 ms
#: with the patterns of `SenderAuthentication`.
FIELDS_AT_ONCE: Final = 500
OCTETS_AT_ONCE: Final = 32 * 1024

# The original, even in a monkey-patched process.
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")


class SpoolFailed(Exception):
    """The message could not be written to the disk; ``__cause__`` is the reason."""


class Spool:
    """A message in memory, or in an unlinked temporary file if it has more than *memory* bytes.

    The caller must `close` it, which frees both.
    """

    __slots__ = ("_file", "_held", "_memory", "is_closed", "size")

    def __init__(self, memory: int) -> None:
        self._memory = memory
        #: The message, unless it is in the file.
        self._held = b""
        self._file: _TemporaryFile | None = None
        self.size = 0
        self.is_closed = False

    def fill(self, next_piece: Callable[[], bytes]) -> None:
        """Store all pieces of *next_piece* until b"". Raises what it raises, and SpoolFailed."""
        held = bytearray()
        while piece := next_piece():
            held += piece
            self.size += len(piece)
            if len(held) > self._memory:
                self._write(held)
                held = bytearray()
        if self._file is not None and held:
            self._write(held)
        elif held:
            self._held = bytes(held)

    def _write(self, data: bytearray) -> None:
        if self._file is None:
            self._file = _TemporaryFile()
        try:
            SPOOLS.run(self._file.write, data)
        except (OSError, RuntimeError) as exc:  # RuntimeError: the system can't start a thread
            raise SpoolFailed from exc

    def read(self, offset: int, size: int) -> bytes:
        """At most *size* octets from *offset* on, b"" at the end. Raises OSError."""
        if self._file is None:
            return self._held[offset : offset + size]
        return SPOOLS.run(self._file.read, offset, size)

    def open(self) -> BinaryIO:
        """A new file object at the beginning of the message; the caller closes it."""
        if self._file is None:
            return io.BytesIO(self._held)
        return FileView(self).buffered()

    def close(self) -> None:
        self.is_closed = True
        self._held = b""
        if self._file is not None:
            try:
                # Freeing a large file can take a while, and a thread may still be writing.
                SPOOLS.spawn(self._file.close)
            except RuntimeError:
                self._file.close()


class _TemporaryFile:
    """An unlinked file. Its methods run in threads, one at a time, in any order after `close`."""

    def __init__(self) -> None:
        self._lock: Any = _allocate_lock()
        self._file: IO[bytes] | None = None
        self._is_closed = False

    def write(self, data: bytearray) -> None:
        with self._lock:
            if self._is_closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
            left = memoryview(data)
            while left:  # a write may be partial if the disk is nearly full
                left = left[self._file.write(left) :]

    def read(self, offset: int, size: int) -> bytes:
        """Up to *size* octets, fewer only at the end."""
        pieces = []
        with self._lock:
            if self._file is None:
                raise ValueError("the message is no longer available: its transaction has ended")
            while size and (piece := os.pread(self._file.fileno(), size, offset)):
                pieces.append(piece)
                offset += len(piece)
                size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            if self._file is not None:
                self._file.close()
                self._file = None


class Readable(Protocol):
    """Octets whose reading doesn't block other clients."""

    @property
    def size(self) -> int:
        """The number of octets."""

    def read(self, offset: int, size: int, /) -> bytes:
        """At most *size* octets from *offset* on, b"" at the end. Raises OSError."""


class FileView(io.RawIOBase):
    """A spool or another content as a file, for policies and stores."""

    def __init__(self, spool: Readable) -> None:
        self._spool = spool
        self._offset = 0

    def buffered(self) -> BinaryIO:
        """A buffered file at the beginning of the content; closing it doesn't close the content."""
        return cast("BinaryIO", io.BufferedReader(cast("Any", self), CONTENT_READ))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self._spool.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._offset = base + offset
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self._read(max(self._spool.size - self._offset, 0))

    def _read(self, size: int) -> bytes:
        data = self._spool.read(self._offset, size)
        self._offset += len(data)
        return data


class SpooledPieces:
    """The source of the stream that `on_data` reads, with the header as policies edited it."""

    __slots__ = ("_begin", "_offset", "_spool", "byte_length", "ended", "size_exceeded")

    #: Always true, because the spooled message is complete.
    is_whole_so_far: Final = True

    def __init__(self, spool: Spool, edits: HeaderEdits | None, size_exceeded: bool) -> None:
        self._spool = spool
        self._offset = 0
        self._begin: Callable[[], bytes] | None = None
        if edits is not None:
            self._begin = lambda: self._edited_header(edits)
        #: Octets that were returned so far.
        self.byte_length = 0
        self.size_exceeded = size_exceeded
        self.ended = False

    def next_piece(self) -> bytes:
        piece = b""
        if self._spool.is_closed:
            self.ended = True
            return piece
        if self._begin is not None:
            piece = self._begin()
            self._begin = None
        if not piece:
            piece = self._spool.read(self._offset, CONTENT_READ)
            self._offset += len(piece)
        self.ended = self._offset >= self._spool.size
        self.byte_length += len(piece)
        return piece

    def _edited_header(self, edits: HeaderEdits) -> bytes:
        """The edited beginning of the message, instead of its own header."""
        pieces = []
        if edits.removes:
            head = self._spool.read(0, MAX_HEADER)
            length = header_length(head, len(head) == self._spool.size)
            let_others_run()
            fields = octets = 0
            for left, looked_at in edits.left_of(head[:length]):
                pieces.append(left)
                fields += 1
                octets += looked_at
                if fields > FIELDS_AT_ONCE or octets > OCTETS_AT_ONCE:
                    let_others_run()
                    fields = octets = 0
            self._offset = length
        rest = b"".join(pieces)
        beginning = rest[:BEGINNING] or self._spool.read(self._offset, BEGINNING)
        top = edits.top
        # A message without a header must not continue the policies' fields.
        return top + separator(beginning) + rest if top else rest
