"""No message and no DNS makes `SenderAuthentication` hold up others, or raise, or work for long.

The messages are those of benchmarks/sender_auth.py. As in test_stall.py, what counts is CPU time,
measured against a loop, and a stall is what is too long at every attempt.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import gevent
import pytest

pytest.importorskip("dns")
pytest.importorskip("cryptography")
pytest.importorskip("dkim")

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import dkim  # noqa: E402
import dns.message  # noqa: E402
import dns.rrset  # noqa: E402
from support.slowness import slowness  # noqa: E402

from smtp_blinker import Address, Session  # noqa: E402
from smtp_blinker.connection.spool import Spool, SpooledPieces  # noqa: E402
from smtp_blinker.policies import SenderAuthentication  # noqa: E402
from smtp_blinker.policies.dns import MAX_REPLY, Resolver  # noqa: E402
from smtp_blinker.policies.sender.lookups import MAX_QUESTIONS  # noqa: E402
from smtp_blinker.policies.sender.report import forged_by  # noqa: E402
from smtp_blinker.policies.sender.results import SenderAuthenticationResult  # noqa: E402

hostile: Any = import_module("hostile_senders")
pulse: Any = import_module("pulse")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

#: Seconds for which the hub may stand still, and of CPU for one message, on the machine that
#: `slowness` compares with.
TOO_LONG, TOO_MUCH = 0.02, 1.0
ATTEMPTS = 5


class Counted:
    """An attack's resolver that counts its questions."""

    def __init__(self, attack: Any) -> None:
        self._attack = attack
        self.asked = 0

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        self.asked += 1
        found: tuple[str | bytes, ...] = self._attack.query(name, kind, timeout)
        return found


def judged(attack: Any) -> tuple[SenderAuthenticationResult, int]:
    """The result, and the number of questions to DNS."""
    resolver = Counted(attack)
    policy = SenderAuthentication("mx.test", resolver=resolver, trusted=(), timeout=600)
    session = Session()
    session.remote_address = "198.51.100.25"
    session.host_name_appears_as = "a.example.org"
    session.envelope.mail_from = Address("a@example.org")

    def judge() -> None:
        assert session.envelope.mail_from is not None
        policy.on_mail_from(session.envelope.mail_from, session)
        policy.on_message(io.BytesIO(attack.content), session)

    gevent.spawn(judge).get()
    result = session.envelope.results["sender_authentication"]
    assert isinstance(result, SenderAuthenticationResult)
    return result, resolver.asked


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[Any]:
    meter = pulse.Meter(tmp_path / "pulse")
    beating = gevent.spawn(pulse.beat, tmp_path / "pulse")
    yield meter
    beating.kill()


def beats(meter: Any) -> None:
    known = meter.read().beats
    while meter.read().beats <= known + 1:
        gevent.sleep(0.001)


Made = TypeVar("Made")


def measured(meter: Any, work: Callable[[], Made]) -> Made:
    """What *work* returns, once neither its stall nor its CPU time was too long."""
    found: list[tuple[float, float]] = []
    while True:
        slow = slowness()
        meter.reset()
        beats(meter)
        before = time.process_time()
        made = work()
        used = time.process_time() - before
        beats(meter)
        slow = max(slow, slowness())
        found.append((meter.read().worked / slow, used / slow))
        if found[-1][0] <= TOO_LONG and found[-1][1] <= TOO_MUCH:
            return made
        assert len(found) < ATTEMPTS, f"seconds of stall and of CPU: {found}"


@pytest.mark.parametrize("make", hostile.ATTACKS, ids=lambda make: make.__name__)
def test_a_hostile_message_holds_nobody_up(meter: Any, make: Any) -> None:
    attack = make()
    result, asked = measured(meter, lambda: judged(attack))
    assert result.dmarc is not None
    assert result.arc is not None
    assert len(result.dkim) <= 10
    # At MAIL, for the keys, and for DMARC.
    assert asked <= 3 * MAX_QUESTIONS


@pytest.mark.parametrize(
    "value", [b"(" + b") " * 950, b"()" + b" " * 1900, b"a"], ids=["comments", "spaces", "short"]
)
def test_a_mebibyte_of_forged_fields_holds_nobody_up(meter: Any, value: bytes) -> None:
    """Each is looked at in the hub: policies take them away, and `on_data` reads what is left."""
    field = b"Authentication-Results: " + value + b"\r\n"
    content = field * (2**20 // len(field) - 1) + b"From: a@example.org\r\n\r\nx\r\n"
    session = Session()
    session.envelope.remove_header("Authentication-Results", forged_by("mx.test"))

    def read() -> bytes:
        spool = Spool(2**21)
        spool.fill(iter([content, b""]).__next__)
        source = SpooledPieces(spool, session.envelope.header_edits, False)
        return b"".join(iter(source.next_piece, b""))

    assert measured(meter, lambda: gevent.spawn(read).get()) == content


def long_replies() -> dict[str, bytes]:
    """Replies about a.test that take a while to parse, by what they are made of."""
    question = dns.message.make_query("a.test", "TXT")
    aliases, strings = dns.message.make_response(question), dns.message.make_response(question)
    owner = "a.test."
    for number in range(15):
        target = f"c{number}.{'a.' * 100}test."
        aliases.answer.append(dns.rrset.from_text(owner, 0, "IN", "CNAME", target))
        owner = target
    texts = " ".join(['"a"'] * 6000)
    strings.answer.append(dns.rrset.from_text("a.test.", 0, "IN", "TXT", texts))
    wires = {"aliases": aliases.to_wire(max_size=65535), "strings": strings.to_wire(max_size=65535)}
    assert max(map(len, wires.values())) < MAX_REPLY
    return wires


@pytest.mark.parametrize("kind", ["aliases", "strings"])
def test_long_replies_of_name_servers_hold_nobody_up(meter: Any, kind: str) -> None:
    """Four at a time, as the keys of a message are looked up."""
    wire = long_replies()[kind]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer() -> None:
            while (got := sock.recvfrom(4096))[0]:
                sock.sendto(got[0][:2] + wire[2:], got[1])

        server = threading.Thread(target=answer)
        server.start()
        resolver = Resolver([sock.getsockname()])

        def ask() -> list[int]:
            asked = [gevent.spawn(resolver.query, "a.test", "TXT", 60) for _ in range(4)]
            return [len(one.get()) for one in asked]

        found = measured(meter, ask)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"", sock.getsockname())
        server.join()
    assert found == [int(kind == "strings")] * 4


def test_ten_signatures_with_lengths_of_their_own_are_each_judged() -> None:
    """The body is read once, however many of its beginnings are signed."""
    private, record = hostile.key_of(1024)
    content = hostile.HEAD + b"\r\n" + hostile.LINE * 20
    for number in range(10):
        body = hostile.LINE * (number + 1)
        signed = hostile.HEAD + b"\r\n" + body
        field = dkim.sign(signed, b"s", b"example.org", private, length=True)
        content = field + content
    result, _ = judged(hostile.Attack(content, hostile.keys(record, "s")))
    assert {one.result for one in result.dkim} == {"policy"}
    assert len(result.dkim) == 10
