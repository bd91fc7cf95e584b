"""How the page looks and feels in a real Chromium: what is seen first, and what is in reach."""

from __future__ import annotations

import json
import smtplib
import sys
from email.message import EmailMessage
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from interop.npm import node_modules
from support import program, run, wait_until

from .pages import Keys, Page, missing, plain, rich

NEWS = """Subject: news
Content-Type: text/html

<style>p { width: 10px } @media (max-width: 400px) { p { width: 1px } }
@media (min-width: 401px) and (max-width: 800px) { p { width: 2px } }</style><p>x</p>"""


def screen(page: Page, width: int, height: int, *, touch: bool = False) -> None:
    page.chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch},
    )
    page.chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})


def box(page: Page, selector: str) -> dict[str, float]:
    page.one(selector)
    found: dict[str, float] = page.run(
        "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
    )
    return found


def clipboard(page: Page) -> str:
    page.chrome.execute_cdp_cmd(
        "Browser.grantPermissions",
        {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]},
    )
    text: str = page.chrome.execute_async_script(
        "const done = arguments[0];"
        "Clipboard.prototype.readText.call(window.kept ?? navigator.clipboard)"
        ".then(done, (error) => done(`${error}`));"
    )
    return text


# The list


def test_all_messages_are_marked_as_read(page: Page) -> None:
    page.send(plain("one"))
    page.send(plain("two"))
    page.open()
    page.shows("two", "one")
    assert page.one("#see-all").text == "Mark all as read"
    page.click("#see-all")
    wait_until(lambda: page.chrome.title == "smtp_blinker", "nothing is unread")
    wait_until(lambda: page.all("#list .unread") == [])


def test_the_list_is_dense_and_denser_when_it_is_compact(page: Page) -> None:
    for number in range(3):
        page.send(plain(f"m{number}", "words " * 30))
    page.open()
    page.shows("m2", "m1", "m0")
    assert box(page, "#list li")["height"] <= 74
    page.click("#density")
    assert box(page, "#list li")["height"] <= 32
    assert page.one("#list .subject").is_displayed()
    assert page.one("#density").get_attribute("aria-pressed") == "true"
    page.open()  # the choice stays
    page.shows("m2", "m1", "m0")
    assert box(page, "#list li")["height"] <= 32
    page.click("#density")
    assert box(page, "#list li")["height"] > 40


def test_j_opens_the_next_message_and_goes_on_to_the_next_page(page: Page) -> None:
    for number in range(52):
        page.send(plain(f"m{number}"))
    page.open()
    page.counts("1\u201350 of 52")

    def opened(subject: str) -> None:
        wait_until(lambda: page.texts("#message h1") == [subject], subject)

    page.press("j")
    opened("m51")
    page.press("j")
    opened("m50")
    page.press("k")
    opened("m51")
    page.chrome.back()  # reading on is one step back from the list
    wait_until(lambda: page.texts("#message h1") == [])
    page.click("#list li:last-child a")
    opened("m2")
    page.press("j")
    opened("m1")
    page.press("k")
    opened("m2")


def test_subjects_from_right_to_left_are_cut_at_their_end(page: Page) -> None:
    page.send(f"Subject: {'שלום עולם ' * 30}\n\nx\n".encode())
    page.send(plain("Hello"))
    page.open()
    wait_until(lambda: len(page.subjects()) == 2)
    direction = "return getComputedStyle(document.querySelector(arguments[0])).direction"
    assert page.run(direction, "#list li:last-child .subject") == "rtl"
    assert page.run(direction, "#list li:first-child .subject") == "ltr"
    assert page.run(direction, "#list") == "ltr"
    page.click("#list li:last-child a")
    page.one("#message h1")
    assert page.run(direction, "#message h1") == "rtl"


