"""No visitor makes the hub stand still: the short form of benchmarks/stall.py.

It doesn't fail because the machine is slow or busy. What counts is the CPU time that the server's
process used between two turns of its hub, to which other programs add nothing; it is measured
against a loop that runs at the same time; and a stall is what is too long at every attempt.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent import socket
from support import SECONDS, Client, python, running, wait_until
from support.slowness import slowness

from smtp_blinker import turns
from smtp_blinker.connection import connection

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import hostile  # type: ignore[import-not-found]  # noqa: E402
import visitors  # type: ignore[import-not-found]  # noqa: E402
from hostile import KIB, MIB  # noqa: E402
from measured import MeasuredServer, make_users  # type: ignore[import-not-found]  # noqa: E402
from pulse import Meter, Pulse  # type: ignore[import-not-found]  # noqa: E402
from visitors import Place  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

#: Seconds of stall that are too long, on the machine that `slowness` compares with. What
#: is as it should be takes a fifth of them at most, what is quadratic four times as much at least.
TOO_LONG, PAGE_TOO_LONG = 0.01, 0.1
ATTEMPTS = 5


def stall(meter: Meter, visit: Callable[[], Any]) -> float:
    """The longest stall because of *visit*, in seconds of that machine."""
    before = slowness()
    meter.reset()
    wait_until(lambda: meter.read().beats, "the hub runs")
    visit()
    # What the visit left to be done belongs to it.
    beats = meter.read().beats
    wait_until(lambda: meter.read().beats > beats + 1, "the hub runs again")
    return meter.read().worked / max(before, slowness())  # type: ignore[no-any-return]


def check(meter: Meter, visit: Callable[[], Any], too_long: float) -> None:
    stalls: list[float] = []
    while not stalls or stalls[-1] > too_long:
        assert len(stalls) < ATTEMPTS, f"seconds: {stalls}"
        stalls.append(stall(meter, visit))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeasuredServer]:
    folder = tmp_path_factory.mktemp("stall")
    make_users(folder / "users")
    server = MeasuredServer(folder, folder / "users")
    yield server
    server.close()


@pytest.fixture
def place(server: MeasuredServer) -> Place:
    return Place(server.smtp, server.smtps, server.http)


STRANGERS = (
    visitors.handshake,
    visitors.guess_long,
    visitors.guess_marks,
    visitors.guess_unordered_marks,
    visitors.mail_to_a_thousand,
    visitors.mail_of_many_lines,
    visitors.mail_of_one_line,
    visitors.octet_by_octet,
    visitors.pipelined,
    visitors.long_command,
)


@pytest.mark.parametrize("visit", STRANGERS, ids=lambda visit: visit.__name__)
def test_no_stranger_makes_the_hub_stand_still(
    server: MeasuredServer, place: Place, visit: visitors.Visit
) -> None:
    check(server.meter, partial(visit, place), TOO_LONG)


MAILS = (
    (hostile.long_lines, 256 * KIB),
    (hostile.attachment, 8 * MIB),
    (hostile.character_reference, 64 * KIB),
    (hostile.empty_parameters, 256 * KIB),
    (hostile.content_fields, 256 * KIB),
    (hostile.false_boundaries, 256 * KIB),
    (hostile.slow_charset, 64 * KIB),
    (hostile.charset_names, 256 * KIB),
    (hostile.file_names, 427 * KIB),
)


@pytest.mark.parametrize(("make", "size"), MAILS, ids=[make.__name__ for make, _ in MAILS])
def test_no_mail_that_is_read_makes_the_hub_stand_still(
    server: MeasuredServer, place: Place, make: hostile.Mail, size: int
) -> None:
    def read() -> None:
        id = server.put(make(size))
        visitors.get(place, "/api/messages?limit=1")
        visitors.open_mails(Place(server.smtp, server.smtps, server.http, (id,)))

    check(server.meter, read, PAGE_TOO_LONG)


def test_other_clients_get_their_turn_between_pipelined_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of no length, so that it ends with each command, however fast the machine is.
    monkeypatch.setattr(connection, "TURN_SECONDS", 0.0)
    commands = ["MAIL FROM:<a@example.org>", *["RCPT TO:<b@example.com>"] * 200]
    with in_turns() as (turn, seen):

        def on_rcpt_to(address: Any, session: Any) -> None:
            turn()

        with running(on_rcpt_to=on_rcpt_to) as server, Client(server, hello="EHLO c") as client:
            client.send("".join(f"{command}\r\n" for command in commands).encode())
            for _ in commands:
                assert client.reply().startswith("250")
    assert seen.total() == 200
    assert max(seen.values()) <= 2  # the first that was pipelined begins the turn


@pytest.mark.parametrize(("long_turn", "fewest", "most"), [(0.0, 1, 1), (SECONDS, 5, 20)])
def test_fewer_clients_are_accepted_in_a_turn_while_turns_are_long(
    monkeypatch: pytest.MonkeyPatch, long_turn: float, fewest: int, most: int
) -> None:
    # Every turn is longer, or none is, however fast the machine is.
    monkeypatch.setattr(turns, "LONG_TURN", long_turn)
    with in_turns() as (turn, seen):

        def on_connect(session: Any) -> None:
            turn()

        with running(on_connect=on_connect) as server:
            server.stop_accepting()
            crowd = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(30)]
            server.start_accepting()
            for one in crowd:
                assert one.recv(3) == b"220"
                one.close()
    assert seen.total() == 30
    assert fewest <= max(seen.values()) <= most


@contextmanager
def in_turns() -> Iterator[tuple[Callable[[], None], Counter[int]]]:
    """A function for what happens, and how often it was called in each turn of the loop."""
    past: list[int] = []
    seen: Counter[int] = Counter()

    def called() -> None:
        seen[len(past)] += 1

    watcher = gevent.get_hub().loop.check()  # runs when the loop has looked for I/O
    watcher.start(past.append, 0)
    try:
        yield called, seen
    finally:
        watcher.stop()
        watcher.close()


# The meter itself

# A thread that waits for the GIL asks again every 5 ms, and on a busy machine waits for a processor
# each time: the meter takes that for other programs' work, and shows less than there was. So where
# it has to see a thread's work it has no clock of such waits.
PROGRAM = """
import sys, time, unicodedata
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import gevent, pulse
if sys.argv[3] == "thread":
    pulse.queue_clock = lambda: lambda: 0.0

