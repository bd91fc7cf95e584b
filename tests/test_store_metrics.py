"""What stores handed over: in metrics, on the page, and whether a program is ready."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from support import running
from test_store_relay import Hop
from test_store_webhook import TEXT, endpoint

from smtp_blinker import Reject, Session
from smtp_blinker.listeners.metrics import SpoolMetrics, StoreMetrics
from smtp_blinker.session import Address
from smtp_blinker.stores import MaildirStore, RelayStore, SpoolStore, WebhookStore
from smtp_blinker.stores.circuit import FAILURES, Circuit
from smtp_blinker.web import create_app


def hand_over(store: Any, *recipients: str) -> None:
    session = Session()
    session.envelope.mail_from = Address("a@example.org")
    session.envelope.rcpt_to = [Address(one) for one in recipients or ("b@example.com",)]
    store(io.BytesIO(b"Subject: hello\r\n\r\nHello\r\n"), session)


class Numbers:
    """The metrics of one store."""

    def __init__(self, store: Any) -> None:
        self.registry = CollectorRegistry()
        StoreMetrics({"it": store}, self.registry)

    def one(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"smtp_store_{name}", {"store": "it", **labels})

    @property
    def outcomes(self) -> tuple[float | None, ...]:
        return tuple(
            self.one("messages_total", outcome=outcome)
            for outcome in ("accepted", "refused", "failed")
        )


def test_what_was_handed_over_is_counted_by_its_outcome() -> None:
    with endpoint() as hook:
        store = WebhookStore(hook.url)
        numbers = Numbers(store)
        assert numbers.outcomes == (0, 0, 0)  # from the start, so that the first one is seen
        hand_over(store)
        hook.answer = lambda: ("no", 422, TEXT)
        with pytest.raises(Reject):
            hand_over(store)
        assert numbers.outcomes == (1, 1, 0)
        assert (numbers.one("seconds_count"), numbers.one("away")) == (2, 0)
        hook.answer = lambda: ("", 500)
        for _ in range(FAILURES):
            with pytest.raises(Exception, match="500"):
                hand_over(store)
        assert numbers.outcomes == (1, 1, FAILURES)
        assert numbers.one("away") == 1
        with pytest.raises(Reject):  # which isn't handed over
            hand_over(store)
        assert numbers.outcomes == (1, 1, FAILURES)
        store.circuit._closed_again = 0  # as if the pause were over
        hook.answer = lambda: ""
        hand_over(store)
        assert numbers.outcomes == (2, 1, FAILURES)
        assert numbers.one("away") == 0


@pytest.mark.parametrize("code", [450, 550])
def test_a_recipient_that_the_next_hop_refuses_is_a_refusal(code: int) -> None:
    hop = Hop()

    def refuse(address: str) -> None:
        if address.startswith("no"):
            raise Reject(code, "no")

    hop.refuse = refuse
    with running(**hop.options) as server:
        store = RelayStore(f"smtp://localhost:{server.server_port}")
        numbers = Numbers(store)
        hand_over(store)
        with pytest.raises(Reject):
            hand_over(store, "b@example.com", "no@example.com")
        assert numbers.outcomes == (1, 1, 0)
        store.close()


def test_the_time_is_that_of_the_hand_over() -> None:
    now = [100.0]
    circuit = Circuit(clock=lambda: now[0])
    seen: list[tuple[str, float]] = []
    circuit.watchers.append(lambda outcome, seconds: seen.append((outcome, seconds)))
    with circuit.attempt():
        now[0] += 2
    with pytest.raises(GeneratorExit), circuit.attempt():
        raise GeneratorExit  # what ends a greenlet is no failure of the other side
    assert seen == [("accepted", 2), ("failed", 0)]
    assert not circuit.is_failing


def test_only_what_has_another_side_is_counted(tmp_path: Path) -> None:
    store = MaildirStore(tmp_path / "Maildir", "mx.test")
    with pytest.raises(TypeError, match="mail is a MaildirStore"):
        StoreMetrics({"mail": store}, CollectorRegistry())
    registry = CollectorRegistry()
    StoreMetrics({}, registry)
    with pytest.raises(ValueError, match="Duplicated"):
        StoreMetrics({}, registry)


def test_the_page_has_a_row_for_each_store_and_spool(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    app = create_app(registry=registry)
    client = app.test_client()
    try:
        live: Any = client.get("/api/live").json
        assert (live["stores"], live["spools"]) == ([], [])
        store = WebhookStore("http://127.0.0.1:9/")
        spool = SpoolStore(store, tmp_path / "spool", delay=1000, max_delay=1000)
        StoreMetrics({"hook": store}, registry)
        SpoolMetrics(spool, registry=registry)
        hand_over(spool)
        live = client.get("/api/live").json
    finally:
        app.extensions["smtp_blinker"].detach()
    [row] = live["stores"]
    assert row.pop("seconds_sum") >= 0
    assert row == {
        "store": "hook",
        "accepted": 0,
        "refused": 0,
        "failed": 1,
        "seconds_count": 1,
        "away": 0,
    }
    [row] = live["spools"]
    assert (row["spool"], row["messages"]) == (str(tmp_path / "spool"), 1)
    assert row["bytes"] > 0
    assert 0 <= row["seconds"] < 60
    assert live["totals"]['smtp_store_messages_total{store="hook",outcome="failed"}'] == 1


# Whether mail can be handed over


def test_a_webhook_s_check_connects_and_sends_no_request() -> None:
    with endpoint() as hook:
        store = WebhookStore(hook.url)
        store.check()
        store.check()
        assert hook.requests == []
        hook.answer = lambda: ("", 500)
        for _ in range(FAILURES):
            with pytest.raises(Exception, match="500"):
                hand_over(store)
        with pytest.raises(Reject):  # it is there, and mail is refused all the same
            store.check()
        store.circuit._closed_again = 0  # as if the pause were over
        store.check()
    with pytest.raises(OSError, match="refused"):
        store.check()


def test_a_next_hop_s_check_begins_a_session_and_sends_no_message() -> None:
    hop = Hop()
    with running(**hop.options) as server:
        store = RelayStore(f"smtp://localhost:{server.server_port}", timeout=5)
        store.check()
        store.check()
        assert len(server.connections) == 1
        assert hop.got == []
    with pytest.raises(OSError, match="refused"):
        store.check()
    with running(**hop.options, on_connect=no_clients) as server:
        store = RelayStore(f"smtp://localhost:{server.server_port}", timeout=5)
        with pytest.raises(OSError, match="not today"):
            store.check()


def no_clients(session: Session) -> None:
    raise Reject(554, "not today")
