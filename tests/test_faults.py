"""What breaks: the process, the connection, the program's hooks and listeners.

`python tests/test_faults.py --kills 200` runs the long version of the kill -9 test and prints
its figures; in pytest SMTP_BLINKER_KILLS=200 does the same.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import mailbox
import os
import random
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import GreenletExit, getcurrent
from gevent import socket as gsocket

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from soak import soak  # noqa: E402
from support import (  # noqa: E402
    BlockingClient,
    Certificate,
    Client,
    Witness,
    auth_plain,
    descriptors,
    greenlets,
    poll,
    raising,
    running,
    take_replies,
    talking,
    tcp_address,
    trusting,
    witnessed,
)
from support.cli import SmtpBlinker  # noqa: E402

from smtp_blinker import SMTPServer, signals  # noqa: E402

SERVED = ("-l", "127.0.0.1:0", "--log-level", "error")
#: Only a failing test waits this long.
SECONDS = 60.0

# The process: kill -9 and SIGTERM of scripts/serve.py under load


def content(number: int) -> bytes:
    """The message of that number: a few hundred octets or some pieces of 64 KiB."""
    rng = random.Random(number)
    size = rng.choice((100, 100, 2_000, 2_000, 70_000, 250_000))
    text = base64.encodebytes(rng.randbytes(size)).replace(b"\n", b"\r\n")
    lines = b"\r\n.\r\n..\r\n.x\r\n\r\n"
    return b"Subject: %d\r\nX-Number: %d\r\n%s%sEnd: %d\r\n" % (number, number, lines, text, number)


@dataclass
class Record:
    """What the clients of one serve.py did."""

    #: Numbers of messages whose transaction began, and of those that were answered 250.
    begun: set[int] = field(default_factory=set)
    accepted: set[int] = field(default_factory=set)
    #: How each connection that connected ended: "quit", "421", "lost", "silence" (no greeting).
    endings: Counter[str] = field(default_factory=Counter)
    #: What no server may do.
    wrong: list[str] = field(default_factory=list)


class Lost(Exception):
    """The connection broke."""


class Sender(threading.Thread):
    """Sends messages over one connection after the other until it can't connect any more."""

    def __init__(self, port: int, numbers: Iterator[int], record: Record, seed: int) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.numbers = numbers
        self.record = record
        self.random = random.Random(seed)
        self.client: BlockingClient

    def run(self) -> None:
        try:
            while self.connect():
                ending = self.session()
                self.record.endings[ending] += 1
                self.client.close()
                if ending != "quit":
                    return
        except Exception as exc:
            self.record.wrong.append(f"{type(exc).__name__}: {exc}")

    def connect(self) -> bool:
        try:
            self.client = BlockingClient(("127.0.0.1", self.port), greet=False)
        except OSError:
            return False
        return True

    def session(self) -> str:
        greeted = False
        try:
            if self.code() == "421":
                return "421"
            greeted = True
            if self.say(b"EHLO c.example\r\n") == "421":
                return "421"
            for _ in range(self.random.randrange(1, 6)):
                if self.message(next(self.numbers)) == "421":
                    return "421"
            return "421" if self.say(b"QUIT\r\n") == "421" else "quit"
        except Lost:
            return "lost" if greeted else "silence"

    def message(self, number: int) -> str:
        """Send one; returns the last reply's code."""
        whole = content(number)
        wire = whole.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        self.record.begun.add(number)
        group = [b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.com>\r\n", b"DATA\r\n"]
        if self.random.random() < 0.5:
            self.send(b"".join(group))
            codes = []
            for _ in group:
                codes.append(self.code())
                if codes[-1] == "421":
                    break
        else:
            codes = []
            for command in group:
                codes.append(self.say(command))
                if codes[-1] == "421":
                    break
        if codes[-1] == "421":
            return "421"
        if codes != ["250", "250", "354"]:
            raise AssertionError(f"a transaction began with {codes}")
        if self.random.random() < 0.2:  # in two pieces, the second a little later
            cut = self.random.randrange(len(wire))
            self.send(wire[:cut])
            time.sleep(self.random.random() / 20)
            wire = wire[cut:]
        self.send(wire)
        code = self.code()
        if code == "250":
            self.record.accepted.add(number)
        elif code != "421":
            raise AssertionError(f"a message was answered {code}")
        return code

    def say(self, line: bytes) -> str:
        self.send(line)
        return self.code()

    def send(self, data: bytes) -> None:
        # A 421 may be there to be read although nobody takes what is sent any more.
        with suppress(ConnectionError):
            self.client.send(data)

    def code(self) -> str:
        """The code of the next reply."""
        try:
            return str(self.client.reply().code)
        except EOFError:
            raise Lost from None


def check_maildir(maildir: Path, record: Record) -> int:
    """Every accepted message is there once, every visible one is whole; the number of these."""
    box = mailbox.Maildir(maildir, create=False)
    found: Counter[int] = Counter()
    for key in box.keys():  # noqa: SIM118  # a Mailbox iterates over messages
        data = box.get_bytes(key)
        match = re.search(rb"^Subject: (\d+)\n", data, re.M)
        assert match, f"not a whole message: {key} {data[:200]!r}"
        number = int(match[1])
        expected = content(number).replace(b"\r\n", b"\n")
        assert data[match.start() :] == expected, f"message {number} is not what was sent: {key}"
        assert number in record.begun
        found[number] += 1
    twice = {number for number, times in found.items() if times > 1}
    missing = record.accepted - set(found)
    assert not missing, f"answered 250 and not there: {sorted(missing)}"
    assert not twice, f"there more than once: {sorted(twice)}"
    return len(found)


@dataclass
class KillFigures:
    kills: int = 0
    accepted: int = 0
    visible: int = 0
    #: Transactions that had begun and had no 250 when the process died.
    under_way: int = 0
    #: Kills with at least one of these.
    in_the_middle: int = 0
    connections: int = 0
    #: Files that the crashes left in tmp/, where they are no messages.
    leftovers: int = 0


def kill_loop(
    folder: Path, kills: int, *, seed: int = 0, clients: int = 8, tell: bool = False
) -> KillFigures:
    """Kill -9 serve.py *kills* times under load, and look at the Maildir after each."""
    rng = random.Random(seed)
    numbers = itertools.count(1)
    figures = KillFigures()
    for kill in range(kills):
        record = Record()
        with SmtpBlinker(folder, *SERVED, SMTP_BLINKER_HTTP="off") as serve:
            senders = [
                Sender(serve.port, numbers, record, rng.randrange(2**32)) for _ in range(clients)
            ]
            for sender in senders:
                sender.start()
            time.sleep(rng.random() * 0.6)
            assert serve.signal(signal.SIGKILL) == -signal.SIGKILL
            for sender in senders:
                sender.join(SECONDS)
                assert not sender.is_alive()
        assert not record.wrong, record.wrong
        figures.kills += 1
        figures.visible += check_maildir(serve.folder / "Maildir", record)
        figures.accepted += len(record.accepted)
        figures.under_way += len(record.begun - record.accepted)
        figures.in_the_middle += bool(record.begun - record.accepted)
        figures.connections += sum(record.endings.values())
        for seen in (serve.folder / "Maildir" / "new").iterdir():
            seen.unlink()
        if tell and (kill + 1) % 20 == 0:
            print(f"{kill + 1} kills: {figures}", flush=True)
    figures.leftovers = len(list((serve.folder / "Maildir" / "tmp").iterdir()))
    return figures


KILLS = int(os.environ.get("SMTP_BLINKER_KILLS", "15"))


@pytest.mark.timeout(120 + 10 * KILLS)
def test_kill_9_loses_no_accepted_message_and_shows_no_half_one(tmp_path: Path) -> None:
    figures = kill_loop(tmp_path, KILLS)
    assert figures.kills == KILLS
    assert figures.accepted  # otherwise nothing was tested
    assert figures.in_the_middle


def sigterm_round(folder: Path, seed: int, wait: float) -> tuple[Record, int]:
    """Stop a busy serve.py with SIGTERM; returns what its clients saw and its exit status."""
    record = Record()
    numbers = itertools.count(1)
    with SmtpBlinker(folder, *SERVED, SMTP_BLINKER_HTTP="off") as serve:
        senders = [Sender(serve.port, numbers, record, seed * 100 + n) for n in range(12)]
        idle = [Sender(serve.port, numbers, record, 0) for _ in range(4)]
        for one in idle:
            assert one.connect()
            assert one.code() == "220"
        idle[1].say(b"EHLO c.example\r\n")
        idle[2].say(b"EHLO c.example\r\n")
        idle[2].say(b"MAIL FROM:<a@example.org>\r\n")
        # The last one is inside its content, and takes its time to end it.
        idle[3].send(
            b"EHLO c.example\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        )
        assert [idle[3].code() for _ in range(4)] == ["250", "250", "250", "354"]
        whole = content(10**9)
        wire = whole.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        idle[3].send(wire[:-20])
        record.begun.add(10**9)
        for sender in senders:
            sender.start()
        time.sleep(wait)
        serve.process.send_signal(signal.SIGTERM)
        assert [one.code() for one in idle[:3]] == ["421"] * 3
        idle[3].send(wire[-20:])
        assert [idle[3].code() for _ in range(2)] == ["250", "421"]
        record.accepted.add(10**9)
        for one in idle:
            one.client.close()
        status = serve.process.wait(SECONDS)
        for sender in senders:
            sender.join(SECONDS)
            assert not sender.is_alive()
    check_maildir(serve.folder / "Maildir", record)
    return record, status


@pytest.mark.parametrize("seed", range(3))
def test_sigterm_under_load_answers_everybody_and_keeps_every_message(
    tmp_path: Path, seed: int
) -> None:
    record, status = sigterm_round(tmp_path, seed, 0.1 + seed * 0.3)
    assert status == 0
    assert not record.wrong, record.wrong
    assert len(record.accepted) > 1
    # Who was greeted hears 421 before the connection ends, whatever it was doing. A client
    # that was never accepted is refused, or hangs in a backlog that goes away.
    assert record.endings["lost"] == 0, record.endings


# The connection: RST, FIN, half-close, TLS cut off


COMMANDS = (
    b"EHLO c.example\r\n",
    b"MAIL FROM:<a@example.org>\r\n",
    b"RCPT TO:<b@example.com>\r\n",
    b"DATA\r\n",
)
CONTENT = b"Subject: x\r\n\r\none\r\n..two\r\n"
PARTS = (*COMMANDS, CONTENT + b".\r\n", b"QUIT\r\n")
DIALOGUE = b"".join(PARTS)
#: Where the client may begin its content, and where the message has ended.
CONTENT_AT = len(b"".join(COMMANDS))
END_AT = CONTENT_AT + len(CONTENT) + 3


@dataclass
class Seen:
    """What the program was told of a server's connections."""

    closed: Counter[str] = field(default_factory=Counter)
    disconnected: list[Any] = field(default_factory=list)
    delivered: list[bytes] = field(default_factory=list)
    #: What `read` raised; None for a hook that is still reading.
    reads: list[BaseException | None] = field(default_factory=list)

    def on_data(self, stream: Any, session: Any) -> None:
        at = len(self.reads)
        self.reads.append(None)
        try:
            self.delivered.append(stream.read())
        except BaseException as exc:
            self.reads[at] = exc
            raise
        del self.reads[at]

    def on_close(self, session: Any) -> None:
        self.closed[session.id] += 1


@contextmanager
def watched(**options: Any) -> Iterator[tuple[SMTPServer, Seen]]:
    """A server that must be as it was, descriptors and greenlets too, when the block ends."""
    seen = Seen()

    def disconnected(server: SMTPServer, event: Any) -> None:
        seen.disconnected.append(event)

    with running(on_data=seen.on_data, on_close=seen.on_close, **options) as server:
        signals.disconnect.connect(disconnected, sender=server)
        # One of each kind of connection, so that everything lazy is there.
        with Client(server) as client:
            if server.options.offers_tls:
                client.cmd("EHLO c")
                client.cmd("STARTTLS")
                client.start_tls()
            client.send(DIALOGUE)
            client.rest()
        poll(lambda: seen.disconnected)
        poll(lambda: not server.connections)
        del client
        gevent.sleep(0)
        lived, opened = greenlets(), descriptors()
        for store in (seen.closed, seen.disconnected, seen.delivered, seen.reads):
            store.clear()
        yield server, seen
        poll(lambda: not server.connections)
        poll(lambda: greenlets() <= lived)
        assert descriptors() <= opened
        assert max(seen.closed.values(), default=1) == 1, "on_close ran more than once"
        assert len(seen.closed) == len(seen.disconnected)
    assert not server.connections


def half_close(client: Client) -> bytes:
    """End our side, read what the server still says."""
    client.sock.shutdown(socket.SHUT_WR)
    said = client.rest()
    client.close()
    return said


def play(client: Client, cut: int) -> bytes:
    """The dialogue up to *cut*, each command after the reply before it; returns what came.

    The reply to the last one isn't waited for when the cut is right behind it.
    """
    sent = 0
    before = client.buffer
    for part in PARTS:
        piece = part[: cut - sent]
        client.send(piece)
        sent += len(piece)
        if sent >= cut:
            break
        client.reply()
    return before


def check_cut(seen: Seen, cut: int, *, certain: bool, begun: bool) -> None:
    """What the program saw of one connection that broke after *cut* octets of the dialogue.

    *certain*: nothing of what was sent can have been lost; *begun*: the content had to begin.
    """
    if cut < END_AT:
        assert seen.delivered == [], cut
        if begun:
            assert len(seen.reads) == 1, cut
        for raised in seen.reads:
            assert isinstance(raised, ConnectionError), (cut, raised)
    else:
        assert seen.delivered in (
            [[b"Subject: x\r\n\r\none\r\n.two\r\n"]]
            if certain
            else [[], [b"Subject: x\r\n\r\none\r\n.two\r\n"]]
        ), cut
        for raised in seen.reads:
            assert not certain
            assert isinstance(raised, ConnectionError), (cut, raised)
    seen.delivered.clear()
    seen.reads.clear()


def leave(client: Client, way: str) -> bytes:
    """What the client still hears."""
    if way == "half_close":
        return half_close(client)
    if way == "reset":
        client.reset()
    else:
        client.close()
    return b""


@pytest.mark.parametrize("way", ["reset", "close", "half_close"])
def test_connection_that_breaks_at_any_octet_of_a_dialogue(way: str) -> None:
    with watched() as (server, seen):
        for cut in range(len(DIALOGUE) + 1):
            client = Client(server)
            play(client, cut)
            said = leave(client, way)
            poll(lambda cut=cut: len(seen.disconnected) == cut + 1)  # type: ignore[misc]
            # A reset may overtake what was sent last; nothing else may.
            check_cut(seen, cut, certain=way != "reset", begun=cut > CONTENT_AT)
            if cut >= END_AT and way == "half_close" and cut == END_AT:
                assert [one.code for one in take_replies(said)] == [250]


@pytest.mark.parametrize("way", ["reset", "close", "half_close"])
def test_pipelining_connection_that_breaks_at_any_octet(way: str) -> None:
    with watched() as (server, seen):
        for cut in range(len(DIALOGUE) + 1):
            client = Client(server, greet=False)
            client.send(DIALOGUE[:cut])
            said = leave(client, way)
            poll(lambda cut=cut: len(seen.disconnected) == cut + 1)  # type: ignore[misc]
            # A close with replies unread is a reset.
            certain = way == "half_close"
            check_cut(seen, cut, certain=certain, begun=certain and cut >= CONTENT_AT)
            if way == "half_close":
                codes = [one.code for one in take_replies(said)]
                ends = itertools.accumulate(len(part) for part in PARTS)
                whole = sum(1 for end in ends if end <= cut)
                assert codes == [220, 250, 250, 250, 354, 250, 221][: whole + 1], cut


def test_client_that_sends_everything_and_half_closes_is_served() -> None:
    with watched() as (server, seen):
        client = Client(server, greet=False)
        client.send(DIALOGUE.removesuffix(b"QUIT\r\n"))
        codes = [one.code for one in take_replies(half_close(client))]
        assert codes == [220, 250, 250, 250, 354, 250]
        assert seen.delivered == [b"Subject: x\r\n\r\none\r\n.two\r\n"]
        poll(lambda: seen.disconnected)
        assert seen.disconnected[0].reason == "eof"
        assert seen.disconnected[0].messages == 1


def over_tls(server: SMTPServer) -> Client:
    client = Client(server, hello="EHLO c")
    client.starttls()
    return client


def records(client: Client, data: bytes) -> bytes:
    """*data* as TLS records, not sent."""
    assert client.tls is not None
    client.tls.write(data)
    return client._outgoing.read()


def close_notify(client: Client) -> None:
    assert client.tls is not None
    with suppress(Exception):  # it wants the other side's
        client.tls.unwrap()
    client.sock.sendall(client._outgoing.read())


TLS_CUTS = sorted(
    {0, *itertools.accumulate(len(part) for part in PARTS), *range(CONTENT_AT, END_AT + 1)}
)


@pytest.mark.parametrize("way", ["reset", "close", "half_close", "close_notify", "torn record"])
def test_tls_that_is_cut_off(way: str, certificate: Certificate) -> None:
    # T10
    with watched(**certificate.options) as (server, seen):
        for number, cut in enumerate(TLS_CUTS, 1):
            client = over_tls(server)
            play(client, cut)
            if way == "reset":
                client.reset()
            elif way == "half_close":
                half_close(client)
            elif way == "close_notify":
                close_notify(client)
                half_close(client)
            elif way == "torn record" and cut < END_AT:
                # The rest of the dialogue is in the record; one octet of it never comes.
                client.sock.sendall(records(client, DIALOGUE[cut:])[:-1])
                half_close(client)
            else:
                client.close()
            poll(lambda number=number: len(seen.disconnected) == number)  # type: ignore[misc]
            check_cut(seen, cut, certain=way != "reset", begun=cut > CONTENT_AT)


def test_tls_record_that_is_torn_at_any_octet(certificate: Certificate) -> None:
    with watched(**certificate.options) as (server, seen):
        cut = CONTENT_AT + 5
        for tear in itertools.count():
            client = over_tls(server)
            play(client, cut)
            wire = records(client, DIALOGUE[cut:])
            if tear == len(wire):
                client.close()
                break
            client.sock.sendall(wire[:tear])
            client.close()
            poll(lambda tear=tear: len(seen.disconnected) == tear + 1)  # type: ignore[misc]
            check_cut(seen, cut, certain=True, begun=True)


@pytest.mark.parametrize("way", ["reset", "close", "half_close"])
@pytest.mark.parametrize("implicit", [False, True])
def test_tls_handshake_that_is_cut_off(way: str, implicit: bool, certificate: Certificate) -> None:
    import ssl

    outgoing = ssl.MemoryBIO()
    tls = trusting().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    with watched(**certificate.options) as (explicit_server, explicit_seen):
        with running(secure=True, **certificate.options) as implicit_server:
            server = implicit_server if implicit else explicit_server
            ended: list[Any] = []

            def on_disconnect(sender: SMTPServer, event: Any) -> None:
                ended.append(event)

            signals.disconnect.connect(on_disconnect, sender=server)
            for number, cut in enumerate(range(0, len(hello) + 1, 7), 1):
                client = Client(server, greet=not implicit)
                if not implicit:
                    client.ok("EHLO c", "STARTTLS")
                client.send(hello[:cut])
                if way == "half_close":
                    half_close(client)
                elif way == "reset":
                    client.reset()
                else:
                    client.close()
                poll(lambda number=number: len(ended) == number)  # type: ignore[misc]
        assert explicit_seen.delivered == []


def test_resets_of_many_at_once_leave_nothing() -> None:
    """Also of those that are gone before they are accepted."""
    with watched() as (server, seen):
        for _ in range(5):
            clients = [Client(server, greet=False) for _ in range(60)]
            for number, client in enumerate(clients):
                client.send(DIALOGUE[: number * 3])
                client.reset()
        poll(lambda: len(seen.disconnected) == 300)
        assert len(seen.closed) == 300


# Stopping


def test_stop_leaves_whole_replies_to_a_client_that_reads_late() -> None:
    """A 421 must not land in the middle of a reply whose rest could not be written."""
    with talking(max_junk_commands=None, hello="EHLO c") as client:
        flood = gevent.spawn(client.send, b"HELP\r\n" * 200_000)
        try:
            [connection] = client.server.connections
            poll(lambda: stands_still(lambda: connection.bytes_out))
            stopping = gevent.spawn(client.server.stop, timeout=0.2)
            gevent.sleep(0)  # `stop` has begun
            said = client.rest()
            stopping.join()
        finally:
            flood.kill()
        *lines, torn = said.split(b"\r\n")
        last = lines.pop() if lines[-1].startswith(b"421") else None
        assert len(set(lines)) == 1, "something stands inside a reply"
        # Without a 421 the connection may end inside a reply; one with a 421 may not.
        assert not (last and torn)


def stands_still(value: Callable[[], int]) -> bool:
    before = value()
    gevent.sleep(0.3)
    return before > 100_000 and value() == before


def test_stop_keeps_the_250_of_a_message_when_it_ends_the_hook_of_the_next() -> None:
    """The message is with the program: a client that hears no 250 would send it again."""
    delivered = []
    reached = gevent.event.Event()

    def on_data(stream: Any, session: Any) -> None:
        delivered.append(stream.read())

    def on_mail_from(address: Any, session: Any) -> None:
        if session.transaction == 2:
            reached.set()
            gevent.sleep(SECONDS)

    with talking(on_data=on_data, on_mail_from=on_mail_from, hello="EHLO c") as client:
        client.begin()
        client.send(CONTENT + b".\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n")
        reached.wait()
        client.server.stop(timeout=0)
        codes = [one.code for one in take_replies(client.rest())]
        assert len(delivered) == 1
        assert codes == [250, 421]


def test_client_accepted_in_the_moment_of_the_stop_hears_421() -> None:
    for turns in range(4):
        with running() as server:
            sock = gsocket.create_connection(tcp_address(server))
            for _ in range(turns):
                gevent.sleep(0)
            if not turns:
                # The hub accepts it and lets `stop` run before the client's greenlet.
                server.do_handle(*server.do_read())
            server.stop(timeout=0.2)
            assert not server.connections
            sock.settimeout(SECONDS)
            said = b""
            try:
                while data := sock.recv(1000):
                    said += data
            except ConnectionError:
                assert not said  # it was in the backlog
                assert turns
            else:
                assert [one.code for one in take_replies(said)][-1] == 421
            assert not server.connections
            sock.close()


def test_stop_ends_a_client_that_stalls_inside_its_content() -> None:
    seen = Seen()
    with talking(on_data=seen.on_data, on_close=seen.on_close, hello=None) as client:
        play(client, CONTENT_AT + 5)
        poll(lambda: seen.reads)
        client.server.stop(timeout=0.1)
        client.ends_with("421 4.3.2")
        assert seen.delivered == []
        assert isinstance(seen.reads[0], (ConnectionError, GreenletExit))
        assert list(seen.closed.values()) == [1]
        client.close()


# Hooks and listeners that raise, hang, or kill their greenlet

SECRET = "the password of the database"


def time_out() -> None:
    with gevent.Timeout(0.001):
        gevent.sleep(SECONDS)


def throw_into_itself() -> None:
    getcurrent().throw(GreenletExit)


def kill_itself() -> None:
    gevent.kill(getcurrent())
    gevent.sleep(SECONDS)


def kill_itself_with_an_exception() -> None:
    gevent.kill(getcurrent(), RuntimeError(SECRET))
    gevent.sleep(SECONDS)


def kill_itself_later() -> None:
    gevent.kill(getcurrent())


def kill_itself_later_with_an_exception() -> None:
    gevent.kill(getcurrent(), RuntimeError(SECRET))


def hang() -> None:
    gevent.sleep(10 * SECONDS)


FAULTS = {
    "exception": raising(RuntimeError(SECRET)),
    "connection error": raising(ConnectionResetError(SECRET)),
    "timeout": raising(TimeoutError(SECRET)),
    "exit of the greenlet": raising(GreenletExit(SECRET)),
    "exit of the generator": raising(GeneratorExit(SECRET)),
    "exit of the program": raising(SystemExit(SECRET)),
    "timeout of gevent": raising(gevent.Timeout(1)),
    "timeout that came": time_out,
    "throw": throw_into_itself,
    "kill": kill_itself,
    "kill with an exception": kill_itself_with_an_exception,
}
LATE_FAULTS = (kill_itself_later, kill_itself_later_with_an_exception)
HOOKS = (
    *("on_connect", "on_secure", "on_auth", "on_mail_from", "on_rcpt_to", "on_data", "on_close"),
)
#: The client that meets the fault; all others come from 127.0.0.1.
VICTIM = "127.0.0.2"
LOGIN = auth_plain("user", "password")


def faulty_hooks(hook_names: tuple[str, ...], fault: Callable[[], None]) -> dict[str, Any]:
    """All hooks; those of *hook_names* have the *fault* when the client is the victim."""

    def make(name: str) -> Callable[..., Any]:
        def hook(*args: Any) -> Any:
            session = args[-1]
            if name in hook_names and session.remote_address == VICTIM:
                fault()
            if name == "on_data":
                args[0].read()
                return "taken"
            return "user" if name == "on_auth" else None

        return hook

    return {name: make(name) for name in HOOKS}


def use(server: SMTPServer, hook: str, source: str = VICTIM) -> tuple[Client, str]:
    """A client up to *hook*, and the reply to what the hook decides ("" for on_close)."""
    client = Client(server, greet=hook != "on_connect", source=source)
    if hook == "on_connect":
        return client, client.reply()
    client.ok("EHLO c", "STARTTLS")
    client.start_tls()
    if hook == "on_secure":
        return client, client.reply()
    client.ok("EHLO c")
    if hook == "on_auth":
        return client, client.cmd(LOGIN)
    client.ok(LOGIN)
    if hook == "on_mail_from":
        return client, client.cmd("MAIL FROM:<a@example.org>")
    client.ok("MAIL FROM:<a@example.org>")
    if hook == "on_rcpt_to":
        return client, client.cmd("RCPT TO:<b@example.com>")
    client.ok("RCPT TO:<b@example.com>", "DATA")
    client.send(CONTENT + b".\r\n")
    answer = client.reply()
    if hook == "on_data":
        return client, answer
    assert answer == "250 2.0.0 taken"
    client.ok("QUIT")
    return client, ""


def serves(server: SMTPServer) -> None:
    """Somebody else gets everything."""
    client, _ = use(server, "on_close", "127.0.0.1")
    assert client.ended()
    client.close()


def test_served_goes_through_every_hook(certificate: Certificate) -> None:
    called = []

    def note(name: str) -> Callable[..., Any]:
        def hook(*args: Any) -> str | None:
            called.append(name)
            return "taken" if name in ("on_auth", "on_data") else None

        return hook

    with running(**certificate.options, **{name: note(name) for name in HOOKS}) as server:
        serves(server)
        poll(lambda: not server.connections)
    assert called == list(HOOKS)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_fault_of_a_hook_is_451_and_the_connection_lives_on(
    hook: str, fault: Callable[[], None], certificate: Certificate
) -> None:
    with running(**certificate.options, **faulty_hooks((hook,), fault)) as server:
        witness = Witness(server)
        client, answer = use(server, hook)
        if hook == "on_close":
            assert client.ended()
            poll(lambda: witness.of("disconnect"))
        else:
            assert answer.startswith("451 4.3.0 ")
            assert SECRET not in answer
            assert witness.one("error").response_code == 451
        event = witness.one("error")
        assert event.code == "HookError"
        assert event.error.__traceback__ is not None
        assert event.remote_address == VICTIM
        assert event.meta["stage"]
        if hook in ("on_connect", "on_secure"):
            assert client.ended()  # without these nothing may go on
        elif hook != "on_close":
            [connection] = server.connections
            assert event.id == connection.session.id
            # A fault says nothing about the password, so nobody is counted or delayed for it.
            assert connection.limits.auth_failures == 0
            client.ok("NOOP", "RSET", "QUIT")
            assert client.ended()
        client.close()
        serves(server)
        poll(lambda: len(witness.of("disconnect")) == 2)
        server.stop(timeout=SECONDS)
        assert not server.connections


def test_fault_of_on_close_after_a_cut_off_message_is_reported() -> None:
    with witnessed(
        on_data=read, on_close=raising(ConnectionResetError(SECRET)), hello=None
    ) as client:
        play(client, CONTENT_AT + 5)
        client.close()
        poll(lambda: client.witness.of("disconnect"))
        assert [event.code for event in client.witness.of("error")].count("HookError") == 1


def read(stream: Any, session: Any) -> None:
    stream.read()


@pytest.mark.parametrize("fault", LATE_FAULTS)
@pytest.mark.parametrize("hook", HOOKS)
def test_hook_that_has_its_greenlet_killed_afterwards_ends_only_its_client(
    hook: str, fault: Callable[[], None], certificate: Certificate
) -> None:
    with running(**certificate.options, **faulty_hooks((hook,), fault)) as server:
        witness = Witness(server)
        replies: list[str] = []
        client: Client | None = None
        with suppress(EOFError, AssertionError, ConnectionError):
            # Some get this far and some are told 421 before.
            client, answer = use(server, hook)
            replies.append(answer)
        if client is not None:
            with suppress(ConnectionError):
                client.send(b"QUIT\r\n")
            replies += client.rest().decode().splitlines()
            client.close()
        allowed = ("", "220", "221", "235", "250", "421", "451")
        assert {line[:3] for line in replies} <= set(allowed), replies
        assert not any(SECRET in line for line in replies)
        poll(lambda: len(witness.of("disconnect")) == 1)
        serves(server)
        poll(lambda: len(witness.of("disconnect")) == 2)
        assert not server.connections


@pytest.mark.parametrize("late", [GreenletExit, RuntimeError, gevent.Timeout])
def test_client_is_told_421_when_something_is_thrown_into_its_greenlet_later(late: Any) -> None:
    """A gevent.Timeout that a hook started and forgot, for example."""

    def on_mail_from(address: Any, session: Any) -> None:
        gevent.kill(getcurrent(), late())

    seen = Seen()
    with witnessed(on_mail_from=on_mail_from, on_close=seen.on_close, hello="EHLO c") as client:
        client.send(b"MAIL FROM:<a@example.org>\r\n")
        codes = [one.code for one in take_replies(client.rest())]
        assert codes in ([250, 421], [421])
        client.close()
        gone = client.witness.one("disconnect")
        assert gone.reason == "shutdown" or late is not GreenletExit
        assert list(seen.closed.values()) == [1]
        poll(lambda: not client.server.connections)


@pytest.mark.parametrize("hook", HOOKS)
def test_hook_that_hangs_is_ended_by_hook_timeout(hook: str, certificate: Certificate) -> None:
    with running(hook_timeout=0.1, **certificate.options, **faulty_hooks((hook,), hang)) as server:
        witness = Witness(server)
        client, answer = use(server, hook)
        if hook == "on_close":
            assert client.ended()
        else:
            assert answer.startswith("451 4.3.0 ")
        assert witness.one("error").code == "HookTimeout"
        if hook not in ("on_connect", "on_secure", "on_close"):
            client.ok("NOOP", "QUIT")
        client.close()
        poll(lambda: len(witness.of("disconnect")) == 1)
        serves(server)


def test_hooks_that_hang_hold_up_nobody_else_and_stop_ends_them(certificate: Certificate) -> None:
    hanging = Counter[str]()

    def hang_here() -> None:
        hanging["now"] += 1
        try:
            hang()
        finally:
            hanging["ended"] += 1

    pairs = []
    # A server for each hook: the first that hangs is the last that a client gets to.
    before = None
    for hook in HOOKS:
        server = SMTPServer(
            ("127.0.0.1", 0),
            disable_reverse_lookup=True,
            **certificate.options,
            **faulty_hooks((hook,), hang_here),
        )
        server.start()
        serves(server)
        poll(lambda server=server: not server.connections)  # type: ignore[misc]
        if before is None:
            before = greenlets()
        pairs.append((server, gevent.spawn(attempt, server, hook)))
    poll(lambda: hanging["now"] == len(HOOKS))
    for server, _ in pairs:
        serves(server)
    for server, _ in pairs:
        began = time.monotonic()
        server.stop(timeout=0.05)
        assert time.monotonic() - began < SECONDS / 2
        assert not server.connections
    assert hanging["ended"] == len(HOOKS)
    for (_, running_client), hook in zip(pairs, HOOKS, strict=True):
        said = running_client.get(timeout=SECONDS)
        assert said.startswith("421 4.3.2 ") or hook == "on_close", (hook, said)
    del server, running_client, pairs
    assert before is not None
    poll(lambda: greenlets() <= before)


def attempt(server: SMTPServer, hook: str) -> str:
    """The last words that a client hears at *hook*."""
    try:
        client, answer = use(server, hook)
    except AssertionError as exc:  # `ok` was told something else
        _, answer = exc.args[0]
        return str(answer)
    try:
        return answer or client.rest().decode()
    finally:
        client.close()


def test_stop_gives_up_on_a_hook_that_swallows_everything() -> None:
    released = gevent.event.Event()
    reached = gevent.event.Event()

    def stubborn(address: Any, session: Any) -> None:
        reached.set()
        while not released.is_set():
            try:
                released.wait()
            except BaseException:
                continue

    with talking(on_mail_from=stubborn, hello="EHLO c") as client:
        client.send(b"MAIL FROM:<a@example.org>\r\n")
        reached.wait()
        began = time.monotonic()
        client.server.stop(timeout=0)
        assert time.monotonic() - began < SECONDS / 2
        released.set()
        client.rest()
        client.close()
        poll(lambda: not client.server.connections)


SIGNALS = ("connect", "secure", "auth", "message", "disconnect", "error")


def play_all(server: SMTPServer) -> list[str]:
    """A session in which each signal is sent; its replies from the second EHLO on."""
    client = Client(server, source=VICTIM)
    client.ok("EHLO c", "STARTTLS")
    client.start_tls()
    said = [client.cmd(text) for text in ("EHLO c", LOGIN, "MAIL FROM:<a@example.org>")]
    said += [client.cmd(text) for text in ("RCPT TO:<fault@example.com>", "RCPT TO:<b@c.example>")]
    said.append(client.cmd("DATA"))
    client.send(CONTENT + b".\r\n")
    said += [client.reply(), client.cmd("QUIT")]
    assert client.ended()
    client.close()
    return [line[:3] for line in said]


def fault_for_one(address: Any, session: Any) -> None:
    if address.address == "fault@example.com":
        raise RuntimeError("for the error signal")


ALL_SAID = ["250", "235", "250", "451", "250", "354", "250", "221"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("name", SIGNALS)
def test_fault_of_a_listener_harms_nobody(
    name: str, fault: Callable[[], None], certificate: Certificate
) -> None:
    heard = Counter[str]()

    def bad(sender: SMTPServer, event: Any) -> None:
        if event.code != "ListenerError" if name == "error" else True:
            heard["bad"] += 1
            fault()

    def on_auth(auth: Any, session: Any) -> bool:
        return True

    with running(**certificate.options, on_auth=on_auth, on_rcpt_to=fault_for_one) as server:
        signals_of(name).connect(bad, sender=server)
        witness = Witness(server)  # the other listeners, after the bad one and perhaps before it
        assert play_all(server) == ALL_SAID
        poll(lambda: not server.connections)
        for other in SIGNALS:
            assert witness.of(other), f"{other} was not heard"
        assert heard["bad"]
        faults = [event for event in witness.of("error") if event.code == "ListenerError"]
        assert {event.meta["signal"] for event in faults} == {name} - {"error"}
        assert witness.one("disconnect").reason == "quit"
        serves_simply(server)
        server.stop(timeout=SECONDS)
        assert not server.connections


def serves_simply(server: SMTPServer) -> None:
    with Client(server, hello="EHLO c") as client:
        client.ok("AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=" if "AUTH" in client.cmd("EHLO c") else "NOOP")


def signals_of(name: str) -> Any:
    return getattr(signals, name)


@pytest.mark.parametrize("fault", LATE_FAULTS)
@pytest.mark.parametrize("name", SIGNALS)
def test_listener_that_has_its_greenlet_killed_afterwards_ends_only_its_client(
    name: str, fault: Callable[[], None], certificate: Certificate
) -> None:
    def bad(sender: SMTPServer, event: Any) -> None:
        if getattr(event, "remote_address", VICTIM) == VICTIM:
            fault()

    with running(**certificate.options, on_auth=lambda *_: True) as server:
        witness = Witness(server)
        signals_of(name).connect(bad, sender=server)
        with suppress(EOFError, AssertionError, ConnectionError):
            play_all(server)
        poll(lambda: not server.connections)
        poll(lambda: len(witness.of("disconnect")) == 1)
        signals_of(name).disconnect(bad, sender=server)
        serves_simply(server)
        poll(lambda: len(witness.of("disconnect")) == 2)


@pytest.mark.parametrize("name", SIGNALS)
def test_listener_that_hangs_holds_up_nobody_else_and_stop_ends_it(
    name: str, certificate: Certificate
) -> None:
    hanging: list[Any] = []

    def bad(sender: SMTPServer, event: Any) -> None:
        if not hanging:
            hanging.append(event)
            hang()

    with running(
        **certificate.options, on_auth=lambda *_: True, on_rcpt_to=fault_for_one
    ) as server:
        signals_of(name).connect(bad, sender=server)
        witness = Witness(server)
        victim = gevent.spawn(expect_the_end, server)
        poll(lambda: hanging)
        assert play_all(server) == ALL_SAID
        began = time.monotonic()
        server.stop(timeout=0.05)
        assert time.monotonic() - began < SECONDS / 2
        assert not server.connections
        victim.get(timeout=SECONDS)
        assert len(witness.of("disconnect")) == 2


def expect_the_end(server: SMTPServer) -> None:
    with suppress(EOFError, AssertionError, ConnectionError):
        play_all(server)


def test_start_and_stop_survive_listeners_that_raise() -> None:
    def bad(sender: SMTPServer) -> None:
        raise RuntimeError("not today")

    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    signals.listening.connect(bad, sender=server)
    signals.close.connect(bad, sender=server)
    witness = Witness(server)
    server.start()
    serves_simply(server)
    server.stop()
    assert [event.code for event in witness.of("error")] == ["ListenerError"] * 2
    assert witness.names.count("close") == witness.names.count("listening") == 1


# All of it at once


def test_short_soak() -> None:
    """`python tests/soak.py` is the long one."""
    result = soak(10.0, 3.0, clients=20, tell=False)
    assert result.problems == []
    assert result.stored
    assert result.samples


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="kill -9 of scripts/serve.py under load")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the Maildir is made; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        print(
            kill_loop(
                Path(name),
                arguments.kills,
                seed=arguments.seed,
                clients=arguments.clients,
                tell=True,
            )
        )
