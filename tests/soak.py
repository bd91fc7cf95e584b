"""Everything at once against one server process, for minutes; memory and descriptors stay flat.

`python tests/soak.py --minutes 10` prints a table and a verdict, and exits with 1 when the
verdict is bad. Load comes in rounds; between two of them every connection is let go, and what
the server holds then (connections, greenlets, descriptors) must be what it held at the start.
"""

from __future__ import annotations

import argparse
import base64
import gc
import json
import os
import random
import re
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gevent
import psutil
import trustme
from gevent import GreenletExit, socket
from gevent.event import Event
from gevent.server import StreamServer
from greenlet import greenlet

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import support  # noqa: E402

from smtp_blinker import SMTPServer, signals  # noqa: E402
from smtp_blinker.stores import MaildirStore  # noqa: E402

#: What a client waits for an answer; only a bad verdict waits so long.
SECONDS = 60.0
#: The server's socket_timeout, which slow clients run into and no other, however busy the
#: machine is.
SERVER_PATIENCE = 5.0
#: Its hook_timeout, which hooks that hang run into.
HOOK_PATIENCE = 3.0
LOGIN = base64.b64encode(b"\0user\0right").decode()
WRONG_LOGIN = base64.b64encode(b"\0user\0wrong").decode()

#: In memory: a busy disk would be another reason for a hook to run into its timeout.
FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# The server, a process of its own


def make_server(folder: Path) -> SMTPServer:
    """A server with a Maildir, whose hooks and listeners fail when a client wants it."""
    store = MaildirStore(folder / "Maildir", "soak.test")
    random.seed(0)

    def misbehave(what: str) -> None:
        if what == "raise":
            raise RuntimeError("as it was told to")
        if what == "exit":
            raise GreenletExit
        if what == "kill":
            gevent.kill(gevent.getcurrent())
            gevent.sleep(SECONDS)
        if what == "hang":
            gevent.sleep(SECONDS)

    def on_connect(session: Any) -> None:
        session.fault = None

    def on_auth(auth: Any, session: Any) -> bool:
        return bool(auth.validate_password("right"))

    def on_mail_from(address: Any, session: Any) -> None:
        where, _, what = address.address.partition("@")[0].partition("-")
        session.fault = (where, what)
        if where == "mail":
            misbehave(what)

    def on_rcpt_to(address: Any, session: Any) -> None:
        if session.fault[0] == "rcpt":
            misbehave(session.fault[1])

    def on_data(stream: Any, session: Any) -> str | None:
        where, what = session.fault
        if where == "data":
            stream.read(random.choice((0, 10, 100_000)))
            misbehave(what)
        if where == "store":
            return store(stream, session)
        while stream.read(65536):
            pass
        return None

    def on_close(session: Any) -> None:
        if session.fault and session.fault[0] == "close":
            misbehave(session.fault[1])

    return SMTPServer(
        ("127.0.0.1", 0),
        name="soak.test",
        size=4 * 2**20,
        disable_reverse_lookup=True,
        certfile=str(folder / "cert.pem"),
        allow_insecure_auth=True,
        auth_optional=True,
        socket_timeout=SERVER_PATIENCE,
        data_timeout=4 * SERVER_PATIENCE,
        hook_timeout=HOOK_PATIENCE,
        max_clients_per_ip=50,
        on_connect=on_connect,
        on_auth=on_auth,
        on_mail_from=on_mail_from,
        on_rcpt_to=on_rcpt_to,
        on_data=on_data,
        on_close=on_close,
    )


def serve(folder: Path) -> None:
    """The server's process: prints its two ports; the second one tells the state, as JSON."""
    server = make_server(folder)
    heard: Counter[str] = Counter()
    receivers: list[Any] = []  # blinker holds them weakly

    def listen(name: str) -> None:
        def good(sender: SMTPServer, event: Any) -> None:
            heard[name] += 1

        def bad(sender: SMTPServer, event: Any) -> None:
            if heard[name] % 50 == 0:
                raise RuntimeError(f"a listener of {name}")

        receivers.extend((bad, good))
        getattr(signals, name).connect(bad, sender=server)
        getattr(signals, name).connect(good, sender=server)

    for name in ("connect", "disconnect", "message", "auth", "secure"):
        listen(name)

    @signals.error.connect_via(server)
    def count(sender: SMTPServer, event: Any) -> None:
        heard[f"error {event.code}"] += 1

    def tell(sock: Any, address: Any) -> None:
        gc.collect()
        state = {
            "connections": len(server.connections),
            "greenlets": sum(
                1 for one in gc.get_objects() if isinstance(one, greenlet) and not one.dead
            ),
            "objects": len(gc.get_objects()),
            "heard": heard,
        }
        sock.sendall(json.dumps(state).encode())

    # All threads that there ever will be: how many are needed at once is chance.
    pool = gevent.get_hub().threadpool
    gevent.wait([pool.spawn(time.sleep, 0.2) for _ in range(pool.maxsize)])
    control = StreamServer(("127.0.0.1", 0), tell)
    control.start()
    server.start()
    print(server.server_port, control.server_port, flush=True)
    gevent.get_hub().join()


