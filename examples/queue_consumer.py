"""Handle the mail that queue_server.py puts into the queue, in plain Python.

    python examples/queue_consumer.py [url]

SIGTERM and Ctrl-C end it after the current message.
"""

import email
import email.policy
import logging
import sys

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope


def handle(envelope: Envelope, content: bytes) -> None:
    """If this raises, the message comes back later."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    recipients = ", ".join(path.address for path in envelope.rcpt_to)
    print(f"{envelope.mail_from.address} to {recipients}: {message['subject']}", flush=True)


logging.basicConfig(level="INFO")
consume(sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1/", handle)
