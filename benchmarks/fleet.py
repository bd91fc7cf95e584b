#!/usr/bin/env python
"""Is anything lost when parts of a fleet die? HAProxy, three nodes, a queue, two consumers.

    python benchmarks/fleet.py [--quick] [--engine rabbitmq|redis|both] [--seconds N] [--seed N]

All are processes of this machine. Clients send without a pause, and again what was not answered
250, while one part after another, at random, is killed with SIGKILL and started again, or stopped
for a while with SIGSTOP. In the end each message that was answered 250 must have been handled, each
duplicate must be recognised by its content id, and no client may have had another answer than 250,
421, 451 or a lost connection. The exit status is 1 if any of this is not so. ``--quick`` takes two
minutes. Needs Debian's haproxy, rabbitmq-server and redis-server, and the extra `test`.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from interop.engines import Engine, RabbitMQ, Redis  # noqa: E402
from interop.support import environment, free_port  # noqa: E402

NODES, CONSUMERS, CLIENTS = 3, 2, 4
#: Every so many messages one is larger than what is kept in the entry.
LARGE_EVERY, LARGE = 20, 200_000
#: Seconds that everything may take to recover when nothing is killed any more.
RECOVERY = 120.0

#: Writes a line for each message: its marker, its content id.
CONSUMER = """
import sys
from smtp_blinker.consumers import consume, redis_stream
from smtp_blinker.stores import FolderContents

redis_stream.DEAD_SECONDS = 10
url, folder, path = sys.argv[1:]
with open(path, "ab", buffering=0) as handled:
    def handle(envelope, content):
        handled.write(content.split()[1] + b" " + envelope.content_id.encode() + b"\\n")
    consume(url, handle, contents=FolderContents(folder), delays=(1, 1, 1, 1, 1))
"""

PROXY = """
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    option redispatch
    retries 3
