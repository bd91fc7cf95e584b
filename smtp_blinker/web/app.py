"""The WSGI program: the page, the live events, the metrics, and the API of `messages`."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Final, NoReturn

import gevent
from flask import Flask, Response, abort, jsonify, render_template, request
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, Metric, generate_latest
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestedRangeNotSatisfiable
from werkzeug.routing import IntegerConverter

from .. import __version__
from ..faults import Faults
from ..listeners.metrics import EventMetrics
from ..listeners.tracking import Connection, ConnectionTracker
from .below import below
from .child import Busy, Failed
from .faults import routes as fault_routes
from .inbox import Inbox, Keep, in_thread
from .live import KEPT, Feed, newest_of_each_signal, server_facts
from .messages import NO_INBOX, tag_routes
from .messages import routes as message_routes
from .openapi import routes as api_routes
from .reader.errors import in_one_line
from .refused import Refusals
from .refused import routes as refused_routes
from .release import Release
from .security import protect

log = logging.getLogger(__name__)

#: Seconds between two checks for new events, for each open page.
LOOK_EVERY: Final = 0.25
#: The same while mail is busy: more than `FEW` events came since the last check. Few large writes
#: to a page cost less than many small ones.
BUSY_LOOK_EVERY: Final = 1.2
FEW: Final = 25
#: Seconds without an event after which a page gets an empty event.
HEARTBEAT: Final = 15.0
#: Events that a newly opened page gets, and events to format in one turn of the loop.
BACKLOG: Final = 100
AT_ONCE: Final = 50
#: Seconds between two checks for messages that are too old or too many.
EXPIRE_EVERY: Final = 30.0
#: The most open pages. Each keeps a connection, and monitors need some connections too.
MAX_STREAMS: Final = 500
#: The pattern of names of further inboxes.
INBOX_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
#: The most connections and clients in lists.
LISTED: Final = 200
TOP: Final = 10


class _NumberConverter(IntegerConverter):
    """Whole numbers that int() accepts, which refuses more than 4300 digits."""

    regex = r"\d{1,9}"


class Page:
    """What the routes share; ``app.extensions["smtp_blinker"]``."""

    #: What the person at the page may do, if the program allows it.
    faults: Faults | None = None
    release: Release | None = None
    #: How much mail `keep` keeps; all of it without a call.
    kept = Keep()

    def __init__(self, servers: Sequence[Any], inboxes: Mapping[str, Inbox], registry: Any) -> None:
        self.servers = servers
        #: The inboxes by their names; "" is the first one. Empty without a Maildir.
        self.inboxes = inboxes
        self.registry = registry
        self.feed = Feed()
        self.tracker = ConnectionTracker()
        self.metrics = EventMetrics(registry)
        self.refusals = Refusals()
        self._listeners = (self.feed, self.tracker, self.metrics, self.refusals)
        self.began = time.time()
        self.streams = 0
        for server in servers or (None,):
            for listener in self._listeners:
                listener.attach(server)

    def keep(self, keep: Keep, every: float = EXPIRE_EVERY) -> NoReturn:
        """Remove mail beyond *keep* periodically, for ever."""
        self.kept = keep
        while True:
            try:
                deleted = sum(inbox.expire(keep) for inbox in self.inboxes.values())
                if deleted:
                    log.info("%d messages were too old or too many and are deleted", deleted)
            except (OSError, Busy, Failed) as exc:  # it tries again
                log.error("old messages can't be deleted: %s", in_one_line(exc))
            gevent.sleep(every)

    def detach(self) -> None:
        """Stop listening and end the page's processes, if the program goes on without the page."""
        for listener in self._listeners:
            listener.detach()
        for inbox in self.inboxes.values():
            inbox.close()


