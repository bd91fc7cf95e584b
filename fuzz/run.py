"""Runs the fuzz targets: ``python fuzz/run.py --seconds 60 [TARGET ...]``.

First every seed and every crash that was kept is replayed, which needs nothing but the library.
Then each target runs under atheris for that many seconds of CPU, with an empty corpus or the one
in ``--corpus DIR`` (a folder for each target is made there). Prints a row of the table in
README.md for each. What breaks a target lands in ``fuzz/crashes/TARGET/``, and the exit is 1.
Where there is no atheris that is said, and only the replay happens.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGETS = ("session", "content", "chunks", "paths", "proxy", "auth", "xclient", "sender", "reader")
_PROGRESS = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+) ft: (\d+) corp: (\d+)", re.M)


def inputs(target: str) -> list[Path]:
    """The seeds of *target*, and the crashes that were kept."""
    folders = (HERE / "seeds" / target, HERE / "crashes" / target)
    return sorted(path for folder in folders if folder.is_dir() for path in folder.iterdir())


def replay(target: str) -> int:
    """Give *target* all its inputs; raises what it raises. Returns how many there were."""
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "tests")]
    one_input = importlib.import_module(f"fuzz_{target}").one_input
    paths = inputs(target)
    for path in paths:
        try:
            one_input(path.read_bytes())
        except Exception as exc:
            exc.add_note(f"in {path}") if hasattr(exc, "add_note") else None
            raise
    return len(paths)


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def fuzz(target: str, seconds: float, corpus: Path) -> bool:
    """Run *target* under atheris for *seconds* of CPU; False when something broke it."""
    own = corpus / target
    # Not in crashes/ at once: another run may be using it, the tests' among them.
    found = corpus / f"{target}-crashes"
    for folder in (own, found):
        folder.mkdir(parents=True, exist_ok=True)
    began = cpu()
    executions = edges = features = 0
    code = 0
    while not code and (left := seconds - (cpu() - began)) > 0:
        done = subprocess.run(
            [
                sys.executable,
                str(HERE / "engine.py"),
                target,
                f"-max_total_time={max(1, round(left))}",
                "-max_len=4096",
                "-timeout=20",
                f"-dict={HERE / 'smtp.dict'}",
                f"-artifact_prefix={found}/",
                str(own),
                str(HERE / "seeds" / target),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        code = done.returncode
        last = 0
        for progress in _PROGRESS.finditer(done.stdout):
            edges, features = int(progress[2]), int(progress[3])
            last = int(progress[1])
        executions += last
        if code:
            print(done.stdout[-5000:])
    minutes = (cpu() - began) / 60
    print(f"| {target} | {executions} | {edges} | {features} | {minutes:.1f} |", flush=True)
    for crash in found.iterdir():
        kept = HERE / "crashes" / target
        kept.mkdir(parents=True, exist_ok=True)
        shutil.move(crash, kept / crash.name)
    return not code


def main() -> int:
    parser = argparse.ArgumentParser(description="Fuzzes smtp_blinker; see fuzz/README.md.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="of CPU for each target")
    parser.add_argument("--corpus", type=Path, help="a folder that keeps what was learned")
    arguments = parser.parse_args()
    targets = arguments.targets or TARGETS
    if unknown := set(targets) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    for target in targets:
        print(f"{target}: {replay(target)} seeds and kept crashes replayed", flush=True)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed (pip install atheris): nothing more to do")
        return 0
    print(
        "| target | executions | edges | features | CPU minutes |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as folder:
        corpus = arguments.corpus or Path(folder)
        results = [fuzz(target, arguments.seconds, corpus) for target in targets]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