@pytest.mark.timeout(300)
def test_ten_thousand_messages_are_a_list_like_any_other(page: Page) -> None:
    folder = page.maildir / "new"
    head = "From: a@example.org\nTo: b@example.com\n"
    for number in range(10_000):
        text = f"{head}Subject: number {number}\n\nText {number}\n"
        (folder / f"{1_700_000_000 + number}.M0P1Q{number}.test").write_text(text)

    def pending() -> int:
        with urlopen(f"{page.url}api/messages?limit=1&wait=0&within=60") as answer:
            number: int = json.load(answer)["pending"]
            return number

    wait_until(lambda: pending() == 0, "all are read", 200)
    page.open()
    page.counts("1\u201350 of 10,000")
    assert page.subjects()[0] == "number 9999"
    nodes = "return document.querySelectorAll('*').length"
    few = page.run(nodes)
    assert few < 1500

    # New mail moves the others; it doesn't make them anew.
    page.run("document.querySelector('#list li').mark = 'kept'")
    page.send(plain("new"))
    wait_until(lambda: page.subjects()[0] == "new")
    assert page.run("return document.querySelectorAll('#list li')[1].mark") == "kept"

    # What is scrolled through is there: no row is filled in or moved later.
    drawn = page.chrome.execute_async_script(
        """
        const list = document.getElementById("list"), done = arguments[0], seen = [];
        const height = list.scrollHeight;
        function step() {
          list.scrollTop += 200;
          const box = list.getBoundingClientRect();
          const row = document.elementFromPoint(box.left + 60, box.bottom - 20)?.closest("li");
          seen.push(Boolean(row?.querySelector(".subject").textContent));
          if (list.scrollTop + list.clientHeight < height - 1) requestAnimationFrame(step);
          else done([seen.every(Boolean), seen.length > 5, list.scrollHeight === height]);
        }
        step();
        """
    )
    assert drawn == [True, True, True]

    page.press("/", "subject:1234")
    wait_until(lambda: page.subjects() == ["number 1234"], "it is searched")
    page.press(Keys.ESCAPE)
    wait_until(lambda: len(page.subjects()) == 50)
    page.press("n", "n", "n")
    wait_until(lambda: page.one("#range").text.startswith("151\u2013200 of"), "pages are turned")
    page.press("j")
    wait_until(lambda: page.texts("#message h1"), "it is opened")
    assert page.run(nodes) < few + 300
    assert page.complaints() == []


# A message


def test_actions_stand_on_the_line_of_the_subject(page: Page) -> None:
    page.send(plain("short"))
    page.send(plain("long " * 150))
    page.open()
    wait_until(lambda: len(page.subjects()) == 2)
    for word in ("long", "short"):
        page.press("j")
        wait_until(partial(page.is_open, word), word)
        subject, actions = box(page, "#message h1"), box(page, "#message .actions")
        assert actions["top"] < subject["bottom"]
        assert actions["top"] >= subject["top"] - 6
        assert actions["left"] >= subject["right"]
        assert subject["height"] < 100
        assert box(page, "#body")["top"] < 330


def test_who_wrote_to_whom_is_one_line_until_it_is_opened(page: Page) -> None:
    page.send(rich(), "ada@example.com", "hidden@example.com")
    page.send(plain("other"))
    page.open()
    page.shows("other", "rich")
    page.click("#list li:last-child a")
    page.one("#facts")
    line = page.one("#facts summary")
    assert page.texts("#facts .brief") == [
        "Shop <shop@example.org> to ada@example.com bcc hidden@example.com"
    ]
    assert box(page, "#facts")["height"] < 40
    assert not page.one(".facts").is_displayed()
    line.click()
    assert "hidden@example.com" in page.one(".facts").text
    page.press("k")
    wait_until(lambda: page.texts("#message h1") == ["other"])
    assert page.one(".facts").is_displayed()  # the choice stays


def test_long_and_repeated_header_fields_are_folded(page: Page) -> None:
    message = EmailMessage()
    message["Subject"] = "fields"
    for number in range(9):
        message.add_header("X-Hop", f"hop {number}")
    message["X-Long"] = "x" * 500 + "end"
    message.set_content("x")
    page.send(message)
    page.open_message("fields")
    page.click("#tab-headers")
    table = page.one(".headers")
    assert "hop 1" in table.text
    assert "hop 2" not in table.text
    assert "xend" not in table.text
    for more in page.all(".headers .more"):
        more.click()
    assert "hop 8" in table.text
    assert "xend" in table.text
    assert page.all(".headers .more") == []


