"""The web page in a real Chromium, with scripts/serve.py as its server."""

from __future__ import annotations

import json
import re
import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support import free_port, wait_until

from .pages import Keys, Page, plain, rich

# Inbox


def test_mail_arrives_while_the_page_is_open(page: Page) -> None:
    page.open()
    wait_until(lambda: "No mail yet" in page.one("#list-empty").text)
    page.send(plain("first"))
    page.shows("first")
    page.send(plain("second"))
    page.shows("second", "first")
    wait_until(lambda: page.chrome.title == "(2) smtp_blinker")
    wait_until(lambda: page.one("#unread").text == "2")
    assert page.complaints() == []


def test_search_shows_what_matches_and_escape_shows_all(page: Page) -> None:
    for subject, text in (("apples", "red"), ("pears", "green"), ("plums", "blue")):
        page.send(plain(subject, text))
    page.open()
    page.shows("plums", "pears", "apples")
    page.press("/", "green")
    page.shows("pears")
    page.press(Keys.ESCAPE)
    page.shows("plums", "pears", "apples")
    page.press("/", "nothing like this")
    wait_until(lambda: "Nothing found" in page.one("#list-empty").text)


def test_a_search_stays_in_the_address_and_a_mistake_in_it_is_said(page: Page) -> None:
    for subject in ("apples", "pears"):
        page.send(f"Subject: {subject}\n\nx".encode())
    page.open("?q=subject:apples")
    wait_until(lambda: len(page.all("#list a")) == 1, "it is searched")
    assert page.one("#search").get_attribute("value") == "subject:apples"
    page.one("#search").clear()
    page.one("#search").send_keys("subjekt:apples")
    mistake = "subjekt: is not a place"
    wait_until(lambda: any(mistake in text for text in page.texts("#hint")), "it is said")
    page.chrome.refresh()
    wait_until(lambda: any(mistake in text for text in page.texts("#hint")), "it is said again")


def test_links_within_a_message_scroll(page: Page) -> None:
    page.send(
        b'Subject: x\nContent-Type: text/html\n\n<a href="#terms">down</a>'
        b'<div style="height: 5000px"></div><p id="terms">Terms</p>'
    )
    page.open_message("x")

    def follow() -> None:
        page.click("a")
        wait_until(lambda: page.run("return scrollY") > 1000, "it scrolls")

    page.in_frame(follow)
    assert len(page.chrome.window_handles) == 1


def test_a_message_is_read_in_every_view(page: Page) -> None:
    page.send(rich(), "ada@example.com", "hidden@example.com")
    page.open_message("rich")
    assert page.in_frame(lambda: page.one("#words").text) == "rich words"
    width = "return document.getElementById('pic').naturalWidth"
    page.in_frame(lambda: wait_until(lambda: page.run(width) == 1, "its own picture is shown"))
    assert "hidden@example.com" in page.one("#facts summary").text
    for tab, expected in {
        "text": "plain words",
        "headers": "<bounce@example.org>",
        "parts": "multipart/alternative",
        "links": "No links",
        "checks": "There is no Date field.",
        "source": "Content-Type: multipart/mixed",
    }.items():
        page.click(f"#tab-{tab}")
        wait_until(partial(page.body_has, expected), tab)
    # Reading marks as read.
    wait_until(lambda: page.chrome.title == "smtp_blinker")
    assert len(list((page.maildir / "cur").iterdir())) == 1
    assert page.complaints() == []


def test_what_policies_found_is_shown(page: Page) -> None:
    results = {
        "sender_authentication": {"verdict": "pass", "dkim": [{"result": "pass"}], "arc": None},
        "rspamd": {"verdict": "add header", "score": 7.5, "symbols": ["A", "<b>B</b>"]},
    }
    trace = "Return-Path: <a@example.org>\nDelivered-To: ada@example.com\n" + "".join(
        f"X-Policy-Result: {json.dumps({name: result})}\n" for name, result in results.items()
    )
    trace += "Received: from c ([192.0.2.1]) by mx with ESMTP; Mon, 1 Jan 2024 00:00:00 +0000\n"
    (page.maildir / "new" / "1.judged").write_bytes(trace.encode() + plain("judged"))
    page.send(plain("not judged"))
    page.open_message("not judged", "judged")
    assert not page.all("#results")
    page.click("#list li:last-child a")
    line = "Policies sender authentication: pass · rspamd: add header"
    wait_until(lambda: page.texts("#results summary") == [line], "the verdicts are shown")
    page.click("#results summary")
    assert page.texts("#results dd") == [
        "verdict pass; dkim 1 result pass",
        "verdict add header; score 7.5; symbols A, <b>B</b>",
    ]
    assert page.complaints() == []


