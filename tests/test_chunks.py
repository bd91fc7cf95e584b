"""BDAT (RFC 3030): chunks of a message, what is refused of them, and what stays in step."""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support import SECONDS, Client, poll, running, talking, witnessed

from smtp_blinker import DEFAULT_EXTENSIONS, Reject

CONTENT = b"Subject: x\r\n\r\n.dot\r\n..two\r\n.\r\nend\r\n"


class Store:
    """An `on_data` that reads in one of the ways that there are."""

    def __init__(self, read: str = "all") -> None:
        self.read = read
        self.contents: list[bytes] = []
        self.broken: list[BaseException] = []

    def __call__(self, stream: Any, session: Any) -> str:
        try:
            if self.read == "all":
                content = stream.read()
            elif self.read == "lines":
                content = b"".join(stream)
            else:
                content = b""
                while piece := stream.read(3):
                    content += piece
        except BaseException as exc:
            self.broken.append(exc)
            raise
        self.contents.append(content)
        return "stored"


def bdat(content: bytes, last: bool = False) -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(content), b" LAST" if last else b"", content)


@pytest.mark.parametrize("read", ["all", "lines", "three"])
def test_one_chunk_is_a_message_without_dot_unstuffing(read: str) -> None:
    store = Store(read)
    with witnessed(on_data=store) as client:
        client.envelope()
        client.send(bdat(CONTENT, last=True))
        assert client.reply() == "250 2.0.0 stored"
        client.ok("NOOP")
        assert client.message().startswith("250")
        event = client.witness.of("message")[0]
        assert (event.code, event.size, event.transaction) == (250, len(CONTENT), 1)
    assert store.contents[0] == CONTENT


def test_chunking_is_offered_and_binarymime_only_when_asked_for() -> None:
    with talking(hello=None) as client:
        lines = client.ok("EHLO me").split("\n")
        assert "250-CHUNKING" in lines
        assert not any("BINARYMIME" in line for line in lines)
        assert client.cmd("MAIL FROM:<> BODY=BINARYMIME").startswith("501")
    with running(extensions=DEFAULT_EXTENSIONS | {"BINARYMIME"}) as server:
        assert "250-BINARYMIME" in Client(server).ok("EHLO me").split("\n")
    with (
        pytest.raises(ValueError, match="CHUNKING"),
        running(extensions={"BINARYMIME", "8BITMIME"}),
    ):
        pass


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("pipelined", [True, False])
def test_chunks_of_any_size_are_one_message(size: int, pipelined: bool) -> None:
    store = Store()
    with talking(on_data=store) as client:
        client.envelope()
        pieces = [CONTENT[at : at + size] for at in range(0, len(CONTENT), size)]
        commands = [bdat(piece) for piece in pieces] + [bdat(b"", last=True)]
        if pipelined:
            client.send(b"".join(commands) + b"NOOP\r\n")
            answers = [client.reply() for _ in commands]
        else:
            answers = []
            for command in commands:
                client.send(command)
                answers.append(client.reply())
            client.send(b"NOOP\r\n")
        assert answers == ["250 2.0.0 Chunk received"] * len(pieces) + ["250 2.0.0 stored"]
        assert client.reply() == "250 2.0.0 OK"
    assert store.contents == [CONTENT]


@pytest.mark.parametrize("cut", range(1, 120))
def test_a_dialogue_with_chunks_is_the_same_at_every_cut(cut: int) -> None:
    dialogue = (
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nBDAT 10\r\nSubject: x"
        b"BDAT 4\r\n\r\n\r\nBDAT 5 LAST\r\nRSET\nNOOP\r\n"
    )
    store = Store()
    with talking(on_data=store) as client:
        client.send(dialogue[:cut])
        gevent.sleep(0)
        client.send(dialogue[cut:])
        assert [client.reply()[:3] for _ in range(6)] == ["250"] * 6
    assert store.contents == [b"Subject: x\r\n\r\nRSET\r\n"]


