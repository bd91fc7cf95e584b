"""DMARC by RFC 9989's examples and a table, and the authors that From fields name."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("dns")
pytest.importorskip("cryptography")

from support.zones import Zones

from smtp_blinker.policies.sender.authors import author_domains
from smtp_blinker.policies.sender.dmarc import MAX_AUTHORS, MAX_WALK, _Check, check_dmarc
from smtp_blinker.policies.sender.header_fields import Field
from smtp_blinker.policies.sender.lookups import Lookups
from smtp_blinker.policies.sender.results import DKIMResult, DMARCResult, SPFResult


def zones(records: dict[str, Any]) -> Zones:
    """A text is a DMARC record's tags; a list is what `Zones` takes."""
    found: dict[str, Any] = {}
    for name, value in records.items():
        if isinstance(value, list):
            found[name] = value
        else:
            found[f"_dmarc.{name}"] = ["TIMEOUT"] if value == "TIMEOUT" else [{"TXT": value}]
    return Zones(
        {name: ["TIMEOUT"] if value == "TIMEOUT" else value for name, value in found.items()}
    )


def judge(
    author: str | list[str],
    records: dict[str, Any],
    spf: str = "",
    dkim: str = "",
    result: str = "pass",
) -> DMARCResult:
    """The result for *author*, with SPF and DKIM having *result* for these domains."""
    return check_dmarc(
        [author] if isinstance(author, str) else author,
        SPFResult(result if spf else "none", spf, "mailfrom"),
        [DKIMResult(result, dkim)] if dkim else [],
        Lookups(zones(records), 60),
    )


def organization(domain: str, records: dict[str, Any]) -> tuple[str, list[str]]:
    """The organizational domain, and the names that were asked about."""
    asked = zones(records)
    check = _Check(SPFResult("none", "", "mailfrom"), [], Lookups(asked, 60))
    return check._walk(domain).organization, [name for name, _ in asked.asked]


def test_the_walk_of_rfc_9989() -> None:
    """Section 4.10: eight questions at most, the first names being left out."""
    _, asked = organization("a.b.c.d.e.f.g.h.i.j.mail.example.com", {})
    assert asked == [
        "_dmarc.a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "_dmarc.g.h.i.j.mail.example.com",
        "_dmarc.h.i.j.mail.example.com",
        "_dmarc.i.j.mail.example.com",
        "_dmarc.j.mail.example.com",
        "_dmarc.mail.example.com",
        "_dmarc.example.com",
        "_dmarc.com",
    ]
    assert len(asked) == MAX_WALK
    _, asked = organization("a.mail.example.com", {})
    assert asked == ["_dmarc.a.mail.example.com", "_dmarc.mail.example.com", "_dmarc.example.com",
                     "_dmarc.com"]  # fmt: skip


NONE = "v=DMARC1; p=none"


