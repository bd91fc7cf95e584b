"""A spool on the disk for mail that another store can't accept at the moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import gevent
from gevent import monkey
from gevent.event import Event

from ..connection.spool import Spool
from ..pools import STORES
from ..session import Address, Session
from ..signals import close, listening
from .disk import NO_SPACE, no_space
from .drain import Drain, Outage, Store, is_for_good, is_for_later, results_of
from .received import Source
from .saved_session import save
from .spool_folder import SpoolFolder
from .whole import MEMORY, whole_message

# Local to threads of the system, even in a monkey-patched process.
_Local: Final = monkey.get_original("_thread", "_local")


class SpoolStore:
    """Passes each message to *store*, and keeps it in the folder *path* while *store* fails:
    ``spool = SpoolStore(store, path); server.use(spool); server.on_data(spool)``.

    The reply is the result of *store*, or its `Reject` of 5yz. If *store* raises a `Reject` of 4yz
    or any other `Exception`, the message is written to the disk and fsynced, and the reply is 250
    "spooled as …". One `error` event (``StoreAway``) per outage tells the reason. While messages
    wait in the spool, new ones are added after them. A full disk is 452 4.3.1. At most 1 MiB of a
    message is in memory; a larger one is in a temporary file while *store* reads it. An exception
    that is thrown into the greenlet (hook_timeout, the end of the server) prevents the spooling
    until the message is moved into the queue; after that it is ignored, and the reply is 250.

    Waiting messages are delivered in their order, to a `QueueStore` many at once: *delay* seconds
    after the first failure, then after twice as many each time, up to *max_delay*. An entry that
    fails is skipped; after two failures in a row the store counts as unreachable. An entry that
    *store* refuses with 5yz, and a file that can't be read, is moved to ``failed`` in *path*, and
    an `error` event (``SpoolFailed``) names it. The sender isn't informed, so look there. After a
    crash *store* may get messages twice, but no message that was answered 250 is lost.

    *store* is called with a restored session: it has all data of the client and the envelope,
    results as dicts of `as_dict`, a user that is an object as its text, but no attributes that the
    program has added. ``envelope.received_at`` is the time of receipt; seconds of BY= and HOLDFOR=
    are counted down.

    Several processes may use one *path*; one at a time delivers. With ``server.use`` delivery runs
    while the server listens; without, it begins at the first spooled message. The policies of
    *store* are called too, but only their permanent refusals count, and all while nothing can be
    spooled.

    ``messages``, ``bytes`` and ``age`` (seconds) describe the queue, as this process saw it last.

    Raises TypeError for a *store* that isn't callable, ValueError for wrong delays, and `OSError`
    if the folders (mode 0700) can't be made.
    """

    def __init__(
        self,
        store: Store,
        path: str | os.PathLike[str],
        *,
        delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        if not callable(store):
            raise TypeError(f"store must be callable, not {store!r}")
        if not 0 < delay <= max_delay:
            raise ValueError(
                "delay and max_delay are seconds, greater than 0 and in this order, "
                f"not {delay!r} and {max_delay!r}"
            )
        self.store = store
        self._delays = delay, max_delay
        self._folder = SpoolFolder(path)
        self._outage = Outage(self._folder.path)
        self._drain = Drain(self._folder, store, self._outage)
        self._here = _Local()
        #: Whether the last attempt to spool a message succeeded.
        self._can_spool = True

    # For metrics and the page

    @property
    def path(self) -> str:
        """The folder."""
        return self._folder.path

    @property
    def messages(self) -> int:
        """How many messages wait."""
        return self._drain.look.messages

    @property
    def bytes(self) -> int:
        """Octets of the files that wait."""
        return self._drain.look.bytes

    @property
    def age(self) -> float:
        """The age of the oldest waiting message in seconds; 0 without any."""
        oldest = self._drain.look.oldest
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)

    @property
    def is_away(self) -> bool:
        """Whether the store failed when it was last called."""
        return self._outage.is_on

    def look(self) -> None:
        """Measure the queue again, because other processes change it too."""
        self._drain.measure()

    def check(self) -> None:
        """Raise `OSError` if messages can't be spooled, also for a full disk.

        Makes missing folders, and writes and removes a file. It waits for the disk, so call it in a
        thread.
        """
        self._folder.check()

    # A policy

    def attach(self, server: Any) -> None:
        """For `server.use`: deliver waiting messages while *server* listens."""
        attach = getattr(self.store, "attach", None)
        if attach is not None:
            attach(server)
        self._outage.server = server
        listening.connect(self._on_listening, server)
        close.connect(self._on_close, server)
        if server.started and server.home in (None, gevent.get_hub()):
            self._on_listening(server)

    def _on_listening(self, server: Any, **extra: Any) -> None:
        self._runner.begin(server)

    def _on_close(self, server: Any, **extra: Any) -> None:
        self._runner.end(server)

    @property
    def _runner(self) -> _Runner:
        """The runner of this thread and its hub."""
        runner: _Runner | None = getattr(self._here, "runner", None)
        if runner is None:
            runner = self._here.runner = _Runner(self._drain, self._outage, *self._delays)
        return runner

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse what the store's own `on_mail_from` refuses permanently."""
        self._ask("on_mail_from", address, session)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        """For `server.use`: refuse what the store's own `on_rcpt_to` refuses permanently."""
        self._ask("on_rcpt_to", address, session)

    def _ask(self, name: str, address: Address, session: Session) -> None:
        method = getattr(self.store, name, None)
        if method is None:
            return
        try:
            method(address, session)
        except Exception as exc:
            if is_for_good(exc) or not self._can_spool:
                raise

    # The store

    def __call__(self, stream: Source, session: Session) -> Any:
        recipients = session.envelope.rcpt_to
        with whole_message(stream, session) as message:
            if not STORES.run(self._folder.is_empty):
                return self._keep(message, session, recipients)
            try:
                with message.open() as content:
                    result = self.store(content, session)
                result = results_of(result, len(recipients), session)
            except Exception as exc:
                if is_for_good(exc):
                    self._outage.end()
                    raise
                self._outage.begin(exc, session)
                return self._keep(message, session, recipients)
            self._outage.end()
            if isinstance(result, list):
                self._keep_for_some(message, session, result)
            return result

    def _keep_for_some(self, message: Spool, session: Session, results: list[Any]) -> None:
        """Spool the message for the recipients of LMTP for which the store failed temporarily."""
        numbers = [number for number, one in enumerate(results) if is_for_later(one)]
        if not numbers:
            return
        recipients = session.envelope.rcpt_to
        self._outage.begin(results[numbers[0]], session)
        reply: Any
        try:
            reply = self._keep(message, session, [recipients[number] for number in numbers])
        except Exception as exc:
            reply = exc  # for these recipients; the message is stored for the others
        for number in numbers:
            results[number] = reply

    def _keep(self, message: Spool, session: Session, recipients: Sequence[Address]) -> str:
        """Add the message for *recipients* to the queue, and return the text of the 250."""
        name = self._folder.new_name()
        head = save(session, recipients, message.size)
        draft = self._folder.draft(name)
        try:
            with message.open() as content:
                data = head + content.read(MEMORY)
                while data:
                    STORES.run(draft.write, data)
                    data = content.read(MEMORY)
            failure = draft.decision.outcome(STORES.spawn(_failure_of, draft.publish))
            if failure is not None:
                raise failure
        except BaseException as exc:
            # Discard it in a thread, because another thread may still be writing.
            draft.is_abandoned = True
            STORES.spawn(draft.discard)
            if isinstance(exc, Exception):
                self._can_spool = False
            if isinstance(exc, OSError) and exc.errno in NO_SPACE:
                raise no_space(exc, session.id) from exc
            raise
        self._can_spool = True
        self._drain.added(len(head) + message.size)
        self._runner.wake()
        return f"spooled as {name}"


