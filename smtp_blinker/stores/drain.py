"""Hand over, in their order, the messages that wait in a spool."""

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
from .spool_folder import GROUP, Entry, InMemory, SpoolFolder

Store = Callable[[Any, Session], Any]

#: Failures in a row after which nothing more is tried for a while.
_FAILURES: Final = 2
#: Seconds after which the queue is measured again while it is handed over.
_MEASURE_EVERY: Final = 10.0
#: An entry that can't be opened for one of these can be later.
_NOT_ITS_FAULT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Outage:
    """Whether the store is away, and the `error` events that tell of it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.is_on = False
        #: Who sends the events: the server that the store is attached to.
        self.server: Any = None

    def begin(self, exc: BaseException, session: Session) -> None:
        """The store has failed; the first time in an outage `error` tells."""
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


class Drain:
    """The messages in *folder*, and *store*, which is to have them."""

    def __init__(self, folder: SpoolFolder, store: Store, outage: Outage) -> None:
        self._folder = folder
        self._store = store
        self._outage = outage
        #: What is in the queue, as it was when it was last measured.
        self.look = folder.look()
        self._measured = time.monotonic()
        #: Entries that failed while another one was handed over, those first that wait longest for
        #: another try: they come after all others, and hold up none.
        self._put_off: dict[str, None] = {}
        self._probes = 0
        #: Those that failed together in this pass: now each goes alone.
        self._alone: set[str] = set()

    def added(self, size: int) -> None:
        """An entry of *size* octets is new in the queue."""
        look = self.look
        oldest = time.time() if look.oldest is None else look.oldest
        self.look = replace(
            look, messages=look.messages + 1, bytes=look.bytes + size, oldest=oldest
        )

    def run(self, is_stopped: Callable[[], bool]) -> bool:
        """Try each entry once, in their order; whether any has left the queue.

        A store with `hand_over_together`, while it is there, has many small ones at once. It does
        nothing where another process does it. After two failures in a row the store counts as away,
        unless one entry more, each time another one, shows that it is those two.
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
        """See what is in the queue."""
        self.look = STORES.run(self._folder.look, frozenset(self._put_off))
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
        """Try one of *rest*, another one each time: does the store take any?"""
        self._probes += 1
        if not self._hand_over(rest[self._probes % len(rest)]):
            return False
        self._try_again(failed)
        return True

    def _try_again(self, failed: Sequence[str]) -> None:
        """The store is there, so *failed* go now, if it has just come back, or after all others."""
        for name in failed:
            if name in self._put_off or not self._hand_over(name):
                self._put_off.setdefault(name)

    def _hand_over_next(self, names: deque[str]) -> list[tuple[str, bool]]:
        """Hand over the first of *names*, or several where the store takes them together; they are
        removed there. Whether each has left the queue."""
        group = self._group(names)
        results = self._hand_over_together(group) if len(group) > 1 else []
        if results:
            for _ in results:
                names.popleft()
            return results
        name = names.popleft()
        return [(name, self._hand_over(name))]

    def _group(self, names: deque[str]) -> list[InMemory]:
        """The first of *names* that may go together."""
        if self._outage.is_on or not hasattr(self._store, "hand_over_together"):
            return []
        apart = self._put_off.keys() | self._alone
        first = list(takewhile(lambda name: name not in apart, islice(names, GROUP)))
        return STORES.run(self._folder.open_group, first, datetime.now(UTC))

    def _hand_over_together(self, group: Sequence[InMemory]) -> list[tuple[str, bool]]:
        """Whether each has left the queue; empty where that is to be seen from each alone."""
        messages = [(io.BytesIO(one.content), one.session) for one in group]
        try:
            results = self._store.hand_over_together(messages)  # type: ignore[attr-defined]
        except (Exception, gevent.Timeout) as exc:
            results = [exc] * len(group)
        if all(map(is_for_later, results)):
            # Either the store is away, or it fails because of one of them.
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
        """What LMTP's result for each recipient makes of the entry."""
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
        """Have the entry for these of its recipients only in *folder*."""

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
            # `error` has reported it, and the store takes other messages.
            del self._put_off[name]
            self._put_off[name] = None
        else:
            self._outage.begin(exc, session)


class _InThreads:
    """An entry that is read in threads."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.size = entry.size

    def read(self, offset: int, size: int) -> bytes:
        return STORES.run(self._entry.read, offset, size)


def results_of(result: Any, recipients: int, session: Session) -> Any:
    """What a store returned: a text, None, or with LMTP a list with one of these or an exception
    for each recipient. Raises TypeError or ValueError for anything else, as the server does."""
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
    """Whether it refuses the message for ever."""
    return isinstance(result, Refusal) and result.reply.code >= 500


def is_for_later(result: Any) -> bool:
    """Whether it is a failure that may pass."""
    return isinstance(result, BaseException) and not is_for_good(result)


def _unlock(locking: Any) -> None:
    """Give back a lock that came too late."""
    if locking.successful() and locking.value is not None:
        locking.value()
