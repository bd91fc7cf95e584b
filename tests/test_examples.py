"""The examples, run as they stand: each in a process of its own, talked to by smtplib."""

from __future__ import annotations

import contextlib
import json
import signal
import smtplib
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import SECONDS, Program, wait_until

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
#: Seconds to wait for what must happen. Only a failing test waits so long.


class Example(Program):
    """A running example and what it has printed so far."""

    def __init__(self, name: Any, port: Any) -> None:
        super().__init__(EXAMPLES / name, port)
        self.port = port

    def client(self) -> Any:
        """A client that has said EHLO; waits until the example listens."""

        def connected() -> smtplib.SMTP | None:
            assert self.process.poll() is None, self.output
            with contextlib.suppress(ConnectionRefusedError):
                return smtplib.SMTP("127.0.0.1", self.port, "client.example", SECONDS)
            return None

        smtp = wait_until(connected)
        assert smtp.ehlo()[0] == 250
        return smtp

    def send(
        self, content: bytes = b"Subject: Hi\r\n\r\nHello\r\n", to: str = "ann@example.com"
    ) -> None:
        with self.client() as smtp:
            smtp.sendmail("bob@example.net", [to], content)


@contextlib.contextmanager
def taken_port() -> Iterator[Any]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Any]:
    """A function that starts an example by its file name, on a free port."""
    started = []

    def start(name: Any, port: Any = None) -> Any:
        if port is None:
            with taken_port() as port:
                pass
        source = (EXAMPLES / name).read_text()
        if "sys.argv" not in source:  # it has its port written in it
            name = tmp_path / name
            name.write_text(source.replace("2525", str(port)))
        started.append(Example(name, port))
        return started[-1]

    yield start
    for example in started:
        example.end()


def test_every_example_is_run_by_a_test() -> None:
    here = Path(__file__)
    tests = here.read_text()
    under_gunicorn = here.with_name("test_gunicorn.py").read_text()
    with_engines = (here.parent / "interop/test_queue_examples.py").read_text()
    for path in EXAMPLES.glob("*.py"):
        elsewhere = under_gunicorn + with_engines
        assert f'run("{path.name}"' in tests or path.stem in elsewhere, path.name


