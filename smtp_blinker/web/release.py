"""Passing a message on to the one relay that the program configured, and to no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ..session import Address, Session
from ..smtp.paths import parse_path
from ..smtp.reply import Reject

#: The most recipients of one release.
MOST: Final = 100


class Release:
    """Passes messages to *store*, a `RelayStore`; *to* is its destination, shown to people."""

    def __init__(self, store: Callable[[Any, Session], Any], to: str) -> None:
        self.store = store
        self.to = to

    def send(
        self, pieces: Iterator[bytes], skip: int, sender: str, recipients: Sequence[str]
    ) -> str:
        """Send the message in *pieces*, without its first *skip* octets; returns the relay's reply.

        Raises ValueError for no recipient or an invalid one, `Reject` if the relay refuses the
        message, and the store's exception if the relay can't be reached.
        """
        if not 1 <= len(recipients) <= MOST:
            raise ValueError(f"a message is released to 1 to {MOST} recipients")
        if sender:
            _check(sender)
        for recipient in recipients:
            _check(recipient)
        session = Session(lmtp=False, secure=False)
        session.opening_command = "EHLO"
        session.host_name_appears_as = "released-by-hand"
        envelope = session.envelope
        envelope.mail_from = Address(sender)
        envelope.rcpt_to = [Address(recipient) for recipient in recipients]
        envelope.smtputf8 = not all(each.isascii() for each in (sender, *recipients))
        return str(self.store(_Source(pieces, skip), session))


def _check(recipient: str) -> None:
    """Check an address for a command, because the message may contain anything."""
    try:
        address, rest = parse_path(f"TO:<{recipient}>", False, True, False)
    except Reject as exc:
        raise ValueError(f"{recipient[:80]!a} is not an address: {exc.text}") from None
    if not address or rest:
        raise ValueError(f"{recipient[:80]!a} is not an address")


class _Source:
    """The message as a stream for a store."""

    def __init__(self, pieces: Iterator[bytes], skip: int) -> None:
        self._pieces = pieces
        self._skip = skip
        self._held = b""

    def read(self, size: int = -1, /) -> bytes:
        while not self._held:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._held = piece[self._skip :]
            self._skip = max(0, self._skip - len(piece))
        size = len(self._held) if size < 0 else size
        taken, self._held = self._held[:size], self._held[size:]
        return taken
