"""A spool on this disk for mail that another store can't take at the moment."""

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

# One for each thread of the system, in a process that is monkey patched too.
_Local: Final = monkey.get_original("_thread", "_local")


class SpoolStore:
    """Hands each message to *store*, and keeps it in the folder *path* while that one is away:
    ``spool = SpoolStore(store, path); server.use(spool); server.on_data(spool)``.

    What *store* returns is the reply, and so is a `Reject` of 5yz. Where it raises a `Reject` of
    4yz or any other `Exception`, the message is written to the disk, fsynced, and then answered
    250 "spooled as …". An `error` event (``StoreAway``) says why, one for each outage. While
    anything waits in the spool, new messages go behind it. A full disk is 452 4.3.1. In memory is
    at most 1 MiB of a message; a larger one is in a temporary file while *store* gets it. An
    exception that is thrown into the greenlet (hook_timeout, the end of the server) keeps the
    message from being spooled until it is moved into the queue; from there on it is ignored, and
    the answer is 250.

    What waits is handed over in the order in which it came, to a `QueueStore` many at once: *delay*
    seconds after the first failure, then after twice as many each time, up to *max_delay*. An entry
    that fails is skipped; after two failures in a row the store counts as away. What it refuses by
    then (5yz), and a file that can't be read, is moved to ``failed`` in *path*, and an `error`
    event (``SpoolFailed``) names it: the sender isn't informed, so look there. A crash can make
    *store* have messages twice, and never loses one that was answered 250.

    *store* is called with a session of the facts that were saved: everything of the client and of
    the envelope, results as `as_dict` says, a user that is an object as its text, but no attributes
    of the program's own. ``envelope.received_at`` is when the message came; seconds of BY= and
    HOLDFOR= are counted down.

    Several processes may use one *path*; one at a time hands over. With ``server.use`` that begins
    as the server listens and ends with it; without, at the first message that is spooled. The
    policies of *store* are asked too, and only what they refuse for good is refused, or anything
    while nothing can be spooled.

    ``messages``, ``bytes`` and ``age`` (seconds) say what waits, as this process has last seen it.

    Raises TypeError for a *store* that can't be called, ValueError for wrong delays, and the
    `OSError` that keeps the folders (mode 0700) from being made.
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
        #: Whether the last message that was to be spooled could be.
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
        """Seconds for which the oldest message waits; 0 where none does."""
        oldest = self._drain.look.oldest
        return 0.0 if oldest is None else max(0.0, time.time() - oldest)

    @property
    def is_away(self) -> bool:
        """Whether the store failed when it was last called."""
        return self._outage.is_on

    def look(self) -> None:
        """Look again at what waits, since other processes spool and hand over too."""
        self._drain.measure()

    def check(self) -> None:
        """Raise the `OSError` that keeps messages from being spooled, a full disk among them.

        Folders that are missing are made, and a file is written and removed. It waits for the disk:
        call it in a thread.
        """
        self._folder.check()

    # A policy

    def attach(self, server: Any) -> None:
        """For `server.use`: hand over what waits while *server* listens."""
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
        """That of this thread, and so of its hub."""
        runner: _Runner | None = getattr(self._here, "runner", None)
        if runner is None:
            runner = self._here.runner = _Runner(self._drain, self._outage, *self._delays)
        return runner

    def on_mail_from(self, address: Address, session: Session) -> None:
        """For `server.use`: what the store's own `on_mail_from` refuses for good."""
        self._ask("on_mail_from", address, session)

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        """For `server.use`: what the store's own `on_rcpt_to` refuses for good."""
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
        """Keep it for the recipients of LMTP that the store can't have it for at the moment."""
        numbers = [number for number, one in enumerate(results) if is_for_later(one)]
        if not numbers:
            return
        recipients = session.envelope.rcpt_to
        self._outage.begin(results[numbers[0]], session)
        reply: Any
        try:
            reply = self._keep(message, session, [recipients[number] for number in numbers])
        except Exception as exc:
            reply = exc  # theirs; the others' messages are stored
        for number in numbers:
            results[number] = reply

    def _keep(self, message: Spool, session: Session, recipients: Sequence[Address]) -> str:
        """Have it in the queue for *recipients*, and return the text of the 250."""
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
            # In a thread, since another one may still be writing.
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
    """Do *step*; what it raised."""
    try:
        step()
    except BaseException as exc:
        return exc
    return None


class _Runner:
    """The greenlet that hands over, in one hub."""

    def __init__(self, drain: Drain, outage: Outage, delay: float, max_delay: float) -> None:
        self._drain = drain
        self._outage = outage
        self._delay = delay
        self._max_delay = max_delay
        #: The servers that listen, by their ids.
        self._servers: set[int] = set()
        self._greenlet: gevent.Greenlet[..., None] | None = None
        self._is_stopped = False
        self._has_more = Event()

    def begin(self, server: Any) -> None:
        """*server* listens."""
        self._servers.add(id(server))
        self._start(0)

    def end(self, server: Any) -> None:
        """*server* doesn't any more. What is under way for the last one is given up."""
        self._servers.discard(id(server))
        if not self._servers and self._greenlet is not None:
            self._is_stopped = True  # a store may finish whatever is thrown into it
            self._greenlet.kill()
            self._greenlet = None

    def wake(self) -> None:
        """There is one message more."""
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
            except Exception as exc:  # the disk's, or a fault of the program's own
                any_left = False
                if not self._outage.is_on:
                    self._outage.is_on = True
                    self._outage.tell(exc, "SpoolError")
            if self._drain.look.messages == 0:
                if not self._servers and not self._has_more.is_set():
                    return
                # What another process has left is found in time, too.
                pause = self._delay if self._has_more.wait(self._max_delay) else 0
                delay = self._delay
            elif any_left:
                pause, delay = 0, self._delay
            else:
                pause, delay = delay, min(2 * delay, self._max_delay)

    def _wait(self, pause: float) -> None:
        if self._outage.is_on:
            gevent.sleep(pause)  # new messages make no haste
        elif self._has_more.wait(pause):
            # Nor do they wait for old ones that the store doesn't take.
            gevent.sleep(min(pause, self._delay))
