"""Runs the program in several processes, which gunicorn manages."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gevent

from smtp_blinker import SMTPServer
from smtp_blinker.faults import Faults

from .announce import announce
from .certificate import open_certificate
from .deliver import Store, circuit_of, deliver_to, open_store
from .faults import fail_on_demand, open_faults
from .page import no_page
from .page_process import PageProcess
from .policies import open_policies
from .process import reload, spare_the_collector, start_logging
from .queues import open_events
from .servers import bind, bind_problem, close, make_servers
from .settings import Settings, Unusable
from .users import open_users


def serve_with_workers(settings: Settings) -> NoReturn:
    """Run the server in several processes; gunicorn's arbiter has the sockets and gets the signals.

    Signals have the same meaning as with one process: SIGINT lets messages end; SIGHUP makes every
    process reload the users and the certificate, also the arbiter, for workers that start later.
    """
    try:
        from smtp_blinker.gunicorn import SMTPWorker, run
    except ImportError as exc:
        raise Unusable(f"--workers: {exc}") from exc
    users = open_users(settings)
    tls = open_certificate(settings)
    policies = open_policies(settings)
    faults = open_faults(settings)
    trial = make_servers(settings, users, tls)
    if "GUNICORN_FD" not in os.environ:  # a new arbiter (USR2) has the sockets of the old one
        # Bind once before gunicorn does, for the same one-line error.
        bind(settings, trial)
    close(trial)
    store = open_store(settings)
    servers = make_servers(settings, users, tls, listening=False)
    for server in servers:
        server.use(*policies)
        deliver_to(store, server)
        if faults is not None:
            fail_on_demand(settings, faults, server)
    page = open_page_process(settings, store, servers, faults)
    read_again = functools.partial(reload, settings, users, servers)

    class ServeWorker(SMTPWorker):
        def init_signals(self) -> None:
            super().init_signals()
            gevent.signal_handler(signal.SIGHUP, read_again)

        def handle_quit(self, sig: int, frame: Any) -> None:
            # Ctrl-C in a terminal reaches all processes; the arbiter tells the workers what to do.
            if sig != signal.SIGINT:
                super().handle_quit(sig, frame)

        def init_process(self) -> None:
            self.fleet_events = open_events(settings)
            super().init_process()

        def run(self) -> None:
            if isinstance(page, str):
                super().run()
                return
            from smtp_blinker.web.remote import EventSender

            sender = EventSender(page.path, servers)
            if (circuit := circuit_of(store)) is not None:
                circuit.watchers.append(sender.tell_hand_over)
            if self.fleet_events is not None:
                self.fleet_events.watchers.append(sender.tell_dropped)
            try:
                super().run()
            finally:
                sender.close()

    def hang_up(arbiter: Any) -> None:
        read_again()
        arbiter.kill_workers(signal.SIGHUP)

    def ready(arbiter: Any) -> None:
        arbiter.handle_int = arbiter.handle_term
        arbiter.handle_hup = functools.partial(hang_up, arbiter)
        names = [listener.getsockname() for listener in arbiter.LISTENERS]
        ports = [name[1] if isinstance(name, tuple) else 0 for name in names]
        if not isinstance(page, str):
            page.look_after(arbiter, events)
            arbiter.murder_workers = functools.partial(murder, arbiter.murder_workers, arbiter)
        announce(settings, ports, page if isinstance(page, str) else page.port)

    def murder(workers: Callable[[], None], arbiter: Any) -> None:
        """The arbiter calls this about every second."""
        workers()
        if not isinstance(page, str):
            page.look_after(arbiter, events)

    def hand_page_over(arbiter: Any) -> None:
        if not isinstance(page, str):
            page.hand_over(arbiter)

    def end_page(arbiter: Any) -> None:
        if not isinstance(page, str):
            page.end(arbiter)

    events = start_logging(settings)
    spare_the_collector()  # before the fork, so that the processes share these pages of memory
    run(
        lambda: servers,
        [listen.address for listen in settings.listen],
        settings.workers,
        worker_class=ServeWorker,
        loglevel="warning",
        when_ready=ready,
        pre_exec=hand_page_over,
        on_exit=end_page,
    )


def open_page_process(
    settings: Settings, store: Store, servers: Sequence[SMTPServer], faults: Faults | None
) -> PageProcess | str:
    """Make the page's process, not started yet; or return why there is none, like `open_page`."""
    if settings.http is None:
        return ""
    try:
        import smtp_blinker.web  # noqa: F401  # once before the fork, not in each process
    except ImportError as exc:
        return no_page(settings, (), f"{exc}; or give --http off", exc)
    try:
        return PageProcess(settings, store, servers, faults)
    except OSError as exc:
        return no_page(settings, (), bind_problem(settings.http, exc, "--http"), exc)
