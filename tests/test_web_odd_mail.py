"""Odd messages are shown as their senders meant them: the corpus of benchmarks/parsers.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

odd_mail: Any = importlib.import_module("odd_mail")
parsers: Any = importlib.import_module("parsers")

MESSAGES = odd_mail.odd_messages()


def test_the_corpus_has_two_hundred() -> None:
    assert len(MESSAGES) >= 200
    assert len({each.data for each in MESSAGES}) == len(MESSAGES)


@pytest.mark.parametrize("odd", MESSAGES, ids=lambda odd: odd.kind)
def test_it_is_shown_as_it_was_meant(odd: Any) -> None:
    subject, text, files = parsers.ours(odd.data)
    assert parsers.squeezed(subject) == odd.subject
    assert parsers.squeezed(text) == parsers.squeezed(odd.text)
    assert {name: content for name, content in files.items() if name} == odd.files
