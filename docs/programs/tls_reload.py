"""STARTTLS on one port, TLS from the first byte on another, new certificates on SIGHUP."""

import signal

import gevent

from smtp_blinker import SMTPServer
from smtp_blinker.signals import SecureEvent, secure

CERT, KEY = "cert.pem", "key.pem"
servers = [
    SMTPServer(("127.0.0.1", 2525), certfile=CERT, keyfile=KEY),
    SMTPServer(("127.0.0.1", 4650), secure=True, certfile=CERT, keyfile=KEY),
]


@secure.connect
def tell(server: SMTPServer, event: SecureEvent) -> None:
    print(f"{event.protocol} for {event.servername}", flush=True)


def reload() -> None:
    for server in servers:
        try:
            server.update_secure_context()
            print("certificate read", flush=True)
        except OSError as exc:  # ssl.SSLError is one
            print("the certificate stays as it was:", exc, flush=True)


gevent.signal_handler(signal.SIGHUP, reload)
for server in servers:
    server.start()
gevent.wait()
