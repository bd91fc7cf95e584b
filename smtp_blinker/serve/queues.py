"""Queues for mail (--deliver, --contents) and for events (--events)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from smtp_blinker.stores.contents import Contents, FolderContents
from smtp_blinker.stores.queue import QueueStore

from .settings import Settings, Unusable

if TYPE_CHECKING:
    from smtp_blinker.listeners.fleet import FleetEvents

#: The schemes of queues.
SCHEMES = ("amqp", "amqps", "redis", "rediss")


def open_queue(url: str, settings: Settings) -> QueueStore:
    """The store for --deliver *url*. It needn't be reachable yet. Raises `Unusable`."""
    make = _amqp if urlsplit(url).scheme.startswith("amqp") else _redis
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
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    options = {name: query[name][-1] for name in names if name in query}
    rest = "&".join(
        word for word in parts.query.split("&") if word and word.partition("=")[0] not in names
    )
    return parts._replace(query=rest).geturl(), options


def open_contents(url: str | None) -> Contents | None:
    """Open the contents of --contents: ``s3://BUCKET/PREFIX`` or a folder. Raises `Unusable`."""
    if url is None:
        return None
    if not url.startswith("s3://"):
        try:
            return FolderContents(url.removeprefix("file://"))
        except OSError as exc:
            raise Unusable(f"can't write to --contents {url}: {exc.strerror}") from exc
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
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
