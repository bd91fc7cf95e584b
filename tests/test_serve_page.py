"""The web page of smtp-blinker with --workers: a process of its own that hears all of them."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil
import pytest

pytest.importorskip("gunicorn", reason="gunicorn is not installed (pip)")

from support import wait_until
from support.cli import MESSAGE, SmtpBlinker, refused

PAGE = ("-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--workers", "2")


def get(server: SmtpBlinker, path: str) -> Any:
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    return json.loads(text) if path.startswith("/api") else (answer.status, text)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _answers(server: SmtpBlinker, path: str) -> bool:
    with suppress(OSError, ValueError):
        return bool(get(server, path))
    return False


def sent_by_both(server: SmtpBlinker) -> int:
    """Send until both workers had a message; returns how many it took."""
    sent = 0
    senders: set[str] = set()

    def both() -> bool:
        nonlocal sent
        clients = [server.client() for _ in range(4)]
        for client in clients:
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
            sent += 1
        for client in clients:
            client.quit()
        names = [path.name for path in (server.folder / "Maildir" / "new").iterdir()]
        senders.update(name.partition("P")[2].partition("Q")[0] for name in names)
        return len(senders) == 2

    wait_until(both)
    return sent


def page_process(server: SmtpBlinker) -> psutil.Process:
    """The page has children, the index and the reader, when it was asked for the mail."""
    get(server, "/api/messages")
    found = [each for each in psutil.Process(server.process.pid).children() if each.children()]
    assert len(found) == 1
    return found[0]


def test_it_shows_what_every_worker_does(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        sent = sent_by_both(server)
        wait_until(
            lambda: get(server, "/api/live")["totals"]['smtp_messages_total{code="250"}'] == sent
        )
        wait_until(lambda: get(server, "/api/live")["open"] == 0)
        [client] = get(server, "/api/live")["clients"]
        assert client["messages"] == client["connections"] == sent
        assert get(server, "/api/messages")["total"] == sent
        assert f'smtp_messages_total{{code="250"}} {sent}.0' in get(server, "/metrics")[1]
        [listening] = get(server, "/api/live")["servers"]
        assert listening == {
            "address": f"127.0.0.1:{server.port}",
            "ready": True,
            "lmtp": False,
            "tls": None,
            "auth": None,
        }
        assert get(server, "/healthz/ready")[0] == 200
        # The page logs nothing that a worker has logged.
        assert server.log.read_text().count("message 1 answered 250") == sent


def test_it_begins_again_when_it_has_ended(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        page_process(server).kill()
        server.wait_for_log("another one begins")

        def shows() -> bool:
            with suppress(OSError, ValueError):
                return bool(get(server, "/api/live")["servers"][0]["ready"])
            return False

        wait_until(shows)  # though nothing else happens
        with server.client() as client:
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        assert get(server, "/api/messages")["total"] == 1
        wait_until(lambda: 'smtp_messages_total{code="250"} 1.0' in get(server, "/metrics")[1])


def test_connections_of_a_worker_that_was_killed_have_ended(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        client = server.client()
        client.ehlo()
        wait_until(lambda: get(server, "/api/live")["open"] == 1)
        page = page_process(server)
        for child in psutil.Process(server.process.pid).children():
            if child != page:
                child.kill()
        wait_until(lambda: get(server, "/api/live")["open"] == 0)
        wait_until(lambda: bool(get(server, "/api/live")["servers"][0]["ready"]))
        client.close()


def test_it_is_not_ready_while_the_workers_drain_and_ends_after_them(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with SmtpBlinker(tmp_path, *PAGE, TMPDIR=str(temporary)) as server:
        client = server.client()
        client.ehlo()
        client.mail("you@example.org")
        client.rcpt("me@example.com")
        assert client.docmd("DATA")[0] == 354
        page = page_process(server)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/healthz/ready")[0] == 503)
        client.send(b"Subject: begun before\r\n\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert server.process.wait(60) == 0
        wait_until(lambda: _has_ended(page))
        assert list(temporary.iterdir()) == []
        client.close()


def test_it_ends_with_an_arbiter_that_was_killed(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        page = page_process(server)
        server.process.kill()
        wait_until(lambda: _has_ended(page))


def successor(server: SmtpBlinker) -> psutil.Process:
    """The arbiter that USR2 has the server's begin, when its page has taken over."""
    old = psutil.Process(server.process.pid)
    page, before = page_process(server), {child.pid for child in old.children()}
    old.send_signal(signal.SIGUSR2)

    def begun() -> psutil.Process | None:
        for child in old.children():
            if child.pid not in before and len(child.children()) == 3:  # two workers and the page
                return child
        return None

    new: psutil.Process = wait_until(begun)
    wait_until(lambda: _has_ended(page))
    return new


