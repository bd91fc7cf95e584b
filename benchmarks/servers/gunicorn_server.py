"""This library in gunicorn's workers. Usage: gunicorn_server.py PORT WORKERS discard|parse"""

import sys
from email import policy
from email.parser import BytesParser
from typing import BinaryIO

from smtp_blinker import Session, SMTPServer
from smtp_blinker.gunicorn import run


def discard(stream: BinaryIO, session: Session) -> None:
    while stream.read(65536):
        pass


def parse(stream: BinaryIO, session: Session) -> None:
    """What a program does that looks at its mail: its fields, its parts decoded."""
    message = BytesParser(policy=policy.default).parsebytes(stream.read())
    message.items()
    for part in message.walk():
        if not part.is_multipart():
            part.get_content()


port, workers, work = sys.argv[1:]
hook = {"discard": discard, "parse": parse}[work]
run(
    lambda: SMTPServer(None, disable_reverse_lookup=True, on_data=hook),
    [("127.0.0.1", int(port))],
    workers=int(workers),
)
