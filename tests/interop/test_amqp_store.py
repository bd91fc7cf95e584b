"""Mail into RabbitMQ: what a real broker says, and what becomes of mail while it can't."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from support import SECONDS, wait_until

from smtp_blinker.stores import Envelope
from smtp_blinker.stores.amqp import AMQPStore, Broker
from smtp_blinker.stores.circuit import FAILURES

from .engines import RabbitMQ
from .nodes import CONTENT, Node, Start, accepted_amid_kills, check_silence


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    engine = RabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    (engine.folder / "rabbitmq.conf").write_text("max_message_size = 3000000\n")
    with engine:
        yield engine


@pytest.fixture
def start(engine: RabbitMQ, queue: str, stack: ExitStack) -> Start:
    def start(options: dict[str, Any] | None = None, **keywords: Any) -> Node:
        keywords.setdefault("routing_key", queue)
        options = {"size": 2 * 2**20} if options is None else options
        return stack.enter_context(Node("AMQPStore", engine.url, keywords, **options))

    return start


class Reader:
    """What a program without the library does with a queue."""

    def __init__(self, engine: RabbitMQ, queue: str) -> None:
        self.connection = Broker.parse(engine.url).connect()
        self.channel = self.connection.channel()
        self.queue = queue

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()

    def get(self) -> Any:
        return self.channel.basic_get(self.queue, no_ack=True)

    def entries(self) -> list[tuple[Envelope, bytes]]:
        found = []
        while message := self.get():
            head, _, content = message.body.partition(b"\n")
            found.append((Envelope.from_json(head), content))
        return found


def test_a_message_is_an_entry_of_a_durable_quorum_queue(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    node = start()
    content = CONTENT + bytes(range(128, 256)) + b"\r\n.\r\n"
    told = node.send(content)
    rows = engine.control("list_queues", "--quiet", "name", "type", "durable", "arguments")
    [row] = [row for row in rows.splitlines() if row.startswith(f"{queue}\t")]
    assert row.split("\t")[1:3] == ["quorum", "true"]
    assert f'"x-dead-letter-routing-key","{queue}.dead"' in row
    with Reader(engine, queue) as reader:
        message = reader.get()
    head, _, body = bytes(message.body).partition(b"\n")
    envelope = Envelope.from_json(head)
    assert body == content
    assert told == f"250 2.0.0 queued as {envelope.id}"
    assert envelope.mail_from.address == "bob@example.net"
    assert [path.address for path in envelope.rcpt_to] == ["ann@example.com"]
    assert (envelope.size, envelope.client.remote_address) == (len(content), "127.0.0.1")
    assert message.properties["message_id"] == envelope.id
    assert message.properties["delivery_mode"] == 2
    assert message.properties["application_headers"]["content_id"] == envelope.content_id


def test_a_dead_letter_stays_however_often_somebody_looks_at_it(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    """RabbitMQ 4 removes by default what was put back twenty times."""
    assert start().send().startswith("250 ")
    rows = engine.control("list_queues", "--quiet", "name", "arguments").splitlines()
    [row] = [row for row in rows if row.startswith(f"{queue}.dead\t")]
    assert '"x-delivery-limit",2147483647' in row, "what an older RabbitMQ wouldn't show below"
    with Reader(engine, f"{queue}.dead") as reader:
        channel = reader.channel
        channel.basic_publish_confirm(amqp.Message(b"dead"), "", reader.queue)
        for look in range(30):
            found = wait_until(lambda: channel.basic_get(reader.queue), f"look {look} sees it")
            channel.basic_reject(found.delivery_tag, requeue=True)


def test_what_a_client_sends_again_has_another_id_and_the_same_content_id(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    node = start()
    node.send()
    node.send()
    node.send(sender="eve@example.net")
    with Reader(engine, queue) as reader:
        first, again, other = (envelope for envelope, _ in reader.entries())
    assert first.id != again.id
    assert first.content_id == again.content_id != other.content_id


def test_many_messages_at_once_find_a_queue_that_is_not_there_yet(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    node = start()
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(node.send())) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert [answer[:4] for answer in answers] == ["250 "] * 16, node.lines
    with Reader(engine, queue) as reader:
        assert len(reader.entries()) == 16


def test_large_content_is_among_the_contents_before_its_entry_is_there(
    engine: RabbitMQ, queue: str, start: Start, tmp_path: Path
) -> None:
    node = start({"size": 0}, contents=str(tmp_path / "contents"), inline=100000)
    small, large = b"x" * 99998 + b"\r\n", b"y" * 8000000 + b"\r\n"
    assert node.send(small).startswith("250 ")
    assert node.send(large).startswith("250 ")
    with Reader(engine, queue) as reader:
        (envelope, content), (referring, nothing) = reader.entries()
    assert (envelope.content_key, content, nothing) == (None, small, b"")
    assert referring.content_key is not None
    assert (tmp_path / "contents" / referring.content_key).read_bytes() == large
    assert referring.size == len(large)


def test_a_message_without_contents_is_spooled_and_published_whole(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    content = b"z" * 1900000 + b"\r\n"
    assert start().send(content).startswith("250 ")
    with Reader(engine, queue) as reader:
        [(envelope, stored)] = reader.entries()
    assert stored == content
    assert envelope.content_key is None


def test_what_is_larger_than_the_engine_takes_is_refused_at_mail(
    engine: RabbitMQ, start: Start
) -> None:
    node = start({"size": 2**20}, max_size=2**20)
    with node.client() as smtp:
        smtp.ehlo()
        assert smtp.esmtp_features["size"] == str(2**20)
        assert smtp.mail("bob@example.net", ["SIZE=1048577"])[0] == 552
    told = node.send(b"x" * (2**20 - 12) + b"\r\n")  # which leaves no room for the envelope
    assert told == "552 5.3.4 Message is larger than the queue takes"


def test_while_an_alarm_lasts_nothing_more_is_sent(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    """RabbitMQ would read all of it when the alarm is over, a duplicate for each try."""
    node = start()
    assert node.send(b"before\r\n").startswith("250 ")
    engine.control("set_vm_memory_high_watermark", "0.00001")
    try:
        for _ in range(FAILURES - 1):
            started = time.monotonic()
            assert node.send(b"meanwhile\r\n").startswith("451 4.3.0 ")
            assert time.monotonic() - started < 15, "the deadline is 30 s"
        alarm = "Unavailable: RabbitMQ takes no messages: it has raised an alarm"
        wait_until(lambda: node.lines.count(alarm) == FAILURES - 1, alarm)
    finally:
        engine.control("set_vm_memory_high_watermark", "0.6")
    wait_until(lambda: node.send(b"after\r\n").startswith("250 "))
    with Reader(engine, queue) as reader:
        contents = [content for _, content in reader.entries()]
    assert contents.count(b"before\r\n") == contents.count(b"after\r\n") == 1
    assert contents.count(b"meanwhile\r\n") <= 1, "the one that showed that there is an alarm"


@pytest.mark.parametrize("size", [0, 2**20 + 1])
def test_a_size_that_the_engine_does_not_take_is_an_error_at_the_start(
    engine: RabbitMQ, start: Start, size: int
) -> None:
    with pytest.raises(AssertionError, match="AMQPStore takes messages of up to 1048576 bytes"):
        start({"size": size}, max_size=2**20)


def test_a_broker_that_takes_less_than_we_were_told_refuses_for_good(
    engine: RabbitMQ, start: Start
) -> None:
    node = start({"size": 5 * 2**20}, max_size=16 * 2**20)
    assert node.send(b"x" * 4000000 + b"\r\n").startswith("552 5.3.4 ")
    assert node.send().startswith("250 "), "and the next connection is a new one"


def test_an_unroutable_message_is_refused_and_a_deleted_queue_comes_back(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    node = start()
    assert node.send().startswith("250 ")
    engine.control("delete_queue", queue)
    assert node.send().startswith("451 4.3.0 ")
    node.wait_for("Unavailable: RabbitMQ has no queue for routing key")
    assert node.send().startswith("250 ")


def test_an_exchange_of_the_program_s_own_is_used_and_nothing_declared(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    node = start(exchange="amq.topic", routing_key=f"{queue}.new")
    assert node.send().startswith("451 "), "no queue is bound yet"
    with Reader(engine, queue) as reader:
        reader.channel.queue_declare(queue, durable=True, auto_delete=False)
        reader.channel.queue_bind(queue, "amq.topic", f"{queue}.*")
        assert node.send().startswith("250 ")
        assert len(reader.entries()) == 1
    absent = start(exchange="no-such-exchange")
    assert absent.send().startswith("451 ")
    absent.wait_for("no exchange 'no-such-exchange'")


def test_a_broker_that_does_not_answer_is_451_within_the_deadline_and_then_at_mail(
    engine: RabbitMQ, queue: str, start: Start
) -> None:
    check_silence(start(timeout=0.5), engine, "RabbitMQ")


@pytest.mark.timeout(300)  # it waits for the engine's starts
def test_nothing_that_got_250_is_lost_when_the_broker_is_killed(
    engine: RabbitMQ, queue: str, start: Start, tmp_path: Path
) -> None:
    node = start(timeout=5, contents=str(tmp_path / "contents"), inline=1000)
    assert node.send().startswith("250 ")
    # RabbitMQ has a new queue's name on the disk some seconds later, or when it ends in order.
    engine.restart()

    def numbered(client: int, number: int) -> bytes:
        return b"%d-%d " % (client, number) + b"x" * 2000 * (number % 2) + b"\r\n"

    accepted = accepted_amid_kills(node, engine, 2, numbered)
    stored = set()
    with Reader(engine, queue) as reader:
        for envelope, content in reader.entries():
            if envelope.content_key is not None:
                content = (tmp_path / "contents" / envelope.content_key).read_bytes()
            stored.add(content)
    assert accepted <= stored


def test_an_unpatched_program_is_told_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"from gevent import monkey; monkey\.patch_all\(\)"):
        AMQPStore("amqp://127.0.0.1/")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1/", "looks like amqp://"),
        ("amqp:///vhost", "looks like amqp://"),
        ("amqps://u:secret@h/?verify=no", "cacertfile, certfile and keyfile, not verify"),
        ("amqps://u:secret@h/?cacertfile=/no/such", "can't read cacertfile /no/such: No such file"),
        ("amqp://u:secret@h:mail/", "looks like amqp://"),
        ("amqp://u:secret@h:70000/", "looks like amqp://"),
        ("amqp://u:secret@h:0/", "looks like amqp://"),
        (5672, "looks like amqp://"),
    ],
)
def test_a_url_that_is_none_is_an_error_that_shows_no_password(url: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as raised:
        Broker.parse(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("keywords", "problem"),
    [
        ({"pool": 0}, r"pool must be 1 or more \(messages at a time\), not 0"),
        ({"pool": True}, "pool must be 1 or more"),
        ({"contents": "folder"}, "contents takes FolderContents"),
        ({"contents": SimpleNamespace(draft=print)}, "contents takes FolderContents"),
        ({"routing_key": ""}, "routing_key must name a queue, not ''"),
        ({"timeout": 0}, "timeout must be greater than 0"),
        ({"inline": -1}, "inline must be 0 to max_size"),
    ],
)
def test_a_keyword_that_can_not_be_used_is_an_error(keywords: Any, problem: str) -> None:
    with pytest.raises((TypeError, ValueError), match=problem):
        AMQPStore("amqp://h/", **keywords)


def test_a_url_says_where_the_broker_is_and_who_we_are() -> None:
    broker = Broker.parse("amqp://me:p%40ss@[::1]:5673/%2Fmail")
    assert (broker.host, broker.user, broker.password) == ("[::1]:5673", "me", "p@ss")
    assert broker.virtual_host == "/mail"
    assert Broker.parse("amqps://h").host == "h:5671"
    assert Broker.parse("amqp://h").virtual_host == "/"
