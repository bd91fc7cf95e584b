"""The versions of CPython: named alike wherever they are named, and how tox finds them."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import blinker
import gevent.socket
import pytest

ROOT = Path(__file__).parent.parent

#: Minor versions of CPython 3, the oldest first.
SUPPORTED = [
    int(minor)
    for minor in re.findall(
        r"Programming Language :: Python :: 3\.(\d+)", (ROOT / "setup.py").read_text()
    )
]
OLDEST, NEWEST = SUPPORTED[0], SUPPORTED[-1]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("setup.py", f'python_requires=">=3.{OLDEST}"'),
        ("pyproject.toml", f'target-version = "py3{OLDEST}"'),
        ("pyproject.toml", f'python_version = "3.{OLDEST}"'),
        ("tox.ini", ", ".join(f"py3{minor}" for minor in SUPPORTED)),
        ("README.md", f"CPython 3.{OLDEST} to 3.{NEWEST}"),
        ("README.md", f"CPython 3.{OLDEST} or later"),
        ("docs/install.md", f"| CPython | 3.{OLDEST} | 3.{NEWEST} |"),
        ("docs/tutorial.md", f"CPython 3.{OLDEST} or later"),
        ("CHANGES.md", f"CPython 3.{OLDEST} to 3.{NEWEST}"),
        ("contrib/Dockerfile", f"FROM python:3.{NEWEST}-slim"),
    ],
)
def test_each_file_names_the_same_versions(file: Any, text: Any) -> None:
    assert text in (ROOT / file).read_text()


@pytest.mark.parametrize("variable", ["HOME", "PYENV_ROOT"])
def test_tox_looks_among_the_versions_of_pyenv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: Any
) -> None:
    versions = tmp_path / (".pyenv/versions" if variable == "HOME" else "versions")
    for name in ("2.7.18", "3.9.18", "3.13.2", "3.13.10", "3.14-dev", "3.14.0t", "pypy3.11-7.3"):
        (versions / name / "bin").mkdir(parents=True)
        (versions / name / "bin/python").touch()
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    options = SimpleNamespace(discover=["/what/the/user/said"])
    plugin = runpy.run_path(str(ROOT / "toxfile.py"))
    plugin["tox_add_core_config"](None, SimpleNamespace(conf=SimpleNamespace(options=options)))
    newest_first = [str(versions / name / "bin/python") for name in ("3.13.10", "3.13.2", "3.9.18")]
    assert options.discover == ["/what/the/user/said", *newest_first]


@pytest.mark.parametrize("skip", ["true", "false"])
def test_tox_ends_with_the_names_of_what_it_had_no_interpreter_for(
    tmp_path: Path, skip: Any
) -> None:
    shutil.copy(ROOT / "toxfile.py", tmp_path)
    (tmp_path / "tox.ini").write_text(
        f"[tox]\nenv_list = py398, py399\nskip_missing_interpreters = {skip}\n"
        "[testenv]\npackage = skip\ncommands = python -c ''\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tox"],
        cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": str(tmp_path)},  # not what a tox around this one set
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    last = done.stdout.splitlines()[-1]
    assert last == "Did not run because their interpreters were not found: py398, py399"
    assert done.returncode != 0


def test_the_oldest_libraries_are_tested() -> None:
    bounds = re.findall(r'"((?:gevent|blinker)>=[\d.]+)"', (ROOT / "setup.py").read_text())
    section = (ROOT / "tox.ini").read_text().partition("[testenv:tests-min]")[2]
    pins = re.findall(r"(gevent|blinker)==([\d.]+)\n", section)
    assert len(bounds) == 2
    for bound in bounds:
        name, _, version = bound.partition(">=")
        # "1.8" admits 1.8.0, which is the one to install.
        assert (name, f"{version}.0") in pins
        if os.environ.get("TOX_ENV_NAME") == "tests-min":
            # The requirements of other packages must not have replaced it.
            assert metadata(name)["Version"] == f"{version}.0"


def test_the_install_page_has_each_extra_and_bound() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    extras = set(metadata("smtp_blinker").get_all("Provides-Extra") or ()) - {"test"}
    assert set(re.findall(r"^\| `([\w-]+)` \|", page, re.M)) == extras
    setup = (ROOT / "setup.py").read_text()
    for name, bound in re.findall(r'"(gevent|blinker)>=([\d.]+)"', setup):
        assert f"| {name} | {bound} |" in page


def test_gevent_has_the_private_parts_that_are_used() -> None:
    """Each is named with its user; what a later gevent drops is found here, by its name."""
    sock: Any
    with gevent.socket.socket() as sock:
        assert callable(sock._accept)  # server.py
    hub = gevent.get_hub()
    assert KeyboardInterrupt not in hub.NOT_ERROR  # ctrl_c.py
    assert isinstance(hub.NOT_ERROR, tuple)
    for name in ("io", "timer", "async_"):  # connection/transport.py, threads.py
        assert callable(getattr(hub.loop, name))


def test_blinker_has_what_signals_are_read_by() -> None:
    signal = blinker.Signal()
    assert signal.receivers == {}  # asked before an event is made
    signal.connect(print, weak=False)
    assert list(signal.receivers.values()) == [print]
    assert list(signal.receivers_for(None)) == [print]