# The clients


class Gone(Exception):
    """The server closed the connection."""


class Unexpected(Exception):
    """The server answered something else; it has been noted."""


class Client(support.Client):
    """A blunt client; replies are their codes."""

    def __init__(self, load: Load) -> None:
        source = f"127.0.{load.random.randrange(1, 200)}.{load.random.randrange(1, 250)}"
        super().__init__(("127.0.0.1", load.port), greet=False, source=source)
        self.sock.settimeout(SECONDS)
        self.load = load

    def _send_raw(self, data: bytes) -> None:
        try:
            super()._send_raw(data)
        except ConnectionError:
            raise Gone from None

    def code(self) -> str:
        try:
            return str(self.reply().code)
        except EOFError:
            raise Gone from None

    def say(self, text: str, expected: str = "250") -> str:
        self.send(text.encode() + b"\r\n")
        return self.expect(expected, text)

    def expect(self, expected: str, what: str) -> str:
        code = self.code()
        self.load.counted[f"reply {code}"] += 1
        if code not in expected.split():
            self.load.wrong.append(f"{code} instead of {expected} to {what}")
            raise Unexpected
        return code

    def secure(self) -> None:
        self.say("STARTTLS", "220")
        try:
            self.start_tls(self.load.context, "soak.test")
        except ConnectionError:
            raise Gone from None

    def hello(self) -> None:
        """A greeting, TLS and AUTH now and then."""
        self.expect("220", "the connection")
        self.say("EHLO c.example")
        if self.load.random.random() < 0.25:
            self.secure()
            self.say("EHLO c.example")
        if self.load.random.random() < 0.25:
            self.say(f"AUTH PLAIN {LOGIN}", "235")


@dataclass
class Load:
    """What the clients have in common."""

    port: int
    context: ssl.SSLContext
    random: random.Random = field(default_factory=lambda: random.Random(1))
    #: Cleared while everybody has to let go.
    going: Event = field(default_factory=Event)
    counted: Counter[str] = field(default_factory=Counter)
    #: Messages for the Maildir that were answered 250, and those that may have been.
    stored: int = 0
    doubtful: int = 0
    wrong: list[str] = field(default_factory=list)
    working: int = 0

    def content(self, largest: int = 300_000) -> bytes:
        size = min(self.random.choice((100, 1_000, 10_000, 100_000, 1_000_000)), largest)
        lines = size // len(LINE)
        return b"Subject: %d lines\r\n\r\n" % lines + (b"." + LINE) * lines


LINE = b".A line that begins with a dot\r\n"


def is_whole(stored: bytes) -> bool:
    """Whether it is a message that `Load.content` made, in the Maildir."""
    header, _, body = stored.partition(b"\n\n")
    number = re.search(rb"^Subject: (\d+) lines$", header, re.M)
    return number is not None and body == LINE.replace(b"\r\n", b"\n") * int(number[1])


def transaction(client: Client, sender: str, content: bytes, expected: str = "250") -> str:
    client.say(f"MAIL FROM:<{sender}@example.org>")
    client.say("RCPT TO:<b@example.com>")
    client.say("DATA", "354")
    client.send(content + b".\r\n")
    return client.expect(expected, f"a message from {sender}")


def good(load: Load) -> None:
    """Some messages, one after the other, into nothing or into the Maildir."""
    with Client(load) as client:
        client.hello()
        for _ in range(load.random.randrange(1, 5)):
            stored = load.random.random() < 0.3
            load.doubtful += stored
            transaction(client, "store" if stored else "good", load.content())
            load.doubtful -= stored
            load.stored += stored
        client.say("QUIT", "221")


