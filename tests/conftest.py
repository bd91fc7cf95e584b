"""Fixtures of all test modules; helpers are in the package support."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("support")

from support import Certificate  # noqa: E402

if TYPE_CHECKING:  # Flask is an extra
    from flask.testing import FlaskClient
    from support.page import Folder

# A background job of a shell without job control ignores SIGINT, and so would the programs that the
# tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A slow machine is no failure.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """For what has to end with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """The Maildir of a page."""
    from support.page import Folder

    return Folder(tmp_path / "Maildir")


@pytest.fixture
def client(folder: Folder) -> Iterator[FlaskClient]:
    """The page of *folder*, without a server."""
    from smtp_blinker.web import create_app

    app = create_app([], folder.path)
    yield app.test_client()
    app.extensions["smtp_blinker"].detach()


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """A certificate authority; issue more certificates from it where one isn't enough."""
    return trustme.CA()


@pytest.fixture(scope="session")
def certificate(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Files: a certificate for localhost, its key, and the authority's certificate."""
    folder = tmp_path_factory.mktemp("tls")
    issued = ca.issue_cert("localhost", "127.0.0.1")
    made = Certificate(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    made.certfile.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(made.keyfile)
    ca.cert_pem.write_to_path(made.ca_certs)
    return made
