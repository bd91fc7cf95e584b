"""Plugin that tox loads with tox.ini: finds pyenv's interpreters, and names the missing ones."""

from __future__ import annotations

import atexit
import os
import re
from pathlib import Path

from tox.config.sets import ConfigSet
from tox.plugin import impl
from tox.session.state import State
from tox.tox_env.api import ToxEnv
from tox.tox_env.errors import Skip
from tox.tox_env.python.api import NoInterpreter, Python

#: The environments that did not run because their interpreters are missing.
_missing: list[str] = []


@impl
def tox_add_core_config(core_conf: ConfigSet, state: State) -> None:
    """Let tox look among pyenv's versions before it looks on PATH.

    PATH has at most the versions that `pyenv global` names.
    """
    options = state.conf.options
    options.discover = [*options.discover, *_pyenv_interpreters()]


@impl
def tox_env_teardown(tox_env: ToxEnv) -> None:
    """Remember an environment whose interpreter is missing."""
    if isinstance(tox_env, Python):
        try:
            tox_env.base_python  # noqa: B018  # was looked for when the environment should run
        except (Skip, NoInterpreter):
            _missing.append(tox_env.conf.name)


@atexit.register
def _name_missing() -> None:
    """Tell after tox's own last line, which is "congratulations", which tests did not run."""
    if _missing:
        print(f"Did not run because their interpreters were not found: {', '.join(_missing)}")


def _pyenv_interpreters() -> list[str]:
    """The paths of the CPython 3 releases that pyenv has, the newest first."""
    versions = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = [
        (tuple(map(int, folder.name.split("."))), str(folder / "bin" / "python"))
        for folder in versions.glob("3.*")
        if re.fullmatch(r"3\.\d+\.\d+", folder.name)
    ]
    return [python for _, python in sorted(found, reverse=True)]
