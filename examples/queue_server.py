"""Put mail into Redis or RabbitMQ: 250 means that it is in the queue.

    python examples/queue_server.py [port] [url]

The consumers beside it take it out: queue_consumer.py, queue_celery.py, queue_django.py.
"""

from gevent import monkey

monkey.patch_all()

import logging  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402

from smtp_blinker import SMTPServer  # noqa: E402
from smtp_blinker.listeners.log import EventLog  # noqa: E402
from smtp_blinker.stores import AMQPStore, QueueStore, RedisStreamStore  # noqa: E402

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
url = sys.argv[2] if len(sys.argv) > 2 else "redis://127.0.0.1/"

logging.basicConfig(level="INFO")
store: QueueStore
if url.startswith("amqp"):
    store = AMQPStore(url)
else:
    store = RedisStreamStore(url)
server = SMTPServer(("127.0.0.1", port), size=10 * 2**20)
EventLog().attach(server)
server.use(store)  # refuses MAIL while the queue is unreachable
server.on_data(store)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
