"""Count connections, messages and errors; print the numbers once a minute and at the end.

`smtp_blinker.listeners.metrics` does this for Prometheus; here is how it works.
"""

import signal
import sys
from collections import Counter

import gevent

from smtp_blinker import SMTPServer
from smtp_blinker.signals import (
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    close,
    connect,
    disconnect,
    error,
    message,
)

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))

totals: Counter[str] = Counter()
# One entry per client address: limit their number on a public server.
connections_by_address: Counter[str] = Counter()
messages_by_code: Counter[int] = Counter()
errors_by_code: Counter[str] = Counter()


@connect.connect_via(server)
def count_connection(server: SMTPServer, event: ConnectEvent) -> None:
    totals["connections"] += 1
    connections_by_address[event.remote_address] += 1


@message.connect_via(server)
def count_message(server: SMTPServer, event: MessageEvent) -> None:
    totals["messages"] += 1
    totals["octets"] += event.size
    messages_by_code[event.code] += 1


@error.connect_via(server)
def count_error(server: SMTPServer, event: ErrorEvent) -> None:
    totals["errors"] += 1
    errors_by_code[event.code] += 1


@disconnect.connect_via(server)
def count_disconnect(server: SMTPServer, event: DisconnectEvent) -> None:
    totals["disconnects"] += 1


@close.connect_via(server)
def report(server: SMTPServer) -> None:
    print("Metrics:", dict(totals), flush=True)
    print("  connections by address:", dict(connections_by_address), flush=True)
    print("  messages by reply code:", dict(messages_by_code), flush=True)
    print("  errors by code:", dict(errors_by_code), flush=True)


def report_every(seconds: float) -> None:
    while True:
        gevent.sleep(seconds)
        report(server)


gevent.spawn(report_every, 60)
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
