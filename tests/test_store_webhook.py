"""WebhookStore: each message as a POST request, and what the endpoint's answer means."""

from __future__ import annotations

import hashlib
import hmac
import json
import runpy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from flask import Flask, request
from gevent import pywsgi, socket, ssl
from support import Client, Witness, poll, running, witnessed

from smtp_blinker.stores import Envelope, WebhookStore, http
from smtp_blinker.stores.circuit import FAILURES

ROOT = Path(__file__).resolve().parent.parent


class Endpoint:
    """A Flask program that takes the requests; *answer* is what its view returns."""

    def __init__(self, **ssl_options: Any) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answer: Callable[[], Any] = lambda: ""
        app = Flask(__name__)

        @app.post("/hook")
        def hook() -> Any:
            body = request.get_data()
            self.requests.append(
                {
                    "body": body,
                    "envelope": json.loads(request.form["envelope"]),
                    "message": request.files["message"].read(),
                    "type": request.files["message"].mimetype,
                    "headers": dict(request.headers),
                    "port": request.environ["REMOTE_PORT"],
                }
            )
            return self.answer()

        self.server: Any = pywsgi.WSGIServer(("127.0.0.1", 0), app, log=None, **ssl_options)
        self.server.start()
        scheme = "https" if ssl_options else "http"
        self.url = f"{scheme}://localhost:{self.server.server_port}/hook"

    @property
    def last(self) -> dict[str, Any]:
        return self.requests[-1]


@contextmanager
def endpoint(**ssl_options: Any) -> Iterator[Endpoint]:
    made = Endpoint(**ssl_options)
    try:
        yield made
    finally:
        made.server.stop(timeout=0)


@contextmanager
def receiving(store: WebhookStore, **options: Any) -> Iterator[Client]:
    with running(on_data=store, **options, use=[store]) as server:
        yield Client(server, hello="EHLO me")


def test_the_request_has_the_envelope_and_the_octets() -> None:
    content = b"Subject: h\xc3\xa9\r\n\r\n..dot\r\n" + bytes(range(128, 256)) + b"\r\n"
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        client.ok("MAIL FROM:<a@example.org> SIZE=99", "RCPT TO:<b@example.com>")
        client.ok("RCPT TO:<c@example.com>")
        assert client.cmd("DATA").startswith("354")
        client.send(stuffed + b".\r\n")
        reply = client.reply()
        [seen] = hook.requests
    envelope = Envelope.from_dict(seen["envelope"])
    assert reply == f"250 2.0.0 delivered as {envelope.id}"
    assert seen["message"] == content
    assert seen["type"] == "message/rfc822"
    assert (envelope.mail_from.address, envelope.size) == ("a@example.org", len(content))
    assert [one.address for one in envelope.rcpt_to] == ["b@example.com", "c@example.com"]
    assert envelope.sha256 == hashlib.sha256(content).hexdigest()
    assert seen["headers"]["Idempotency-Key"] == envelope.content_id
    assert "X-Smtp-Signature" not in seen["headers"]


def test_a_message_that_is_sent_again_has_the_same_key() -> None:
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        for _ in range(2):
            assert client.message(b"again\r\n").startswith("250")
        assert client.message(b"another\r\n").startswith("250")
        keys = [one["headers"]["Idempotency-Key"] for one in hook.requests]
        ids = {one["envelope"]["id"] for one in hook.requests}
    assert keys[0] == keys[1] != keys[2]
    assert len(ids) == 3


@pytest.mark.parametrize("size", [10, 3 * 2**20])
def test_the_signature_is_over_the_time_and_the_body(size: int) -> None:
    before = int(time.time())
    with endpoint() as hook, receiving(WebhookStore(hook.url, secret="schlüssel")) as client:
        assert client.message(b"x" * size + b"\r\n").startswith("250")
        seen = hook.last
    moment, code = seen["headers"]["X-Smtp-Signature"].split(",")
    seconds = moment.removeprefix("t=")
    assert before <= int(seconds) <= time.time()
    signed = seconds.encode() + b"." + seen["body"]
    expected = hmac.new("schlüssel".encode(), signed, "sha256").hexdigest()
    assert code == f"v1={expected}"


def test_connections_are_used_again_and_a_stale_one_is_replaced() -> None:
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        for _ in range(3):
            assert client.message(b"hello\r\n").startswith("250")
        assert len({one["port"] for one in hook.requests}) == 1
        for handler in list(hook.server.pool or ()):
            handler.kill()
        port = hook.server.server_port
        hook.server.stop(timeout=0)
        hook.server = pywsgi.WSGIServer(("127.0.0.1", port), hook.server.application, log=None)
        hook.server.start()
        assert client.message(b"hello\r\n").startswith("250")


