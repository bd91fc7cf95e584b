"""The other side's client library alone, in a loop: the ceiling of a store.

python bare.py URL SECONDS [--connections N] [--size OCTETS] [--low-level]

Each connection hands over an entry, waits until the other side has confirmed it, and hands over the
next, with the documented interface of py-amqp for amqp://, redis-py for redis://, http.client for
http://, smtplib for smtp://. What is handed over is as large as what the store makes of a message
of that size. With --low-level, redis:// uses redis-py's connections without its client. Prints
JSON, as sender.py does.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import http.client  # noqa: E402
import json  # noqa: E402
import smtplib  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import cache  # noqa: E402
from typing import Any  # noqa: E402
from urllib.parse import urlsplit  # noqa: E402

import gevent  # noqa: E402
from sender import content_of, figures  # noqa: E402

#: Octets of an envelope as JSON, and of the other parts of a form.
ENVELOPE, FORM = 760, 400


def publish(url: str, content: bytes) -> Callable[[], Any]:
    """To RabbitMQ, as AMQPStore does it: persistent, mandatory, confirmed.

    With `confirm_publish`, `basic_publish` returns when RabbitMQ has confirmed the message. Each
    greenlet has a connection, because py-amqp's can't be shared.
    """
    import amqp

    host = urlsplit(url).netloc.rpartition("@")[2]
    connection = amqp.Connection(host, confirm_publish=True)
    connection.connect()
    channel = connection.channel()
    body = b"x" * ENVELOPE + b"\n" + content

    def hand_over() -> None:
        message = amqp.Message(
            body,
            content_type="application/vnd.smtp-blinker.entry",
            delivery_mode=2,
            message_id="0123456789abcdef-1",
            timestamp=int(time.time()),
            application_headers={"content_id": "0" * 64},
        )
        channel.basic_publish(message, "", "mail", mandatory=True)

    return hand_over


@cache
def redis_client(url: str) -> Any:
    """One client for all greenlets; its pool makes a connection for each that needs one."""
    import redis

    return redis.Redis.from_url(url)


def fields_of(content: bytes) -> dict[str, str | bytes]:
    return {"content_id": "0" * 64, "envelope": b"x" * ENVELOPE, "content": content}


def add(url: str, content: bytes) -> Callable[[], Any]:
    """To a stream of Redis."""
    client, fields = redis_client(url), fields_of(content)

    def hand_over() -> None:
        client.xadd("mail", fields)

    return hand_over


def add_low_level(url: str, content: bytes) -> Callable[[], Any]:
    """The same without redis-py's client: no pool, no retries, no check of the connection."""
    pool = redis_client(url).connection_pool
    connection = pool.connection_class(**pool.connection_kwargs)
    connection.connect()
    words = [word for field in fields_of(content).items() for word in field]

    def hand_over() -> None:
        connection.send_command("XADD", "mail", "*", *words)
        connection.read_response()

    return hand_over


def post(url: str, content: bytes) -> Callable[[], Any]:
    """To an HTTP endpoint."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"x" * (ENVELOPE + FORM) + content
    fields = {
        "Content-Type": "multipart/form-data; boundary=smtp-blinker",
        "Idempotency-Key": "0" * 64,
        "User-Agent": "smtp_blinker",
    }

    def hand_over() -> None:
        connection.request("POST", parts.path, body, fields)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status

    return hand_over


def relay(url: str, content: bytes) -> Callable[[], Any]:
    """To the next hop."""
    parts = urlsplit(url)
    smtp = smtplib.SMTP(parts.hostname or "", parts.port or 25, "client.example")
    text = b"Received: " + b"x" * 150 + b"\r\n" + content

    def hand_over() -> None:
        smtp.sendmail("sender@example.org", ["recipient@example.com"], text)

    return hand_over


KINDS = {"amqp": publish, "redis": add, "http": post, "smtp": relay}
LOW_LEVEL = {"redis": add_low_level}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--low-level", action="store_true")
    options = parser.parse_args()
    content = next(content_of(options.size)).removesuffix(b".\r\n")
    kind = (LOW_LEVEL if options.low_level else KINDS)[urlsplit(options.url).scheme]
    loops = [kind(options.url, content) for _ in range(options.connections)]
    times: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()

    def run(hand_over: Callable[[], Any]) -> None:
        before = time.perf_counter()
        while before - start < options.seconds:
            hand_over()
            after = time.perf_counter()
            times.append(after - before)
            before = after

    gevent.joinall([gevent.spawn(run, loop) for loop in loops], raise_error=True)
    print(json.dumps(figures(times, time.perf_counter() - start, time.process_time() - cpu)))


if __name__ == "__main__":
    main()
