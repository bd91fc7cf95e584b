"""Several deciders for one event: hooks made into one, and policies before the program's hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

_Hook = TypeVar("_Hook", bound=Callable[..., Any])


class Policy(Protocol):
    """What `SMTPServer.use` takes: an object with one or more of these methods.

    ``on_connect(session)``, ``on_secure(session)``, ``on_auth(auth, session)``,
    ``on_mail_from(address, session)``, ``on_rcpt_to(address, session)``,
    ``on_message(content, session)``, ``on_close(session)``, and ``attach(server)``, which `use`
    calls. None of them is required by itself, so type checkers take any object for a policy;
    `use` checks it.
    """


class AllOf:
    """Hooks that are called as one; see `all_of`."""

    def __init__(self, hooks: tuple[Callable[..., Any], ...]) -> None:
        self.hooks = hooks
        names = (getattr(hook, "__qualname__", type(hook).__qualname__) for hook in hooks)
        #: What the `error` event names.
        self.__qualname__ = f"all_of({', '.join(names)})"

    def __call__(self, *args: Any) -> Any:
        result = None
        for hook in self.hooks:
            result = hook(*args)
        return result

    def __repr__(self) -> str:
        return f"<{self.__qualname__}>"


def all_of(*hooks: _Hook) -> _Hook:
    """One hook of several: each is called in turn with the same arguments.

    The first that raises ends it. The result is the last one's; what the others return is ignored.
    Each is checked as a hook when the result is registered. Raises TypeError for no hook at all
    and for what can't be called.
    """
    if not hooks:
        raise TypeError("all_of takes one or more hooks")
    for hook in hooks:
        if not callable(hook):
            raise TypeError(f"all_of takes callables, not {hook!r}")
    return cast("_Hook", AllOf(hooks))


@dataclass(frozen=True, slots=True)
class Stage:
    """The deciders of one stage: the policies' methods, then the program's hook or None.

    Each is called by itself, with a time limit and a report of its own.
    """

    methods: tuple[Callable[..., Any], ...]
    program: Any
