"""Describes exceptions for a log."""

from __future__ import annotations

import traceback


def in_one_line(exc: BaseException) -> str:
    """What *exc* is and where it was raised, in ASCII.

    Its message may be hostile text of any length, with line ends that would forge lines.
    """
    places = [
        f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(exc.__traceback__)
    ]
    return f"{type(exc).__name__} {str(exc)[:200]!a} in {places[-1] if places else 'no place'}"