def large(load: Load) -> None:
    """Larger than the server takes, or just not."""
    with Client(load) as client:
        client.hello()
        line = b"x" * 998 + b"\r\n"
        transaction(client, "good", line * 4000)
        transaction(client, "good", line * 4500, "552")
        client.say("NOOP")


def pipelined(load: Load) -> None:
    """A flood of transactions, whose replies are read late."""
    with Client(load) as client:
        client.hello()
        number = load.random.randrange(1, 100)
        group = b"MAIL FROM:<good@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        client.send((group + b"Subject: x\r\n\r\nx\r\n.\r\n") * number)
        for _ in range(number):
            for expected in ("250", "250", "354", "250"):
                client.expect(expected, "a pipelined transaction")


def junk(load: Load) -> None:
    """A flood of NOOP, until 421."""
    with Client(load) as client:
        client.hello()
        client.send(b"NOOP\r\n" * 500)
        while client.expect("250 421", "NOOP") != "421":
            pass


def unread(load: Load) -> None:
    """Sends and never reads."""
    with Client(load) as client, suppress(TimeoutError):
        client.sock.settimeout(0.5)
        client.send(b"EHLO c\r\n" * 50_000)


def garbage(load: Load) -> None:
    with Client(load) as client:
        client.expect("220", "the connection")
        for _ in range(20):
            client.send(load.random.randbytes(load.random.randrange(1, 5000)) + b"\r\n")
        client.rest()


def long_lines(load: Load) -> None:
    with Client(load) as client:
        client.hello()
        client.send(b"A" * load.random.randrange(20_000, 500_000) + b"\r\n")
        client.expect("500", "a long line")
        client.say("NOOP " + "x" * 3000, "500")
        transaction(client, "good", b"y" * 200_000 + b"\r\n")
        client.say("QUIT", "221")


def bare_newlines(load: Load) -> None:
    with Client(load) as client:
        client.hello()
        evil = b"x\n.\nMAIL FROM:<a@example.org>\r.\r\r\nx\r\n"
        transaction(client, "good", load.content() + evil, "550")
        client.send(b"NOOP\nNOOP\r\n")
        client.expect("500", "a bare LF")
        client.say("QUIT", "221")


def wrong_password(load: Load) -> None:
    with Client(load) as client:
        client.expect("220", "the connection")
        client.say("EHLO c.example")
        client.say(f"AUTH PLAIN {WRONG_LOGIN}", "535")
        client.say("AUTH LOGIN", "334")
        client.say("*", "501")


def slow(load: Load) -> None:
    """One octet at a time, until the server has enough of it."""
    with Client(load) as client:
        if load.random.random() < 0.5:
            client.hello()
            client.say("MAIL FROM:<good@example.org>")
            client.say("RCPT TO:<b@example.com>")
            client.say("DATA", "354")
            octets = b"Subject: a slow client, which comes to no end\r\n"
        else:
            client.expect("220", "the connection")
            octets = b"EHLO an.endless.name.of.a.slow.client.example"
        with suppress(Gone):  # the 421 is there to be read all the same
            for at in range(len(octets)):
                client.send(octets[at : at + 1])
                gevent.sleep(0.2)
        client.expect("421", "a slow client")


def broken(load: Load) -> None:
    """RST, FIN or half-close somewhere, TLS cut off with it."""
    with Client(load) as client:
        with suppress(Gone):
            if load.random.random() < 0.8:
                client.hello()
            wire = b"MAIL FROM:<store@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
            wire += load.content(10_000) + b".\r\n"
            load.doubtful += 1  # it may have got as far as the Maildir
            client.send(wire[: load.random.randrange(len(wire) + 1)])
            if load.random.random() < 0.5:
                gevent.sleep(load.random.random() / 10)
        way = load.random.randrange(3)
        if way == 0:
            client.reset()
        elif way == 1:
            with suppress(OSError):
                client.sock.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while client.sock.recv(65536):
                    pass


def half_closed(load: Load) -> None:
    """A whole message, then half-close: it counts, and the replies come."""
    with Client(load) as client:
        load.doubtful += 1
        client.send(
            b"EHLO c\r\nMAIL FROM:<store@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        )
        client.send(load.content() + b".\r\n")
        client.sock.shutdown(socket.SHUT_WR)
        for expected in ("220", "250", "250", "250", "354", "250"):
            client.expect(expected, "a half-closed client")
        load.doubtful -= 1
        load.stored += 1


def torn_handshake(load: Load) -> None:
    with Client(load) as client:
        client.expect("220", "the connection")
        client.say("EHLO c.example")
        client.say("STARTTLS", "220")
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: load.random.randrange(12)])
        if load.random.random() < 0.5:
            client.send(load.random.randbytes(600))
        if load.random.random() < 0.5:
            client.reset()


