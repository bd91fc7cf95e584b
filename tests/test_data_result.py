"""What `on_data` returned, as replies: no socket, no server."""

from __future__ import annotations

from typing import Any

import pytest

from smtp_blinker import Reject
from smtp_blinker.connection.data_result import replies_to

OK = "250 2.0.0 OK: message queued"
LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later"
FULL = Reject(452, "full", "4.2.2")
GONE = Reject(550, "gone", "5.1.1")
FAULT = ValueError("secret detail")
OTHER_FAULT = OSError("another")


def texts(result: Any, lmtp: bool) -> list[str]:
    return [str(one) for one in replies_to(result, 2, lmtp)[0]]


@pytest.mark.parametrize(
    ("result", "reply"),
    [
        (None, OK),
        ("stored", "250 2.0.0 stored"),
        (FULL, str(FULL)),
    ],
)
def test_one_result_answers_for_all(result: Any, reply: Any) -> None:
    assert texts(result, lmtp=False) == [reply]
    assert texts(result, lmtp=True) == [reply] * 2
    assert not replies_to(result, 2, lmtp=False)[1]
    assert not replies_to(result, 2, lmtp=True)[1]


@pytest.mark.parametrize("results", [[None, "stored"], [], [None, FULL], (GONE, FULL), [FAULT]])
def test_smtp_has_one_reply_so_a_list_is_a_fault(results: Any) -> None:
    replies, [fault] = replies_to(results, 2, lmtp=False)
    assert list(map(str, replies)) == [LOCAL_ERROR]
    assert type(results).__name__ in str(fault)


def test_lmtp_has_each_recipient_s_own() -> None:
    assert texts(["stored", GONE], lmtp=True) == ["250 2.0.0 stored", str(GONE)]
    assert texts((FAULT, None), lmtp=True) == [LOCAL_ERROR, OK]


@pytest.mark.parametrize("results", [[], ["one"], ["one", GONE, FAULT], ["a", "b", "c", "d"]])
def test_lmtp_results_of_another_number_than_the_recipients_are_a_fault(results: Any) -> None:
    replies, [fault] = replies_to(results, 2, lmtp=True)
    assert list(map(str, replies)) == [LOCAL_ERROR] * 2
    assert str(fault) == f"on_data returned {len(results)} results for 2 recipients"


def test_every_fault_among_the_results_is_reported() -> None:
    assert list(replies_to([FAULT, OTHER_FAULT], 2, lmtp=True)[1]) == [FAULT, OTHER_FAULT]
    assert list(replies_to([GONE, FAULT], 2, lmtp=True)[1]) == [FAULT]


@pytest.mark.parametrize(
    "entry",
    [
        ValueError,
        map(str, ()),
        (x for x in ()),  # type: ignore[var-annotated]
        True,
        False,
        250,
        b"ok",
        {},
        "550 no",
        "4.2.2 full",
    ],
)
def test_an_entry_that_is_no_text_no_none_and_no_reject_is_a_fault(entry: Any) -> None:
    assert texts([None, entry], lmtp=True) == [OK, LOCAL_ERROR]
    [fault] = replies_to([None, entry], 2, lmtp=True)[1]
    assert fault.__traceback__ is None
