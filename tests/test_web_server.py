"""The HTTP server of the page: clients that are slow in every place don't keep others out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.pywsgi import WSGIHandler
from support import SECONDS, poll, tcp_address

from smtp_blinker.web import PageServer, create_app

HEALTH = b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
LARGE = 16 * 2**20


@contextmanager
def page(folder: Path, **limits: Any) -> Iterator[PageServer]:
    """A server with a message of `LARGE` octets, whose id is "1.large"."""
    for name in ("tmp", "new", "cur"):
        (folder / name).mkdir()
    (folder / "new" / "1.large").write_bytes(b"Subject: large\n\n" + b"x" * LARGE)
    app = create_app((), folder)
    server = PageServer(("127.0.0.1", 0), app, **limits)
    server.start()
    try:
        yield server
    finally:
        server.stop(timeout=1)
        app.extensions["smtp_blinker"].detach()


def clients(server: PageServer) -> int:
    return len(server.pool)  # type: ignore[arg-type]


def connect(server: PageServer, octets: bytes = b"") -> Any:
    client = socket.create_connection(tcp_address(server), timeout=SECONDS)
    client.sendall(octets)
    return client


def answer(client: Any) -> bytes:
    """All that comes until the connection ends, in whatever way."""
    received = b""
    with suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received


#: What a client has sent when it becomes slow.
SLOW = {
    "nothing": b"",
    "request line": b"GET /healthz/li",
    "header": b"GET / HTTP/1.1\r\nHost: local",
    "end of the header": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    "between requests": b"GET /healthz/live HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "body": b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx",
    "chunk": b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5",
    "trailer": b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ",
    "answer": b"GET /api/messages/1.large/raw HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "waiting": b"GET /api/messages?q=x&wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_a_monitor_is_answered_when_all_places_are_taken(
    tmp_path: Path, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with page(tmp_path, max_clients=4) as server:
        slow = [connect(server, sent) for _ in range(4)]
        poll(lambda: clients(server) in (0, 4))  # a body is answered, and the end
        for _ in range(3):
            assert answer(connect(server, HEALTH)).startswith(b"HTTP/1.1 200 ")
        poll(lambda: clients(server) <= 4)
        for client in slow:
            client.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("place", sorted(SLOW.keys() - {"waiting"}))
def test_a_slow_request_ends_in_silence(
    tmp_path: Path,
    place: str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with page(tmp_path, timeout=0.05) as server:
        client = connect(server, SLOW[place])

        def drip() -> None:
            with suppress(OSError):
                while True:
                    client.sendall(b"x")
                    gevent.sleep(0.01)

        dripping = gevent.spawn(drip)
        if place == "answer":
            assert client.recv(1)
        else:
            answer(client)
        poll(lambda: not server.pool)
        dripping.join(SECONDS)
        client.close()
    assert capfd.readouterr() == ("", "")
    assert [record.getMessage() for record in caplog.records] == []


def test_the_end_of_a_cut_off_header_is_no_request(tmp_path: Path) -> None:
    with page(tmp_path, timeout=0.05) as server:
        client = connect(server, b"DELETE /api/messages HTTP/1.1\r\nHost: localhost\r\n")
        assert answer(client) == b""
        assert (tmp_path / "new" / "1.large").exists()


def test_who_moves_stays_and_who_stands_still_goes(tmp_path: Path) -> None:
    def ask() -> None:
        reader.sendall(SLOW["between requests"])
        received = b""
        while not received.endswith(b"ok\n"):
            piece = reader.recv(65536)
            assert piece
            received += piece

    with page(tmp_path, max_clients=3) as server:
        reader = connect(server)
        ask()
        slow = [connect(server, b"GET / HT"), connect(server, b"GET / HT")]
        poll(lambda: clients(server) == 3)
        ask()
        assert answer(connect(server, HEALTH)).startswith(b"HTTP/1.1 200 ")
        assert answer(slow[0]) == b""
        ask()
        slow[1].close()
        reader.close()


def test_pages_with_events_stay_while_there_are_others(tmp_path: Path) -> None:
    events = b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with page(tmp_path, max_clients=3) as server:
        readers = [connect(server, events) for _ in range(2)]
        for reader in readers:
            assert b"text/event-stream" in reader.recv(65536)
        slow = [connect(server, b"GET / HT") for _ in range(5)]
        assert answer(slow[0]) == b""
        assert answer(connect(server, HEALTH)).startswith(b"HTTP/1.1 200 ")
        for _ in range(2):
            reader = connect(server, events)
            assert b"text/event-stream" in reader.recv(65536)  # until then it is no page
            readers.append(reader)
        # Where there are none but pages, the first of them goes; the browser connects again.
        poll(lambda: clients(server) == 3)
        answer(readers[0])
        assert answer(connect(server, HEALTH)).startswith(b"HTTP/1.1 200 ")
        for client in [*slow, *readers]:
            client.close()


def test_a_page_is_streamed_longer_than_a_request_may_last(tmp_path: Path) -> None:
    with page(tmp_path, timeout=0.05) as server:
        reader = connect(server, b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        slow = connect(server)
        poll(lambda: clients(server) == 2)
        poll(lambda: clients(server) == 1)  # the slow one's time is over
        (tmp_path / "new" / "2.x").write_bytes(b"Subject: x\n\n")
        received = b""
        while b'"total": 2' not in received:
            received += reader.recv(65536)
        slow.close()
        reader.close()


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n",
        b"GET /\r\nforged: line HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1\r\n\r\n",
        b"GET / HTTP/" + b"1" * 5000 + b".1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: \xb2\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"b" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_request_is_one_line_of_the_log_at_most(
    tmp_path: Path,
    octets: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with page(tmp_path) as server:
        client = connect(server, octets)
        assert answer(client).startswith((b"HTTP/1.1 4", b""))
        poll(lambda: not server.pool)
    assert capfd.readouterr() == ("", "")
    assert len(caplog.records) <= 1
    for record in caplog.records:
        assert record.exc_info is None
        assert record.getMessage().isprintable()


def test_nothing_follows_the_head_of_an_answer(tmp_path: Path) -> None:
    head = b"HEAD /api/messages/1.large/raw HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with page(tmp_path) as server, connect(server, head) as client:
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        client.sendall(HEALTH)
        received += answer(client)
    first, second, health = received.split(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 200 ")
    assert health == b"ok\n"


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("http://localhost/healthz/live", "elsewhere.example", 200),
        ("http://localhost:8025/api/messages?limit=1", "localhost", 200),
        ("HTTPS://127.0.0.1/api/messages/1.large", "elsewhere.example", 200),
        ("http://localhost", "localhost", 200),
        ("http://localhost?q=x", "localhost", 200),
        ("http://elsewhere.example/", "localhost", 421),
        ("http:///healthz/live", "localhost", 421),
        ("ftp://localhost/healthz/live", "localhost", 404),
    ],
)
def test_a_request_may_name_the_host_in_its_target(
    tmp_path: Path, target: str, host: str, status: int
) -> None:
    """RFC 9112 section 3.2.2: then the Host field is ignored."""
    octets = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    with page(tmp_path) as server, connect(server, octets) as client:
        assert answer(client).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_download_says_its_length(tmp_path: Path) -> None:
    request = (
        b"GET /api/messages/1.large/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    with page(tmp_path) as server:
        for path in (b"raw", b"parts/0"):
            with connect(server, request % path) as client:
                head, _, content = answer(client).partition(b"\r\n\r\n")
            assert f"Content-Length: {len(content)}".encode() in head.split(b"\r\n")
            assert b"Transfer-Encoding" not in head
            assert len(content) >= LARGE


def test_an_answer_is_sent_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each system call wakes the client, which costs more than the rest of a small answer."""
    sent: list[bytes] = []
    send = WSGIHandler._sendall  # type: ignore[attr-defined]

    def record(handler: WSGIHandler, data: bytes) -> None:
        sent.append(data)
        send(handler, data)

    monkeypatch.setattr(WSGIHandler, "_sendall", record)
    with page(tmp_path) as server, connect(server, HEALTH) as client:
        received = answer(client)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"\r\n\r\nok\n")
    assert sent == [received]
