"""The base class of the stores that put messages into a queue."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from gevent import monkey
from gevent.lock import BoundedSemaphore

from ..pools import STORES
from ..session import Address, Session, new_id
from ..smtp.reply import Reject
from .batch import Batches, Job
from .circuit import Circuit, Deadline, Outcome, check_timeout
from .contents import Contents
from .entry import Entry
from .received import Received, Source, too_large

#: With *contents*, the largest content in octets that is in the entry itself.
INLINE: Final = 128 * 1024
#: Without *contents*, the largest message in octets that is kept in memory while it arrives.
MEMORY: Final = 64 * 1024


class Unavailable(Exception):
    """The engine did not accept an entry. ``__cause__`` is the reason.

    *may_have_it*: whether the engine may have it nevertheless, because its answer is missing.
    """

    def __init__(self, text: str, *, may_have_it: bool = False) -> None:
        super().__init__(text)
        self.may_have_it = may_have_it


class QueueStore(ABC):
    """An `on_data` hook and a policy for `server.use` that puts messages into the queue of an
    engine (a message broker)."""

    #: The engine's name in messages.
    engine: str
    #: For the page: `check` uses connections that belong to the greenlets of this thread.
    needs_thread: Final = False

    #: What hands jobs to the engine.
    _batches: Batches[Any]

    def __init__(
        self, *, contents: Contents | None, inline: int, max_size: int, timeout: float, pool: int
    ) -> None:
        check_timeout(timeout)
        if not 0 <= inline <= max_size:
            raise ValueError(f"inline must be 0 to max_size ({max_size}), not {inline!r}")
        if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
            raise ValueError(f"pool must be 1 or more (messages at a time), not {pool!r}")
        methods = ("draft", "check")
        if contents is not None and not all(hasattr(contents, name) for name in methods):
            raise TypeError(
                f"contents takes FolderContents(path) or S3Contents(bucket), not {contents!r}"
            )
        require_patched(type(self).__name__)
        self.contents = contents
        self.inline = inline
        self.max_size = max_size
        self.timeout = timeout
        self.circuit = Circuit()
        self._free = BoundedSemaphore(pool)

    def attach(self, server: Any) -> None:
        """For `server.use`: raises ValueError if *server* accepts larger messages than fit."""
        size = server.options.size
        if self.contents is None and not 0 < size <= self.max_size:
            raise ValueError(
                f"{type(self).__name__} takes messages of up to {self.max_size} bytes and the "
                f"server's size is {size or 'not limited'}: give the server size={self.max_size} "
                "or less, give the store contents=…, or max_size=… if the engine takes more"
            )

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse MAIL if the message couldn't be stored."""
        self.circuit.check()
        size = session.envelope.size
        if self.contents is None and size is not None and size > self.max_size:
            raise too_large()

    def __call__(self, stream: Source, session: Session) -> str:
        self.circuit.check()
        received = self._received()
        try:
            self._fill(received, stream)
            with self.circuit.attempt():
                entry = self._hand_over_in_time(received, session)
        finally:
            received.close()
        return _accepted(entry)

    def _received(self) -> Received:
        return Received(MEMORY if self.contents is None else self.inline, self.contents)

    def _fill(self, received: Received, stream: Source) -> None:
        received.fill(stream, self.max_size if self.contents is None else None)

    def hand_over_together(
        self, messages: Sequence[tuple[Source, Session]]
    ) -> list[str | Exception]:
        """Deliver several messages in their order, and wait for all answers of the engine together.

        Returns for each message what `__call__` would return or raise. Meanwhile all are in memory.
        Raises `Reject` (451) while mail is refused because of failures.
        """
        results: list[str | Exception] = []
        with self.circuit.attempt_together() as outcomes, ExitStack() as stack:
            jobs = self._jobs(messages, stack)
            self._batches.hand_over_together([one[0] for one in jobs if isinstance(one, tuple)])
            for one in jobs:
                results.append(one if isinstance(one, Exception) else self._result(*one))
                outcomes.append(_outcome(results[-1]))
        return results

    def _jobs(
        self, messages: Sequence[tuple[Source, Session]], stack: ExitStack
    ) -> list[tuple[Job, Received] | Exception]:
        """A job or an exception for each message; *stack* closes all of them."""
        jobs: list[tuple[Job, Received] | Exception] = []
        for stream, session in messages:
            received = self._received()
            stack.callback(received.close)
            try:
                with self._deadline():
                    self._fill(received, stream)
                    entry = self._entry(received, session)
                    content = self._content(received)
            except Exception as exc:
                jobs.append(exc)
                if _outcome(exc) == "failed":  # the contents fail, also for the next messages
                    return [*jobs, *[exc] * (len(messages) - len(jobs))]
            else:
                received.is_referred_to = True
                jobs.append((Job(entry, content), received))
        return jobs

    def _result(self, job: Job, received: Received) -> str | Exception:
        try:
            self._settle(job, received)
        except Exception as exc:
            return exc
        return _accepted(job.entry)

    def _hand_over_in_time(self, received: Received, session: Session) -> Entry:
        try:
            with self._deadline():
                return self._hand_over(received, session)
        except Unavailable as exc:
            exc.may_have_it = exc.may_have_it or received.is_referred_to
            raise

    def _deadline(self) -> Deadline:
        return Deadline(self.timeout, self._late)

    def _late(self) -> Unavailable:
        return Unavailable(f"{self.engine} did not answer within {self.timeout:g} s")

    def check(self) -> None:
        """Raise `Unavailable` if the engine or the contents can't be used now, and `Reject` (451)
        while mail is refused because of failures. Adds nothing to the queue."""
        self.circuit.check()
        with self._deadline():
            self._check()
            if self.contents is not None:
                self._check_contents(self.contents)

    def _check_contents(self, contents: Contents) -> None:
        try:
            if contents.needs_thread:
                STORES.run(contents.check)
            else:
                contents.check()
        except Exception as exc:
            raise Unavailable(f"the contents of large messages are away: {exc}") from exc

    def _hand_over(self, received: Received, session: Session) -> Entry:
        entry = self._entry(received, session)
        received.is_referred_to = True
        with self._free:
            # Read it from the disk only when it is its turn.
            job = Job(entry, self._content(received))
            self._batches.hand_over(job)
        self._settle(job, received)
        return entry

    def _entry(self, received: Received, session: Session) -> Entry:
        """The entry. Raises `Reject` if it is too large."""
        # Store the content first, so that an entry never names a missing content.
        if self.contents is not None and not received.is_in_memory:
            received.finish(new_id())
        entry = Entry.of(session, received.size, received.sha256, received.key)
        inside = received.size if received.key is None else 0
        if len(entry.head) + 1 + inside > self.max_size:
            raise too_large()
        return entry

    def _content(self, received: Received) -> bytes:
        """The content for the entry itself; b"" if it is in the contents."""
        return received.content() if received.key is None else b""

    def _settle(self, job: Job, received: Received) -> None:
        """Raise the failure of *job* for the hook, if it has failed."""
        if job.failure is None:
            return
        failure = self._explained(job)
        received.is_referred_to = isinstance(failure, Unavailable) and failure.may_have_it
        raise failure from job.failure

    @abstractmethod
    def _explained(self, job: Job) -> Unavailable | Reject:
        """The failure of *job*; `Reject` if the engine will never accept it."""

    @abstractmethod
    def _check(self) -> None:
        """Raise `Unavailable` if the engine can't be used now."""

    @abstractmethod
    def close(self) -> None:
        """Close the idle connections."""


def _accepted(entry: Entry) -> str:
    return f"queued as {entry.id}"


def _outcome(result: str | Exception) -> Outcome:
    if isinstance(result, str):
        return "accepted"
    return "refused" if isinstance(result, Reject) and result.code >= 500 else "failed"


def require_patched(name: str) -> None:
    """Raise RuntimeError unless sockets are monkey patched, since client libraries block else."""
    if not monkey.is_module_patched("socket"):
        raise RuntimeError(
            f"{name} needs a program whose sockets are gevent's; put this first in it, before all "
            "other imports: from gevent import monkey; monkey.patch_all()"
        )


__all__ = ["QueueStore", "Unavailable", "require_patched"]
