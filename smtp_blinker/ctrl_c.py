"""Lets Ctrl-C end a program that serves, without a traceback."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from signal import SIGINT
from typing import Any, Final

from gevent import get_hub

#: Seconds after which an unheard Ctrl-C is raised again.
_AGAIN: Final = 0.5
#: Python's own handler of SIGINT.
_RAISES: Final = signal.default_int_handler


class Interrupt(SystemExit, KeyboardInterrupt):
    """The exception that `serve_forever` raises after Ctrl-C.

    ``except KeyboardInterrupt`` catches it. A program that doesn't catch it ends with its exit
    status, as with every SystemExit, and Python prints no traceback.
    """


class CtrlC:
    """Whether the main greenlet has heard of Ctrl-C, or needn't hear of it any more."""

    def __init__(self) -> None:
        self.is_heard = False

    def listen(self, reader: socket.socket, timer: Any) -> None:
        """Read the numbers of the signals that arrived. The hub calls it."""
        with suppress(BlockingIOError):
            if SIGINT in reader.recv(512) and signal.getsignal(SIGINT) is _RAISES:
                timer.start(self._raise_again)

    def _raise_again(self) -> None:
        if not self.is_heard:
            raise KeyboardInterrupt


@contextmanager
def quiet_ctrl_c() -> Iterator[CtrlC]:
    """Turn a KeyboardInterrupt in the block into an `Interrupt` with exit status 130.

    Python raises KeyboardInterrupt in the greenlet that is running. gevent passes it on, from
    there or from the hub, to the main greenlet. It also prints the traceback, but not within this
    block. At an interactive prompt, which SystemExit would end, KeyboardInterrupt stays as it is.

    Python ignores a KeyboardInterrupt that it raises in a destructor or a weakref callback, and a
    hook may catch one. Then it is raised again, until the block sets `CtrlC.is_heard`.
    """
    ctrl_c = CtrlC()
    hub = get_hub()
    not_errors = hub.NOT_ERROR
    hub.NOT_ERROR = (*not_errors, KeyboardInterrupt)
    try:
        with _woken_by_signals(ctrl_c):
            yield ctrl_c
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
def _woken_by_signals(ctrl_c: CtrlC) -> Iterator[None]:
    """Within the block, every signal wakes the hub, and *ctrl_c* learns of it.

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
    loop = get_hub().loop
    timer = loop.timer(_AGAIN, ref=False)
    watcher = loop.io(reader.fileno(), 1, ref=False)  # 1 means readable
    watcher.start(ctrl_c.listen, reader, timer)
    earlier = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    if earlier != -1:
        signal.set_wakeup_fd(earlier)  # the program has an event loop of its own that reads it
    try:
        yield
    finally:
        if earlier == -1:
            signal.set_wakeup_fd(-1)
        for each in (watcher, timer):
            each.stop()
            each.close()
        reader.close()
        writer.close()
