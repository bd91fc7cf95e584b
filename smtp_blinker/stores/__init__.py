"""Where mail goes: ready-made `on_data` hooks, and the places for contents that queues refer to."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .contents import Contents, FolderContents
from .entry import Envelope
from .maildir import MaildirStore
from .queue import QueueStore, Unavailable

if TYPE_CHECKING:
    from .amqp import AMQPStore
    from .redis_stream import RedisStreamStore
    from .s3 import S3Contents

#: What needs an extra, and so is imported when it is asked for.
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
    "RedisStreamStore",
    "S3Contents",
    "Unavailable",
]
