"""The process: its log, its limit of open files, its Maildir, and what SIGHUP reads anew."""

from __future__ import annotations

import gc
import logging
import resource
from collections.abc import Sequence
from contextlib import suppress

from smtp_blinker import SMTPServer
from smtp_blinker.connection.tls import make_context
from smtp_blinker.listeners.log import EventLog, JSONFormatter
from smtp_blinker.stores import MaildirStore
from smtp_blinker.stores.queue import QueueStore
from smtp_blinker.users import UserFile

from .certificate import certificate_problem
from .queues import open_queue
from .servers import close, offer_scram
from .settings import Settings, Unusable

log = logging.getLogger("smtp_blinker.serve")


def start_logging(settings: Settings) -> None:
    json = settings.log_format == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(
        JSONFormatter() if json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # In JSON a traceback stays within the line; in text it could forge others.
    EventLog(tracebacks=json).attach()


def raise_file_limit() -> None:
    """Two descriptors for each client and more are needed; 1024 is a common soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems don't take "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_the_collector() -> None:
    """Have garbage collection pass by all that lives until the end: modules, routes, options.

    Each full collection would look at all of it, and nobody be served for 15 to 45 ms.
    """
    gc.collect()
    gc.freeze()


def open_store(settings: Settings, servers: Sequence[SMTPServer] = ()) -> MaildirStore | QueueStore:
    """Where mail goes; raises `Unusable`, the *servers* closed."""
    if settings.deliver is not None:
        try:
            return open_queue(settings.deliver, settings)
        except Unusable:
            close(servers)
            raise
    if not settings.maildir:
        close(servers)
        raise Unusable("--maildir must not be empty")
    try:
        store = MaildirStore(settings.maildir, settings.name)
        store.check()
    except OSError as exc:
        close(servers)
        raise Unusable(
            f"can't write to the Maildir {settings.maildir}: {exc.strerror}; "
            "make it writable or choose another with --maildir"
        ) from exc
    return store


def deliver_to(store: MaildirStore | QueueStore, server: SMTPServer) -> None:
    """Have *server*'s mail go to *store*; a queue that is away is known at MAIL."""
    if isinstance(store, QueueStore):
        server.use(store)
    server.on_data(store)


def reload(settings: Settings, users: UserFile | None, servers: Sequence[SMTPServer]) -> None:
    """SIGHUP: the users and the certificate anew; what can't be read stays as it was."""
    if users is not None:
        try:
            users.reload()
            offer_scram(users, servers)
            log.info("%s users read from %s", len(users), users.path)
        except (OSError, ValueError) as exc:
            log.error("the users stay as they were: %s", exc)
    if settings.cert is not None:
        try:
            context = make_context(settings.cert, settings.key)
        except OSError as exc:
            log.error("the certificate stays as it was: %s", certificate_problem(exc))
            return
        for server in servers:
            server.update_secure_context(ssl_context=context)
        log.info("certificate read from %s", settings.cert)
