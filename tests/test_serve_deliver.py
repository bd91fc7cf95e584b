"""smtp-blinker hands mail on: --deliver to a next hop or a URL, --spool before it."""

from __future__ import annotations

import http.server
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import free_port, wait_until
from support.cli import ANYWHERE, MESSAGE, SECONDS, SmtpBlinker, run

NO_PAGE = ("--http", "off")


class Hook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; the path is the status of the answer."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(int(self.path.strip("/")))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def endpoint() -> Iterator[Any]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.posted = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(SECONDS)


def send(server: SmtpBlinker) -> str:
    """The reply to one message."""
    with server.client() as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        code, text = client.data(MESSAGE)
    return f"{code} {text.decode()}"


def test_mail_goes_to_the_next_hop(tmp_path: Path) -> None:
    (tmp_path / "hop").mkdir()
    with SmtpBlinker(tmp_path / "hop", *ANYWHERE, *NO_PAGE) as hop:
        there = f"smtp://user:sesame@127.0.0.1:{hop.port}"
        with SmtpBlinker(
            tmp_path, *ANYWHERE, *NO_PAGE, "--deliver", there, "--name", "mx.test"
        ) as near:
            assert near.said[0].endswith(f"mail goes to smtp://127.0.0.1:{hop.port}")
            assert send(near).startswith("451 4.3.0")  # that one has no AUTH
        there = there.replace("user:sesame@", "")
        with SmtpBlinker(
            tmp_path, *ANYWHERE, *NO_PAGE, "--deliver", there, "--name", "mx.test"
        ) as near:
            assert send(near).startswith("250 2.0.0 relayed: queued as ")
        [message] = hop.messages()
    ours = message.get_all("Received", [])[1]
    assert "by mx.test with ESMTP" in ours
    assert not (tmp_path / "Maildir").exists()


def test_mail_is_posted_to_a_url(tmp_path: Path) -> None:
    with endpoint() as hook:
        there = f"http://127.0.0.1:{hook.server_port}/200"
        options = (*ANYWHERE, *NO_PAGE, "--deliver", there)
        with SmtpBlinker(tmp_path, *options, SMTP_BLINKER_WEBHOOK_SECRET="sesame") as server:
            assert send(server).startswith("250 2.0.0 delivered as ")
        [(fields, body)] = hook.posted
    assert fields["X-SMTP-Signature"].startswith("t=")
    assert b"Subject: hello" in body
    envelope = json.loads(body.split(b"\r\n\r\n", 1)[1].split(b"\r\n", 1)[0])
    assert envelope["rcpt_to"][0]["address"] == "b@example.com"


def test_what_the_next_hop_misses_waits_in_the_spool(tmp_path: Path) -> None:
    (tmp_path / "hop").mkdir()
    port = free_port()
    options = ("--deliver", f"smtp://127.0.0.1:{port}", "--spool", "spool")
    with SmtpBlinker(tmp_path, *ANYWHERE, *NO_PAGE, *options) as near:
        assert send(near).startswith("250 2.0.0 spooled as ")
        assert len(list((tmp_path / "spool" / "queue").iterdir())) == 1
    with (
        SmtpBlinker(tmp_path / "hop", "--listen", f"127.0.0.1:{port}", *NO_PAGE) as hop,
        SmtpBlinker(tmp_path, *ANYWHERE, *NO_PAGE, *options),
    ):
        # Not before it has heard the hop's 250: stopped without it, it keeps the message.
        wait_until(lambda: not list((tmp_path / "spool" / "queue").iterdir()))
        assert len(hop.messages()) == 1


