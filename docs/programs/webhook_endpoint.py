"""A Flask program that takes mail from a WebhookStore: flask --app webhook_endpoint run"""

import hmac
import json
import time

from flask import Flask, Response, abort, request

SECRET = b"the secret of the WebhookStore"
OLDEST = 300  # seconds

app = Flask(__name__)
seen: set[str] = set()  # a table with a unique column, in a program that is restarted


def is_signed(field: str, body: bytes) -> bool:
    """Whether the body is from the store, and new: not an old one that is sent again."""
    parts = dict(part.partition("=")[::2] for part in field.split(","))
    seconds = parts.get("t", "")
    code = hmac.new(SECRET, f"{seconds}.".encode() + body, "sha256").hexdigest()
    if not hmac.compare_digest(code, parts.get("v1", "")):
        return False
    return abs(time.time() - int(seconds)) < OLDEST


@app.post("/mail")
def mail() -> Response:
    if not is_signed(request.headers.get("X-SMTP-Signature", ""), request.get_data()):
        abort(401)
    key = request.headers["Idempotency-Key"]
    envelope = json.loads(request.form["envelope"])
    content = request.files["message"].read()
    if any(one["address"].startswith("nobody@") for one in envelope["rcpt_to"]):
        return Response("we know no such person", 422, mimetype="text/plain")
    if key not in seen:  # else the store did not hear our first answer
        seen.add(key)
        print(f"{envelope['mail_from']['address']} sends {len(content)} bytes", flush=True)
    return Response(f"kept as {key[:8]}", mimetype="text/plain")
