"""WCAG 2.1 AA on every view, light and dark, as far as axe-core can tell."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from interop.npm import node_modules
from support import wait_until

from .pages import Keys, Page, plain, rich

#: Messages of the shared page.
MESSAGES = 5

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    manifest = Path(__file__).parent / "axe" / "package.json"
    return (node_modules(manifest) / "axe-core" / "axe.min.js").read_text()


def faults(page: Page, axe: str) -> list[str]:
    """What axe-core finds on the page as it is now: rules, and the elements that break them."""
    page.run(axe)
    found: dict[str, Any] = page.chrome.execute_async_script(
        """
        const [rules, done] = arguments;
        // A frame with a message is of its sender, and sealed.
        axe.run({exclude: [["iframe"]]}, {runOnly: rules, resultTypes: ["violations"]})
          .then(done, (error) => done({violations: [{id: String(error), nodes: []}]}));
        """,
        RULES,
    )
    return [
        f"{rule['id']}: {json.dumps(node['target'])} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"] or [{"target": [], "failureSummary": ""}]
    ]


def much() -> EmailMessage:
    """A message that fills each view: folded fields, links, checks, attachments."""
    message = rich()
    message.replace_header("Subject", "A long subject " * 60)
    message["Cc"] = ", ".join(f"p{number}@example.com" for number in range(40))
    message["Reply-To"] = "support@example.org"
    message["DKIM-Signature"] = "v=1; b=" + "x" * 600
    for number in range(12):
        message[f"X-{number}"] = "x"
        message.add_attachment(b"%PDF", "application", "pdf", filename=f"{number}.pdf")
    return message


def open_(page: Page) -> None:
    page.open()
    wait_until(lambda: len(page.subjects()) == MESSAGES)
    page.click("#list li:nth-child(2) a")
    page.one("#tab-text")
    page.click("#facts summary")


def tab(name: str, ready: str = "#body > *") -> Callable[[Page], None]:
    def show(page: Page) -> None:
        open_(page)
        page.click(f"#tab-{name}")
        page.one(ready)

    return show


def whole_list(page: Page) -> None:
    page.open()
    wait_until(lambda: len(page.subjects()) == MESSAGES)


def compact(page: Page) -> None:
    whole_list(page)
    if "compact" not in (page.one("html").get_attribute("class") or ""):
        page.click("#density")
    page.one(".compact #list a")


def live(page: Page) -> None:
    page.open("#/live")
    page.one("#events .kind")
    page.one("#clients td")


def results(page: Page) -> None:
    page.open("?q=judged")
    page.shows("judged")
    page.open_first()
    page.click("#results summary")
    page.one("#results[open] dd")


def opened(page: Page, button: str, dialog: str) -> None:
    whole_list(page)
    page.open_first()
    page.click(button)
    page.one(f"{dialog}[open]")


def tagging(page: Page) -> None:
    opened(page, "#tag-one", "#tagging")


def releasing(page: Page) -> None:
    opened(page, "#release", "#asking")


def help_(page: Page) -> None:
    page.open()
    page.press("?")
    page.one("#help[open]")


def confirming(page: Page) -> None:
    page.open()
    wait_until(lambda: len(page.subjects()) == MESSAGES)
    page.click("#delete-all")
    page.one("#confirm[open]")


def nothing_found(page: Page) -> None:
    page.open("?q=nothing:like+this")
    page.one("#hint")


def api(page: Page) -> None:
    help_(page)
    page.click("#help a[href=api]")
    page.one("body.api main section")


def refused(page: Page) -> None:
    page.open("#/refused")
    page.one("#refused td")


def dialogue(page: Page) -> None:
    refused(page)
    page.click("#refused td a")
    page.one("#dialogue .bad")


def faults_on_demand(page: Page) -> None:
    page.open("#/faults")
    page.one("#fault-add")


def gone(page: Page) -> None:
    page.open("#/m/1.2.3")
    wait_until(lambda: "no longer exists" in page.one("#message").text)


VIEWS: dict[str, Callable[[Page], None]] = {
    "list": whole_list,
    "compact": compact,
    "html": tab("html", "iframe"),
    "text": tab("text", "pre.text"),
    "headers": tab("headers", ".headers"),
    "parts": tab("parts", ".fold"),
    "links": tab("links"),
    "checks": tab("checks"),
    "source": tab("source", "#source"),
    "live": live,
    "help": help_,
    "confirm": confirming,
    "nothing found": nothing_found,
    "gone": gone,
    "api": api,
    "refused": refused,
    "dialogue": dialogue,
    "faults": faults_on_demand,
    "results": results,
    "tagging": tagging,
    "releasing": releasing,
}


@pytest.fixture(scope="module")
def shared(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A page with mail, for views that change nothing of it."""
    options = ("--faults", "--release-to", "smtp://127.0.0.1:1")  # what is there on demand only
    page = Page(chromium, tmp_path_factory.mktemp("shared"), *options)
    judged = (
        "Return-Path: <a@example.org>\nDelivered-To: ada@example.com\n"
        'X-Policy-Result: {"rspamd": {"verdict": "add header", "score": 7.5}}\n'
        "Received: from c ([192.0.2.1]) by mx with ESMTP; Mon, 1 Jan 2024 00:00:00 +0000\n"
    )
    (page.maildir / "new" / "1.judged").write_bytes(judged.encode() + plain("judged"))
    page.send(plain("links", "See https://example.org/a and https://example.org/b"))
    page.send(
        b"Subject: html\nContent-Type: text/html\n\n<a href=https://x.example/>x</a><img src=x>"
    )
    page.send(much(), "ada@example.com", "hidden@example.com")
    page.send(plain("שלום עולם"))
    with smtplib.SMTP("127.0.0.1", page.port, "client.test") as client:
        client.ehlo()
        client.docmd("RCPT TO:<ada@example.com>")
        client.docmd("MAIL FROM:nobody")
    urlopen(
        Request(f"{page.url}api/faults?do=delay&seconds=1&times=1&at=RCPT", method="POST")
    ).close()
    yield page
    page.close()


def prepare(page: Page, colours: str, width: int) -> None:
    feature = {"name": "prefers-color-scheme", "value": colours}
    page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    page.chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )


@pytest.mark.parametrize(("colours", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
@pytest.mark.parametrize("view", VIEWS)
def test_a_view_has_no_fault(shared: Page, axe: str, view: str, colours: str, width: int) -> None:
    prepare(shared, colours, width)
    VIEWS[view](shared)
    assert faults(shared, axe) == []


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_an_empty_inbox_has_no_fault(page: Page, axe: str, colours: str) -> None:
    prepare(page, colours, 1280)
    page.open()
    page.one(".recipe pre")
    assert faults(page, axe) == []


def test_the_keyboard_reaches_what_scrolls_and_folds(page: Page) -> None:
    page.send(much())
    page.open()
    wait_until(lambda: len(page.subjects()) == 1)
    page.press("j")
    page.one("#facts summary")
    reached = set()
    for _ in range(60):
        page.press(Keys.TAB)
        reached.add(
            page.run("const at = document.activeElement; return at.id || at.closest('[id]')?.id")
        )
    assert {"delete-one", "facts", "tab-html", "attachments", "body"} <= reached
