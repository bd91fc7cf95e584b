"""The benchmarks, in one command: python benchmarks/run.py. See README.md for what is measured."""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import idle
import peers
from peers import Peer, Server, Unavailable

OURS = "smtp_blinker"
LISTENING = "with listeners"
IDLE_CONNECTIONS, IDLE_KIB, IDLE_SLOWER = 5000, 14.0, 2.0
LISTENERS_SLOWER = 1.72
ADDRESSES = ("-f", "sender@example.org", "-t", "recipient@example.com", "-M", "client.example")
BDAT_SLOWER = {"bdat-small": 1.2, "bdat-large": 1.0}
SOURCE = peers.HERE / "source.py"


@dataclass(frozen=True)
class Scenario:
    """One way to send mail, and how many times a peer's speed this library must have."""

    title: str
    source: tuple[str, ...]  # arguments of smtp-source, or of source.py
    warm_up: int  # messages in the first round
    targets: dict[str, float] = field(default_factory=dict)
    aims: dict[str, float] = field(default_factory=dict)
    tls: bool = False
    ours: bool = False  # sent by source.py; with TLS it always is

    def command(self, port: int, messages: int) -> tuple[str, ...]:
        """The program that sends so many messages to that port, and its arguments."""
        if self.tls or self.ours:
            return (sys.executable, str(SOURCE), *self.source, str(port), str(messages))
        number = ("-m", str(messages))
        source = peers.tool("smtp-source", "postfix")
        return (source, *self.source, *ADDRESSES, *number, f"inet:127.0.0.1:{port}")


SCENARIOS = {
    "small": Scenario(
        "Messages of 1 KiB on 10 kept connections",
        ("-d", "-s", "10", "-l", "1024"),
        4000,
        {"smtp-server": 1.35, "aiosmtpd": 4.0},
        {"smtp-server": 2.0},
    ),
    "strangers": Scenario(
        "The same, each to a recipient that was never seen before",
        ("-d", "-s", "10", "-l", "1024", "-N"),
        4000,
    ),
    "connections": Scenario(
        "A connection per message of 1 KiB, 50 at a time",
        ("-s", "50", "-l", "1024"),
        1000,
        {"smtp-server": 2.0, "aiosmtpd": 3.0},
    ),
    "recipients": Scenario(
        "Messages of 1 KiB to 20 recipients on 10 kept connections",
        ("-d", "-s", "10", "-l", "1024", "-r", "20"),
        800,
        {"smtp-server": 1.35},
    ),
    "large": Scenario(
        "Messages of 1 MiB on 10 kept connections",
        ("-d", "-s", "10", "-l", "1048576"),
        60,
        {"smtp-server": 1.15, "go-smtp": 2.0},
    ),
    "tls-connections": Scenario(
        "A connection with STARTTLS per message of 1 KiB, 50 at a time",
        ("--connections", "50"),
        400,
        tls=True,
    ),
    "tls-small": Scenario(
        "Messages of 1 KiB on 10 kept connections with TLS", ("--kept",), 2000, tls=True
    ),
    "tls-large": Scenario(
        "Messages of 1 MiB on 10 kept connections with TLS",
        ("--kept", "--size", "1048576"),
        40,
        tls=True,
    ),
}
#: Each is sent by DATA and by BDAT.
BDAT_SCENARIOS = {
    "bdat-small": Scenario(
        "Messages of 1 KiB on 10 kept connections, by DATA and in one chunk",
        ("--kept", "--plain"),
        4000,
        ours=True,
    ),
    "bdat-large": Scenario(
        "Messages of 1 MiB on 10 kept connections, by DATA and in one chunk",
        ("--kept", "--plain", "--size", "1048576"),
        60,
        ours=True,
    ),
}
CHOICES = (*SCENARIOS, *BDAT_SCENARIOS, "idle", "listeners")


@dataclass
class Series:
    """What one server's rounds showed."""

    rates: list[float] = field(default_factory=list)  # messages per second
    costs: list[float] = field(default_factory=list)  # CPU seconds per message
    first: float = 0.0  # the same in the first round after the start, which isn't counted

    @property
    def cost(self) -> float:
        return median(self.costs)

    @property
    def spread(self) -> float:
        """How far the rounds lay apart, as a part of their median: the noise of the machine."""
        return (max(self.costs) - min(self.costs)) / self.cost


