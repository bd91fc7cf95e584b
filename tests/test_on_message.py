"""Messages that policies look at whole: the spool, the edits of the header, and what is left."""

from __future__ import annotations

import errno
import io
import logging
import os
import random
import re
import tempfile
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support import Client, Witness, poll, running, talking

from smtp_blinker import Envelope, Reject, SMTPServer
from smtp_blinker.connection.spool import Spool, SpooledPieces
from smtp_blinker.header import MAX_HEADER
from smtp_blinker.pools import SPOOLS
from smtp_blinker.stream import MessageStream

LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later"
NO_STORAGE = "452 4.3.1 Insufficient system storage, try again later"


class Looks:
    """A policy that reads each message, and may do something about it."""

    def __init__(self, then: Any = None) -> None:
        self.contents: list[bytes] = []
        self.then = then

    def on_message(self, content: Any, session: Any) -> None:
        self.contents.append(content.read())
        if self.then is not None:
            self.then(session)


class Store:
    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def __call__(self, stream: Any, session: Any) -> None:
        self.contents.append(stream.read())


def begin(client: Client) -> None:
    client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")


def send(client: Client, content: bytes, way: str = "DATA") -> str:
    begin(client)
    if way == "DATA":
        assert client.cmd("DATA").startswith("354")
        client.send(content + b".\r\n")
    else:
        half = len(content) // 2
        client.send(b"BDAT %d\r\n%s" % (half, content[:half]))
        assert client.reply().startswith("250")
        client.send(b"BDAT %d LAST\r\n%s" % (len(content) - half, content[half:]))
    return client.reply()


