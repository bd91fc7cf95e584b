"""Tests that freeze Python's clocks: the server for tests, and any server, go on as ever."""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from freezegun import freeze_time
from support import SECONDS, BlockingClient, serve, wait_until

from smtp_blinker.testing import SMTPDFix, SMTPTestServer

pytest_plugins = ["pytester"]

DATES = ["1970-01-01", "2020-02-29", "2099-12-31"]
MESSAGE = "Subject: hello\r\n\r\nText\r\n"


def now() -> float:
    """Seconds of the one clock that freezegun doesn't freeze."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def seconds(function: Callable[[], object]) -> float:
    began = now()
    function()
    return now() - began


@pytest.fixture(params=DATES)
def date(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[SMTPTestServer, SMTPDFix])  # type: ignore[list-item]
def server(request: pytest.FixtureRequest) -> Iterator[SMTPTestServer]:
    with request.param() as server:
        yield server


def connect(server: SMTPTestServer) -> smtplib.SMTP:
    return smtplib.SMTP(server.host, server.port, "client.example", SECONDS)


def connect_to(served: Any) -> smtplib.SMTP:
    host, port = served.address[:2]
    return smtplib.SMTP(host, port, timeout=SECONDS)


def send(client: smtplib.SMTP) -> None:
    client.sendmail("a@example.org", ["b@example.com"], MESSAGE)


def begin_a_message(client: smtplib.SMTP) -> None:
    client.ehlo()
    client.mail("a@example.org")
    client.rcpt("b@example.com")
    assert client.docmd("DATA")[0] == 354
    client.send(b"Subject: begun\r\n")


def end_it(client: smtplib.SMTP) -> None:
    client.send(b"\r\nText\r\n.\r\n")
    assert client.getreply()[0] == 250


def test_wait_for_ends_after_its_time(server: SMTPTestServer, date: str) -> None:
    def wait() -> None:
        with pytest.raises(TimeoutError, match="0 of 1 messages"):
            server.wait_for(1, timeout=0.2)

    with freeze_time(date):
        assert 0.19 < seconds(wait) < SECONDS


@pytest.mark.parametrize("timeout", [0, -1, 0.0])
def test_wait_for_may_be_a_look(server: SMTPTestServer, timeout: float) -> None:
    with pytest.raises(TimeoutError):
        server.wait_for(1, timeout)
    with connect(server) as client:
        send(client)
    assert len(server.wait_for(1, timeout)) == 1


def test_wait_for_may_wait_for_ever(server: SMTPTestServer) -> None:
    def late() -> None:
        with connect(server) as client:
            send(client)

    with freeze_time():
        thread = threading.Timer(0.05, late)
        thread.start()
        assert len(server.wait_for(1, float("inf"))) == 1
    thread.join()


def test_messages_come_while_the_clock_stands_still(server: SMTPTestServer, date: str) -> None:
    with freeze_time(date), connect(server) as client:
        send(client)
        assert len(server.wait_for(1)) == 1


def test_a_clock_that_jumps_ends_no_session(server: SMTPTestServer, date: str) -> None:
    with connect(server) as before, connect(server) as amid:
        begin_a_message(amid)
        with freeze_time(date) as frozen, connect(server) as inside, connect(server) as across:
            end_it(amid)
            begin_a_message(across)
            for client in (before, inside):
                send(client)
            frozen.move_to("2199-01-01")
            send(inside)
            frozen.move_to("1970-01-02")
            end_it(across)
            for client in (before, inside):
                send(client)
        with connect(server) as after:
            send(after)
        send(before)
    assert len(server.messages) == 9


def test_reset_and_stop_end(date: str) -> None:
    with freeze_time(date), SMTPTestServer() as server:
        client, amid = connect(server), connect(server)
        begin_a_message(amid)
        assert seconds(server.reset) < SECONDS
        assert server.messages == []
        with pytest.raises(smtplib.SMTPServerDisconnected):
            send(client)
        with connect(server) as again:
            send(again)
        client.close()
        amid.close()


def test_tls_is_served_at_any_date(date: str) -> None:
    with freeze_time(date), SMTPTestServer() as server:
        server.use_starttls()
        with connect(server) as client:
            client.starttls(context=server.client_context())
            send(client)
        assert len(server.messages) == 1


def test_a_server_stops_after_its_time(date: str) -> None:
    with freeze_time(date), serve(close_timeout=0.2) as served:
        client = smtplib.SMTP("127.0.0.1", served.port, timeout=SECONDS)
        begin_a_message(client)
        assert 0.19 < seconds(lambda: served.start_to_stop().join(SECONDS)) < SECONDS
        assert not served.server.connections
        client.close()


EHLO = b"EHLO client.example\r\n"
RCPT = EHLO + b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n"


@pytest.mark.parametrize(
    ("sent", "options", "last"),
    [
        (EHLO, {"socket_timeout": 0.2}, "421 4.4.2"),
        (EHLO, {"session_timeout": 0.2}, "421 4.4.2"),
        (EHLO + b"NOOP\n", {}, "500 5.5.2"),
        (RCPT + b"DATA\r\nx", {"data_timeout": 0.2}, "421 4.4.2"),
        (RCPT + b"BDAT 9\r\nx", {"data_timeout": 0.2}, "421 4.4.2"),
        (RCPT + b"BDAT 1\r\nx", {"socket_timeout": 0.2}, "421 4.4.2"),
    ],
)
def test_every_deadline_comes(sent: bytes, options: dict[str, Any], last: str, date: str) -> None:
    with (
        freeze_time(date),
        serve(**options) as served,
        BlockingClient(served.address, greet=False) as client,
    ):
        client.send(sent)
        assert client.rest_of_replies()[-1].status == last


def test_a_client_that_keeps_quiet_before_the_greeting_is_greeted(date: str) -> None:
    with freeze_time(date), serve(greeting_delay=0.1) as served, connect_to(served) as client:
        send(client)


def test_a_peer_that_sends_no_proxy_header_is_closed(date: str) -> None:
    with freeze_time(date), serve(use_proxy=True, proxy_timeout=0.2) as served:
        assert BlockingClient(served.address, greet=False).rest() == b""


def test_a_hook_that_swallows_the_first_kill_is_ended(date: str) -> None:
    def on_data(stream: Any, session: Any) -> None:
        try:
            gevent.sleep(3600)
        except gevent.GreenletExit:
            gevent.sleep(3600)

    with freeze_time(date), serve(on_data=on_data, close_timeout=0) as served:
        client = smtplib.SMTP("127.0.0.1", served.port, timeout=SECONDS)
        begin_a_message(client)
        wait_until(lambda: served.server.connections)
        served.start_to_stop().join(SECONDS)
        assert not served.server.connections
        client.close()


def test_the_fixture_in_a_session_whose_clock_stands_still(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(
        """
        import smtplib
        import pytest
        from freezegun import freeze_time

        @pytest.fixture(scope="session", autouse=True)
        def frozen():
            with freeze_time("2020-01-01"):
                yield

        @pytest.mark.parametrize("number", range(2))
        def test_one(smtp_server, number):
            with pytest.raises(TimeoutError):
                smtp_server.wait_for(1, timeout=0.1)
            with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
            assert len(smtp_server.wait_for(1)) == 1
        """
    )
    result = pytester.runpytest_subprocess("-p", "smtp_blinker.pytest_plugin", "-W", "error")
    result.assert_outcomes(passed=2)
