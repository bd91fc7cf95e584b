"""A certificate for the test server."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path

_MAKE_FILES = (
    "import sys; from smtp_blinker.testing.certificate import make_files; make_files(sys.argv[1])"
)


class Certificate:
    """PEM files with a new CA and a certificate of it, in a temporary folder.

    The folder is removed when this object is garbage collected. Raises ImportError without trustme.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="smtp_blinker-")
        # A TemporaryDirectory would warn that it wasn't cleaned up explicitly.
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        if datetime.datetime.__module__ == "datetime":
            make_files(folder)
        else:
            # freezegun has replaced datetime, but cryptography accepts only the real class.
            subprocess.run(
                [sys.executable, "-c", _MAKE_FILES, folder],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                check=True,
            )
        self.ca_file = Path(folder, "ca.pem")
        self.certfile = Path(folder, "server.pem")


def make_files(folder: str) -> None:
    """Write ca.pem and server.pem, for localhost, into *folder*."""
    try:
        import trustme
    except ImportError as exc:
        raise ImportError("TLS needs trustme: pip install 'smtp_blinker[pytest]'") from exc
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    authority.cert_pem.write_to_path(Path(folder, "ca.pem"))
    certfile = Path(folder, "server.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(certfile)
    # A client that trusts this file needs the CA in it.
    authority.cert_pem.write_to_path(certfile, append=True)
