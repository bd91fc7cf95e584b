"""Runs the program in one process.

It checks all settings and binds every address before it serves the first client. A setting that
can't be used causes one line on standard error and exit status 2.
"""

from __future__ import annotations

import os
import signal

import gevent
from gevent.event import Event

from .announce import announce
from .certificate import open_certificate
from .deliver import deliver_to, health_of, open_store
from .faults import fail_on_demand, open_faults
from .page import count_dropped, open_page, show_store
from .policies import open_policies
from .process import raise_file_limit, reload, spare_the_collector, start_logging
from .queues import open_events
from .servers import bind, make_servers
from .settings import Settings
from .users import open_users
from .workers import serve_with_workers


def serve(settings: Settings) -> None:
    """Run the server until a signal ends it; raises `Unusable` before it has begun anything."""
    raise_file_limit()
    if settings.workers > 1:
        serve_with_workers(settings)
    users = open_users(settings)
    tls = open_certificate(settings)
    policies = open_policies(settings)
    faults = open_faults(settings)
    servers = make_servers(settings, users, tls)
    events = open_events(settings)
    # Before a client or supervisor can see that the program has started.
    stopping = Event()
    gevent.signal_handler(signal.SIGTERM, stopping.set)
    gevent.signal_handler(signal.SIGINT, stop_or_die, stopping)
    gevent.signal_handler(signal.SIGHUP, reload, settings, users, servers)
    bind(settings, servers)
    page = open_page(settings, servers, lambda: check(), faults)
    store = open_store(settings, servers)  # the last of them: it makes the folder
    start_logging(settings)
    spare_the_collector()
    check = health_of(store)
    if not isinstance(page, str):
        show_store(page, store, settings)
        if events is not None:
            count_dropped(page, events)
    for server in servers:
        server.use(*policies)
        deliver_to(store, server)
        if faults is not None:
            fail_on_demand(settings, faults, server)
        server.start()
    if not isinstance(page, str):
        page.start()
    ports = [server.server_port or 0 for server in servers]
    announce(settings, ports, page if isinstance(page, str) else page.server_port or 0)
    stopping.wait()
    # Meanwhile the page reports that this server isn't ready any more.
    gevent.joinall([gevent.spawn(server.stop) for server in servers], raise_error=True)
    if not isinstance(page, str):
        page.stop(timeout=1)
    if events is not None:
        events.close()


def stop_or_die(stopping: Event) -> None:
    """Handle SIGINT: the first one starts to drain, a second one ends the program at once."""
    if stopping.is_set():
        os._exit(128 + signal.SIGINT)
    stopping.set()
