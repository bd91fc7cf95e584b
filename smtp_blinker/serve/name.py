"""The name of the program."""

from __future__ import annotations

import sys
from pathlib import Path


def program_name() -> str:
    """The program's name in its messages."""
    name = Path(sys.argv[0]).name
    return "smtp-blinker" if name == "__main__.py" else name
