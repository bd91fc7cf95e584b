"""The replies that a client gets for its message, from what `on_data` returned or raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import reply
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
    if not isinstance(result, (list, tuple)):
        return (_reply_for(result),) * count, ()
    if not lmtp:
        # There is one reply: 250 would be a lie for a recipient who is refused.
        refused = [one for one in map(_reply_for, result) if one.code >= 400]
        return (refused[0] if refused else reply.MESSAGE_OK,), _faults(result)
    if len(result) != count:
        fault = ValueError(f"on_data returned {len(result)} results for {count} recipients")
        return (reply.LOCAL_ERROR,) * count, (fault,)
    return [_reply_for(one) for one in result], _faults(result)


def _reply_for(result: Any) -> Reply:
    """The reply for one recipient, or for all of them; what is in a list nobody has raised."""
    if isinstance(result, Refusal):
        return result.reply
    if isinstance(result, BaseException):
        return reply.LOCAL_ERROR
    return Reply(250, result, "2.0.0") if isinstance(result, str) else reply.MESSAGE_OK


def _faults(results: Sequence[Any]) -> list[BaseException]:
    return [
        one for one in results if isinstance(one, BaseException) and not isinstance(one, Refusal)
    ]
