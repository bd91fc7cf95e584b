"""Makes the replies to a message from the result or the exception of `on_data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..hooks import checked_text
from ..smtp import reply
from ..smtp.reply import Refusal, Reply


def replies_to(
    result: Any, recipients: int, lmtp: bool
) -> tuple[Sequence[Reply], Sequence[BaseException]]:
    """The replies for *result*, and the faults of the program in it.

    *result* is the checked result of the hook, or the `Refusal` that it raised. There is one
    reply, or with *lmtp* one for each of the *recipients* (RFC 2033 section 4.2).
    """
    count = recipients if lmtp else 1
    if result is None:
        return (reply.MESSAGE_OK,) * count, ()
    if isinstance(result, Refusal):
        return (result.reply,) * count, ()
    if isinstance(result, str):
        return (Reply(250, result, "2.0.0"),) * count, ()
    fault: BaseException
    if not lmtp:
        fault = TypeError(
            f"on_data returned a {type(result).__name__}; only LMTP has several replies"
        )
        return (reply.LOCAL_ERROR,), (fault,)
    if len(result) != count:
        fault = ValueError(f"on_data returned {len(result)} results for {count} recipients")
        return (reply.LOCAL_ERROR,) * count, (fault,)
    replies: list[Reply] = []
    faults: list[BaseException] = []
    for entry in result:
        try:
            replies.append(_reply_for(entry))
        except BaseException as exc:
            replies.append(reply.LOCAL_ERROR)
            faults.append(exc.with_traceback(None))  # this frame's name would help no reader
    return replies, faults


def _reply_for(entry: Any) -> Reply:
    """The reply for one recipient; raises a fault of the program."""
    if entry is None:
        return reply.MESSAGE_OK
    if isinstance(entry, type) and issubclass(entry, BaseException):
        entry = entry()
    if isinstance(entry, Refusal):
        return entry.reply
    if isinstance(entry, BaseException):
        raise entry
    return Reply(250, checked_text(entry), "2.0.0")
