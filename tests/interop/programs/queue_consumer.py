"""A consumer that prints each message; arguments: the URL, the keywords of `consume` in JSON.

Handling depends on the content: "fail N" raises the first N times, "slow" waits for a file that is
named next, "die" ends the process at once.
"""

import collections
import json
import logging
import os
import sys
import time
from typing import Any

from smtp_blinker.consumers import consume
from smtp_blinker.stores import FolderContents

assert "gevent.monkey" not in sys.modules or not sys.modules["gevent.monkey"].saved

logging.basicConfig(level="INFO", stream=sys.stderr)
arguments = json.loads(sys.argv[2])
if "contents" in arguments:
    arguments["contents"] = FolderContents(arguments["contents"])
calls: collections.Counter[str] = collections.Counter()


def handle(envelope: Any, content: bytes) -> None:
    calls[envelope.id] += 1
    words = content.decode("latin-1").split()
    if words[:1] == ["fail"] and calls[envelope.id] <= int(words[1]):
        print(f"failing {envelope.id}", flush=True)
        raise RuntimeError("as asked")
    if words[:1] == ["slow"]:
        print(f"waiting {envelope.id}", flush=True)
        while not os.path.exists(words[1]):
            time.sleep(0.02)
    if words[:1] == ["die"] and not os.path.exists(words[1]):
        open(words[1], "w").close()
        os._exit(1)
    print(f"{envelope.content_id} {len(content)} {content[:20]!r}", flush=True)


consume(sys.argv[1], handle, **arguments)
print("ended", flush=True)