@pytest.mark.parametrize(
    ("domain", "records", "wanted"),
    [
        # Section 4.10.2's own examples
        ("a.mail.example.com", {"mail.example.com": NONE, "example.com": NONE}, "example.com"),
        ("a.mail.example.com", {"mail.example.com": NONE + "; psd=n"}, "mail.example.com"),
        ("a.mail.example.com", {"com": NONE + "; psd=y"}, "example.com"),
        ("mail.example.com", {"example.com": NONE + "; psd=y"}, "mail.example.com"),
        # Section 5.1.8: the record at b.c… is passed over.
        ("mail.a.b.c.d.e.f.g.example.com",
         {"example.com": NONE, "b.c.d.e.f.g.example.com": NONE + "; psd=n"}, "example.com"),
        # Appendix B.4
        ("example.com", {"example.com": NONE, "signing.example.com": NONE}, "example.com"),
        ("signing.example.com", {"example.com": NONE, "signing.example.com": NONE},
         "example.com"),
        ("a.b.c.d.e.f.g.h.i.j.k.example.com",
         {"example.com": NONE, "signing.example.com": NONE}, "example.com"),
        ("giant.bank.example", {"bank.example": NONE + "; psd=y", "giant.bank.example": NONE},
         "giant.bank.example"),
        ("mail.giant.bank.example",
         {"bank.example": NONE + "; psd=y", "giant.bank.example": NONE}, "giant.bank.example"),
        ("mail.mega.bank.example",
         {"bank.example": NONE + "; psd=y", "giant.bank.example": NONE}, "mega.bank.example"),
        # and others
        ("a.mail.example.com", {}, "a.mail.example.com"),
        ("a.mail.example.com", {"mail.example.com": NONE + "; psd=n", "example.com": NONE},
         "mail.example.com"),
        ("a.b.example.co.uk", {"co.uk": NONE + "; psd=y", "uk": NONE}, "example.co.uk"),
        # The record at the start makes nothing a public suffix, and ends the walk (step 2).
        ("co.uk", {"co.uk": NONE + "; psd=y"}, "co.uk"),
        ("co.uk", {"co.uk": NONE + "; psd=y", "uk": NONE}, "co.uk"),
        ("example.com", {"example.com": NONE + "; psd=u", "com": NONE}, "com"),
        # Two records are none.
        ("a.example.com", {"_dmarc.example.com": [{"TXT": NONE}, {"TXT": NONE}]},
         "a.example.com"),
    ],
)  # fmt: skip
def test_the_organizational_domain(domain: str, records: Any, wanted: str) -> None:
    assert organization(domain, records)[0] == wanted


REJECT = "v=DMARC1; p=reject"


