"""The program `smtp-blinker`, also ``python -m smtp_blinker``: receives mail into a Maildir."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from .name import program_name


def main() -> None:
    """Run the program with the arguments of this process, and exit.

    Without the extra `serve` it prints what to install and exits with status 2.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until `serve` installs its own handler, Ctrl-C ends the program at once and silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        import click  # noqa: F401
    except ImportError:
        checkout = Path(__file__).resolve().parents[2]
        what = f"{checkout}[serve]" if (checkout / "setup.py").exists() else "smtp_blinker[serve]"
        print(
            f"{program_name()}: click is missing; {sys.executable} -m pip install '{what}'",
            file=sys.stderr,
        )
        sys.exit(2)
    if asks_for_queue([*without_counters(sys.argv[1:]), *map(os.environ.get, VARIABLES)]):
        # The client libraries of queues use standard sockets. Patch before anything uses them.
        from gevent import monkey

        monkey.patch_all()
    from .cli import command

    command()


#: Prefixes of URLs that need monkey-patched sockets, and the environment variables for such URLs.
QUEUES = ("amqp://", "amqps://", "redis://", "rediss://", "unix://", "s3://")
VARIABLES = ("SMTP_BLINKER_DELIVER", "SMTP_BLINKER_CONTENTS", "SMTP_BLINKER_EVENTS")


def asks_for_queue(words: Iterable[str | None]) -> bool:
    """Whether one of *words*, options or their values, is the URL of a queue."""
    # "--deliver URL" or "--deliver=URL"; the URL may contain "=" too.
    values = (value for word in words if word for value in (word, word.partition("=")[2]))
    return any(value.lower().startswith(QUEUES) for value in values)


def without_counters(words: list[str]) -> list[str]:
    """*words* without --counters: `RedisCounters` uses gevent's sockets anyway."""
    before = ["", *words]
    return [
        word
        for word, last in zip(words, before, strict=False)
        if last != "--counters" and not word.startswith("--counters=")
    ]