def create_app(
    servers: Sequence[Any] = (),
    maildir: str | os.PathLike[str] | None = None,
    *,
    credentials: tuple[str, str] | None = None,
    hosts: Collection[str] = (),
    path: str = "/",
    registry: CollectorRegistry | None = None,
    check: Callable[[], object] | None = None,
    faults: Faults | None = None,
    release: Release | None = None,
    inboxes: Mapping[str, str | os.PathLike[str]] | None = None,
) -> Flask:
    """Make the page for *servers* (by default all of this process) and for *maildir*.

    Without a Maildir there is no inbox. *credentials* are the user name and the password that the
    page requires, except for ``/healthz``. *hosts* are further names of the page; it also answers
    to localhost and to any IP address. *path* is the path at which a proxy shows the page, such as
    "/mail/". *registry* is a registry of prometheus_client without an `EventMetrics`, by default a
    new one. *faults* are those that the servers use; with them, everyone who reaches the page can
    make the servers fail. *release* is the relay to which messages can be released. *inboxes* are
    the Maildirs of further inboxes by name; a name consists of letters, digits, "_" and "-".

    Create the page before the servers start, because it doesn't know earlier events.
    ``/healthz/ready`` answers 503 if one of *servers* doesn't accept clients or if *check* raises.
    *check* is called for each of these requests (`MaildirStore.check_folders`, `SpoolStore.check`),
    in a thread, unless its object has a false ``needs_thread``: stores that wait for a network have
    that.
    """
    if not (path.startswith("/") and path.endswith("/")) or not path.isascii():
        raise ValueError(f"path must begin and end with a slash, as /mail/; it is {path!r}")
    app = Flask(__name__)
    if path != "/":
        app.wsgi_app = below(path, app.wsgi_app)  # type: ignore[method-assign, assignment]
    app.url_map.converters["int"] = _NumberConverter
    # A redirect from /api/messages//seen, with an empty id, would lead to a change of all messages.
    app.url_map.merge_slashes = False
    app.config["MAX_CONTENT_LENGTH"] = 65536  # no route reads a body
    maildirs = ({} if maildir is None else {"": maildir}) | dict(inboxes or {})
    for name in inboxes or ():
        if INBOX_NAME.fullmatch(name) is None or maildir is None:
            raise ValueError(f"an inbox is named by a word, beside a Maildir, not {name!r}")
    shown = {name: Inbox(folder) for name, folder in maildirs.items()}
    registry = CollectorRegistry() if registry is None else registry
    page = Page(list(servers), shown, registry)
    page.faults, page.release = faults, release
    app.extensions["smtp_blinker"] = page
    protect(app, credentials, hosts)
    _add_page(app, page)
    _add_monitoring(app, page, check)
    app.register_blueprint(api_routes)
    app.register_blueprint(refused_routes)
    app.register_blueprint(fault_routes)
    if shown:
        _add_inboxes(app, page)
        _count_messages(page.registry, list(shown.values()))

    @app.errorhandler(OSError)
    def explain_file(exc: OSError) -> Any:
        log.error("the Maildir: %s", in_one_line(exc))
        return jsonify(error=f"the Maildir can't be used: {exc.strerror}"), 503

    @app.errorhandler(Failed)
    def explain_failure(exc: Failed) -> Any:
        log.error("%a %a: %s", request.method, request.path, exc)
        return jsonify(error="it could not be read; GET …/raw has the message as it came"), 500

    @app.errorhandler(Busy)
    def explain_wait(exc: Busy) -> Any:
        return jsonify(error="too many requests wait"), 503

    @app.errorhandler(Exception)
    def explain_fault(exc: Exception) -> Any:
        # Flask would log the raw path, which may contain line ends.
        log.error("%a %a: %s", request.method, request.path, in_one_line(exc))
        return jsonify(error="there is no answer to this; the log says why"), 500

    @app.errorhandler(HTTPException)
    def explain(exc: HTTPException) -> Any:
        headers = {}
        if isinstance(exc, MethodNotAllowed):  # RFC 9110 section 15.5.6
            headers["Allow"] = ", ".join(sorted(exc.valid_methods or ()))
        if isinstance(exc, RequestedRangeNotSatisfiable):  # section 15.5.17
            headers["Content-Range"] = f"bytes */{exc.length}"
        if request.path.startswith("/api/"):
            return jsonify(error=exc.description), exc.code, headers
        headers["Content-Type"] = "text/plain"
        return f"{exc.code} {exc.description}\n", exc.code, headers

    return app


