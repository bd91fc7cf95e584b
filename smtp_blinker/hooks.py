"""The hooks: for each event one callable that decides before the server replies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Final, TypeVar

from .deciders import AllOf, Policy, Stage
from .sasl.scram import ScramKeys
from .session import Address, Credentials, Session
from .smtp.reply import Refusal, Reject, printable
from .stream import MessageStream

SessionHook = Callable[[Session], Any]
AuthHook = Callable[[Credentials, Session], Any]
ScramHook = Callable[[str, str, Session], ScramKeys | None]
AddressHook = Callable[[Address, Session], Any]
VrfyHook = Callable[[str, Session], str | None]
#: What `on_data` returns: the text of the 250 reply or None; for LMTP also a sequence with a text,
#: None or a `Reject` for each recipient.
DataResult = str | Sequence[str | Reject | None] | None
DataHook = Callable[[MessageStream, Session], DataResult]

_SessionHook = TypeVar("_SessionHook", bound=SessionHook)
_AuthHook = TypeVar("_AuthHook", bound=AuthHook)
_ScramHook = TypeVar("_ScramHook", bound=ScramHook)
_AddressHook = TypeVar("_AddressHook", bound=AddressHook)
_VrfyHook = TypeVar("_VrfyHook", bound=VrfyHook)
_DataHook = TypeVar("_DataHook", bound=DataHook)

#: The arguments of every hook.
ARGUMENTS: Final = {
    "on_connect": ("session",),
    "on_secure": ("session",),
    "on_auth": ("auth", "session"),
    "on_scram": ("username", "mechanism", "session"),
    "on_mail_from": ("address", "session"),
    "on_rcpt_to": ("address", "session"),
    "on_data": ("stream", "session"),
    "on_vrfy": ("argument", "session"),
    "on_close": ("session",),
}
NAMES: Final = tuple(ARGUMENTS)
#: Hooks that only the program may have, no policy.
PROGRAM_ONLY: Final = ("on_scram", "on_data", "on_vrfy")
#: The arguments of every method of a policy.
POLICY_ARGUMENTS: Final = {
    **{name: args for name, args in ARGUMENTS.items() if name not in PROGRAM_ONLY},
    "on_message": ("content", "session"),
}


class _PolicyMethods:
    """The methods of policies in the registry; not fields, because no keyword sets them."""

    __slots__ = ("_methods", "on_message")

    def __post_init__(self) -> None:
        self._methods: dict[str, tuple[Callable[..., Any], ...]] = {}
        #: The policies' methods that get a whole message.
        self.on_message: tuple[Callable[..., Any], ...] = ()

    def _add(self, name: str, method: Callable[..., Any]) -> None:
        self._methods[name] = (*self._methods.get(name, ()), method)
        self.on_message = self._methods.get("on_message", ())


@dataclass(slots=True, kw_only=True)
class Hooks(_PolicyMethods):
    """The registered hooks. None accepts everything.

    At a stage with policies the value is a `Stage`, which has the policies' methods and the hook.
    """

    on_connect: SessionHook | None = None
    on_secure: SessionHook | None = None
    on_auth: AuthHook | None = None
    on_scram: ScramHook | None = None
    on_mail_from: AddressHook | None = None
    on_rcpt_to: AddressHook | None = None
    on_data: DataHook | None = None
    on_vrfy: VrfyHook | None = None
    on_close: SessionHook | None = None

    def set(self, name: str, hook: Any) -> None:
        """Register *hook*. Raises TypeError if it can't be called with the hook's arguments, and
        for a coroutine function or a generator function."""
        if hook is not None:
            check_callable(name, hook)
        methods = self._methods.get(name)
        # Policies without a hook don't enable AUTH, because policies know no users.
        if methods and (hook is not None or name != "on_auth"):
            hook = Stage(methods, hook)
        setattr(self, name, hook)

    def use(self, name: str, method: Callable[..., Any]) -> None:
        """Add a policy's *method* to the stage *name*, after the methods that it has already."""
        self._add(name, method)
        if name != "on_message":
            present = getattr(self, name)
            self.set(name, present.program if isinstance(present, Stage) else present)


