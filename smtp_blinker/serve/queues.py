"""Queues for mail (--deliver, --contents) and for events (--events)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from smtp_blinker.stores.contents import Contents, FolderContents
from smtp_blinker.stores.queue import QueueStore
from smtp_blinker.stores.urls import shown

from .settings import Settings, Unusable

if TYPE_CHECKING:
    from smtp_blinker.listeners.fleet import FleetEvents

#: The schemes of queues.
SCHEMES = ("amqp", "amqps", "redis", "rediss")


def scheme_of(url: str) -> str:
    """The scheme of *url* in lower case; all of it if it has none."""
    return url.partition("://")[0].lower()


def open_queue(url: str, settings: Settings) -> QueueStore:
    """The store for --deliver *url*. It needn't be reachable yet. Raises `Unusable`."""
    make = _amqp if scheme_of(url).startswith("amqp") else _redis
    contents = open_contents(settings.contents)
    try:
        store = make(url, contents=contents, **settings.deliver_options)
    except (ImportError, ValueError) as exc:
        raise Unusable(f"--deliver: {exc}") from exc
    if contents is None and not 0 < settings.size <= store.max_size:
        raise Unusable(
            f"--size must be {store.max_size} or less, which {store.engine} takes in one entry; "
            "or keep large contents elsewhere with --contents"
        )
    return store


def _amqp(url: str, **more: Any) -> QueueStore:
    from smtp_blinker.stores.amqp import AMQPStore

    url, options = _own_options(url, "exchange", "routing_key")
    return AMQPStore(url, **options, **more)


def _redis(url: str, **more: Any) -> QueueStore:
    from smtp_blinker.stores.redis_stream import RedisStreamStore

    url, options = _own_options(url, "stream")
    return RedisStreamStore(url, **options, **more)


def _own_options(url: str, *names: str) -> tuple[str, dict[str, Any]]:
    """Split *url* into a URL without the query parameters *names*, and these parameters."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url, {}  # the store says how a URL looks
    query = parse_qs(parts.query, keep_blank_values=True)
    options = {name: query[name][-1] for name in names if name in query}
    rest = "&".join(
        word for word in parts.query.split("&") if word and word.partition("=")[0] not in names
    )
    return parts._replace(query=rest).geturl(), options


def open_contents(url: str | None) -> Contents | None:
    """Open the contents of --contents: ``s3://BUCKET/PREFIX`` or a folder. Raises `Unusable`."""
    if url is None:
        return None
    scheme, separator, rest = url.rpartition("://")
    # A misspelt URL must not become a folder.
    if not url or (separator and scheme.lower() not in ("s3", "file")):
        raise Unusable(f"--contents takes a folder or s3://BUCKET/PREFIX/, not {shown(url)!r}")
    if scheme.lower() != "s3":
        if separator and not rest.startswith("/"):
            raise Unusable(f"--contents takes file:///PATH without a host, not {url!r}")
        try:
            return FolderContents(rest)
        except OSError as exc:
            raise Unusable(f"can't write to --contents {url}: {exc.strerror}") from exc
    bucket, _, prefix = rest.partition("/")
    try:
        from smtp_blinker.stores.s3 import S3Contents

        return S3Contents(bucket, prefix=prefix)
    except Exception as exc:  # botocore has many exceptions for missing configuration
        raise Unusable(f"--contents: {exc}") from exc


def open_events(settings: Settings) -> FleetEvents | None:
    """Publish events to --events; None without it. Raises `Unusable`."""
    if settings.events is None:
        return None
    from smtp_blinker.listeners.fleet import FleetEvents

    try:
        events = FleetEvents(settings.events, node=settings.name)
    except (ImportError, ValueError) as exc:
        raise Unusable(f"--events: {exc}") from exc
    return events.attach()
