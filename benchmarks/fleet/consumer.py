"""A consumer: writes a line for each message, its marker and its content id.

python consumer.py QUEUE_URL CONTENTS HANDLED
"""

from __future__ import annotations

import sys

from smtp_blinker.consumers import consume, redis_stream
from smtp_blinker.stores import Envelope, FolderContents

# What a dead consumer of Redis had in hand is given out again after so long.
redis_stream.DEAD_SECONDS = 10

url, folder, path = sys.argv[1:]
with open(path, "ab", buffering=0) as handled:

    def handle(envelope: Envelope, content: bytes) -> None:
        handled.write(content.split()[1] + b" " + envelope.content_id.encode() + b"\n")

    consume(url, handle, contents=FolderContents(folder), delays=(1, 1, 1, 1, 1))