def policy_methods(policy: object) -> dict[str, Callable[..., Any]]:
    """The methods of *policy* by the names of their stages; TypeError if it isn't a policy."""
    if isinstance(policy, type):
        raise TypeError(f"use takes policies, not a class: {policy!r}")
    for name in PROGRAM_ONLY:
        if getattr(policy, name, None) is not None:
            raise TypeError(f"{policy!r} has {name}, which only the program may have")
    methods = {}
    for name in POLICY_ARGUMENTS:
        method = getattr(policy, name, None)
        if method is not None:
            check_callable(name, method)
            methods[name] = method
    if not methods and not callable(getattr(policy, "attach", None)):
        known = ", ".join(POLICY_ARGUMENTS)
        raise TypeError(f"a policy has attach or one or more of {known}; {policy!r} has none")
    return methods


def check_callable(name: str, hook: Any) -> None:
    """Raise TypeError unless *hook* can be called with the arguments of the hook *name*."""
    if not callable(hook):
        raise TypeError(f"{name} takes a callable, not {hook!r}")
    if isinstance(hook, AllOf):
        for one in hook.hooks:
            check_callable(name, one)
        return
    function = hook.func if isinstance(hook, partial) else hook  # partial flattens nested ones
    call = getattr(type(function), "__call__", None)  # noqa: B004
    if _only_prepares(hook) or _only_prepares(call):
        # A call would only make a coroutine or generator, so the hook would never refuse.
        raise TypeError(f"{name} takes a plain function, not a coroutine or generator: {hook!r}")
    try:
        # Don't follow __wrapped__: a decorator may add or remove arguments.
        signature = inspect.signature(hook, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # a builtin without a signature
    arguments = ARGUMENTS.get(name) or POLICY_ARGUMENTS[name]
    try:
        signature.bind(*arguments)
    except TypeError as exc:
        raise TypeError(
            f"{name} is called as {name}({', '.join(arguments)}), but {hook!r} takes "
            f"{signature}: {exc}"
        ) from None


#: Results that aren't computed yet, which a hook returns only by mistake.
_UNFINISHED: Final = (Awaitable, GeneratorType, AsyncGeneratorType, map, filter)
#: Pairs of methods by which such results are recognized: gevent's greenlets and AsyncResult,
#: celery's AsyncResult, futures.
_PROMISES: Final = (("ready", "get"), ("done", "result"))
#: A reply code, an enhanced status code, or both, at the beginning of a text.
_LIKE_A_REPLY: Final = re.compile(r"\s*(?:[2-5][0-9]{2}|[245]\.[0-9]{1,3}\.[0-9]{1,3})(?![\w.])")


def checked(name: str, result: Any, args: Sequence[Any] = ()) -> Any:
    """Check and return *result*, which isn't None and was returned by the hook *name*(*args*).

    Raises a returned exception, but TypeError for a returned `Reject`. Raises TypeError or
    ValueError for every result that docs/options.md doesn't allow, because a program that returns
    False to refuse must not accept. Also raises whatever ``bool()`` of a user raises, since that
    may run the program's code (a lazy look-up).
    """
    kind = result if isinstance(result, type) else type(result)
    if issubclass(kind, Refusal):
        raise TypeError(f"{name} returned a {kind.__name__}, which is raised to refuse")
    if issubclass(kind, BaseException):
        raise result
    if name == "on_data":
        return result if isinstance(result, (list, tuple)) else checked_text(result)
    if name == "on_vrfy":
        return checked_text(result, name)
    if name == "on_scram":
        return _checked_keys(result, args[1])
    if name != "on_auth":
        _close(result)
        raise TypeError(
            f"{name} returned {_shown(result)}; it returns None to accept, raises Reject to refuse"
        )
    if isinstance(result, _UNFINISHED) or any(
        hasattr(kind, asks) and hasattr(kind, waits) for asks, waits in _PROMISES
    ):
        _close(result)
        raise TypeError(f"on_auth returned a {kind.__name__}, which is not finished")
    bool(result)
    return result


def _checked_keys(result: Any, mechanism: str) -> ScramKeys:
    if not isinstance(result, ScramKeys):
        _close(result)
        raise TypeError(
            f"on_scram returned {_shown(result)}; it returns ScramKeys, or None for no such user"
        )
    if not result.fits(mechanism):
        raise ValueError(f"on_scram returned keys that are not {mechanism}'s")
    return result


def checked_text(result: Any, name: str = "on_data") -> str:
    """Check and return *result*, the text of a 250 reply of `on_data` or `on_vrfy`.

    Raises TypeError if it isn't text, and ValueError for a text that begins like a reply.
    """
    if not isinstance(result, str):
        _close(result)
        raise TypeError(
            f"{name} returned {_shown(result)}; it returns the text of the 250 reply or None, "
            "and raises Reject to refuse"
        )
    if name == "on_vrfy" and not result.strip():
        # RFC 5321 section 3.5.1: a 250 names the mailbox.
        raise ValueError("on_vrfy returned an empty text; it returns None to reveal nothing")
    if _LIKE_A_REPLY.match(printable(result)):
        raise ValueError(
            f"{name} returned {_shown(result)}, which begins like a reply; it returns only the "
            "text of the 250, and raises Reject to refuse"
        )
    return result


def _shown(result: Any) -> str:
    """The beginning of *result* for an error message; the whole may be long."""
    if isinstance(result, (str, bytes)):
        return repr(result[:60])
    if result is None or isinstance(result, (bool, int, float)):
        return repr(result)
    return f"a {type(result).__name__}"


def _close(result: Any) -> None:
    """Close a coroutine, because Python warns about one that is never awaited."""
    if isinstance(result, _UNFINISHED) and hasattr(result, "close"):
        result.close()


def _only_prepares(function: Any) -> bool:
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )


