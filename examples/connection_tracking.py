"""Keep a table of the open connections.

`smtp_blinker.listeners.tracking` does this with more detail; here is how it works.
"""

import sys
import time
from typing import Any

from smtp_blinker import SMTPServer
from smtp_blinker.signals import ConnectEvent, DisconnectEvent, connect, disconnect

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))
connections: dict[str, dict[str, Any]] = {}


@connect.connect_via(server)
def add(server: SMTPServer, event: ConnectEvent) -> None:
    connections[event.id] = {
        "remote_address": event.remote_address,
        "hostname": event.client_hostname,
        "connected_at": time.time(),
    }
    print(f"[{event.id}] opened, active connections: {len(connections)}", flush=True)


# Remove the entry when the connection ends, or the table grows for ever. A client that disconnects
# before HELO has no entry.
@disconnect.connect_via(server)
def remove(server: SMTPServer, event: DisconnectEvent) -> None:
    entry = connections.pop(event.id, None)
    if entry is not None:
        seconds = time.time() - entry["connected_at"]
        print(
            f"[{event.id}] closed ({event.reason}) after {seconds:.1f} s,"
            f" active connections: {len(connections)}",
            flush=True,
        )


server.serve_forever()
