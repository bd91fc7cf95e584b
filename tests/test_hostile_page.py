"""docs/hostile.md is made from the rows that test_hostile.py replays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_page_of_hostile_input_is_made_from_the_rows() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_hostile.py"],
        capture_output=True,
        check=True,
        text=True,
        encoding="utf-8",
        env={"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    ).stdout
    assert (ROOT / "docs" / "hostile.md").read_text(encoding="utf-8") == made
