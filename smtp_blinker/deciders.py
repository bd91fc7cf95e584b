"""Several deciders for one event: combined hooks, and policies before the program's own hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


class Policy(Protocol):
    """An object for `SMTPServer.use`, with one or more of these methods:

    ``on_connect(session)``, ``on_secure(session)``, ``on_auth(auth, session)``,
    ``on_mail_from(address, session)``, ``on_rcpt_to(address, session)``,
    ``on_message(content, session)``, ``on_close(session)``, and ``attach(server)``, which `use`
    calls. Every single one is optional, so type checkers accept any object as a policy; `use`
    checks it when it is called.
    """


class AllOf:
    """Several hooks as one callable; see `all_of`."""

    def __init__(self, hooks: tuple[Callable[..., Any], ...]) -> None:
        self.hooks = hooks
        names = (getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks)
        #: The name of the hook in `error` events.
        self.__qualname__ = f"all_of({', '.join(names)})"

    def __call__(self, *args: Any) -> Any:
        result = None
        for hook in self.hooks:
            result = hook(*args)
        return result

    def __repr__(self) -> str:
        return f"<{self.__qualname__}>"


def all_of(*hooks: _Hook) -> _Hook:
    """Combine *hooks* into one hook that calls each of them in order with the same arguments.

    The first one that raises ends the call. The result is that of the last hook; the results of
    the others are ignored. Each is checked as a hook when the combined hook is registered. Raises
    TypeError without any hook, and for an object that isn't callable.
    """
    if not hooks:
        raise TypeError("all_of takes one or more hooks")
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"all_of takes callables, not {hook!r}")
    return cast("_Hook", AllOf(hooks))


@dataclass(frozen=True, slots=True)
class Stage:
    """The deciders of one stage: first the policies' methods, then the program's hook or None.

    The option `hook_timeout` applies to each call separately, and each failure is reported with
    the name of its own function.
    """

    methods: tuple[Callable[..., Any], ...]
    program: Any
