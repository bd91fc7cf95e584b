"""The frames that publish entries to RabbitMQ, and those that confirm them, without a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack
from types import SimpleNamespace
from typing import Any

import amqp
import pytest
from amqp.exceptions import UnexpectedFrame
from amqp.method_framing import frame_writer
from amqp.serialization import dumps

from smtp_blinker import Session
from smtp_blinker.stores.amqp_publisher import CONTENT_TYPE, Publisher
from smtp_blinker.stores.batch import Job
from smtp_blinker.stores.entry import Entry

FRAME_MAX = 4096
KEY = "m\u00e4il"


class Broker:
    """py-amqp's connection, the transport below it, and its socket."""

    frame_max = FRAME_MAX
    bytes_sent = 0

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.written: list[bytes] = []
        #: What isn't for the publisher itself.
        self.frames: list[Any] = []
        self.transport = self
        self.on_inbound_frame = self.frames.append

    def channel(self) -> Any:
        events = {"basic_return": set(), "basic_nack": set()}  # type: ignore[var-annotated]
        return SimpleNamespace(channel_id=1, events=events, confirm_select=lambda: None)

    def write(self, octets: Any) -> None:
        self.written.append(bytes(octets))

    @contextmanager
    def having_timeout(self, timeout: float | None) -> Iterator[Broker]:
        yield self

    def recv(self, size: int) -> bytes:
        return self.answers.pop(0)


def a_job(content: bytes) -> Job:
    return Job(Entry.of(Session(), len(content), "0" * 64), content)


def as_py_amqp_writes(job: Job) -> bytes:
    broker = Broker()
    message = amqp.Message(
        job.entry.head + b"\n" + job.content,
        content_type=CONTENT_TYPE,
        delivery_mode=2,
        message_id=job.entry.id,
        timestamp=int(job.entry.time),
        application_headers={"content_id": job.entry.content_id},
    )
    write = frame_writer(broker, broker)
    write(1, 1, (60, 40), dumps("Bssbb", (0, "ex", KEY, True, False)), message)
    return b"".join(broker.written)


def a_frame(payload: bytes) -> bytes:
    return pack(">BHI", 1, 1, len(payload)) + payload + b"\xce"


def an_ack(number: int, multiple: bool = False) -> bytes:
    return a_frame(pack(">HHQ?", 60, 80, number, multiple))


def a_publisher(broker: Broker) -> Publisher:
    publisher = Publisher(broker)
    publisher.listen("ex", KEY)
    return publisher


@pytest.mark.parametrize("size", [0, 100, FRAME_MAX, 5 * FRAME_MAX])
def test_an_entry_is_written_as_py_amqp_writes_it(size: int) -> None:
    broker = Broker(an_ack(1))
    job = a_job(b"x" * size)
    a_publisher(broker).publish([job])
    assert b"".join(broker.written) == as_py_amqp_writes(job)


def test_several_are_one_write_and_a_confirmation_may_be_for_several() -> None:
    broker = Broker(an_ack(2, multiple=True) + an_ack(3), an_ack(4))
    publisher = a_publisher(broker)
    jobs = [a_job(b"%d" % number) for number in range(3)]
    publisher.publish(jobs)
    assert broker.written == [b"".join(map(as_py_amqp_writes, jobs))]
    publisher.publish([a_job(b"the next")])
    assert broker.answers == []


def test_frames_that_come_octet_by_octet_are_read_whole_and_none_is_left() -> None:
    other = a_frame(b"\x00\x0a\x00\x3c\x00")
    octets = [bytes([octet]) for octet in other + an_ack(1)]
    broker = Broker(*octets)
    a_publisher(broker).publish([a_job(b"x")])
    assert broker.frames == [(1, 1, other[7:-1])]


def test_a_frame_without_its_end_confirms_nothing() -> None:
    publisher = a_publisher(Broker(an_ack(1)[:-1] + b"\x00"))
    with pytest.raises(UnexpectedFrame):
        publisher.publish([a_job(b"x")])


def test_what_came_with_a_frame_that_raised_is_done_at_the_next_reading() -> None:
    """RabbitMQ may tell in one segment that it is blocked, and that this is over."""
    blocked, unblocked = a_frame(b"\x00\x0a\x00\x3c\x00"), a_frame(b"\x00\x0a\x00\x3d")
    broker = Broker(blocked + unblocked)

    def on_frame(frame: Any) -> None:
        broker.frames.append(frame)
        raise ConnectionError("blocked")

    broker.on_inbound_frame = on_frame
    publisher = a_publisher(broker)
    for _ in range(2):
        with pytest.raises(ConnectionError, match="blocked"):
            publisher.read()
    assert [frame[2] for frame in broker.frames] == [blocked[7:-1], unblocked[7:-1]]


def test_the_end_of_the_connection_is_an_error() -> None:
    with pytest.raises(ConnectionError, match="RabbitMQ has closed the connection"):
        a_publisher(Broker(b"")).publish([a_job(b"x")])
