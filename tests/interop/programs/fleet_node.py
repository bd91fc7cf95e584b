"""A server whose events are published; prints its port, and at SIGTERM what was counted.

Arguments: the URL, and the keywords of `FleetEvents` in JSON.
"""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402

from smtp_blinker import SMTPServer  # noqa: E402
from smtp_blinker.listeners import fleet  # noqa: E402

vars(fleet).update(PAUSES=(0.2, 0.2), SECONDS=1.0)
server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
server.on_data(lambda stream, session: stream.read() and None)
events = fleet.FleetEvents(sys.argv[1], **json.loads(sys.argv[2])).attach(server)
stopping = gevent.event.Event()
gevent.signal_handler(signal.SIGTERM, stopping.set)
server.start()
print(server.server_port, flush=True)
stopping.wait()
server.stop(timeout=1)
events.close(timeout=10)
print(json.dumps({"published": events.published, "dropped": events.dropped}), flush=True)
