"""Print each client that is ready to proceed."""

import sys

from smtp_blinker import SMTPServer
from smtp_blinker.signals import ConnectEvent, connect

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))


@connect.connect_via(server)
def log_connection(server: SMTPServer, event: ConnectEvent) -> None:
    print(f"[{event.id}] Connection from {event.remote_address}:{event.remote_port}", flush=True)
    print(f"[{event.id}] Client hostname: {event.client_hostname}", flush=True)
    print(f"[{event.id}] Identified as: {event.host_name_appears_as}", flush=True)


server.serve_forever()