def test_an_empty_message_and_an_empty_last_chunk() -> None:
    store = Store()
    with talking(on_data=store) as client:
        client.envelope()
        assert client.cmd("BDAT 0 LAST") == "250 2.0.0 stored"
        client.envelope()
        assert client.cmd("bdat 0").startswith("250")
        client.send(bdat(b"x"))
        assert client.reply().startswith("250")
        assert client.cmd("BDAT 0 last") == "250 2.0.0 stored"
    assert store.contents == [b"", b"x"]


@pytest.mark.parametrize("when", ["option", "session"])
def test_chunking_is_not_offered_where_bdat_is_disabled(when: str) -> None:
    options: dict[str, Any] = {"extensions": DEFAULT_EXTENSIONS | {"BINARYMIME"}}
    if when == "option":
        options["disabled_commands"] = ["bdat"]
    else:
        options["on_connect"] = lambda session: setattr(session, "disabled_commands", {"BDAT"})
    with talking(**options, hello=None) as client:
        offered = client.cmd("EHLO me")
        assert "CHUNKING" not in offered
        assert "BINARYMIME" not in offered
        assert client.cmd("MAIL FROM:<> BODY=BINARYMIME").startswith("501 5.5.4")
        client.envelope()
        client.send(bdat(INNER, last=True))
        assert client.reply().startswith("502")
        assert client.cmd("DATA").startswith("354")


@pytest.mark.parametrize(
    "argument",
    ["-1", "+5", "x", "", "LAST", "LAST 5", "0x5", "1e3", "5.0", "1_0", "5,", "9" * 20, "9" * 5000],
)
def test_a_size_that_cannot_be_read_ends_the_connection(argument: str) -> None:
    with talking(max_command_length=8192) as client:
        client.envelope()
        client.send(b"BDAT " + argument.encode() + b"\r\nMAIL FROM:<x@example.org>\r\n")
        client.ends_with("501 5.5.4")


def test_a_message_that_lacks_a_chunk_is_refused_and_leaves_nothing_behind() -> None:
    store = Store()
    with talking(on_data=store) as client:
        client.envelope("lost@example.com")
        client.send(bdat(b"one") + b"BDAT 3 FIRST\r\ntwo" + bdat(b"three", last=True))
        assert [client.reply()[:3] for _ in range(3)] == ["250", "501", "503"]
        client.envelope("b@example.com")
        client.send(bdat(b"whole", last=True))
        assert client.reply() == "250 2.0.0 stored"
    assert store.contents == [b"whole"]
    assert len(store.broken) == 1


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("piece", [bdat(b"x"), b"NOOP\r\n"])
def test_the_time_for_a_message_counts_over_chunks_that_are_never_waited_for(
    reads: bool, piece: bytes
) -> None:
    store = Store()
    hook = store if reads else (lambda stream, session: None)
    with talking(on_data=hook, data_timeout=0.3) as client:
        client.envelope()
        client.send(bdat(b"x"))
        replies = [client.reply()]
        for _ in range(80):  # 4 s: each of them far below socket_timeout
            if not replies[-1].startswith("250"):
                break
            gevent.sleep(0.05)
            with contextlib.suppress(OSError):
                client.send(piece)
            replies.append(client.reply())
        assert replies[-1].startswith("421 4.4.2")
    assert not store.contents
    assert len(store.broken) == reads


INNER = b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<evil@example.com>\r\n"


@pytest.mark.parametrize("where", ["START", "READY", "MAIL", "after LAST", "no CHUNKING", "AUTH"])
@pytest.mark.parametrize("last", [True, False])
def test_the_octets_of_a_refused_chunk_are_no_commands(where: str, last: bool) -> None:
    options: dict[str, Any] = {}
    if where == "no CHUNKING":
        options["extensions"] = DEFAULT_EXTENSIONS - {"CHUNKING"}
    elif where == "AUTH":
        options["on_auth"] = lambda auth, session: "me"
    store = Store()
    with talking(on_data=store, **options, hello=None if where == "START" else "EHLO me") as client:
        if where == "MAIL":
            client.ok("MAIL FROM:<>")
        elif where in ("after LAST", "no CHUNKING"):
            client.envelope()
        if where == "after LAST":
            client.send(bdat(b"x", last=True))
            client.reply()
        client.send(bdat(INNER, last) + b"NOOP\r\n")
        code = {"no CHUNKING": "502", "AUTH": "530"}.get(where, "503")
        assert client.reply().startswith(code)
        assert client.reply() == "250 2.0.0 OK"
    assert len(store.contents) == (where == "after LAST")


