"""SPF by the public suite of RFC 7208, and its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dns")
pytest.importorskip("yaml")

import yaml
from support.zones import Zones

from smtp_blinker.policies.sender.lookups import Lookups
from smtp_blinker.policies.sender.spf import check_spf

SUITE = Path(__file__).parent / "data" / "rfc7208-tests.yml"


def scenarios() -> list[Any]:
    found = []
    for scenario in yaml.safe_load_all(SUITE.read_text()):
        for name, test in scenario["tests"].items():
            found.append(pytest.param(scenario["zonedata"], test, id=name))
    return found


@pytest.mark.parametrize(("zone", "test"), scenarios())
def test_the_suite_of_rfc_7208(zone: Any, test: Any) -> None:
    lookups = Lookups(Zones(zone), 60)
    found = check_spf(str(test["host"]), test["mailfrom"], test["helo"], lookups)
    wanted = test["result"]
    # Of several results the first is the one that the suite prefers.
    assert found.result == (wanted if isinstance(wanted, str) else wanted[0]), found
    if test.get("explanation", "DEFAULT") != "DEFAULT":
        assert found.explanation == test["explanation"]
    elif "explanation" in test:
        assert found.explanation == ""


def test_the_suite_is_whole() -> None:
    assert len(scenarios()) == 203


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ("v=spf1 a:%{l}.example.org include:%{s} exists:%{L}.example.org -all", "fail"),
        ("v=spf1 +a:%{l}.example.org ?all", "neutral"),
        ("v=spf1 redirect=%{l}.example.org", "neutral"),
        ("v=spf1 exists:%{o}.%{h}.example.org -all", "pass"),
    ],
)
def test_terms_with_a_local_part_that_is_not_ascii_match_nothing(record: str, wanted: str) -> None:
    """RFC 8616 section 4"""
    zone = {
        "xn--bcher-kva.example": [{"TXT": record}],
        "xn--bcher-kva.example.mx.example.example.org": [{"A": "127.0.0.2"}],
    }
    lookups = Lookups(Zones(zone), 60)
    sender = "j\u00fcrgen@xn--bcher-kva.example"
    assert check_spf("192.0.2.1", sender, "mx.example", lookups).result == wanted
