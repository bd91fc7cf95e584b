"""Take the mail out of the queue. Put what you do with it into `handle`."""

import email
import email.policy
import logging
import os

from smtp_blinker.consumers import consume
from smtp_blinker.stores import Envelope, FolderContents


def handle(envelope: Envelope, content: bytes) -> None:
    """What this raises makes the message come back later."""
    message = email.message_from_bytes(content, policy=email.policy.default)
    recipients = ", ".join(path.address for path in envelope.rcpt_to)
    print(f"{envelope.mail_from.address} to {recipients}: {message['subject']}", flush=True)


logging.basicConfig(level="INFO")
consume(os.environ["MAIL_URL"], handle, contents=FolderContents(os.environ["MAIL_CONTENTS"]))