def deleted_files() -> list[str]:
    """The unlinked files that this process has open in the folder for temporary files."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if path.endswith(" (deleted)") and path.startswith(tempfile.gettempdir()):
            found.append(path)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Any, monkeypatch: Any) -> Any:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    poll(lambda: not deleted_files())
    assert os.listdir(tmp_path) == []


# The message


@pytest.mark.parametrize("memory", [0, 100, 2**20])
@pytest.mark.parametrize("way", ["DATA", "BDAT"])
@pytest.mark.parametrize("size", [0, 10, 100, 300_000])
def test_each_policy_and_on_data_see_the_whole_message(size: int, way: str, memory: int) -> None:
    content = (b"x" * 62 + b"\r\n") * (size // 64) + b"y" * (size % 64)
    content += b"\r\n" if content else b""
    first, second, store = Looks(), Looks(), Store()
    with talking(on_data=store, spool_memory=memory, use=[first, second]) as client:
        for _ in range(2):
            assert send(client, content, way).startswith("250")
    assert first.contents == second.contents == store.contents == [content, content]


@pytest.mark.parametrize("memory", [0, 2**20])
def test_content_is_a_seekable_binary_file(memory: int) -> None:
    def look(content: Any) -> None:
        assert content.seekable()
        assert content.readable()
        assert content.readline() == b"Subject: x\r\n"
        assert content.tell() == 12
        assert content.seek(-3, io.SEEK_END) == 17
        assert content.read() == b"y\r\n"
        assert content.read() == b""
        assert content.seek(2) == 2
        assert content.read(3) == b"bje"
        assert content.seek(1, io.SEEK_CUR) == 6
        assert list(content) == [b"t: x\r\n", b"\r\n", b"xxxy\r\n"]
        looked.append(content)

    class Policy:
        def on_message(self, content: Any, session: Any) -> None:
            look(content)
            content.close()  # the next one has a file of its own

    looked: list[Any] = []
    with talking(spool_memory=memory, use=[Policy(), Policy()]) as client:
        assert send(client, b"Subject: x\r\n\r\nxxxy\r\n").startswith("250")
    assert len(looked) == 2


def test_a_message_in_small_pieces_takes_no_more_memory_than_its_size_asks() -> None:
    class Pairs:
        byte_length, size_exceeded, ended, is_whole_so_far = 0, False, False, True
        left = 50_000

        def next_piece(self) -> bytes:
            self.left -= 1
            return b"%02d" % (self.left % 100) if self.left >= 0 else b""

    spool = Spool(2**20)
    tracemalloc.start()
    try:
        spool.fill(Pairs().next_piece)
        assert tracemalloc.get_traced_memory()[1] < 5 * spool.size
    finally:
        tracemalloc.stop()
        spool.close()


def test_the_stream_ends_with_its_hook() -> None:
    kept: list[Any] = []
    with talking(on_data=lambda stream, session: kept.append(stream), use=[Looks()]) as client:
        assert send(client, b"x\r\n").startswith("250")
        assert kept[0].read() == b""


# What isn't asked


@pytest.mark.parametrize(
    ("content", "options", "reply"),
    [
        (b"a\nb\r\n", {}, "550 5.5.2"),
        (b"x" * 70 + b"\r\n", {"size": 50}, "552 5.3.4"),
        (b"Received: x\r\n" * 200 + b"\r\n", {}, "554 5.4.6"),
    ],
)
@pytest.mark.parametrize("memory", [0, 2**20])
def test_what_the_server_refuses_reaches_no_policy(
    content: bytes, options: Any, reply: str, memory: int
) -> None:
    looks, store = Looks(), Store()
    with talking(on_data=store, spool_memory=memory, **options, use=[looks]) as client:
        assert send(client, content).startswith(reply)
        assert send(client, b"x\r\n").startswith("250")
    assert looks.contents == store.contents == [b"x\r\n"]


@pytest.mark.parametrize("way", ["DATA", "BDAT", "BDAT RSET"])
@pytest.mark.parametrize("memory", [0, 2**20])
def test_a_message_that_never_ends_reaches_no_policy(way: str, memory: int) -> None:
    looks, store = Looks(), Store()
    with running(on_data=store, spool_memory=memory) as server:
        witness = Witness(server)
        server.use(looks)
        client = Client(server, hello="EHLO me")
        begin(client)
        if way == "DATA":
            assert client.cmd("DATA").startswith("354")
            client.send(b"x" * 5000 + b"\r\n")
        else:
            client.send(b"BDAT 5000\r\n" + b"x" * 5000)
            assert client.reply().startswith("250")
            if way == "BDAT RSET":
                client.ok("RSET")
                assert send(client, b"next\r\n").startswith("250")
        client.close()
        witness.one("disconnect")
    expected = [b"next\r\n"] if way == "BDAT RSET" else []
    assert looks.contents == store.contents == expected


@pytest.mark.parametrize("way", ["DATA", "BDAT"])
@pytest.mark.parametrize("memory", [0, 2**20])
def test_a_policy_refuses_a_message_for_all_of_lmtp(way: str, memory: int) -> None:
    def refuse(session: Any) -> None:
        raise Reject(550, "a virus", "5.7.1")

    store = Store()
    with talking(
        on_data=store, spool_memory=memory, lmtp=True, use=[Looks(refuse)], hello="LHLO me"
    ) as client:
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>")
        if way == "DATA":
            assert client.cmd("DATA").startswith("354")
            client.send(b"x\r\n.\r\n")
        else:
            client.send(b"BDAT 3 LAST\r\nx\r\n")
        assert [client.reply(), client.reply()] == ["550 5.7.1 a virus"] * 2
        client.ok("NOOP")
    assert store.contents == []


# The disk


def full(*args: Any, **keywords: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("way", ["DATA", "BDAT"])
def test_a_full_disk_is_452_and_a_line_for_the_operator(
    way: str, monkeypatch: Any, caplog: Any
) -> None:
    looks, store = Looks(), Store()
    with talking(on_data=store, spool_memory=10, use=[looks]) as client:
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "TemporaryFile", full)
            begin(client)
            if way == "DATA":
                assert client.cmd("DATA").startswith("354")
                client.send((b"x" * 70 + b"\r\n") * 9000 + b".\r\n")
            else:
                client.send(b"BDAT 70000 LAST\r\n" + b"x" * 70000)
            with caplog.at_level(logging.ERROR, logger="smtp_blinker"):
                assert client.reply() == NO_STORAGE
        assert "No space left on device" in caplog.text
        assert send(client, b"x" * 50 + b"\r\n").startswith("250")
    assert looks.contents == store.contents == [b"x" * 50 + b"\r\n"]


@pytest.mark.parametrize("lmtp", [False, True])
def test_a_full_disk_answers_the_chunk_and_the_later_chunks_are_no_message(
    lmtp: bool, monkeypatch: Any
) -> None:
    looks = Looks()
    with running(spool_memory=10, lmtp=lmtp) as server:
        witness = Witness(server)
        server.use(looks)
        client = Client(server, hello="LHLO me" if lmtp else "EHLO me")
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "TemporaryFile", full)
            client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
            client.ok("RCPT TO:<c@example.com>")
            client.send(b"BDAT 20\r\n" + b"x" * 20)
            first = client.reply()
            client.send(b"BDAT 20 LAST\r\n" + b"x" * 20)
            rest = client.reply()
        assert [first, rest[:3]] == [NO_STORAGE, "503"]
        client.ok("NOOP")
        assert witness.one("error").code == "ENOSPC"
        assert send(client, b"x\r\n").startswith("250")
    assert looks.contents == [b"x\r\n"]


def test_a_disk_that_is_really_full() -> None:
    """/dev/full takes no octet, as the device of a full disk."""
    with running(spool_memory=10) as server:
        witness = Witness(server)
        server.use(Looks())
        client = Client(server, hello="EHLO me")
        device = Path("/dev/full")
        original = tempfile.TemporaryFile
        tempfile.TemporaryFile = lambda **keywords: device.open("wb", **keywords)  # type: ignore
        try:
            assert send(client, b"x" * 50 + b"\r\n") == NO_STORAGE
        finally:
            tempfile.TemporaryFile = original
        event = witness.one("error")
        assert (event.code, event.response_code) == ("ENOSPC", 452)


def slow_disk(monkeypatch: Any) -> tuple[threading.Event, threading.Event]:
    """Temporary files that wait: an event that one has begun, and one for them to go on."""
    begun, go_on = threading.Event(), threading.Event()
    original = tempfile.TemporaryFile

    def slow(**keywords: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return original(**keywords)

    monkeypatch.setattr(tempfile, "TemporaryFile", slow)
    return begun, go_on


def test_a_slow_disk_holds_up_no_other_client(monkeypatch: Any) -> None:
    begun, go_on = slow_disk(monkeypatch)
    looks = Looks()
    with running(spool_memory=10, use=[looks]) as server:
        waiting, other = Client(server, hello="EHLO me"), Client(server, hello="EHLO me")
        begin(waiting)
        assert waiting.cmd("DATA").startswith("354")
        waiting.send(b"x" * 50 + b"\r\n.\r\n")
        poll(begun.is_set)
        assert send(other, b"small\r\n").startswith("250")
        assert looks.contents == [b"small\r\n"]
        go_on.set()
        assert waiting.reply().startswith("250")
    assert looks.contents == [b"small\r\n", b"x" * 50 + b"\r\n"]


def test_a_connection_that_is_killed_while_the_disk_writes_leaves_no_file(
    monkeypatch: Any,
) -> None:
    begun, go_on = slow_disk(monkeypatch)
    looks = Looks()
    with talking(spool_memory=10, use=[looks]) as client:
        begin(client)
        assert client.cmd("DATA").startswith("354")
        client.send(b"x" * 50 + b"\r\n.\r\n")
        poll(begun.is_set)
        client.server.stop(timeout=0)
        go_on.set()
        assert not client.server.connections
        done = Event()
        SPOOLS.spawn(lambda: None).rawlink(lambda _: done.set())
        assert done.wait(30)
    assert looks.contents == []


# The header


def edited(content: bytes, *edits: Any, smtputf8: bool = False, memory: int = 2**20) -> bytes:
    """*content* as `on_data` reads it after *edits*: calls with an envelope."""

    class Source:
        byte_length, size_exceeded, ended, is_whole_so_far = 0, False, False, True
        left = content

        def next_piece(self) -> bytes:
            piece, self.left = self.left[:65536], self.left[65536:]
            return piece

    envelope = Envelope()
    envelope.smtputf8 = smtputf8
    for edit in edits:
        edit(envelope)
    spool = Spool(memory)
    try:
        spool.fill(Source().next_piece)
        return MessageStream(SpooledPieces(spool, envelope.header_edits, False)).read()
    finally:
        spool.close()


def add(name: str, value: str) -> Any:
    return lambda envelope: envelope.add_header(name, value)


def remove(name: str, matching: Any = None) -> Any:
    return lambda envelope: envelope.remove_header(name, matching)


MESSAGE = b"X-Spam: no\r\nSubject: x\r\nx-spam : yes,\r\n\tvery\r\nTo: y\r\n\r\nX-Spam: body\r\n"
WITHOUT = b"Subject: x\r\nTo: y\r\n\r\nX-Spam: body\r\n"


@pytest.mark.parametrize("memory", [0, 2**20])
@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], MESSAGE),
        ([add("A", "1"), add("B", "2")], b"B: 2\r\nA: 1\r\n" + MESSAGE),
        ([remove("X-SPAM")], WITHOUT),
        ([remove("X-Spam"), add("X-Spam", "maybe")], b"X-Spam: maybe\r\n" + WITHOUT),
        ([add("X-Spam", "maybe"), remove("x-spam")], WITHOUT),
        ([add("X-Spam", "maybe"), remove("x-spam", "maybe")], MESSAGE),
        ([remove("X-Spam", "^no$")], MESSAGE[12:]),
        ([remove("X-Spam", "yes,\tvery")], MESSAGE.replace(b"x-spam : yes,\r\n\tvery\r\n", b"")),
        ([remove("X-Spam", re.compile("VERY", re.I))],
         MESSAGE.replace(b"x-spam : yes,\r\n\tvery\r\n", b"")),
        ([remove("X-Spam", "body")], MESSAGE),
        ([remove("X")], MESSAGE),
    ],
)  # fmt: skip
def test_the_header_is_edited_and_nothing_else(edits: Any, expected: bytes, memory: int) -> None:
    assert edited(MESSAGE, *edits, memory=memory) == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b""),
        (b"\r\nX: y\r\n", b"\r\nX: y\r\n"),
        (b"X: y\r\n", b""),
        (b"X: y", b""),
        (b"X: y\r\n z", b""),
        (b"X: y\r\n\r\n", b"\r\n"),
        (b"X: y\n\nX: z\n", b"\nX: z\n"),
        (b"X: y\n z\nA: b\n\nX: z\n", b"A: b\n\nX: z\n"),
        (b"A: b\r\nX: y\r\n\r\n\n\n", b"A: b\r\n\r\n\n\n"),
        (b" X: y\r\nX: y\r\n\r\n", b" X: y\r\n\r\n"),
        (b"no colon\r\nX: y\r\n\r\n", b"no colon\r\n\r\n"),
        (b"\xff: \xff\r\nX: \xff\r\n\r\n\xff", b"\xff: \xff\r\n\r\n\xff"),
    ],
)
def test_odd_headers_lose_their_fields_only(content: bytes, expected: bytes) -> None:
    assert edited(content, remove("X")) == expected


def test_fields_are_found_wherever_the_pieces_are_cut() -> None:
    chance = random.Random(7)
    lines = [b"X: 1\r\n", b"Y: 2\r\n", b" X: folded\r\n", b"x\t: 3\r\n", b"XX: 4\r\n", b"\n"]
    for _ in range(300):
        content = b"".join(chance.choices(lines, k=chance.randrange(9)))
        expected, taken, is_body = b"", False, False
        for line in content.splitlines(keepends=True):
            is_body = is_body or line == b"\n"
            if line[:1] != b" ":
                taken = line.split(b":")[0].strip().lower() == b"x"
            if is_body or not taken:
                expected += line
        assert edited(content, remove("X")) == expected, content


def test_beyond_one_mebibyte_a_header_stays_as_it_is() -> None:
    near = b"X: near\r\n" + b"Y: y\r\n" * 10
    filler = b"Z: " + b"z" * 990 + b"\r\n"
    content = near + filler * (MAX_HEADER // len(filler) + 2) + b"X: far\r\n\r\nbody\r\n"
    assert edited(content, remove("X")) == content[len(b"X: near\r\n") :]
    # A field that is cut there isn't taken in half.
    cut = b"A: b\r\nX: " + (b"x" * 990 + b"\r\n ") * (MAX_HEADER // 993 + 2) + b"\r\n\r\n"
    assert edited(cut, remove("X")) == cut


def test_many_fields_hold_up_no_other_greenlet() -> None:
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    other = gevent.spawn(take_turns)
    try:
        content = b"X:y\r\n" * 100_000 + b"\r\nbody\r\n"
        assert edited(content, remove("X", "^y$")) == b"\r\nbody\r\n"
    finally:
        other.kill()
    assert turns > 100


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\n", "a\n", "ü", "a\0", "x" * 77])
def test_a_wrong_name_is_a_value_error(name: str) -> None:
    with pytest.raises(ValueError, match="name of a header field"):
        Envelope().add_header(name, "x")
    with pytest.raises(ValueError, match="name of a header field"):
        Envelope().remove_header(name)


@pytest.mark.parametrize("bad", "\r\n\0\t\x0b\x0c\x1b\x7f\x85\u2028\u2029\ud800")
def test_a_value_with_a_control_is_a_value_error(bad: str) -> None:
    for value in (bad, f"a{bad}b", f"a{bad}", f"{bad}a"):
        envelope = Envelope()
        envelope.smtputf8 = True
        with pytest.raises(ValueError, match="control"):
            envelope.add_header("X", value)


def test_other_wrong_values() -> None:
    envelope = Envelope()
    with pytest.raises(ValueError, match="ASCII"):
        envelope.add_header("X", "ü")
    with pytest.raises(ValueError, match="longer than a line"):
        envelope.add_header("X", "x" * 999)
    for wrong in (None, b"x", 5):
        with pytest.raises(TypeError):
            envelope.add_header("X", wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            envelope.add_header(wrong, "x")  # type: ignore[arg-type]
    with pytest.raises(re.error):
        envelope.remove_header("X", "(")
    with pytest.raises(TypeError):
        envelope.remove_header("X", re.compile(b"x"))  # type: ignore[arg-type]
    assert edited(b"\r\n", add("X", "ü"), smtputf8=True) == "X: ü\r\n\r\n".encode()


@pytest.mark.parametrize(
    "value",
    ["", "x", "a  b", "word " * 300, ("w" * 70 + "  ") * 9, "x" * 900, "a " * 30 + "x" * 990],
)
def test_a_long_value_is_folded_and_unfolds_to_itself(value: str) -> None:
    octets = edited(b"", add("X-Long", value))
    lines = octets.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 998 for line in lines)
    assert all(line.strip() for line in lines)
    for line in lines:
        assert len(line) <= 78 or b" " not in line.removeprefix(b"X-Long: ").strip()
    unfolded = octets[:-2].replace(b"\r\n", b"").decode()
    assert unfolded == f"X-Long: {value.strip()}".rstrip()


@pytest.mark.parametrize("edit", [[add("X-Spam", "no")], [remove("To"), add("X-Spam", "no")]])
@pytest.mark.parametrize(
    ("content", "between"),
    [
        (b" dmarc=pass\r\nbody\r\n", b"\r\n"),
        (b"\tdmarc=pass\r\n\r\nbody\r\n", b"\r\n"),
        (b"Alarm on sensor 7\r\n", b"\r\n"),
        (b"\r\nbody\r\n", b""),
        (b"Subject: x\r\n\r\nbody\r\n", b""),
        (b"", b""),
    ],
)
def test_a_message_without_a_header_does_not_continue_the_fields_of_policies(
    edit: Any, content: bytes, between: bytes
) -> None:
    assert edited(content, *edit) == b"X-Spam: no\r\n" + between + content


def test_policies_edit_what_on_data_reads_and_not_what_the_next_policy_sees() -> None:
    def edit(session: Any) -> None:
        session.envelope.remove_header("Subject")
        session.envelope.add_header("X-Seen", "yes")

    looks, store = Looks(), Store()
    with talking(on_data=store, use=[Looks(edit), looks]) as client:
        for _ in range(2):  # the next message begins without edits
            assert send(client, b"Subject: x\r\n\r\nbody\r\n").startswith("250")
    assert looks.contents == [b"Subject: x\r\n\r\nbody\r\n"] * 2
    assert store.contents == [b"X-Seen: yes\r\n\r\nbody\r\n"] * 2


# The option


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", None, True])
def test_spool_memory_is_a_number_of_bytes(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="spool_memory"):
        SMTPServer(None, spool_memory=wrong)


def test_without_on_message_nothing_is_spooled() -> None:
    class Other:
        def on_rcpt_to(self, address: Any, session: Any) -> None: ...

    asked = Event()

    def store(stream: Any, session: Any) -> None:
        asked.set()
        stream.read()

    with talking(on_data=store, use=[Other()]) as client:
        begin(client)
        assert client.cmd("DATA").startswith("354")
        assert asked.wait(30)  # before the message has arrived
        client.send(b"x\r\n.\r\n")
        assert client.reply().startswith("250")
