"""The content of a message in chunks (RFC 3030): without dot-stuffing and end of data."""

from __future__ import annotations

from .content import ContentDecoder


class ChunkDecoder(ContentDecoder):
    """`ContentDecoder` for chunks: all octets for `feed` are content, and `finish` ends it.

    Memory: it holds back a CR at the end of a chunk, since the next chunk may begin with LF.
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