def test_a_chunk_beyond_the_size_is_read_and_refused_and_so_are_the_next() -> None:
    store = Store()
    with witnessed(on_data=store, size=1000) as client:
        client.envelope()
        client.send(bdat(b"x" * 900) + bdat(b"y" * 900) + bdat(b"z" * 5, last=True) + b"NOOP\r\n")
        assert [client.reply()[:9] for _ in range(4)] == [
            "250 2.0.0",
            "552 5.3.4",
            "503 5.5.1",
            "250 2.0.0",
        ]
        assert client.witness.one("message").code == 552
        assert client.message().startswith("250")
    assert [type(exc) for exc in store.broken] == [Reject]


@pytest.mark.parametrize("when", ["at once", "after reading"])
@pytest.mark.parametrize("last", [True, False])
def test_a_hook_s_refusal_is_told_once_the_chunk_is_read(when: str, last: bool) -> None:
    def on_data(stream: Any, session: Any) -> None:
        if when == "after reading":
            stream.read(3)
        raise Reject(554, "no", "5.7.1")

    with talking(on_data=on_data) as client:
        client.envelope()
        client.send(bdat(INNER, last))
        assert client.reply() == "554 5.7.1 no"
        client.ok("NOOP")
        client.send(bdat(b"more", last=True))
        assert client.reply().startswith("503")
        client.envelope()


def test_a_hook_that_reads_nothing_accepts_at_the_last_chunk() -> None:
    with talking(on_data=lambda stream, session: "fine") as client:
        client.envelope()
        client.send(bdat(b"one") + bdat(b"two", last=True))
        assert client.reply() == "250 2.0.0 Chunk received"
        assert client.reply() == "250 2.0.0 fine"


def test_between_chunks_only_what_makes_sense_is_served() -> None:
    store = Store()
    with talking(on_data=store) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        client.reply()
        for refused in (
            "DATA",
            "MAIL FROM:<>",
            "RCPT TO:<c@example.com>",
            "STARTTLS",
            "AUTH PLAIN",
        ):
            assert client.cmd(refused).startswith("503"), refused
        client.ok("NOOP", "VRFY x", "HELP")
        client.send(bdat(b"two\r\n", last=True))
        assert client.reply() == "250 2.0.0 stored"
    assert store.contents == [b"one\r\ntwo\r\n"]


@pytest.mark.parametrize("command", ["RSET", "EHLO again", "QUIT"])
def test_what_begins_anew_gives_the_message_up(command: str) -> None:
    store = Store()
    with witnessed(on_data=store) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        client.reply()
        client.ok(command)
        if command == "QUIT":
            assert client.ended()
            assert client.witness.one("disconnect").reason == "quit"
        else:
            assert client.cmd("RCPT TO:<b@example.com>").startswith("503")
            client.envelope()
            client.send(bdat(b"two\r\n", last=True))
            assert client.reply() == "250 2.0.0 stored"
        assert not client.witness.of("error")
    assert [type(exc).__name__ for exc in store.broken] == ["TruncatedError"]
    assert store.contents == ([] if command == "QUIT" else [b"two\r\n"])


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("inside", [True, False])
def test_a_client_that_leaves_has_stored_nothing(leave: str, inside: bool) -> None:
    store = Store()
    with witnessed(on_data=store) as client:
        client.envelope()
        client.send(bdat(b"one\r\n") + (b"BDAT 100 LAST\r\nhalf" if inside else b""))
        client.reply()
        getattr(client, leave)()
        assert client.witness.one("disconnect").messages == 0
        # A message that was cut off shows there, wherever that was.
        assert client.witness.one("error").code in {"ECONNABORTED", "ECONNRESET"}
    assert [isinstance(exc, ConnectionError) for exc in store.broken] == [True]
    assert not store.contents