def test_a_message_that_is_cut_says_so(page: Page) -> None:
    parts = "".join(f"--b\nContent-Type: a/b; name={n:03}{'n' * 100}\n\nx\n" for n in range(600))
    head = "Subject: many\nContent-Type: multipart/mixed; boundary=b\n\n"
    page.send(f"{head}{parts}--b--\n".encode())
    page.send(plain("few"))
    page.open()
    page.shows("few", "many")
    assert page.texts("#list .cut") == ["cut "]
    page.open_first()
    page.one("#message h1")
    assert page.texts("#left-out li") == []
    page.press("j")
    wait_until(lambda: page.texts("#message h1") == ["many"])
    assert page.texts("#left-out li") == ["It has more than 500 parts; the others are not shown."]
    assert page.complaints() == []


def test_a_message_to_a_thousand_is_shown_like_any_other(page: Page) -> None:
    names = [f"recipient{number}@{'x' * 40}.example" for number in range(1000)]
    page.send(b"From: bob@example.org\nSubject: all\nContent-Type: text/html\n\n<p>Hello", *names)
    page.open_message("all")
    assert page.in_frame(lambda: page.one("p").text) == "Hello"
    assert page.texts("#left-out li") == []
    page.click("#tab-headers")
    wait_until(lambda: page.body_has("and 800 more"))


def test_the_view_stays_from_message_to_message(page: Page) -> None:
    page.send(plain("one"))
    page.send(rich())
    page.open_message("rich", "one")
    page.click("#tab-headers")
    page.press("j")
    wait_until(lambda: page.texts("#message h1") == ["one"])
    assert page.one("#tab-headers").get_attribute("aria-selected") == "true"


def test_addresses_in_text_are_links(page: Page) -> None:
    page.send(plain("links", "See <https://example.org/a?b=1&c=2>, javascript:alert(1)."))
    page.open_message("links")
    wait_until(lambda: page.texts("pre.text a") == ["https://example.org/a?b=1&c=2"])
    assert page.one("pre.text a").get_attribute("rel") == "noopener noreferrer"
    assert "javascript:alert(1)" in page.texts("pre.text")[0]
    # Columns need a fixed width; the choice stays.
    font = "return getComputedStyle(document.querySelector('pre.text')).fontFamily"
    assert "monospace" not in page.run(font)
    page.click("#body .strip button")
    assert "monospace" in page.run(font)
    page.open_message("links")
    assert "monospace" in page.run(font)


def test_html_is_seen_as_on_a_dark_screen(page: Page) -> None:
    style = "p {color: rgb(1, 1, 1)} @media (prefers-color-scheme: dark) {p {color: rgb(2, 2, 2)}}"
    page.send(f"Subject: x\nContent-Type: text/html\n\n<style>{style}</style><p>x</p>".encode())
    page.open_message("x")
    color = "const p = document.querySelector('p'); return p && getComputedStyle(p).color"

    def has(expected: str) -> None:
        page.in_frame(lambda: wait_until(lambda: page.run(color) == expected, expected))

    has("rgb(1, 1, 1)")
    page.run("[...document.querySelectorAll('#body .strip button')].at(-1).click()")
    has("rgb(2, 2, 2)")


def test_many_attachments_and_recipients_leave_room(page: Page) -> None:
    message = EmailMessage()
    message["To"] = ", ".join(f"Person {number} <p{number}@example.com>" for number in range(99))
    message["Subject"] = "many"
    message.set_content("x")
    for number in range(20):
        message.add_attachment(b"x", "application", "pdf", filename=f"{number}.pdf")
    page.send(message)
    page.open_message("many")
    assert len(page.all("a.chip")) == 8
    page.click("#facts summary")
    assert "p98@" not in page.one(".facts").text
    page.click(".facts .more")
    assert "p98@" in page.one(".facts").text
    page.click("button.chip")
    wait_until(lambda: page.body_has("19.pdf"))


