"""An HTTP endpoint that takes everything and keeps nothing: python endpoint.py PORT"""

from __future__ import annotations

import sys
from typing import Any

from gevent.server import StreamServer

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def serve(sock: Any, address: Any) -> None:
    file = sock.makefile("rb")
    while file.readline():
        size = 0
        while (line := file.readline().rstrip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                size = int(value)
        file.read(size)
        sock.sendall(ANSWER)


StreamServer(("127.0.0.1", int(sys.argv[1])), serve).serve_forever()
