"""Stores: ready-made `on_data` hooks, and places for large contents of queued messages."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .contents import Contents, FolderContents
from .entry import Envelope
from .maildir import MaildirStore
from .queue import QueueStore, Unavailable
from .recipient import RecipientStore
from .relay import RelayStore
from .spool import SpoolStore
from .webhook import WebhookStore

if TYPE_CHECKING:
    from .amqp import AMQPStore
    from .redis_stream import RedisStreamStore
    from .s3 import S3Contents

#: Classes that need an extra, and are imported at their first use.
_WITH_EXTRA = {"AMQPStore": "amqp", "RedisStreamStore": "redis_stream", "S3Contents": "s3"}


def __getattr__(name: str) -> Any:
    if name in _WITH_EXTRA:
        return getattr(import_module(f"{__name__}.{_WITH_EXTRA[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "AMQPStore",
    "Contents",
    "Envelope",
    "FolderContents",
    "MaildirStore",
    "QueueStore",
    "RecipientStore",
    "RedisStreamStore",
    "RelayStore",
    "S3Contents",
    "SpoolStore",
    "Unavailable",
    "WebhookStore",
]
