"""The server in a process that is monkey patched first ("patched"), last ("late") or not at all.

Usage: patching.py patched|late|unpatched case certificate authority
"""

# ruff: noqa: E402

from __future__ import annotations

import sys

MODE, CASE, CERTIFICATE, AUTHORITY = sys.argv[1:]

if MODE == "patched":
    from gevent import monkey

    monkey.patch_all()

import smtplib
import socket
import ssl
import threading
import time
import urllib.request
from typing import Any

import gevent
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from gevent.threadpool import ThreadPool

from smtp_blinker import SMTPServer

if MODE == "late":
    from gevent import monkey

    monkey.patch_all()

PATCHED = MODE != "unpatched"
HOST = "127.0.0.1"
SECONDS = 30.0
CONTENT = b"Subject: hello\r\n\r\n.\r\nworld\r\n"
FAST = 10

mails: list[bytes] = []
#: For clients that block; not the hub's own pool, which hooks and look-ups use.
pool = ThreadPool(2 * FAST)


def store(stream: Any, session: Any) -> None:
    mails.append(stream.read())


def make(**options: Any) -> Any:
    return SMTPServer((HOST, 0), disable_reverse_lookup=True, on_data=store, **options)


def secure() -> dict[str, Any]:
    return {"certfile": CERTIFICATE, "keyfile": CERTIFICATE}


def send(server: Any, sender: str = "a@example.org", tls: bool = False) -> None:
    with smtplib.SMTP("localhost", server.server_port, "client.example", SECONDS) as smtp:
        if tls:
            smtp.starttls(context=ssl.create_default_context(cafile=AUTHORITY))
        smtp.sendmail(sender, ["b@example.com"], CONTENT)


def spawn(function: Any, *args: Any) -> Any:
    return gevent.spawn(function, *args) if PATCHED else pool.spawn(function, *args)


def client(*args: Any) -> Any:
    """A running `send`: in a greenlet where sockets are patched, else in a thread."""
    return spawn(send, *args)


def finish(clients: list[Any]) -> None:
    for one in clients:
        one.get(timeout=SECONDS)


def case_plain() -> None:
    """Many clients, some of them with STARTTLS, in the hub of the server."""
    server = make(**secure())
    server.start()
    finish([client(server, "a@example.org", number % 2 == 1) for number in range(2 * FAST)])
    server.stop()
    assert mails == [CONTENT] * (2 * FAST), mails
    assert not server.connections


def case_slow_hook() -> None:
    """A hook that waits stalls its own client only."""
    fast_are_done = Event()

    def wait(address: Any, session: Any) -> None:
        if address.address.startswith("slow"):
            while not fast_are_done.is_set():
                # What a program would write; only cooperative where it is patched.
                (time.sleep if PATCHED else gevent.sleep)(0.005)

    server = make(on_mail_from=wait)
    server.start()
    slow = [client(server, f"slow{number}@example.org") for number in range(3)]
    finish([client(server) for _ in range(FAST)])
    assert len(mails) == FAST, len(mails)
    fast_are_done.set()
    finish(slow)
    server.stop()
    assert len(mails) == FAST + 3, len(mails)


def case_request_in_hook() -> None:
    """A hook asks an HTTP server that lives in the same hub: blocking would be a deadlock."""

    def application(environ: Any, start_response: Any) -> list[bytes]:
        gevent.sleep(0.01)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"yes"]

    def fetch(url: str) -> bytes:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answer: bytes = direct.open(url, timeout=SECONDS).read()
        return answer

    def ask(address: Any, session: Any) -> None:
        url = f"http://{HOST}:{http.server_port}/{address.address}"
        answer = fetch(url) if PATCHED else gevent.get_hub().threadpool.apply(fetch, (url,))
        assert answer == b"yes", answer

    http = WSGIServer((HOST, 0), application, log=None)
    http.start()
    server = make(on_rcpt_to=ask)
    server.start()
    finish([client(server) for _ in range(FAST)])
    server.stop()
    http.stop()
    assert mails == [CONTENT] * FAST, mails


def case_run_in_thread() -> None:
    """Clients in the main thread and in threads, while the server runs in its own."""
    seen: list[threading.Thread] = []
    server = make(on_connect=lambda session: seen.append(threading.current_thread()), **secure())
    for _ in range(2):
        mails.clear()
        with server.run_in_thread():
            send(server)
            send(server, tls=True)
            threads = [threading.Thread(target=send, args=(server,)) for _ in range(FAST)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(SECONDS)
        assert mails == [CONTENT] * (FAST + 2), mails
        assert not server.connections
        try:
            socket.create_connection((HOST, server.server_port), SECONDS).close()
        except OSError:
            pass
        else:
            raise AssertionError("it still listens")
    if not PATCHED:
        assert threading.main_thread() not in seen


def case_idle_tls_client() -> None:
    """A client that stops inside its handshake, or says nothing, holds nobody up."""
    server = make(secure=True, handshake_timeout=SECONDS, **secure())
    server.start()
    idle = [socket.create_connection((HOST, server.server_port)) for _ in range(3)]
    idle[0].sendall(b"\x16\x03\x01\x02\x00")

    def secure_client() -> None:
        context = ssl.create_default_context(cafile=AUTHORITY)
        with smtplib.SMTP_SSL(
            "localhost", server.server_port, "client.example", timeout=SECONDS, context=context
        ) as smtp:
            smtp.sendmail("a@example.org", ["b@example.com"], CONTENT)

    finish([spawn(secure_client) for _ in range(FAST)])
    assert mails == [CONTENT] * FAST, mails
    for sock in idle:
        sock.close()
    server.stop()


if __name__ == "__main__":
    globals()[f"case_{CASE}"]()
    print("done")
