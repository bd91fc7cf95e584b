"""A listener for every signal."""

import signal

import gevent

from smtp_blinker import Credentials, MessageStream, Session, SMTPServer
from smtp_blinker.signals import (
    AuthEvent,
    ConnectEvent,
    DisconnectEvent,
    ErrorEvent,
    MessageEvent,
    RefusedEvent,
    SecureEvent,
    VerdictEvent,
    auth,
    close,
    connect,
    disconnect,
    error,
    listening,
    message,
    refused,
    secure,
    verdict,
)

server = SMTPServer(("127.0.0.1", 2525), certfile="cert.pem", keyfile="key.pem", auth_optional=True)


@server.on_auth
def check(credentials: Credentials, session: Session) -> str | None:
    return credentials.username if credentials.validate_password("secret") else None


@server.on_data
def store(stream: MessageStream, session: Session) -> None:
    if b"bug" in stream.read():
        raise RuntimeError("a fault of this program")


# listening
@listening.connect_via(server)
def ready(server: SMTPServer) -> None:
    print("listening on port", server.server_port, flush=True)


# connect
@connect.connect_via(server)
def arrived(server: SMTPServer, event: ConnectEvent) -> None:
    print(f"[{event.id}] {event.host_name_appears_as} from {event.remote_address}", flush=True)


# secure
@secure.connect_via(server)
def encrypted(server: SMTPServer, event: SecureEvent) -> None:
    print(f"[{event.id}] {event.protocol}, {event.cipher}", flush=True)


# auth
@auth.connect_via(server)
def logged_in(server: SMTPServer, event: AuthEvent) -> None:
    outcome = "is let in" if event.success else "is not let in"
    print(f"[{event.id}] {event.username} {outcome}, {event.method}", flush=True)


# message
@message.connect_via(server)
def answered(server: SMTPServer, event: MessageEvent) -> None:
    print(f"[{event.id}] {event.size} bytes: {event.code} {event.reply}", flush=True)


# refused
@refused.connect_via(server)
def turned_down(server: SMTPServer, event: RefusedEvent) -> None:
    print(f"[{event.id}] {event.command}: {event.code} {event.reply}", flush=True)


# verdict
@verdict.connect_via(server)
def judged(server: SMTPServer, event: VerdictEvent) -> None:
    print(f"[{event.id}] {event.policy}: {event.verdict}", flush=True)


# error
@error.connect_via(server)
def failed(server: SMTPServer, event: ErrorEvent) -> None:
    print(f"[{event.id}] {event.code}: {event.error}, {event.meta.get('hook')}", flush=True)


# disconnect
@disconnect.connect_via(server)
def left(server: SMTPServer, event: DisconnectEvent) -> None:
    print(f"[{event.id}] {event.reason} after {event.messages} messages {event.detail}", flush=True)


# close
@close.connect_via(server)
def closed(server: SMTPServer) -> None:
    print("closed", flush=True)


# the end
gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
