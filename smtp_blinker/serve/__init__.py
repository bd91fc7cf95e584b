"""The program `smtp-blinker`, which is also ``python -m smtp_blinker``: mail into a Maildir."""

from __future__ import annotations

import signal
import sys
from pathlib import Path


def main() -> None:
    """Run the program with the arguments of this process, and exit.

    Without the extra `serve` it says in one line what to install, with the exit status 2.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until `serve` can let messages end first, Ctrl-C ends the program at once and silently.
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
    from .cli import command

    command()


def program_name() -> str:
    """The program's name in its messages."""
    name = Path(sys.argv[0]).name
    return "smtp-blinker" if name == "__main__.py" else name
