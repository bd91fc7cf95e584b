"""Letting others have their turn at the hub between two pieces of work."""

from __future__ import annotations

from gevent import get_hub


def let_others_run() -> None:
    """Go on in the next turn of the hub's loop, after all others that are ready.

    gevent.sleep(0) isn't enough: the loop looks at sockets and timers only after fifty callbacks
    (gevent's CALLBACK_CHECK_COUNT), so that fifty pieces of work come before them.
    """
    hub = get_hub()
    timer = hub.loop.timer(0)
    try:
        hub.wait(timer)
    finally:
        timer.close()