@pytest.mark.parametrize(("name", "width", "seen"), [("phone", 375, "1px"), ("tablet", 768, "2px")])
def test_html_is_seen_at_the_width_of_a_device(
    page: Page, name: str, width: int, seen: str
) -> None:
    page.send(NEWS.encode())
    page.open_message("news")
    paragraph = "const p = document.querySelector('p'); return p && getComputedStyle(p).width"

    def has(expected: str) -> None:
        page.in_frame(lambda: wait_until(lambda: page.run(paragraph) == expected, expected))

    page.click(f"#width-{name}")
    assert abs(box(page, "iframe")["width"] - width) <= 2
    has(seen)
    page.open()  # the choice stays
    page.shows("news")
    page.open_first()
    has(seen)
    page.click("#width-full")
    has("10px")


def test_copy_buttons_copy_what_they_stand_beside(page: Page) -> None:
    page.send(plain("copied", "Go to https://example.org/reset?code=1 now"))
    page.open_message("copied")
    clipboard(page)
    page.click("#facts summary")

    def copies(selector: str, expected: str) -> None:
        page.click(selector)
        page.says("Copied")
        wait_until(lambda: expected in clipboard(page), expected)

    copies('.facts [aria-label="Copy From"]', "bob@example.org")
    copies("#body .strip .copy", "Go to https://example.org/reset?code=1 now")
    page.click("#tab-links")
    copies(".links .copy", "https://example.org/reset?code=1")
    page.click("#tab-headers")
    copies('.headers [aria-label="Copy Subject"]', "copied")
    copies(".card h2 .copy", "Subject: copied")
    page.click("#tab-source")
    copies("#body .strip .copy", "Return-Path: <bounce@example.org>")
    # Where the page comes by http from another machine, browsers have no clipboard object.
    page.run(
        "window.kept = navigator.clipboard;"
        "Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )
    page.click("#tab-links")
    copies(".links .copy", "https://example.org/reset?code=1")


# Times


def test_there_is_one_clock(page: Page) -> None:
    """Half an hour beside the others, and a browser that would say PM."""
    page.chrome.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    page.chrome.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "en-US"})
    try:
        page.send(f"Date: {formatdate()}\nSubject: now\n\nx".encode())
        old = page.maildir / "cur" / "1700000000.M0P1Q1.test:2,S"
        old.write_text("Subject: then\n\nx\n")  # 22:13:20 UTC on 14 November 2023
        page.open()
        page.shows("now", "then")
        clock = page.texts("#list .when")
        assert clock[1] == "15 Nov 2023"
        minutes = page.run(
            "const at = new Date(document.querySelector('#list .when').dateTime);"
            "return at.getUTCHours() * 60 + at.getUTCMinutes() + 330"
        )
        # The session was in this minute, or it began before and ended after it.
        near = [f"{at // 60 % 24:02}:{at % 60:02}:" for at in range(minutes - 1, minutes + 2)]
        has_ended = minutes % 1440 == 1439  # the day, perhaps, meanwhile: then it has a date
        assert clock[0] == near[1][:-1] or has_ended
        page.open_first()
        assert f", {near[1]}" in page.one("#facts time").text
        page.click("#tab-headers")
        assert any(f", {at}" in text for text in page.texts(".pad-side td") for at in near)
        page.click("#list li:last-child a")
        wait_until(lambda: page.texts("#facts time")[0].startswith("15 Nov 2023, 03:43:20"))
        page.click("#nav-live")
        page.one("#events time")
        assert page.texts("#events time")[0].startswith(tuple(near))
        assert page.texts("#zone") == ["Asia/Calcutta"]
    finally:
        page.chrome.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": ""})
        page.chrome.execute_cdp_cmd("Emulation.setLocaleOverride", {})


