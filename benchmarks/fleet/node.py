"""A node: mail from behind HAProxy into the queue, with limits that all nodes share.

python node.py NAME PORT QUEUE_URL COUNTERS_URL CONTENTS LOCAL

To the file LOCAL goes a line for each decision that the node made alone, while it took the counters
for away.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import math  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from smtp_blinker import SMTPServer  # noqa: E402
from smtp_blinker.policies import ConnectionLimit, RateLimit, RedisCounters  # noqa: E402
from smtp_blinker.policies.counters import Hit, MemoryCounters  # noqa: E402
from smtp_blinker.stores import AMQPStore, FolderContents, RedisStreamStore  # noqa: E402

#: Of one network, over all nodes: live connections, and messages within an hour.
CONNECTIONS, MESSAGES = 3, 10

name, port, queue, counters_url, folder, local = sys.argv[1:]


class Alone(MemoryCounters):
    """What this process counts where Redis doesn't answer in time; it notes what it grants."""

    def hit(self, key: str, number: int, per: float, timeout: float = 0) -> Hit:
        hit = super().hit(key, number, per)
        if not hit.wait:
            self._note(key)
        return hit

    def lease(self, key: str, holder: str, number: int, timeout: float = 0) -> bool:
        given = super().lease(key, holder, number)
        if given and number < math.inf:  # else Redis has given it
            self._note(key)
        return given

    def _note(self, key: str) -> None:
        with Path(local).open("ab", buffering=0) as file:
            file.write(f"{name} {key}\n".encode())


Store = AMQPStore if queue.startswith("amqp") else RedisStreamStore
store = Store(queue, contents=FolderContents(folder))
counters = RedisCounters(counters_url)
counters._local = Alone()
server = SMTPServer(
    ("127.0.0.1", int(port)), name=f"{name}.example", size=8 * 2**20, use_proxy=["127.0.0.1"]
)
server.use(
    ConnectionLimit(CONNECTIONS, counters=counters),
    RateLimit(f"{MESSAGES}/hour", counters=counters),
    store,
)
server.on_data(store)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
