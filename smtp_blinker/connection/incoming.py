"""Receives the content of one message."""

from __future__ import annotations

import errno
from typing import Final

from greenlet import getcurrent

from ..options import Options
from ..smtp import reply
from ..smtp.content import ContentDecoder
from ..smtp.reply import Reject, Reply
from ..stream import TruncatedError
from .clock import monotonic
from .hook_timer import HookTimer
from .transport import Interrupted, Transport

#: Octets to read from the socket at once: the most of a message that is in memory here. Less than
#: 128 KiB, since the allocator asks the system for every larger block.
CONTENT_READ: Final = 64 * 1024
#: The same for content whose lines must be changed, which takes ten times as long and delays
#: other clients.
CHANGED_CONTENT_READ: Final = 8 * 1024
#: The same for the first read, which gets the whole of a small message: a larger buffer costs time.
FIRST_CONTENT_READ: Final = 4 * 1024

_NO_END: Final = float("inf")


class Incoming:
    """Receives the content of one message: the source of its `MessageStream`.

    It records the server's own refusal, and why the message can't end any more.
    """

    __slots__ = (
        "_arrived",
        "_options",
        "_patience",
        "_transport",
        "byte_length",
        "decoder",
        "ended",
        "hook_timer",
        "lost",
        "refusal",
    )

    def __init__(
        self, transport: Transport, decoder: ContentDecoder, arrived: bytes, options: Options
    ) -> None:
        self._transport = transport
        self.decoder = decoder
        #: Whether the decoder has returned the last piece.
        self.ended = False
        #: Content that came with the commands before it.
        self._arrived = arrived
        self._options = options
        #: Seconds that the server still waits for the client.
        self._patience = _NO_END if options.data_timeout is None else options.data_timeout
        #: Octets of the message so far.
        self.byte_length = 0
        #: The clock of the hook that reads; it stops while the server waits for the client.
        self.hook_timer: HookTimer | None = None
        #: Why the message can't end any more.
        self.lost: Exception | None = None
        #: The server's own refusal, which counts whatever the hook does.
        self.refusal: Reply | None = None

    @property
    def size_exceeded(self) -> bool:
        return 0 < self._options.size < self.byte_length

    @property
    def is_whole_so_far(self) -> bool:
        return self.lost is None and self.refusal is None

    def next_piece(self) -> bytes:
        while not self.ended:
            piece = self._receive()
            if self.refusal is not None:
                break
            if piece:
                return piece
        if self.refusal is not None:
            raise Reject(self.refusal.code, self.refusal.text, self.refusal.enhanced)
        return b""

    @property
    def is_at_end(self) -> bool:
        """Whether the reply to the octets so far ends the transaction."""
        return True

    def drain(self, refused: bool) -> None:
        """Read and drop the rest, until the client waits for a reply; `lost` says if that failed.

        *refused* tells whether the message is refused already.
        """
        try:
            while not self.ended:
                self._receive()
        except ConnectionError:
            pass

    def _receive(self) -> bytes:
        """Receive and decode the next octets; may return b""."""
        data = self._arrived
        if data:
            self._arrived = b""
            return self._check(self.decoder.feed(data))
        began = monotonic()
        if not self.byte_length:
            size = FIRST_CONTENT_READ
        else:
            size = CHANGED_CONTENT_READ if self.decoder.changed else CONTENT_READ
        piece = self._check(self.decoder.feed(self._wait(began, size)))
        if not self.ended:
            # A slow hook doesn't use up the client's time, nor a slow client the hook's.
            self._patience -= monotonic() - began
        return piece

    def _check(self, piece: bytes) -> bytes:
        """Count *piece*, and record the server's own refusal."""
        decoder = self.decoder
        self.byte_length += len(piece)
        self.ended = decoder.ended
        # In this order, so that the reply doesn't depend on which fault arrived first.
        if decoder.bare_newline and decoder.policy == "reject":
            self.refusal = reply.NOT_DELIVERED_BARE_NEWLINE
        elif decoder.is_loop:
            self.refusal = reply.LOOP_DETECTED
        elif 0 < self._options.size < self.byte_length and self.refusal is None:
            self._refuse_size()
        return piece

    def _refuse_size(self) -> None:
        if self._options.reject_oversized:
            text = f"Message exceeds the maximum size of {self._options.size} octets"
            self.refusal = Reply(552, text, "5.3.4")

    def _wait(self, now: float, size: int) -> bytes:
        """Wait for 1 to *size* octets."""
        if self.lost is not None:
            raise TruncatedError(errno.ECONNABORTED, "the message was cut off") from self.lost
        transport = self._transport
        if getcurrent() is not transport.greenlet:
            raise wrong_greenlet()
        allowed = self._options.socket_timeout
        if self._patience < allowed:
            allowed = self._patience
        timer = self.hook_timer
        if timer is not None:
            timer.pause()
        try:
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


def wrong_greenlet() -> RuntimeError:
    """For a read outside the hook's greenlet: the hub would wake the wrong greenlet and never
    this one."""
    return RuntimeError("a message must be read in the greenlet in which its hook was called")
