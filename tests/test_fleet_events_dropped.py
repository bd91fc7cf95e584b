"""Events of `FleetEvents`: metrics and log tell which were dropped, and mail waits for none."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable

import gevent
import pytest
from prometheus_client import CollectorRegistry
from support import poll

from smtp_blinker import signals
from smtp_blinker.listeners import fleet
from smtp_blinker.listeners.fleet import FleetEvents
from smtp_blinker.listeners.metrics import FleetMetrics
from smtp_blinker.signals import SecureEvent


class Server:
    """What sends signals."""


class Broker:
    """A publisher that is away, or there and never makes anybody wait."""

    def __init__(self) -> None:
        self.is_away = False
        self.published = 0

    def publish(self, batch: Iterable[tuple[str, bytes]]) -> None:
        if self.is_away:
            raise ConnectionError("it is away")
        for _ in batch:
            self.published += 1

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "require_patched", lambda name: None)


def emit(server: Server, number: int) -> None:
    for _ in range(number):
        signals.emit(signals.secure, server, SecureEvent("a" * 16, None, "TLSv1.3", "x"))


def test_others_run_while_the_events_of_an_outage_are_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet, "LONG_TURN", 0)
    server, broker = Server(), Broker()
    events = FleetEvents("redis://127.0.0.1")
    monkeypatch.setattr(events, "_publisher", broker)
    events.attach(server)
    seen: set[int] = set()

    def look() -> None:
        while broker.published < 50:
            gevent.sleep()
            seen.add(broker.published)

    other = gevent.spawn(look)
    emit(server, 50)
    other.join()
    events.close()
    assert len(seen) > 25, seen


def test_the_log_tells_that_events_are_dropped_and_then_how_many(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fleet, "PAUSES", (0.0, 0.0))
    server, broker = Server(), Broker()
    events = FleetEvents("redis://127.0.0.1", buffer=2)
    monkeypatch.setattr(events, "_publisher", broker)
    events.attach(server)

    def told() -> list[str]:
        lines = [one.getMessage() for one in caplog.records if "dropped" in one.getMessage()]
        caplog.clear()
        return lines

    def wait_for(published: int) -> None:
        poll(lambda: events.published == published)

    first = "the broker is away or too slow: the oldest events are dropped"
    with caplog.at_level(logging.WARNING, "smtp_blinker"):
        for number, published in ((5, 2), (4, 4)):
            broker.is_away = True
            emit(server, number)
            assert told() == [first]
            broker.is_away = False
            wait_for(published)
            assert told() == [f"{number - 2} events were dropped"]
        broker.is_away = True
        emit(server, 2)
        events.close(timeout=0)
        assert told() == ["2 events were dropped"]
    assert events.dropped == 7


def test_each_that_is_dropped_is_counted() -> None:
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
        emit(server, 5)
        assert dropped() == events.dropped == 3
        events.close(timeout=0)
        assert dropped() == events.dropped == 5, "those that waited until the end"
    with pytest.raises(ValueError, match="Duplicated"):
        FleetMetrics(registry=registry)
