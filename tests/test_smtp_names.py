"""U-labels and A-labels: what IDNA 2008 allows, compared with the package idna."""

from __future__ import annotations

import unicodedata

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker.smtp.names import MAX_LABEL, ascii_domain, hides_syntax, unicode_domain


def encoded(label: str) -> str:
    return "xn--" + label.encode("punycode").decode("ascii")


@pytest.mark.parametrize(
    ("domain", "unicode"),
    [
        ("example.org", "example.org"),
        ("xn--bcher-kva.example", "bücher.example"),
        ("XN--BCHER-KVA.Example", "bücher.Example"),
        ("xn--strae-oqa.example", "straße.example"),
        ("xn--fsqu00a.xn--0zwm56d", "例子.测试"),
        ("xn--mgba3gch31f060k.example", "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example"),
        ("xn--l-0da.xn--ll-0ea", "xn--l-0da.l·l"),
    ],
)
def test_a_labels_become_u_labels_and_back(domain: str, unicode: str) -> None:
    assert unicode_domain(domain) == unicode
    assert ascii_domain(unicode).lower() == domain.lower()


#: U+FF4D is a full-width letter, U+017F a long s, U+212A the sign for Kelvin.
@pytest.mark.parametrize(
    "label",
    [
        "xn--dmin-zg0y", "xn--ber-ska", encoded("\uff4dx"), encoded("\u017f"), encoded("\u212a"),
        encoded("e\u0301"), encoded("\u0301a"), encoded("a\u00aa"), encoded("a\u2126"),
        encoded("i\u2665u"), encoded("\U0001f4a9"), encoded("\u0378"), encoded("\ue000"),
        encoded("ü\u200d"), encoded("ü\u200ca"), encoded("a\u00b7b"), encoded("ü\u30fb"),
        encoded("\u0661\u06f1"), encoded("a\u05d0"), encoded("\u05d01\u0661"),
        encoded("\u05d0-b"), encoded("\u0640\u0627"), encoded("\u1100\u1161"),
        encoded("ab--ü"), encoded("ü-"), encoded("-ü"), encoded("\u2460"), encoded("\u00adü"),
        encoded("é.b"), encoded("é@b"), encoded("é b"), encoded("é\u2028b"), encoded("é\u202eb"),
        encoded("é/b"), encoded("é>b"), encoded("é\uff0eb"), encoded("é_b"),
        "xn--", "xn--a", "xn--a-", "xn--\udc80", "xn--ü", "xn--e99999999999999999999xm",
        "xn----eha", "xn--eha-", "xn--com-ge4a", encoded("ü" * 60),
    ],
    ids=ascii,
)  # fmt: skip
def test_a_label_that_idna_2008_does_not_allow_stays_as_it_is(label: str) -> None:
    assert unicode_domain(f"{label}.example") == f"{label}.example"


def test_each_character_is_judged_as_the_package_idna_judges_it() -> None:
    # Ideographs and Hangul syllables are many, and all alike.
    for number in (*range(0x80, 0x3400), *range(0xA000, 0xAC00), *range(0xD700, 0x18000),
                   *range(0x1A000, 0x20000), *range(0x2F800, 0x30000), *range(0xE0000, 0xE0200),
                   *range(0x3400, 0x110000, 997)):  # fmt: skip
        char = chr(number)
        if unicodedata.category(char) in {"Cn", "Cs"}:  # the package may know a later Unicode
            continue
        label = f"a{char}"
        try:
            idna.check_label(label)
            allowed = True
        except idna.IDNAError:
            allowed = False
        assert (unicode_domain(encoded(label)) == label) is allowed, ascii(char)


#: Of each rule of context and of both directions.
LETTERS = (
    "abl-0·͵αω׳״אבג・あアー一々〇٠١۰۱\u200c\u200dक्षابتدرزوهی\u064bßςÜüö̈ẞſ漢한ᄀ\u0300\u094dⅫ１Ａªº΄"  # noqa: RUF001
)


@given(st.text(st.sampled_from(LETTERS), min_size=1, max_size=6))
def test_labels_are_judged_as_the_package_idna_judges_them(label: str) -> None:
    if label.isascii():
        return
    try:
        idna.check_label(label)
        allowed = True
    except idna.IDNAError:
        allowed = False
    assert (unicode_domain(encoded(label)) == label) is allowed


@given(st.text(max_size=MAX_LABEL).map(lambda label: f"xn--{label}"))
def test_what_is_decoded_is_encoded_to_the_same_domain(domain: str) -> None:
    decoded = unicode_domain(domain)
    assert decoded == domain or ascii_domain(decoded) == domain.lower()
    assert unicode_domain(decoded) == decoded


@pytest.mark.timeout(20)
def test_only_what_may_be_a_domain_name_is_decoded() -> None:
    label = encoded("क" * 20)
    longest = ".".join([label] * (255 // (len(label) + 1)))
    assert unicode_domain(longest) != longest
    for domain in (".".join([label] * 60), "xn--" + "a" * 10**6, f"{label}." * 10**5):
        assert unicode_domain(domain) == domain


@pytest.mark.parametrize(
    ("domain", "ascii_form"),
    [
        ("Example.ORG", "Example.ORG"),
        ("STRAẞE.example", "xn--strae-oqa.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("\N{FULLWIDTH LATIN SMALL LETTER M}x.example", "mx.example"),
    ],
)
def test_ascii_domain_is_that_of_idna_2008(domain: str, ascii_form: str) -> None:
    assert ascii_domain(domain) == ascii_form


@pytest.mark.parametrize("char", ["\u3002", "\u2488", "\uff20", "\uff0e", "\u2100"])
def test_characters_that_idna_maps_to_syntax_are_found(char: str) -> None:
    assert hides_syntax(f"a{char}b.example")
    assert not hides_syntax("bücher.example")


@pytest.mark.parametrize("domain", ["\u4e00" * 4000, "\u4e00.".join(["a"] * 4000), "\u00fc" * 64])
def test_what_is_too_long_for_a_domain_stays_as_it_is(domain: str) -> None:
    assert ascii_domain(domain) == domain
