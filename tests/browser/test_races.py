"""The page while its server answers late, in another order, or about what is gone meanwhile."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from selenium.webdriver.common.action_chains import ActionChains
from support import wait_until

from .pages import Keys, Page, plain
from .test_testers import refused

OPTIONS = ("--domain", "example.com", "--faults")

#: Hold back requests of a method whose path has some words, or their answers, until `answer`.
HOLD = """
    const [method, words, early] = arguments;
    const real = window.fetch;
    window.held ??= [];
    window.holding = true;
    window.fetch = async (path, options) => {
      path = String(path);
      const same = method === (options?.method ?? "GET") && path.includes(words);
      const isHeld = window.holding && same;
      const release = () => new Promise((resolve) => window.held.push({ path, resolve }));
      if (!isHeld) return real(path, options);
      if (early) await release();
      const response = await real(path, options);
      const text = await response.text();
      if (!early) await release();
      return new Response(text, { status: response.status });
    };
"""
FOCUSED = "return document.activeElement.closest('#list a')?.querySelector('.subject').textContent"
#: How many times the page has got the list.
LISTS = "return performance.getEntries().filter(({ name }) => name.includes('limit=50')).length"


def hold(page: Page, method: str, words: str, *, early: bool = False) -> None:
    """Hold back the answers to these requests, or with *early* the requests themselves."""
    page.run(HOLD, method, words, early)


def held(page: Page) -> list[str]:
    found: list[str] = page.run("return window.held.map(({ path }) => path)")
    return found


def answer(page: Page, number: int = 0) -> None:
    """Let go what is held back, and hold nothing from now on; returns when the page has read it."""
    page.chrome.execute_async_script(
        """
        const [number, done] = arguments;
        window.holding = false;
        window.held.splice(number, 1)[0].resolve();
        setTimeout(() => requestAnimationFrame(() => setTimeout(done)));
        """,
        number,
    )


def keys(page: Page, *pressed: str) -> None:
    """All in one turn of the browser's event loop, as on a busy machine."""
    page.run(
        """
        for (const key of arguments[0]) {
          const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true });
          (document.activeElement ?? document.body).dispatchEvent(event);
        }
        """,
        pressed,
    )


