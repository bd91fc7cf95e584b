"""Start again whenever the server was closed (here by SIGHUP); SIGTERM and Ctrl-C end it."""

import signal
import sys

import gevent
from gevent.event import Event

from smtp_blinker import SMTPServer
from smtp_blinker.signals import close, listening

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))
ended = Event()


@listening.connect_via(server)
def say(server: SMTPServer) -> None:
    print(f"Listening on port {server.server_port}", flush=True)


@close.connect_via(server)
def restart(server: SMTPServer) -> None:
    if not ended.is_set():
        print("Server closed, restarting in 1 second...", flush=True)
        gevent.spawn_later(1, server.start)


gevent.signal_handler(signal.SIGHUP, server.stop)
gevent.signal_handler(signal.SIGTERM, ended.set)
gevent.signal_handler(signal.SIGINT, ended.set)
server.start()
ended.wait()  # not serve_forever, which would return as soon as the server is closed
server.stop()
