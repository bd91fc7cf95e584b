"""What dkimpy does with the hostile messages of hostile_senders.py: `python
benchmarks/sender_libraries.py` prints a table, for docs/layout.md.

Each message has a process of its own, in which dkimpy verifies its first ten signatures and its
ARC chain in a thread, as `SenderAuthentication` does: its CPU, how long the hub stood still
meanwhile (see pulse.py), and what came out. One that takes more than LIMIT seconds is ended. Needs
dkimpy.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import dkim
import gevent
from hostile_senders import ATTACKS, Attack
from pulse import Meter, beat

LIMIT = 60.0
SIGNATURES = 10


def outcome(attack: Attack) -> list[str]:
    def key(name: bytes, timeout: int = 5) -> bytes | None:
        found = attack.query(name.decode().rstrip("."), "TXT", timeout)
        return found[0] if found else None  # type: ignore[return-value]

    count = min(attack.content.lower().count(b"dkim-signature:"), SIGNATURES)
    found: list[str] = []
    for number in range(count):
        try:
            found.append(str(dkim.DKIM(attack.content).verify(number, dnsfunc=key)))
        except dkim.DKIMException as exc:
            found.append(type(exc).__name__)
        except Exception as exc:
            found.append(f"raises {type(exc).__name__}")
    try:
        found.append(f"ARC {dkim.arc_verify(attack.content, dnsfunc=key)[0].decode()}")
    except Exception as exc:
        found.append(f"ARC raises {type(exc).__name__}")
    return found


def measure(name: str) -> None:
    logging.disable()
    attack = next(make for make in ATTACKS if make.__name__ == name)()
    with tempfile.TemporaryDirectory() as folder:
        meter = Meter(Path(folder) / "pulse")
        beating = gevent.spawn(beat, Path(folder) / "pulse")
        gevent.sleep(0.01)
        meter.reset()
        gevent.sleep(0.01)
        before = time.process_time()
        found = gevent.get_hub().threadpool.apply(outcome, (attack,))
        used = time.process_time() - before
        gevent.sleep(0.01)
        stall = meter.read().worked
        beating.kill()
    results = ", ".join(f"{number} x {what}" for what, number in Counter(found).items())
    print(f"{used * 1e3:9.1f} ms CPU {stall * 1e3:7.1f} ms stall  {results}")


def main() -> int:
    if len(sys.argv) > 1:
        measure(sys.argv[1])
        return 0
    for make in ATTACKS:
        print(f"{make.__name__.replace('_', ' '):32}", end="", flush=True)
        try:
            subprocess.run([sys.executable, __file__, make.__name__], timeout=LIMIT, check=True)
        except subprocess.TimeoutExpired:
            print(f"  no end within {LIMIT:g} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
