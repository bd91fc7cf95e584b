#!/usr/bin/env python
"""What a store costs beside the other side's client library alone, with the same confirmations.

    python benchmarks/stores.py [--rounds N] [--seconds N] [--only LIST] [--json FILE]

For RabbitMQ and Redis with one, two and three nodes beside as many processes that only publish
(fleet/bare.py); for a webhook and a next hop with one node. Redis has a second such loop beside it,
of redis-py's connections without its client; it doesn't count for the exit status. All are
processes of this machine and share its processors, so more nodes than it has processors can't be
faster here. What is compared is measured in turn; the figures are medians of the rounds. The exit
status is 1 if one node hands over less than 0.7 of what a publisher alone does to RabbitMQ or
Redis. Needs Debian's rabbitmq-server, redis-server and postfix (smtp-sink), and the extra `test`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT), str(ROOT / "tests")]

import amqp  # noqa: E402
import redis  # noqa: E402
from fleet.parts import HERE  # noqa: E402
from interop.engines import Engine, RabbitMQ, Redis  # noqa: E402
from support import environment, free_port, program  # noqa: E402

MOST_NODES = 3
#: What one node hands over, as a part of what a publisher alone does.
TARGET = 0.7
#: Of a store to the other side, and of the loop. A node has twice as many clients, so that always
#: enough of them have a message ready.
CONNECTIONS = {"rabbitmq": 16, "redis": 16, "webhook": 10, "relay": 10}
#: With a second loop, of the library's lower level.
LOW_LEVEL = {"redis"}
TICKS = os.sysconf("SC_CLK_TCK")


def start(words: list[Any], stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        text=True,
        env=environment(PYTHONPATH=str(ROOT)),
    )


@contextmanager
def running(words: list[Any], port: int) -> Iterator[subprocess.Popen[str]]:
    """A server until the end of the block."""
    process = start(words)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{words[0]} doesn't listen on port {port}")
            time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()


def cpu_of(group: int) -> float:
    """Seconds of CPU that the processes of a group have had, or one process that leads none."""
    seconds = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            head, _, rest = stat.read_text().rpartition(")")
            fields = rest.split()
            if group in (int(head.split()[0]), int(fields[2])):
                seconds += (int(fields[11]) + int(fields[12])) / TICKS
    return seconds


def scheduled(pid: int) -> tuple[float, float]:
    """Seconds that a process's first thread has run, and that it has waited for a processor."""
    run, wait, _ = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    return int(run) / 1e9, int(wait) / 1e9


class Target:
    """Where mail goes: *url* for the store and the loop, `empty` between two measurements."""

    def __init__(self, name: str, url: str, process: int) -> None:
        self.name = name
        self.url = url
        self.process = process

    def empty(self) -> None:
        if self.name == "redis":
            redis.Redis.from_url(self.url).delete("mail")
        elif self.name == "rabbitmq":
            host = self.url.rpartition("@")[2].rstrip("/")
            with amqp.Connection(host) as connection:
                connection.channel().queue_purge("mail")


@contextmanager
def target(name: str, folder: Path) -> Iterator[Target]:
    port = free_port()
    if name in ("rabbitmq", "redis"):
        engine: Engine = RabbitMQ(folder) if name == "rabbitmq" else Redis(folder)
        engine.start()
        assert engine.process is not None
        try:
            yield Target(name, engine.url, engine.process.pid)  # type: ignore[attr-defined]
        finally:
            engine.end()
    elif name == "webhook":
        with running([sys.executable, HERE / "endpoint.py", port], port) as process:
            yield Target(name, f"http://127.0.0.1:{port}/mail", process.pid)
    else:
        sink = program("smtp-sink", "postfix")
        with running([sink, "-u", "nobody", f"127.0.0.1:{port}", "100"], port) as process:
            yield Target(name, f"smtp://127.0.0.1:{port}", process.pid)


class Nodes:
    """Running nodes that deliver to *where*; *more* are options of theirs."""

    def __init__(self, where: Target, number: int, stack: ExitStack, *more: Any) -> None:
        self.ports = [free_port() for _ in range(number)]
        serve = [sys.executable, "-m", "smtp_blinker", "--http", "off", "--log-level", "error"]
        serve += ["--size", "8M"]  # RabbitMQ takes no 25 MiB
        self._processes = [
            stack.enter_context(
                running([*serve, "-l", f"127.0.0.1:{port}", "--deliver", where.url, *more], port)
            )
            for port in self.ports
        ]

    def cpu(self) -> float:
        return sum(cpu_of(process.pid) for process in self._processes)

    def scheduled(self) -> tuple[float, float]:
        """Of the first node."""
        return scheduled(self._processes[0].pid)


