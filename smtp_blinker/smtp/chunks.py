"""The content of a message that comes in chunks (RFC 3030): no dots, no end of data to find."""

from __future__ import annotations

from .content import ContentDecoder


class ChunkDecoder(ContentDecoder):
    """`ContentDecoder` for chunks: what `feed` takes is content, and `finish` ends it.

    Memory: a CR at the end of what came is held back, since a LF may follow in the next chunk.
    """

    __slots__ = ()

    def feed(self, data: bytes) -> bytes:
        data = self._held + data
        self._held = b""
        if data.endswith(b"\r"):
            data, self._held = data[:-1], b"\r"
        return self._take(data, stuffed=False)

    def finish(self) -> bytes:
        """The rest of the content, after the last chunk."""
        self.ended = True
        piece, self._held = self._held, b""
        return self._take(piece, stuffed=False) + self._last_crs()
