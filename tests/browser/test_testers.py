"""What testers use on the page, in a real Chromium: refusals with their reason and dialogue."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import wait_until

from .pages import Chrome, Page, plain


class CatcherPage(Page):
    """The same with options of the tester's."""

    options = ("--domain", "example.com", "--faults")


@pytest.fixture
def page(chromium: Chrome, tmp_path: Path) -> Iterator[CatcherPage]:
    page = CatcherPage(chromium, tmp_path)
    yield page
    page.close_tabs()
    chromium.get("about:blank")
    page.stop()


def refused(page: Page, recipient: str = "eve@elsewhere.example") -> None:
    with (
        smtplib.SMTP("127.0.0.1", page.port, local_hostname="client.test") as smtp,
        suppress(smtplib.SMTPRecipientsRefused),
    ):
        smtp.sendmail("bob@example.org", [recipient], plain("x"))


def test_why_was_i_refused_is_answered(page: CatcherPage) -> None:
    page.open()
    page.press("r")
    wait_until(lambda: "Nothing was refused" in page.one("#refused").text)
    refused(page)
    page.click("#refused td a")
    wait_until(lambda: page.all("#dialogue li"), "the dialogue")
    assert "550 Relaying denied" in page.texts("#refused h3")
    assert any("--domain" in text for text in page.texts("#refused .why"))
    lines = page.texts("#dialogue .line")
    asked = lines.index("RCPT TO:<eve@elsewhere.example>")
    assert lines[asked + 1].startswith("550 5.7.1")
    assert page.complaints() == []
    page.chrome.refresh()
    wait_until(lambda: page.all("#dialogue .bad"), "its address is of its own")
    page.click("#refused-back")
    page.click("#refused-clear")
    wait_until(lambda: "Nothing was refused" in page.one("#refused").text)


def test_a_refusal_appears_by_itself_and_the_live_view_leads_to_it(page: CatcherPage) -> None:
    page.open("#/refused")
    wait_until(lambda: "Nothing was refused" in page.one("#refused").text)
    refused(page, "<script>alert(1)</script>@elsewhere.example")
    wait_until(lambda: page.all("#refused td a"), "it appears")
    page.open("#/live")
    page.click("#events a.why")
    wait_until(lambda: page.all("#dialogue"), "it leads there")
    assert page.all("#refused script") == []


def test_faults_are_added_and_removed(page: CatcherPage) -> None:
    page.open("#/faults")
    wait_until(lambda: "There is none" in page.one("#fault-list").text)
    assert not page.one("#fault-seconds").is_displayed()
    page.one("#fault-recipient").send_keys("ada@example.com")
    page.one("#fault-code").send_keys("452")
    page.click("#fault-add")
    wait_until(lambda: page.all("#fault-list tbody tr"), "it is listed")
    with (
        smtplib.SMTP("127.0.0.1", page.port) as smtp,
        pytest.raises(smtplib.SMTPRecipientsRefused, match="452"),
    ):
        smtp.sendmail("bob@example.org", ["ada@example.com"], plain("x"))
    page.one("#fault-code").clear()
    page.one("#fault-code").send_keys("250")
    page.click("#fault-add")
    wait_until(lambda: "400 to 599" in page.one("#toast").text, "the mistake is said")
    page.click("#fault-list button")
    wait_until(lambda: "There is none" in page.one("#fault-list").text)
    page.send(plain("taken"), "ada@example.com")