# Live


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (390, 780)])
def test_events_are_seen_without_scrolling(page: Page, width: int, height: int) -> None:
    screen(page, width, height)
    for number in range(30):
        page.send(plain(f"m{number}"))
    page.open("#/live")
    wait_until(lambda: len(page.all("#events li")) > 20)
    page.one("#plots path")
    assert box(page, "#events")["bottom"] <= height
    assert box(page, "#events")["height"] > 200


def test_a_bar_of_the_live_plots_is_five_seconds(page: Page) -> None:
    for number in range(3):
        page.send(plain(f"m{number}"))
    page.open("#/live")
    first = "return document.querySelector('#plots svg').getAttribute('viewBox')"
    wait_until(lambda: page.run(first) == "0 0 60 100")
    wait_until(lambda: page.texts("#plots .legend")[0] == "messages3", "none is lost")
    page.click("[data-step='60']")
    wait_until(lambda: page.run(first) == "0 0 360 100")


# Fingers


SMALL = """
return [...document.querySelectorAll("a, button, select, summary, input, [tabindex='0'] ")]
  .filter((each) => each.checkVisibility() && !each.closest("pre, p, .skip"))
  .map((each) => [each.closest("label") ?? each, each])
  .map(([target, each]) => [target.getBoundingClientRect(), each])
  .filter(([at]) => at.width > 0 && (at.width < 40 || at.height < 40))
  .map(([at, each]) => `${each.outerHTML.slice(0, 90)} ${at.width} x ${at.height}`);
"""


@pytest.mark.parametrize("width", [390, 1180])
def test_what_a_finger_touches_is_forty_pixels(page: Page, width: int) -> None:
    screen(page, width, 820, touch=True)
    try:
        page.open()
        page.one(".recipe pre")
        assert page.run("return matchMedia('(pointer: coarse)').matches")
        assert page.run(SMALL) == []
        message = rich()
        message["Cc"] = ", ".join(f"p{number}@example.com" for number in range(40))
        message["X-Long"] = "x" * 500
        message.replace_header("Subject", "with links")
        message.add_attachment("https://example.org/")
        for number in range(12):
            message.add_attachment(b"x", "application", "pdf", filename=f"{number}.pdf")
        page.send(message)
        page.shows("with links")
        assert page.run(SMALL) == []
        page.open_first()
        page.click("#facts summary")
        for tab in ("text", "headers", "parts", "links", "checks", "source", "html"):
            page.click(f"#tab-{tab}")
            page.one("#body > *")
            assert page.run(SMALL) == [], tab
        cut = "return [...document.querySelectorAll('.tabs button')].filter((each) =>"
        assert page.run(f"{cut} each.scrollWidth > each.clientWidth).length") == 0
        page.click("#delete-one")
        page.one("#toast button")
        assert page.run(SMALL) == []
        page.click("#help-button")
        page.one("#help[open]")
        assert page.run(SMALL) == []
        page.open("#/live")
        page.one("#events .kind")
        assert page.run(SMALL) == []
        with smtplib.SMTP("127.0.0.1", page.port, "client.test") as client:
            client.docmd("RCPT TO:<ada@example.com>")
        page.open("#/refused")
        page.one("#refused td")
        assert page.run(SMALL) == []
        page.click("#refused td a")
        page.one("#dialogue")
        assert page.run(SMALL) == []
    finally:
        screen(page, width, 820)


# An empty inbox


def settings(page: Page, name: str) -> str:
    for button in page.all(".recipe .switch button"):
        if button.text == name:
            button.click()
    return page.texts(".recipe pre")[0]


def test_an_empty_inbox_says_where_to_send_mail(page: Page) -> None:
    page.open()
    facts = wait_until(lambda: page.texts(".place dd"), "the facts")
    assert facts == ["127.0.0.1", str(page.port), "none", "not needed"]
    for name in ("Flask-Mail", "Django", "nodemailer", "Laravel", "Shell"):
        text = settings(page, name)
        assert "127.0.0.1" in text, name
        assert str(page.port) in text, name
    clipboard(page)
    page.click('.place [aria-label="Copy the port"]')
    wait_until(lambda: clipboard(page) == str(page.port))
    page.click(".recipe .copy")
    wait_until(lambda: clipboard(page).startswith("python3 - <<"))
    page.send(plain("first"))
    page.shows("first")
    assert not page.one("#list-empty").is_displayed()
    assert page.complaints() == []


