"""A program that receives mail for example.com and says who brings it."""

import sys

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer
from smtp_blinker.signals import ConnectEvent, ErrorEvent, connect, error

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port), size=25 * 2**20, auth_optional=True)


@server.on_rcpt_to
def only_our_domain(address: Address, session: Session) -> None:
    if not address.address.endswith("@example.com"):
        raise Reject(550, "relaying denied", enhanced="5.7.1")


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    message = stream.read()  # blocks this client's greenlet, nobody else's
    print(f"[{session.id}] {len(message)} bytes", flush=True)
    return "queued"  # the text of the 250 reply


@connect.connect
def log_client(server: SMTPServer, event: ConnectEvent) -> None:
    print(
        f"[{event.id}] {event.remote_address}:{event.remote_port}"
        f" calls itself {event.host_name_appears_as}",
        flush=True,
    )


@error.connect_via(server)
def log_error(server: SMTPServer, event: ErrorEvent) -> None:
    print(event.code, event.remote_address, event.error, flush=True)


server.serve_forever()
