"""Events of `FleetEvents` that were dropped, in Prometheus's metrics."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from smtp_blinker import signals
from smtp_blinker.listeners import fleet
from smtp_blinker.listeners.fleet import FleetEvents
from smtp_blinker.listeners.metrics import FleetMetrics
from smtp_blinker.signals import SecureEvent


class Server:
    """What sends signals."""


def test_each_that_is_dropped_is_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr(fleet, "require_patched", lambda name: None)
    registry = CollectorRegistry()
    server = Server()
    with socket.socket() as taken:  # nothing listens, and nothing else gets the port
        taken.bind(("127.0.0.1", 0))
        events = FleetEvents(f"redis://127.0.0.1:{taken.getsockname()[1]}", buffer=2)
        FleetMetrics(events, registry=registry)
        events.attach(server)

        def dropped() -> float | None:
            return registry.get_sample_value("smtp_events_dropped_total")

        assert dropped() == 0  # from the start, so that the first one is seen
        for _ in range(5):
            signals.emit(signals.secure, server, SecureEvent("a" * 16, None, "TLSv1.3", "x"))
        assert dropped() == events.dropped == 3
        events.close(timeout=0)
        assert dropped() == events.dropped == 5, "those that waited until the end"
    with pytest.raises(ValueError, match="Duplicated"):
        FleetMetrics(registry=registry)