def ask(words: list[Any], number: int = 1) -> list[dict[str, Any]]:
    """What so many programs at the same time printed."""
    processes = [start([sys.executable, *words], stdout=subprocess.PIPE) for _ in range(number)]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{words[0]} failed")
    return [json.loads(output) for output in outputs]


def measure_bare(
    where: Target, number: int, seconds: float, size: int, *more: str
) -> dict[str, float]:
    connections = CONNECTIONS[where.name]
    words = [HERE / "bare.py", where.url, seconds, "--size", size, "--connections", connections]
    words += more
    before = cpu_of(where.process)
    found = ask(words, number)
    messages = sum(each["messages"] for each in found)
    return {
        "rate": sum(each["messages"] / each["seconds"] for each in found),
        "p50": statistics.median(each["p50"] for each in found) * 1e3,
        "p99": max(each["p99"] for each in found) * 1e3,
        "cpu": sum(each["cpu"] for each in found) / messages * 1e6,
        "other": (cpu_of(where.process) - before) / messages * 1e6,
    }


def measure_nodes(where: Target, nodes: Nodes, number: int, seconds: float, size: int) -> Any:
    connections = 2 * CONNECTIONS[where.name] * number
    ports = ",".join(map(str, nodes.ports[:number]))
    words = [HERE / "sender.py", ports, seconds, "--size", size, "--connections", connections]
    before, other = nodes.cpu(), cpu_of(where.process)
    found = ask(words)[0]
    return {
        "rate": found["messages"] / found["seconds"],
        "p50": found["p50"] * 1e3,
        "p99": found["p99"] * 1e3,
        "cpu": (nodes.cpu() - before) / found["messages"] * 1e6,
        "other": (cpu_of(where.process) - other) / found["messages"] * 1e6,
        "client": found["cpu"] / found["messages"] * 1e6,
    }


def compare(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each number of nodes."""
    most = MOST_NODES if name in ("rabbitmq", "redis") else 1
    rounds: list[list[dict[str, dict[str, float]]]] = []
    with tempfile.TemporaryDirectory(prefix="stores-") as folder, ExitStack() as stack:
        where = stack.enter_context(target(name, Path(folder) / "engine"))
        nodes = Nodes(where, most, stack)
        # Declares the queue, compiles, fills caches. Not counted.
        measure_nodes(where, nodes, most, 1, options.size)
        for _ in range(options.rounds):
            row = []
            for number in range(1, most + 1):
                how = (number, options.seconds, options.size)
                found = {"bare": measure_bare(where, *how)}
                where.empty()
                found["node"] = measure_nodes(where, nodes, *how)
                where.empty()
                if name in LOW_LEVEL:
                    found["low"] = measure_bare(where, *how, "--low-level")
                    where.empty()
                row.append(found)
            rounds.append(row)
    rows = []
    for index in range(most):
        runs = [row[index] for row in rounds]
        one = {kind: medians([each[kind] for each in runs]) for kind in runs[0]}
        parts = {
            kind: statistics.median(each["node"]["rate"] / each[kind]["rate"] for each in runs)
            for kind in one.keys() - {"node"}
        }
        rows.append({"number": index + 1, "part": parts["bare"], "parts": parts, **one})
    return rows


def medians(found: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(each[key] for each in found) for key in found[0]}


def show(name: str, rows: list[dict[str, Any]]) -> None:
    number = CONNECTIONS[name]
    print(f"\n### {name}: messages of 1 KiB, {number} connections, {2 * number} clients a node\n")
    low = name in LOW_LEVEL
    print(
        "| nodes | messages/s | p50, ms | p99, ms | node's CPU, µs | loop alone, messages/s "
        "| p99, ms | its CPU, µs | part of it |"
        + (" low level, messages/s | its CPU, µs | part of it |" if low else "")
    )
    print("| ---: " * (12 if low else 9) + "|")
    for row in rows:
        node, bare = row["node"], row["bare"]
        line = (
            f"| {row['number']} | {node['rate']:.0f} | {node['p50']:.1f} | {node['p99']:.1f} "
            f"| {node['cpu']:.0f} | {bare['rate']:.0f} | {bare['p99']:.1f} | {bare['cpu']:.0f} "
            f"| {row['part']:.2f} |"
        )
        if low:
            its = row["low"]
            line += f" {its['rate']:.0f} | {its['cpu']:.0f} | {row['parts']['low']:.2f} |"
        print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="What stores cost beside their client alone.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--only", default=",".join(CONNECTIONS))
    parser.add_argument("--json", type=Path, help="write all figures there")
    options = parser.parse_args()
    found = {}
    for name in options.only.split(","):
        found[name] = compare(name, options)
        show(name, found[name])
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    missed = [name for name in ("rabbitmq", "redis") if name in found]
    missed = [name for name in missed if found[name][0]["part"] < TARGET]
    print(f"\nMISSED: {', '.join(missed)}" if missed else f"\nmet: one node at least {TARGET}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
