"""Decides once whether a message is stored, or given up because its greenlet was interrupted."""

from __future__ import annotations

from typing import Final

from gevent import monkey
from gevent.event import AsyncResult

# The lock for threads, even if the program has patched it to one for greenlets.
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")


class Decision:
    """The decision about one message: the first caller of `take` decides. That is the thread that
    is about to publish it, or the greenlet that gives up.

    So no client gets 451 for a message that was stored, and sends it again.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _allocate_lock()

    def take(self) -> bool:
        """Take the decision; False if it was taken already."""
        return bool(self._lock.acquire(blocking=False))

    def outcome(self, task: AsyncResult[BaseException | None]) -> BaseException | None:
        """Wait for *task*, which may take the decision, and return its result.

        If something is thrown into the greenlet meanwhile, and the decision isn't taken yet, it
        takes the decision and raises that. Otherwise it ignores it.
        """
        try:
            return task.get()
        except BaseException:
            if self.take():
                raise
        return self._in_any_case(task)

    def _in_any_case(self, task: AsyncResult[BaseException | None]) -> BaseException | None:
        """The result of *task*, however often something is thrown into the greenlet."""
        while not task.ready():
            try:
                task.wait()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                pass
        return task.get()
