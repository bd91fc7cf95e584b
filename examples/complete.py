"""All examples together: tracking, errors with an alert, final numbers, a graceful end."""

import logging
import signal
import sys
import time
from typing import Any

import gevent

from smtp_blinker import Credentials, MessageStream, Session, SMTPServer
from smtp_blinker.signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    auth,
    close,
    connect,
    disconnect,
    error,
    listening,
)

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
logging.basicConfig(level=logging.INFO)

# Connection tracking
connections: dict[str, dict[str, Any]] = {}
total_connections = 0
total_errors = 0


def on_auth(credentials: Credentials, session: Session) -> str | None:
    # Implement authentication
    return credentials.username


def on_data(stream: MessageStream, session: Session) -> str:
    stream.read()
    return "Message queued"


server = SMTPServer(("127.0.0.1", port), logger=True, on_auth=on_auth, on_data=on_data)


# Track new connections
@connect.connect_via(server)
def track(server: SMTPServer, event: ConnectEvent) -> None:
    global total_connections
    total_connections += 1
    connections[event.id] = {
        "remote_address": event.remote_address,
        "hostname": event.client_hostname,
        "connected_at": time.time(),
        "authenticated": False,
    }
    print(f"[CONNECT] {event.id} from {event.remote_address}", flush=True)
    print(f"Active: {len(connections)}, Total: {total_connections}", flush=True)


@auth.connect_via(server)
def authenticated(server: SMTPServer, event: AuthEvent) -> None:
    if event.success and event.id in connections:
        connections[event.id]["authenticated"] = True
        print(f"[AUTH] {event.id} is {event.username}", flush=True)


@disconnect.connect_via(server)
def forget(server: SMTPServer, event: DisconnectEvent) -> None:
    if connections.pop(event.id, None) is not None:
        print(f"[DISCONNECT] {event.id}: {event.reason}", flush=True)


# Handle errors
@error.connect_via(server)
def report(server: SMTPServer, event: ErrorEvent) -> None:
    global total_errors
    total_errors += 1
    if event.remote_address:
        print(f"[ERROR] {event.remote_address}: {event.error}", file=sys.stderr, flush=True)
    else:
        print(f"[ERROR] Server: {event.error}", file=sys.stderr, flush=True)

    # Alert on high error rate
    if total_errors > 100:
        print("[ALERT] High error rate detected!", file=sys.stderr, flush=True)


# Handle server close
@close.connect_via(server)
def closed(server: SMTPServer) -> None:
    print("[CLOSE] Server shut down", flush=True)
    print(
        f"Final stats - Total connections: {total_connections}, Errors: {total_errors}", flush=True
    )
    connections.clear()


@listening.connect_via(server)
def started(server: SMTPServer) -> None:
    print(f"SMTP server listening on port {port}", flush=True)


# Graceful shutdown
def shut_down() -> None:
    print("Shutting down gracefully...", flush=True)
    server.stop()


gevent.signal_handler(signal.SIGTERM, shut_down)
server.serve_forever()  # returns when the server has stopped: exit status 0