def _add_page(app: Flask, page: Page) -> None:
    @app.get("/")
    def index() -> str:
        return render_template(
            "index.html",
            version=__version__,
            inbox=bool(page.inboxes),
            inboxes=[name for name in page.inboxes if name],
            faults=page.faults is not None,
            release=page.release,
            kept=page.kept.as_text,
        )

    @app.get("/api/live")
    def live() -> Response:
        connections = list(page.tracker.connections.values())
        series = page.feed.minutes if request.args.get("step") == "60" else page.feed.seconds
        families = list(page.registry.collect())
        return jsonify(
            time=time.time(),
            began=page.began,
            version=__version__,
            servers=[server_facts(server) for server in page.servers],
            open=len(connections),
            connections=[_connection(each) for each in connections[-LISTED:]],
            clients=page.feed.top_clients(TOP, connections),
            totals=_totals(families),
            stores=_rows(families, "smtp_store_", "store"),
            spools=_rows(families, "smtp_spool_", "spool"),
            series=series.as_dict(),
            keep=asdict(page.kept),
        )

    @app.get("/api/events")
    def events() -> Response:
        last = request.headers.get("Last-Event-ID", type=int)
        if last is None:
            last = request.args.get("since", page.feed.last - BACKLOG, type=int)
        if last > page.feed.last:  # the number is from an earlier process
            last = 0
        name = request.args.get("inbox", "")
        if name and name not in page.inboxes:
            abort(404, NO_INBOX)
        if page.streams >= MAX_STREAMS:
            abort(503, "too many pages are open")
        newest = request.args.get("newest", KEPT, type=int)
        return Response(
            _stream(page, last, newest, page.inboxes.get(name)),
            mimetype="text/event-stream",
            headers={"X-Accel-Buffering": "no"},  # otherwise nginx buffers the events
        )


def _stream(page: Page, last: int, newest: int, inbox: Inbox | None) -> Iterator[str]:
    """Server-sent events for one page, until it closes the connection.

    Of each signal it sends the *newest* events since the last check.

    The stream checks for events at intervals and isn't notified. So a hundred open pages cost the
    mail sessions nothing, and signals may come from another thread.
    """
    page.streams += 1
    try:
        yield from _news(page, last, newest, inbox)
    finally:
        page.streams -= 1


def _news(page: Page, last: int, newest: int, inbox: Inbox | None) -> Iterator[str]:
    version = -1
    pause = LOOK_EVERY
    sent = time.monotonic()
    yield "retry: 2000\n\n"
    while True:
        items = page.feed.since(last)
        sent_items = newest_of_each_signal(items, newest)
        texts = []
        for start in range(0, len(sent_items), AT_ONCE):
            # Joined once: adding them one by one would copy all earlier ones each time.
            texts.append("".join([item.as_text for item in sent_items[start : start + AT_ONCE]]))
            gevent.sleep(0)  # let mail run
        text = "".join(texts)
        if items:
            last = items[-1].number
        if inbox is not None:
            with suppress(Exception):  # the list reports what is wrong with the Maildir
                inbox.watch(LOOK_EVERY)
            if inbox.version != version:
                version = inbox.version
                text += f"event: inbox\ndata: {json.dumps(inbox.counts)}\n\n"
        if not text and time.monotonic() - sent > HEARTBEAT:
            text = ": nothing new\n\n"
        if text:
            sent = time.monotonic()
            yield text
        if len(items) <= FEW:
            pause = LOOK_EVERY
        elif newest < KEPT:  # some are left out anyway
            pause = BUSY_LOOK_EVERY
        else:  # as many as half of those that are kept, so that none is missed
            pause = max(LOOK_EVERY, min(pause * KEPT / 2 / len(items), BUSY_LOOK_EVERY))
        # Not for all pages in the same turn of the loop, or mail would wait for all of them.
        gevent.sleep(pause * random.uniform(0.5, 1))


