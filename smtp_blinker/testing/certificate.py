"""A certificate for a server that is tested."""

from __future__ import annotations

import tempfile
from pathlib import Path


class Certificate:
    """Files with a new authority and a certificate from it; removed with this object."""

    def __init__(self) -> None:
        try:
            import trustme
        except ImportError as exc:
            raise ImportError("TLS needs trustme: pip install 'smtp_blinker[pytest]'") from exc
        self._folder = tempfile.TemporaryDirectory(prefix="smtp_blinker-")
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
        self.ca_file = Path(self._folder.name, "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.certfile = Path(self._folder.name, "server.pem")
        issued.private_key_and_cert_chain_pem.write_to_path(self.certfile)
        # Who is given this file as the one to trust finds the authority in it.
        authority.cert_pem.write_to_path(self.certfile, append=True)
