"""Take mail out of the queue that `AMQPStore` or `RedisStreamStore` has put it into.

``consume(url, handler)`` is all of it. It needs no server, no gevent and no monkey patching, and
works with both.
"""

from .loop import DELAYS, REMEMBERED, consume

__all__ = ["DELAYS", "REMEMBERED", "consume"]
