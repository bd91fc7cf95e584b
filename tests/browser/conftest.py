"""Fixtures of the tests in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # without selenium the modules of the tests skip themselves
    from .pages import Chrome, Page


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    from .pages import start_chromium

    chrome = start_chromium(tmp_path_factory.mktemp("profile"))
    yield chrome
    chrome.quit()


@pytest.fixture
def page(chromium: Chrome, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of a server with the OPTIONS of the module, if it has some."""
    from .pages import Page

    page = Page(chromium, tmp_path, *getattr(request.module, "OPTIONS", ()))
    yield page
    page.close()
