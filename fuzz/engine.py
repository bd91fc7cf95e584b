"""Runs one target under atheris: ``python fuzz/engine.py TARGET [libFuzzer's options]``.

run.py is the friendlier way. A target is a module ``fuzz_NAME`` with ``one_input(data)``, which
returns, or raises when something is wrong; it knows nothing of atheris, so that the tests can
replay what was found where there is none.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent


def main() -> None:
    name, arguments = sys.argv[1], sys.argv[2:]
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]
    with atheris.instrument_imports(include=["smtp_blinker"]):
        target = importlib.import_module(f"fuzz_{name}")
    atheris.Setup([sys.argv[0], *arguments], target.one_input, enable_python_coverage=True)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