class Report:
    """Prints the tables as they are ready and keeps the verdicts for the end."""

    def __init__(self, markdown: bool) -> None:
        self.markdown = markdown
        self.verdicts: list[tuple[str, str, str, str]] = []

    def heading(self, text: str) -> None:
        print(f"\n{'### ' if self.markdown else ''}{text}\n")

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        rows = [head, *rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        if self.markdown:
            rows.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
        for first, *others in rows:
            cells = [first.ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            print(f"| {' | '.join(cells)} |" if self.markdown else "  ".join(cells), flush=True)

    def at_least(self, what: str, wanted: float, got: float | None, aim: bool = False) -> None:
        target = f"{'aim' if aim else 'at least'} {wanted:g}"
        self.judge(what, target, got, (got or 0) >= wanted, "not reached" if aim else "MISSED")

    def at_most(self, what: str, wanted: float, got: float | None) -> None:
        self.judge(what, f"at most {wanted:g}", got, (got or 0) <= wanted, "MISSED")

    def judge(self, what: str, target: str, got: float | None, met: bool, failure: str) -> None:
        if got is None:
            self.verdicts.append((what, target, "-", "not measured"))
        else:
            self.verdicts.append((what, target, f"{got:.2f}", "met" if met else failure))

    def finish(self) -> bool:
        """Print the verdicts; True if no target was missed."""
        self.heading("Targets")
        self.table(("target", "wanted", "measured", "verdict"), self.verdicts)
        return all(word != "MISSED" for *_, word in self.verdicts)


@dataclass(frozen=True)
class Effort:
    """How long a run tries."""

    rounds: int
    seconds: float  # of CPU in each measurement; a tick is 0.01
    warm_up: float  # the part of a scenario's first round
    idle: int  # connections
    transactions: int  # of a fresh client, each time

    def messages(self, scenario: Scenario, cost: float) -> int:
        """How many make a round where one takes *cost* CPU seconds."""
        return max(self.first(scenario) // 4, int(self.seconds / max(cost, 1e-5)))

    def first(self, scenario: Scenario) -> int:
        """How many make the first round."""
        return int(scenario.warm_up * self.warm_up)


def drive(server: Server, scenario: Scenario, messages: int) -> tuple[float, float]:
    """Send the messages; return messages per second and CPU seconds per message."""
    command = scenario.command(server.port, messages)
    cpu, started = server.cpu(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise Unavailable(f"{server.name}: the client failed: {done.stderr.strip()[-300:]}")
    time.sleep(0.1)  # the server may still be closing connections
    return messages / seconds, (server.cpu() - cpu) / messages


def compare(contenders: Sequence[tuple[Peer, Scenario]], effort: Effort) -> dict[str, Series]:
    """Drive the servers in turn, round after round, so that the machine's moods hit all alike."""
    found: dict[str, Series] = {}
    with ExitStack() as stack:
        runs: list[tuple[Server, Scenario, int, Series]] = []
        for peer, scenario in contenders:
            try:
                server = stack.enter_context(closing(Server(peer)))
                # Two rounds aren't counted: caches fill, code is compiled.
                _, first = drive(server, scenario, effort.first(scenario))
                _, cost = drive(server, scenario, 2 * effort.messages(scenario, first))
            except Unavailable as reason:
                print(f"left out: {reason}", file=sys.stderr)
                continue
            series = found[server.name] = Series(first=first)
            runs.append((server, scenario, effort.messages(scenario, cost), series))
        for _ in range(effort.rounds):
            for server, scenario, messages, series in runs:
                rate, cost = drive(server, scenario, messages)
                series.rates.append(rate)
                series.costs.append(cost)
    return found


def print_comparison(report: Report, found: dict[str, Series]) -> None:
    ours = found.get(OURS)
    report.table(
        (
            "server",
            "messages/s",
            "CPU µs/message",
            "spread",
            f"{OURS} to it, per CPU-second",
            "first round, µs",
            f"{OURS} to it",
        ),
        (
            (
                name,
                f"{median(series.rates):.0f}",
                f"{series.cost * 1e6:.1f}",
                f"{series.spread:.0%}",
                "-" if (times := ratio(found, name, OURS)) is None else f"{times:.2f}",
                f"{series.first * 1e6:.1f}",
                f"{series.first / ours.first:.2f}" if ours else "-",
            )
            for name, series in found.items()
        ),
    )


def run_scenario(name: str, contenders: Sequence[Peer], effort: Effort, report: Report) -> None:
    scenario = SCENARIOS[name]
    report.heading(f"{name}: {scenario.title}")
    found = compare([(peer, scenario) for peer in contenders], effort)
    print_comparison(report, found)
    for goals, aim in ((scenario.targets, False), (scenario.aims, True)):
        for peer, wanted in goals.items():
            report.at_least(f"{name}: {peer}'s speed, times", wanted, ratio(found, peer, OURS), aim)


def ratio(found: dict[str, Series], above: str, below: str) -> float | None:
    """How many times the CPU of one the other takes.

    Worked out round by round, as both were measured within seconds of each other: a machine that
    is shared has slow minutes.
    """
    if above in found and below in found:
        rounds = zip(found[above].costs, found[below].costs, strict=True)
        return median(one / other for one, other in rounds)
    return None


def run_listeners(effort: Effort, report: Report) -> None:
    """What the log, tracking and metrics cost a small message, beside smtp-server without any."""
    scenario = SCENARIOS["small"]
    report.heading(f"listeners: {scenario.title}")
    contenders = [peers.smtp_blinker(), peers.with_listeners(), peers.with_a_log_line()]
    try:
        contenders.append(peers.smtp_server())
    except Unavailable as reason:
        print(f"left out: {reason}", file=sys.stderr)
    found = compare([(peer, scenario) for peer in contenders], effort)
    print_comparison(report, found)
    ours, theirs = ratio(found, LISTENING, OURS), ratio(found, LISTENING, "smtp-server")
    report.at_most("listeners: CPU of smtp-server without any, times", 1.0, theirs)
    report.at_most("listeners: CPU of this server without any, times", LISTENERS_SLOWER, ours)


def run_bdat(name: str, effort: Effort, report: Report) -> None:
    """One chunk beside DATA, in this server and in go-smtp's, which knows BDAT too."""
    by_data = BDAT_SCENARIOS[name]
    by_bdat = replace(by_data, source=(*by_data.source, "--bdat"))
    report.heading(f"{name}: {by_data.title}")
    contenders: list[tuple[Peer, Scenario]] = []
    for make in (peers.smtp_blinker, peers.go_smtp):
        try:
            peer = make()
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)
            continue
        contenders.append((peer, by_data))
        contenders.append((replace(peer, name=f"{peer.name}, BDAT"), by_bdat))
    found = compare(contenders, effort)
    print_comparison(report, found)
    report.at_most(
        f"{name}: CPU of DATA, times", BDAT_SLOWER[name], ratio(found, f"{OURS}, BDAT", OURS)
    )


def run_idle(contenders: Sequence[Peer], effort: Effort, report: Report) -> None:
    connections = min(effort.idle, idle.raise_file_limit(effort.idle + 500) - 200)
    report.heading(f"idle: {connections} connections that said EHLO and then nothing")
    found: dict[str, idle.Idle] = {}
    for peer in contenders:
        try:
            with closing(Server(peer)) as server:
                found[peer.name] = idle.measure(server, connections, effort.transactions)
        except Unavailable as reason:
            print(f"left out: {reason}", file=sys.stderr)
        except OSError as error:
            print(f"left out: {peer.name}: {error}", file=sys.stderr)
    report.table(
        ("server", "kept", "KiB each", "transaction alone, ms", "beside them, ms", "ratio"),
        (
            (
                name,
                f"{one.kept}",
                f"{one.bytes_each / 1024:.1f}",
                f"{one.alone * 1e3:.2f}",
                f"{one.beside * 1e3:.2f}",
                f"{one.slower:.2f}",
            )
            for name, one in found.items()
        ),
    )
    for name in (OURS, LISTENING):
        one, what = found.get(name), f"idle, {name}"
        report.at_most(f"{what}: lost", 0, connections - one.kept if one else None)
        report.at_most(f"{what}: KiB each", IDLE_KIB, one.bytes_each / 1024 if one else None)
        report.at_most(f"{what}: transaction, times", IDLE_SLOWER, one.slower if one else None)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, for its shape only")
    parser.add_argument(
        "--only", default=",".join(CHOICES), help=f"some of {','.join(CHOICES)}", metavar="LIST"
    )
    parser.add_argument("--rounds", type=int, help="counted rounds (default 9; quick 2)")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.add_argument(
        "--beside", type=Path, help="a checkout of another commit, measured too", metavar="DIR"
    )
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(CHOICES):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Exit status 1 if a target was missed, 2 if nothing can be measured."""
    options = arguments()
    if options.quick:
        effort = Effort(options.rounds or 2, 0.1, 0.2, 500, 50)
    else:
        effort = Effort(options.rounds or 9, 0.8, 1.0, IDLE_CONNECTIONS, 300)
    try:
        peers.tool("smtp-source", "postfix")
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    if (load := os.getloadavg()[0]) > 1:
        print(f"other work runs here (load {load:.1f}): these figures are rough", file=sys.stderr)
    contenders = list(peers.available())
    with_tls = list(peers.available_with_tls())
    if options.beside is not None:
        another = peers.beside(options.beside.resolve())
        contenders.insert(1, another)
        with_tls.insert(1, peers.with_tls(another))
    report = Report(options.markdown)
    for name, scenario in SCENARIOS.items():
        if name in options.only:
            run_scenario(name, with_tls if scenario.tls else contenders, effort, report)
    for name in BDAT_SCENARIOS:
        if name in options.only:
            run_bdat(name, effort, report)
    if "idle" in options.only:
        run_idle([*contenders, peers.with_listeners()], effort, report)
    if "listeners" in options.only:
        run_listeners(effort, report)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
