"""What benchmarks/simulate.py --measure does, in short."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import HOST, LIBRARY, Served, environment, program

from .names import Certificates

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SENDER = BENCHMARKS / "fleet" / "sender.py"
MEASURE = """
import json, sys
sys.path[:0] = sys.argv[1:]
from fleet.service_times import measure
print(json.dumps(measure(rounds=1, seconds=0.3)))
"""


def ask(*words: str | Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment(PYTHONPATH=LIBRARY),
        stdout=subprocess.PIPE,
        check=True,
        timeout=280,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("how", [("--each",), ("--rate", "30")])
def test_with_starttls_each_connection_of_the_sender_has_tls(
    serve: Callable[..., Served], certificates: Certificates, how: tuple[str, ...]
) -> None:
    served = serve((HOST, 0), **certificates.options)
    messages = ask(SENDER, str(served.port), "0.5", *how)["messages"]
    assert messages > 0
    assert served.of("secure") == []
    messages = ask(SENDER, str(served.port), "0.5", *how, "--starttls")["messages"]
    assert len(served.of("secure")) == messages > 0


@pytest.mark.timeout(300)  # for what takes 30 s on an idle machine
def test_every_service_time_is_measured() -> None:
    """TLS too, which was a constant from another machine."""
    program("rabbitmqctl", "rabbitmq-server")
    found = ask("-c", MEASURE, BENCHMARKS, BENCHMARKS.parent, BENCHMARKS.parent / "tests")
    times = found["times"]
    assert isinstance(times, dict)
    names = {"node", "tls", "broker", "confirm", "drain", "spool", "consumer"}
    assert times.keys() == names
    assert all(0 < seconds < 10 for seconds in times.values())
