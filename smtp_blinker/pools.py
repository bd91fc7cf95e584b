"""Thread pools for blocking work: one pool for each kind, so that no kind waits for another.

gevent's pool of ten threads, which its DNS uses too, is left to the program. Otherwise look-ups
that hang could occupy all ten threads, and no mail could be stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar, cast

from gevent import get_hub, monkey
from gevent.event import AsyncResult

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds after which an idle thread ends.
IDLE_SECONDS: Final = 1.0

# The originals, even in a monkey-patched process.
_start_new_thread: Final = monkey.get_original("_thread", "start_new_thread")
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")
_SimpleQueue: Final = monkey.get_original("queue", "SimpleQueue")
_Empty: Final = monkey.get_original("queue", "Empty")


class Workers:
    """Up to *most* threads for one kind of work; further work waits in a queue.

    Threads start when there is work and end after `IDLE_SECONDS` without any, so nothing has to be
    closed. Several hubs may share one pool; a forked process has its own threads. *nice* is added
    to the threads' nice value (Linux only): with 19 they yield to all others.
    """

    def __init__(self, most: int, nice: int = 0) -> None:
        self.most = most
        self._nice = nice
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # a forked child has no threads

    def _reset(self) -> None:
        self._tasks = _SimpleQueue()
        #: Protects the two numbers.
        self._lock = _allocate_lock()
        self._threads = 0
        #: The number of threads that wait for a task, minus that of tasks that wait for a thread.
        self._idle = 0

    @property
    def all_busy(self) -> bool:
        """Whether more work would have to wait for a thread."""
        return self._idle <= 0 and self._threads == self.most

    def run(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Call *work* in a thread and wait for it; returns or raises what *work* does."""
        return cast("T", self.spawn(work, *args, **keywords).get())

    def spawn(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> AsyncResult[Any]:
        """The same without waiting. *work* runs even if no greenlet waits for the result.

        Raises RuntimeError if the system can't start a thread that is needed.
        """
        result: AsyncResult[Any] = AsyncResult()
        done = get_hub().loop.async_()
        outcome: list[Callable[[], None]] = []

        def finish() -> None:  # in the hub
            done.stop()
            done.close()
            outcome[0]()

        def task() -> None:  # in the thread
            try:
                value = work(*args, **keywords)
            except BaseException as exc:
                failure = exc
                outcome.append(lambda: result.set_exception(failure))
            else:
                outcome.append(lambda: result.set(value))
            try:
                done.send()
            except ValueError:
                pass  # the hub has ended, and its greenlets with it

        try:
            self._claim_thread()
        except RuntimeError:
            done.close()
            raise
        done.start(finish)
        self._tasks.put(task)
        return result

    def _claim_thread(self) -> None:
        with self._lock:
            if self._idle > 0 or self._threads == self.most:
                self._idle -= 1
            else:
                _start_new_thread(self._serve, ())
                self._threads += 1

    def _serve(self) -> None:
        if self._nice and sys.platform == "linux":  # elsewhere it changes the whole process
            os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + self._nice)
        while True:
            try:
                task: Any = self._tasks.get(timeout=IDLE_SECONDS)
            except _Empty:
                with self._lock:
                    if self._idle > 0:
                        self._idle -= 1
                        self._threads -= 1
                        return
                continue  # somebody has claimed this thread and is about to put a task
            task()
            del task  # free the objects that it refers to
            with self._lock:
                self._idle += 1


#: Reverse look-ups. While all of these hang, further clients have no name but their address.
LOOKUPS: Final = Workers(8)
#: Password checks. Each needs CPU time, and 16 MiB or what the users file says. Their low priority
#: keeps clients that guess passwords from slowing down mail.
PASSWORDS: Final = Workers(4, nice=10)
#: TLS handshakes with an expensive key (RSA).
HANDSHAKES: Final = Workers(2, nice=10)
#: Writing and fsync of stores.
STORES: Final = Workers(10)
#: Spooling of messages for policies.
SPOOLS: Final = Workers(4)
#: Parsing of DNS replies, whose content the sender of a message may have chosen.
ANSWERS: Final = Workers(1)
#: Verification of signatures: hashes, and arithmetic with keys that the signer has chosen.
SIGNATURES: Final = Workers(2)
