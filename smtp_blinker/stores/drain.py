"""Delivers the messages that wait in a spool, in their order."""

from __future__ import annotations

import errno
import io
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, takewhile
from typing import Any, Final

import gevent

from ..connection.spool import FileView
from ..hooks import checked, checked_text
from ..pools import STORES
from ..session import Session
from ..signals import ErrorEvent, emit_error
from ..smtp.reply import Refusal
from .received import PIECE
from .saved_session import Expired, with_recipients
from .spool_folder import GROUP, Entry, InMemory, Look, SpoolFolder

Store = Callable[[Any, Session], Any]

#: After this many failures in a row it pauses.
_FAILURES: Final = 2
#: Seconds between two measurements of the queue while it is delivered.
_MEASURE_EVERY: Final = 10.0
#: Errors of open() that are temporary and not a fault of the entry.
_NOT_ITS_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Outage:
    """Whether the store is unreachable, and the `error` events about it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_on = False
        #: The sender of the events: the server to which the store is attached.
        self.server: Any = None

    def begin(self, exc: BaseException, session: Session) -> None:
        """Record a failure of the store. The first one of an outage sends `error`."""
        if not self.is_on:
            self.is_on = True
            self.tell(exc, "StoreAway", session)

    def end(self) -> None:
        self.is_on = False

    def tell(
        self, exc: BaseException, code: str, session: Session | None = None, **meta: Any
    ) -> None:
        event = ErrorEvent(
            exc.with_traceback(None) if isinstance(exc, Refusal) else exc,
            code,
            None if session is None else session.remote_address,
            meta={"stage": "spool", "spool": self._path, **meta},
            id=None if session is None else session.id,
        )
        emit_error(self if self.server is None else self.server, event)


def _with(look: Look, messages: int, size: int) -> Look:
    """*look* and so many entries that were added now, with *size* octets."""
    if not messages:
        return look
    oldest = time.time() if look.oldest is None else look.oldest
    return replace(look, messages=look.messages + messages, bytes=look.bytes + size, oldest=oldest)


class Drain:
    """Delivers the messages in *folder* to *store*."""

    def __init__(self, folder: SpoolFolder, store: Store, outage: Outage) -> None:
        self._folder = folder
        self._store = store
        self._outage = outage
        #: The state of the queue at the last measurement.
        self.look = folder.look()
        self._measured = time.monotonic()
        #: Entries that were added since the start, and their octets.
        self._added = self._added_bytes = 0
        #: Entries that failed while others were delivered, the longest waiting first. They come
        #: after all others, so that they delay none.
        self._put_off: dict[str, None] = {}
        self._probes = 0
        #: Entries that failed as a group in this pass; each of them is now tried alone.
        self._alone: set[str] = set()

    def added(self, size: int) -> None:
        """Count a new entry of *size* octets in the queue."""
        self._added += 1
        self._added_bytes += size
        self.look = _with(self.look, 1, size)

    def run(self, is_stopped: Callable[[], bool]) -> bool:
        """Try each entry once, in order; returns whether any has left the queue.

        A reachable store with `hand_over_together` gets many small entries at once. If another
        process delivers now, it does nothing. After two failures in a row it tries one more entry,
        each time a different one. If that fails too, the store counts as unreachable.
        """
        locking = STORES.spawn(self._folder.lock)
        try:
            unlock = locking.get()
        except BaseException:
            locking.rawlink(_unlock)
            raise
        if unlock is None:
            self.measure()
            return False
        self._alone.clear()
        try:
            STORES.run(self._folder.remove_stale)
            self.measure()
            any_left = self._hand_over_all(is_stopped)
        finally:
            unlock()
        self.measure()
        return any_left

    def measure(self) -> None:
        """Measure the queue again.

        An entry that is added meanwhile may count twice until the next time, but always counts.
        """
        added, added_bytes = self._added, self._added_bytes
        look = STORES.run(self._folder.look, frozenset(self._put_off))
        self.look = _with(look, self._added - added, self._added_bytes - added_bytes)
        self._measured = time.monotonic()

    def _hand_over_all(self, is_stopped: Callable[[], bool]) -> bool:
        names = deque([*self.look.names, *self._put_off])
        failed: list[str] = []
        any_left = False
        while names and not is_stopped():
            for name, has_left in self._hand_over_next(names):
                if has_left:
                    any_left = True
                    self._try_again(failed)
                    failed.clear()
                else:
                    failed.append(name)
            if len(failed) >= _FAILURES:
                return (bool(names) and self._probe(names, failed)) or any_left
            if time.monotonic() - self._measured > _MEASURE_EVERY:
                self.measure()
        return any_left

    def _probe(self, rest: Sequence[str], failed: Sequence[str]) -> bool:
        """Try one of *rest*, a different one each time; whether the store accepts it."""
        self._probes += 1
        if not self._hand_over(rest[self._probes % len(rest)]):
            return False
        self._try_again(failed)
        return True

    def _try_again(self, failed: Sequence[str]) -> None:
        """Try *failed* again: now if the store has just come back, else after all others."""
        for name in failed:
            if name in self._put_off or not self._hand_over(name):
                self._put_off.setdefault(name)

    def _hand_over_next(self, names: deque[str]) -> list[tuple[str, bool]]:
        """Deliver the first of *names*, or several if the store takes them together, and remove
        them from *names*. Returns whether each has left the queue."""
        group = self._group(names)
        results = self._hand_over_together(group) if len(group) > 1 else []
        if results:
            for _ in results:
                names.popleft()
            return results
        name = names.popleft()
        return [(name, self._hand_over(name))]

    def _group(self, names: deque[str]) -> list[InMemory]:
        """The first entries of *names* that may be delivered together."""
        if self._outage.is_on or not hasattr(self._store, "hand_over_together"):
            return []
        apart = self._put_off.keys() | self._alone
        first = list(takewhile(lambda name: name not in apart, islice(names, GROUP)))
        return STORES.run(self._folder.open_group, first, datetime.now(UTC))

    def _hand_over_together(self, group: Sequence[InMemory]) -> list[tuple[str, bool]]:
        """Whether each has left the queue; empty if each must be tried alone."""
        messages = [(io.BytesIO(one.content), one.session) for one in group]
        try:
            results = self._store.hand_over_together(messages)  # type: ignore[attr-defined]
        except (Exception, gevent.Timeout) as exc:
            results = [exc] * len(group)
        if all(map(is_for_later, results)):
            # Either the store is unreachable, or one of them makes it fail.
            self._alone.update(one.name for one in group)
            return []
        pairs = list(zip(group, results, strict=True))
        taken = [one.name for one, result in pairs if not isinstance(result, BaseException)]
        STORES.run(self._folder.remove, *taken)
        for one, result in pairs:
            if is_for_good(result):
                self._give_up(one.name, result, one.session)
            elif is_for_later(result):
                self._failed(one.name, result, one.session)
        self._outage.end()
        return [(one.name, not is_for_later(result)) for one, result in pairs]

    def _hand_over(self, name: str) -> bool:
        """Whether the entry *name* has left the queue."""
        try:
            entry = STORES.run(self._folder.open, name, datetime.now(UTC))
        except FileNotFoundError:
            self._put_off.pop(name, None)
            return True
        except (ValueError, Expired, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno in _NOT_ITS_FAULT:
                return False
            self._give_up(name, exc, None)
            return True
        try:
            return self._hand_over_entry(name, entry)
        finally:
            STORES.spawn(entry.close)

    def _hand_over_entry(self, name: str, entry: Entry) -> bool:
        session = entry.session
        count = len(session.envelope.rcpt_to)
        try:
            with FileView(_InThreads(entry)).buffered() as content:
                result = results_of(self._store(content, session), count, session)
        except (Exception, gevent.Timeout) as exc:
            if is_for_good(exc):
                self._outage.end()
                self._give_up(name, exc, session)
                return True
            self._failed(name, exc, session)
            return False
        self._outage.end()
        if isinstance(result, list):
            return self._settle(name, entry, result)
        self._remove(name)
        return True

    def _settle(self, name: str, entry: Entry, results: list[Any]) -> bool:
        """Process the results of LMTP, one for each recipient of the entry."""
        refused = [number for number, one in enumerate(results) if is_for_good(one)]
        later = [number for number, one in enumerate(results) if is_for_later(one)]
        if refused and len(refused) == len(results):
            self._give_up(name, results[0], entry.session)
            return True
        if refused:
            self._copy(name, entry, refused, self._folder.failed)
            exc = results[refused[0]]
            self._outage.tell(exc, "SpoolFailed", entry.session, message=name)
        if not later:
            self._remove(name)
            return True
        if len(later) < len(results):
            self._copy(name, entry, later, self._folder.queue)
        self._failed(name, results[later[0]], entry.session)
        return False

    def _copy(self, name: str, entry: Entry, numbers: list[int], folder: str) -> None:
        """Copy the entry into *folder*, with only these of its recipients."""

        def copy() -> None:
            draft = self._folder.draft(name)
            try:
                draft.write(with_recipients(entry.head, numbers))
                for offset in range(0, entry.size, PIECE):
                    draft.write(entry.read(offset, PIECE))
                draft.publish(folder)
            finally:
                draft.discard()

        STORES.run(copy)

    def _remove(self, name: str) -> None:
        STORES.run(self._folder.remove, name)
        self._put_off.pop(name, None)

    def _give_up(self, name: str, exc: BaseException, session: Session | None) -> None:
        STORES.run(self._folder.fail, name)
        self._put_off.pop(name, None)
        self._outage.tell(exc, "SpoolFailed", session, message=name)

    def _failed(self, name: str, exc: BaseException, session: Session) -> None:
        if name in self._put_off:
            # `error` has reported it already, and the store accepts other messages.
            del self._put_off[name]
            self._put_off[name] = None
        else:
            self._outage.begin(exc, session)


class _InThreads:
    """An entry whose content is read in threads."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.size = entry.size

    def read(self, offset: int, size: int) -> bytes:
        return STORES.run(self._entry.read, offset, size)


