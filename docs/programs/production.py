"""Receive mail for example.com into a Maildir: TLS, limits, logs, metrics, a graceful end."""

import logging
import signal

import gevent
from gevent.pywsgi import WSGIServer
from prometheus_client import make_wsgi_app

from smtp_blinker import Address, Reject, Session, SMTPServer
from smtp_blinker.listeners.log import EventLog, JSONFormatter
from smtp_blinker.listeners.metrics import EventMetrics
from smtp_blinker.stores import MaildirStore

DOMAIN = "example.com"

handler = logging.StreamHandler()
handler.setFormatter(JSONFormatter())
logging.basicConfig(level=logging.INFO, handlers=[handler])

store = MaildirStore("Maildir", hostname="mx.example.com")
store.check()  # a folder that can't be written to raises now, not at the first client

server = SMTPServer(
    ("127.0.0.1", 2525),
    name="mx.example.com",
    certfile="cert.pem",
    keyfile="key.pem",
    size=25 * 2**20,
    max_clients=500,
    max_clients_per_ip=20,
    max_messages=100,
    hook_timeout=60,
    on_data=store,
)


@server.on_rcpt_to
def only_our_domain(address: Address, session: Session) -> None:
    recipient = address.address.lower()
    if not recipient.endswith(f"@{DOMAIN}") and recipient != "postmaster":
        raise Reject(550, "relaying denied", "5.7.1")


EventLog(tracebacks=True).attach(server)
EventMetrics().attach(server)
metrics = WSGIServer(("127.0.0.1", 9100), make_wsgi_app(), log=None)


def reload() -> None:
    try:
        server.update_secure_context()  # the same files, read again
    except OSError as exc:
        logging.error("the certificate stays as it was: %s", exc)


gevent.signal_handler(signal.SIGHUP, reload)
gevent.signal_handler(signal.SIGTERM, server.stop)
metrics.start()
server.serve_forever()  # returns when the server has stopped
