"""The examples that hand mail to a queue and take it out, as they stand, with real engines."""

from __future__ import annotations

import signal
import smtplib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .engines import Engine, RabbitMQ, Redis
from .support import LIBRARY, SECONDS, environment, free_port, missing, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module", params=[RabbitMQ, Redis], ids=["rabbitmq", "redis"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    made: Engine = request.param(tmp_path_factory.mktemp("engine"))
    try:
        made.start()
        yield made
    finally:
        made.end()


class Example:
    def __init__(self, *command: Any, **more: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=EXAMPLES,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(PYTHONPATH=LIBRARY, PYTHONDONTWRITEBYTECODE="1", **more),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def wait_for(self, text: str) -> None:
        def found() -> bool:
            assert self.process.poll() is None, self.lines
            return any(text in line for line in self.lines)

        try:
            wait_until(found, text)
        except AssertionError as exc:
            raise AssertionError(self.lines) from exc

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)


@pytest.fixture
def run() -> Iterator[Callable[..., Example]]:
    started: list[Example] = []

    def start(*command: Any, **more: str) -> Example:
        started.append(Example(*command, **more))
        return started[-1]

    yield start
    for example in started:
        example.process.kill()
        example.process.communicate()


@pytest.fixture
def send(engine: Any, run: Callable[..., Example]) -> Callable[[str], None]:
    """Sends a message to queue_server.py."""
    port = free_port()
    server = run("queue_server.py", port, engine.url)
    server.wait_for("listening on")

    def send(subject: str) -> None:
        with smtplib.SMTP("127.0.0.1", port, "client.example", SECONDS) as smtp:
            text = f"Subject: {subject}\n\nHello\n"
            smtp.sendmail("bob@example.net", ["ann@example.com", "eve@example.com"], text)

    return send


def test_queue_consumer_prints_who_sends_what(
    engine: Any, run: Callable[..., Example], send: Callable[[str], None]
) -> None:
    send("Hi")
    consumer = run("queue_consumer.py", engine.url)
    consumer.wait_for("bob@example.net to ann@example.com, eve@example.com: Hi")
    assert consumer.end() == 0


def test_queue_celery_runs_a_task_for_each_message(
    engine: Any, run: Callable[..., Example], send: Callable[[str], None]
) -> None:
    try:
        import celery  # noqa: F401
    except ImportError:
        missing("celery", "celery (pip)")
    broker = {"CELERY_BROKER_URL": engine.url}
    worker = run("-m", "celery", "-A", "queue_celery", "worker", "--pool", "solo", **broker)
    consumer = run("queue_celery.py", engine.url, **broker)
    send("Hi")
    worker.wait_for("task for ")
    assert consumer.end() == 0


def test_queue_django_saves_each_message_once(
    engine: Any, run: Callable[..., Example], send: Callable[[str], None], tmp_path: Path
) -> None:
    try:
        import django  # noqa: F401
    except ImportError:
        missing("Django", "Django (pip)")
    send("one")
    consumer = run("queue_django.py", engine.url, tmp_path / "mail.sqlite3")
    consumer.wait_for("saved 1")
    assert consumer.end() == 0
    # One that doesn't remember what the first has handled.
    send("one")
    other = run("queue_django.py", engine.url, tmp_path / "mail.sqlite3")
    other.wait_for("known already")
    send("two")
    other.wait_for("saved 2")
