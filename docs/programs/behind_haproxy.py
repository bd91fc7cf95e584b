"""Know the client behind HAProxy."""

from smtp_blinker import SMTPServer
from smtp_blinker.signals import connect

server = SMTPServer(("127.0.0.1", 2526), use_proxy=["127.0.0.1"], max_clients_per_ip=20)


@connect.connect_via(server)
def tell(server, event):
    print(f"{event.remote_address} came to {event.local_address}:{event.local_port}", flush=True)


@server.on_data
def store(stream, session):
    stream.read()
    header = session.proxy
    print(f"by PROXY version {header.version}, {header.family}", flush=True)


server.serve_forever()
