"""Know the client behind HAProxy."""

from smtp_blinker import MessageStream, Session, SMTPServer
from smtp_blinker.signals import ConnectEvent, connect

server = SMTPServer(("127.0.0.1", 2526), use_proxy=["127.0.0.1"], max_clients_per_ip=20)


@connect.connect_via(server)
def tell(server: SMTPServer, event: ConnectEvent) -> None:
    print(f"{event.remote_address} came to {event.local_address}:{event.local_port}", flush=True)


@server.on_data
def store(stream: MessageStream, session: Session) -> None:
    stream.read()
    header = session.proxy
    assert header is not None  # use_proxy demands it
    print(f"by PROXY version {header.version}, {header.family}", flush=True)


server.serve_forever()
