"""This library, accepting and discarding.

Usage: smtp_blinker_server.py PORT [--tls FILE] [--listeners | --logging]. With --listeners the
three that come with the library hear of everything; with --logging there are none, and the hook
itself logs one line: what any log of messages costs that is written with the standard library.
"""

import argparse
import logging
import os
from typing import BinaryIO

from smtp_blinker import Session, SMTPServer


def discard(stream: BinaryIO, session: Session) -> None:
    """Read the message in pieces, as the peers do, and keep nothing."""
    while stream.read(65536):
        pass


def log_and_discard(stream: BinaryIO, session: Session) -> None:
    discard(stream, session)
    sender = session.envelope.mail_from
    recipients = session.envelope.rcpt_to
    logger.info("[%s] message from <%s> to %s recipients", session.id, sender, len(recipients))


def listen(server: SMTPServer) -> None:
    """Attach the three listeners that come with the library, the log writing every line."""
    from smtp_blinker.listeners.log import EventLog
    from smtp_blinker.listeners.metrics import EventMetrics
    from smtp_blinker.listeners.tracking import ConnectionTracker

    EventLog(logger).attach(server)
    ConnectionTracker().attach(server)
    EventMetrics().attach(server)


logger = logging.getLogger("benchmark")
logger.setLevel(logging.INFO)
logger.addHandler(logging.FileHandler(os.devnull))

parser = argparse.ArgumentParser()
parser.add_argument("port", type=int)
parser.add_argument("--tls", metavar="FILE")
parser.add_argument("--listeners", action="store_true")
parser.add_argument("--logging", action="store_true")
options = parser.parse_args()

server = SMTPServer(
    ("127.0.0.1", options.port),
    disable_reverse_lookup=True,
    certfile=options.tls,
    on_data=log_and_discard if options.logging else discard,
)
if options.listeners:
    listen(server)
server.serve_forever()
