"""Long work on a stranger's text in short steps, so that the mail goes on meanwhile.

A call of `re`, `bytes.find` or a decoder keeps every other thread of the process waiting until it
returns. So nothing here gives one more than `WINDOW` characters or octets at once, and `breathe`
lets the others run between two steps.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import AnyStr, Final

#: Characters or octets that one call looks at.
WINDOW: Final = 32 * 1024
#: Seconds of work after which a thread pauses, and of the pause.
WORK: Final = 0.001
PAUSE: Final = 0.001


class _Began(threading.local):
    #: When this thread last began to work.
    at = 0.0


_began = _Began()


def breathe() -> None:
    """Pause this thread when it has worked for `WORK` seconds. Not for the thread of a hub.

    A thread that only gives up the interpreter lock has it again before another one wakes up.
    """
    now = time.perf_counter()
    if now - _began.at >= WORK:
        time.sleep(PAUSE)
        _began.at = time.perf_counter()


def begin() -> None:
    """Say that this thread hasn't worked yet."""
    _began.at = time.perf_counter()


def find(data: bytes, wanted: bytes, start: int, end: int) -> int:
    """``data.find(wanted, start, end)``."""
    while start < end:
        found = data.find(wanted, start, min(start + WINDOW + len(wanted) - 1, end))
        if found >= 0:
            return found
        start += WINDOW
        breathe()
    return -1


def search(
    pattern: re.Pattern[AnyStr], text: AnyStr, start: int, longest: int
) -> re.Match[AnyStr] | None:
    """``pattern.search(text, start)``, for a pattern that matches *longest* characters at most.

    *longest* includes what the pattern looks at behind the match. The time is linear in the
    length of *text* if it is so for a text of `WINDOW` characters.
    """
    while start < len(text):
        end = start + WINDOW
        found = pattern.search(text, start, end + longest)
        # One that begins behind the end may be cut off: the next step finds it whole.
        if found is not None and (found.start() < end or end + longest >= len(text)):
            return found
        start = end
        breathe()
    return None


def matches(pattern: re.Pattern[AnyStr], text: AnyStr, longest: int) -> Iterator[re.Match[AnyStr]]:
    """``pattern.finditer(text)``, for a pattern as in `search` that never matches nothing."""
    found = search(pattern, text, 0, longest)
    while found is not None:
        yield found
        breathe()
        found = search(pattern, text, found.end(), longest)


def pieces(markup: str) -> Iterator[str]:
    """*markup* in pieces of `WINDOW` characters at most, cut before a "<" where there is one."""
    start = 0
    while start < len(markup):
        end = start + WINDOW
        if end < len(markup):
            cut = markup.rfind("<", start + 1, end)
            end = cut if cut > 0 else end
        yield markup[start:end]
        start = end
        breathe()
