"""Print errors, and exit if the port is in use."""

import sys

from smtp_blinker import SMTPServer
from smtp_blinker.signals import ErrorEvent, error

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))


@error.connect_via(server)
def report(server: SMTPServer, event: ErrorEvent) -> None:
    print("SMTP Server Error:", event.error, file=sys.stderr, flush=True)
    if event.code == "EADDRINUSE":
        print("Port already in use!", file=sys.stderr, flush=True)
        sys.exit(1)


server.serve_forever()
