"""A bare gevent loop: the least that any server on gevent pays. It checks nothing.

One recv, one table look-up and one send per command: commands must come one at a time and whole.
TLS is gevent's own SSLSocket. Usage: ground.py PORT [--tls FILE]
"""

import socket
import sys
from typing import Any

from gevent.hub import get_hub
from gevent.server import StreamServer
from gevent.ssl import PROTOCOL_TLS_SERVER, SSLContext

OK = b"250 OK\r\n"
REPLIES = {
    b"EHLO": b"250-localhost\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    b"STAR": b"220 Go ahead\r\n",
    b"DATA": b"354 End data with <CR><LF>.<CR><LF>\r\n",
    b"QUIT": b"221 Bye\r\n",
}


def serve(client: Any, address: object) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw = client._sock  # below gevent's socket, whose recv would try before it waits
    send = raw.send
    hub = get_hub()
    watcher = hub.loop.io(raw.fileno(), 1)

    def receive(size: int) -> bytes:
        hub.wait(watcher)
        return bytes(raw.recv(size))

    try:
        send(b"220 localhost ESMTP\r\n")
        while command := receive(8192)[:4]:
            send(REPLIES.get(command, OK))
            if command == b"DATA":
                tail = b""
                while not tail.endswith(b"\r\n.\r\n"):
                    if not (piece := receive(65536)):
                        return
                    tail = tail[-4:] + piece
                send(OK)
            elif command == b"STAR":
                client = context.wrap_socket(client, server_side=True)
                send, receive = client.send, client.recv
            elif command == b"QUIT":
                return
    except OSError:
        pass
    finally:
        watcher.close()


port, *tls = sys.argv[1:]
context = SSLContext(PROTOCOL_TLS_SERVER)
if tls:
    context.load_cert_chain(tls[1])
StreamServer(("127.0.0.1", int(port)), serve).serve_forever()
