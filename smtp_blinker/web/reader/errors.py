"""Describes exceptions for a log."""

from __future__ import annotations

import traceback


def in_one_line(exc: BaseException) -> str:
    """The class and text of *exc* and where it was raised, in ASCII.

    The text may be hostile, of any length, with line ends that would forge log lines.
    """
    places = [
        f"{frame.f_code.co_filename}:{line}" for frame, line in traceback.walk_tb(exc.__traceback__)
    ]
    return f"{type(exc).__name__} {str(exc)[:200]!a} in {places[-1] if places else 'no place'}"
