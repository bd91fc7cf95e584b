"""Print everything known about an error, with a traceback for faults of the program."""

import email
import json
import sys
import traceback

from smtp_blinker import MessageStream, Session, SMTPServer
from smtp_blinker.signals import ErrorEvent, error

port = int(sys.argv[1]) if len(sys.argv) > 1 else 2525
server = SMTPServer(("127.0.0.1", port))


@server.on_data
def store(stream: MessageStream, session: Session) -> str:
    message = email.message_from_bytes(stream.read())
    return f"queued as {message['Subject'].lower()}"  # a bug: not every message has a Subject


@error.connect_via(server)
def report(server: SMTPServer, event: ErrorEvent) -> None:
    details = {
        "message": str(event.error),
        "code": event.code,
        "id": event.id,
        "remote_address": event.remote_address,
        "response_code": event.response_code,
        "meta": dict(event.meta),
    }
    # JSON escapes text that may come from a client, so it can't forge lines.
    print("SMTP Error:", json.dumps(details, default=str), file=sys.stderr, flush=True)
    if event.code == "HookError":
        traceback.print_exception(type(event.error), event.error, event.error.__traceback__)


server.serve_forever()
