"""The commands and replies of one connection, for `signals.dialogue`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from .signals import Event
from .smtp.reply import Reply

#: How many lines are kept from the beginning of a connection, and how many from its end.
FIRST: Final = 16
LAST: Final = 48
#: Characters of one line that are kept.
MAX_LINE: Final = 300


@dataclass(frozen=True, slots=True)
class Line:
    """One command, reply or other event of a connection."""

    #: Seconds since the connection was accepted.
    seconds: float
    #: "client", "server", or "" for other events: a TLS handshake, the end of the connection.
    who: str
    #: Printable text without credentials.
    text: str

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "who": self.who, "text": self.text}


class Dialogue:
    """The first and the last lines of a connection, about 30 KiB at most.

    The connection adds them. Any thread may read `lines` at any time, also after the connection
    has ended.
    """

    __slots__ = ("_began", "_first", "_last", "_number")

    def __init__(self) -> None:
        self._began = monotonic()
        self._number = 0
        # Replies are kept as objects: their text is made only when somebody reads the lines.
        self._first: list[tuple[float, str | Reply]] = []
        self._last: deque[tuple[float, str | Reply]] = deque(maxlen=LAST)

    def add(self, what: str | Reply, *args: object) -> None:
        """Add a reply, or a line in the format of the protocol log; *args* fill its ``%``."""
        self._number += 1
        if args:
            what = str(what) % args
        if isinstance(what, str) and len(what) > MAX_LINE:
            what = f"{what[:MAX_LINE]}…"
        where = self._first if self._number <= FIRST else self._last
        where.append((monotonic(), what))

    @property
    def left_out(self) -> int:
        """How many lines between the first and the last ones were not kept."""
        return max(0, self._number - FIRST - LAST)

    @property
    def lines(self) -> list[Line]:
        """The first lines, the last lines, and between them one that says how many are missing.

        A reply of several lines counts as one line.
        """
        first, last = [*self._first], [*self._last]
        if last and self.left_out:
            first.append((last[0][0], f"({self.left_out} lines are left out)"))
        return [_line(said - self._began, what) for said, what in first + last]


def _line(seconds: float, what: str | Reply) -> Line:
    if isinstance(what, Reply):
        return Line(seconds, "server", str(what))
    who = "client" if what.startswith("C: ") else ""
    return Line(seconds, who, what.removeprefix("C: ").rstrip())


@dataclass(frozen=True, slots=True)
class DialogueEvent(Event):
    """A connection begins. `dialogue` grows as long as the connection lasts."""

    id: str
    remote_address: str
    dialogue: Dialogue

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "remote_address": self.remote_address,
            "lines": [line.as_dict() for line in self.dialogue.lines],
            "left_out": self.dialogue.left_out,
        }
