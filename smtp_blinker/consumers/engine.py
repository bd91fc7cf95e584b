"""What `consume` needs of an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(slots=True)
class Delivery:
    """An entry as the engine has given it out, to this consumer alone."""

    #: The engine's own id of it.
    tag: Any
    #: The envelope's JSON.
    head: bytes
    #: The content, where it is in the entry.
    content: bytes
    #: Handlers that have failed on it before.
    failures: int
    #: What the engine needs to add it to another queue.
    original: Any


class Engine(Protocol):
    """A queue with its queues of delays and of dead letters. Its methods raise `errors`."""

    #: The engine's name in log lines.
    name: str
    #: The exceptions that mean that the engine can't be reached.
    errors: tuple[type[Exception], ...]

    def connect(self) -> None:
        """Connect, or connect again after a lost connection."""

    def next(self, seconds: float) -> Delivery | None:
        """The next entry; None if none comes within the time."""

    def done(self, delivery: Delivery) -> None:
        """The entry was handled. When this returns it won't be given out again, as a rule."""

    def retry(self, delivery: Delivery, delay: int) -> None:
        """Give the entry out again after *delay* seconds, with one more failure."""

    def bury(self, delivery: Delivery, reason: str) -> None:
        """Move the entry to the dead letters."""

    def beat(self, delivery: Delivery) -> None:
        """The entry is still being handled. Called in another thread than the other methods."""

    def close(self) -> None:
        """Disconnect. Raises nothing."""
