"""The server under gevent.monkey.patch_all() and without it, each case in a fresh process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support import LIBRARY, run

from .names import Certificates

PROGRAM = Path(__file__).resolve().parent / "programs" / "patching.py"


@pytest.mark.parametrize("mode", ["patched", "late", "unpatched"])
@pytest.mark.parametrize(
    "case", ["plain", "slow_hook", "request_in_hook", "run_in_thread", "idle_tls_client"]
)
def test_patching(certificates: Certificates, mode: str, case: str) -> None:
    done = run(
        sys.executable,
        *("-X", "faulthandler", PROGRAM, mode, case, certificates.server, certificates.ca),
        PYTHONPATH=LIBRARY,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    # Neither a traceback of a greenlet nor gevent's warning of a late patch that matters.
    assert "Traceback" not in done.stderr
