"""What testers use on the page, in a real Chromium: refusals with their reason and dialogue."""

from __future__ import annotations

import smtplib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.support.ui import Select
from support import program, wait_until

from smtp_blinker.testing import SMTPTestServer

from .pages import Chrome, Keys, Page, plain

#: The server of the fixture `page`.
OPTIONS = ("--domain", "example.com", "--faults")


def refused(page: Page, recipient: str = "eve@elsewhere.example") -> None:
    with (
        smtplib.SMTP("127.0.0.1", page.port, local_hostname="client.test") as smtp,
        suppress(smtplib.SMTPRecipientsRefused),
    ):
        smtp.sendmail("bob@example.org", [recipient], plain("x"))


def test_why_was_i_refused_is_answered(page: Page) -> None:
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


def test_a_refusal_appears_by_itself_and_the_live_view_leads_to_it(page: Page) -> None:
    page.open("#/refused")
    wait_until(lambda: "Nothing was refused" in page.one("#refused").text)
    refused(page, "<script>alert(1)</script>@elsewhere.example")
    wait_until(lambda: page.all("#refused td a"), "it appears")
    page.open("#/live")
    page.click("#events a.why")
    wait_until(lambda: page.all("#dialogue"), "it leads there")
    assert page.all("#refused script") == []


def test_faults_are_added_and_removed(page: Page) -> None:
    page.open("#/faults")
    wait_until(lambda: "No faults" in page.one("#fault-list").text)
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
    page.says("400 to 599")
    page.click("#fault-list button")
    wait_until(lambda: "No faults" in page.one("#fault-list").text)
    page.send(plain("taken"), "ada@example.com")


def test_several_are_chosen_with_shift_deleted_and_had_back(page: Page) -> None:
    for number in range(4):
        page.send(plain(f"m{number}"))
    page.open()
    page.shows("m3", "m2", "m1", "m0")
    page.give_time()
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
    page.unread(3)
    page.press("#")
    page.shows("m2", "m1", "m0")
    page.press("z")
    page.shows("m3", "m2", "m1", "m0")
    assert page.complaints() == []


def test_tags_are_put_on_shown_searched_and_taken_off(page: Page) -> None:
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


def test_keys_that_come_fast_reach_the_field_that_they_opened(page: Page) -> None:
    """The page closes the message only after `/` has opened the search, as on a busy machine."""
    page.send(plain("one"))
    page.open()
    page.shows("one")
    page.open_first()
    page.run(
        """
        for (const key of ["u", "/"]) {
          const options = { key, bubbles: true, cancelable: true };
          document.body.dispatchEvent(new KeyboardEvent("keydown", options));
        }
        """
    )
    wait_until(lambda: "Nothing open" in page.one("#message").text, "the message is closed")
    assert page.run("return document.activeElement.id") == "search"


def test_a_message_that_opens_late_leaves_the_field_where_someone_types(page: Page) -> None:
    page.send(plain("one"))
    page.open()
    page.shows("one")
    page.run(
        """
        document.querySelector("#list a").click();
        document.getElementById("search").focus();
        """
    )
    page.one("#message h1")
    assert page.run("return document.activeElement.id") == "search"


def test_deleting_the_open_message_on_a_phone_shows_the_list(page: Page) -> None:
    page.chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    page.send(plain("one"))
    page.send(plain("two"))
    page.open()
    page.shows("two", "one")
    page.open_first()
    page.click("#delete-one")
    page.shows("one")
    wait_until(lambda: page.one("#list").is_displayed(), "the list is seen")


def test_a_message_is_released_from_the_page(chromium: Chrome, tmp_path: Path) -> None:
    with SMTPTestServer() as relay:
        page = Page(chromium, tmp_path, "--release-to", f"smtp://127.0.0.1:{relay.port}")
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
        page.says("Released")
        page.close()


def test_an_inbox_is_chosen_and_stays_in_the_address(chromium: Chrome, tmp_path: Path) -> None:
    page = Page(chromium, tmp_path, "--inbox", "shop=@shop.example")
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
    page.unread(0)
    page.send(plain("shop again"), "x@shop.example")
    page.shows("shop again", "for the shop")
    page.press("#")
    page.shows("shop again")
    assert page.complaints() == []
    page.close()


@contextmanager
def haproxy(page: Page, folder: Path, path: str) -> Iterator[int]:
    """HAProxy with TLS, which has the page at *path*; its port."""
    found = program("haproxy", "haproxy")
    pem = folder / "proxy.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    config = folder / "haproxy.cfg"
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config.write_text(
            "defaults\n  mode http\n  timeout connect 30s\n  timeout client 30s\n"
            "  timeout server 30s\nfrontend web\n"
            f"  bind fd@{sock.fileno()} ssl crt {pem}\n"
            "  http-request set-header X-Forwarded-Proto https\n"
            f"  use_backend page if {{ path {path.rstrip('/')} }} || {{ path_beg {path} }}\n"
            f"backend page\n  server ours {page.url.split('/')[2]}\n"
        )
        process = subprocess.Popen([found, "-db", "-f", str(config)], pass_fds=[sock.fileno()])
        try:
            yield sock.getsockname()[1]
        finally:
            process.kill()
            process.wait()


def test_the_page_works_below_a_path_behind_tls(chromium: Chrome, tmp_path: Path) -> None:
    page = Page(chromium, tmp_path, "--http-path", "/mail/")
    chromium.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": True})
    with haproxy(page, tmp_path, "/mail/") as port:
        page.url = f"https://localhost:{port}/mail/"
        page.chrome.get(page.url.rstrip("/"))
        wait_until(lambda: "on" in page.one("#lamp").get_attribute("class"), "events come through")
        assert chromium.current_url == page.url
        page.send(b"Subject: one\nContent-Type: text/html\n\n<p>Hello</p>")
        page.shows("one")  # by an event
        page.open_first()
        wait_until(lambda: page.in_frame(lambda: page.texts("p")) == ["Hello"])
        page.unread(0)
        page.press("#")
        wait_until(lambda: not page.subjects(), "it is deleted")
        page.click("#help-button")
        page.click("#help a[href=api]")
        page.one("body.api main section")
        assert page.complaints() == []
        page.close()
    chromium.execute_cdp_cmd("Security.setIgnoreCertificateErrors", {"ignore": False})
