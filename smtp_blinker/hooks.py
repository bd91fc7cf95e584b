"""The program's decisions: one callable per event, called before the reply."""

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
#: What `on_data` returns: the text of the 250 reply, or None; for LMTP also one of these or a
#: `Reject` for each recipient.
DataResult = str | Sequence[str | Reject | None] | None
DataHook = Callable[[MessageStream, Session], DataResult]

_SessionHook = TypeVar("_SessionHook", bound=SessionHook)
_AuthHook = TypeVar("_AuthHook", bound=AuthHook)
_ScramHook = TypeVar("_ScramHook", bound=ScramHook)
_AddressHook = TypeVar("_AddressHook", bound=AddressHook)
_VrfyHook = TypeVar("_VrfyHook", bound=VrfyHook)
_DataHook = TypeVar("_DataHook", bound=DataHook)

#: Every hook with the arguments that it is called with.
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
#: Hooks that policies don't have.
PROGRAM_ONLY: Final = ("on_scram", "on_data", "on_vrfy")
#: Every method of a policy with the arguments that it is called with.
POLICY_ARGUMENTS: Final = {
    **{name: args for name, args in ARGUMENTS.items() if name not in PROGRAM_ONLY},
    "on_message": ("content", "session"),
}


class _PolicyMethods:
    """The policies' part of the registry; not fields, since no keyword sets it."""

    __slots__ = ("_methods", "on_message")

    def __post_init__(self) -> None:
        self._methods: dict[str, tuple[Callable[..., Any], ...]] = {}
        #: The methods of policies that are asked with a whole message.
        self.on_message: tuple[Callable[..., Any], ...] = ()

    def _add(self, name: str, method: Callable[..., Any]) -> None:
        self._methods[name] = (*self._methods.get(name, ()), method)
        self.on_message = self._methods.get("on_message", ())


@dataclass(slots=True, kw_only=True)
class Hooks(_PolicyMethods):
    """The registry of hooks. Without a hook (None) the server accepts.

    At a stage where policies are asked as well its hook is a `Stage`.
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
        """Register *hook*. Raises TypeError when it can't be called with the hook's arguments, or
        when a call would not run it."""
        if hook is not None:
            check_callable(name, hook)
        methods = self._methods.get(name)
        # Policies alone don't make the server offer AUTH: they don't know the users.
        if methods and (hook is not None or name != "on_auth"):
            hook = Stage(methods, hook)
        setattr(self, name, hook)

    def use(self, name: str, method: Callable[..., Any]) -> None:
        """Call a policy's *method* at the stage *name*, after the methods that are registered."""
        self._add(name, method)
        if name != "on_message":
            present = getattr(self, name)
            self.set(name, present.program if isinstance(present, Stage) else present)


def policy_methods(policy: object) -> dict[str, Callable[..., Any]]:
    """The methods of *policy* by the stages that they are asked at. Raises TypeError for what is
    no policy."""
    if isinstance(policy, type):
        raise TypeError(f"use takes policies, not a class: {policy!r}")
    for name in PROGRAM_ONLY:
        if getattr(policy, name, None) is not None:
            raise TypeError(f"{policy!r} has {name}, which is the program's and no policy's")
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
    """Raise TypeError unless *hook* is a function that runs when it is called as *name*."""
    if not callable(hook):
        raise TypeError(f"{name} takes a callable, not {hook!r}")
    if isinstance(hook, AllOf):
        for one in hook.hooks:
            check_callable(name, one)
        return
    function = hook.func if isinstance(hook, partial) else hook  # it has no other in it
    call = getattr(type(function), "__call__", None)  # noqa: B004
    if _only_prepares(hook) or _only_prepares(call):
        # It would refuse no client: the call makes a generator and runs none of its code.
        raise TypeError(f"{name} takes a plain function, not a coroutine or generator: {hook!r}")
    try:
        # Not that of a function it wraps: a decorator may add or take away arguments.
        signature = inspect.signature(hook, follow_wrapped=False)
    except (TypeError, ValueError):
        return  # a builtin that doesn't say
    arguments = ARGUMENTS.get(name) or POLICY_ARGUMENTS[name]
    try:
        signature.bind(*arguments)
    except TypeError as exc:
        raise TypeError(
            f"{name} is called as {name}({', '.join(arguments)}), but {hook!r} takes "
            f"{signature}: {exc}"
        ) from None


#: Types of results that aren't finished; a hook that returns one has a bug.
_UNFINISHED: Final = (Awaitable, GeneratorType, AsyncGeneratorType, map, filter)
#: The same by what their classes have: gevent's greenlets and results, celery's, futures.
_PROMISES: Final = (("ready", "get"), ("done", "result"))
#: A reply code, an enhanced status code, or both, at the beginning of a text.
_LIKE_A_REPLY: Final = re.compile(r"\s*(?:[2-5][0-9]{2}|[245]\.[0-9]{1,3}\.[0-9]{1,3})(?![\w.])")


