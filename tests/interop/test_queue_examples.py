"""The examples that hand mail to a queue and take it out, as they stand, with real engines."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import SECONDS, Program, free_port, missing

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(stack: ExitStack) -> Callable[..., Program]:
    def start(*command: Any, **more: str) -> Program:
        variables = {"PYTHONDONTWRITEBYTECODE": "1", **more}
        return stack.enter_context(Program(*command, folder=EXAMPLES, variables=variables))

    return start


@pytest.fixture
def send(engine: Any, run: Callable[..., Program]) -> Callable[[str], None]:
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
    engine: Any, run: Callable[..., Program], send: Callable[[str], None]
) -> None:
    send("Hi")
    consumer = run("queue_consumer.py", engine.url)
    consumer.wait_for("bob@example.net to ann@example.com, eve@example.com: Hi")
    assert consumer.terminate() == 0


def test_queue_celery_runs_a_task_for_each_message(
    engine: Any, run: Callable[..., Program], send: Callable[[str], None]
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
    assert consumer.terminate() == 0


def test_queue_django_saves_each_message_once(
    engine: Any, run: Callable[..., Program], send: Callable[[str], None], tmp_path: Path
) -> None:
    try:
        import django  # noqa: F401
    except ImportError:
        missing("Django", "Django (pip)")
    send("one")
    consumer = run("queue_django.py", engine.url, tmp_path / "mail.sqlite3")
    consumer.wait_for("saved 1")
    assert consumer.terminate() == 0
    # One that doesn't remember what the first has handled.
    send("one")
    other = run("queue_django.py", engine.url, tmp_path / "mail.sqlite3")
    other.wait_for("known already")
    send("two")
    other.wait_for("saved 2")
