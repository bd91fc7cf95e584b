"""A node: mail from behind HAProxy into the queue, with limits that all nodes share.

python node.py NAME PORT QUEUE_URL COUNTERS_URL CONTENTS LOCAL

To the file LOCAL goes a line for each decision that the node made alone, while it took the counters
for away.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import signal  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402

from smtp_blinker import SMTPServer  # noqa: E402
from smtp_blinker.policies import (  # noqa: E402
    ConnectionLimit,
    RateLimit,
    RedisCounters,
    redis_counters,
)
from smtp_blinker.policies.counters import Hit  # noqa: E402
from smtp_blinker.stores import AMQPStore, FolderContents, RedisStreamStore  # noqa: E402

#: Of one network, over all nodes: live connections, and messages within an hour.
CONNECTIONS, MESSAGES = 3, 10
#: Seconds that a limit waits for Redis. Long, since other work may keep this machine busy; a node
#: that was stopped still takes Redis for away.
TIMEOUT = 5.0
redis_counters._PATIENCE = TIMEOUT

name, port, queue, counters_url, folder, local = sys.argv[1:]


class Counters(RedisCounters):
    """Those of the library, which note what they counted in this process alone."""

    def hit(self, key: str, number: int, per: float, timeout: float) -> Hit:
        hit = super().hit(key, number, per, timeout)
        if self.away and not hit.wait:
            self._note(key)
        return hit

    def lease(self, key: str, holder: str, number: int, timeout: float) -> bool:
        given = super().lease(key, holder, number, timeout)
        if self.away and given:
            self._note(key)
        return given

    def _note(self, key: str) -> None:
        with Path(local).open("ab", buffering=0) as file:
            file.write(f"{name} {key}\n".encode())


Store = AMQPStore if queue.startswith("amqp") else RedisStreamStore
store = Store(queue, contents=FolderContents(folder))
counters = Counters(counters_url)
server = SMTPServer(
    ("127.0.0.1", int(port)), name=f"{name}.example", size=8 * 2**20, use_proxy=["127.0.0.1"]
)
server.use(
    ConnectionLimit(CONNECTIONS, counters=counters, timeout=TIMEOUT),
    RateLimit(f"{MESSAGES}/hour", counters=counters, timeout=TIMEOUT),
    store,
)
server.on_data(store)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
