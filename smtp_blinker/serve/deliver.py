"""Where mail goes: a Maildir, or the destination of --deliver, perhaps with --spool before it."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence

import gevent

from smtp_blinker import SMTPServer
from smtp_blinker.stores import MaildirStore, RecipientStore, RelayStore, SpoolStore, WebhookStore
from smtp_blinker.stores.circuit import Circuit
from smtp_blinker.stores.queue import QueueStore
from smtp_blinker.stores.urls import shown

from .queues import SCHEMES as QUEUES
from .queues import open_queue, scheme_of
from .servers import close
from .settings import Settings, Unusable

Store = MaildirStore | RecipientStore | QueueStore | RelayStore | WebhookStore | SpoolStore

log = logging.getLogger("smtp_blinker")

#: Seconds between two checks whether the destination is reachable.
LOOK_SECONDS = 5.0
#: The other schemes of --deliver.
WEBHOOKS = ("http", "https")
NEXT_HOPS = ("smtp", "smtps", "lmtp")


def open_store(settings: Settings, servers: Sequence[SMTPServer] = ()) -> Store:
    """Open the store for the mail. Raises `Unusable`, after it has closed *servers*."""
    try:
        if settings.deliver is None:
            return _inboxes(settings)
        if settings.spool == "":  # which would be the current folder
            raise Unusable("--spool must not be empty")
        store = _deliver(settings.deliver, settings)
        return store if settings.spool is None else SpoolStore(store, settings.spool)
    except OSError as exc:
        close(servers)
        raise Unusable(f"can't write to --spool {settings.spool}: {exc.strerror}") from exc
    except Unusable:
        close(servers)
        raise


def _inboxes(settings: Settings) -> MaildirStore | RecipientStore:
    if not settings.maildir:
        raise Unusable("--maildir must not be empty")
    main = _maildir(settings.maildir, settings)
    if not settings.inbox:
        return main
    stores = {name: _maildir(path, settings) for name, path in settings.maildirs.items()}
    try:
        return RecipientStore({**{to: stores[name] for name, to in settings.inbox}, "*": main})
    except ValueError as exc:
        raise Unusable(f"--inbox: {exc}") from exc


def _maildir(path: str, settings: Settings) -> MaildirStore:
    try:
        store = MaildirStore(path, settings.name)
        store.check()
    except OSError as exc:
        raise Unusable(
            f"can't write to the Maildir {path}: {exc.strerror}; "
            "make it writable or choose another with --maildir"
        ) from exc
    return store


def _deliver(url: str, settings: Settings) -> QueueStore | RelayStore | WebhookStore:
    scheme = scheme_of(url)
    if settings.webhook_secret == "":
        raise Unusable("--webhook-secret must not be empty")
    if settings.webhook_secret is not None and scheme not in WEBHOOKS:
        raise Unusable("--webhook-secret has an effect only with --deliver https://HOST/PATH")
    if scheme in QUEUES:
        return open_queue(url, settings)
    if settings.contents is not None:
        raise Unusable("--contents has an effect only with --deliver to a queue")
    try:
        if scheme in WEBHOOKS:
            return WebhookStore(url, secret=settings.webhook_secret, **settings.deliver_options)
        if scheme in NEXT_HOPS:
            return RelayStore(url, name=settings.name, **settings.deliver_options)
    except ValueError as exc:
        raise Unusable(f"--deliver: {exc}") from exc
    known = ", ".join(f"{one}://" for one in (*WEBHOOKS, *NEXT_HOPS, *QUEUES))
    raise Unusable(f"--deliver takes a URL of {known}, not {shown(url)!r}")


def deliver_to(store: Store, server: SMTPServer) -> None:
    """Let *server* store mail in *store*. If *store* is unreachable, MAIL is refused already."""
    if not isinstance(store, MaildirStore):
        server.use(store)
    server.on_data(store)


def circuit_of(store: Store) -> Circuit | None:
    """The circuit breaker of *store*; None if mail stays on this machine."""
    inner = store.store if isinstance(store, SpoolStore) else store
    return getattr(inner, "circuit", None)


def health_of(store: Store) -> Callable[[], object]:
    """A function for the page that raises OSError while mail can't be stored."""
    if isinstance(store, MaildirStore):
        return store.check_folders
    if isinstance(store, RecipientStore):
        return lambda: [inner.check_folders() for inner in store.stores]  # type: ignore[attr-defined]
    return store.check if isinstance(store, SpoolStore) else Watch(store).check


class Watch:
    """Checks periodically whether the destination of *store* is reachable."""

    def __init__(self, store: QueueStore | RelayStore | WebhookStore) -> None:
        self._store = store
        #: None until the first check has ended.
        self._is_there: bool | None = None
        gevent.spawn(self._look)

    def _look(self) -> None:
        while True:
            try:
                self._store.check()
                self._is_there = True
            except Exception as exc:
                if self._is_there is not False:
                    log.error("%s can't be used: %s", self._store.engine, exc)
                self._is_there = False
            gevent.sleep(LOOK_SECONDS)

    def check(self) -> None:
        """Raise OSError while mail can't be delivered; for the page."""
        if not self._is_there:  # without the reason, which may name hosts
            raise OSError(errno.EAGAIN, f"{self._store.engine} is away")
