"""After: smtp_blinker."""

import signal

import gevent

from smtp_blinker import Address, Credentials, MessageStream, Reject, Session, SMTPServer
from smtp_blinker.signals import ConnectEvent, ErrorEvent, connect, error

server = SMTPServer(("127.0.0.1", 2525), size=25 * 2**20, auth_optional=True)


@server.on_auth
def check(auth: Credentials, session: Session) -> str | None:
    if auth.username == "ann" and auth.validate_password("secret"):
        return auth.username
    return None


@server.on_rcpt_to
def only_our_domain(address: Address, session: Session) -> None:
    if not address.address.endswith("@example.com"):
        raise Reject(550, "relaying denied")


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    size = sum(map(len, stream))  # beyond `size` the server itself answers 552
    print(f"{size} bytes of {session.user}", flush=True)
    return "queued"


@connect.connect_via(server)
def tell(server: SMTPServer, event: ConnectEvent) -> None:
    print(f"connect from {event.remote_address}", flush=True)


@error.connect_via(server)
def report(server: SMTPServer, event: ErrorEvent) -> None:
    print(event.code, event.error, flush=True)


gevent.signal_handler(signal.SIGTERM, server.stop)
server.serve_forever()
