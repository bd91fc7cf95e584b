"""The pytest plugin: fixtures with an SMTP server. docs/pytest.md is the manual.

``smtp_server``           a `smtp_blinker.testing.SMTPTestServer`, reset for each test
``smtp_server_address``   its host and port, for programs that are configured once per session
``smtp_server_options``   override it to choose the server's host, port and options
``smtpd``                 for tests that were written for smtpdfix
"""

from __future__ import annotations

import unittest
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    # The fixtures import it when they run, so that a session without mail doesn't load it.
    from .testing import SMTPDFix, SMTPTestServer


@pytest.fixture(scope="session")
def smtp_server_options() -> dict[str, Any]:
    """Keywords of `SMTPTestServer`: host, port, and the options of SMTPServer."""
    return {}


@pytest.fixture(scope="session")
def _smtp_server(smtp_server_options: dict[str, Any]) -> Iterator[SMTPTestServer]:
    from .testing import SMTPTestServer

    with SMTPTestServer(**smtp_server_options) as server:
        yield server


@pytest.fixture(scope="session")
def smtp_server_address(_smtp_server: SMTPTestServer) -> tuple[str, int]:
    """The host and port of `smtp_server`, the same for all tests of the session."""
    return _smtp_server.host, _smtp_server.port


@pytest.fixture
def smtp_server(
    _smtp_server: SMTPTestServer, request: pytest.FixtureRequest
) -> Iterator[SMTPTestServer]:
    """A server without messages, connections and faults.

    In a `unittest.TestCase` with ``@pytest.mark.usefixtures("smtp_server")`` it is
    ``self.smtp_server``.
    """
    _smtp_server.reset()  # mail may have arrived between two tests
    if isinstance(request.instance, unittest.TestCase):
        request.instance.smtp_server = _smtp_server  # type: ignore[attr-defined]
    yield _smtp_server
    _smtp_server.reset()


class _SMTPDFixPlugin:
    @pytest.fixture
    def smtpd(self) -> Iterator[SMTPDFix]:
        """A server with the interface of smtpdfix's fixture, new for each test."""
        from .testing import SMTPDFix

        with SMTPDFix() as server:
            yield server


def pytest_configure(config: pytest.Config) -> None:
    # If smtpdfix is installed, its own fixture is used, unless -p no:smtpd disables it.
    if not config.pluginmanager.has_plugin("smtpd"):
        config.pluginmanager.register(_SMTPDFixPlugin(), "smtp_blinker-smtpd")
