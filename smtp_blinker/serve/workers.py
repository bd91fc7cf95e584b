"""The program in several processes, which gunicorn keeps."""

from __future__ import annotations

import functools
import signal
from typing import Any, NoReturn

import gevent

from .announce import announce
from .certificate import open_certificate
from .policies import open_policies
from .process import deliver_to, open_store, reload, spare_the_collector, start_logging
from .queues import open_events
from .servers import bind, close, make_servers
from .settings import Settings, Unusable
from .users import open_users


def serve_with_workers(settings: Settings) -> NoReturn:
    """The same in many processes: gunicorn's arbiter has the sockets and hears the signals.

    They mean what they mean without it: SIGINT lets messages end, and SIGHUP makes every process
    read the users and the certificate; here too, for the workers that begin later.
    """
    try:
        from smtp_blinker.gunicorn import SMTPWorker, run
    except ImportError as exc:
        raise Unusable(f"--workers: {exc}") from exc
    if settings.http_asked and settings.http is not None:
        raise Unusable("the web page is about one process: give --http off or --workers 1")
    users = open_users(settings)
    tls = open_certificate(settings)
    policies = open_policies(settings)
    # An address that can't be bound is one line here too.
    trial = make_servers(settings, users, tls)
    bind(settings, trial)
    close(trial)
    store = open_store(settings)
    servers = make_servers(settings, users, tls, listening=False)
    for server in servers:
        deliver_to(store, server)
        server.use(*policies)
    read_again = functools.partial(reload, settings, users, servers)

    class ServeWorker(SMTPWorker):
        def init_signals(self) -> None:
            super().init_signals()
            gevent.signal_handler(signal.SIGHUP, read_again)

        def handle_quit(self, sig: int, frame: Any) -> None:
            # A terminal's SIGINT reaches all processes; the arbiter decides what it means.
            if sig != signal.SIGINT:
                super().handle_quit(sig, frame)

        def init_process(self) -> None:
            open_events(settings)
            super().init_process()

    def hang_up(arbiter: Any) -> None:
        read_again()
        arbiter.kill_workers(signal.SIGHUP)

    def ready(arbiter: Any) -> None:
        arbiter.handle_int = arbiter.handle_term
        arbiter.handle_hup = functools.partial(hang_up, arbiter)
        names = [listener.getsockname() for listener in arbiter.LISTENERS]
        ports = [name[1] if isinstance(name, tuple) else 0 for name in names]
        announce(settings, ports, "it is about one process" if settings.http is not None else "")

    start_logging(settings)
    spare_the_collector()  # before the fork, so that the processes share these pages of memory
    run(
        lambda: servers,
        [listen.address for listen in settings.listen],
        settings.workers,
        worker_class=ServeWorker,
        loglevel="warning",
        when_ready=ready,
    )
