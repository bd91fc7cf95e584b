"""The counters behind the limits that end a session with 421 4.7.0."""

from __future__ import annotations

from typing import Final

from ..options import Options
from ..smtp import reply
from ..smtp.reply import Refusal, Reply

#: This many unrecognized commands between two messages end the session with 421.
MAX_UNRECOGNIZED: Final = 10


class Limits:
    """The counters of one connection. Methods that count raise `Refusal` when a limit is exceeded,
    or return the reply to send."""

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
        #: 5yz replies in a row; any positive reply resets it.
        self.errors = 0
        #: The number of wrong credentials.
        self.auth_failures = 0
        self._refused_recipients = 0
        self._junk = 0
        self._unauthenticated = 0
        self._unrecognized = 0

    def error(self, refusal: Reply) -> Reply:
        """Count *refusal* and return the reply to send: *refusal*, or 421 after too many."""
        if refusal.code >= 500:
            self.errors += 1
            limit = self._options.max_errors
            if limit is not None and self.errors > limit:
                return reply.TOO_MANY_ERRORS
        return refusal

    def junk(self) -> None:
        """Count a command that costs the client nothing and doesn't help to send a message."""
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
        """Count a refused RCPT and return the reply to send: *refusal*, or 421 after too many."""
        self._refused_recipients += 1
        limit = self._options.max_refused_recipients
        if limit is not None and self._refused_recipients > limit:
            return reply.TOO_MANY_REFUSED_RECIPIENTS
        return refusal

    def message(self) -> None:
        """Reset the counters of commands between two messages."""
        self._junk = self._unrecognized = 0
