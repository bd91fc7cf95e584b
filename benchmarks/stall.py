"""The longest stall of the hub: python benchmarks/stall.py. See README.md for what is measured."""

import argparse
import multiprocessing
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hostile
import idle
import peers
import visitors
from hostile import KIB, MIB
from measured import MeasuredServer, make_users
from pulse import LONG, Pulse
from run import Report
from source import ENVELOPE, HELLO, message
from visitors import Place, Visit

#: Connections that send mail all the time; as many strangers have half of the server at most.
MAIL = STRANGERS = 8
#: Seconds for which a hub that stands still is watched.
PATIENCE = 30.0
HALF = 0.5
#: Of the rate without a page, with ten of the worst messages and 20 pages; rounds of both.
BAR, ROUNDS = 0.8, 5

# fork: they need nothing but what is here, and begin at once.
processes = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Scenario:
    """Who comes, beside the mail."""

    title: str
    visits: tuple[tuple[int, Visit], ...]
    #: What is in the Maildir before, how large, and how many of it.
    mail: tuple[hostile.Mail, int, int] | None = None
    certificate: str = "ec"
    #: What fails meanwhile: "disk" or "dns", see servers/stall_server.py.
    fault: str = ""


PAGE = ((1, visitors.watch), (1, visitors.follow))
READER = (*PAGE, (1, visitors.open_mails))


def strangers(visit: Visit) -> tuple[tuple[int, Visit], ...]:
    return ((STRANGERS, visit),)


SCENARIOS = {
    "nothing": Scenario("Nothing", ()),
    "page": Scenario("An open page", PAGE),
    "pages": Scenario("500 open pages (their event streams)", ((1, visitors.watch_everywhere),)),
    "actions": Scenario("A reader searches, marks and deletes all", (*PAGE, (1, visitors.act))),
    "lines": Scenario(
        "24 MiB in lines of 998 octets, read (C1)", READER, (hostile.long_lines, 24 * MIB, 1)
    ),
    "attachment": Scenario(
        "An attachment of 25 MiB, read (C1)", READER, (hostile.attachment, 34 * MIB, 1)
    ),
    "digits": Scenario(
        "Characters by numbers of 4,301 digits (C2)",
        READER,
        (hostile.character_reference, 64 * KIB, 10),
    ),
    "parameters": Scenario(
        "250 parts with empty parameters (C3)", READER, (hostile.empty_parameters, MIB, 10)
    ),
    "fields": Scenario(
        "70 parts with 990 fields each (C3)", READER, (hostile.content_fields, MIB, 10)
    ),
    "boundaries": Scenario(
        "False boundaries, 20 deep (C3)", READER, (hostile.false_boundaries, MIB, 10)
    ),
    "worst": Scenario(
        "Ten of C3 arrive, 20 open pages",
        ((20, visitors.watch), (20, visitors.follow), (1, visitors.ten_of_the_worst)),
    ),
    "charset": Scenario("Charset punycode_ (C4)", READER, (hostile.slow_charset, 512 * KIB, 10)),
    "charsets": Scenario(
        "300,000 charsets that don't exist (C5)", READER, (hostile.charset_names, 262 * KIB, 20)
    ),
    "recipients": Scenario(
        "Messages to 1,000 recipients, an open page (C6)",
        (*PAGE, *strangers(visitors.mail_to_a_thousand)),
    ),
    "names": Scenario(
        "427 KiB of attachment names (C7)", READER, (hostile.file_names, 427 * KIB, 10)
    ),
    "passwords": Scenario("Passwords of 8 KiB", strangers(visitors.guess_long)),
    "u+0344": Scenario("Passwords of U+0344 (A8)", strangers(visitors.guess_marks)),
    "marks": Scenario("Passwords of marks out of order", strangers(visitors.guess_unordered_marks)),
    "guessers": Scenario("50 guess passwords", ((50, visitors.guess_short),)),
    "dns": Scenario(
        "50 whose names can't be looked up", ((50, visitors.from_anywhere),), fault="dns"
    ),
    "disk": Scenario("A disk that takes 0.25 s for each fsync", PAGE, fault="disk"),
    "rsa-2048": Scenario(
        "TLS handshakes, RSA 2048", strangers(visitors.handshake), certificate="rsa:2048"
    ),
    "rsa-4096": Scenario(
        "TLS handshakes, RSA 4096", strangers(visitors.handshake), certificate="rsa:4096"
    ),
    "million": Scenario("Messages of a million lines", strangers(visitors.mail_of_many_lines)),
    "line": Scenario("Messages of one line of 16 MiB", strangers(visitors.mail_of_one_line)),
    "command": Scenario("Command lines of 64 MiB", strangers(visitors.long_command)),
    "pipelined": Scenario("Thousands of pipelined commands", strangers(visitors.pipelined)),
    "octets": Scenario("Messages octet by octet", strangers(visitors.octet_by_octet)),
    "connections": Scenario("Connections that come and go", strangers(visitors.come_and_go)),
}


