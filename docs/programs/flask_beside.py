"""A Flask app and an SMTP server in one process, on one event loop."""

from collections import deque
from email import message_from_binary_file, policy
from typing import Any

from flask import Flask, Response, jsonify
from gevent.pywsgi import WSGIServer

from smtp_blinker import MessageStream, Session, SMTPServer

app = Flask(__name__)
inbox: deque[dict[str, Any]] = deque(maxlen=100)
smtp = SMTPServer(("127.0.0.1", 2525), size=2**20)


@smtp.on_data
def store(stream: MessageStream, session: Session) -> None:
    message = message_from_binary_file(stream, policy=policy.default)
    inbox.append({"from": str(session.envelope.mail_from), "subject": message["Subject"]})


@app.get("/inbox")
def show() -> Response:
    return jsonify(list(inbox))


@app.get("/health")
def health() -> tuple[Response, int]:
    return jsonify(clients=len(smtp.connections)), 200 if smtp.started else 503


if __name__ == "__main__":
    smtp.start()
    WSGIServer(("127.0.0.1", 8000), app, log=None).serve_forever()