def test_mail_is_told_of_while_the_page_is_hidden(page: Page) -> None:
    page.open()
    page.run(
        """
        window.told = [];
        window.Notification = class {
          static permission = "granted";
          static requestPermission = async () => "granted";
          constructor(title, { body }) { told.push(`${title} from ${body}`); }
        };
        """
    )
    page.click("#help-button")
    page.click("#tell")
    page.press(Keys.ESCAPE)
    page.send(plain("seen"))
    page.shows("seen")
    page.run(
        """
        Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
        """
    )
    page.send(plain("unseen"))
    wait_until(lambda: page.run("return told"), "it is told")
    assert page.run("return told") == ["unseen from bob@example.org"]


def test_an_attachment_is_downloaded(page: Page, tmp_path: Path) -> None:
    page.chrome.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    page.send(rich())
    page.open_message("rich")
    page.click("#attachments .chip")
    file = tmp_path / "file.bin"
    wait_until(lambda: file.exists() and file.read_bytes() == b"octets\x00\xff", "the download")


def test_messages_are_deleted_one_by_one_and_all(page: Page) -> None:
    for subject in ("one", "two", "three"):
        page.send(plain(subject))
    page.open_message("three", "two", "one")
    page.click("#delete-one")
    page.shows("two", "one")
    wait_until(lambda: page.texts("#message h1") == ["two"], "the next one is open")
    page.click("#delete-all")
    page.click("#confirm-no")
    assert page.subjects() == ["two", "one"]
    wait_until(lambda: page.files() == 2, "it can't be had back any more")
    page.click("#delete-all")
    page.click("#confirm-yes")
    wait_until(lambda: "No mail yet" in page.one("#list-empty").text)
    wait_until(lambda: page.files() == 0, "they can't be had back any more")


def test_the_keyboard_is_enough(page: Page) -> None:
    for subject in ("one", "two", "three"):
        page.send(plain(subject))
    page.open()
    page.shows("three", "two", "one")

    def opened() -> list[str]:
        return page.texts("#message h1")

    # Each is waited for: one that is passed by before it is shown stays unread.
    page.press("j")
    wait_until(lambda: opened() == ["three"])
    page.press("u")
    wait_until(lambda: opened() == [])
    page.press(Keys.ENTER)
    wait_until(lambda: opened() == ["three"], "the focus is on the one that was open")
    page.press("j")
    wait_until(lambda: opened() == ["two"])
    page.press("j")
    wait_until(lambda: opened() == ["one"])
    page.press("k")
    wait_until(lambda: opened() == ["two"])
    page.press("5")
    wait_until(lambda: page.one("#tab-links").get_attribute("aria-selected") == "true")
    page.press("1")  # it has no HTML
    assert page.one("#tab-links").get_attribute("aria-selected") == "true"
    page.press(Keys.DELETE)
    page.shows("three", "one")
    wait_until(lambda: opened() == ["one"])
    page.press("m")
    wait_until(lambda: opened() == [])
    wait_until(lambda: page.chrome.title == "(1) smtp_blinker", "it is unread again")
    page.press("?")
    wait_until(lambda: page.one("#help").is_displayed())
    page.press(Keys.ESCAPE)
    wait_until(lambda: not page.one("#help").is_displayed())
    page.press("l")
    wait_until(lambda: page.one("#tiles").is_displayed())
    page.press("i")
    wait_until(lambda: page.one("#list").is_displayed())


def test_long_lists_have_pages(page: Page) -> None:
    for number in range(53):
        page.send(plain(f"m{number}"))
    page.open()
    page.counts("1\u201350 of 53")
    page.press("n")
    page.shows("m2", "m1", "m0")
    page.press("p")
    wait_until(lambda: page.subjects()[:1] == ["m52"])


# Hostile mail


