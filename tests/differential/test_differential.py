"""The dialogues, played to this server; and to the others when SMTP_BLINKER_PEERS is set."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from compare import Outcome, octets, play_all, read_dialogues, start

DIALOGUES = list(read_dialogues())
DOCUMENT = Path(__file__).resolve().parent.parent.parent / "docs" / "differences.md"


@pytest.fixture(scope="module")
def ours() -> dict[str, Outcome]:
    with ExitStack() as stack:
        return play_all(start(stack, ["smtp_blinker"]), DIALOGUES)["smtp_blinker"]


def test_octets_are_written_in_escapes_and_repetitions() -> None:
    assert octets(r"a\r\n{b\n*3}\xff{c*2}") == b"a\r\nb\nb\nb\n\xffcc"


def test_ids_are_unique() -> None:
    assert len({one.id for one in DIALOGUES}) == len(DIALOGUES)


def test_content_never_becomes_a_message_of_its_own(ours: dict[str, Outcome]) -> None:
    for id_, outcome in ours.items():
        assert not any("evil" in sender for sender in outcome.senders), id_
        assert len(outcome.messages) <= (2 if id_ == "G02" else 1), id_


def test_good_cases_are_taken(ours: dict[str, Outcome]) -> None:
    for id_ in ("G01", "G02", "G03", "G04", "G06", "G07", "E01", "E27", "P02", "P07"):
        assert ours[id_].messages, id_
        assert {code[0] for code in ours[id_].said if code != "closed"} <= {"2", "3"}, id_


if "SMTP_BLINKER_PEERS" in os.environ:  # not a skip, which .ci/run would not have

    @pytest.mark.timeout(900)
    def test_every_difference_is_explained() -> None:
        explained = set(re.findall(r"\b[A-Z]\d\d\b", DOCUMENT.read_text()))
        with ExitStack() as stack:
            outcomes = play_all(start(stack), DIALOGUES)
        mine = outcomes.pop("smtp_blinker")
        differing = {
            one.id
            for one in DIALOGUES
            for theirs in outcomes.values()
            if theirs[one.id].differs(mine[one.id])
        }
        assert not differing - explained