def api(page: Page, path: str, method: str = "GET") -> Any:
    request = urllib.request.Request(page.url + path, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


def focus(page: Page, subject: str) -> None:
    page.run(
        """
        [...document.querySelectorAll("#list a")].find((each) =>
          each.querySelector(".subject").textContent === arguments[0]).focus();
        """,
        subject,
    )


def opened(page: Page) -> list[str]:
    return page.texts("#message h1")


def sent(page: Page, *subjects: str) -> None:
    for subject in subjects:
        page.send(plain(subject))
    page.open()
    page.shows(*reversed(subjects))


def test_keys_pressed_at_once_go_on_from_the_message_that_was_open(page: Page) -> None:
    sent(page, "three", "two", "one")
    keys(page, "j", "j")
    wait_until(lambda: opened(page) == ["two"])
    keys(page, "u", "j")
    wait_until(lambda: opened(page) == ["three"], "the one after the one that was closed")
    keys(page, "l", "j")
    assert page.run("return location.hash") == "#/live"
    keys(page, "i", "k")
    wait_until(lambda: opened(page) == ["two"], "i shows the inbox before k is read")


def test_a_search_comes_before_the_keys_behind_it(page: Page) -> None:
    sent(page, "apple pie", "apple tart", "pear", "plum")
    page.press("/")
    hold(page, "GET", "q=apple")
    page.press("apple", Keys.ENTER)
    wait_until(lambda: held(page), "the search")
    page.press("j")
    answer(page)
    wait_until(lambda: opened(page) == ["apple pie"], "the one behind the first that was found")


def test_enter_in_the_search_moves_the_focus_to_what_was_found(page: Page) -> None:
    sent(page, "apple", "pear", "plum")
    page.press("/")
    hold(page, "GET", "q=apple")
    page.press("apple", Keys.ENTER)
    wait_until(lambda: held(page), "the search")
    answer(page)
    page.shows("apple")
    wait_until(lambda: page.run(FOCUSED) == "apple", "the focus")


def test_a_late_answer_does_not_turn_back_to_the_inbox(page: Page) -> None:
    for number in range(52):
        page.send(plain(f"m{number}"))
    page.open()
    page.counts("1\u201350 of 52")
    page.run("document.querySelector('#list li:last-child a').click()")
    wait_until(lambda: opened(page) == ["m2"])
    hold(page, "GET", "offset=50")
    page.press("j")
    wait_until(lambda: held(page), "the next page")
    page.press("l")
    answer(page)
    page.shows("m1", "m0")
    assert page.run("return location.hash") == "#/live"


def test_marking_as_unread_waits_for_marking_as_read(page: Page) -> None:
    sent(page, "one")
    hold(page, "PUT", "/seen", early=True)
    page.open_first()
    wait_until(lambda: held(page), "it is marked as read")
    page.press("m")
    answer(page)
    wait_until(lambda: opened(page) == [], "the message is closed")
    page.shows("one")
    wait_until(lambda: api(page, "api/messages")["unread"] == 1)
    wait_until(lambda: page.all("#list .unread"), "the list shows it")


def test_marking_as_unread_closes_no_other_message(page: Page) -> None:
    sent(page, "one", "two")
    page.open_first()
    wait_until(lambda: api(page, "api/messages")["unread"] == 1, "two is read")
    hold(page, "DELETE", "/seen")
    page.press("m")
    wait_until(lambda: held(page), "the request")
    page.press("j")
    wait_until(lambda: opened(page) == ["one"])
    answer(page)
    wait_until(lambda: page.texts("#list .unread .subject") == ["two"])
    assert opened(page) == ["one"]


def test_a_message_that_is_opened_again_is_shown_once(page: Page) -> None:
    sent(page, "one", "two")
    hold(page, "GET", "api/messages/1")
    for number, row in enumerate((1, 0, 1)):
        page.run("document.querySelectorAll('#list a')[arguments[0]].click()", row)
        wait_until(lambda number=number: len(held(page)) == number + 1)  # type: ignore[misc]
    answer(page, 2)
    wait_until(lambda: opened(page) == ["one"])
    page.run("document.querySelector('#message h1').id = 'same'")
    answer(page)
    answer(page)
    assert page.all("#same"), "it was built again"


def test_a_message_that_is_deleted_elsewhere_while_it_is_opened(page: Page) -> None:
    sent(page, "one")
    hold(page, "GET", "api/messages/1")
    page.click("#list li:first-child a")
    wait_until(lambda: held(page), "it is asked for")
    assert api(page, "api/messages?q=subject:one", "DELETE") == {"deleted": 1}
    answer(page)
    wait_until(lambda: opened(page) == ["one"], "it is shown: the answer was under way")
    wait_until(lambda: "No mail yet" in page.one("#list-empty").text)
    assert "didn't work" not in page.one("#toast").get_attribute("textContent")
    page.press("m")
    page.press(Keys.DELETE)
    wait_until(lambda: opened(page) == [])
    assert "didn't work" not in page.one("#toast").get_attribute("textContent")


def test_the_source_is_shown_once(page: Page) -> None:
    sent(page, "one")
    page.open_first()
    hold(page, "GET", "/source")
    for tab in ("source", "text", "source"):
        page.click(f"#tab-{tab}")
    wait_until(lambda: len(held(page)) == 2)
    answer(page)
    answer(page)
    wait_until(lambda: page.all("#source"))
    assert len(page.all("#source")) == 1


def test_the_answers_about_live_are_shown_in_the_order_of_the_questions(page: Page) -> None:
    page.open("#/live")
    wait_until(lambda: page.all("#tiles .tile"))
    page.run(
        """
        // Its next question, two seconds later, is noted and never comes.
        const [set, clear] = [window.setTimeout, window.clearTimeout];
        window.timers = new Set();
        window.setTimeout = (call, ms) => {
          if (ms !== 2000) return set(call, ms);
          const id = set(() => {}, 0);
          window.timers.add(id);
          return id;
        };
        window.clearTimeout = (id) => { window.timers.delete(id); clear(id); };
        """
    )
    hold(page, "GET", "step=60")
    page.click("[data-step='60']")
    wait_until(lambda: held(page), "six hours")
    page.click("[data-step='1']")
    wait_until(lambda: page.run("return window.timers.size") == 1, "it goes on asking")
    page.run("document.querySelector('#tiles').firstChild.id = 'newer'")
    answer(page)
    shown = page.run("return [window.timers.size, document.querySelector('#newer') !== null]")
    assert shown == [1, True]


def test_a_click_on_what_changes_meanwhile_is_not_lost(page: Page) -> None:
    sent(page, "one")
    hold(page, "GET", "limit=50", early=True)
    api(page, "api/messages/seen", "PUT")  # its row becomes another one in the same place
    page.unread(0)
    wait_until(lambda: held(page), "it asks for the list")
    place = page.run("return document.querySelector('#list .subject').getBoundingClientRect()")
    pointer = ActionChains(page.chrome)
    pointer.reset_actions()
    pointer.move_by_offset(int(place["x"]) + 5, int(place["y"]) + 5)  # from the corner
    pointer.click_and_hold().perform()
    lists = page.run(LISTS)
    answer(page)
    wait_until(lambda: page.run(LISTS) > lists, "the page gets it")
    pointer.release().perform()
    wait_until(lambda: opened(page) == ["one"])
    wait_until(lambda: not page.all("#list .unread"))


def test_undo_waits_for_the_deletion_that_the_list_shows_already(page: Page) -> None:
    sent(page, "one", "two", "three")
    page.give_time()
    page.open_first()
    page.press(Keys.DELETE)
    wait_until(lambda: opened(page) == ["two"])
    hold(page, "DELETE", "undo=")
    page.press(Keys.DELETE)
    page.shows("one")  # by the server's event
    page.press("z")
    answer(page)
    page.shows("two", "one")


def test_deletions_are_undone_one_after_the_other(page: Page) -> None:
    sent(page, "one", "two", "three")
    page.give_time()
    page.open_first()
    wait_until(lambda: opened(page) == ["three"])
    page.press(Keys.DELETE)
    wait_until(lambda: opened(page) == ["two"])
    page.press(Keys.DELETE)
    page.shows("one")
    page.press("z")
    page.shows("two", "one")
    page.press("z")
    page.shows("three", "two", "one")


def test_a_deletion_that_ends_late_leaves_the_focus_where_it_is(page: Page) -> None:
    sent(page, "four", "three", "two", "one")
    focus(page, "one")
    hold(page, "DELETE", "undo=")
    page.press(Keys.DELETE)
    wait_until(lambda: held(page), "the deletion")
    page.shows("two", "three", "four")  # by the server's event
    focus(page, "three")
    lists = page.run(LISTS)
    answer(page)
    wait_until(lambda: page.all("#undo") and page.run(LISTS) > lists, "the page has the answer")
    assert page.run(FOCUSED) == "three"


def test_new_refusals_leave_the_focus_on_what_is_read(page: Page) -> None:
    refused(page)
    page.open("#/refused")
    page.one("#refused td a")
    page.run("document.querySelector('#refused td a').focus()")
    address = page.run("return document.activeElement.href")
    refused(page)
    wait_until(lambda: len(page.all("#refused td a")) == 2)
    assert page.run("return document.activeElement.href") == address


def test_what_new_mail_moves_to_the_next_page_stays_selected(page: Page) -> None:
    for number in range(50):
        page.send(plain(f"m{number}"))
    page.open()
    page.counts("50 messages")

    def button(text: str) -> None:
        wait_until(lambda: page.texts("#delete-all") == [text], text)

    page.give_time()
    page.run("document.querySelector('#list li:last-child .choose').click()")
    button("Delete 1")
    page.send(plain("new"))
    page.counts("1\u201350 of 51")
    button("Delete 1")
    page.click("#delete-all")
    page.counts("50 messages")
    assert api(page, "api/messages?q=subject:m0")["matching"] == 0
    button("Delete all")
    page.press("z")
    page.counts("1\u201350 of 51")
    page.run("document.querySelector('#list li:last-child .choose').click()")
    button("Delete 1")
    page.press("n")
    page.shows("m0")
    button("Delete all")  # a selection is of one page


def test_mail_that_is_not_read_yet_is_no_empty_inbox(page: Page) -> None:
    sent(page)
    wait_until(lambda: "No mail yet" in page.one("#list-empty").text)
    page.run(
        """
        const real = window.fetch;
        window.fetch = async (path, options) => {
          const response = await real(path, options);
          if (!path.includes("limit=50")) return response;
          return Response.json({ ...await response.json(), messages: [], matching: 0, pending: 1 });
        };
        """
    )
    page.send(plain("one"))
    wait_until(lambda: page.texts("#list-empty") == ["Reading the mail \u2026"])


def test_what_is_tagged_is_what_was_chosen_when_the_field_opened(page: Page) -> None:
    for number in range(50):
        page.send(plain(f"m{number}"))
    page.open()
    page.counts("50 messages")
    page.run("document.querySelector('#list li:last-child .choose').click()")
    page.press("t")
    wait_until(lambda: page.one("#tag-name").is_displayed())
    page.send(plain("new"))
    wait_until(lambda: page.subjects()[:1] == ["new"], "the chosen one goes to the next page")
    page.press("late", Keys.ENTER)
    wait_until(lambda: api(page, "api/messages?q=tag:late")["matching"] == 1)
    [message] = api(page, "api/messages?q=tag:late")["messages"]
    assert message["subject"] == "m0"
