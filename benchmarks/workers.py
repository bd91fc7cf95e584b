"""One gunicorn worker and two, in turn: python benchmarks/workers.py. See README.md."""

import argparse
import resource
import signal
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from pathlib import Path
from statistics import median

import peers
import run
from peers import Peer, Server, Unavailable

WORKERS = (1, 2)
FASTER = 1.6  # times, with "parse" only: elsewhere smtp-source takes too much of two cores
FREE = 0.2  # of a core: what else may run beside them, or nothing is said of the target
MESSAGE = peers.CACHE / "message"

SCENARIOS = {
    "parse": run.Scenario(
        "Messages of 40 KiB with an attachment on 10 kept connections, parsed by the hook",
        ("-d", "-s", "10", "-F", str(MESSAGE)),
        400,
        {},
    ),
    **{name: run.SCENARIOS[name] for name in ("recipients", "connections", "small")},
}


@dataclass
class Series(run.Series):
    """What one number of workers showed, and who else used the processor."""

    clients: list[float] = field(default_factory=list)  # CPU seconds of smtp-source per message
    busiest: list[float] = field(default_factory=list)  # one worker's part of the workers' CPU
    others: list[float] = field(default_factory=list)  # cores that something else kept busy

    @property
    def client(self) -> float:
        return median(self.clients)

    @property
    def free(self) -> float:
        """Messages per second of CPU of the busiest: the rate if each worker had a core."""
        return 1 / (self.cost * median(self.busiest))


class Gunicorn(Server):
    """An arbiter and its workers."""

    def __init__(self, workers: int, work: str) -> None:
        """Start it and wait until all workers are there; raises Unavailable if they never are."""
        script = str(peers.SERVERS / "gunicorn_server.py")
        name = f"workers-{workers}-{work}"
        super().__init__(Peer(name, (sys.executable, script, "{port}", str(workers), work)))
        deadline = time.monotonic() + peers.START_TIMEOUT
        while len(self.workers()) < workers:
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.close()
                raise Unavailable(f"no {workers} workers: see .cache/{name}.log")
            time.sleep(0.05)

    def workers(self) -> list[int]:
        return [int(child) for child in self.proc(f"task/{self.process.pid}/children").split()]

    def each(self) -> list[float]:
        """Seconds of CPU so far, of each worker."""
        return [peers.cpu(worker) for worker in self.workers()]

    def cpu(self) -> float:
        return sum(self.each())

    def close(self) -> None:
        self.process.terminate()  # killed, it would leave its workers to themselves
        self.process.wait()


def measure(server: Gunicorn, scenario: run.Scenario, messages: int, series: Series) -> None:
    before, client, machine = server.each(), client_cpu(), machine_cpu()
    rate, cost = run.drive(server, scenario, messages)
    used = [after - one for one, after in zip(before, server.each(), strict=True)]
    client, machine = client_cpu() - client, machine_cpu() - machine
    series.rates.append(rate)
    series.costs.append(cost)
    series.clients.append(client / messages)
    series.busiest.append(max(used) / sum(used))
    series.others.append(max(0.0, machine - client - sum(used)) * rate / messages)


def client_cpu() -> float:
    """Seconds of CPU of every smtp-source that has ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_cpu() -> float:
    """Seconds of CPU that all processors together weren't idle, waiting or someone else's."""
    user, nice, system, _, _, *interrupts = Path("/proc/stat").read_text().split()[1:8]
    return sum(map(int, (user, nice, system, *interrupts))) / peers.TICKS


def run_scenario(name: str, rounds: int, seconds: float, report: run.Report) -> None:
    scenario = SCENARIOS[name]
    work = "parse" if name == "parse" else "discard"
    found = {count: Series() for count in WORKERS}
    report.heading(f"workers, {name}: {scenario.title}")
    with ExitStack() as stack:
        servers = {count: stack.enter_context(closing(Gunicorn(count, work))) for count in WORKERS}
        for server in servers.values():  # not counted: caches fill
            _, cost = run.drive(server, scenario, scenario.warm_up)
        messages = int(seconds / cost)
        for _ in range(rounds):
            for count, server in servers.items():
                measure(server, scenario, messages, found[count])
    report.table(
        (
            "workers",
            "messages/s",
            "CPU µs/message",
            "spread",
            "smtp-source's",
            "its part",
            "busiest worker's",
            "other cores used",
        ),
        (
            (
                f"{count}",
                f"{median(series.rates):.0f}",
                f"{series.cost * 1e6:.1f}",
                f"{series.spread:.0%}",
                f"{series.client * 1e6:.1f}",
                f"{series.client / (series.client + series.cost):.0%}",
                f"{median(series.busiest):.0%}",
                f"{median(series.others):.2f}",
            )
            for count, series in found.items()
        ),
    )
    one, two = found.values()
    faster = median(after / before for before, after in zip(one.rates, two.rates, strict=True))
    print(
        f"\nTwo workers take {faster:.2f} times the messages per second of one;"
        f" by their CPU, with a core for each, {two.free / one.free:.2f} times."
    )
    if name == "parse":
        free = median([*one.others, *two.others]) <= FREE
        what = "workers: parse, two, times the messages of one"
        report.at_least(what, FASTER, faster if free else None)


def write_message() -> None:
    """A mail as they come: two hops, a text twice, a file."""
    message = EmailMessage(policy=policy.default)
    for hop in ("mx.example.com", "out.example.org"):
        message["Received"] = (
            f"from {hop} (client.example [192.0.2.1]) by {hop} with ESMTPS id 4ZxQ1r2zPzz9s;"
            " Sun, 22 Nov 2026 12:00:00 +0000 (UTC)"
        )
    message["DKIM-Signature"] = f"v=1; a=rsa-sha256; d=example.org; s=2026; b={'x' * 60}"
    message["Date"] = "Sun, 22 Nov 2026 12:00:00 +0000"
    message["From"] = "Jürgen Sender <sender@example.org>"
    message["To"] = ", ".join(f"Recipient {n} <recipient-{n}@example.com>" for n in range(5))
    message["Subject"] = "What was measured, and what it says"
    message["Message-ID"] = "<20261122120000.4711@example.org>"
    text = "What was measured stands below, and in the file.\n" * 40
    message.set_content(text)
    message.add_alternative(f"<p>{text}</p>", subtype="html")
    message.add_attachment(bytes(range(256)) * 100, "application", "pdf", filename="figures.pdf")
    MESSAGE.write_bytes(message.as_bytes())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", default=",".join(SCENARIOS), help=f"some of {','.join(SCENARIOS)}", metavar="LIST"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--seconds", type=float, default=1.5, help="of CPU in each (default 1.5)")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Exit status 1 if the target was missed, 2 if nothing can be measured."""
    options = arguments()
    peers.CACHE.mkdir(exist_ok=True)
    write_message()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    report = run.Report(options.markdown)
    try:
        for name in options.only:
            run_scenario(name, options.rounds, options.seconds, report)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
