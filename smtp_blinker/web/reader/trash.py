"""Deleted messages that can be restored for a while. They are hidden; their files stay in place.

If the process ends before, the messages are not deleted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from .entry import Entry


class Trash:
    """Messages by the number of their deletion."""

    def __init__(self) -> None:
        self._last = 0
        self._due: dict[int, float] = {}
        #: Of each hidden message, by its id: which deletion, and what is known of it.
        self._hidden: dict[str, tuple[int, Entry]] = {}

    def put(self, entries: Iterable[Entry], seconds: float) -> int:
        """Hide them for so long; returns the number of this deletion."""
        self._last += 1
        self._due[self._last] = time.monotonic() + seconds
        self._hidden.update((entry.id, (self._last, entry)) for entry in entries)
        return self._last

    def take(self, number: int) -> list[Entry] | None:
        """What was hidden under that number, no longer hidden; None when it is too late."""
        if self._due.get(number, float("-inf")) <= time.monotonic():
            return None
        del self._due[number]
        return self._pop({number})

    def due(self) -> Iterator[Entry]:
        """What can't be had back any more, each once."""
        now = time.monotonic()
        numbers = {number for number, due in self._due.items() if due <= now}
        for number in numbers:
            del self._due[number]
        yield from self._pop(numbers) if numbers else ()

    def has_moved(self, id: str, path: str) -> bool:
        """Whether that message is hidden; if so its file is now at *path*."""
        known = self._hidden.get(id)
        if known is not None:
            self._hidden[id] = known[0], replace(known[1], path=path)
        return known is not None

    def _pop(self, numbers: set[int]) -> list[Entry]:
        ids = [id for id, (number, _) in self._hidden.items() if number in numbers]
        return [self._hidden.pop(id)[1] for id in ids]