def succeed(*command: str, text: str = "", **env: str) -> None:
    done = run(*command, stdin=text, **env)
    assert done.returncode == 0, done.stderr


def test_the_settings_are_right(page: Page) -> None:
    """Each is given to the program that it is for."""
    try:
        import django  # noqa: F401
        import flask_mail  # noqa: F401
    except ImportError as exc:
        missing(f"{exc.name} is missing: pip install Django Flask-Mail")
    node = program("node", "nodejs")
    nodemailer = Path(__file__).parent.parent / "interop" / "nodemailer" / "package.json"
    modules = node_modules(nodemailer)
    page.open()
    page.one(".recipe pre")
    succeed("sh", "-s", text=settings(page, "Shell"))
    page.shows("It works")
    page.click("#delete-all")
    page.click("#confirm-yes")
    page.one(".recipe pre")
    wait_until(lambda: page.one(".recipe pre").is_displayed())
    flask = f"""
from flask import Flask
from flask_mail import Mail, Message
app = Flask("x")
exec({settings(page, "Flask-Mail")!r}, app.config)
with app.app_context():
    Mail(app).send(Message("Flask", sender="a@example.com", recipients=["b@example.com"], body="x"))
"""
    django_ = f"""
from django.conf import settings
from django.core.mail import send_mail
values = {{}}
exec({settings(page, "Django")!r}, {{}}, values)
settings.configure(**values)
send_mail("Django", "x", "a@example.com", ["b@example.com"])
"""
    javascript = f"""
const nodemailer = require("nodemailer");
{settings(page, "nodemailer")}
transport.sendMail({{ from: "a@example.com", to: "b@example.com", subject: "Node", text: "x" }})
  .catch((error) => {{ console.error(error); process.exit(1); }});
"""
    succeed(sys.executable, "-c", flask)
    page.shows("Flask")
    succeed(sys.executable, "-c", django_)
    page.shows("Django", "Flask")
    succeed(node, "-e", javascript, NODE_PATH=str(modules))
    page.shows("Node", "Django", "Flask")


@pytest.mark.parametrize(
    ("servers", "facts", "words"),
    [
        (
            [{"tls": "implicit", "auth": "required"}],
            ["192.0.2.1", "2525", "implicit TLS", "required"],
            ["MAIL_USE_SSL = True", "MAIL_USE_TLS = False", 'MAIL_USERNAME = "user"'],
        ),
        (
            [{"tls": "starttls", "auth": "required"}],
            ["192.0.2.1", "2525", "STARTTLS", "required"],
            ["MAIL_USE_SSL = False", "MAIL_USE_TLS = True"],
        ),
        (
            [{"tls": "starttls", "auth": "optional"}],
            ["192.0.2.1", "2525", "none, or STARTTLS", "not needed"],
            ["MAIL_USE_TLS = False", "MAIL_USERNAME = None"],
        ),
        (
            [{"lmtp": True, "address": "192.0.2.9:24"}, {"address": "0.0.0.0:25"}],
            ["127.0.0.1", "25", "none", "not needed"],
            ['MAIL_SERVER = "127.0.0.1"'],
        ),
    ],
)
def test_the_settings_follow_the_server(
    page: Page, servers: list[dict[str, Any]], facts: list[str], words: list[str]
) -> None:
    page.open()
    page.one(".recipe pre")
    some = {"address": "192.0.2.1:2525", "ready": True, "lmtp": False, "tls": None, "auth": None}
    page.run(
        "import(document.querySelector('script[type=module]').src.replace('app.js', 'empty.js'))"
        ".then(({ showWelcome }) =>"
        "  showWelcome(document.getElementById('list-empty'), arguments[0]));",
        [{**some, **server} for server in servers],
    )
    wait_until(lambda: page.texts(".place dd") == facts, f"{facts}")
    text = settings(page, "Flask-Mail")
    for word in words:
        assert word in text