frontend smtp
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance roundrobin
    default-server check inter 500ms fall 1 rise 1 send-proxy-v2 check-send-proxy
{servers}
"""


class Part:
    """A process that can be killed and started again."""

    def __init__(self, name: str, command: list[Any], folder: Path) -> None:
        self.name = name
        self._command = [str(word) for word in command]
        self._log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
                env=environment(PYTHONPATH=str(ROOT)),
            )

    def signal(self, number: int) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    end = kill


class Load:
    """Clients that send until they are told to stop, and remember what they were answered."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.accepted: set[str] = set()
        self.answers: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(n,)) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            marker = f"{number}-{count}"
            filling = "x" * 70 + "\r\n"
            body = filling * (LARGE // len(filling) if count % LARGE_EVERY == 0 else 10)
            while not self.try_once(marker, body) and not self._stop.is_set():
                time.sleep(0.2)

    def try_once(self, marker: str, body: str) -> bool:
        try:
            with smtplib.SMTP("127.0.0.1", self.port, "client.example", timeout=60) as smtp:
                smtp.sendmail("a@example.net", ["b@example.com"], f"Marker: {marker}\r\n\r\n{body}")
                self.accepted.add(marker)
        except smtplib.SMTPRecipientsRefused as exc:
            self.answers[str(next(iter(exc.recipients.values()))[0])] += 1
        except smtplib.SMTPResponseException as exc:
            # -1 is smtplib's for a connection that was lost before a reply.
            self.answers["lost" if exc.smtp_code < 0 else str(exc.smtp_code)] += 1
        except (OSError, smtplib.SMTPException):
            self.answers["lost"] += 1
        else:
            self.answers["250"] += 1
        # Answered 250 is accepted, though QUIT may have failed after it.
        return marker in self.accepted


class Fleet:
    """All parts, for one engine."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.handled = folder / "handled"
        self.handled.touch()
        contents = folder / "contents"
        ports = [free_port() for _ in range(NODES)]
        self.port = free_port()
        servers = "".join(f"    server n{n} 127.0.0.1:{port}\n" for n, port in enumerate(ports))
        config = folder / "haproxy.cfg"
        config.write_text(PROXY.format(port=self.port, servers=servers))
        serve = [sys.executable, "-m", "smtp_blinker", "--http", "off", "--log-level", "error"]
        to = ["--deliver", engine.url, "--contents", contents, "--trusted-proxy", "127.0.0.1"]
        consume = [sys.executable, "-c", CONSUMER, engine.url, contents, self.handled]
        self.parts = [
            *(
                Part(f"node{n}", [*serve, "-l", f"127.0.0.1:{port}", *to], folder)
                for n, port in enumerate(ports)
            ),
            *(Part(f"consumer{n}", consume, folder) for n in range(CONSUMERS)),
            Part("haproxy", ["/usr/sbin/haproxy", "-db", "-f", config], folder),
        ]

    def start(self) -> None:
        self.engine.start()
        for part in self.parts:
            part.start()
        first = Load(self.port)
        wait(lambda: first.try_once("first", ""), "the first message is accepted")
        wait(lambda: "first" in self.content_ids(), "the first message is handled")
        if isinstance(self.engine, RabbitMQ):
            # Now it has the names of its new queues on the disk: see docs/howto/queue.md.
            self.engine.restart()

    def content_ids(self) -> dict[str, list[str]]:
        """The content ids with which each message was handled, by marker."""
        found: dict[str, list[str]] = defaultdict(list)
        for line in self.handled.read_text().splitlines():
            marker, _, content_id = line.partition(" ")
            found[marker].append(content_id)
        return found

    def end(self) -> None:
        for part in self.parts:
            part.end()
        self.engine.end()


class Chaos:
    """Kills and stops parts, one at a time."""

    def __init__(self, fleet: Fleet, dice: random.Random, pause: float) -> None:
        self._dice = dice
        self._pause = pause
        self._victims: list[tuple[str, Any]] = [(part.name, part) for part in fleet.parts]
        self._victims.append(("engine", fleet.engine))
        self.done: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            # Each kind as often as the others, however many there are of it.
            kind = self._dice.choice(["node", "consumer", "haproxy", "engine"])
            victim = self._dice.choice([v for name, v in self._victims if name.startswith(kind)])
            if self._dice.random() < 0.7:
                victim.kill()
                victim.start()
                self.done[f"{kind} killed"] += 1
            else:
                victim.signal(signal.SIGSTOP)
                time.sleep(self._dice.uniform(0.5, self._pause))
                victim.signal(signal.SIGCONT)
                self.done[f"{kind} stopped"] += 1
            time.sleep(self._dice.uniform(0.5, 2))


def wait(fact: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + RECOVERY
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {RECOVERY:g} s: {what}")
        time.sleep(0.2)


def run(engine: type[RabbitMQ] | type[Redis], seconds: float, pause: float, seed: int) -> bool:
    """One engine; whether all was well. Prints what happened."""
    with tempfile.TemporaryDirectory(prefix="fleet-") as name:
        folder = Path(name)
        fleet = Fleet(engine(folder / "engine"), folder)
        load = Load(fleet.port)
        chaos = Chaos(fleet, random.Random(seed), pause)
        try:
            fleet.start()
            load.start()
            try:
                chaos.run(seconds)
            finally:
                load.stop()
            with suppress(TimeoutError):
                wait(lambda: load.accepted <= fleet.content_ids().keys(), "all is handled")
        finally:
            fleet.end()
        return report(engine.__name__, load, chaos, fleet.content_ids())


def report(engine: str, load: Load, chaos: Chaos, handled: dict[str, list[str]]) -> bool:
    lost = load.accepted - handled.keys()
    twice = {marker: ids for marker, ids in handled.items() if len(ids) > 1}
    unknown = {marker for marker, ids in twice.items() if len(set(ids)) > 1}
    wrong = {
        code: n for code, n in load.answers.items() if code not in ("250", "421", "451", "lost")
    }
    print(f"{engine}: {len(load.accepted)} messages accepted, {len(lost)} of them lost")
    print(f"  handled twice or more: {len(twice)}, not recognised: {len(unknown)}")
    print(f"  answers: {dict(sorted(load.answers.items()))}")
    print(f"  parts: {sum(chaos.done.values())}: {dict(sorted(chaos.done.items()))}", flush=True)
    for what, found in (("lost", lost), ("not recognised", unknown), ("wrong answers", wrong)):
        if found:
            print(f"  {what}: {found}", flush=True)
    return bool(load.accepted) and not lost and not unknown and not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill parts of a fleet; is anything lost?")
    parser.add_argument("--quick", action="store_true", help="two minutes in all, for CI")
    parser.add_argument("--engine", choices=["rabbitmq", "redis", "both"], default="both")
    parser.add_argument("--seconds", type=float, default=600, help="for each engine")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    options = parser.parse_args()
    engines = {"rabbitmq": RabbitMQ, "redis": Redis}
    chosen = [options.engine] if options.engine != "both" else list(engines)
    seconds, pause = (35.0, 3.0) if options.quick else (options.seconds, 10.0)
    print(f"seed {options.seed}", flush=True)
    well = [run(engines[name], seconds, pause, options.seed) for name in chosen]
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
