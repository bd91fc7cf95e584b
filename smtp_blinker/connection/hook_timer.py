"""The timer of the option hook_timeout. It stops while the hook waits for the client."""

from __future__ import annotations

from gevent import Timeout

from .clock import monotonic


class HookTimedOut(BaseException):
    """Raised in a hook that exceeds hook_timeout; a BaseException, so that the hook's
    `except Exception` doesn't swallow it."""


class HookTimer:
    """Raises HookTimedOut in the current greenlet after *seconds*, not counting pauses."""

    __slots__ = ("_began", "_left", "_timeout")

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._timeout: Timeout | None = None
        self._began = 0.0
        self.resume()

    def resume(self) -> None:
        self._began = monotonic()
        self._timeout = Timeout.start_new(max(self._left, 0.001), HookTimedOut("hook_timeout"))

    def pause(self) -> None:
        """Stop the timer. Further calls do nothing."""
        if self._timeout is not None:
            self._timeout.close()
            self._timeout = None
            self._left -= monotonic() - self._began