class Canary:
    """A port that nobody must connect to."""

    def __init__(self) -> None:
        self.visits: list[bytes] = []
        self._clients: list[tuple[str, int]] = []
        # An address of its own: clients of a server that has gone may still try its port.
        self._listener = socket.create_server(("127.0.0.77", 0))
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                return
            self._clients.append(address)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        with client:
            client.settimeout(5)
            try:
                self.visits.append(client.recv(1000).split(b"\r\n")[0])
                client.sendall(b"HTTP/1.1 204 None\r\nConnection: close\r\n\r\n")
            except OSError:
                self.visits.append(b"")

    def is_alone(self) -> bool:
        """Whether no connection came before this one, with or without a request."""
        with socket.create_connection(self._listener.getsockname()) as ours:
            wait_until(lambda: ours.getsockname() in self._clients)
            return self._clients.index(ours.getsockname()) == 0

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    canary = Canary()
    yield canary
    canary.close()


HOSTILE = """\
From: "<img src=x onerror=top.owned=1>" <evil@example.org>
To: "</script><script>top.owned=1</script>" <ada@example.com>
Subject: <img src=CANARY/subject onerror=top.owned=1><script>top.owned=1</script>
X-Evil: <script>top.owned=1</script>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8

<html><head>
<base href="CANARY/base/" target="_top">
<meta http-equiv="refresh" content="0;url=CANARY/refresh">
<link rel="preconnect" href="CANARY"><link rel="dns-prefetch" href="CANARY">
<link rel="prefetch" href="CANARY/prefetch"><link rel="stylesheet" href="CANARY/style.css">
<link rel="icon" href="CANARY/icon">
<style>@import url(CANARY/import.css); @font-face {font-family: x; src: url(CANARY/font)}
body {background: url(CANARY/background); font-family: x}</style>
<script src="CANARY/script.js"></script>
<script>top.owned = 1; parent.document.title = "owned"; alert(1);
fetch("/api/messages", {method: "DELETE"}); location = "CANARY/location"</script>
</head>
<body onload="top.owned=1" background="CANARY/body">
<img src="CANARY/img" onerror="top.owned=1"><img src=x srcset="CANARY/srcset 2x">
<picture><source srcset="CANARY/source"><img src="data:image/gif;base64,R0"></picture>
<video src="CANARY/video" poster="CANARY/poster" autoplay></video><audio src="CANARY/audio"></audio>
<iframe src="CANARY/iframe"></iframe><iframe srcdoc="<script>top.owned=1</script>"></iframe>
<iframe src="javascript:top.owned=1"></iframe><iframe src="/"></iframe>
<iframe srcdoc="&lt;link rel=preconnect href=CANARY&gt;"></iframe>
<object type="text/html" data="CANARY/page"></object><embed type="text/html" src="CANARY/page">
<object data="CANARY/object"></object><embed src="CANARY/embed">
<svg onload="top.owned=1"><image href="CANARY/svg"/><script>top.owned=1</script>
<use href="CANARY/use#x"/></svg>
<math><a xlink:href="javascript:top.owned=1">m</a></math>
<form id="form" action="CANARY/form" target="_top"><input name="a" autofocus onfocus="top.owned=1">
<button id="submit">Send</button><input type="image" src="CANARY/input"></form>
<a id="script" href="javascript:top.owned=1">script</a>
<a id="self" href="CANARY/self" target="_self">self</a>
<a id="top" href="CANARY/top" target="_top">top</a>
<details open ontoggle="top.owned=1"><summary>x</summary></details>
<p id="end">the end</p></body></html>
--b
Content-Type: text/html; name="<img src=x onerror=top.owned=1>.html"
Content-Disposition: attachment; filename="<img src=x onerror=top.owned=1>.html"

<script>top.owned = 1</script>
--b--
"""


