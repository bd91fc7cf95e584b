"""What the stores that hand messages to a queue have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Final

from gevent import monkey

from ..session import Address, Session, new_id
from ..smtp.reply import Reject
from .circuit import Circuit, check_timeout, within
from .contents import Contents
from .entry import Envelope
from .received import Received, Source, too_large

#: Octets of the largest content that is in the entry itself, where there are contents.
INLINE: Final = 128 * 1024
#: Octets of the largest message without contents that is kept in memory while it arrives.
MEMORY: Final = 64 * 1024


class Unavailable(Exception):
    """The engine did not take an entry. The cause says why.

    *may_have_it* is true where the engine may have it all the same, since its answer is missing.
    """

    def __init__(self, text: str, *, may_have_it: bool = False) -> None:
        super().__init__(text)
        self.may_have_it = may_have_it


class QueueStore(ABC):
    """An `on_data` hook, and a policy for `server.use`, that hands entries to an engine."""

    #: The engine's name in messages.
    engine: str
    #: For the page: `check` uses connections that belong to the greenlets of this thread.
    needs_thread: Final = False

    def __init__(
        self, *, contents: Contents | None, inline: int, max_size: int, timeout: float
    ) -> None:
        check_timeout(timeout)
        if not 0 <= inline <= max_size:
            raise ValueError(f"inline must be 0 to max_size ({max_size}), not {inline!r}")
        require_patched(type(self).__name__)
        self.contents = contents
        self.inline = inline
        self.max_size = max_size
        self.timeout = timeout
        self.circuit = Circuit()

    def attach(self, server: Any) -> None:
        """For `server.use`: raises ValueError where *server* takes larger messages than fit."""
        size = server.options.size
        if self.contents is None and not 0 < size <= self.max_size:
            raise ValueError(
                f"{type(self).__name__} takes messages of up to {self.max_size} bytes and the "
                f"server's size is {size or 'not limited'}: give the server size={self.max_size} "
                "or less, give the store contents=…, or max_size=… if the engine takes more"
            )

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse before the content is sent what couldn't be stored."""
        self.circuit.check()
        size = session.envelope.size
        if self.contents is None and size is not None and size > self.max_size:
            raise too_large()

    def __call__(self, stream: Source, session: Session) -> str:
        self.circuit.check()
        received = Received(MEMORY if self.contents is None else self.inline, self.contents)
        try:
            received.fill(stream, self.max_size if self.contents is None else None)
            with self.circuit.attempt():
                envelope = self._hand_over_in_time(received, session)
        finally:
            received.close()
        return f"queued as {envelope.id}"

    def _hand_over_in_time(self, received: Received, session: Session) -> Envelope:
        try:
            with self._deadline():
                return self._hand_over(received, session)
        except Unavailable as exc:
            exc.may_have_it = exc.may_have_it or received.is_referred_to
            raise

    def _deadline(self) -> AbstractContextManager[None]:
        text = f"{self.engine} did not answer within {self.timeout:g} s"
        return within(self.timeout, Unavailable(text))

    def check(self) -> None:
        """Raise `Unavailable` where the engine can't be used now, and `Reject` (451) while mail is
        refused because of failures. Adds nothing to the queue."""
        self.circuit.check()
        with self._deadline():
            self._check()

    def _hand_over(self, received: Received, session: Session) -> Envelope:
        # The content first: an entry never names a content that isn't there yet.
        if self.contents is not None and not received.is_in_memory:
            received.finish(new_id())
        envelope = Envelope.of(session, received.size, received.sha256, received.key)
        head = envelope.as_json()
        inside = received.size if received.key is None else 0
        if len(head) + 1 + inside > self.max_size:
            raise too_large()
        content = received.content if received.key is None else lambda: b""
        received.is_referred_to = True
        try:
            self._publish(envelope, head, content)
        except Unavailable as exc:
            received.is_referred_to = exc.may_have_it
            raise
        except Reject:
            received.is_referred_to = False
            raise
        return envelope

    @abstractmethod
    def _publish(self, envelope: Envelope, head: bytes, content: Callable[[], bytes]) -> None:
        """Hand over the entry and return once the engine has it.

        Raises `Unavailable`, or `Reject` for what it will never take. *content* reads it from the
        disk, so it is called when there is a connection.
        """

    @abstractmethod
    def _check(self) -> None:
        """Raise `Unavailable` where the engine can't be used now."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections that wait for messages."""


def require_patched(name: str) -> None:
    """Raise RuntimeError unless sockets are gevent's: the client libraries use the usual ones."""
    if not monkey.is_module_patched("socket"):
        raise RuntimeError(
            f"{name} needs a program whose sockets are gevent's; put this first in it, before all "
            "other imports: from gevent import monkey; monkey.patch_all()"
        )


__all__ = ["QueueStore", "Unavailable", "require_patched"]
