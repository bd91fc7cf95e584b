"""End on SIGTERM: clients finish their message, then resources are cleaned up."""

import signal
import sys

import gevent

from smtp_blinker import SMTPServer
from smtp_blinker.signals import close

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))


class Database:
    """Stands for the cleanup of your program."""

    def disconnect(self) -> None:
        print("Database disconnected", flush=True)


database = Database()


@close.connect_via(server)
def clean_up(server: SMTPServer) -> None:
    print("SMTP server has been shut down", flush=True)
    database.disconnect()
    print("All resources cleaned up", flush=True)


def shut_down() -> None:
    print("Received SIGTERM, closing server...", flush=True)
    server.stop()


gevent.signal_handler(signal.SIGTERM, shut_down)
server.serve_forever()