@pytest.mark.parametrize(
    ("author", "records", "proofs", "wanted"),
    [
        ("example.com", {}, {}, ("none", "none", "")),
        ("example.com", {"example.com": REJECT}, {}, ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT}, {"spf": "example.com"}, ("pass", "reject", "spf")),
        ("example.com", {"example.com": REJECT}, {"dkim": "example.com"},
         ("pass", "reject", "dkim")),
        ("example.com", {"example.com": REJECT}, {"spf": "bounce.example.com"},
         ("pass", "reject", "spf")),
        ("example.com", {"example.com": REJECT + "; aspf=s"}, {"spf": "bounce.example.com"},
         ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT + "; adkim=s"}, {"dkim": "m.example.com"},
         ("fail", "reject", "")),
        ("news.example.com", {"example.com": REJECT + "; adkim=s"},
         {"dkim": "news.example.com"}, ("pass", "reject", "dkim")),
        ("news.example.com", {"example.com": REJECT}, {"dkim": "example.com"},
         ("pass", "reject", "dkim")),
        ("a.example.com", {"example.com": REJECT}, {"dkim": "b.example.com"},
         ("pass", "reject", "dkim")),
        # Without a record "com" makes no two domains related.
        ("example.com", {"example.com": REJECT}, {"dkim": "com"}, ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT}, {"dkim": "example.org"}, ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT}, {"dkim": "notexample.com"},
         ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT, "com": REJECT + "; psd=y"},
         {"dkim": "other.com"}, ("fail", "reject", "")),
        # A part of the domain that is its own organization
        ("example.com", {"example.com": REJECT, "b.example.com": NONE + "; psd=n"},
         {"dkim": "a.b.example.com"}, ("fail", "reject", "")),
        # sp= and np=
        ("a.example.com", {"example.com": REJECT + "; sp=none"}, {}, ("fail", "none", "")),
        ("a.example.com", {"example.com": NONE + "; sp=quarantine; np=reject"}, {},
         ("fail", "reject", "")),
        ("a.example.com", {"example.com": NONE + "; sp=quarantine; np=reject",
                           "a.example.com": [{"MX": [0, "mx.example.com"]}]}, {},
         ("fail", "quarantine", "")),
        # Section 3.2.13: what has other records, or names below it, exists.
        ("a.example.com", {"example.com": NONE + "; np=reject", "a.example.com": [{"TXT": "x"}]},
         {}, ("fail", "none", "")),
        ("a.example.com", {"example.com": NONE + "; np=reject",
                           "b.a.example.com": [{"A": "192.0.2.1"}]}, {}, ("fail", "none", "")),
        ("a.example.com", {"example.com": NONE + "; np=reject", "a.example.com": ["TIMEOUT"]},
         {}, ("fail", "none", "")),
        ("a.example.com", {"example.com": NONE + "; np=reject", "a.example.com": NONE},
         {}, ("fail", "none", "")),
        # The public suffix's, where nobody else has one
        ("example.bank", {"bank": "v=DMARC1; p=none; sp=reject; psd=y"}, {},
         ("fail", "reject", "")),
        # … and not where the organization has its own, without a policy for it too
        ("www.example.bank", {"bank": REJECT + "; psd=y", "example.bank": NONE}, {},
         ("fail", "none", "")),
        # Appendix B.4.3
        ("giant.bank.example", {"bank.example": NONE + "; psd=y", "giant.bank.example": REJECT},
         {"spf": "mail.giant.bank.example"}, ("pass", "reject", "spf")),
        ("giant.bank.example", {"bank.example": NONE + "; psd=y", "giant.bank.example": REJECT},
         {"dkim": "mail.mega.bank.example"}, ("fail", "reject", "")),
        # t=y
        ("example.com", {"example.com": REJECT + "; t=y"}, {}, ("fail", "quarantine", "")),
        ("example.com", {"example.com": "v=DMARC1; p=quarantine; t=y"}, {}, ("fail", "none", "")),
        # Records that aren't right
        ("example.com", {"example.com": "v=DMARC1; p=nothing"}, {}, ("none", "none", "")),
        ("example.com", {"example.com": "v=DMARC1; rua=mailto:a@example.com"}, {},
         ("fail", "none", "")),
        ("example.com", {"example.com": REJECT + "; sp=x; rua=mailto:a@example.com"}, {},
         ("fail", "none", "")),
        ("example.com", {"example.com": "v=DMARC2; p=reject"}, {}, ("none", "none", "")),
        ("example.com", {"example.com": "p=reject; v=DMARC1"}, {}, ("none", "none", "")),
        ("example.com", {"example.com": "V=DMARC1;p=reject"}, {}, ("fail", "reject", "")),
        ("example.com", {"example.com": "v=dmarc1; p=reject"}, {}, ("none", "none", "")),
        ("example.com", {"example.com": REJECT + "; t=maybe; adkim=x; psd=?"}, {},
         ("fail", "reject", "")),
        ("example.com", {"example.com": "v=DMARC1 ; p = reject ; x; ;;pct=0"}, {},
         ("fail", "reject", "")),
        ("example.com", {"example.com": "v=DMARC1; p=REJECT"}, {}, ("fail", "reject", "")),
        # No answer
        ("example.com", {"example.com": "TIMEOUT"}, {}, ("temperror", "none", "")),
        ("a.example.com", {"example.com": "TIMEOUT"}, {}, ("temperror", "none", "")),
        ("example.com", {"example.com": REJECT, "com": "TIMEOUT"}, {"dkim": "example.com"},
         ("pass", "reject", "dkim")),
        ("example.com", {"example.com": REJECT, "com": "TIMEOUT"}, {}, ("fail", "reject", "")),
        # Section 5.3.6: what wasn't answered may be the record that counts.
        ("a.example.com", {"example.com": REJECT, "com": "TIMEOUT"}, {},
         ("temperror", "reject", "")),
        ("a.example.com", {"example.com": REJECT, "com": "TIMEOUT"}, {"dkim": "b.example.com"},
         ("pass", "reject", "dkim")),
        ("example.com", {"example.com": REJECT}, {"dkim": "example.com", "result": "temperror"},
         ("temperror", "reject", "")),
        ("example.com", {"example.com": REJECT}, {"dkim": "example.org", "result": "temperror"},
         ("fail", "reject", "")),
        ("example.com", {"example.com": REJECT}, {"dkim": "example.com", "result": "policy"},
         ("fail", "reject", "")),
    ],
)  # fmt: skip
def test_what_the_author_s_domain_says(
    author: str, records: Any, proofs: dict[str, str], wanted: tuple[str, str, str]
) -> None:
    found = judge(author, records, **proofs)
    assert (found.result, found.policy, found.aligned) == wanted, found


