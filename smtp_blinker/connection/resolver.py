"""Names by reverse DNS, looked up while the session goes on."""

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

#: Seconds that anyone waits for a name.
LOOKUP_SECONDS: Final = 1.5
#: Lookups of a server under way at once; a client that comes while they hang (a dead DNS server) is
#: served under its address.
MAX_LOOKUPS: Final = LOOKUPS.most
#: The same for a program's own resolver.
MAX_CUSTOM_LOOKUPS: Final = 256


class ReverseResolver:
    """*resolver* has ``reverse(ip) -> names``, which may block; None stands for gevent's.

    Where gevent's uses threads, as it does by default, ours are used instead of them: the
    program's own look-ups don't wait for those here.
    """

    def __init__(self, resolver: Any = None) -> None:
        self._resolver = resolver
        #: The greenlets that look something up.
        self._under_way: set[Any] = set()
        self._most = MAX_LOOKUPS if resolver is None else MAX_CUSTOM_LOOKUPS

    def start(self, address: str) -> Callable[[], str]:
        """Begin to look *address* up; the callable waits for the name, "" when there is none.

        The callable returns within `LOOKUP_SECONDS` of this call, and raises nothing.
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
        """End the lookups under way: no connection is left that needs them."""
        for greenlet in list(self._under_way):
            gevent.kill(greenlet)
        if self._under_way:
            gevent.sleep(0)
            self._under_way.clear()  # one that hadn't begun can't say that it ended

    def _look_up(self, address: str, result: AsyncResult[str]) -> None:
        name = ""
        try:
            name = self._name(address)
        except KeyboardInterrupt:
            raise
        except BaseException:
            # A client without a name is not an error. SystemExit would end the process here:
            # below this greenlet there is only the hub.
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
