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
def page(chromium: Chrome, tmp_path: Path) -> Iterator[Page]:
    from .pages import Page

    page = Page(chromium, tmp_path)
    yield page
    page.close_tabs()
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    chromium.get("about:blank")
    page.stop()
