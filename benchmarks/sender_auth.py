"""What sender authentication costs: `python benchmarks/sender_auth.py` prints a table.

CPU of this process for a message of 10 KiB with one signature of 2048 bits, DNS answered from
memory: `SenderAuthentication` with SPF, DKIM, ARC and DMARC, beside what dkimpy (dkim.verify,
dkim.arc_verify) and pyspf (spf.check2) take for their parts of it alone, in turn. Needs dkimpy and
pyspf.

Then, for each of the hostile messages in hostile_senders.py, the CPU that it took, and the longest
time for which the hub stood still meanwhile, the least of three rounds (see pulse.py).

Exit status 1 if the policy takes more than 1.3 times as much, or the hub stood still for 20 ms.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dkim
import gevent
import spf
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hostile_senders import ATTACKS, Attack
from pulse import LONG, Meter, beat

from smtp_blinker import Address, Session
from smtp_blinker.policies import SenderAuthentication

ROUNDS, MESSAGES = 15, 40
BAR = 1.3

KEY = rsa.generate_private_key(65537, 2048)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
PUBLIC = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
TXT = {
    "example.org": b"v=spf1 include:spf.example.org -all",
    "spf.example.org": b"v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/24 -all",
    "_dmarc.example.org": b"v=DMARC1; p=reject",
    "s._domainkey.example.org": b"v=DKIM1; k=rsa; p=" + base64.b64encode(PUBLIC),
}
MAIL = (
    b"Received: from a.example.org by b.example.org; Sun, 29 Nov 2026 06:00:00 +0000\r\n" * 5
    + b"From: A <a@example.org>\r\nTo: b@example.net\r\nSubject: A message of 10 KiB\r\n"
    + b"Date: Sun, 29 Nov 2026 06:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\n"
    + b"Some words that make a line of usual length, seventy-two characters....\r\n" * 140
)
CONTENT = dkim.sign(MAIL, b"s", b"example.org", PRIVATE) + MAIL


class Answers:
    """A resolver that knows everything."""

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        return (TXT[name],) if kind == "TXT" and name in TXT else ()


def libraries() -> None:
    def key(name: bytes, timeout: int = 5) -> bytes:
        return TXT[name.decode().rstrip(".")]

    assert dkim.verify(CONTENT, dnsfunc=key)
    dkim.arc_verify(CONTENT, dnsfunc=key)
    assert spf.check2("192.0.2.1", "a@example.org", "a.example.org")[0] == "pass"


def look_up(name: str, kind: str, *rest: object) -> list[object]:
    return [((name, kind), (TXT[name],))] if kind == "TXT" and name in TXT else []


def policy() -> Callable[[], None]:
    judge = SenderAuthentication("mx.test", resolver=Answers())
    session = Session()
    session.remote_address = "192.0.2.1"
    session.host_name_appears_as = "a.example.org"
    sender = Address("a@example.org")

    def message() -> None:
        judge.on_mail_from(sender, session)
        judge.on_message(io.BytesIO(CONTENT), session)
        result = session.envelope.results.pop("sender_authentication")
        assert result.dmarc.result == result.dkim[0].result == result.spf.result == "pass"
        session.envelope.header_edits = None

    return message


def cost(work: Callable[[], None]) -> float:
    """Milliseconds of CPU, of all threads."""
    before = time.process_time()
    for _ in range(MESSAGES):
        work()
    return (time.process_time() - before) / MESSAGES * 1e3


def judge(attack: Attack) -> None:
    """Judge a hostile message as the server does, all limits being those that it has."""
    policy = SenderAuthentication("mx.test", resolver=attack, trusted=(), timeout=30)
    session = Session()
    session.remote_address = "198.51.100.25"
    session.host_name_appears_as = "a.example.org"
    session.envelope.mail_from = Address("a@example.org")
    policy.on_mail_from(session.envelope.mail_from, session)
    policy.on_message(io.BytesIO(attack.content), session)
    assert session.envelope.results["sender_authentication"].dmarc is not None


def hostile() -> float:
    """Print what each takes; returns the longest stall in seconds."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(Path(folder) / "pulse")
        beating = gevent.spawn(beat, Path(folder) / "pulse")
        for make in ATTACKS:
            attack = make()
            stall, used = float("inf"), float("inf")
            for _ in range(3):
                meter.reset()
                gevent.sleep(0.01)
                before = time.process_time()
                gevent.spawn(judge, attack).get()
                used = min(used, time.process_time() - before)
                gevent.sleep(0.01)
                stall = min(stall, meter.read().worked)
            size = len(attack.content) / 1024
            name = make.__name__.replace("_", " ")
            print(f"{name:36} {size:6.0f} KiB {used * 1e3:7.1f} ms CPU {stall * 1e3:5.1f} ms stall")
            worst = max(worst, stall)
        beating.kill()
    return worst


def main() -> int:
    spf.DNSLookup = look_up
    ours, theirs = policy(), libraries
    cost(ours), cost(theirs)
    rounds = [(cost(ours), cost(theirs)) for _ in range(ROUNDS)]
    ratio = sorted(one / other for one, other in rounds)[ROUNDS // 2]
    for name, place in (("SenderAuthentication", 0), ("dkimpy and pyspf", 1)):
        values = sorted(one[place] for one in rounds)
        print(f"{name:24} {values[0]:6.2f} ms least {values[ROUNDS // 2]:6.2f} ms median")
    print(f"ratio {ratio:.2f} (bar {BAR})")
    return 0 if hostile() < LONG and ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