def results_of(result: Any, recipients: int, session: Session) -> Any:
    """Check and return the result of a store: text, None, or with LMTP a list with text, None or
    an exception for each recipient. Raises TypeError or ValueError for anything else."""
    if result is None:
        return None
    result = checked("on_data", result)
    if not isinstance(result, (list, tuple)):
        return result
    if session.opening_command != "LHLO":
        raise TypeError("the store returned a list of results; only LMTP has several")
    if len(result) != recipients:
        raise ValueError(f"the store returned {len(result)} results for {recipients} recipients")
    return [_result(one) for one in result]


def _result(one: Any) -> Any:
    if isinstance(one, type) and issubclass(one, BaseException):
        one = one()
    if one is None or isinstance(one, BaseException):
        return one
    try:
        return checked_text(one)
    except (TypeError, ValueError) as exc:
        return exc


def is_for_good(result: Any) -> bool:
    """Whether *result* is a permanent refusal."""
    return isinstance(result, Refusal) and result.reply.code >= 500


def is_for_later(result: Any) -> bool:
    """Whether *result* is a temporary failure."""
    return isinstance(result, BaseException) and not is_for_good(result)


def _unlock(locking: Any) -> None:
    """Release a lock that was acquired too late."""
    if locking.successful() and locking.value is not None:
        locking.value()
