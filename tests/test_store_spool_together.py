"""A spool hands over many messages at once to a store that takes them so, still in their order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest
from test_store_spool import (
    RECEIVER,
    Inner,
    errors,
    files,
    hand_over,
    one_pass,
    read_until_killed,
    spooled,
    start,
    told_by_three,
)

from smtp_blinker import Reject, Session
from smtp_blinker.stores import spool_folder
from smtp_blinker.stores.circuit import Circuit, Outcome


class Together(Inner):
    """Takes several at once too. `before` sees the subjects of a group before they are taken."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[str]] = []
        self.before: Callable[[list[str]], object] = lambda subjects: None

    def hand_over_together(self, messages: Sequence[tuple[Any, Session]]) -> list[Any]:
        contents = [stream.read() for stream, _ in messages]
        subjects = [text.split(b"\r\n")[0].removeprefix(b"Subject: ").decode() for text in contents]
        self.groups.append(subjects)
        self.before(subjects)
        results: list[Any] = []
        for subject, text, (_, session) in zip(subjects, contents, messages, strict=True):
            failure = self.failures.get(subject)
            if failure is None:
                self.messages.append(text)
                self.sessions.append(session)
            results.append(failure or f"stored {subject}")
        return results


@pytest.fixture
def store() -> Together:
    return Together()


def back(store: Together, path: Path, subjects: Sequence[str]) -> Any:
    """A spool with messages of these *subjects*, whose store is there again."""
    spool = spooled(store, path, *subjects)
    store.failure = None
    return spool


def test_the_first_shows_that_the_store_is_there_and_the_others_go_together_in_order(
    tmp_path: Path, store: Together
) -> None:
    subjects = [f"number {number}" for number in range(2 * spool_folder.GROUP)]
    spool = back(store, tmp_path, subjects)
    queue = len(files(spool))
    store.before = lambda group: seen.append(len(files(spool)))
    seen: list[int] = []
    assert one_pass(spool)
    assert store.calls == subjects[:1]
    assert [len(group) for group in store.groups] == [spool_folder.GROUP, spool_folder.GROUP - 1]
    assert store.subjects == subjects
    # Nothing is removed before the store has it.
    assert seen == [queue - 1, queue - 1 - spool_folder.GROUP]
    assert files(spool) == []
    assert store.sessions[1].envelope.rcpt_to[0].address == "ann@example.com"


def test_while_the_store_is_away_no_group_is_tried(tmp_path: Path, store: Together) -> None:
    spool = spooled(store, tmp_path, *"abcdef")
    assert not one_pass(spool)
    assert store.calls[:2] == ["a", "b"]
    assert store.groups == []


def test_a_large_message_ends_a_group_and_goes_alone(tmp_path: Path, store: Together) -> None:
    large = "x" * spool_folder.GROUP_OCTETS
    spool = back(store, tmp_path, ["a", "b", "c", large, "d", "e"])
    assert one_pass(spool)
    assert store.groups == [["b", "c"], ["d", "e"]]
    assert store.subjects == ["a", "b", "c", large, "d", "e"]


def test_what_can_not_be_read_ends_a_group_and_is_moved_to_failed(
    tmp_path: Path, store: Together
) -> None:
    spool = back(store, tmp_path, "abcdef")
    path = files(spool)[3]
    path.write_bytes(path.read_bytes()[:-1])
    with errors() as heard:
        assert one_pass(spool)
    assert store.groups == [["b", "c"], ["e", "f"]]
    assert [one.name for one in files(spool, "failed")] == [path.name]
    assert [event.code for event in heard] == ["SpoolFailed"]


def test_what_is_refused_for_good_is_moved_to_failed_and_the_others_are_stored(
    tmp_path: Path, store: Together
) -> None:
    spool = back(store, tmp_path, "abcd")
    third = files(spool)[2]
    store.failures = {"c": Reject(552, "too large", "5.3.4")}
    with errors() as heard:
        assert one_pass(spool)
    assert store.subjects == ["a", "b", "d"]
    assert [path.name for path in files(spool, "failed")] == [third.name]
    assert [(event.code, event.meta["message"]) for event in heard] == [("SpoolFailed", third.name)]
    assert files(spool) == []


def test_one_of_a_group_that_fails_is_tried_alone_and_then_waits(
    tmp_path: Path, store: Together
) -> None:
    spool = back(store, tmp_path, "abcd")
    store.failures = {"c": OSError("not this one")}
    assert one_pass(spool)
    assert store.subjects == ["a", "b", "d"]
    assert store.calls == ["a", "c"]
    assert len(files(spool)) == 1
    store.failures = {}
    assert one_pass(spool)
    assert store.subjects == ["a", "b", "d", "c"]


