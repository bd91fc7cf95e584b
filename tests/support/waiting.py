"""Waiting for facts, SECONDS at most; nothing here sleeps so that something else comes first."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import gevent

#: How long a test waits for what must happen. Only a failing test ever waits this long.
SECONDS = 30.0
#: How long it waits for what only makes it a better test.
PATIENCE = 0.2
#: How long it waits for what must not happen.
MOMENT = 0.15


def wait_until(
    fact: Callable[[], Any],
    what: str = "",
    seconds: float = SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Any:
    """*fact*'s value as soon as it is true; AssertionError when it isn't within *seconds*."""
    deadline = time.monotonic() + seconds
    while not (value := fact()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or fact}"
        sleep(0.002)
    return value


def poll(fact: Callable[[], Any]) -> Any:
    """The same where the server runs on the test's own hub."""
    return wait_until(fact, sleep=gevent.sleep)


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listened a moment ago.

    None that the system gives for port 0: another test's server would have it before ours.
    """
    while True:
        port = random.randrange(20000, 32000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
