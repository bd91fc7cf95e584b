"""Certificates of tests, and contexts for their clients."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """A certificate for localhost and 127.0.0.1, and the authority that it is from."""

    certfile: Path
    keyfile: Path
    ca_certs: Path

    @property
    def options(self) -> dict[str, Any]:
        """For SMTPServer."""
        return {"certfile": str(self.certfile), "keyfile": str(self.keyfile)}

    def context(self) -> ssl.SSLContext:
        """A server's."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certfile, self.keyfile)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A context that trusts this authority and no other."""
        return ssl.create_default_context(cafile=str(self.ca_certs))


def trusting() -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
