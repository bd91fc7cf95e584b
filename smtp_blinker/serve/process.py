"""The process: its log, its limit of open files, and what SIGHUP reloads."""

from __future__ import annotations

import gc
import logging
import resource
from collections.abc import Sequence
from contextlib import suppress

from smtp_blinker import SMTPServer
from smtp_blinker.connection.tls import make_context
from smtp_blinker.listeners.log import EventLog, JSONFormatter
from smtp_blinker.users import UserFile

from .certificate import certificate_problem
from .servers import offer_scram
from .settings import Settings

log = logging.getLogger("smtp_blinker.serve")


def start_logging(settings: Settings) -> EventLog:
    json = settings.log_format == "json"
    handler = logging.StreamHandler()
    handler.setFormatter(
        JSONFormatter() if json else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])
    # In JSON a traceback stays within the line; in text it could forge others.
    level = logging.getLogger("smtp_blinker.events").getEffectiveLevel()
    return EventLog(tracebacks=json, level=level).attach()


def raise_file_limit() -> None:
    """Two descriptors for each client and more are needed; 1024 is a common soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # some systems don't take "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spare_the_collector() -> None:
    """Exclude objects that live until the end from garbage collection: modules, routes, options.

    Each full collection would look at all of it, and serve no client for 15 to 45 ms.
    """
    gc.collect()
    gc.freeze()


def reload(settings: Settings, users: UserFile | None, servers: Sequence[SMTPServer]) -> None:
    """SIGHUP: reload the users and the certificate; keep the old ones if a file can't be read."""
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
