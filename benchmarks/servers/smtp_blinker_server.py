"""This library, accepting and discarding. Usage: smtp_blinker_server.py PORT [--listeners]"""

import logging
import os
import sys
from typing import BinaryIO

from smtp_blinker import Session, SMTPServer


def discard(stream: BinaryIO, session: Session) -> None:
    """Read the message in pieces, as the peers do, and keep nothing."""
    while stream.read(65536):
        pass


def listen(server: SMTPServer) -> None:
    """Attach the three listeners that come with the library, the log writing every line."""
    from smtp_blinker.listeners.log import EventLog
    from smtp_blinker.listeners.metrics import EventMetrics
    from smtp_blinker.listeners.tracking import ConnectionTracker

    logger = logging.getLogger("benchmark")
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.FileHandler(os.devnull))
    EventLog(logger).attach(server)
    ConnectionTracker().attach(server)
    EventMetrics().attach(server)


server = SMTPServer(("127.0.0.1", int(sys.argv[1])), disable_reverse_lookup=True, on_data=discard)
if "--listeners" in sys.argv:
    listen(server)
server.serve_forever()
