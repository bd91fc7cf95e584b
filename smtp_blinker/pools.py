"""Threads for work that blocks: a pool for each kind, so that no kind waits for another.

gevent has a pool of ten threads for the whole program, which its own DNS uses too. The library
leaves it to the program: look-ups that hang could use all ten, and mail could not be stored.
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

#: Seconds after which a thread that has nothing to do ends.
IDLE_SECONDS: Final = 1.0

# Real ones, in a process that is monkey patched too.
_start_new_thread: Final = monkey.get_original("_thread", "start_new_thread")
_allocate_lock: Final = monkey.get_original("_thread", "allocate_lock")
_SimpleQueue: Final = monkey.get_original("queue", "SimpleQueue")
_Empty: Final = monkey.get_original("queue", "Empty")


class Workers:
    """Up to *most* threads of this process, for one kind of work; more of it waits its turn.

    They start when there is work and end `IDLE_SECONDS` after the last of it, so that nothing
    has to be closed. Any number of hubs may use them, and a forked process has its own.
    *nice* is how far they stand back when processors are scarce: 0 not at all, 19 most (Linux).
    """

    def __init__(self, most: int, nice: int = 0) -> None:
        self.most = most
        self._nice = nice
        self._reset()
        os.register_at_fork(after_in_child=self._reset)  # which leaves the threads behind

    def _reset(self) -> None:
        self._tasks = _SimpleQueue()
        #: For the two numbers.
        self._lock = _allocate_lock()
        self._threads = 0
        #: Threads that wait for a task, less the tasks that wait for a thread.
        self._idle = 0

    @property
    def all_busy(self) -> bool:
        """Whether more work would have to wait for a thread."""
        return self._idle <= 0 and self._threads == self.most

    def run(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> T:
        """Do *work* in a thread and wait for it; returns or raises what it does."""
        return cast("T", self.spawn(work, *args, **keywords).get())

    def spawn(self, work: Callable[P, T], *args: P.args, **keywords: P.kwargs) -> AsyncResult[Any]:
        """The same without waiting. *work* is done even if nothing waits for its result.

        Raises RuntimeError when a thread is needed and can't be had.
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
                pass  # the hub is gone, and with it all that waited

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
        if self._nice and sys.platform == "linux":  # elsewhere it would be the whole process
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
                continue  # a task will arrive at once
            task()
            del task  # and what it holds
            with self._lock:
                self._idle += 1


#: Reverse look-ups; while these hang the next clients are served under their addresses.
LOOKUPS: Final = Workers(8)
#: Passwords: each takes a processor for a while, and 16 MiB or what the users file says.
#: Clients that guess passwords must not slow mail down.
PASSWORDS: Final = Workers(4, nice=10)
#: TLS handshakes with a key that costs much (RSA).
HANDSHAKES: Final = Workers(2, nice=10)
#: Writes and fsync of stores.
STORES: Final = Workers(10)
#: Messages that are spooled for policies.
SPOOLS: Final = Workers(4)
#: Replies of name servers, whose contents the sender of a message may have chosen.
ANSWERS: Final = Workers(1)
#: Signatures of messages: hashes, and arithmetic with keys that the signer has chosen.
SIGNATURES: Final = Workers(2)
