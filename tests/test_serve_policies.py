"""The options of smtp-blinker that limit and judge clients."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from interop.engines import RedisInMemory
from interop.scanners import open_folder, start_clamd, start_rspamd
from support import BlockingClient, auth_plain, free_port, wait_until
from support.cli import ANYWHERE, SmtpBlinker, adduser, run

PROXY = ("--trusted-proxy", "127.0.0.0/8")


def introduced(server: SmtpBlinker, address: str) -> BlockingClient:
    """A client that a proxy introduces as *address*."""
    client = BlockingClient(("127.0.0.1", server.port), greet=False)
    family, there = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
    client.send(f"PROXY {family} {address} {there} 1024 25\r\n".encode())
    client.greeting = client.reply()
    return client


def say(server: SmtpBlinker, address: str, *commands: str) -> str:
    """The last reply to EHLO and *commands*."""
    with introduced(server, address) as client:
        said = client.cmd("EHLO me")
        for command in commands:
            said = client.cmd(command)
        return said


MAIL = "MAIL FROM:<a@example.org>"
RCPT = "RCPT TO:<b@example.com>"


def test_rates_of_messages_recipients_and_connections(tmp_path: Path) -> None:
    rates = ("--rate", "1/hour", "--rate", "recipients=2/hour", "--rate", "connections=4/hour")
    with SmtpBlinker(tmp_path, *ANYWHERE, *PROXY, *rates) as server:
        assert say(server, "192.0.2.1", MAIL, RCPT, RCPT).startswith("250")
        assert say(server, "192.0.2.1", MAIL).startswith("451 4.7.0 Too many messages")
        assert say(server, "2001:db8::1", MAIL, RCPT, RCPT, RCPT).startswith("452 4.7.0")
        assert say(server, "2001:db8::2", MAIL).startswith("451 4.7.0")  # the same /64
        assert say(server, "127.0.0.1", MAIL, "RSET", MAIL).startswith("250")
        for _ in range(2):
            say(server, "192.0.2.1")
        with introduced(server, "192.0.2.1") as client:
            assert client.greeting.startswith("421 4.7.0 Too many connections")


def test_a_locked_account(tmp_path: Path) -> None:
    adduser(tmp_path, "ann", "sesame")
    options = ("--users", "users", "--max-auth-failures-per-account", "1")

    with SmtpBlinker(tmp_path, *ANYWHERE, *PROXY, *options) as server:
        assert say(server, "192.0.2.1", auth_plain("ann", "open")).startswith("535")
        assert say(server, "192.0.2.2", auth_plain("ann", "sesame")).startswith("454 4.7.0")


def test_greylisting_comes_after_the_refusal_to_relay(tmp_path: Path) -> None:
    options = ("--greylist", "--domain", "example.com")
    with SmtpBlinker(tmp_path, *ANYWHERE, *PROXY, *options) as server:
        assert say(server, "192.0.2.1", MAIL, RCPT).startswith("451 4.7.1 Greylisted")
        assert say(server, "192.0.2.1", MAIL, "RCPT TO:<b@else.where>").startswith("550 5.7.1")
        assert say(server, "127.0.0.1", MAIL, RCPT).startswith("250")


@pytest.mark.parametrize("is_enforced", [False, True])
def test_sender_authentication(tmp_path: Path, is_enforced: bool) -> None:
    pytest.importorskip("cryptography")
    pytest.importorskip("dns")
    options = ["--sender-auth", *(["--enforce-dmarc"] * is_enforced)]
    # An address literal and a message without From: nothing to look up.
    with (
        SmtpBlinker(tmp_path, *ANYWHERE, *PROXY, "--name", "mx.test", *options) as server,
        introduced(server, "192.0.2.1") as client,
    ):
        for command in ("EHLO [192.0.2.1]", "MAIL FROM:<>", RCPT, "DATA"):
            client.cmd(command)
        said = client.cmd("Authentication-Results: mx.test; spf=pass\r\n\r\nx\r\n.")
    if is_enforced:
        assert said.startswith("550 5.7.1 DMARC finds no valid author")
    else:
        assert said.startswith("250")
        [stored] = (tmp_path / "Maildir" / "new").iterdir()
        text = stored.read_text()
        assert "Authentication-Results: mx.test; spf=none" in text
        assert "spf=pass" not in text


def test_scanners_judge_mail(tmp_path: Path) -> None:
    folders = [open_folder(), open_folder()]
    ports = [free_port(), free_port()]
    scanners = []

    def data(address: str, *lines: str) -> str:
        with introduced(server, address) as client:
            for command in ("EHLO me", MAIL, RCPT, "DATA"):
                client.cmd(command)
            return client.cmd("\r\n".join((*lines, ".")))

    try:
        scanners = [start_rspamd(folders[0], ports[0]), start_clamd(folders[1], ports[1])]
        options = (
            *("--rspamd", f"http://127.0.0.1:{ports[0]}"),
            *("--clamav", f"tcp://127.0.0.1:{ports[1]}"),
        )
        with SmtpBlinker(tmp_path, *ANYWHERE, *PROXY, *options) as server:
            assert data("192.0.2.1", "X-Wish: reject", "", "x").startswith("550 5.7.1 As you wish")
            virus = ("", "SMTP-BLINKER-TEST-VIRUS")
            said = "550 5.7.1 The message holds a virus: Test.Marker"
            assert data("192.0.2.1", *virus).startswith(said)
            assert data("127.0.0.1", *virus).startswith("250")
            assert data("192.0.2.1", "X-Wish: add header", "", "x").startswith("250")
            marks = [one["X-Spam"] for one in server.messages()]
            assert sorted(marks, key=str) == [None, "Yes"]
    finally:
        for scanner in scanners:
            scanner.kill()
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def test_two_servers_count_together_in_redis(tmp_path: Path, short_folder: Path) -> None:
    redis = RedisInMemory(short_folder)
    redis.start()
    options = (*ANYWHERE, *PROXY, "--rate", "2/hour", "--max-clients-per-ip", "1")
    counters = ("--counters", redis.url)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    try:
        with (
            SmtpBlinker(folders[0], *options, *counters) as one,
            SmtpBlinker(folders[1], *options, *counters, "--http", "off") as two,
        ):
            # What Redis doesn't answer within 50 ms each counts alone: on a busy machine not each
            # connection and not each message is known to the other, but soon one is.
            def is_one_connection() -> bool:
                with introduced(one, "192.0.2.9") as first, introduced(two, "192.0.2.9") as second:
                    return first.greeting[:3] == "220" and second.greeting[:9] == "421 4.7.0"

            wait_until(is_one_connection)

            replies = []

            def is_refused(server: SmtpBlinker) -> bool:
                with introduced(server, "192.0.2.3") as client:
                    if client.greeting.startswith("421"):
                        return False  # the connection of before is just ending
                    client.cmd("EHLO me")
                    replies.append(client.cmd(MAIL)[:3])
                    return replies[-1] == "451"

            wait_until(lambda: is_refused(one))
            wait_until(lambda: is_refused(two))
            if not any("CountersAway" in each.log.read_text() for each in (one, two)):
                assert replies == ["250", "250", "451", "451"]
            assert say(two, "192.0.2.2", MAIL).startswith("250")
            redis.kill()
            say(one, "192.0.2.4", MAIL)
            one.wait_for_log("CountersAway")
    finally:
        redis.kill()


@pytest.fixture
def short_folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = Path(tempfile.mkdtemp(prefix="blinker-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--rate", "5"), 'a rate is like "100/minute"'),
        (("--rate", "mails=5/day"), "mails is not one of connections, messages, recipients"),
        (("--max-auth-failures-per-account", "3"), "no effect without --users"),
        (("--counters", "redis://localhost"), "--counters has nothing to count"),
        (("--counters", "http://localhost", "--greylist"), "--counters: a Redis URL looks like"),
        (("--enforce-dmarc",), "--enforce-dmarc has no effect without --sender-auth"),
        (("--sender-auth", "--name", "b\u00fc cher"), "--name"),
        (("--dnsbl", "localhost"), "--dnsbl: a zone is a name like"),
        (("--rspamd", "localhost:11333"), "--rspamd: the URL of rspamd is http://HOST:11333"),
        (("--clamav", "localhost"), "--clamav: the address of clamd is tcp://HOST:3310"),
    ],
)
def test_an_option_that_can_not_be_used_is_one_line(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    ended = run(tmp_path, *ANYWHERE, *options)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) <= 4
