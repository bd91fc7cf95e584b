"""The web page, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.pywsgi import WSGIServer

from smtp_blinker import SMTPServer
from smtp_blinker.faults import Faults
from smtp_blinker.stores import RelayStore, SpoolStore

from .deliver import Store
from .servers import bind_problem, close
from .settings import Settings, Unusable
from .values import without_password

if TYPE_CHECKING:
    from smtp_blinker.listeners.fleet import FleetEvents


def open_page(
    settings: Settings,
    servers: Sequence[SMTPServer],
    check: Callable[[], object],
    faults: Faults | None = None,
) -> WSGIServer | str:
    """Make the web page and bind its address; or return why there is none ("" for --http off).

    *check* raises OSError while mail can't be stored. With --faults the page can change *faults*.
    If the page of an explicit --http can't be served, it raises `Unusable`. Without the default
    page the program receives mail anyway.
    """
    if settings.http is None:
        return ""
    try:
        page = make_page(settings, servers, check, settings.http.address, faults)
    except ImportError as exc:
        return no_page(settings, servers, f"{exc}; or give --http off", exc)
    try:
        page.init_socket()
    except OSError as exc:
        return no_page(settings, servers, bind_problem(settings.http, exc, "--http"), exc)
    return page


def make_page(
    settings: Settings,
    servers: Sequence[Any],
    check: Callable[[], object],
    listener: Any,
    faults: Faults | None = None,
) -> WSGIServer:
    """Make the page on *listener*, and start to delete old mail; ImportError without the extra."""
    from smtp_blinker.web import Keep, PageServer, Release, create_app

    release = None
    if settings.release_to is not None:
        relay = RelayStore(settings.release_to, name=settings.name)
        release = Release(relay, without_password(settings.release_to))
    app = create_app(
        servers,
        settings.maildir if settings.deliver is None else None,
        credentials=settings.http_auth,
        hosts=(settings.name, *settings.http_host),
        path=settings.http_path,
        check=check,
        faults=faults if settings.faults else None,
        release=release,
        inboxes=settings.maildirs if settings.deliver is None else None,
    )
    if settings.keeps_some:
        keep = Keep(
            days=settings.keep_days, messages=settings.keep_messages, size=settings.keep_size
        )
        gevent.spawn(app.extensions["smtp_blinker"].keep, keep)
    return PageServer(listener, app)


def show_store(page: WSGIServer, store: Store, settings: Settings) -> None:
    """Let the page and its /metrics report about *store*, unless it is the Maildir."""
    from smtp_blinker.listeners.metrics import SpoolMetrics, StoreMetrics

    if settings.deliver is None:
        return
    app: Any = page.application
    registry = app.extensions["smtp_blinker"].registry
    inner: Any = store
    if isinstance(store, SpoolStore):
        SpoolMetrics(store, registry=registry)
        inner = store.store
    StoreMetrics({without_password(settings.deliver): inner}, registry)


def count_dropped(page: WSGIServer, events: FleetEvents | None = None) -> Callable[[int], object]:
    """Have /metrics tell how many events --events dropped: those of *events*, or what the result
    is called with."""
    from smtp_blinker.listeners.metrics import FleetMetrics

    app: Any = page.application
    return FleetMetrics(events, registry=app.extensions["smtp_blinker"].registry).dropped


def no_page(settings: Settings, servers: Sequence[SMTPServer], problem: str, exc: Exception) -> str:
    if settings.http_asked or settings.keeps_some:
        close(servers)
        raise Unusable(problem) from exc
    return problem