def faulty_hook(load: Load) -> None:
    """The program itself raises, kills its greenlet, or hangs."""
    with Client(load) as client:
        client.hello()
        where = load.random.choice(("mail", "rcpt", "data", "close"))
        what = load.random.choice(("raise", "exit", "kill", "hang"))
        steps = {"mail": "MAIL FROM:<%s@example.org>", "rcpt": "RCPT TO:<b@example.com>"}
        sender = f"{where}-{what}"
        if where in ("data", "close"):
            transaction(client, sender, load.content(), "451" if where == "data" else "250")
        else:
            for step, text in steps.items():
                client.say(text.replace("%s", sender), "451" if step == where else "250")
                if step == where:
                    break
            client.say("RSET")
        if where != "close" or load.random.random() < 0.5:
            client.say("QUIT", "221")


def scan(load: Load) -> None:
    """Connects and leaves, or talks HTTP."""
    with Client(load) as client:
        if load.random.random() < 0.5:
            client.expect("220", "the connection")
            client.say("GET / HTTP/1.1", "421")
        elif load.random.random() < 0.5:
            client.reset()


#: Each with its share of the work.
SCENARIOS: dict[Callable[[Load], None], int] = {
    good: 30,
    large: 2,
    pipelined: 5,
    junk: 2,
    unread: 1,
    garbage: 4,
    long_lines: 4,
    bare_newlines: 5,
    wrong_password: 2,
    slow: 2,
    broken: 25,
    half_closed: 5,
    torn_handshake: 4,
    faulty_hook: 8,
    scan: 6,
}


def work(load: Load) -> None:
    """A client's life."""
    while True:
        load.going.wait()
        [scenario] = load.random.choices(list(SCENARIOS), list(SCENARIOS.values()))
        load.working += 1
        load.counted[scenario.__name__] += 1
        try:
            scenario(load)
        except Unexpected:
            pass
        except Gone:
            if scenario not in (broken, garbage, unread, torn_handshake):
                load.wrong.append(f"the connection ended in {scenario.__name__}")
        except (OSError, AssertionError) as exc:
            if scenario not in (broken, garbage, unread, torn_handshake):
                load.wrong.append(f"{type(exc).__name__} in {scenario.__name__}: {exc}")
        finally:
            load.working -= 1


# The measuring


@dataclass(frozen=True)
class Sample:
    """The server at rest, after a round; *busy* figures are the largest while it worked."""

    seconds: float
    rss: int
    busy_rss: int
    descriptors: int
    busy_descriptors: int
    greenlets: int
    connections: int
    objects: int
    sessions: int


@dataclass
class Result:
    samples: list[Sample]
    problems: list[str]
    counted: Counter[str]
    heard: dict[str, int]
    stored: int
    doubtful: int
    found: int


@contextmanager
def server_process(folder: Path) -> Iterator[tuple[psutil.Process, int, int]]:
    certificate = trustme.CA().issue_cert("soak.test")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "cert.pem")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, "--serve", str(folder)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert process.stdout is not None
    try:
        ports = process.stdout.readline().split()
        assert ports, (folder / "log").read_text()
        yield psutil.Process(process.pid), int(ports[0]), int(ports[1])
        assert process.poll() is None, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(port: int) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
        data = b""
        while piece := sock.recv(65536):
            data += piece
    state: dict[str, Any] = json.loads(data)
    return state


#: The hub, the main greenlet, and the one that tells of them.
IDLE_GREENLETS = 3