def checked(name: str, result: Any, args: Sequence[Any] = ()) -> Any:
    """*result*, which the hook *name*, called with *args*, has returned and which is not None.

    Raises an exception that was returned, and TypeError or ValueError for everything else, a
    `Reject` among it, that the hook's line in the documentation doesn't name: a program that
    returns False to refuse must not accept. The truth of a user may be code of the program's too
    (a lazy look-up): what it raises comes out here.
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
    """*result*, the text of a 250 reply: of `on_data` for all or one recipient, of `on_vrfy`."""
    if not isinstance(result, str):
        _close(result)
        raise TypeError(
            f"{name} returned {_shown(result)}; it returns the text of the 250 reply or None, "
            "and raises Reject to refuse"
        )
    if name == "on_vrfy" and not result.strip():
        # RFC 5321 section 3.5.1: a 250 names the mailbox.
        raise ValueError("on_vrfy returned an empty text; it returns None to tell nothing")
    if _LIKE_A_REPLY.match(printable(result)):
        raise ValueError(
            f"{name} returned {_shown(result)}, which begins like a reply; it returns only the "
            "text of the 250, and raises Reject to refuse"
        )
    return result


def _shown(result: Any) -> str:
    """Enough of *result* to recognise it; the whole may be a message."""
    if isinstance(result, (str, bytes)):
        return repr(result[:60])
    if result is None or isinstance(result, (bool, int, float)):
        return repr(result)
    return f"a {type(result).__name__}"


def _close(result: Any) -> None:
    """A coroutine that is never awaited warns, unless it is closed."""
    if isinstance(result, _UNFINISHED) and hasattr(result, "close"):
        result.close()


def _only_prepares(function: Any) -> bool:
    return (
        inspect.iscoroutinefunction(function)
        or inspect.isgeneratorfunction(function)
        or inspect.isasyncgenfunction(function)
    )


class HookDecorators:
    """The decorators of `SMTPServer`: ``@server.on_data`` and its kin.

    Each registers the function it is given, replacing an earlier one, and returns it unchanged.
    """

    hooks: Hooks

    def use(self, *policies: Policy) -> None:
        """Ask *policies* at each stage that they have a method for, in this order, after those that
        are used already and before the program's own hook.

        The first `Reject` ends the stage; what they return is ignored; any other exception is a
        fault, as in a hook. At `on_close` each is called, whatever the others raise. A policy
        with ``attach(server)`` has it called here. Raises TypeError for what has no such method,
        or one that can't be called with its arguments, and then uses none of them.
        """
        found = [(policy, policy_methods(policy)) for policy in policies]
        for policy, methods in found:
            attach = getattr(policy, "attach", None)
            if attach is not None:
                attach(self)
            for name, method in methods.items():
                self.hooks.use(name, method)

    def on_connect(self, hook: _SessionHook) -> _SessionHook:
        """Asked before the greeting: ``hook(session)``. Refusing or a fault ends the session."""
        self.hooks.set("on_connect", hook)
        return hook

    def on_secure(self, hook: _SessionHook) -> _SessionHook:
        """Asked after each TLS handshake: ``hook(session)``. Refusing ends the session, as does a
        fault."""
        self.hooks.set("on_secure", hook)
        return hook

    def on_auth(self, hook: _AuthHook) -> _AuthHook:
        """Asked with credentials: ``hook(auth, session)`` returns the user or a false value."""
        self.hooks.set("on_auth", hook)
        return hook

    def on_scram(self, hook: _ScramHook) -> _ScramHook:
        """Asked for SCRAM, before the client has proved anything: ``hook(username, mechanism,
        session)`` returns the user's `ScramKeys`, or None where there is no such user."""
        self.hooks.set("on_scram", hook)
        return hook

    def on_mail_from(self, hook: _AddressHook) -> _AddressHook:
        """Asked for MAIL: ``hook(address, session)``."""
        self.hooks.set("on_mail_from", hook)
        return hook

    def on_rcpt_to(self, hook: _AddressHook) -> _AddressHook:
        """Asked for each RCPT: ``hook(address, session)``."""
        self.hooks.set("on_rcpt_to", hook)
        return hook

    def on_data(self, hook: _DataHook) -> _DataHook:
        """Given each message as it arrives: ``hook(stream, session)`` returns the text of the 250
        or None; for LMTP also a list with one of these, or a `Reject`, for each recipient."""
        self.hooks.set("on_data", hook)
        return hook

    def on_vrfy(self, hook: _VrfyHook) -> _VrfyHook:
        """Asked for VRFY: ``hook(argument, session)`` returns the text of the 250, which names the
        mailbox, or None for a 252, which reveals nothing."""
        self.hooks.set("on_vrfy", hook)
        return hook

    def on_close(self, hook: _SessionHook) -> _SessionHook:
        """Called when the connection has ended, for any reason: ``hook(session)``."""
        self.hooks.set("on_close", hook)
        return hook