class HookDecorators:
    """The decorators of `SMTPServer`: ``@server.on_data`` and the others.

    Each registers its function, replaces an earlier one and returns the function unchanged.
    """

    hooks: Hooks

    def use(self, *policies: Policy) -> None:
        """Add *policies*. At each stage for which a policy has a method, the server calls it.

        The order at a stage is: policies added earlier, these in their order, the program's hook.
        The first `Reject` ends the stage; results are ignored; any other exception is a fault, as
        in a hook. At `on_close` all are called, whatever the others raise. If a policy has
        ``attach(server)``, `use` calls it. Raises TypeError for an object that isn't a policy and
        for a method with wrong arguments; it then adds none of *policies*.
        """
        found = [(policy, policy_methods(policy)) for policy in policies]
        for policy, methods in found:
            attach = getattr(policy, "attach", None)
            if attach is not None:
                attach(self)
            for name, method in methods.items():
                self.hooks.use(name, method)

    def on_connect(self, hook: _SessionHook) -> _SessionHook:
        """Called before the greeting: ``hook(session)``. A Reject or a fault ends the session."""
        self.hooks.set("on_connect", hook)
        return hook

    def on_secure(self, hook: _SessionHook) -> _SessionHook:
        """Called after each TLS handshake: ``hook(session)``. A Reject or a fault ends the
        session."""
        self.hooks.set("on_secure", hook)
        return hook

    def on_auth(self, hook: _AuthHook) -> _AuthHook:
        """Called for AUTH: ``hook(auth, session)`` returns the user, or a false value to refuse."""
        self.hooks.set("on_auth", hook)
        return hook

    def on_scram(self, hook: _ScramHook) -> _ScramHook:
        """Called for AUTH by SCRAM, before the client has proved its password: ``hook(username,
        mechanism, session)`` returns the user's `ScramKeys`, or None if there is no such user."""
        self.hooks.set("on_scram", hook)
        return hook

    def on_mail_from(self, hook: _AddressHook) -> _AddressHook:
        """Called for MAIL: ``hook(address, session)``. A Reject refuses the sender."""
        self.hooks.set("on_mail_from", hook)
        return hook

    def on_rcpt_to(self, hook: _AddressHook) -> _AddressHook:
        """Called for each RCPT: ``hook(address, session)``. A Reject refuses the recipient."""
        self.hooks.set("on_rcpt_to", hook)
        return hook

    def on_data(self, hook: _DataHook) -> _DataHook:
        """Called when a message begins to arrive: ``hook(stream, session)`` reads it, and returns
        the text of the 250 reply or None; for LMTP also a list with a text, None or a `Reject` for
        each recipient."""
        self.hooks.set("on_data", hook)
        return hook

    def on_vrfy(self, hook: _VrfyHook) -> _VrfyHook:
        """Called for VRFY: ``hook(argument, session)`` returns the text of the 250 reply, which
        names the mailbox, or None for a 252, which reveals nothing."""
        self.hooks.set("on_vrfy", hook)
        return hook

    def on_close(self, hook: _SessionHook) -> _SessionHook:
        """Called when the connection has ended, for whatever reason: ``hook(session)``."""
        self.hooks.set("on_close", hook)
        return hook
