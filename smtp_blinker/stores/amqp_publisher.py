"""A connection of py-amqp that publishes several entries with one write, and gets each confirmed.

py-amqp makes the connection and handles all other frames. This module makes the frames of
`basic.publish` (AMQP 0-9-1 sections 2.3.5 and 4.2.6), which differ only in ids, time and body, and
reads the confirmations of RabbitMQ: docs/layout.md says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack, unpack_from
from typing import Any, Final

from amqp.exceptions import UnexpectedFrame

from .batch import Job
from .pool import has_input
from .queue import Unavailable

CONTENT_TYPE: Final = "application/vnd.smtp-blinker.entry"
#: Octets to read from the socket at once: enough for many confirmations.
_READ: Final = 16 * 1024
#: Types of frames.
_METHOD, _HEADER, _BODY = 1, 2, 3
#: Octets around a frame's payload, and the last of them.
_AROUND: Final = 8
_END: Final = b"\xce"
#: The methods `publish` and `ack` of the class `basic`, and the bit of `publish` for `mandatory`.
_PUBLISH: Final = pack(">HHH", 60, 40, 0)
_ACK: Final = pack(">HH", 60, 80)
_MANDATORY: Final = b"\x01"
#: Which properties follow: content-type, headers, delivery-mode, message-id, timestamp.
_FLAGS: Final = 0x8000 | 0x2000 | 0x1000 | 0x0080 | 0x0040
_PERSISTENT: Final = b"\x02"


class Publisher:
    """A connection with one channel, on which one batch at a time waits for its confirmations."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.channel = connection.channel()
        #: The number of the last message on the channel.
        self._last = 0
        #: Unconfirmed jobs by their numbers.
        self._unconfirmed: dict[int, Job] = {}
        #: Whether it must not be used again: the next connection declares the queue again.
        self.is_spent = False
        #: Whether RabbitMQ reads nothing from it, because of an alarm.
        self.is_blocked = False
        #: Received octets that are not yet a whole frame.
        self._unread = b""

    def listen(self, exchange: str, routing_key: str) -> None:
        """Prepare to publish. From now on only `read` may read from the connection."""
        self.channel.confirm_select()
        self.channel.events["basic_return"].add(self._on_return)
        self.channel.events["basic_nack"].add(self._on_nack)
        number = self.channel.channel_id
        where = _short(exchange) + _short(routing_key)
        self._method = _frame(_METHOD, number, _PUBLISH + where + _MANDATORY)
        self._number = number
        self._most = self.connection.frame_max - _AROUND

    def _on_return(self, exc: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # RabbitMQ confirms even what it can't route. With `mandatory` it returns that first.
        for job in self._unconfirmed.values():
            if job.entry.id == message.properties.get("message_id"):
                self.is_spent = True
                text = f"RabbitMQ has no queue for routing key {routing_key!r}: {exc}"
                job.end(Unavailable(text))

    def _on_ack(self, number: int, multiple: bool) -> None:
        for job in self._confirmed(number, multiple):
            job.end()

    def _on_nack(self, number: int, multiple: bool) -> None:
        for job in self._confirmed(number, multiple):
            job.end(Unavailable("RabbitMQ refused the entry (nack)"))

    def _confirmed(self, number: int, multiple: bool) -> list[Job]:
        waiting = self._unconfirmed
        numbers = [one for one in waiting if one <= number] if multiple else [number]
        return [waiting.pop(one) for one in numbers]

    def publish(self, jobs: Sequence[Job]) -> None:
        """Send *jobs* and wait until each is confirmed, refused or returned."""
        for number, job in enumerate(jobs, self._last + 1):
            self._unconfirmed[number] = job
            job.is_sent = True
        self._last += len(jobs)
        write = self.connection.transport.write
        if len(jobs) == 1:
            for frames in self._frames(jobs[0]):  # those of a large one are not copied once more
                write(frames)
        else:
            write(b"".join([frames for job in jobs for frames in self._frames(job)]))
        while self._unconfirmed:
            self.read()

    def _frames(self, job: Job) -> Iterator[bytes]:
        """The frames of an entry; a small entry has all of them in one piece."""
        body = b"\n".join((job.entry.head, job.content))
        header = pack(">HHQ", 60, 0, len(body)) + _properties(job)
        begin = self._method + _frame(_HEADER, self._number, header)
        most = self._most
        yield begin + _frame(_BODY, self._number, body[:most])
        for start in range(most, len(body), most):
            yield _frame(_BODY, self._number, body[start : start + most])

    def read(self, timeout: float | None = None) -> None:
        """Wait for one or more frames and process them; raises the exceptions of py-amqp."""
        while not self._do_frames():
            with self.connection.transport.having_timeout(timeout) as sock:
                octets = sock.recv(_READ)
            if not octets:
                raise ConnectionError("RabbitMQ has closed the connection")
            self._unread += octets

    def _do_frames(self) -> bool:
        """Process all frames that have arrived completely; returns whether there was one."""
        octets, start, size = self._unread, 0, len(self._unread)
        try:
            while size - start >= _AROUND:
                kind, number, length = unpack_from(">BHI", octets, start)
                end = start + _AROUND + length
                if end > size:
                    break
                if octets[end - 1] != _END[0]:  # section 4.2.3: the peer is out of step
                    raise UnexpectedFrame("a frame of RabbitMQ has no end")
                payload = octets[start + _AROUND - 1 : end - 1]
                start = end
                if kind == _METHOD and payload.startswith(_ACK):
                    self._on_ack(*unpack_from(">Q?", payload, len(_ACK)))
                else:
                    self.connection.on_inbound_frame((kind, number, payload))
        finally:
            self._unread = octets[start:]
        return start > 0

    def is_alive(self) -> bool:
        """Whether RabbitMQ has neither closed nor blocked the connection meanwhile."""
        if self.is_spent:
            return False
        try:
            while self._unread or has_input(self.connection.sock):
                self.read(timeout=0)
        except TimeoutError:
            return True
        except Exception:
            return False
        return True


def _properties(job: Job) -> bytes:
    content_id = job.entry.content_id.encode("ascii")
    table = b"\x0acontent_idS" + pack(">I", len(content_id)) + content_id
    return b"".join(
        (
            _BEFORE_TABLE,
            pack(">I", len(table)),
            table,
            _PERSISTENT,
            _short(job.entry.id),
            pack(">Q", int(job.entry.time)),
        )
    )


def _short(text: str) -> bytes:
    """A short string of AMQP: at most 255 octets."""
    octets = text.encode()
    return pack("B", len(octets)) + octets


def _frame(kind: int, number: int, payload: bytes) -> bytes:
    return b"".join((pack(">BHI", kind, number, len(payload)), payload, _END))


_BEFORE_TABLE: Final = pack(">H", _FLAGS) + _short(CONTENT_TYPE)