TEXT = {"Content-Type": "text/plain; charset=utf-8"}


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (("kept as 17\nmore", 200, TEXT), "250 2.0.0 kept as 17"),
        (("", 204), "250 2.0.0 delivered as"),
        (("<p>thanks</p>", 201), "250 2.0.0 delivered as"),
        (("550 no", 200, TEXT), "250 2.0.0 delivered as"),
        (("5.7.1 no", 200, TEXT), "250 2.0.0 delivered as"),
        (("grüß\x07 dich\r\n", 200, TEXT), "250 2.0.0 gr??? dich"),
        (("x" * 10_000, 200, TEXT), "250 2.0.0 " + "x" * 400),
        (("we know no such person", 406, TEXT), "550 5.7.1 we know no such person"),
        (("", 410), "550 5.7.1 The receiver refuses this message"),
        (("spam", 422, TEXT), "550 5.7.1 spam"),
        (("", 413), "552 5.3.4 Message is larger than the receiver takes"),
    ],
)  # fmt: skip
def test_what_an_answer_decides(answer: Any, reply: str) -> None:
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        hook.answer = lambda: answer
        assert client.message(b"hello\r\n").startswith(reply)


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 405, 429, 500, 502, 503])
def test_every_other_answer_bounces_no_mail(status: int) -> None:
    with endpoint() as hook:
        hook.answer = lambda: ("broken", status, {**TEXT, "Location": "/elsewhere"})
        with witnessed(on_data=WebhookStore(hook.url)) as client:
            assert client.message(b"hello\r\n").startswith("451 4.3.0")
            assert f"answered {status}: broken" in str(client.witness.one("error").error)
        assert len(hook.requests) == 1


def test_after_some_failures_mail_is_refused_before_it_is_read() -> None:
    with endpoint() as hook:
        store = WebhookStore(hook.url)
        hook.answer = lambda: ("", 500)
        with receiving(store) as client:
            for _ in range(FAILURES):
                assert client.message(b"hello\r\n").startswith("451 4.3.0")
            assert client.cmd("MAIL FROM:<a@example.org>").startswith("451 4.3.0")
            assert len(hook.requests) == FAILURES
            store.circuit._closed_again = 0  # as if the pause were over
            hook.answer = lambda: ""
            assert client.message(b"hello\r\n").startswith("250")


def test_an_endpoint_that_refuses_for_good_is_back() -> None:
    with endpoint() as hook:
        store = WebhookStore(hook.url)
        hook.answer = lambda: ("", 500)
        with receiving(store) as client:
            for _ in range(FAILURES):
                assert client.message(b"hello\r\n").startswith("451 4.3.0")
            store.circuit._closed_again = 0  # as if the pause were over
            hook.answer = lambda: ("no", 422, TEXT)
            assert client.message(b"hello\r\n").startswith("550 5.7.1 no")
            hook.answer = lambda: ""
            assert client.message(b"hello\r\n").startswith("250")


def test_a_message_that_is_refused_for_good_is_no_failure_of_the_endpoint() -> None:
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        hook.answer = lambda: ("no", 422, TEXT)
        for _ in range(FAILURES + 2):
            assert client.message(b"hello\r\n").startswith("550")


@contextmanager
def answering(octets: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of an endpoint that sends *octets* and closes the connection, and its requests."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    requests: list[bytes] = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            request = b""
            while not request.endswith(b"--\r\n"):
                request += sock.recv(65536)
            requests.append(request)
            sock.sendall(octets)
            sock.close()

    greenlet = gevent.spawn(serve)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", requests
    finally:
        greenlet.kill()
        listener.close()


WHOLE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n"
    b"Connection: close\r\n\r\nkept"
)


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_half_a_response_accepts_nothing(size: int) -> None:
    """RFC 9112 section 8: the endpoint died amid its response, or a proxy before it."""
    with answering(WHOLE[:size]) as (url, _), running(on_data=WebhookStore(url)) as server:
        assert Client(server, hello="EHLO me").message(b"x\r\n").startswith("451 4.3.0")


@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    ],
)
def test_interim_responses_are_followed_by_the_response(before: bytes) -> None:
    with (
        answering(before + WHOLE) as (url, requests),
        running(on_data=WebhookStore(url)) as server,
    ):
        assert Client(server, hello="EHLO me").message(b"x\r\n") == "250 2.0.0 kept"
    assert len(requests) == 1


@pytest.mark.parametrize("stage", ["connect", "answer", "body"])
def test_an_endpoint_that_is_slow_is_given_up(stage: str) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    port = listener.getsockname()[1]
    kept = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            kept.append(sock)
            if stage == "body":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")

    greenlet = gevent.spawn(serve) if stage != "connect" else None
    try:
        with witnessed(on_data=WebhookStore(f"http://127.0.0.1:{port}/", timeout=0.3)) as client:
            assert client.message(b"hello\r\n").startswith("451 4.3.0")
            assert "did not answer within 0.3 s" in str(client.witness.one("error").error)
    finally:
        if greenlet is not None:
            greenlet.kill()
        listener.close()


def test_nothing_listens() -> None:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    with witnessed(on_data=WebhookStore(f"http://127.0.0.1:{free.getsockname()[1]}/")) as client:
        assert client.message(b"hello\r\n").startswith("451 4.3.0")
        assert isinstance(client.witness.one("error").error, ConnectionRefusedError)


