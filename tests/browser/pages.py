"""A page in a browser, for the tests: a serve.py, and Chromium with its page open."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Any, NoReturn

import pytest
from support import wait_until
from support.cli import SmtpBlinker
from support.page import PNG

try:
    from selenium.webdriver import Chrome, ChromeOptions, Keys
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.remote.webelement import WebElement
except ImportError:
    if os.environ.get("SMTP_BLINKER_NO_SKIP", "0") not in ("", "0"):
        raise
    pytest.skip("selenium is missing: pip install selenium", allow_module_level=True)

__all__ = ["Chrome", "Keys", "Page", "missing", "plain", "rich", "start_chromium"]

ROOT = Path(__file__).resolve().parent.parent.parent


def missing(reason: str) -> NoReturn:
    if os.environ.get("SMTP_BLINKER_NO_SKIP", "0") not in ("", "0"):
        pytest.fail(reason)
    pytest.skip(reason)


def start_chromium(profile: Path) -> Chrome:
    """A browser with a profile of its own."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None:
        missing("chromium is missing: apt-get install chromium")
    if driver is None:
        missing("chromedriver is missing: apt-get install chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1280,800",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = Chrome(options=options, service=Service(driver))
    chrome.set_script_timeout(100)  # axe-core reads a whole page; by default it has 30 s
    return chrome


class Page:
    """A serve.py with these further *options*, and its page open in the browser."""

    def __init__(self, chrome: Chrome, folder: Path, *options: str) -> None:
        self.chrome = chrome
        self.options = options
        self.maildir = folder / "Maildir"
        self.folder = folder
        self.start("127.0.0.1:0", "127.0.0.1:0")

    def start(self, listen: str, http: str) -> None:
        options = ("--listen", listen, "--http", http, *self.options)
        self.server = SmtpBlinker(self.folder, *options)
        self.port = self.server.port
        self.url = f"http://127.0.0.1:{self.server.http_port}/"

    def stop(self) -> None:
        assert self.server.signal(signal.SIGTERM) == 0

    def close(self) -> None:
        """Leave the browser as it was before this page, and end the server."""
        self.close_tabs()
        self.chrome.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        self.chrome.get("about:blank")
        # Settings that the page keeps: the server of another test may have the same port.
        origin = {"origin": self.url.rstrip("/"), "storageTypes": "local_storage"}
        self.chrome.execute_cdp_cmd("Storage.clearDataForOrigin", origin)
        self.stop()

    def open(self, path: str = "") -> None:
        self.chrome.get("about:blank")
        self.complaints()  # those of the page before
        self.chrome.get(self.url + path)
        wait_until(lambda: "on" in self.one("#lamp").get_attribute("class"), "the page connects")

    def send(self, message: bytes | EmailMessage, *rcpt_to: str) -> None:
        content = message if isinstance(message, bytes) else message.as_bytes()
        with smtplib.SMTP("127.0.0.1", self.port) as client:
            lines = content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            client.sendmail("bounce@example.org", rcpt_to or ["ada@example.com"], lines)

    def give_time(self) -> None:
        """A deletion can be undone for a minute, not for ten seconds: the machine may be slow."""
        self.run(
            """
            const [get, wait, now] = [window.fetch, window.setTimeout, Date.now()];
            window.fetch = (path, how) => get(path.replace("undo=10", "undo=60"), how);
            window.setTimeout = (call, ms) => wait(call, ms === 10000 ? 60000 : ms);
            Date.now = () => now;
            """
        )

    def all(self, selector: str) -> list[WebElement]:
        return self.chrome.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        """The element, as soon as it is there."""
        return wait_until(lambda: self.all(selector), selector)[0]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """In one go: elements may be replaced at any time."""
        found: list[str] = self.run(
            "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)",
            selector,
        )
        return found

    def subjects(self) -> list[str]:
        return self.texts("#list .subject")

    def shows(self, *subjects: str) -> None:
        wait_until(lambda: self.subjects() == list(subjects), f"the list shows {subjects}")

    def counts(self, text: str) -> None:
        """Wait until the list has all of them; before, some may not have been read yet."""
        wait_until(lambda: self.texts("#range") == [text], f"the list has {text}")

    def click(self, selector: str) -> None:
        def try_it() -> bool:
            try:
                self.one(selector).click()
            except Exception:  # replaced or moved meanwhile
                return False
            return True

        wait_until(try_it, f"click on {selector}")

    def open_first(self) -> None:
        self.click("#list li:first-child a")
        self.one("#message h1")

    def open_message(self, *subjects: str) -> None:
        """Open the page, whose list has these *subjects*, and its first message."""
        self.open()
        self.shows(*subjects)
        self.open_first()

    def press(self, *keys: str) -> None:
        ActionChains(self.chrome).send_keys(*keys).perform()

    def unread(self, number: int) -> None:
        """Wait until so many are unread: what is opened is marked as read a moment later."""
        title = f"({number}) smtp_blinker" if number else "smtp_blinker"
        wait_until(lambda: self.chrome.title == title, title)

    def says(self, text: str) -> None:
        """Wait for a note at the edge of the page, even if it has gone meanwhile."""
        wait_until(lambda: any(text in note for note in self.texts("#toast")), f"it says {text}")

    def is_open(self, start: str) -> bool:
        """Whether a message is shown whose subject has this *start*."""
        return any(subject.startswith(start) for subject in self.texts("#message h1"))

    def body_has(self, text: str) -> bool:
        return any(text in body for body in self.texts("#body"))

    def files(self) -> int:
        return sum(len(list((self.maildir / name).iterdir())) for name in ("new", "cur"))

    def in_frame(self, look: Callable[[], Any]) -> Any:
        """What *look* returns in the frame with the message's HTML."""
        frame = self.one("iframe")
        self.chrome.switch_to.frame(frame)
        try:
            return look()
        finally:
            self.chrome.switch_to.default_content()

    def close_tabs(self) -> list[str]:
        """Close all tabs but the current one; returns what they showed."""
        # Not by switching to them: a tab that never finished its navigation answers nothing.
        addresses = []
        current = self.chrome.current_window_handle
        for target in self.chrome.execute_cdp_cmd("Target.getTargets", {})["targetInfos"]:
            if target["type"] == "page" and target["targetId"] != current:
                addresses.append(target["url"])
                self.chrome.execute_cdp_cmd("Target.closeTarget", {"targetId": target["targetId"]})
        self.chrome.execute_cdp_cmd("Page.bringToFront", {})
        return addresses

    def complaints(self) -> list[str]:
        return [
            entry["message"]
            for entry in self.chrome.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] in {"SEVERE", "WARNING"}
        ]


def plain(subject: str, text: str = "Hello") -> bytes:
    return f"From: bob@example.org\nTo: ada@example.com\nSubject: {subject}\n\n{text}\n".encode()


def rich() -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Shop <shop@example.org>"
    message["To"] = "ada@example.com"
    message["Subject"] = "rich"
    message.set_content("plain words")
    message.add_alternative('<p id="words">rich words</p><img id="pic" src="cid:p@x">', "html")
    html = message.get_payload()[1]  # type: ignore[index]
    html.add_related(PNG, "image", "png", cid="<p@x>")  # type: ignore[union-attr]
    message.add_attachment(
        b"octets\x00\xff", maintype="application", subtype="octet-stream", filename="file.bin"
    )
    return message
