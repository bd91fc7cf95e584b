"""A Flask app and an SMTP server in one gunicorn worker. The page lists the received mail.

Either the worker is the SMTP worker, and serves Flask too; nothing is monkey patched:

    gunicorn -k smtp_blinker.gunicorn.SMTPWorker -b 127.0.0.1:2525 -b 127.0.0.1:8000 \
        flask_and_smtp:services

or it is gunicorn's gevent worker, which patches, and serves SMTP too:

    gunicorn -c flask_and_smtp_conf.py flask_and_smtp:app
"""

import mailbox
import os

from flask import Flask, Response, jsonify

from smtp_blinker import SMTPServer
from smtp_blinker.stores import MaildirStore

# On the disk, because the workers share no memory.
store = MaildirStore(os.environ.get("MAILDIR", "Maildir"))
server = SMTPServer(None, on_data=store)
app = Flask(__name__)


@app.get("/")
def subjects() -> Response:
    messages = mailbox.Maildir(store.path, create=False)
    return jsonify(sorted(str(message["Subject"]) for message in messages))


@app.get("/process")
def process() -> str:
    return str(os.getpid())


# For the SMTP worker: the service of each socket, in the order of --bind.
services = [server, app]