@dataclass
class Result:
    #: Messages per second before the visitors came, then beside them, and what the hub did then.
    before: float
    beside: float
    pulse: Pulse
    #: Messages per second that the next server took when it was new.
    after: float = 0.0

    @property
    def alone(self) -> float:
        return (self.before + self.after) / 2

    @property
    def ratio(self) -> float:
        return self.beside / self.alone


# The mail


def send_mail(port: int, counts: Any) -> NoReturn:
    """Send messages over `MAIL` connections for ever, and count those that were accepted."""
    content = message(1024)

    def send(number: int) -> NoReturn:
        while True:
            try:
                with idle.connect(port) as client:
                    idle.expect(client, b"220")
                    visitors.say(client, (HELLO, b"250"))
                    while True:
                        visitors.say(client, *ENVELOPE, (content, b"250"))
                        counts[number] += 1
            except OSError:
                time.sleep(visitors.PAUSE)

    for number in range(MAIL):
        threading.Thread(target=send, args=(number,), daemon=True).start()
    while True:
        time.sleep(60)


@contextmanager
def running(function: Any, *arguments: Any) -> Iterator[None]:
    """*function* in a process of its own, which is killed at the end."""
    process = processes.Process(target=function, args=arguments, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def rate(counts: Any, seconds: float) -> float:
    """Messages per second in the next *seconds*."""
    before, started = sum(counts), time.monotonic()
    time.sleep(seconds)
    return float((sum(counts) - before) / (time.monotonic() - started))


# A measurement


@contextmanager
def sending(server: MeasuredServer, calm: float) -> Iterator[Any]:
    """Mail to *server*, whose caches are full; yields the counts of it."""
    counts = processes.RawArray("Q", MAIL)
    with running(send_mail, server.smtp, counts):
        rate(counts, min(0.5, calm))  # not counted
        yield counts


def compare_with_no_page(folder: Path, users: Path, seconds: float, report: Report) -> None:
    """The rate of the mail beside the worst, and that of a server without a page, in turn."""
    tls = ("--cert", str(peers.certificate("ec")))
    rates: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * ROUNDS):
        page = number % 2 == 1
        own = folder / f"page-{number}"
        own.mkdir()
        with closing(MeasuredServer(own, users, tls, page=page)) as server:
            place = Place(server.smtp, server.smtps, server.http, ())
            visits = SCENARIOS["worst"].visits if page else ()
            with sending(server, 0.5) as counts, running(visitors.crowd, place, visits):
                rates[page].append(rate(counts, seconds))
        # Its mail stays until all is measured: ext4 makes files more slowly for minutes after
        # many were deleted, since it gives no inode away again that soon.
    ratios = [on / off for off, on in zip(*rates.values(), strict=True)]
    report.heading("Ten of C3 arrive, 20 open pages, and no page at all")
    report.table(
        ("round", "messages/s without a page", "beside the worst", "ratio"),
        [
            (f"{number}", f"{off:.0f}", f"{on:.0f}", f"{on / off:.2f}")
            for number, (off, on) in enumerate(zip(*rates.values(), strict=True), 1)
        ],
    )
    report.at_least("worst: rate, times that without a page", BAR, statistics.median(ratios))


