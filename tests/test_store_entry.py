"""The envelope of an entry: what it says, and what a reader may rely on."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import gevent
import pytest
from support import SECONDS

from smtp_blinker import Reject, Session
from smtp_blinker.session import Address, TLSInfo
from smtp_blinker.stores.circuit import FAILURES, Circuit, Deadline
from smtp_blinker.stores.entry import Entry, Envelope, Path

SHA256 = hashlib.sha256(b"Hello").hexdigest()


def session(**facts: Any) -> Any:
    made = Session()
    made.remote_address, made.remote_port = "192.0.2.7", 4711
    made.client_hostname = "client.example"
    made.opening_command, made.host_name_appears_as = "EHLO", "me"
    made.secure, made.tls = True, TLSInfo("TLSv1.3", ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256))
    made.user = 7
    made.results["blocklist"] = {"listed": False}
    made.envelope.mail_from = Address("bob@example.net", {"SIZE": "5", "SMTPUTF8": True})
    made.envelope.smtputf8 = True
    made.envelope.rcpt_to = [Address("ann@b\u00fccher.example"), Address("eve@example.com")]
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def test_an_envelope_survives_its_json() -> None:
    envelope = Envelope.of(session(), 5, SHA256, "key-1")
    text = envelope.as_json()
    assert b"\n" not in text
    assert text.isascii()
    again = Envelope.from_json(text)
    # The time is written in milliseconds.
    assert abs((again.time - envelope.time).total_seconds()) < 0.001
    assert again.as_dict() == envelope.as_dict()
    assert again.rcpt_to == (Path("ann@b\u00fccher.example"), Path("eve@example.com"))
    assert again.mail_from.args == {"SIZE": "5", "SMTPUTF8": True}
    assert (again.client.user, again.client.transmission_type) == ("7", "UTF8SMTPSA")
    assert again.time.tzinfo is not None
    assert again.time <= datetime.now(UTC)


def test_an_entry_is_the_json_of_the_envelope_and_what_a_store_needs_of_it() -> None:
    made = session()
    made.envelope.received_at = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    entry = Entry.of(made, 5, SHA256, "key-1")
    envelope = Envelope.of(made, 5, SHA256, "key-1")
    assert entry.head == envelope.as_json()
    facts = entry.id, entry.content_id, entry.time
    assert facts == (envelope.id, envelope.content_id, envelope.time.timestamp())


@pytest.mark.parametrize("microsecond", [0, 1, 999, 1000, 122_999, 123_000, 678_901, 999_999])
def test_the_time_is_that_of_the_receipt_in_whole_milliseconds(microsecond: int) -> None:
    made = session()
    for day in (1, 28):
        received_at = datetime(2026, 2, day, 23, 59, 59, microsecond, UTC)
        made.envelope.received_at = received_at
        written = json.loads(Entry.of(made, 5, SHA256).head)["time"]
        assert written == received_at.isoformat(timespec="milliseconds")


def test_each_entry_has_what_is_known_of_the_client_by_then() -> None:
    made = session(user=None)
    first = Envelope.of(made, 5, SHA256).client
    made.user, made.host_name_appears_as = "ann", "you"  # AUTH and EHLO between two messages
    second = Envelope.of(made, 5, SHA256).client
    assert (first.user, first.host_name_appears_as) == (None, "me")
    assert (second.user, second.host_name_appears_as) == ("ann", "you")


def test_domains_are_a_labels_where_the_client_did_not_ask_for_smtputf8() -> None:
    made = session()
    made.envelope.smtputf8 = False
    made.envelope.mail_from = Address("bob@fa\u00df.example")
    envelope = Envelope.of(made, 5, SHA256)
    assert envelope.mail_from.address == "bob@xn--fa-hia.example"
    assert envelope.rcpt_to[0].address == "ann@xn--bcher-kva.example"


def test_the_id_is_the_transaction_s_and_the_content_id_that_of_what_was_sent() -> None:
    first = Envelope.of(session(), 5, SHA256)
    again = Envelope.of(session(remote_address="192.0.2.8", transaction=2), 5, SHA256)
    assert first.id == f"{first.client.id}-1"
    assert again.id == f"{again.client.id}-2"
    assert first.content_id == again.content_id

    other = session()
    other.envelope.rcpt_to.pop()
    assert Envelope.of(other, 5, SHA256).content_id != first.content_id
    assert Envelope.of(session(), 5, "0" * 64).content_id != first.content_id


def test_a_result_that_json_has_no_form_for_is_its_text() -> None:
    made = session()
    made.envelope.results["when"] = datetime(2026, 1, 2, tzinfo=UTC)
    text = Envelope.of(made, 5, SHA256).as_json()
    assert json.loads(text)["results"]["when"] == "2026-01-02 00:00:00+00:00"


class Verdict:
    """A result as policies make them: an object with others inside."""

    def __init__(self, *inner: Any) -> None:
        self.inner = inner

    def as_dict(self) -> dict[str, Any]:
        return {"listed": True, "zones": frozenset({"zen.example"}), "inner": self.inner}


def test_a_result_is_what_its_as_dict_says() -> None:
    made = session()
    made.results["blocklist"] = Verdict(Verdict())
    made.envelope.results["spf"] = [Verdict()]
    entry = json.loads(Envelope.of(made, 5, SHA256).as_json())
    inner = {"listed": True, "zones": ["zen.example"], "inner": []}
    assert entry["results"] == {"blocklist": {**inner, "inner": [inner]}, "spf": [inner]}
    # A consumer of the same process sees what one elsewhere does.
    assert Envelope.of(made, 5, SHA256).results == entry["results"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"version": 2}', '{"version": 1, "id": "x"}', "\xff"],
)
def test_what_is_no_envelope_of_this_version_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Envelope.from_json(text)


def test_a_reader_ignores_what_it_does_not_know() -> None:
    entry = Envelope.of(session(), 5, SHA256).as_dict()
    assert Envelope.from_dict({**entry, "new": 1}).id == entry["id"]


# The memory of failures


class Clock:
    now = 100.0

    def __call__(self) -> Any:
        return self.now


@pytest.mark.parametrize("failure", [OSError("away"), Reject(451), gevent.Timeout()])
def test_after_failures_in_a_row_mail_is_refused_until_a_trial_succeeds(failure: Any) -> None:
    clock = Clock()
    circuit = Circuit(failures=3, pause=5, clock=clock)

    def fail() -> None:
        with pytest.raises(type(failure)), circuit.attempt():
            raise failure

    for _ in range(3):
        circuit.check()
        fail()
    with pytest.raises(Reject, match=r"451 4\.3\.0"):
        circuit.check()
    clock.now += 5
    fail()
    with pytest.raises(Reject), circuit.attempt():
        pytest.fail("one trial only")
    clock.now += 5
    with circuit.attempt():
        assert circuit.is_open, "for all others, while it is under way"
    circuit.check()
    fail()
    circuit.check()


def test_a_message_that_the_other_side_refuses_for_good_is_no_failure_of_its() -> None:
    circuit = Circuit()
    for _ in range(FAILURES):
        with pytest.raises(Reject), circuit.attempt():
            raise Reject(552)
    circuit.check()


# Deadlines


class Late(Exception):
    """What a deadline raises here."""


def test_a_deadline_ends_a_block_that_goes_on_after_any_exception() -> None:
    def keep_waiting() -> None:
        while True:
            with suppress(Exception):
                gevent.sleep(SECONDS)

    with pytest.raises(Late), Deadline(0.01, Late):
        keep_waiting()


def test_a_deadline_raises_for_its_own_block_only() -> None:
    with pytest.raises(Late), Deadline(0.01, Late), Deadline(SECONDS, ValueError):
        gevent.sleep(SECONDS)


def test_a_block_that_ends_in_time_is_left_alone() -> None:
    with Deadline(0.01, Late):
        pass
    with pytest.raises(KeyError), Deadline(0.01, Late):
        raise KeyError
    gevent.sleep(0.02)