def wait(condition: Callable[[], bool], what: str, problems: list[str]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            problems.append(f"it did not come about: {what}")
            return
        gevent.sleep(0.02)


def soak(seconds: float, round_seconds: float, clients: int = 40, tell: bool = True) -> Result:
    """Work for *seconds*, in rounds of *round_seconds*, and look at the server after each."""
    problems: list[str] = []
    stuck: list[str] = []
    samples: list[Sample] = []
    found = 0
    if tell:
        print("  time s  RSS MiB (busy)  descriptors (busy)  greenlets  objects  sessions")
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as name,
        server_process(Path(name)) as (process, *ports),
    ):
        port, control = ports
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        load = Load(port, context)
        workers = [gevent.spawn(work, load) for _ in range(clients)]
        new = Path(name, "Maildir", "new")
        began = time.monotonic()
        while time.monotonic() - began < seconds and not stuck:
            load.going.set()
            busy_rss = busy_descriptors = 0
            ends = time.monotonic() + round_seconds
            while time.monotonic() < ends:
                gevent.sleep(min(0.25, round_seconds))
                with suppress(psutil.Error):
                    busy_rss = max(busy_rss, process.memory_info().rss)
                    busy_descriptors = max(busy_descriptors, process.num_fds())
            load.going.clear()
            wait(lambda: not load.working, "the clients have ended", stuck)
            wait(lambda: not ask(control)["connections"], "no connections are left", stuck)
            # A draft that is discarded may take a while on a busy disk.
            idle = lambda: ask(control)["greenlets"] <= IDLE_GREENLETS  # noqa: E731
            wait(idle, f"no more than {IDLE_GREENLETS} greenlets are left", stuck)
            state = ask(control)
            for message in list(new.iterdir()):
                if not is_whole(message.read_bytes()):
                    problems.append(f"not a whole message: {message.name}")
                message.unlink()
                found += 1
            sample = Sample(
                time.monotonic() - began,
                process.memory_info().rss,
                busy_rss,
                process.num_fds(),
                busy_descriptors,
                state["greenlets"],
                state["connections"],
                state["objects"],
                sum(load.counted[one.__name__] for one in SCENARIOS),
            )
            samples.append(sample)
            if tell:
                print(
                    f"{sample.seconds:8.0f}  {mib(sample.rss):7.1f} ({mib(busy_rss):5.1f})"
                    f"  {sample.descriptors:11} ({busy_descriptors:4})"
                    f"  {sample.greenlets:9}  {sample.objects:7}  {sample.sessions:8}",
                    flush=True,
                )
        problems += stuck + load.wrong
        gevent.killall(workers)
        leftovers = len(list(Path(name, "Maildir", "tmp").iterdir()))
        if leftovers:
            problems.append(f"{leftovers} files are left in the Maildir's tmp/")
    if not load.stored <= found <= load.stored + load.doubtful:
        problems.append(f"{found} messages in the Maildir, {load.stored} were answered 250")
    problems += not_flat(samples)
    return Result(
        samples, problems, load.counted, state["heard"], load.stored, load.doubtful, found
    )


def mib(octets: float) -> float:
    return octets / 2**20


def not_flat(samples: list[Sample]) -> list[str]:
    """What grew after the warm-up, which is the first quarter of the rounds."""
    problems = []
    warm = samples[len(samples) // 4 :]
    for name in ("descriptors", "greenlets"):
        values = {getattr(sample, name) for sample in warm}
        if len(values) > 1:
            problems.append(f"{name} at rest are not always the same: {sorted(values)}")
    if len(warm) >= 4:
        third = max(len(warm) // 3, 1)
        for name, allowance in (("rss", 2 * 2**20), ("objects", 500)):
            early = statistics.median(getattr(sample, name) for sample in warm[:third])
            late = statistics.median(getattr(sample, name) for sample in warm[-third:])
            if late > early * 1.03 + allowance:
                problems.append(f"{name} grew from {early:.0f} to {late:.0f}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--round", type=float, default=15, help="seconds of load between two rests")
    parser.add_argument("--clients", type=int, default=40)
    parser.add_argument("--serve", metavar="FOLDER", help="(what the server's process is told)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve(Path(arguments.serve))
        return 0
    result = soak(60 * arguments.minutes, arguments.round, arguments.clients)
    print("\nsessions:", ", ".join(f"{n.__name__} {result.counted[n.__name__]}" for n in SCENARIOS))
    print("replies:", dict(sorted(i for i in result.counted.items() if i[0].startswith("reply"))))
    print("heard:", dict(sorted(result.heard.items())))
    print(
        f"Maildir: {result.stored} answered 250, {result.found} found "
        f"({result.doubtful} more were begun by clients that left, at any point)"
    )
    for text, times in Counter(result.problems).most_common(20):
        print(f"PROBLEM ({times} x): {text}")
    print("verdict:", "bad" if result.problems else "flat, and nobody was served wrongly")
    return bool(result.problems)


if __name__ == "__main__":
    sys.exit(main())