@pytest.mark.parametrize("last", [True, False])
def test_data_then_bdat_and_bdat_then_data_do_not_mix(last: bool) -> None:
    with talking() as client:
        client.envelope()
        assert client.cmd("DATA").startswith("354")
        client.send(b"BDAT 5 LAST\r\n.\r\n")
        assert client.reply().startswith("250")


def test_lmtp_has_a_reply_per_recipient_after_the_last_chunk() -> None:
    def on_data(stream: Any, session: Any) -> Any:
        stream.read()
        return ["one", Reject(550, "no", "5.1.1")]

    with talking(on_data=on_data, lmtp=True, hello="LHLO me") as client:
        client.envelope("b@example.com", "c@example.com")
        client.send(bdat(b"x") + bdat(b"y", last=True))
        assert [client.reply() for _ in range(3)] == [
            "250 2.0.0 Chunk received",
            "250 2.0.0 one",
            "550 5.1.1 no",
        ]
        client.ok("NOOP")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("normalize", b"a\r\nb\r\nc\r\n\r\nd\r\n"),
        ("allow", b"a\nb\r\r\nc\r\n\rd\n"),
        ("reject", None),
    ],
)
@pytest.mark.parametrize("cut", range(1, 12))
def test_chunk_bare_newline(policy: str, expected: bytes | None, cut: int) -> None:
    content = b"a\nb\r\r\nc\r\n\rd\n"
    store = Store()
    with talking(on_data=store, chunk_bare_newline=policy) as client:
        client.envelope()
        client.send(bdat(content[:cut]) + bdat(content[cut:], last=True))
        answers = [client.reply()[:9], client.reply()[:9]]
        client.ok("NOOP")
    if expected is None:
        assert "550 5.5.2" in answers
        assert not store.contents
    else:
        assert answers == ["250 2.0.0"] * 2
        assert store.contents == [expected]


def test_binary_content_is_stored_octet_by_octet() -> None:
    content = bytes(range(256)) * 3 + b"\r"
    store = Store()
    options = {"extensions": DEFAULT_EXTENSIONS | {"BINARYMIME"}, "chunk_bare_newline": "reject"}
    with talking(on_data=store, **options) as client:
        client.ok("MAIL FROM:<> BODY=BINARYMIME", "RCPT TO:<b@example.com>")
        assert client.cmd("DATA").startswith("503")
        client.send(bdat(content[:100]) + bdat(content[100:], last=True))
        assert [client.reply()[:3] for _ in range(2)] == ["250", "250"]
    assert store.contents == [content]


def test_twenty_thousand_chunks_of_one_octet() -> None:
    store = Store()
    with talking(on_data=store) as client:
        client.envelope()
        sender = gevent.spawn(client.send, b"BDAT 1\r\nx" * 20_000 + b"BDAT 0 LAST\r\n")
        for _ in range(20_000):
            assert client.reply() == "250 2.0.0 Chunk received"
        assert client.reply() == "250 2.0.0 stored"
        sender.get()
    assert store.contents == [b"x" * 20_000]


def test_empty_chunks_are_junk() -> None:
    with talking(max_junk_commands=5) as client:
        client.envelope()
        client.send(b"BDAT 0\r\n" * 10)
        assert [client.reply()[:3] for _ in range(6)] == ["250"] * 5 + ["421"]
        assert client.ended()


def test_stop_lets_the_chunks_end_and_tells_421_then() -> None:
    store = Store()
    with talking(on_data=store, close_timeout=3600) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        client.reply()
        stopping = gevent.spawn(client.server.stop)
        poll(lambda: client.server.closed)
        client.send(bdat(b"two\r\n", last=True))
        assert client.reply() == "250 2.0.0 stored"
        assert client.reply().startswith("421 4.3.2")
        stopping.get()
    assert store.contents == [b"one\r\ntwo\r\n"]


