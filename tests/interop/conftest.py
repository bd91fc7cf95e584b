"""Fixtures of the interoperability tests."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import HOST, Served, missing

from .engines import Engine, RabbitMQ, Redis
from .names import Certificates, serving


@pytest.fixture
def serve(stack: ExitStack) -> Callable[..., Served]:
    """``serve(listener=…, option=…)`` runs a server until the test ends."""

    def start(*args: Any, **options: Any) -> Served:
        return stack.enter_context(serving(*args, **options))

    return start


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Ours for localhost, another one for other.example, and a client's."""
    try:
        import trustme
    except ImportError:
        missing("trustme", "trustme (pip)")
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for file, *names in (
        ("server.pem", "localhost", HOST, "mail.example.test"),
        ("other.pem", "other.example"),
        ("client.pem", "client.example"),
    ):
        certificate = authority.issue_cert(*names, common_name=names[0])
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / file)
    return Certificates(*(folder / f"{name}.pem" for name in ("ca", "server", "other", "client")))


@pytest.fixture(scope="module", params=[RabbitMQ, Redis], ids=["rabbitmq", "redis"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Each engine that a queue may have."""
    with request.param(tmp_path_factory.mktemp("engine")) as made:
        yield made


@pytest.fixture
def queue(request: pytest.FixtureRequest) -> str:
    """A name for this test's queue or stream."""
    return re.sub(r"\W", "-", request.node.name)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder that everybody may enter, with a path short enough for a UNIX socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="blinker-", dir="/tmp"))
    os.chmod(folder, 0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def ipv6() -> None:
    """For tests that need ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        missing("the address ::1", "IPv6 on the loopback interface")
