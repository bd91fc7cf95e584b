"""Lets Ctrl-C end a program that serves, without a traceback."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGINT

from gevent import get_hub


class Interrupt(SystemExit, KeyboardInterrupt):
    """The exception that `serve_forever` raises after Ctrl-C.

    ``except KeyboardInterrupt`` catches it. A program that doesn't catch it ends with its exit
    status, as with every SystemExit, and Python prints no traceback.
    """


@contextmanager
def quiet_ctrl_c() -> Iterator[None]:
    """Turn a KeyboardInterrupt in the block into an `Interrupt` with exit status 130.

    Python raises KeyboardInterrupt in the greenlet that is running. gevent passes it on, from
    there or from the hub, to the main greenlet. It also prints the traceback, but not within this
    block. At an interactive prompt, which SystemExit would end, KeyboardInterrupt stays as it is.
    """
    hub = get_hub()
    not_errors = hub.NOT_ERROR
    hub.NOT_ERROR = (*not_errors, KeyboardInterrupt)
    try:
        with _woken_by_signals():
            yield
    except KeyboardInterrupt:
        if hasattr(sys, "ps1"):
            raise
        hook = sys.excepthook
        # Since CPython 3.14 KeyboardInterrupt takes precedence over SystemExit: Python shows the
        # exception and ends the process by SIGINT, which a shell reports as 130 too.
        sys.excepthook = lambda kind, exc, trace: (
            None if isinstance(exc, Interrupt) else hook(kind, exc, trace)
        )
        raise Interrupt(128 + SIGINT) from None  # the status that a shell reports for SIGINT
    finally:
        hub.NOT_ERROR = not_errors


@contextmanager
def _woken_by_signals() -> Iterator[None]:
    """Within the block, every signal wakes the hub.

    Python runs signal handlers between two bytecode instructions. If a signal arrives just before
    the hub waits for the next event, its handler would run only after that event. With an idle
    server that may be the next client. So Python writes an octet to a socket that the hub reads.
    """
    # Only the main thread runs signal handlers and may set the wakeup descriptor.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    watcher = get_hub().loop.io(reader.fileno(), 1, ref=False)  # 1 means readable
    watcher.start(_drain, reader)
    earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if earlier != -1:
        signal.set_wakeup_fd(earlier)  # the program has an event loop of its own that reads it
    try:
        yield
    finally:
        if earlier == -1:
            signal.set_wakeup_fd(-1)
        watcher.stop()
        watcher.close()
        reader.close()
        writer.close()


def _drain(reader: socket.socket) -> None:
    with suppress(BlockingIOError):
        reader.recv(512)
