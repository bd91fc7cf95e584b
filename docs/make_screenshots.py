"""Makes the pictures of the page in docs/pictures: python docs/make_screenshots.py [FOLDER]

A real Chromium, with smtp-blinker and a few messages behind it. Beside the pictures it writes
`words.json`, the visible labels of each view: a test runs this program again and compares them, so
pictures of an earlier page are found. Needs selenium, chromium and chromium-driver.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import smtplib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate
from pathlib import Path
from typing import Any, Final

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

ROOT: Final = Path(__file__).resolve().parent.parent
#: Seconds that anything may take.
PATIENCE: Final = 60.0

ORDER: Final = """\
<!doctype html><style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; background: #f4f1ec; color: #23201c }
main { max-width: 560px; margin: 28px auto; background: #fff; border-radius: 12px }
header { background: #23424a; color: #fff; padding: 22px 28px; font-size: 20px; font-weight: 600 }
section { padding: 8px 28px 26px } table { width: 100%; border-collapse: collapse }
td { padding: 9px 0; border-bottom: 1px solid #e8e3da } td + td { text-align: right }
a { display: inline-block; background: #b8552f; color: #fff; padding: 10px 20px;
border-radius: 8px; text-decoration: none; font-weight: 600 }
</style><main><header>Tea &amp; Leaves</header><section>
<p>Dear Ada,</p><p>thank you for your order <b>4711</b>. It leaves us today.</p>
<table><tr><td>Darjeeling, first flush, 100 g</td><td>€ 14.90</td></tr>
<tr><td>Cast-iron pot, 0.8 l</td><td>€ 39.00</td></tr>
<tr><td><b>Total</b></td><td><b>€ 53.90</b></td></tr></table>
<p><a href="https://shop.example/orders/4711">Follow your parcel</a></p></section></main>
"""

#: Minutes ago, sender, recipient, subject and text of messages.
LETTERS: Final = (
    (2900, "Ops <ops@example.net>", "root@example.com", "Backup finished: 214 GiB in 38 min", ""),
    (1630, "Grace <grace@example.org>", "ada@example.com", "Re: Compiler of the week", "Found it."),
    (1480, "שירות לקוחות <help@example.co.il>", "ada@example.com", "הזמנה 4711 אושרה", "תודה רבה"),
    (
        95,
        "CI <ci@example.net>",
        "team@example.com",
        "main is green again: 4 jobs, 12 min",
        "Build 802",
    ),
    (
        52,
        "Billing <billing@shop.example>",
        "ada@example.com",
        "Invoice 2026-118",
        "Please find it attached.",
    ),
    (
        17,
        "Calendar <cal@example.org>",
        "ada@example.com, bob@example.com",
        "Invitation: Retrospective, Friday 14:00",
        "Room 3",
    ),
    (
        4,
        "Accounts <no-reply@shop.example>",
        "grace@example.com",
        "Your code is 842 917",
        "Valid for ten minutes.",
    ),
)


def letter(sender: str, to: str, subject: str, text: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{len(subject)}.{len(text)}@example.org>"
    message.set_content(text or "All of it.")
    return message


def order() -> EmailMessage:
    """What is open in the pictures."""
    message = letter(
        "Tea & Leaves <orders@shop.example>",
        "Ada Lovelace <ada@example.com>",
        "Your order 4711 is on its way",
        "Dear Ada,\n\nthank you for your order 4711. It leaves us today.\n\n"
        "Follow your parcel: https://shop.example/orders/4711",
    )
    message.add_alternative(ORDER, "html")
    message.add_attachment(
        b"%PDF-1.4" + bytes(48_000), "application", "pdf", filename="invoice.pdf"
    )
    return message


class Program:
    """smtp-blinker with a page, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.maildir = folder / "Maildir"
        kept = {name: text for name, text in os.environ.items() if "SMTP_BLINKER" not in name}
        kept["PYTHONPATH"] = str(ROOT)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "smtp_blinker",
                *["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"],
            ],
            cwd=folder,
            env=kept,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said += line
            if line.startswith("Try:"):
                break
        try:
            self.url = re.search(r"Web page: (http://\S+/)", said)[1]  # type: ignore[index]
            self.port = int(re.search(r"Listening on \S+:(\d+)", said)[1])  # type: ignore[index]
        except TypeError:
            raise SystemExit(f"smtp-blinker doesn't start: {said}") from None

    def send(self, message: EmailMessage, minutes_ago: int = 0) -> None:
        recipients = [to.strip() for to in message["To"].split(",")]
        before = set((self.maildir / "new").iterdir())
        with smtplib.SMTP("127.0.0.1", self.port, "app.example.net") as client:
            client.send_message(message, "bounces@example.org", recipients)
        [file] = set((self.maildir / "new").iterdir()) - before
        if minutes_ago:  # the time of a message is in the name of its file
            seconds, _, rest = file.name.partition(".")
            file.rename(file.with_name(f"{int(seconds) - 60 * minutes_ago}.{rest}"))

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Camera:
    """A Chromium that shows a page and takes pictures of it."""

    def __init__(self, profile: Path) -> None:
        browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if browser is None or driver is None:
            raise SystemExit("apt-get install chromium chromium-driver")
        options = ChromeOptions()
        options.binary_location = browser
        for argument in (
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--hide-scrollbars",
            "--lang=en-US",
            f"--user-data-dir={profile}",
        ):
            options.add_argument(argument)
        self.chrome = Chrome(options=options, service=Service(driver))

    def show(self, url: str, width: int, height: int, theme: str = "light") -> None:
        """Load *url* in a new window of that size."""
        self.chrome.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        scheme = {"name": "prefers-color-scheme", "value": theme}
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.chrome.get("about:blank")
        self.chrome.get(url)
        self.wait("document.querySelector('#lamp.on')")

    def wait(self, script: str) -> Any:
        """What the expression is as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while not (value := self.chrome.execute_script(f"return {script}")):
            if time.monotonic() > end:
                raise SystemExit(f"the page never came to {script}")
            time.sleep(0.05)
        return value

    def click(self, selector: str) -> None:
        self.chrome.execute_script(
            "document.querySelector(arguments[0]).click(); document.activeElement.blur()", selector
        )

    def picture(self) -> bytes:
        self.wait("document.fonts.status == 'loaded'")
        data = self.chrome.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
        return base64.b64decode(data)

    def words(self) -> list[str]:
        """The labels that are visible, without what differs from one run to the next."""
        labels = self.chrome.execute_script(
            """
            const labels = "nav a, main button, main h2, main label, main dt";
            return [...document.querySelectorAll(labels)].filter((each) => each.checkVisibility())
              .flatMap((each) => [...each.childNodes])
              .filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data);
            """
        )
        return sorted({re.sub(r"[\d\s]+", " ", label).strip() for label in labels} - {""})


def _open_order(camera: Camera) -> None:
    camera.wait("document.querySelectorAll('#list a').length == 8")
    camera.click("#list a")
    camera.wait("document.querySelector('#message iframe')")
    camera.wait("!document.querySelector('#list a').classList.contains('unread')")
    time.sleep(0.5)  # the frame draws when it likes


def misbehave(program: Program) -> None:
    """Clients whose commands are refused."""
    for command in ("RCPT TO:<ada@example.com>", "DATA", "MAIL FROM:ada", "AUTH PLAIN", "HELP ME"):
        with smtplib.SMTP("127.0.0.1", program.port, "printer.example.net") as client:
            client.ehlo()
            client.docmd(command)


def _live(camera: Camera) -> None:
    camera.wait("document.querySelectorAll('#events .kind').length > 20")
    camera.wait("document.querySelector('#plots svg path')")


#: The pictures: where they are taken, how wide and high, in which colours, and what is waited for.
VIEWS: Final[dict[str, tuple[str, int, int, str, Callable[[Camera], None]]]] = {
    "inbox": ("", 1200, 740, "light", _open_order),
    "inbox-dark": ("", 1200, 740, "dark", _open_order),
    "live": ("#/live", 1200, 740, "light", _live),
    "phone": ("", 390, 780, "light", _open_order),
}


@contextmanager
def stage() -> Iterator[tuple[Program, Camera]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        program = Program(folder)
        try:
            camera = Camera(folder / "profile")
            try:
                yield program, camera
            finally:
                camera.chrome.quit()
        finally:
            program.stop()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    words = {}
    with stage() as (program, camera):

        def take(name: str, path: str, width: int, height: int, theme: str) -> None:
            (folder / f"{name}.png").write_bytes(camera.picture())
            words[name] = camera.words()

        camera.show(program.url, 1200, 740)
        camera.wait("document.querySelector('#list-empty dl')")
        take("empty", "", 1200, 740, "light")
        for minutes, sender, to, subject, text in LETTERS:
            program.send(letter(sender, to, subject, text), minutes)
        program.send(order())
        misbehave(program)
        for name, (path, width, height, theme, ready) in VIEWS.items():
            camera.show(program.url + path, width, height, theme)
            ready(camera)
            take(name, path, width, height, theme)
    (folder / "words.json").write_text(json.dumps(words, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs" / "pictures")
