"""A Flask app in gevent's WSGI server and an SMTPServer in one process, without monkey patching.

Writes {"http": port, "smtp": port} and runs until its standard input ends.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from flask import Flask, jsonify
from gevent.event import Event
from gevent.fileobject import FileObject
from gevent.pywsgi import WSGIServer

from smtp_blinker import SMTPServer
from smtp_blinker.signals import connect

mails: list[dict[str, Any]] = []
clients: list[str] = []
arrived = Event()

app = Flask(__name__)


@app.get("/mails")
def show() -> Any:
    return jsonify(mails=mails, clients=clients)


@app.get("/next")
def wait() -> Any:
    """Answers once the next message is there: requests wait while mail comes in."""
    return jsonify(arrived=arrived.wait(30))


def store(stream: Any, session: Any) -> str:
    envelope = session.envelope
    mails.append(
        {
            "from": envelope.mail_from.address,
            "to": [address.address for address in envelope.rcpt_to],
            "content": stream.read().decode(),
        }
    )
    arrived.set()
    return f"queued as {len(mails)}"


def main() -> None:
    def note(server: SMTPServer, event: Any) -> None:
        clients.append(event.host_name_appears_as)

    smtp = SMTPServer(("127.0.0.1", 0), on_data=store, disable_reverse_lookup=True)
    http = WSGIServer(("127.0.0.1", 0), app, log=None)
    with connect.connected_to(note, smtp):
        smtp.start()
        http.start()
        print(json.dumps({"http": http.server_port, "smtp": smtp.server_port}), flush=True)
        FileObject(sys.stdin.fileno(), "rb", closefd=False).read()
        smtp.stop()
        http.stop()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