def _failure_of(step: Callable[[], None]) -> BaseException | None:
    """Call *step*; returns the exception that it raised, or None."""
    try:
        step()
    except BaseException as exc:
        return exc
    return None


class _Runner:
    """The greenlet of one hub that delivers waiting messages."""

    def __init__(self, drain: Drain, outage: Outage, delay: float, max_delay: float) -> None:
        self._drain = drain
        self._outage = outage
        self._delay = delay
        self._max_delay = max_delay
        #: The ids of the servers that listen.
        self._servers: set[int] = set()
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._is_stopped = False
        self._has_more = Event()

    def begin(self, server: Any) -> None:
        """Record that *server* listens, and start."""
        self._servers.add(id(server))
        self._start(0)

    def end(self, server: Any) -> None:
        """Record that *server* has stopped; after the last one, end the delivery."""
        self._servers.discard(id(server))
        if not self._servers and self._greenlet is not None:
            self._is_stopped = True  # a store may ignore what is thrown into it, and finish
            self._greenlet.kill()
            self._greenlet = None

    def wake(self) -> None:
        """Start delivery, or wake it up, for a new message."""
        self._has_more.set()
        self._start(self._delay)

    def _start(self, pause: float) -> None:
        if self._greenlet is None or self._greenlet.dead:
            self._is_stopped = False
            self._greenlet = gevent.spawn(self._run, pause)

    def _run(self, pause: float) -> None:
        delay = self._delay
        while not self._is_stopped:
            self._wait(pause)
            self._has_more.clear()
            try:
                any_left = self._drain.run(lambda: self._is_stopped)
            except Exception as exc:  # an error of the disk, or a fault of the program
                any_left = False
                if not self._outage.is_on:
                    self._outage.is_on = True
                    self._outage.tell(exc, "SpoolError")
            if self._drain.look.messages == 0:
                if not self._servers and not self._has_more.is_set():
                    return
                # The timeout also finds messages that another process has left.
                pause = self._delay if self._has_more.wait(self._max_delay) else 0
                delay = self._delay
            elif any_left:
                pause, delay = 0, self._delay
            else:
                pause, delay = delay, min(2 * delay, self._max_delay)

    def _wait(self, pause: float) -> None:
        if self._outage.is_on:
            gevent.sleep(pause)  # new messages don't shorten the pause
        elif self._has_more.wait(pause):
            # New messages don't wait for old ones that the store doesn't accept.
            gevent.sleep(min(pause, self._delay))
