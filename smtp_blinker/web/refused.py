"""Refusals with the commands and replies of their connections, from the signals, for the page."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from flask import Blueprint, Response, abort, current_app, jsonify

from ..dialogue import DialogueEvent
from ..signals import (
    ConnectEvent,
    DisconnectEvent,
    MessageEvent,
    RefusedEvent,
    connect,
    dialogue,
    disconnect,
    message,
    refused,
)
from . import reasons
from .changes import check_parameters, is_change
from .listener import Listener

#: The most connections with a refusal that are kept.
KEPT: Final = 200
#: The most open connections; beyond, the oldest are forgotten: their end may have been missed.
MAX_OPEN: Final = 20_000
#: How many refusals of one connection are kept, the first ones.
REFUSALS: Final = 20
#: The most characters of a value, and recipients, in a refusal.
MAX_TEXT: Final = 300
MAX_RECIPIENTS: Final = 5


@dataclass(eq=False, slots=True)
class Talk:
    """A connection and its refusals."""

    id: str
    began: float
    remote_address: str
    dialogue: Any = None
    host_name_appears_as: str = ""
    client_hostname: str = ""
    refusals: list[dict[str, Any]] = field(default_factory=list)
    #: The number of refusals; the first ones are in `refusals`.
    refused: int = 0
    #: The time of the last refusal.
    time: float = 0.0
    ended: str | None = None
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "began": self.began,
            "time": self.time,
            "remote_address": self.remote_address,
            "host_name_appears_as": self.host_name_appears_as,
            "client_hostname": self.client_hostname,
            "refused": self.refused,
            "refusals": list(self.refusals),
            "ended": self.ended,
            "detail": self.detail,
        }

    def with_lines(self) -> dict[str, Any]:
        said = self.dialogue
        return {
            **self.as_dict(),
            "lines": [] if said is None else [line.as_dict() for line in said.lines],
        }


class Refusals(Listener):
    """Refused commands, messages and clients.

    It keeps the dialogue of every open connection, and of the last `KEPT` connections with a
    refusal: about 30 KiB each at most.
    """

    def __init__(self) -> None:
        self._open: dict[str, Talk] = {}
        self._kept: deque[Talk] = deque(maxlen=KEPT)
        #: Connections with a refusal since the page began.
        self.total = 0
        self._receivers = (
            (dialogue, self._on_dialogue),
            (connect, self._on_connect),
            (message, self._on_message),
            (refused, self._on_refused),
            (disconnect, self._on_disconnect),
        )

    def detach(self) -> None:
        """Stop listening to all servers, and forget the open connections."""
        super().detach()
        self._open.clear()

    @property
    def kept(self) -> list[Talk]:
        """The connections with a refusal, the most recent refusal first."""
        return sorted(self._kept, key=lambda talk: talk.time, reverse=True)

    def get(self, id: str) -> Talk | None:
        return next((talk for talk in self.kept if talk.id == id), None)

    def clear(self) -> int:
        """Forget all refusals; returns the number of their connections."""
        kept = len(self._kept)
        for talk in list(self._kept):
            talk.refusals, talk.refused = [], 0  # an open one is listed again at its next refusal
        self._kept.clear()
        return kept

    def _on_dialogue(self, server: object, event: DialogueEvent, **extra: object) -> None:
        self._open[event.id] = Talk(event.id, time.time(), event.remote_address, event.dialogue)
        if len(self._open) > MAX_OPEN:
            self._open.pop(next(iter(self._open)), None)

    def _on_connect(self, server: object, event: ConnectEvent, **extra: object) -> None:
        talk = self._talk(event.id, event.remote_address)
        talk.remote_address = event.remote_address  # XCLIENT may have changed it
        talk.host_name_appears_as = (event.host_name_appears_as or "")[:MAX_TEXT]
        talk.client_hostname = event.client_hostname[:MAX_TEXT]

    def _on_message(self, server: object, event: MessageEvent, **extra: object) -> None:
        if event.code >= 400:
            more = len(event.rcpt_to) - MAX_RECIPIENTS
            recipients = ", ".join(f"<{each}>" for each in event.rcpt_to[:MAX_RECIPIENTS])
            what = f"<{event.mail_from}> to {recipients}{f' and {more} more' if more > 0 else ''}"
            talk = self._talk(event.id, "")
            why = reasons.why(event.code, event.reply)
            self._add(talk, "message", what, event.code, event.reply, why)

    def _on_refused(self, server: object, event: RefusedEvent, **extra: object) -> None:
        talk = self._talk(event.id, event.remote_address)
        why = reasons.why(event.code, event.reply)
        self._add(talk, event.command, event.argument, event.code, event.reply, why)

    def _on_disconnect(self, server: object, event: DisconnectEvent, **extra: object) -> None:
        talk = self._open.get(event.id)
        if talk is None and event.reason not in reasons.BY_ENDING:
            return
        talk = self._talk(event.id, event.remote_address)
        if event.reason in reasons.BY_ENDING and not talk.refused:
            self._add(talk, "", "", None, event.detail, reasons.BY_ENDING[event.reason])
        talk.ended, talk.detail = event.reason, event.detail[:MAX_TEXT]
        self._open.pop(event.id, None)

    def _talk(self, id: str, address: str) -> Talk:
        """The connection, even if its start was missed."""
        talk = self._open.get(id)
        if talk is None:
            talk = self._open[id] = Talk(id, time.time(), address)
        return talk

    def _add(
        self, talk: Talk, command: str, argument: str, code: int | None, text: str, why: str
    ) -> None:
        talk.time = time.time()
        if not talk.refused:
            self.total += 1
            self._kept.append(talk)
        talk.refused += 1
        if len(talk.refusals) < REFUSALS:
            talk.refusals.append(
                {
                    "time": talk.time,
                    "command": command,
                    "argument": argument[:MAX_TEXT],
                    "code": code,
                    "reply": text[:MAX_TEXT],
                    "why": why,
                }
            )


routes = Blueprint("refused", __name__, url_prefix="/api/refused")


@routes.before_request
def check_change() -> None:
    if is_change():
        check_parameters()


@routes.get("")
def list_refused() -> Response:
    refusals = _refusals()
    return jsonify(connections=[talk.as_dict() for talk in refusals.kept], total=refusals.total)


@routes.delete("")
def forget_refused() -> Response:
    return jsonify(deleted=_refusals().clear())


@routes.get("/<id>")
def show_refused(id: str) -> Response:
    talk = _refusals().get(id)
    if talk is None:
        abort(404, "nothing was refused on such a connection, or it is too long ago")
    return jsonify(talk.with_lines())


def _refusals() -> Refusals:
    refusals: Refusals = current_app.extensions["smtp_blinker"].refusals
    return refusals
