"""Takes mail out of the queue in which `AMQPStore` or `RedisStreamStore` puts it.

The interface is one function, ``consume(url, handler)``. It needs no server, and works with and
without gevent and monkey patching.
"""

from .loop import DELAYS, REMEMBERED, consume

__all__ = ["DELAYS", "REMEMBERED", "consume"]