def test_an_upgrade_takes_the_page_along(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with SmtpBlinker(tmp_path, *PAGE, TMPDIR=str(temporary)) as server:
        client = server.client()
        client.ehlo()
        new = successor(server)
        try:
            client.docmd("RCPT")  # a worker of before tells the page of now
            wait_until(lambda: get(server, "/api/refused")["total"] == 1)
            client.close()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0
            assert get(server, "/healthz/ready")[0] == 200
            with server.client() as other:
                other.sendmail("you@example.org", "me@example.com", MESSAGE)
            assert get(server, "/api/messages")["total"] == 1
            wait_until(
                lambda: 'smtp_messages_total{code="250"} 1.0' in get(server, "/metrics")[1],
            )
        finally:
            new.terminate()
            wait_until(lambda: _has_ended(new))
        assert list(temporary.iterdir()) == []


def test_an_upgrade_that_is_taken_back_leaves_the_page(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        new = successor(server)
        new.terminate()
        wait_until(lambda: _has_ended(new))
        wait_until(lambda: _answers(server, "/api/live"))
        wait_until(lambda: get(server, "/healthz/ready")[0] == 200)
        with server.client() as client:
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        wait_until(lambda: 'smtp_messages_total{code="250"} 1.0' in get(server, "/metrics")[1])


def test_old_mail_goes_with_workers_too(tmp_path: Path) -> None:
    new = tmp_path / "Maildir" / "new"
    new.mkdir(parents=True)
    for number in range(5):
        (new / f"{1_700_000_000 + number}.x").write_text(MESSAGE)
    with SmtpBlinker(tmp_path, *PAGE, "--keep-messages", "2") as server:
        server.wait_for_log("3 messages were too old or too many")
        assert get(server, "/api/live")["keep"] == {"days": None, "messages": 2, "size": None}
        assert "latest is kept: 2 messages." in get(server, "/")[1]


def change(server: SmtpBlinker, method: str, words: str = "") -> Any:
    url = f"http://127.0.0.1:{server.http_port}/api/faults{words}"
    with urlopen(Request(url, method=method)) as answer:
        return json.load(answer)


def answers(server: SmtpBlinker, times: int) -> list[int]:
    """The codes to RCPT of so many clients at once, which both workers serve."""
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(times)]
        for client in clients:
            client.ehlo()
            client.mail("you@example.org")
        return sorted(client.rcpt("me@example.com")[0] for client in clients)


def test_faults_strike_in_every_worker_and_so_often_in_all(tmp_path: Path) -> None:
    first = "refuse recipient=me@example.com code=452 times=3"
    with SmtpBlinker(tmp_path, *PAGE, "--faults", "--fault", first) as server:
        assert answers(server, 12) == [250] * 9 + [452] * 3
        assert get(server, "/api/faults")["faults"] == []
        fault = change(server, "POST", "?do=drop&at=MAIL&sender=someone@else.example")
        assert fault["id"] == 2
        change(server, "POST", "?do=refuse&code=451&text=Later&recipient=@example.com")
        assert answers(server, 12) == [451] * 12
        # The page's process begins again, and they are still there.
        page_process(server).kill()
        server.wait_for_log("another one begins")
        wait_until(lambda: _answers(server, "/api/faults"))
        assert [each["id"] for each in get(server, "/api/faults")["faults"]] == [2, 3]
        assert change(server, "DELETE", "/3") == {"deleted": 1}
        assert change(server, "DELETE") == {"deleted": 1}
        assert answers(server, 4) == [250] * 4


def test_faults_from_the_beginning_need_no_page(tmp_path: Path) -> None:
    options = ("-l", "127.0.0.1:0", "--http", "off", "--workers", "2")
    with SmtpBlinker(tmp_path, *options, "--fault", "refuse code=451 times=2") as server:
        assert answers(server, 8) == [250] * 6 + [451] * 2


def test_an_address_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *PAGE) as server:
        (tmp_path / "other").mkdir()
        address = f"127.0.0.1:{server.http_port}"
        options = ("-l", "127.0.0.1:0", "--http", address, "--workers", "2")
        assert f"{address} is in use" in refused(tmp_path / "other", *options)
