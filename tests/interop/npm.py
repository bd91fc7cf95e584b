"""Packages from npm, installed once into a cache folder; SMTP_BLINKER_NPM_CACHE says where."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from support import missing, program, proxies, run


def node_modules(manifest: Path) -> Path:
    """The node_modules with what that package.json asks for; its folder names it in the cache."""
    npm = program("npm", "npm")
    here = manifest.parent
    cache = Path(os.environ.get("SMTP_BLINKER_NPM_CACHE") or here.parent / ".cache")
    wanted = manifest.read_text()
    found = cache / here.name
    installed = found / "package.json"
    if installed.is_file() and installed.read_text() == wanted:
        return found / "node_modules"
    cache.mkdir(parents=True, exist_ok=True)
    # Installed beside and then moved: whoever looks finds all of it or nothing.
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / here.name
        fresh.mkdir()
        (fresh / "package.json").write_text(wanted)
        quiet = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
        done = run(npm, "install", "--prefix", fresh, *quiet, **proxies())
        if done.returncode:
            missing(f"{here.name} ({done.stderr.strip()[-300:]})", f"{here.name} (npm)")
        shutil.rmtree(found, ignore_errors=True)
        fresh.rename(found)
    return found / "node_modules"