def test_of_several_authors_the_worst_result_counts() -> None:
    records = {"example.com": REJECT, "good.example": REJECT}
    found = judge(["good.example", "example.com"], records, dkim="good.example")
    assert (found.result, found.domain) == ("fail", "example.com")
    assert judge([], {}).result == "permerror"
    assert judge([f"a{i}.example" for i in range(MAX_AUTHORS + 1)], {}).result == "permerror"


def test_look_ups_are_bounded() -> None:
    deep = ".".join("abcdefghijkl")
    dkim = [DKIMResult("pass", f"x{i}.{deep}.example.com") for i in range(10)]
    asked = zones({"example.com": REJECT})
    check_dmarc([f"y.{deep}.example.com"], SPFResult("none", "", "mailfrom"), dkim,
                Lookups(asked, 60))  # fmt: skip
    # Walks share what is above the first name.
    assert len(asked.asked) <= 10 + MAX_WALK
    assert len(set(asked.asked)) == len(asked.asked)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (["a@example.com"], ["example.com"]),
        (["A <a@Example.COM.>"], ["example.com"]),
        (['"b@other.example" <a@example.com>'], ["example.com"]),
        (["b@other.example <a@example.com>"], ["example.com"]),
        (["(b@other.example) a@example.com (c)"], ["example.com"]),
        (["a@(x)example.com"], ["example.com"]),
        (['"<b@other.example>, " <a@example.com>'], ["example.com"]),
        (['"a\\"@b.example" <a@example.com>'], ["example.com"]),
        (['"quoted part"@example.com'], ["example.com"]),
        (["a@example.com, B <b@example.org>"], ["example.com", "example.org"]),
        (["a@example.com", "b@example.org"], ["example.com", "example.org"]),
        (["group: a@example.com;"], ["example.com"]),
        # Quotes mean nothing in a comment (RFC 5322 section 3.2.2), and comments nothing in quotes.
        (['(a " b) <b@evil.example> (c " d) <a@example.com>'], []),
        (['(it"s) <b@evil.example> ("x) <a@example.com>'], []),
        (['"(" <a@example.com> (")" <b@evil.example>)'], []),
        (["(a \\) <b@evil.example>) a@example.com"], ["example.com"]),
        (['"\\" <b@evil.example>, " <a@example.com>'], ["example.com"]),
        (["a@b\u00fccher.example"], ["xn--bcher-kva.example"]),
        (["a@example.com,"], ["example.com"]),
        ([], []),
        ([""], []),
        (["nobody"], []),
        (["undisclosed-recipients:;"], []),
        (["<a@example.com> <b@example.org>"], []),
        (["<a@example.com> b@example.org"], []),
        (["a <b@example.org"], []),
        (["a@localhost"], []),
        (["a@[192.0.2.1]"], []),
        (["a@example.com", "nobody"], []),
        (["a@exa mple.com"], []),
        # Programs differ about which of the two it is.
        (["a@evil.example@example.com"], []),
        (["A <a@evil.example@example.com>"], []),
        (["a@evil.example()b@example.com"], []),
        (["a@evil.example b@example.com"], []),
        (["<@evil.example,@b.example:a@example.com>"], []),
        (["<a@evil.example><a@example.com>"], []),
    ],
)
def test_authors(values: list[str], wanted: list[str]) -> None:
    fields = [Field("from", b"From: " + value.encode() + b"\r\n") for value in values]
    assert author_domains(fields) == wanted