def test_a_hook_s_clock_stops_between_chunks() -> None:
    store = Store()
    with talking(on_data=store, hook_timeout=0.2) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        client.reply()
        gevent.sleep(0.4)
        client.send(bdat(b"two\r\n", last=True))
        assert client.reply() == "250 2.0.0 stored"


def test_a_slow_reader_slows_its_sender_down() -> None:
    reached, go_on = Event(), Event()

    def on_data(stream: Any, session: Any) -> str:
        stream.read(1)
        reached.set()
        go_on.wait()
        return f"{len(stream.read()) + 1} octets"

    with talking(on_data=on_data) as client:
        client.envelope()
        size = 64 * 2**20
        sender = gevent.spawn(client.send, b"BDAT %d LAST\r\n" % size + b"x" * size)
        reached.wait(SECONDS)
        [live] = client.server.connections
        assert live.bytes_in < 2**20
        go_on.set()
        assert client.reply() == f"250 2.0.0 {size} octets"
        sender.get()


def test_a_lost_tls_connection_inside_a_chunk_stores_nothing(certificate: Any) -> None:
    store = Store()
    with witnessed(on_data=store, secure=True, **certificate.options) as client:
        client.ok("MAIL FROM:<>", "RCPT TO:<b@example.com>")
        client.send(b"BDAT 100 LAST\r\nhalf")
        assert client.tls is not None
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()  # close_notify, and plain text behind it
        client.sock.sendall(client._outgoing.read() + b"x" * 96)
        assert client.witness.one("disconnect").messages == 0
    assert not store.contents


def test_a_timeout_of_the_program_s_own_between_chunks_loses_nothing_and_answers_once() -> None:
    contents: list[bytes] = []

    def on_data(stream: Any, session: Any) -> str:
        for _ in range(3):
            with gevent.Timeout(0.05, False):  # type: ignore[arg-type]
                contents.append(stream.read())
        if not contents:
            contents.append(stream.read())
        return "stored"

    with talking(on_data=on_data) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        assert client.reply() == "250 2.0.0 Chunk received"
        assert client.silent(0.3)
        client.send(bdat(b"two\r\n", last=True))
        assert client.reply() == "250 2.0.0 stored"
        client.ok("NOOP")
    assert contents == [b"one\r\ntwo\r\n"]


@pytest.mark.parametrize("last", [True, False])
def test_a_fault_between_chunks_is_the_reply_to_the_next(last: bool) -> None:
    def on_data(stream: Any, session: Any) -> None:
        with gevent.Timeout(0.05):
            stream.read()

    with talking(on_data=on_data) as client:
        client.envelope()
        client.send(bdat(b"one\r\n"))
        assert client.reply() == "250 2.0.0 Chunk received"
        assert client.silent(0.3)  # no command waits for a reply
        client.send(bdat(INNER, last))
        assert client.reply().startswith("451")
        client.ok("NOOP")


def test_a_hook_that_swallows_the_refusal_changes_nothing() -> None:
    def on_data(stream: Any, session: Any) -> str:
        for _ in range(5):
            with contextlib.suppress(Reject):
                stream.read()
        return "stored"

    with talking(on_data=on_data, size=100) as client:
        client.envelope()
        client.send(bdat(b"x" * 200) + bdat(INNER, last=True) + b"NOOP\r\n")
        assert client.reply().startswith("552")
        assert client.reply().startswith("503")
        assert client.reply().startswith("250")


def test_chunks_are_read_in_the_hook_s_own_greenlet() -> None:
    failures: list[BaseException] = []

    def on_data(stream: Any, session: Any) -> None:
        def read() -> None:
            try:
                stream.read()
            except BaseException as exc:
                failures.append(exc)

        gevent.spawn(read).join()

    with talking(on_data=on_data) as client:
        client.envelope()
        client.send(bdat(b"x"))
        client.reply()
        client.send(bdat(b"y", last=True))
        assert client.reply().startswith("250")
    assert [type(one) for one in failures] == [RuntimeError]
