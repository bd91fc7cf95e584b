"""A message that a store has received: in memory if it is small, else in a draft."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any, Final, ParamSpec, Protocol, TypeVar, cast

import gevent
from gevent.event import AsyncResult

from ..pools import STORES
from ..smtp.reply import Reject
from .contents import Contents, Draft, TemporaryDraft

log = logging.getLogger("smtp_blinker")

P = ParamSpec("P")
T = TypeVar("T")

#: Octets to read from the stream at a time.
PIECE: Final = 65536


class Source(Protocol):
    """The part of the message stream that a store uses."""

    def read(self, size: int = ..., /) -> bytes: ...


class Received:
    """One message: up to *memory* octets in memory, a larger one in a draft of *contents*.

    Without *contents* the draft is a temporary file. The caller must `close` it.
    """

    def __init__(self, memory: int, contents: Contents | None) -> None:
        self._memory = memory
        self._contents = contents
        self._held = bytearray()
        self._draft: Draft | None = None
        self._hash = hashlib.sha256()
        self._task: AsyncResult[Any] | None = None
        #: The key of the content in *contents*, or None.
        self.key: str | None = None
        #: Whether the engine has, or may have, an entry that names the key.
        self.is_referred_to = False
        self.size = 0

    def fill(self, stream: Source, limit: int | None) -> None:
        """Read all of *stream*. Raises what it raises, and `Reject` above *limit* octets."""
        while piece := stream.read(PIECE):
            self.size += len(piece)
            if limit is not None and self.size > limit:
                raise too_large()
            self._hash.update(piece)
            self._held += piece
            if len(self._held) > self._memory:
                self._write(bytes(self._held))
                self._held.clear()
        if self._draft is not None and self._held:
            self._write(bytes(self._held))
            self._held.clear()

    def _write(self, data: bytes) -> None:
        if self._draft is None:
            make = TemporaryDraft if self._contents is None else self._contents.draft
            self._draft = self._run(make)
            self._memory = PIECE  # of the rest, a piece at a time
        self._run(self._draft.write, data)

    @property
    def is_in_memory(self) -> bool:
        return self._draft is None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def content(self) -> bytes:
        """The whole content; not for one that was moved to *contents*."""
        if self._draft is None:
            return bytes(self._held)
        assert isinstance(self._draft, TemporaryDraft)
        return self._run(self._draft.read)

    def finish(self, key: str) -> None:
        """Store the draft in *contents* under *key*."""
        assert self._contents is not None
        assert self._draft is not None
        self.key = key
        if self._contents.needs_thread:
            self._run(self._draft.finish, key, self._hash.digest())
        else:
            self._draft.finish(key, self._hash.digest())

    def _run(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        task: AsyncResult[Any] = STORES.spawn(work, *args, **keywords)
        self._task = task
        return cast("T", task.get())

    def close(self) -> None:
        """Free memory and files. Removes a content to which no entry refers."""
        self._held.clear()
        if self._draft is not None:
            # In a separate greenlet, which nothing interrupts: a thread may still be writing.
            gevent.spawn(self._discard)

    def _discard(self) -> None:
        if self._task is not None:
            self._task.wait()
        assert self._draft is not None
        STORES.run(self._draft.discard)
        if self.key is not None and not self.is_referred_to:
            try:
                self._delete(self.key)
            except Exception as exc:  # a sweep deletes it later
                log.warning(
                    "the content %s, which no entry has, was not deleted: %s", self.key, exc
                )

    def _delete(self, key: str) -> None:
        assert self._contents is not None
        if self._contents.needs_thread:
            STORES.run(self._contents.delete, key)
        else:
            self._contents.delete(key)


def too_large() -> Reject:
    """The refusal of a message that doesn't fit into the queue."""
    return Reject(552, "Message is larger than the queue takes", "5.3.4")
