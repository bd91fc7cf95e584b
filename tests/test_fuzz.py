"""The fuzz targets: their seeds and every crash that was kept, and a few seconds under atheris."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from support import python

FUZZ = Path(__file__).resolve().parent.parent / "fuzz"
sys.path.insert(0, str(FUZZ))

import run  # type: ignore[import-not-found]  # noqa: E402
from run import TARGETS, inputs  # noqa: E402

#: Of CPU, for each target.
SECONDS = 3


@pytest.mark.parametrize("path", [path for target in TARGETS for path in inputs(target)], ids=str)
def test_what_was_found_before_breaks_nothing(path: Path) -> None:
    importlib.import_module(f"fuzz_{path.parent.name}").one_input(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_seeds(target: str) -> None:
    assert inputs(target)


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_seconds_of_fuzzing_find_nothing(target: str) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed (there are wheels for Linux on x86-64 only)")
    done = python(FUZZ / "run.py", "--seconds", str(SECONDS), target, seconds=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_breaks_a_target_is_kept_whatever_another_run_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    crashes = tmp_path / "crashes" / "paths"

    def engine(command: list[str], **others: object) -> subprocess.CompletedProcess[str]:
        if crashes.exists():
            crashes.rmdir()  # another run has found nothing and tidies up
        prefix = next(word for word in command if word.startswith("-artifact_prefix="))
        Path(prefix.partition("=")[2] + "crash-1").write_bytes(b"x")
        return subprocess.CompletedProcess(command, 77, stdout="")

    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run.subprocess, "run", engine)
    assert not run.fuzz("paths", 1, tmp_path / "corpus")
    assert [path.name for path in crashes.iterdir()] == ["crash-1"]
