"""The interface of the engines of `consume`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

#: Seconds within which an engine must answer a request, or it counts as unreachable.
ANSWER_SECONDS: Final = 15.0


@dataclass(slots=True)
class Delivery:
    """An entry that the engine has given to this consumer only."""

    #: The engine's own id of it.
    tag: Any
    #: The envelope's JSON.
    head: bytes
    #: The content, or b"" if it is stored elsewhere.
    content: bytes
    #: How many times a handler has failed on it.
    failures: int
    #: The engine's own object, to add it to another queue.
    original: Any


class Engine(Protocol):
    """A queue with its queues for delays and dead letters. Its methods raise `errors`."""

    #: The engine's name in log lines.
    name: str
    #: The exceptions that mean that the engine can't be reached.
    errors: tuple[type[Exception], ...]

    def connect(self) -> None:
        """Connect, or connect again after a lost connection."""

    def next(self, seconds: float) -> Delivery | None:
        """The next entry; None if none comes within the time."""

    def done(self, delivery: Delivery) -> None:
        """Remove the entry, which was handled. After the return it is normally not delivered
        again."""

    def retry(self, delivery: Delivery, delay: int) -> None:
        """Deliver the entry again after *delay* seconds, with one more failure."""

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Move the entry to the dead letters."""

    def beat(self, delivery: Delivery) -> None:
        """Tell the engine that the handler still works. Called in another thread."""

    def close(self) -> None:
        """Disconnect. Raises nothing."""
