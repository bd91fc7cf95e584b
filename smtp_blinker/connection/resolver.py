"""Names by reverse DNS, looked up while the session runs."""

from __future__ import annotations

import _socket  # what gevent's resolver calls, and monkey patching doesn't change
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent import get_hub
from gevent.event import AsyncResult
from gevent.resolver.thread import Resolver as ThreadResolver

from ..pools import LOOKUPS
from ..smtp.xclient import is_host_name

#: Seconds to wait for a name.
LOOKUP_SECONDS: Final = 1.5
#: Concurrent lookups of a server. While all of them hang (a dead DNS server), new clients are
#: served under their addresses.
MAX_LOOKUPS: Final = LOOKUPS.most
#: The same for a program's own resolver.
MAX_CUSTOM_LOOKUPS: Final = 256


class ReverseResolver:
    """Looks up names with *resolver*.reverse(ip), which may block; None means gevent's resolver.

    If gevent's resolver uses threads, which is the default, this class uses its own threads
    instead, so that the program's look-ups don't wait for it.
    """

    def __init__(self, resolver: Any = None) -> None:
        self._resolver = resolver
        #: The greenlets with a look-up in progress.
        self._under_way: set[Any] = set()
        self._most = MAX_LOOKUPS if resolver is None else MAX_CUSTOM_LOOKUPS

    def start(self, address: str) -> Callable[[], str]:
        """Start to look up *address*; returns a callable that waits for the name ("" for none).

        The callable returns within `LOOKUP_SECONDS` after this call, and raises nothing.
        """
        if len(self._under_way) >= self._most or (self._resolver is None and LOOKUPS.all_busy):
            return lambda: ""
        result: AsyncResult[str] = AsyncResult()
        timer = get_hub().loop.timer(LOOKUP_SECONDS)

        def give_up() -> None:
            timer.stop()
            timer.close()
            if not result.ready():
                result.set("")

        timer.start(give_up)
        self._under_way.add(gevent.spawn_raw(self._look_up, address, result))
        return lambda: result.get() or ""

    def stop(self) -> None:
        """End the running lookups: no connection needs them any more."""
        for greenlet in list(self._under_way):
            gevent.kill(greenlet)
        if self._under_way:
            gevent.sleep(0)
            self._under_way.clear()  # a greenlet that hadn't begun can't report its end

    def _look_up(self, address: str, result: AsyncResult[str]) -> None:
        name = ""
        try:
            name = self._name(address)
        except KeyboardInterrupt:
            raise
        except BaseException:
            # A client without a name is not an error. SystemExit would end the process here,
            # because the hub is the parent of this greenlet.
            pass
        finally:
            self._under_way.discard(gevent.getcurrent())
            if not result.ready():
                result.set(name)

    def _name(self, address: str) -> str:
        if self._resolver is not None:
            names = list(self._resolver.reverse(address))
            name = str(names[0]) if names else ""
        else:
            name = _gethostbyaddr(address)[0]
        # DNS labels may hold any octet, and the owner of the address chooses them.
        return name.lower().rstrip(".") if is_host_name(name) else ""


def _gethostbyaddr(address: str) -> tuple[str, list[str], list[str]]:
    resolver = get_hub().resolver
    if isinstance(resolver, ThreadResolver):
        return LOOKUPS.run(_socket.gethostbyaddr, address)
    found: tuple[str, list[str], list[str]] = resolver.gethostbyaddr(address)
    return found