def measure(scenario: Scenario, folder: Path, users: Path, calm: float, seconds: float) -> Result:
    """Who comes to a new server; *calm* are the seconds of mail before."""
    certificate = peers.certificate(scenario.certificate)
    with closing(MeasuredServer(folder, users, ("--cert", str(certificate)))) as server:
        mails: list[str] = []
        if scenario.mail is not None:
            make, size, number = scenario.mail
            mails = [server.put(make(size)) for _ in range(number)]
        place = Place(server.smtp, server.smtps, server.http, tuple(mails))
        with sending(server, calm) as counts:
            before = rate(counts, calm)
            server.meter.reset()
            if scenario.fault:
                (server.faults / scenario.fault).touch()
            with running(visitors.crowd, place, scenario.visits):
                beside = rate(counts, seconds)
        pulse = server.meter.read()
        if server.wait(PATIENCE):
            pulse = server.meter.read()
        else:
            pulse.longest = pulse.worked = PATIENCE
        return Result(before, beside, pulse)


def run_scenarios(names: Sequence[str], calm: float, seconds: float, report: Report) -> None:
    found: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(dir=peers.CACHE) as folder:
        users = Path(folder, "users")
        make_users(users)
        previous: Result | None = None
        for name in (*names, ""):
            own = Path(folder, name or "last")
            own.mkdir()
            scenario, lasts = (SCENARIOS[name], seconds) if name else (SCENARIOS["nothing"], 0.0)
            result = measure(scenario, own, users, calm, lasts)
            if previous is not None:
                previous.after = result.before
            if name:
                print(f"{name}: {result.pulse.longest * 1e3:.0f} ms", file=sys.stderr)
                previous = found[name] = result
            shutil.rmtree(own, ignore_errors=True)  # the page may still delete mail
        if "worst" in names:
            compare_with_no_page(Path(folder), users, seconds, report)
    report.heading("The longest stall of the hub")
    report.table(
        (
            "beside the mail",
            "longest stall, ms",
            "of its own work, ms",
            "over 20 ms",
            "messages/s",
            "alone",
            "ratio",
        ),
        [
            (
                SCENARIOS[name].title,
                f"{result.pulse.longest * 1e3:.1f}",
                f"{result.pulse.worked * 1e3:.1f}",
                f"{result.pulse.long}",
                f"{result.beside:.0f}",
                f"{result.alone:.0f}",
                f"{result.ratio:.2f}",
            )
            for name, result in found.items()
        ],
    )
    for name, result in found.items():
        # What is feared of a fault is that the hub waits, not that it works.
        fault, seen = SCENARIOS[name].fault, result.pulse
        longest = seen.longest if fault else seen.worked
        report.at_most(f"{name}: longest stall, ms", LONG * 1e3, longest * 1e3)
        if fault != "disk":  # the disk sets the rate
            report.at_least(f"{name}: rate of the mail, times", HALF, result.ratio)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run, for its shape only")
    parser.add_argument(
        "--only", default=",".join(SCENARIOS), help=f"some of {','.join(SCENARIOS)}", metavar="LIST"
    )
    parser.add_argument("--seconds", type=float, help="of each scenario (default 10; quick 1.2)")
    parser.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    options = parser.parse_args()
    options.only = options.only.split(",")
    if unknown := set(options.only) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return options


def main() -> int:
    """Exit status 1 if a target was missed, 2 if nothing can be measured."""
    options = arguments()
    seconds = options.seconds or (1.2 if options.quick else 10.0)
    peers.CACHE.mkdir(exist_ok=True)
    try:
        for kind in {scenario.certificate for scenario in SCENARIOS.values()}:
            peers.certificate(kind)
    except peers.Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    idle.raise_file_limit(4096)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server is left behind
    report = Report(options.markdown)
    run_scenarios(options.only, seconds / 2, seconds, report)
    return 0 if report.finish() else 1


if __name__ == "__main__":
    sys.exit(main())