def test_an_answer_before_the_whole_message_was_sent_counts() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)

    def serve() -> None:
        sock, _ = listener.accept()
        sock.recv(100)
        sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass

    greenlet = gevent.spawn(serve)
    try:
        store = WebhookStore(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        with receiving(store) as client:
            assert client.message(b"x" * 5 * 2**20 + b"\r\n").startswith("552 5.3.4")
    finally:
        greenlet.kill()
        listener.close()


def test_https_is_verified(certificate: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(**certificate.options)
    with endpoint(ssl_context=context) as hook:
        with running(on_data=WebhookStore(hook.url)) as server:
            witness = Witness(server)
            client = Client(server, hello="EHLO me")
            assert client.message(b"hello\r\n").startswith("451 4.3.0")
            assert "CERTIFICATE_VERIFY_FAILED" in str(witness.one("error").error)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_certs))
        with receiving(WebhookStore(hook.url)) as client:
            assert client.message(b"hello\r\n").startswith("250")


def test_a_password_in_the_url_is_sent_and_not_shown() -> None:
    with endpoint() as hook:
        url = hook.url.replace("://", "://ann:s%40crate@")
        with receiving(WebhookStore(url)) as client:
            assert client.message(b"hello\r\n").startswith("250")
            assert hook.last["headers"]["Authorization"] == "Basic YW5uOnNAY3JhdGU="
        hook.answer = lambda: ("", 500)
        with running(on_data=WebhookStore(url)) as server:
            witness = Witness(server)
            Client(server, hello="EHLO me").message(b"hello\r\n")
            assert "crate" not in str(witness.one("error").error)


def test_a_client_that_leaves_has_sent_nothing() -> None:
    with endpoint() as hook, receiving(WebhookStore(hook.url)) as client:
        client.begin()
        client.send(b"half a mess")
        client.sock.close()
        gevent.sleep(0)
    assert hook.requests == []


def test_thirty_at_once_share_ten_connections() -> None:
    with endpoint() as hook, running(on_data=WebhookStore(hook.url)) as server:
        busy: list[int] = []
        most: list[int] = []

        def answer() -> str:
            busy.append(1)
            most.append(len(busy))
            gevent.sleep(0.01)
            busy.pop()
            return ""

        hook.answer = answer
        clients = [Client(server, hello="EHLO me") for _ in range(30)]
        sending = [gevent.spawn(client.message, b"hello\r\n") for client in clients]
        assert {one.get()[:3] for one in sending} == {"250"}
        assert 2 <= max(most) <= 10
        poll(lambda: len(hook.requests) == 30)


def test_the_endpoint_of_the_docs_takes_what_the_store_sends() -> None:
    program = runpy.run_path(str(ROOT / "docs" / "programs" / "webhook_endpoint.py"))
    http = pywsgi.WSGIServer(("127.0.0.1", 0), program["app"], log=None)
    http.start()
    url = f"http://127.0.0.1:{http.server_port}/mail"
    secret = program["SECRET"].decode()
    try:
        with receiving(WebhookStore(url, secret=secret)) as client:
            for _ in range(2):
                assert client.message(b"x\r\n").startswith("250 2.0.0 kept as ")
            assert len(program["seen"]) == 1
            refused = client.message(b"x\r\n", "nobody@example.com")
            assert refused == "550 5.7.1 we know no such person"
        with receiving(WebhookStore(url, secret="another")) as client:
            assert client.message(b"x\r\n").startswith("451 4.3.0")
        with receiving(WebhookStore(url)) as client:
            assert client.message(b"x\r\n").startswith("451 4.3.0")
    finally:
        http.stop(timeout=0)


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("ftp://host/", {}, ValueError),
        ("http://", {}, ValueError),
        ("http://host:port/", {}, ValueError),
        ("http://host/a b", {}, ValueError),
        ("http://host/\r\nX: y", {}, ValueError),
        ("hook", {}, ValueError),
        ("http://host/", {"timeout": 0}, ValueError),
        (80, {}, TypeError),
        ("http://host/", {"timeout": "1"}, TypeError),
        ("http://host/", {"secret": b"bytes"}, TypeError),
        ("http://host/", {"secret": ""}, ValueError),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_told(url: Any, options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        WebhookStore(url, **options)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a.example/", "a.example"),
        ("https://a.example:80/", "a.example:80"),
        ("http://a.example/", "a.example"),
        ("http://a.example:443/", "a.example:443"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
def test_the_host_field_has_no_port_that_the_scheme_says(url: str, host: str) -> None:
    sent: list[bytes] = []

    class Socket:
        sendall = staticmethod(sent.append)

    connection: Any = http.Endpoint(url)._connect()
    connection.sock = Socket()
    connection.putrequest("POST", "/")
    connection.endheaders()
    assert f"\r\nHost: {host}\r\n".encode() in b"".join(sent)
