"""The program smtp-blinker with --deliver, --contents and --events, before real engines."""

from __future__ import annotations

import json
import signal
import smtplib
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis
from support import HOST, LIBRARY, SECONDS, free_port, run, wait_until
from support.cli import ANYWHERE, SmtpBlinker

from smtp_blinker.serve import asks_for_queue
from smtp_blinker.stores import Envelope
from smtp_blinker.stores.amqp import Broker

from .engines import RabbitMQ, Redis


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RabbitMQ, Redis]]:
    with RabbitMQ(tmp_path_factory.mktemp("r")) as one, Redis(tmp_path_factory.mktemp("s")) as two:
        yield one, two


class Program(SmtpBlinker):
    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, *ANYWHERE, "--http", f"{HOST}:0", *options)

    def send(self, content: bytes) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, "client.example", SECONDS) as smtp:
            smtp.sendmail("bob@example.net", ["ann@example.com"], content)

    def ready(self) -> str:
        try:
            return self.get("/healthz/ready")
        except urllib.error.HTTPError as exc:
            return exc.read().decode()

    def get(self, path: str) -> str:
        """What the web page answers."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            return str(answer.read().decode())

    def end(self) -> int:
        return self.signal(signal.SIGTERM)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*options: str) -> Program:
        started.append(Program(tmp_path, *options))
        return started[-1]

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def test_mail_goes_to_the_queue_and_events_to_the_stream(
    engines: tuple[RabbitMQ, Redis], start: Callable[..., Program], tmp_path: Path
) -> None:
    rabbitmq, server = engines
    program = start(
        *("--deliver", f"{rabbitmq.url}?routing_key=first", f"--events={server.url}"),
        *("--contents", str(tmp_path / "contents"), "--name", "node-1"),
    )
    assert program.said[0].endswith(f"mail goes to amqp://127.0.0.1:{rabbitmq.port}/")
    program.send(b"Subject: Hi\r\n\r\nHello\r\n")
    program.send(b"x" * 200000 + b"\r\n")
    wait_until(lambda: program.ready() == "ok\n", "it is ready")
    connection = Broker.parse(rabbitmq.url).connect()
    channel = connection.channel()
    bodies = [bytes(channel.basic_get("first", no_ack=True).body) for _ in range(2)]
    connection.close()
    (small, content), (large, nothing) = (
        (Envelope.from_json(head), rest) for head, _, rest in (b.partition(b"\n") for b in bodies)
    )
    assert (content, nothing) == (b"Subject: Hi\r\n\r\nHello\r\n", b"")
    assert small.content_key is None
    assert (tmp_path / "contents" / str(large.content_key)).stat().st_size == 200002
    assert not (tmp_path / "Maildir").exists()
    assert program.end() == 0
    assert "Traceback" not in program.log.read_text()
    assert "MonkeyPatchWarning" not in program.log.read_text()
    with redis.Redis.from_url(server.url) as client:
        events = [json.loads(fields[b"event"]) for _, fields in client.xrange("smtp.events")]
    assert [event["signal"] for event in events].count("message") == 2
    assert {event["node"] for event in events} == {"node-1"}


def test_it_starts_while_the_engine_is_away_and_is_ready_once_it_is_back(
    tmp_path: Path, start: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Redis(tmp_path / "redis")
    try:
        program = start("--deliver", f"{engine.url}?stream=other")
        wait_until(lambda: "Redis is away" in program.ready(), "it says why it is not ready")
        with pytest.raises(smtplib.SMTPDataError) as refused:
            program.send(b"Hello\r\n")
        assert refused.value.smtp_code == 451
        engine.start()
        wait_until(lambda: program.ready() == "ok\n", "it is ready")
        program.send(b"Hello\r\n")
        with redis.Redis.from_url(engine.url) as client:
            assert client.xlen("other") == 1
    finally:
        engine.end()


@pytest.mark.parametrize("make", [RabbitMQ, Redis])
def test_it_is_ready_while_the_engine_is_there_or_mail_may_be_spooled(
    tmp_path: Path, start: Callable[..., Program], make: type[RabbitMQ | Redis]
) -> None:
    with make(tmp_path / "engine") as engine:
        program = start("--deliver", engine.url, "--size", "10M")
        wait_until(lambda: program.ready() == "ok\n", "it is ready")
        program.send(b"Hello\r\n")
        shown = engine.url.replace("guest:guest@", "")
        assert program.get("/metrics").count(f'{{outcome="accepted",store="{shown}"}} 1.0') == 1
        engine.kill()
        away = f"can't store mail: {make.__name__} is away\n"
        wait_until(lambda: program.ready() == away, "it is not ready")
        spools = start("--deliver", engine.url, "--size", "10M", "--spool", str(tmp_path / "spool"))
        spools.send(b"Hello\r\n")
        assert spools.ready() == "ok\n"
        shown = f'smtp_spool_messages{{spool="{tmp_path / "spool"}"}} 1.0'
        assert shown in spools.get("/metrics")


def test_it_is_not_ready_without_its_exchange(
    engines: tuple[RabbitMQ, Redis], start: Callable[..., Program]
) -> None:
    program = start("--deliver", f"{engines[0].url}?exchange=no-such", "--size", "10M")
    wait_until(lambda: "RabbitMQ is away" in program.ready(), "it is not ready")
    program.wait_for_log("no exchange 'no-such'")


def test_it_is_not_ready_where_its_stream_is_a_list(
    engines: tuple[RabbitMQ, Redis], start: Callable[..., Program]
) -> None:
    with redis.Redis.from_url(engines[1].url) as client:
        client.lpush("celery", "a task")
    program = start("--deliver", f"{engines[1].url}?stream=celery")
    wait_until(lambda: "Redis is away" in program.ready(), "it is not ready")
    program.wait_for_log("the key 'celery' of Redis is a list, not a stream")


def test_it_is_not_ready_while_large_contents_have_no_place(
    engines: tuple[RabbitMQ, Redis], start: Callable[..., Program], tmp_path: Path
) -> None:
    contents = tmp_path / "contents"
    program = start("--deliver", f"{engines[1].url}?stream=third", "--contents", str(contents))
    wait_until(lambda: program.ready() == "ok\n", "it is ready")
    assert list(contents.iterdir()) == []
    contents.rmdir()
    contents.touch()
    wait_until(lambda: program.ready() == "can't store mail: Redis is away\n", "it is not ready")
    assert "Redis can't be used: the contents of large messages are away: " in (
        program.log.read_text()
    )
    contents.unlink()
    contents.mkdir()
    wait_until(lambda: program.ready() == "ok\n", "it is ready again")


def queued(engine: RabbitMQ | Redis) -> list[tuple[Envelope, bytes]]:
    """What the queue of the name "mail" has, in its order."""
    if isinstance(engine, Redis):
        with redis.Redis.from_url(engine.url) as client:
            entries = client.xrange("mail")
        return [
            (Envelope.from_json(fields[b"envelope"]), fields[b"content"]) for _, fields in entries
        ]
    found = []
    with Broker.parse(engine.url).connect() as connection:
        channel = connection.channel()
        while message := channel.basic_get("mail"):
            head, _, content = bytes(message.body).partition(b"\n")
            found.append((Envelope.from_json(head), content))
    return found


@pytest.mark.timeout(300)  # it waits for the engine's starts
@pytest.mark.parametrize("make", [RabbitMQ, Redis])
def test_what_was_spooled_comes_in_its_order_and_whole_when_the_engine_dies_meanwhile(
    tmp_path: Path, start: Callable[..., Program], make: type[RabbitMQ | Redis]
) -> None:
    numbers = [*map(str, range(300))]
    spool = tmp_path / "spool"

    def waiting() -> int:
        return len(list((spool / "queue").iterdir()))

    with make(tmp_path / "engine") as engine:
        program = start("--deliver", engine.url, "--size", "10M", "--spool", str(spool))
        program.send(b"Subject: before\r\n\r\n")
        engine.restart()  # so that RabbitMQ has the queue's name on the disk
        engine.kill()
        with smtplib.SMTP("127.0.0.1", program.port, "client.example", SECONDS) as smtp:
            for number in numbers:
                # One that RabbitMQ gets alone is in the middle.
                content = f"Subject: {number}\r\n\r\n" + "x" * 300000 * (number == "150")
                smtp.sendmail("bob@example.net", ["ann@example.com"], content.encode())
        assert waiting() == len(numbers)
        engine.start()
        wait_until(lambda: waiting() < len(numbers) - 1, "some have left the spool")
        engine.kill()
        engine.start()
        wait_until(lambda: waiting() == 0, "all have")
        entries = queued(engine)
    assert entries[0][1] == b"Subject: before\r\n\r\n"
    found = [
        content.split(b"\r\n")[0].removeprefix(b"Subject: ").decode() for _, content in entries
    ]
    # A message whose answer was lost with the engine is there twice, with one content_id. Which
    # of the first two and one more comes first while the engine comes back is open.
    once = list(dict.fromkeys(found[1:]))
    assert sorted(once) == sorted(numbers)
    steps = [int(after) - int(before) for before, after in pairwise(once)]
    assert sum(step != 1 for step in steps) <= 6, once
    assert len({envelope.content_id for envelope, _ in entries}) == len(numbers) + 1
    assert len({envelope.id for envelope, _ in entries}) == len(numbers) + 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--deliver", "kafka://h/"), "--deliver takes a URL of http://, https://, smtp://"),
        (("--deliver", "amqp://h/", "--size", "17M"), "--size must be 16777216 or less, which Ra"),
        (("--deliver", "amqp:///", "--size", "1M"), "--deliver: a RabbitMQ URL looks like"),
        (("--deliver", "amqp://h/", "--contents", "/proc/x"), "can't write to --contents /proc/x"),
        (("--events", "http://h/"), "--events: FleetEvents takes amqp://"),
        (("--deliver", "redis://[::1"), "--deliver: a Redis URL looks like"),
        (("--deliver", "redis://h/?stream="), "--deliver: stream must name a stream"),
        (("--deliver", "amqp://h/?routing_key=", "--size", "1M"), "routing_key must name a queue"),
        (("--deliver", f"amqp://h/?routing_key={'x' * 256}", "--size", "1M"), "240 bytes at most"),
        *(
            (("--deliver", "redis://h/", "--contents", contents), f"--contents{said}")
            for contents, said in [
                ("", " takes a folder or s3://BUCKET/PREFIX/, not ''"),
                ("gs://bucket/", " takes a folder or s3://BUCKET/PREFIX/, not 'gs://bucket/'"),
                ("http://me:secret@h/", " takes a folder or s3://BUCKET/PREFIX/, not 'http://***@"),
                ("file://host/path", " takes file:///PATH without a host"),
                ("s3://", ": bucket must be the name or the ARN of a bucket, not ''"),
                ("S3://a!b/", ": bucket must be the name or the ARN of a bucket, not 'a!b'"),
            ]
        ),
        *(
            (("--rate", "1/minute", "--counters", url), f"--counters: {said}")
            for url, said in [
                ("http://h/", "a Redis URL looks like redis://USER:PASSWORD@HOST:PORT/DB"),
                ("redis://[::1", "a Redis URL looks like redis://USER:PASSWORD@HOST:PORT/DB"),
                ("redis://h:x", "a Redis URL looks like redis://USER:PASSWORD@HOST:PORT/DB"),
                ("redis://h/x", "the path of a Redis URL is the number of a database, not 'x'"),
            ]
        ),
    ],
)
def test_what_can_not_be_used_is_one_line(
    tmp_path: Path, options: tuple[str, ...], problem: str
) -> None:
    port = str(free_port())
    words: tuple[Any, ...] = ("-l", f"127.0.0.1:{port}", "--http", "off", "-m", tmp_path, *options)
    done = run(sys.executable, "-m", "smtp_blinker", *words, PYTHONPATH=LIBRARY, folder=tmp_path)
    assert done.returncode == 2
    assert problem in done.stderr
    assert not list(tmp_path.iterdir())
    assert done.stderr.count("\n") == 1


def test_sockets_are_patched_for_queues_only() -> None:
    assert asks_for_queue(["--deliver=amqp://h/?routing_key=a"])
    assert asks_for_queue([None, "redis://h"])
    assert asks_for_queue(["--deliver", "REDIS://h"])
    assert asks_for_queue(["--events", "unix:///run/redis.sock"])
    assert not asks_for_queue(["-l", "smtp://127.0.0.1:2525", "--maildir=amqp", None, ""])
