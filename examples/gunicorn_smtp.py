"""SMTP in several processes, with one page of metrics for all of them.

    gunicorn -c gunicorn_smtp_conf.py gunicorn_smtp:services

gunicorn restarts a process that ends, reloads the program on HUP without losing a client, and
lets transactions end on TERM.
"""

import logging
import os

from prometheus_client import CollectorRegistry, make_wsgi_app, multiprocess

from smtp_blinker import SMTPServer
from smtp_blinker.listeners.log import EventLog
from smtp_blinker.listeners.metrics import EventMetrics
from smtp_blinker.stores import MaildirStore

# None: gunicorn has the sockets. max_clients, like all limits, counts in each process.
server = SMTPServer(
    None,
    max_clients=1000,
    on_data=MaildirStore(os.environ.get("MAILDIR", "Maildir")),
)
# Into gunicorn's log file, which USR1 reopens.
EventLog(logging.getLogger("gunicorn.error")).attach(server)
EventMetrics().attach(server)

# Counted in all processes, and shown by any of them.
everybody = CollectorRegistry()
multiprocess.MultiProcessCollector(everybody)  # type: ignore[no-untyped-call]

# In the order of `bind`.
services = [server, make_wsgi_app(everybody)]
