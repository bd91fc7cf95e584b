"""The commands and replies of one connection, for `signals.dialogue`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from .signals import Event
from .smtp.reply import Reply

#: Lines that are kept from the beginning of a connection, and from its end.
FIRST: Final = 16
LAST: Final = 48
#: Characters that are kept of a line.
MAX_LINE: Final = 300


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a dialogue."""

    #: Seconds since the connection was accepted.
    seconds: float
    #: "client", "server", or "" for other events: TLS, the end.
    who: str
    #: Its printable text, without credentials.
    text: str

    def as_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "who": self.who, "text": self.text}


class Dialogue:
    """Commands and replies as the connection adds them: the first and last, some 30 KiB at most.

    Any thread may read `lines` at any time, also after the connection has ended.
    """

    __slots__ = ("_began", "_first", "_last", "_number")

    def __init__(self) -> None:
        self._began = monotonic()
        self._number = 0
        # Replies are stored as objects: most are constants, and few are ever read.
        self._first: list[tuple[float, str | Reply]] = []
        self._last: deque[tuple[float, str | Reply]] = deque(maxlen=LAST)

    def add(self, what: str | Reply, *args: object) -> None:
        """Add a reply, or a line as the protocol's log has it; *args* are for its ``%``."""
        self._number += 1
        if args:
            what = str(what) % args
        if isinstance(what, str) and len(what) > MAX_LINE:
            what = f"{what[:MAX_LINE]}…"
        where = self._first if self._number <= FIRST else self._last
        where.append((monotonic(), what))

    @property
    def left_out(self) -> int:
        """How many lines between the first and the last aren't kept."""
        return max(0, self._number - FIRST - LAST)

    @property
    def lines(self) -> list[Line]:
        """The first lines and the last, and one that says how many aren't kept between them.

        A reply of several lines is one.
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
    """A dialogue begins. The connection adds lines to `dialogue` as it goes on."""

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
