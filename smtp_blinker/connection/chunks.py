"""A message in chunks (RFC 3030): the server answers BDAT commands while the hook reads."""

from __future__ import annotations

import errno
from typing import Protocol

from greenlet import getcurrent

from ..options import Options
from ..smtp import reply
from ..smtp.chunks import ChunkDecoder
from ..smtp.protocol import Protocol as SMTPProtocol
from ..smtp.reply import Reply
from ..smtp.verbs import State
from ..stream import TruncatedError
from .clock import monotonic
from .handshakes import Ended
from .incoming import CONTENT_READ, Incoming, wrong_greenlet
from .transport import Interrupted, Transport


class Stepper(Protocol):
    """The connection, as far as it serves the commands between two chunks."""

    options: Options
    protocol: SMTPProtocol
    transport: Transport

    def send(self, answer: Reply) -> None: ...

    def step(self, patience: float, once: bool = False) -> State: ...


class GivenUp(Exception):
    """The client sent another command before the last chunk; it got its reply."""


class ChunkedIncoming(Incoming):
    """The content of a message in chunks, from the first BDAT to the one with LAST.

    `read` itself answers a chunk that has ended and serves the commands after it, before it
    returns the next piece.
    """

    __slots__ = ("_stepper",)

    def __init__(self, stepper: Stepper, policy: str) -> None:
        super().__init__(stepper.transport, ChunkDecoder(policy), b"", stepper.options)
        self._stepper = stepper

    @property
    def is_at_end(self) -> bool:
        return self._stepper.protocol.chunk_is_last

    def drain(self, refused: bool) -> None:
        """Read to the end of the content, or to the end of the chunk if the message is refused:
        its later chunks are read and refused like commands."""
        try:
            while not self.ended:
                if (refused or self.refusal is not None) and self._is_chunk_read():
                    return
                self._receive()
        except ConnectionError:
            pass

    def _is_chunk_read(self) -> bool:
        """Whether the client waits for the reply to a chunk, not to its next command."""
        protocol = self._stepper.protocol
        return protocol.chunk_left == 0 and protocol.state is State.CHUNK

    def _receive(self) -> bytes:
        protocol = self._stepper.protocol
        if self.lost is not None:
            self._wait(0.0, 0)  # raises
        if protocol.chunk_left == 0:
            if self.refusal is not None and self._is_chunk_read():
                return b""  # the chunk's reply is that refusal
            if protocol.chunk_is_last:
                assert isinstance(self.decoder, ChunkDecoder)
                return self._check(self.decoder.finish())
            self._await_chunk()
        return self._check(self.decoder.feed(self._of_chunk()))

    def _of_chunk(self) -> bytes:
        """Octets of the chunk; b"" for one that is empty."""
        protocol = self._stepper.protocol
        data = protocol.take_of_chunk()
        if data or protocol.chunk_left == 0:
            return data
        began = monotonic()
        # Don't read octets after the chunk.
        data = self._wait(began, min(protocol.chunk_left, CONTENT_READ))
        protocol.chunk_left -= len(data)
        self._patience -= monotonic() - began
        return data

    def _await_chunk(self) -> None:
        """Answer the chunk that has ended, and serve commands until the next begins."""
        stepper = self._stepper
        if getcurrent() is not stepper.transport.greenlet:
            raise wrong_greenlet()
        timer = self.hook_timer
        if timer is not None:
            timer.pause()
        began = monotonic()
        try:
            if stepper.protocol.state is State.CHUNK:  # else a program's Timeout came here
                stepper.send(reply.CHUNK_OK)
                stepper.protocol.await_chunk()
            state = State.CHUNKS
            while state is State.CHUNKS:
                # Chunks that have already arrived use up the message's time too.
                left = self._patience - (monotonic() - began)
                if left <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, "timed out")
                state = stepper.step(min(left, self._options.socket_timeout), once=True)
            if state is not State.CHUNK:
                raise Ended("quit") if state is State.CLOSED else GivenUp
        except (OSError, Interrupted, Ended, GivenUp) as exc:
            self.lost = exc
            raise TruncatedError(errno.ECONNABORTED, "the message was given up") from exc
        finally:
            self._patience -= monotonic() - began
            if timer is not None:
                timer.resume()

    def discard_chunk(self) -> None:
        """Read and drop the octets of a refused chunk; raises why that ended."""
        try:
            while self._stepper.protocol.chunk_left:
                self._of_chunk()
        except TruncatedError:
            assert self.lost is not None
            raise self.lost from None