def test_a_message_full_of_script_does_nothing(page: Page, canary: Canary) -> None:
    page.send(HOSTILE.replace("CANARY", canary.url).encode())
    page.open()
    wait_until(lambda: len(page.subjects()) == 1)
    page.open_first()
    page.in_frame(lambda: wait_until(lambda: page.one("#end").is_displayed()))
    for element in ("submit", "script"):
        page.in_frame(partial(page.click, f"#{element}"))
    assert page.in_frame(lambda: page.one("#end").text) == "the end"
    for tab in ("text", "headers", "parts", "links", "source", "html"):
        page.click(f"#tab-{tab}")
        wait_until(lambda: page.run("return document.getElementById('body').childNodes.length"))
    page.in_frame(lambda: wait_until(lambda: page.one("#end").is_displayed()))
    page.click("#nav-live")
    wait_until(lambda: "message" in page.one("#events").text)
    assert canary.is_alone()
    page.chrome.back()

    # Links that want another place than a tab of their own don't get it. The browser may connect
    # when a link is pressed, as it does for every link, but it asks for nothing.
    for element in ("top", "self"):
        page.in_frame(partial(page.click, f"#{element}"))
    page.click("#tab-html")
    page.in_frame(lambda: wait_until(lambda: page.one("#end").is_displayed()))
    assert set(canary.visits) <= {b""}

    # The page is still the page.
    assert page.run("return window.owned") is None
    assert "owned" not in page.chrome.title
    assert page.chrome.current_url.startswith(page.url)
    assert page.files() == 1
    # The link with a script may open a tab, as links do; nothing comes into it.
    assert page.close_tabs() in ([], [""], ["about:blank"])

    # The canary does hear what loads: pictures, when the reader asks for them, and only those.
    canary.visits.clear()
    page.click("#load-remote")
    wait_until(lambda: any(b"/img" in visit for visit in canary.visits), "pictures are loaded")
    page.in_frame(lambda: wait_until(lambda: page.one("#end").is_displayed()))
    assert page.run("return window.owned") is None
    pictures = rb"$|GET /(img|srcset|source|background|body|poster|svg|input)\b"
    assert [visit for visit in canary.visits if not re.match(pictures, visit)] == []


def test_links_open_in_a_tab_that_knows_nothing_of_the_page(page: Page) -> None:
    requests: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append((self.path, self.headers.get("Referer")))
            body = b"<title>out</title>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as outside:
        threading.Thread(target=outside.serve_forever, daemon=True).start()
        link = f'<a id="a" href="http://127.0.0.1:{outside.server_port}/out">go</a>'
        page.send(b"Subject: link\nContent-Type: text/html\n\n" + link.encode())
        page.open_message("link")
        first = page.chrome.current_window_handle
        page.in_frame(lambda: page.one("#a").click())
        wait_until(lambda: len(page.chrome.window_handles) == 2, "the link opens a tab")
        other = next(handle for handle in page.chrome.window_handles if handle != first)
        page.chrome.switch_to.window(other)
        wait_until(lambda: page.chrome.title == "out")
        assert page.run("return window.opener") is None
        page.chrome.close()
        page.chrome.switch_to.window(first)
        outside.shutdown()
    assert ("/out", None) in requests


