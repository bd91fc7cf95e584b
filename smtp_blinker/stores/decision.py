"""The moment from which on a message is stored for good, whatever happens to who waits for it."""

from __future__ import annotations

from typing import Final

from gevent import monkey
from gevent.event import AsyncResult

# The lock of threads, also where the program has patched it into one of greenlets.
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")


class Decision:
    """What becomes of one message: who is first to `take` it decides, the thread that is about to
    publish it or the greenlet that gives up.

    So no client gets a 451 for a message that is stored, and sends a second one.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = _allocate_lock()

    def take(self) -> bool:
        """Decide; False where that was done already."""
        return bool(self._lock.acquire(blocking=False))

    def outcome(self, task: AsyncResult[BaseException | None]) -> BaseException | None:
        """Wait for *task*, which may take the decision, and give what it gives.

        What is thrown into the greenlet meanwhile is raised, and then the decision is taken;
        unless it was already: then it is ignored.
        """
        try:
            return task.get()
        except BaseException:
            if self.take():
                raise
        return self._in_any_case(task)

    def _in_any_case(self, task: AsyncResult[BaseException | None]) -> BaseException | None:
        """What *task* gives, however often something is thrown into the greenlet."""
        while not task.ready():
            try:
                task.wait()
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                pass
        return task.get()
