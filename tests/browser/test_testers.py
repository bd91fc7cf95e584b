"""What testers use on the page, in a real Chromium: refusals with their reason and dialogue."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select
from support import wait_until

from smtp_blinker.testing import SMTPTestServer

from .pages import Chrome, Keys, Page, plain


class CatcherPage(Page):
    """The same with options of the tester's."""

    def __init__(self, chrome: Chrome, folder: Path, *options: str) -> None:
        self.options = options
        super().__init__(chrome, folder)


@pytest.fixture
def page(chromium: Chrome, tmp_path: Path) -> Iterator[CatcherPage]:
    page = CatcherPage(chromium, tmp_path, "--domain", "example.com", "--faults")
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
    asked = [line.upper() for line in lines].index("RCPT TO:<EVE@ELSEWHERE.EXAMPLE>")
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


def test_several_are_chosen_with_shift_deleted_and_had_back(page: CatcherPage) -> None:
    for number in range(4):
        page.send(plain(f"m{number}"))
    page.open()
    page.shows("m3", "m2", "m1", "m0")
    boxes = page.all("#list .choose")
    boxes[0].click()
    ActionChains(page.chrome).key_down(Keys.SHIFT).click(boxes[2]).key_up(Keys.SHIFT).perform()
    wait_until(lambda: page.one("#delete-all").text == "Delete 3", "three are chosen")
    page.click("#delete-all")
    page.shows("m0")
    assert page.files() == 4
    page.click("#undo")
    page.shows("m3", "m2", "m1", "m0")
    assert page.one("#delete-all").text == "Delete all"
    page.open_first()
    page.press("#")
    page.shows("m2", "m1", "m0")
    page.press("z")
    page.shows("m3", "m2", "m1", "m0")
    assert page.complaints() == []


def test_tags_are_put_on_shown_searched_and_taken_off(page: CatcherPage) -> None:
    page.send(b"X-Tags: brought\nSubject: one\n\nx\n")
    page.send(plain("two"))
    page.open()
    page.shows("two", "onebrought")
    for box in page.all("#list .choose"):
        box.click()
    page.press("t")
    page.one("#tag-name").send_keys("Todo", Keys.ENTER)
    page.shows("twotodo", "onetodobrought")
    page.press(Keys.ESCAPE)
    page.open_first()
    wait_until(lambda: page.texts("#tags .tag") == ["todo"], "it is on the message")
    page.click("#tags .untag")
    page.shows("two", "onetodobrought")
    page.press("u", "/", "tag:todo", Keys.ENTER)
    page.shows("onetodobrought")
    assert page.complaints() == []


def test_a_message_is_released_from_the_page(chromium: Chrome, tmp_path: Path) -> None:
    with SMTPTestServer() as relay:
        page = CatcherPage(chromium, tmp_path, "--release-to", f"smtp://127.0.0.1:{relay.port}")
        page.send(plain("pass it on"))
        page.open()
        page.open_first()
        page.click("#release")
        wait_until(lambda: page.one("#asking-value").get_attribute("value") == "ada@example.com")
        page.one("#asking-value").clear()
        page.one("#asking-value").send_keys("me@example.net")
        page.click("#asking-yes")
        [message] = relay.wait_for(1)
        assert message.envelope.rcpt_to == ["me@example.net"]
        wait_until(lambda: "Released" in page.one("#toast").text, "it is said")
        chromium.get("about:blank")
        page.stop()


def test_an_inbox_is_chosen_and_stays_in_the_address(chromium: Chrome, tmp_path: Path) -> None:
    page = CatcherPage(chromium, tmp_path, "--inbox", "shop=@shop.example")
    page.send(plain("for all"), "ada@example.com")
    page.send(plain("for the shop"), "x@shop.example")
    page.open()
    page.shows("for all")
    Select(page.one("#which-inbox")).select_by_visible_text("shop")
    page.shows("for the shop")
    page.press("/", "shop", Keys.ENTER)
    wait_until(lambda: "inbox=shop&q=shop" in chromium.current_url, "both are in the address")
    chromium.refresh()
    page.shows("for the shop")
    page.open_first()
    wait_until(lambda: page.body_has("Hello"), "it is read")
    page.send(plain("shop again"), "x@shop.example")
    page.shows("shop again", "for the shop")
    page.press("#")
    page.shows("shop again")
    assert page.complaints() == []
    chromium.get("about:blank")
    page.stop()
