"""The message as a file, over a transport that isn't one."""

from __future__ import annotations

import csv
import email
import errno
import gzip
import io
import shutil
import zlib
from typing import Any

import pytest
from greenlet import getcurrent
from hypothesis import given
from hypothesis import strategies as st
from support import cut_at, octets, two_pieces

from smtp_blinker import Reject
from smtp_blinker.connection.incoming import CHANGED_CONTENT_READ, CONTENT_READ, Incoming
from smtp_blinker.connection.transport import Interrupted
from smtp_blinker.options import make_options
from smtp_blinker.smtp.content import ContentDecoder
from smtp_blinker.stream import MessageStream

MESSAGE = b"Subject: t\r\nTo: b@example.com\r\n\r\none\r\n.two\r\n\r\nlast"
SENT = MESSAGE.replace(b"\r\n.", b"\r\n..") + b"\r\n.\r\n"
CONTENT = MESSAGE + b"\r\n"


class Wire:
    """Gives out its pieces, then the end of the connection; counts what it was asked for."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)
        self.greenlet = getcurrent()
        self.deadlines: list[float] = []
        self.sizes: list[int] = []

    def receive(self, size: int, deadline: float) -> bytes:
        self.deadlines.append(deadline)
        self.sizes.append(size)
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        assert len(piece) <= size
        return piece


class Read(MessageStream):
    """A stream that shows where its pieces come from."""

    def __init__(self, incoming: Incoming) -> None:
        super().__init__(incoming)
        self.incoming = incoming


def stream_of(
    *pieces: bytes | BaseException, policy: str = "reject", arrived: bytes = b"", **options: Any
) -> Read:
    wire: Any = Wire(*pieces)
    return Read(Incoming(wire, ContentDecoder(policy), arrived, make_options(options)))


WAYS = [[SENT], octets(SENT), cut_at(SENT, [1, 20, 33, 34]), [SENT[:-1], SENT[-1:]]]


@pytest.mark.parametrize("pieces", WAYS)
def test_read_gives_all_of_it_and_then_nothing(pieces: Any) -> None:
    stream = stream_of(*pieces)
    assert stream.read() == CONTENT
    assert stream.read() == stream.read(5) == stream.readline() == b""
    assert stream_of(*pieces).read(None) == CONTENT
    assert stream.byte_length == len(CONTENT)
    assert list(stream) == []


def test_nothing_is_asked_of_the_network_behind_the_end() -> None:
    stream = stream_of(SENT, RuntimeError("asked again"))
    assert stream.read() == CONTENT
    assert stream.read() == b""


@pytest.mark.parametrize("cut", range(len(SENT) + 1))
def test_what_came_with_the_commands_is_not_lost(cut: Any) -> None:
    stream = stream_of(*([SENT[cut:]] if cut < len(SENT) else []), arrived=SENT[:cut])
    assert stream.read() == CONTENT


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("pieces", WAYS)
def test_read_in_sizes_is_short_only_at_the_end(pieces: Any, size: int) -> None:
    stream = stream_of(*pieces)
    parts = []
    while part := stream.read(size):
        parts.append(part)
    assert b"".join(parts) == CONTENT
    assert all(len(part) == size for part in parts[:-1])
    assert len(parts[-1]) <= size


@pytest.mark.parametrize("pieces", WAYS)
def test_iteration_gives_lines_with_their_newlines(pieces: Any) -> None:
    assert list(stream_of(*pieces)) == CONTENT.splitlines(keepends=True)
    assert stream_of(*pieces).readlines() == CONTENT.splitlines(keepends=True)


def test_lines_end_at_lf_only() -> None:
    odd = b"a\x0bb\x0cc\x85d\x1ce\r\nf\r\n"
    assert list(stream_of(odd + b".\r\n")) == [b"a\x0bb\x0cc\x85d\x1ce\r\n", b"f\r\n"]
    bare = b"a\nb\rc\r\n"
    assert list(stream_of(bare + b".\r\n", policy="allow")) == [b"a\n", b"b\rc\r\n"]


@pytest.mark.parametrize("pieces", WAYS)
def test_readline_stops_at_its_size(pieces: Any) -> None:
    stream, plain = stream_of(*pieces), io.BytesIO(CONTENT)
    for size in (5, 0, 100, 1, 1, 2, -1, None, 3, 100, 100, 100):
        assert stream.readline(size) == plain.readline(size)


@pytest.mark.parametrize("pieces", WAYS)
def test_readinto_fills_a_buffer(pieces: Any) -> None:
    stream = stream_of(*pieces)
    buffer = bytearray(16)
    got = b""
    while count := stream.readinto(buffer):
        got += buffer[:count]
    assert got == CONTENT
    view = memoryview(bytearray(1000))
    assert stream_of(*pieces).readinto(view) == len(CONTENT)
    assert view[: len(CONTENT)] == CONTENT


@given(
    st.lists(st.integers(0, len(SENT)), max_size=6),
    st.lists(
        st.tuples(
            st.sampled_from(["read", "readline", "read1"]), st.sampled_from([-1, 0, 1, 3, 9, 40])
        ),
        max_size=12,
    ),
)
def test_mixed_reading_loses_and_repeats_nothing(cuts: list[int], calls: Any) -> None:
    stream = stream_of(*cut_at(SENT, cuts))
    plain = io.BytesIO(CONTENT)
    for name, size in calls:
        got = getattr(stream, name)(size)
        if name == "read1":  # may give less than it could
            assert got == plain.read(len(got))
            assert size < 0 or len(got) <= size
        else:
            assert got == getattr(plain, name)(size)
    assert stream.read() == plain.read()


@pytest.mark.parametrize("pieces", WAYS)
def test_standard_library_reads_it_as_a_file(pieces: Any) -> None:
    parsed = email.message_from_binary_file(stream_of(*pieces))
    assert parsed["subject"] == "t"
    assert parsed.get_payload(decode=True) == b"one\n.two\n\nlast\n"  # it reads text
    copy = io.BytesIO()
    shutil.copyfileobj(stream_of(*pieces), copy, 7)
    assert copy.getvalue() == CONTENT
    with io.TextIOWrapper(stream_of(*pieces), encoding="utf-8", newline="") as text:
        assert text.read() == CONTENT.decode()
    with io.TextIOWrapper(stream_of(*pieces), encoding="ascii") as text:
        assert text.name == "<message>"
        assert list(text) == [line + "\n" for line in CONTENT.decode().splitlines()]
    rows = csv.reader(io.TextIOWrapper(stream_of(*pieces), encoding="ascii", newline=""))
    assert next(rows) == ["Subject: t"]


def test_it_says_what_kind_of_file_it_is() -> None:
    with stream_of(SENT) as stream:
        assert stream.readable()
        assert not stream.writable()
        assert not stream.seekable()
        assert not stream.isatty()
        assert not stream.closed
        assert isinstance(stream, io.BufferedIOBase)
    # Closing it is no concern of the program's.
    assert stream.read() == CONTENT


def test_compressors_take_it() -> None:
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb") as target:
        shutil.copyfileobj(stream_of(SENT), target)
    assert zlib.decompress(packed.getvalue(), 31) == CONTENT


def test_byte_length_grows_as_the_message_arrives() -> None:
    stream = stream_of(b"one\r\n", b"two\r\n", b".\r\n")
    assert stream.byte_length == 0
    assert stream.readline() == b"one\r\n"
    first = stream.byte_length
    assert 3 <= first <= 8
    stream.read()
    assert stream.byte_length == 10


def test_slow_reader_reads_no_further_than_it_must() -> None:
    wire: Any = Wire(*[b"x" * 1000 + b"\r\n"] * 50, b".\r\n")
    stream = Read(Incoming(wire, ContentDecoder("reject"), b"", make_options({})))
    stream.read(10)
    assert len(wire.pieces) >= 49


# What doesn't end well

READERS = {
    "read": lambda stream: stream.read(),
    "read in sizes": lambda stream: [stream.read(3) for _ in range(100)],
    "read1": lambda stream: [stream.read1() for _ in range(100)],
    "readline": lambda stream: [stream.readline() for _ in range(100)],
    "iteration": list,
    "readinto": lambda stream: [stream.readinto(bytearray(9)) for _ in range(100)],
    "copyfileobj": lambda stream: shutil.copyfileobj(stream, io.BytesIO()),
    "email": email.message_from_binary_file,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "failure",
    [
        b"",
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError(errno.ETIMEDOUT, "timed out"),
        OSError(errno.EHOSTUNREACH, "unreachable"),
        Interrupted(),
    ],
    ids=["eof", "reset", "timeout", "other", "shutdown"],
)
def test_message_that_was_cut_off_is_a_connection_error(reader: Any, failure: Any) -> None:
    stream = stream_of(b"Subject: x\r\n\r\nhalf\r\n.", failure)
    with pytest.raises(ConnectionError):
        READERS[reader](stream)
    assert stream.incoming.lost is not None
    # Nor can it be read to a good end by trying again.
    for _ in range(3):
        with pytest.raises(ConnectionError):
            stream.read()


@pytest.mark.parametrize("reader", READERS)
def test_bare_newline_is_a_reject_for_the_reader(reader: Any) -> None:
    stream = stream_of(b"one\r\ntw\no\r\n", b"three\r\n.\r\n")
    with pytest.raises(Reject) as caught:
        READERS[reader](stream)
    assert (caught.value.code, caught.value.enhanced) == (550, "5.5.2")
    stream.incoming.drain(False)
    assert stream.incoming.refusal is not None
    assert stream.incoming.refusal.code == 550


@pytest.mark.parametrize("reader", READERS)
def test_oversized_message_is_a_reject_for_the_reader(reader: Any) -> None:
    stream = stream_of(b"123456\r\n" * 5, b".\r\n", size=20)
    with pytest.raises(Reject) as caught:
        READERS[reader](stream)
    assert (caught.value.code, caught.value.enhanced) == (552, "5.3.4")
    assert stream.size_exceeded


@pytest.mark.parametrize("pieces", [[SENT], octets(SENT)])
def test_limit_of_size_is_to_the_octet(pieces: Any) -> None:
    assert stream_of(*pieces, size=len(CONTENT)).read() == CONTENT
    with pytest.raises(Reject):
        stream_of(*pieces, size=len(CONTENT) - 1).read()
    lenient = stream_of(*pieces, size=len(CONTENT) - 1, reject_oversized=False)
    assert lenient.read() == CONTENT
    assert lenient.size_exceeded
    assert not stream_of(*pieces).size_exceeded


def test_loop_is_a_reject_for_the_reader() -> None:
    stream = stream_of(b"Received: x\r\n" * 101 + b"\r\n", b".\r\n")
    with pytest.raises(Reject) as caught:
        stream.read()
    assert (caught.value.code, caught.value.enhanced) == (554, "5.4.6")


def test_answer_does_not_depend_on_the_pieces() -> None:
    data = b"12345678\r\n" * 3 + b"a\nb\r\n.\r\n"
    answers = set()
    for pieces in [[data], octets(data), *two_pieces(data)]:
        stream = stream_of(*pieces, size=20)
        stream.incoming.drain(False)
        assert stream.incoming.refusal is not None
        answers.add(stream.incoming.refusal.code)
    assert len(answers) == 1


def test_refused_message_is_read_to_its_true_end() -> None:
    wire: Any = Wire(b"a\nb\r\n", b"MAIL FROM:<x@y.example>\r\n", b".\r\nQUIT\r\n")
    decoder = ContentDecoder("reject")
    stream = Read(Incoming(wire, decoder, b"", make_options({})))
    with pytest.raises(Reject):
        stream.read()
    stream.incoming.drain(False)
    assert decoder.ended
    assert decoder.rest == b"QUIT\r\n"


def test_what_is_left_is_dropped() -> None:
    stream = stream_of(*cut_at(SENT, [20, 30]))
    assert stream.read(3) == CONTENT[:3]
    stream.forget()
    stream.incoming.drain(False)
    assert stream.byte_length == len(CONTENT)
    assert stream.read() == b""


def test_draining_a_lost_message_raises_nothing() -> None:
    stream = stream_of(b"half")
    stream.incoming.drain(False)
    assert isinstance(stream.incoming.lost, ConnectionError)


@pytest.mark.parametrize("policy", ["normalize", "allow"])
def test_lenient_policies_give_the_message(policy: str) -> None:
    stream = stream_of(b"a\nb\rc\r\n.\r\n", policy=policy)
    assert stream.read() == (b"a\r\nb\r\nc\r\n" if policy == "normalize" else b"a\nb\rc\r\n")
    assert stream.byte_length == (9 if policy == "normalize" else 7)


@pytest.mark.parametrize(
    ("policy", "line"),
    [("reject", b"..\r\n"), ("normalize", b"\n"), ("normalize", b"\r\r\n"), ("normalize", b"a\rb")],
)
def test_less_is_asked_for_where_lines_have_to_be_changed(policy: str, line: bytes) -> None:
    wire: Any = Wire(
        b"Subject: t\r\n\r\n", b"plain\r\n", line * 500, b"plain\r\n", b"plain\r\n.\r\n"
    )
    stream = Read(Incoming(wire, ContentDecoder(policy), b"", make_options({})))
    stream.read()
    first, *sizes = wire.sizes
    assert first < CONTENT_READ
    # With "normalize" the rest of the message isn't trusted either.
    after = CONTENT_READ if policy == "reject" else CHANGED_CONTENT_READ
    assert sizes == [CONTENT_READ, CONTENT_READ, CHANGED_CONTENT_READ, after]


def test_piece_of_the_network_is_bounded() -> None:
    assert CONTENT_READ <= 128 * 1024
