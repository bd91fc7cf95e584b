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
from support import environment

from fleet.parts import HERE, ROOT, wait

#: Messages a second of the point with which the simulation is compared.
RATE = 100.0
#: What `Times` has of a round.
TIMES = frozenset({"node", "secure", "broker", "confirm"})
#: Clients that are there at once where it is to take as many as it can.
CLIENTS = 32


def measure(rounds: int = 5, seconds: float = 1.5, size: int = 1024) -> dict[str, Any]:
    """The times in seconds, and what one node did at `RATE` messages a second, and at most.

    The best of the rounds each, since other work on this machine can only make it slower. The point
    is that of one round, with how many times as long as it ran the node took for it: while others
    have the processors it waits.
    """
    with tempfile.TemporaryDirectory(prefix="times-") as folder, ExitStack() as stack:
        engine = RabbitMQ(Path(folder) / "engine")
        stack.callback(engine.end)
        engine.start()
        assert engine.process is not None
        where = stores.Target("rabbitmq", engine.url, engine.process.pid)
        # For --starttls; the certificate's key is for P-256.
        certificate = ("--self-signed", "--self-signed-cert", Path(folder) / "certificate.pem")
        nodes = stores.Nodes(where, 1, stack, *certificate)
        send = [HERE / "sender.py", nodes.ports[0], seconds]
        stores.ask(send)  # warm
        found = []
        for _ in range(rounds):
            found.append(_round(where, nodes, send, seconds, size))
            where.empty()
        best = {key: min(one[key] for one in found) for key in TIMES}
        point = min(found, key=lambda one: one["each"])
        consumer = _consume(where.url, Path(folder))
        drain, spool = _spool(engine, Path(folder) / "spool")
    point = {key: point[key] for key in point.keys() - TIMES}
    # What a connection with STARTTLS takes more than one without.
    best["tls"] = best.pop("secure") - best["node"]
    times = {**best, "drain": drain, "spool": spool, "consumer": consumer}
    return {"times": times, "point": {"rate": RATE, "clients": CLIENTS, **point}}


def _round(
    where: stores.Target, nodes: stores.Nodes, send: list[Any], seconds: float, size: int
) -> dict[str, float]:
    """Seconds: less is better, of each."""
    # The broker's time, with as little of its library's as there is.
    low = ["--low-level"] if where.name in stores.LOW_LEVEL else []
    alone = stores.ask([HERE / "bare.py", where.url, seconds, "--connections", 1, *low])[0]
    busy = stores.measure_bare(where, 2, seconds, size, *low)
    at_rate = stores.ask([*send, "--rate", RATE])[0]
    at_most = [*send, "--connections", CLIENTS, "--each"]
    before = nodes.cpu()
    secure = stores.ask([*at_most, "--starttls"])[0]
    secure_cpu = nodes.cpu() - before
    before, (ran, waited) = nodes.cpu(), nodes.scheduled()
    most = stores.ask(at_most)[0]
    cpu = nodes.cpu() - before
    ran_later, waited_later = nodes.scheduled()
    return {
        "node": cpu / most["messages"],
        "secure": secure_cpu / secure["messages"],
        "broker": 1 / busy["rate"],
        "confirm": alone["p50"],
        "p50": at_rate["p50"],
        "p99": at_rate["p99"],
        #: For each connection, when there are always so many.
        "each": most["seconds"] / most["messages"],
        "client": most["cpu"] / most["messages"],
        "stretch": 1 + (waited_later - waited) / (ran_later - ran),
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
