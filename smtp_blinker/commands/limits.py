"""The counters behind the limits that end a session with 421 4.7.0."""

from __future__ import annotations

from typing import Final

from ..options import Options
from ..smtp import reply
from ..smtp.reply import Refusal, Reply

#: This many unrecognised commands between two messages get 421.
MAX_UNRECOGNIZED: Final = 10


class Limits:
    """The counters of one connection. What counts raises `Refusal` when it is too much."""

    __slots__ = (
        "_junk",
        "_options",
        "_refused_recipients",
        "_unauthenticated",
        "_unrecognized",
        "auth_failures",
        "errors",
    )

    def __init__(self, options: Options) -> None:
        self._options = options
        #: Replies 5yz in a row; any positive reply makes it 0.
        self.errors = 0
        #: Credentials that were checked and wrong.
        self.auth_failures = 0
        self._refused_recipients = 0
        self._junk = 0
        self._unauthenticated = 0
        self._unrecognized = 0

    def error(self, refusal: Reply) -> Reply:
        """Count *refusal*; the reply to send, which is 421 when there were too many."""
        if refusal.code >= 500:
            self.errors += 1
            limit = self._options.max_errors
            if limit is not None and self.errors > limit:
                return reply.TOO_MANY_ERRORS
        return refusal

    def junk(self) -> None:
        """Count a command that costs a client nothing and doesn't lead to a message."""
        self._junk += 1
        limit = self._options.max_junk_commands
        if limit is not None and self._junk > limit:
            raise Refusal(reply.TOO_MANY_JUNK)

    def unauthenticated(self) -> None:
        self._unauthenticated += 1
        limit = self._options.max_unauthenticated_commands
        if limit is not None and self._unauthenticated > limit:
            raise Refusal(reply.TOO_MANY_UNAUTHENTICATED)

    def unrecognized(self) -> None:
        self._unrecognized += 1
        if self._unrecognized >= MAX_UNRECOGNIZED:
            raise Refusal(reply.TOO_MANY_UNRECOGNIZED)

    def refused_recipient(self, refusal: Reply) -> Reply:
        """Count a refused RCPT; the reply to send, which is 421 when there were too many."""
        self._refused_recipients += 1
        limit = self._options.max_refused_recipients
        if limit is not None and self._refused_recipients > limit:
            return reply.TOO_MANY_REFUSED_RECIPIENTS
        return refusal

    def message(self) -> None:
        """A message has ended: the counting between two messages starts again."""
        self._junk = self._unrecognized = 0
