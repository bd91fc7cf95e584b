"""This library, accepting and discarding. Usage: smtp_blinker_server.py PORT [--listeners]"""

import sys

from smtp_blinker import SMTPServer


def discard(stream, session):
    """Read the message in pieces, as the peers do, and keep nothing."""
    while stream.read(65536):
        pass


server = SMTPServer(("127.0.0.1", int(sys.argv[1])), disable_reverse_lookup=True, on_data=discard)
server.serve_forever()
