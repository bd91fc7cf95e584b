"""Measure the service times that the simulation needs, and one point that it must come near to."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import amqp
import stores
from interop.engines import RabbitMQ
from interop.support import environment

from fleet.parts import HERE, ROOT, wait

#: STARTTLS and the handshake, in CPU of a node: README.md, the difference between the scenarios
#: tls-connections and connections.
TLS = 1.57e-3
#: Messages a second of the point with which the simulation is compared.
RATE = 100.0


def measure(seconds: float = 4.0, size: int = 1024) -> dict[str, Any]:
    """The times in seconds, and what one node did at `RATE` messages a second, and at most."""
    with tempfile.TemporaryDirectory(prefix="times-") as folder, ExitStack() as stack:
        engine = RabbitMQ(Path(folder) / "engine")
        stack.callback(engine.end)
        engine.start()
        assert engine.process is not None
        where = stores.Target("rabbitmq", engine.url, engine.process.pid)
        nodes = stores.Nodes(where, 1, stack)
        bare = [HERE / "bare.py", where.url, seconds, "--connections"]
        send = [HERE / "sender.py", nodes.ports[0], seconds]
        stores.ask(send)  # warm
        alone = stores.ask([*bare, 1])[0]
        busy = stores.measure_bare(where, 2, seconds, size)
        where.empty()
        before = nodes.cpu()
        at_rate = stores.ask([*send, "--rate", RATE])[0]
        cpu = (nodes.cpu() - before) / at_rate["messages"]
        most = stores.ask([*send, "--connections", 32])[0]
        kept_before = nodes.cpu()
        kept = stores.ask([*send, "--connections", 1])[0]
        kept_cpu = (nodes.cpu() - kept_before) / kept["messages"]
        where.empty()
        consumer = _consume(where.url, Path(folder))
        drain, spool = _spool(engine, Path(folder) / "spool")
    return {
        "times": {
            "node": cpu,
            "tls": TLS,
            "broker": 1 / busy["rate"],
            "confirm": alone["p50"],
            "drain": drain,
            "spool": spool,
            "consumer": consumer,
        },
        "kept": kept_cpu,
        "point": {
            "rate": RATE,
            "messages": at_rate["messages"],
            "p50": at_rate["p50"],
            "mean": at_rate["mean"],
            "p99": at_rate["p99"],
            "most": most["messages"] / most["seconds"],
            "most_p50": most["p50"],
        },
    }


def _consume(url: str, folder: Path) -> float:
    """Seconds of one consumer for one message."""
    connection = amqp.Connection(url.rpartition("@")[2].rstrip("/"), confirm_publish=True)
    connection.connect()
    with ExitStack() as stack:
        node = stores.Nodes(stores.Target("rabbitmq", url, 0), 1, stack)
        stores.ask([HERE / "sender.py", node.ports[0], 2])
    channel = connection.channel()
    count = channel.queue_declare("mail", passive=True).message_count
    handled = folder / "consumed"
    handled.touch()
    words = [sys.executable, HERE / "consumer.py", url, folder, handled]
    process = subprocess.Popen(
        list(map(str, words)), env=environment(PYTHONPATH=str(ROOT)), stdin=subprocess.DEVNULL
    )
    try:
        # The start of Python isn't part of it.
        wait(lambda: handled.read_bytes().count(b"\n") > 0, "the first message is handled")
        first, start = handled.read_bytes().count(b"\n"), time.monotonic()
        wait(lambda: handled.read_bytes().count(b"\n") >= count, "all are handled")
        return (time.monotonic() - start) / (count - first)
    finally:
        process.terminate()
        process.wait()


def _spool(engine: RabbitMQ, folder: Path) -> tuple[float, float]:
    """Seconds for a message out of a spool, and those that keeping one takes."""
    with ExitStack() as stack:
        where = stores.Target("rabbitmq", engine.url, 0)
        node = stores.Nodes(where, 1, stack, "--spool", folder)
        engine.kill()
        kept = stores.ask([HERE / "sender.py", node.ports[0], 3, "--connections", 8])[0]
        engine.start()
        queue = folder / "queue"

        def waiting() -> int:
            with suppress(OSError):
                return sum(1 for _ in queue.iterdir())
            return 0

        most = waiting()
        wait(lambda: waiting() < most, "the first message leaves the spool")
        first, start = waiting(), time.monotonic()
        wait(lambda: waiting() == 0, "the spool is empty")
        return (time.monotonic() - start) / first, kept["p50"] / 8