def _add_monitoring(app: Flask, page: Page, check: Callable[[], object] | None) -> None:
    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(page.registry), content_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz/live")
    def is_live() -> Response:
        return Response("ok\n", mimetype="text/plain")

    @app.get("/healthz/ready")
    def is_ready() -> Response:
        if not all(server.started for server in page.servers):
            return Response("not accepting clients\n", 503, mimetype="text/plain")
        try:
            if check is not None:
                owner = getattr(check, "__self__", None)
                run = in_thread if getattr(owner, "needs_thread", True) else _run
                run(check)
        except OSError as exc:
            return Response(f"can't store mail: {exc.strerror}\n", 503, mimetype="text/plain")
        except Exception as exc:
            # The text may name hosts, so it isn't shown here.
            log.error("mail can't be stored: %s", in_one_line(exc))
            return Response("can't store mail\n", 503, mimetype="text/plain")
        return Response("ok\n", mimetype="text/plain")


def _run(check: Callable[[], object]) -> object:
    return check()


def _add_inboxes(app: Flask, page: Page) -> None:
    app.register_blueprint(message_routes)
    app.register_blueprint(tag_routes)
    for blueprint in (message_routes, tag_routes):  # the same routes for further inboxes
        app.register_blueprint(
            blueprint,
            name=f"inbox_{blueprint.name}",
            url_prefix=f"/api/inboxes/<inbox>/{blueprint.name}",
        )

    @app.get("/api/inboxes")
    def list_inboxes() -> Response:
        for inbox in page.inboxes.values():
            inbox.refresh(0)
        return jsonify(
            inboxes=[{"name": name, **inbox.counts} for name, inbox in page.inboxes.items()]
        )


def _count_messages(registry: CollectorRegistry, inboxes: Sequence[Inbox]) -> None:
    def total() -> float:
        try:
            for inbox in inboxes:
                inbox.refresh(0)
        except Exception:  # the list reports what is wrong with the Maildir
            return float("nan")
        return sum(len(inbox) for inbox in inboxes)

    gauge = Gauge("smtp_inbox_messages", "Messages in the Maildir", registry=registry)
    gauge.set_function(total)
    gauge = Gauge("smtp_inbox_unread", "Unread messages in the inbox", registry=registry)
    gauge.set_function(lambda: sum(inbox.unread for inbox in inboxes))


def _totals(families: Iterable[Metric]) -> dict[str, float]:
    """The counters by their names and labels: ``smtp_messages_total{code="250"}``."""
    totals = {}
    for family in families:
        for sample in family.samples:
            if family.name.startswith("smtp_") and sample.name.endswith("_total"):
                labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
                totals[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return totals


def _rows(families: Iterable[Metric], prefix: str, label: str) -> list[dict[str, Any]]:
    """A row for each value of *label* of the metrics *prefix*…, with their short names and values.

    A histogram gives its count and its sum. Each outcome has a name of its own.
    """
    rows: dict[str, dict[str, Any]] = {}
    for family in families:
        for sample in family.samples:
            name = sample.labels.get("outcome") or sample.name.removeprefix(prefix)
            if sample.name.startswith(prefix) and not sample.name.endswith(("_bucket", "_created")):
                row = rows.setdefault(sample.labels[label], {label: sample.labels[label]})
                row[name] = sample.value
    return list(rows.values())


def _connection(connection: Connection) -> dict[str, Any]:
    return {
        "id": connection.id,
        "remote_address": connection.remote_address,
        "remote_port": connection.remote_port,
        "client_hostname": connection.client_hostname,
        "host_name_appears_as": (connection.host_name_appears_as or "")[:300],
        "local_address": connection.local_address,
        "local_port": connection.local_port,
        "since": connection.since,
        "tls": connection.tls,
        "authenticated": connection.authenticated,
        "user": connection.user,
        "messages": connection.messages,
    }
