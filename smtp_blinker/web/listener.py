"""Attaches the page's listeners to signals, and detaches them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from blinker import ANY


class Listener:
    """A listener as those of `smtp_blinker.listeners`, which share no code."""

    #: The signals and their receivers.
    _receivers: tuple[tuple[Any, Callable[..., None]], ...]

    def attach(self, server: object = None) -> Self:
        """Listen to *server*, or to every server of the process. Returns the listener."""
        for signal, receiver in self._receivers:
            signal.connect(receiver, ANY if server is None else server, weak=False)
        return self

    def detach(self) -> None:
        """Stop listening to all servers."""
        for signal, receiver in self._receivers:
            signal.disconnect(receiver)
