"""Ctrl-C in a program that serves: an end without a traceback."""

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
    """Ctrl-C makes `serve_forever` raise this.

    ``except KeyboardInterrupt`` catches it. A program that doesn't catch it ends with the status
    that it has, as with every SystemExit, and Python prints nothing.
    """


@contextmanager
def quiet_ctrl_c() -> Iterator[None]:
    """A KeyboardInterrupt anywhere ends the block as an `Interrupt` of status 130.

    Python raises it in the greenlet that runs just then. gevent brings it from there, or from the
    hub, to the main greenlet, and prints its traceback on the way; within the block it doesn't.
    At an interactive prompt, which SystemExit would end, it stays what it is.
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
        # Since CPython 3.14 a KeyboardInterrupt goes before SystemExit: the process ends by SIGINT,
        # which a shell shows as 130 too, after Python has shown the exception.
        sys.excepthook = lambda kind, exc, trace: (
            None if isinstance(exc, Interrupt) else hook(kind, exc, trace)
        )
        raise Interrupt(128 + SIGINT) from None  # as a shell has it for SIGINT
    finally:
        hub.NOT_ERROR = not_errors


@contextmanager
def _woken_by_signals() -> Iterator[None]:
    """Every signal wakes the hub within the block.

    Python runs a handler between two instructions of its own. A signal that strikes after the last
    of them, just before the hub waits for the next event, would go unheard until that event comes:
    with an idle server, not before the next client. So Python writes an octet that the hub reads.
    """
    if threading.current_thread() is not threading.main_thread():  # it gets the signals
        yield
        return
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    watcher = get_hub().loop.io(reader.fileno(), 1, ref=False)  # 1 means readable
    watcher.start(_drain, reader)
    program_s = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if program_s != -1:
        signal.set_wakeup_fd(program_s)  # it has an event loop of its own, which reads it
    try:
        yield
    finally:
        if program_s == -1:
            signal.set_wakeup_fd(-1)
        watcher.stop()
        watcher.close()
        reader.close()
        writer.close()


def _drain(reader: socket.socket) -> None:
    with suppress(BlockingIOError):
        reader.recv(512)