@pytest.mark.parametrize("failure", [OSError("gone"), Reject(451, "later"), gevent.Timeout(1)])
def test_a_group_that_fails_goes_one_by_one_in_its_order(
    tmp_path: Path, store: Together, failure: BaseException
) -> None:
    """Whichever of them it is that the store fails with."""
    subjects = [f"number {number}" for number in range(spool_folder.GROUP + 10)]
    poison = subjects[20]
    spool = back(store, tmp_path, subjects)
    store.failures = {poison: Reject(550, "no")}

    def fails(group: list[str]) -> None:
        if poison in group:
            raise failure

    store.before = fails
    with errors() as heard:
        assert one_pass(spool)
    assert store.subjects == [one for one in subjects if one != poison]
    assert [len(group) for group in store.groups] == [spool_folder.GROUP, 9]
    assert [event.code for event in heard] == ["SpoolFailed"]


def test_a_store_that_goes_away_amid_handing_over_loses_nothing_and_keeps_the_order(
    tmp_path: Path, store: Together
) -> None:
    spool = back(store, tmp_path, "abcdef")

    def goes_away(group: list[str]) -> None:
        store.failure = OSError("away")  # type: ignore[assignment]
        store.before = lambda group: None
        raise OSError("gone")

    store.before = goes_away
    with errors() as heard:
        assert one_pass(spool)  # the first one
        assert not one_pass(spool)
    assert [event.code for event in heard] == ["StoreAway"]
    assert (len(files(spool)), spool.is_away) == (5, True)
    store.failure = None
    assert one_pass(spool)
    assert store.subjects == list("abcdef")


def test_new_messages_go_behind_those_that_are_being_handed_over(
    tmp_path: Path, store: Together
) -> None:
    spool = back(store, tmp_path, "abc")
    told = []
    store.before = lambda group: told.append(hand_over(spool, "d"))
    assert one_pass(spool)
    assert [text[:11] for text in told] == ["spooled as "]
    assert one_pass(spool)
    assert store.subjects == list("abcd")


#: Hands over in groups until nothing is left, or it is killed; says what the store has.
SENDER = """
import os, sys
import gevent
from smtp_blinker.stores import SpoolStore

class Store:
    def __call__(self, stream, session):
        content = stream.read()
        assert content.endswith((b"\\r\\n.end\\r\\n", b"\\r\\nHello\\r\\n"))
        name = content.split(b"\\r\\n")[0].removeprefix(b"Subject: ")
        os.write(1, name + f" {len(content)}\\n".encode())
        return "stored"

    def hand_over_together(self, messages):
        os.write(1, b"together %d\\n" % len(messages))
        return [self(*one) for one in messages]

spool = SpoolStore(Store(), sys.argv[1])
while spool.messages:
    spool._drain.run(lambda: False)
    gevent.sleep(0.01)
os.write(1, b"done 0\\n")
"""


def test_kill_9_amid_a_group_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    answered = read_until_killed(start(RECEIVER, tmp_path), 60)
    told = set()
    for lines in (5, 17):
        told |= read_until_killed(start(SENDER, tmp_path), lines)
    told |= read_until_killed(start(SENDER, tmp_path), -1)
    assert (b"done", b"0") in told
    assert any(name == b"together" for name, _ in told)
    assert answered <= told
    assert list(Path(tmp_path, "queue").iterdir()) == []
    assert list(Path(tmp_path, "failed").iterdir()) == []


def test_several_processes_hand_over_each_message_once_and_in_order(
    tmp_path: Path, store: Together
) -> None:
    subjects = [f"number {number}" for number in range(200)]
    lines = told_by_three(SENDER, spooled(store, tmp_path / "spool", *subjects), tmp_path)
    assert [line for line in lines if line not in {"done", "together"}] == subjects


def test_several_at_once_count_as_one_failure_and_are_each_told() -> None:
    told: list[Outcome] = []
    circuit = Circuit(failures=2, clock=lambda: 0.0)
    circuit.watchers.append(lambda outcome, seconds: told.append(outcome))
    with circuit.attempt_together() as outcomes:
        outcomes += ["failed", "failed", "failed"]
    assert not circuit.is_failing
    with circuit.attempt_together() as outcomes:
        outcomes += ["failed", "refused"]
    assert circuit.is_open
    with pytest.raises(Reject), circuit.attempt_together():
        raise AssertionError("it is open")
    assert told == ["failed"] * 4 + ["refused"]


def test_one_of_several_that_is_accepted_shows_that_the_other_side_is_there() -> None:
    now = [0.0]
    circuit = Circuit(failures=1, pause=5.0, clock=lambda: now[0])
    with circuit.attempt_together() as outcomes:
        outcomes.append("failed")
    now[0] = 5.0
    with circuit.attempt_together() as outcomes:
        assert circuit.is_open, "the others wait for what comes of it"
        outcomes += ["failed", "accepted"]
    assert not circuit.is_failing
