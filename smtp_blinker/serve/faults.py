"""Faults on demand: --faults and --fault."""

from __future__ import annotations

from smtp_blinker import SMTPServer
from smtp_blinker.faults import Faults

from .settings import Settings, Unusable
from .shared_faults import SharedFaults


def open_faults(settings: Settings) -> Faults | None:
    """The faults of --fault; None without --faults and --fault."""
    if not settings.fails_on_demand:
        return None
    faults = SharedFaults() if settings.workers > 1 else Faults()
    for text in settings.fault:
        try:
            faults.add_text(text)
        except ValueError as exc:
            hint = ""
            if "=" in text.partition(" ")[0]:
                hint = "; in the environment, put each fault in quotes"
            raise Unusable(f"--fault: {exc}{hint}") from exc
    return faults


def fail_on_demand(settings: Settings, faults: Faults, server: SMTPServer) -> None:
    """Apply *faults* to *server*, whose store must be set already."""
    server.use(faults)
    if settings.users is not None or settings.accept_any_auth:
        server.use(faults.at_auth)
    assert server.hooks.on_data is not None
    server.on_data(faults.around(server.hooks.on_data))
