"""smtp-blinker as a catcher beside maildev: mail a second, memory, time to list and to search.

    npm install maildev
    python benchmarks/catchers.py node_modules/.bin/maildev [--messages 10000] [--rounds 2]

Both run with their web page, in turn, each with 10,000 messages of 1 KiB that Postfix's
smtp-source sends over four connections. smtp-blinker's mail is on disk and fsynced, maildev's in
memory, which is what each does unless told otherwise; with --directory maildev writes too. Memory
is the proportional set size of all processes, the page's among them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

import psutil

ROOT: Final = Path(__file__).resolve().parent.parent
HOST: Final = "127.0.0.1"
SMTP: Final = 2591
HTTP: Final = 8591
#: Requests of which the median is told.
REQUESTS: Final = 9


@dataclass
class Catcher:
    name: str
    command: list[str]
    list_path: str
    search_path: str


def catchers(maildev: str, folder: Path, *, on_disk: bool) -> list[Catcher]:
    directory = ["--mail-directory", str(folder / "maildev")] if on_disk else []
    return [
        Catcher(
            "smtp-blinker",
            [
                *(sys.executable, str(ROOT / "scripts" / "serve.py"), "--log-level", "warning"),
                *("--listen", f"{HOST}:{SMTP}", "--http", f"{HOST}:{HTTP}"),
                *("--maildir", str(folder / "Maildir")),
            ],
            "/api/messages?limit=50",
            "/api/messages?limit=50&q=subject:nothing-has-it",
        ),
        Catcher(
            "maildev",
            [
                *("node", maildev, "--silent", "--smtp", str(SMTP), "--web", str(HTTP)),
                *("--ip", HOST, "--web-ip", HOST, *directory),
            ],
            "/api/email?limit=50",
            "/api/email?limit=50&subject=nothing-has-it",
        ),
    ]


def get(path: str) -> bytes:
    connection = HTTPConnection(HOST, HTTP, timeout=120)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise HTTPException(f"{answer.status} for {path}: {body[:200]!r}")
    return body


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while True:
        with suppress(OSError, HTTPException):
            if condition():
                return
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def measure(catcher: Catcher, messages: int) -> dict[str, float]:
    process = subprocess.Popen(
        catcher.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: get(catcher.list_path))
        began = time.monotonic()
        send(messages)
        taken = time.monotonic() - began
        began = time.monotonic()
        get(catcher.list_path)  # an index may be made when someone looks
        first = time.monotonic() - began
        return {
            "messages/s": messages / taken,
            "first list, ms": 1000 * first,
            "list, ms": 1000 * seconds(catcher.list_path),
            "search, ms": 1000 * seconds(catcher.search_path),
            "memory, MiB": memory(process.pid) / 2**20,
        }
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def send(messages: int) -> None:
    source = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
    subprocess.run(
        [
            *(source, "-s", "4", "-d", "-m", str(messages), "-l", "1024"),
            *("-S", "A message of the benchmark", "-f", "you@example.org", "-t", "me@example.com"),
            f"{HOST}:{SMTP}",
        ],
        check=True,
        timeout=900,
    )


def seconds(path: str) -> float:
    found = []
    for _ in range(REQUESTS):
        began = time.monotonic()
        get(path)
        found.append(time.monotonic() - began)
    return statistics.median(found)


def memory(pid: int) -> int:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(each.memory_full_info().pss for each in processes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("maildev", help="the program that npm installed")
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--directory", action="store_true", help="have maildev write to disk too")
    arguments = parser.parse_args()
    for number in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for catcher in catchers(arguments.maildev, Path(folder), on_disk=arguments.directory):
                found = measure(catcher, arguments.messages)
                if number == 0 and catcher.name == "smtp-blinker":
                    print(f"| | {' | '.join(found)} |\n| --- |{' --- |' * len(found)}")
                figures = " | ".join(f"{each:.0f}" for each in found.values())
                print(f"| {catcher.name}, round {number + 1} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