def test_another_site_can_neither_read_nor_delete(page: Page) -> None:
    page.send(plain("mine"))
    script = """
    const page = arguments[0], done = arguments[1];
    const tries = [
      fetch(page + "api/messages").then((answer) => answer.text()),
      fetch(page + "api/messages", {mode: "no-cors", credentials: "include"})
        .then((answer) => answer.text()),
      fetch(page + "api/messages", {method: "DELETE"}).then((answer) => answer.text()),
      fetch(page + "api/messages/seen", {method: "PUT"}).then((answer) => answer.text()),
      new Promise((resolve) => { const frame = document.createElement("iframe"); frame.src = page;
        frame.onload = () => {
          try { resolve(frame.contentDocument.title); } catch { resolve(""); }
        };
        document.body.append(frame); }),
    ];
    Promise.allSettled(tries).then((all) => done(all.map((one) => one.value || "")));
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        page.chrome.get(f"http://localhost:{evil.server_port}/")
        found = page.chrome.execute_async_script(script, page.url)
        evil.shutdown()
    assert found == [""] * 5
    assert page.files() == 1
    assert len(list((page.maildir / "new").iterdir())) == 1


# Live


def test_live_shows_what_happens_as_it_happens(page: Page) -> None:
    page.open("#/live")
    wait_until(lambda: "No client is connected" in page.one("#connections").text)
    client = smtplib.SMTP("127.0.0.1", page.port, local_hostname="client.example")
    client.ehlo()
    wait_until(lambda: "client.example" in page.one("#connections").text)
    wait_until(lambda: "gives the name client.example" in page.one("#events").text)
    client.sendmail("a@example.org", ["<b@example.com>"], "Subject: x\r\n\r\nx\r\n")
    wait_until(lambda: "<a@example.org> → <b@example.com>" in page.one("#events").text)
    client.quit()
    wait_until(lambda: "No client is connected" in page.one("#connections").text)
    wait_until(lambda: "quit after" in page.one("#events").text)
    wait_until(lambda: any("250" in text for text in page.texts("#plots .legend")))
    wait_until(lambda: any("quit" in text for text in page.texts("#plots .legend")))
    wait_until(lambda: "127.0.0.1" in page.one("#clients").text)
    assert page.run("return document.querySelectorAll('#plots svg path').length") >= 4
    assert page.texts(".amounts")[0].endswith("0")
    assert page.texts(".amounts")[0] != "0"
    assert page.complaints() == []


def test_live_says_why_something_was_refused(page: Page) -> None:
    page.open("#/live")
    page.one("#events")
    with smtplib.SMTP("127.0.0.1", page.port, local_hostname="client.example") as client:
        client.ehlo()
        assert client.docmd("RCPT TO:<b@example.com>")[0] == 503
        assert client.docmd("my secret")[0] == 500
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        assert client.docmd("DATA")[0] == 354
        client.send(b"a bare\nnewline\r\n.\r\n")
        assert client.getreply()[0] == 550
        client.send(b"Subject: no command\r\n")
        assert client.getreply()[0] == 421

    def shown(text: str) -> Callable[[], bool]:
        return lambda: text in page.one("#events").text

    wait_until(shown(": RCPT TO:<b@example.com>"), "the command")
    wait_until(shown("127.0.0.1 503 Need MAIL command"), "its reply")
    wait_until(shown("127.0.0.1 500 Command not recognized"), "an unknown verb")
    wait_until(shown(" ms: Bare CR or LF"), "the reply of a message")
    wait_until(shown(" out: Message content where a command is expected"), "the detail")
    assert "secret" not in page.one("#events").text
    wait_until(lambda: any("RCPT" in text for text in page.texts("#plots .legend")))
    wait_until(lambda: "3\nrefused commands" in page.one("#tiles").text)
    page.run(
        "const filter = document.getElementById('event-filter');"
        "filter.value = 'refused'; filter.dispatchEvent(new Event('change'));"
    )
    wait_until(lambda: set(page.texts("#events .kind")) == {"refused"}, "the filter")
    assert page.complaints() == []


def test_the_page_comes_back_when_its_server_does(page: Page) -> None:
    page.stop()
    places = [f"127.0.0.1:{free_port()}" for _ in range(2)]  # which no other program gets meanwhile
    page.start(*places)
    page.open()
    page.stop()
    wait_until(lambda: "off" in page.one("#lamp").get_attribute("class"), "the lamp goes out")
    assert page.one("#offline").is_displayed()
    page.start(*places)
    wait_until(lambda: "on" in page.one("#lamp").get_attribute("class"), "the lamp is on again")
    assert not page.one("#offline").is_displayed()
    page.send(plain("after"))
    page.shows("after")


# Looks


@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_the_page_fits_its_width(page: Page, width: int) -> None:
    page.chrome.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 800},
    )
    page.send(rich())
    page.send(plain("x" * 900, "y" * 900))
    page.open()
    wait_until(lambda: len(page.subjects()) == 2)
    too_wide = "return document.documentElement.scrollWidth - innerWidth"
    assert page.run(too_wide) <= 0
    page.open_first()
    for tab in ("text", "headers", "parts", "source"):
        page.click(f"#tab-{tab}")
        assert page.run(too_wide) <= 0
    if width < 800:
        assert not page.one("#list").is_displayed()
        page.click(".back")
        wait_until(lambda: page.one("#list").is_displayed())
    page.press("l")
    wait_until(lambda: page.one("#tiles").is_displayed())
    assert page.run(too_wide) <= 0


def test_the_page_is_dark_where_the_system_is(page: Page) -> None:
    def brightness(scheme: str) -> int:
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        color = page.run("return getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3]))

    page.open()
    assert brightness("light") > 600
    assert brightness("dark") < 150
    page.click("#help-button")
    page.run(
        """
        const theme = document.getElementById("theme");
        theme.value = "light";
        theme.dispatchEvent(new Event("change"));
        """
    )
    assert brightness("dark") > 600
    page.open()  # the choice stays
    assert brightness("dark") > 600
