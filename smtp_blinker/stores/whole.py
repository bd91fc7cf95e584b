"""A whole message, kept on this machine while a store passes it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ..connection.spool import Spool, SpoolFailed
from ..session import Session
from .disk import NO_SPACE, no_space
from .received import PIECE, Source

#: The largest message in memory, in octets; a larger one is in a temporary file.
MEMORY: Final = 2**20


@contextmanager
def whole_message(
    stream: Source, session: Session, look: Callable[[bytes], object] | None = None
) -> Iterator[Spool]:
    """Read all of *stream* and keep it until the block ends; *look* is called with each piece.

    Raises what *stream* raises, `Reject` (452 4.3.1) if the disk is full, and other `OSError`.
    """

    def next_piece() -> bytes:
        piece = stream.read(PIECE)
        if look is not None:
            look(piece)
        return piece

    spool = Spool(MEMORY)
    try:
        try:
            spool.fill(next_piece)
        except SpoolFailed as failed:
            cause = failed.__cause__
            if isinstance(cause, OSError) and cause.errno in NO_SPACE:
                raise no_space(cause, session.id) from cause
            assert cause is not None
            raise cause from None
        yield spool
    finally:
        spool.close()