def work():
    unicodedata.normalize("NFC", "\\u0315" * 4000 + "\\u0327" * 4000)  # it keeps the GIL

gevent.spawn(pulse.beat, Path(sys.argv[1]))
gevent.sleep(0.02)
if sys.argv[3] == "hub":
    work()
elif sys.argv[3] == "thread":
    gevent.get_hub().threadpool.apply(work)
else:
    time.sleep(0.3)
gevent.sleep(0.02)
began = time.thread_time()
work()
print(time.thread_time() - began)
"""


def watched(folder: Path, what: str) -> tuple[Pulse, float]:
    """What the meter showed of a process that does *what*, and the seconds that its work takes."""
    meter = Meter(folder / "pulse")
    done = python("-c", PROGRAM, folder / "pulse", BENCHMARKS, what)
    return meter.read(), float(done.stdout)


@pytest.mark.parametrize("where", ["hub", "thread"])
def test_meter_sees_work_in_the_hub_and_in_a_thread_that_keeps_the_gil(
    tmp_path: Path, where: str
) -> None:
    pulse, work = watched(tmp_path, where)
    assert pulse.worked > work / 3
    assert pulse.longest >= pulse.worked


def test_meter_tells_a_hub_that_waits_from_one_that_works(tmp_path: Path) -> None:
    pulse, _ = watched(tmp_path, "wait")
    assert pulse.longest > 0.2
    assert pulse.worked < 0.1
