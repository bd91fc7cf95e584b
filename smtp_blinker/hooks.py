"""What the program decides: one callable per event, asked before the reply."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .reply import Reject
from .session import Address, Credentials, Session

if TYPE_CHECKING:
    from .stream import MessageStream

SessionHook = Callable[[Session], Any]
AuthHook = Callable[[Credentials, Session], Any]
AddressHook = Callable[[Address, Session], Any]
#: What `on_data` returns: the text of the 250 reply, or None; for LMTP also one of these or a
#: `Reject` for each recipient.
DataResult = str | Sequence[str | Reject | None] | None
DataHook = Callable[["MessageStream", Session], DataResult]

_SessionHook = TypeVar("_SessionHook", bound=SessionHook)
_AuthHook = TypeVar("_AuthHook", bound=AuthHook)
_AddressHook = TypeVar("_AddressHook", bound=AddressHook)
_DataHook = TypeVar("_DataHook", bound=DataHook)

NAMES = (
    "on_connect",
    "on_secure",
    "on_auth",
    "on_mail_from",
    "on_rcpt_to",
    "on_data",
    "on_close",
)


class Hooks:
    """The callback registry. None accepts whatever the event is about."""

    __slots__ = NAMES

    def __init__(self) -> None:
        self.on_connect: SessionHook | None = None
        self.on_secure: SessionHook | None = None
        self.on_auth: AuthHook | None = None
        self.on_mail_from: AddressHook | None = None
        self.on_rcpt_to: AddressHook | None = None
        self.on_data: DataHook | None = None
        self.on_close: SessionHook | None = None

    def set(self, name: str, hook: Any) -> None:
        """Register *hook*; raises TypeError when it can't be called, or a call wouldn't run it."""
        if hook is not None and not callable(hook):
            raise TypeError(f"{name} takes a callable, not {hook!r}")
        call = getattr(type(hook), "__call__", None)  # noqa: B004
        if _only_prepares(hook) or _only_prepares(call):
            # It would refuse nobody: a call gives an object, and none of its lines is run.
            raise TypeError(
                f"{name} takes a plain function: nobody would await or iterate {hook!r}"
            )
        setattr(self, name, hook)


#: What a hook can't have meant to return: what is yet to be done.
_UNDONE: Final = (Awaitable, GeneratorType, AsyncGeneratorType, map, filter)
#: The same by what their classes have: gevent's greenlets and results, celery's, futures.
_PROMISES: Final = (("ready", "get"), ("done", "result"))


def checked(result: Any) -> Any:
    """*result*, which a hook has returned and which is not None.

    Raises what was returned where it was meant to be raised, and TypeError for what is yet to be
    done: these are true values, and as an answer of `on_auth` would let everybody in. A result's
    truth may be code of the program's too (a lazy look-up): what it raises comes out here.
    """
    if isinstance(result, BaseException) or _is_exception_class(result):
        raise result
    kind = type(result)
    if isinstance(result, _UNDONE) or any(
        hasattr(kind, asks) and hasattr(kind, waits) for asks, waits in _PROMISES
    ):
        if hasattr(result, "close"):
            result.close()
        raise TypeError(f"a hook returned {kind.__name__}: what it stands for isn't done")
    bool(result)
    return result


def _is_exception_class(result: Any) -> bool:
    return isinstance(result, type) and issubclass(result, BaseException)


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

    def on_close(self, hook: _SessionHook) -> _SessionHook:
        """Told when the connection has ended, however it ended: ``hook(session)``."""
        self.hooks.set("on_close", hook)
        return hook
