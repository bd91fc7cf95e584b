"""Holds back the process signals that come to a worker before it can handle them."""

from __future__ import annotations

import os
from signal import (
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGUSR1,
    pthread_sigmask,
)
from typing import Final

#: What gunicorn's arbiter sends to its workers, except SIGKILL, and SIGABRT for one that hangs.
_HELD: Final = frozenset({SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1})
#: Whether the next fork of this process makes a worker.
_is_worker_next = False


def hold_in_next_child() -> None:
    """Hold signals back in the process that the next `os.fork` makes, until it calls `release`.

    A new process has the handlers of the old one, which only note the signal for the old one's
    main loop. So a SIGTERM that came before the worker had its own handlers had no effect: the
    arbiter waited for graceful_timeout, and then killed the worker.
    """
    global _is_worker_next
    _is_worker_next = True


def release() -> None:
    """Let signals through again; those that were held back come now."""
    pthread_sigmask(SIG_UNBLOCK, _HELD)


def _before_fork() -> None:
    # Python's fork forgets the signals that have come, but not those that the kernel holds back.
    if _is_worker_next:
        pthread_sigmask(SIG_BLOCK, _HELD)


def _after_fork_in_parent() -> None:
    global _is_worker_next
    if _is_worker_next:
        _is_worker_next = False
        release()


def _after_fork_in_child() -> None:
    global _is_worker_next
    _is_worker_next = False


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
