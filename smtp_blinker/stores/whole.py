"""A whole message, kept on this machine while a store hands it to others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..connection.spool import Spool, SpoolFailed
from ..session import Session
from .disk import NO_SPACE, no_space
from .received import PIECE, Source

#: Octets of a message that are kept in memory; a larger one is in a temporary file.
MEMORY: Final = 2**20


@contextmanager
def whole_message(stream: Source, session: Session) -> Iterator[Spool]:
    """All of *stream*, until the block ends.

    Raises what *stream* raises, `Reject` (452 4.3.1) where the disk is full, and another `OSError`
    that keeps the message from being written.
    """
    spool = Spool(MEMORY)
    try:
        try:
            spool.fill(_Pieces(stream))
        except SpoolFailed as failed:
            cause = failed.__cause__
            if isinstance(cause, OSError) and cause.errno in NO_SPACE:
                raise no_space(cause, session.id) from cause
            assert cause is not None
            raise cause from None
        yield spool
    finally:
        spool.close()


class _Pieces:
    """The message stream as the source of a spool."""

    # The spool asks for none of these; the stream has its own.
    byte_length: Final = 0
    size_exceeded: Final = False
    ended: Final = False
    is_whole_so_far: Final = True

    def __init__(self, stream: Source) -> None:
        self._stream = stream

    def next_piece(self) -> bytes:
        return self._stream.read(PIECE)