@pytest.mark.parametrize("scheme", ["smtp", "lmtp", "http", "redis"])
def test_the_other_side_has_so_long_as_was_said(tmp_path: Path, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        there = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        options = (*ANYWHERE, *NO_PAGE, "--deliver", there, "--deliver-timeout", "0.25")
        with SmtpBlinker(tmp_path, *options) as near:
            assert send(near).startswith("451 4.3.0")
            near.wait_for_log("within 0.25 s")


@pytest.mark.parametrize("seconds", ["0", "-1", "301", "soon"])
def test_a_wrong_deadline_is_an_error_that_says_what_is_right(tmp_path: Path, seconds: str) -> None:
    options = ("--deliver", "smtp://host", "--deliver-timeout", seconds)
    done = run(tmp_path, *ANYWHERE, *NO_PAGE, *options)
    assert done.returncode == 2
    assert "--deliver-timeout" in done.stderr
    assert ("0<x<=300" in done.stderr) is (seconds != "soon")


def page(server: SmtpBlinker, path: str) -> str:
    """What the web page of *server* answers, of an error too."""
    url = f"http://127.0.0.1:{server.http_port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as exc:
        return str(exc.read().decode())


@pytest.mark.parametrize(("scheme", "engine"), [("smtp", "The next hop"), ("http", "The webhook")])
def test_it_is_not_ready_while_the_other_side_is_away(
    tmp_path: Path, scheme: str, engine: str
) -> None:
    with socket.socket() as taken:  # nothing listens, and nothing else gets the port
        taken.bind(("127.0.0.1", 0))
        there = f"{scheme}://127.0.0.1:{taken.getsockname()[1]}"
        options = (*ANYWHERE, "--http", "127.0.0.1:0", "--deliver", there)
        with SmtpBlinker(tmp_path, *options) as near:
            wait_until(
                lambda: page(near, "/healthz/ready") == f"can't store mail: {engine} is away\n"
            )
            near.wait_for_log(f"{engine} can't be used: ")
            assert send(near).startswith("451 4.3.0")
            outcome = f'{{outcome="failed",store="{there}"}} 1.0'
            assert f"smtp_store_messages_total{outcome}" in page(near, "/metrics")
        with SmtpBlinker(tmp_path, *options, "--spool", "spool") as near:
            assert page(near, "/healthz/ready") == "ok\n"
            assert send(near).startswith("250 2.0.0 spooled as ")
            assert page(near, "/healthz/ready") == "ok\n"
            folder = f'{{spool="{tmp_path / "spool"}"}} 1.0'
            assert f"smtp_spool_messages{folder}" in page(near, "/metrics")


def metric(server: SmtpBlinker, name: str, **labels: str) -> float:
    """The value of a metric, 0 where it isn't there."""
    shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    found = re.search(
        re.escape(f"{name}{{{shown}}}") + " ([0-9.e+]+)$", page(server, "/metrics"), re.M
    )
    return 0.0 if found is None else float(found[1])


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
def test_the_page_has_the_number_of_events_that_were_dropped(
    tmp_path: Path, workers: Sequence[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = f"redis://127.0.0.1:{taken.getsockname()[1]}"
        options = (*ANYWHERE, "--http", "127.0.0.1:0", *workers)
        with SmtpBlinker(tmp_path, *options, "--events", away) as server:
            assert send(server).startswith("250 ")
            assert "\nsmtp_events_dropped_total 0.0\n" in page(server, "/metrics")
    with SmtpBlinker(tmp_path, *options) as server:
        assert "smtp_events_dropped" not in page(server, "/metrics")


def test_with_workers_the_page_counts_what_all_of_them_handed_over(tmp_path: Path) -> None:
    with endpoint() as hook:
        there = f"http://127.0.0.1:{hook.server_port}/200"
        options = (*ANYWHERE, "--http", "127.0.0.1:0", "--workers", "2", "--deliver", there)
        with SmtpBlinker(tmp_path, *options) as server:
            # As many at once that both of them have some.
            clients = [server.client() for _ in range(20)]
            for client in clients:
                client.sendmail("a@example.org", ["b@example.com"], MESSAGE)
                client.quit()
            sent = len(clients)
            labels = {"outcome": "accepted", "store": there}
            wait_until(lambda: metric(server, "smtp_store_messages_total", **labels) == sent)
            assert metric(server, "smtp_store_seconds_count", store=there) == sent
            [row] = json.loads(page(server, "/api/live"))["stores"]
            assert row["accepted"] == sent


def test_with_workers_the_page_knows_the_spool_and_that_the_store_is_away(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        there = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        options = (*ANYWHERE, "--http", "127.0.0.1:0", "--workers", "2", "--deliver", there)
        spool = tmp_path / "spool"
        with SmtpBlinker(tmp_path, *options, "--spool", str(spool)) as server:
            for _ in range(6):
                assert send(server).startswith("250 2.0.0 spooled as ")
            wait_until(lambda: metric(server, "smtp_spool_messages", spool=str(spool)) == 6)
            assert metric(server, "smtp_spool_bytes", spool=str(spool)) == sum(
                path.stat().st_size for path in (spool / "queue").iterdir()
            )
            wait_until(lambda: metric(server, "smtp_store_away", store=there) == 1)
            labels = {"outcome": "failed", "store": there}
            assert metric(server, "smtp_store_messages_total", **labels) >= 3


def test_it_is_ready_once_the_other_side_is_there(tmp_path: Path) -> None:
    with endpoint() as hook:
        there = f"http://127.0.0.1:{hook.server_port}/200"
        with SmtpBlinker(
            tmp_path, *ANYWHERE, "--http", "127.0.0.1:0", "--deliver", there
        ) as server:
            wait_until(lambda: page(server, "/healthz/ready") == "ok\n")
            assert hook.posted == []
            send(server)
            outcome = f'{{outcome="accepted",store="{there}"}} 1.0'
            assert f"smtp_store_messages_total{outcome}" in page(server, "/metrics")
            assert json.loads(page(server, "/api/live"))["stores"][0]["accepted"] == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--deliver", "ftp://host/"), "--deliver takes a URL of http://"),
        (("--deliver", "smtp://host/path"), "--deliver: the URL must be smtp://HOST:PORT"),
        (("--deliver", "http:///x"), "--deliver: the URL must be http://HOST/PATH"),
        (
            ("--deliver", "smtp://host", "--contents", "c"),
            "--contents has an effect only with --deliver to a",
        ),
        (
            ("--deliver", "smtp://host", "--webhook-secret", "x"),
            "--webhook-secret has an effect only with",
        ),
        (("--deliver", "smtp://host", "--spool", "/dev/null/x"), "can't write to --spool"),
        (("--deliver", "smtp://host", "--spool", ""), "--spool must not be empty"),
        (("--deliver", "http://host", "--webhook-secret", ""), "--webhook-secret must not be em"),
        (("--deliver", "smtp://[::1"), "--deliver: the URL must be smtp://HOST:PORT"),
        (("--deliver", "http://[::1"), "--deliver: the URL must be http://HOST/PATH"),
        (("--deliver", "http://me:secret@host:x/"), "not 'http://***@host:x/'"),
        (("--deliver", "smtp://me:secret@host/x"), "not 'smtp://***@host/x'"),
        (("--deliver", "smpt://me:secret@host"), "not 'smpt://***@host'"),
        (("--deliver", "me:secret@host"), "not '***@host'"),
    ],
)
def test_what_can_not_be_used_is_one_line(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    done = run(tmp_path, *ANYWHERE, *NO_PAGE, *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert "secret@" not in done.stderr
    assert not list(tmp_path.iterdir())
