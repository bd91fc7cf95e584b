"""Ctrl-C in a program that serves: an end without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from signal import SIGINT

from gevent import get_hub


class Interrupt(SystemExit, KeyboardInterrupt):
    """What Ctrl-C raises out of `serve_forever`.

    ``except KeyboardInterrupt`` catches it. A program that doesn't catch it ends with the status
    that it has, as with every SystemExit, and Python prints nothing.
    """


@contextmanager
def quiet_ctrl_c() -> Iterator[None]:
    """A KeyboardInterrupt ends the block as an `Interrupt` of status 130, wherever it strikes.

    Python raises it in the greenlet that runs just then. gevent brings it from there, or from the
    hub, to the main greenlet, and prints its traceback on the way; within the block it doesn't.
    At an interactive prompt, which SystemExit would end, it stays what it is.
    """
    hub = get_hub()
    not_errors = hub.NOT_ERROR
    hub.NOT_ERROR = (*not_errors, KeyboardInterrupt)
    try:
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