def test_first_program_takes_mail_for_its_domain_only(run: Any) -> None:
    example = run("first_program.py")
    with example.client() as smtp:
        smtp.sendmail("bob@example.net", ["ann@example.com"], b"Hello\r\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
            smtp.sendmail("bob@example.net", ["ann@example.org"], b"Hello\r\n")
    assert refused.value.recipients == {"ann@example.org": (550, b"5.7.1 relaying denied")}
    example.wait_for("calls itself client.example")
    example.wait_for("] 7 bytes")


def test_connection_logger_names_the_client(run: Any) -> None:
    example = run("connection_logger.py")
    with example.client() as smtp:
        port = smtp.sock.getsockname()[1]
        example.wait_for(f"Connection from 127.0.0.1:{port}")
        example.wait_for("Client hostname: ")
        example.wait_for("Identified as: client.example")
    assert len({line.split("]")[0] for line in example.lines}) == 1, "one id for one connection"


def test_connection_tracking_forgets_those_that_left(run: Any) -> None:
    example = run("connection_tracking.py")
    with example.client():
        example.wait_for("opened, active connections: 1")
        with example.client():
            example.wait_for("opened, active connections: 2")
        example.wait_for("closed (quit)", times=1)
        example.wait_for("active connections: 1", times=2)
        # A client without HELO has no entry, and its end takes nobody else's.
        socket.create_connection(("127.0.0.1", example.port), SECONDS).close()
    example.wait_for("active connections: 0")
    assert example.output.count("closed") == 2


def test_metrics_collection_reports_at_its_end(run: Any) -> None:
    example = run("metrics_collection.py")
    example.send()
    example.send()
    example.signal(signal.SIGTERM)
    assert example.exit_status() == 0
    assert "Metrics: {'connections': 2, 'messages': 2, 'octets': 44" in example.output
    assert "connections by address: {'127.0.0.1': 2}" in example.output
    assert "messages by reply code: {250: 2}" in example.output
    assert "errors by code: {}" in example.output


def test_basic_errors_gives_up_when_the_port_is_taken(run: Any) -> None:
    with taken_port() as port:
        example = run("basic_errors.py", port)
        assert example.exit_status() == 1
    assert example.lines[0].startswith("SMTP Server Error: ")
    assert example.lines[1:] == ["Port already in use!"]


def test_basic_errors_serves_where_the_port_is_free(run: Any) -> None:
    run("basic_errors.py").send()


def test_detailed_errors_shows_what_is_known_and_the_mail_goes_on(run: Any) -> None:
    example = run("detailed_errors.py")
    with example.client() as smtp:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            smtp.sendmail("bob@example.net", ["ann@example.com"], b"no header\r\n")
        assert refused.value.smtp_code == 451
        assert smtp.sendmail("bob@example.net", ["ann@example.com"], b"Subject: A\r\n\r\n") == {}
    example.wait_for("AttributeError: ")
    (report,) = [line for line in example.lines if line.startswith("SMTP Error: ")]
    details = json.loads(report.removeprefix("SMTP Error: "))
    assert details["code"] == "HookError"
    assert details["remote_address"] == "127.0.0.1"
    assert details["response_code"] == 451
    assert details["message"] == "'NoneType' object has no attribute 'lower'"
    assert details["id"]
    assert details["meta"]
    assert "in store" in example.output


def test_error_categories_tells_a_lost_client_from_a_broken_program(run: Any) -> None:
    example = run("error_categories.py")
    with example.client() as smtp:
        smtp.mail("bob@example.net")
        assert smtp.rcpt("broken@example.com")[0] == 451
        example.wait_for("[program] HookError: LookupError(")
        assert smtp.rcpt("ann@example.com")[0] == 250
        assert smtp.docmd("DATA")[0] == 354
        smtp.send(b"half a mess")
        # A zero linger time makes close send a reset: the client is gone amid its message.
        smtp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        smtp.close()
    example.wait_for("[network] ECONNRESET: ")
    example.wait_for("So far: {'program': 1, 'network': 1}")


def test_graceful_shutdown_lets_a_message_end_first(run: Any) -> None:
    example = run("graceful_shutdown.py")
    with example.client() as idle, example.client() as busy:
        busy.mail("bob@example.net")
        busy.rcpt("ann@example.com")
        assert busy.docmd("DATA")[0] == 354
        example.signal(signal.SIGTERM)
        assert idle.getreply()[0] == 421
        assert "SMTP server has been shut down" not in example.output
        busy.send(b"Hello\r\n.\r\n")
        assert busy.getreply()[0] == 250
        assert busy.getreply()[0] == 421
    assert example.exit_status() == 0
    assert example.lines == [
        "Received SIGTERM, closing server...",
        "SMTP server has been shut down",
        "Database disconnected",
        "All resources cleaned up",
    ]


def test_restart_on_close_listens_again(run: Any) -> None:
    example = run("restart_on_close.py")
    for n in range(1, 3):
        example.wait_for("Listening on port", times=n)
        example.send()
        example.signal(signal.SIGHUP)
        example.wait_for("Server closed, restarting in 1 second...", times=n)
    example.wait_for("Listening on port", times=3)
    example.send()
    example.signal(signal.SIGTERM)
    assert example.exit_status() == 0
    assert example.output.count("restarting") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_restart_on_close_ends_amid_a_restart(run: Any, number: signal.Signals) -> None:
    example = run("restart_on_close.py")
    example.wait_for("Listening on port")
    example.signal(signal.SIGHUP)
    example.wait_for("restarting in 1 second...")
    example.signal(number)
    assert example.exit_status() == 0
    assert "Traceback" not in example.output


def test_complete_example_tells_the_whole_story(run: Any) -> None:
    example = run("complete.py")
    example.wait_for(f"SMTP server listening on port {example.port}")
    with example.client() as smtp:
        example.wait_for("Active: 1, Total: 1")
        assert smtp.docmd("MAIL FROM:<bob@example.net>")[0] == 530
        assert smtp.login("bob", "secret")[0] == 235
        example.wait_for(" is bob")
        smtp.mail("bob@example.net")
        smtp.rcpt("ann@example.com")
        code, text = smtp.data(b"Hello\r\n")
        assert (code, text.split()[-2:]) == (250, [b"Message", b"queued"])
    example.wait_for("[DISCONNECT] ")
    example.signal(signal.SIGTERM)
    assert example.exit_status() == 0
    assert "[CONNECT] " in example.output
    assert "secret" not in example.output
    told = [line for line in example.lines if line.startswith(("Shutting", "[CLOSE]", "Final"))]
    assert told == [
        "Shutting down gracefully...",
        "[CLOSE] Server shut down",
        "Final stats - Total connections: 1, Errors: 0",
    ]


def test_complete_example_raises_an_alert_when_errors_pile_up(run: Any) -> None:
    example = run("complete.py")
    for _ in range(101):
        with example.client() as smtp:
            smtp.login("bob", "secret")
            smtp.mail("bob@example.net")
            smtp.rcpt("ann@example.com")
            assert smtp.docmd("DATA")[0] == 354
            smtp.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            smtp.close()
    example.wait_for("[ERROR] 127.0.0.1: ", times=101)
    example.wait_for("[ALERT] High error rate detected!", times=1)
