"""The replies that a client gets for its message, from what `on_data` returned or raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from . import reply
from .hooks import checked
from .reply import Refusal, Reply


def replies_to(
    result: Any, recipients: int, lmtp: bool
) -> tuple[Sequence[Reply], Sequence[BaseException]]:
    """The replies for *result*, and what of it is a fault of the program's.

    *result* is what the hook returned, or the `Refusal` that it ended with. There is one reply, or
    with *lmtp* one for each of the *recipients* (RFC 2033 section 4.2).
    """
    count = recipients if lmtp else 1
    if result is None:
        return (reply.MESSAGE_OK,) * count, ()
    if isinstance(result, (Mapping, Set)):
        # There may be a Reject in it, and nobody knows whose.
        fault: Exception = TypeError(f"on_data returned a {type(result).__name__}, not a list")
        return (reply.LOCAL_ERROR,) * count, (fault,)
    if not isinstance(result, (list, tuple)):
        return (_reply_for(result),) * count, ()
    result = [_raised(one) for one in result]
    if not lmtp:
        # There is one reply: 250 would be a lie for a recipient who is refused.
        refused = [one for one in map(_reply_for, result) if one.code >= 400]
        return (refused[0] if refused else reply.MESSAGE_OK,), _faults(result)
    if len(result) != count:
        fault = ValueError(f"on_data returned {len(result)} results for {count} recipients")
        return (reply.LOCAL_ERROR,) * count, (fault,)
    return [_reply_for(one) for one in result], _faults(result)


def _raised(result: Any) -> Any:
    """An entry of a list, or what it is a fault to have there; nobody has raised it."""
    try:
        return result if result is None else checked(result)
    except BaseException as exc:
        return exc.with_traceback(None)  # this frame's name would lead nobody anywhere


def _reply_for(result: Any) -> Reply:
    """The reply for one recipient, or for all of them."""
    if isinstance(result, Refusal):
        return result.reply
    if isinstance(result, BaseException):
        return reply.LOCAL_ERROR
    return Reply(250, result, "2.0.0") if isinstance(result, str) else reply.MESSAGE_OK


def _faults(results: Sequence[Any]) -> list[BaseException]:
    return [
        one for one in results if isinstance(one, BaseException) and not isinstance(one, Refusal)
    ]
