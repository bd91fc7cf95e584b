"""Mail out of the queue, in a program without gevent."""

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope, FolderContents


def handle(envelope: Envelope, content: bytes) -> None:
    """What this raises makes the message come back later."""
    print(f"{len(content)} bytes from {envelope.mail_from.address}", flush=True)


consume("redis://127.0.0.1:6379/", handle, contents=FolderContents("contents"))
print("finished", flush=True)
