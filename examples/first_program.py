"""Receive mail for example.com on port 2525, and print what happens."""

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer
from smtp_blinker.signals import ConnectEvent, ErrorEvent, connect, error

server = SMTPServer(("127.0.0.1", 2525), size=25 * 2**20)


@server.on_rcpt_to
def only_our_domain(address: Address, session: Session) -> None:
    if not address.address.endswith("@example.com"):
        raise Reject(550, "relaying denied", enhanced="5.7.1")


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    message = stream.read()  # waits for this client only
    print(f"[{session.id}] {len(message)} bytes")
    return "queued"  # the text of the 250 reply


@connect.connect
def log_client(server: SMTPServer, event: ConnectEvent) -> None:
    print(f"[{event.id}] {event.remote_address} calls itself {event.host_name_appears_as}")


@error.connect_via(server)
def log_error(server: SMTPServer, event: ErrorEvent) -> None:
    print(event.code, event.remote_address, event.error)


server.serve_forever()
