"""Paths, parameters and xtext: what is taken, what is refused, and that nothing else escapes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_blinker import Reject
from smtp_blinker.smtp.paths import MAX_PATH, decode_xtext, parse_parameters, parse_path


def path(text: Any, *, sender: bool = True, smtputf8: bool = False, lenient: bool = False) -> Any:
    verb = "FROM" if sender else "TO"
    return parse_path(f"{verb}:{text}", sender=sender, smtputf8=smtputf8, lenient=lenient)


def refused(call: Any, *args: Any, **keywords: Any) -> str:
    with pytest.raises(Reject) as caught:
        call(*args, **keywords)
    return f"{caught.value.code} {caught.value.enhanced}"


def outcome(call: Any, *args: Any, **keywords: Any) -> Any:
    """(result, None), or (None, the code of the Reject)."""
    try:
        return call(*args, **keywords), None
    except Reject as refusal:
        return None, refusal.code


@pytest.mark.parametrize(
    ("text", "address", "rest"),
    [
        ("<a@example.org>", "a@example.org", ""),
        ("<a@example.org> SIZE=1", "a@example.org", " SIZE=1"),
        ("<a@example.org>junk", "a@example.org", "junk"),
        (" <a@example.org>", "a@example.org", ""),
        ("<>", "", ""),
        ("<> SIZE=1", "", " SIZE=1"),
        ("<Joe.Doe+x@EXAMPLE.org>", "Joe.Doe+x@EXAMPLE.org", ""),
        ("<a@b>", "a@b", ""),
        ("<a@a--b.example>", "a@a--b.example", ""),
        ("<@x.example,@y.example:a@example.org>", "a@example.org", ""),
        ("<@x.example:a@example.org> BODY=7BIT", "a@example.org", " BODY=7BIT"),
        ('<"a b"@example.org>', '"a b"@example.org', ""),
        ('<"a>b"@example.org> X', '"a>b"@example.org', " X"),
        ('<"a\\"b"@example.org>', '"a\\"b"@example.org', ""),
        ('<"a\\\\"@example.org>', '"a\\\\"@example.org', ""),
        ('<"a@b"@example.org>', '"a@b"@example.org', ""),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ""),
        ("<a@[IPv6:2001:DB8:0:0::1]>", "a@[IPv6:2001:db8::1]", ""),
        ("<a@[ipv6:::1]>", "a@[IPv6:::1]", ""),
        # RFC 5952 section 5, on every Python alike
        ("<a@[IPv6:::ffff:192.168.1.1]>", "a@[IPv6:::ffff:192.168.1.1]", ""),
        ("<a@[IPv6:0:0:0:0:0:FFFF:C0A8:101]>", "a@[IPv6:::ffff:192.168.1.1]", ""),
        ("<a@[IPv6:::192.168.1.1]>", "a@[IPv6:::c0a8:101]", ""),
        ("<a@[IPv6:2001:db8:0:1:1:1:1:1]>", "a@[IPv6:2001:db8:0:1:1:1:1:1]", ""),
        ("<a@xn--bcher-kva.example>", "a@bücher.example", ""),
        ("<a@XN--BCHER-KVA.example>", "a@bücher.example", ""),
        ("<a@xn--a.example>", "a@xn--a.example", ""),
        ("<a@xn--99999999999.example>", "a@xn--99999999999.example", ""),
        ("<a@[ipv6:::FFFF:1]>", "a@[IPv6:::ffff:1]", ""),
    ],
)
def test_path_gives_the_address_and_what_follows(text: str, address: str, rest: str) -> None:
    assert path(text) == (address, rest)


@pytest.mark.parametrize("sender", [True, False])
def test_leniently_the_brackets_may_be_missing(sender: bool) -> None:
    assert path("a@example.org", lenient=True, sender=sender) == ("a@example.org", "")
    assert path(" a@b.c SIZE=5", lenient=True, sender=sender) == ("a@b.c", " SIZE=5")
    assert refused(path, "a@b.c", sender=sender).startswith("501")
    for text in ("", " ", "<a@b.c", "a@b.c>", "A <a@b.c>", "a@b.c\x7f"):
        code = "501 5.1.7" if sender else "501 5.1.3"
        assert refused(path, text, lenient=True, sender=sender) == code


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "", "<a@example.org", "a@example.org>", "a", ">", "<", '<"a@example.org>',
        "<a\x00b@example.org>", "<a\x7f@example.org>", "<a\r\n@example.org>", "\t<a@example.org>",
        '<"a\tb"@example.org>', "<a\x07b@example.org>", "<a\x1bb@example.org>",
    ],
)  # fmt: skip
def test_no_path_is_refused_leniently_or_not(text: str, lenient: bool) -> None:
    assert refused(path, text, lenient=lenient) == "501 5.1.7"
    assert refused(path, text, lenient=lenient, sender=False) == "501 5.1.3"


@pytest.mark.parametrize(
    "text",
    [
        "< >", "<a>", "<a@>", "<@example.org>", "<a b@example.org>", "<a@b@example.org>",
        "<<a@example.org>>", "<a..b@example.org>", "<.a@example.org>", "<a.@example.org>",
        "<a@-b.example>", "<a@b-.example>", "<a@b..example>", "<a@.example>", "<a@example.>",
        "<a@exam_ple.org>", "<a@[]>", "<a@[::1]>", "<a@[999.1.1.1]>", "<a@[1.2.3]>",
        "<a@[01.2.3.4]>", "<a@[IPv6:1.2.3.4]>", "<a@[IPv6:fe80::1%eth0]>", "<a@[1.2.3.4>",
        '<"a"b@example.org>', '<"a""b"@example.org>', "<a(c)@example.org>", "<a,b@example.org>",
        "<@x.example,y.example:a@example.org>", "<@:a@example.org>",
    ],
)  # fmt: skip
def test_bad_syntax_is_refused_only_strictly(text: str) -> None:
    assert refused(path, text) == "501 5.1.7"
    assert refused(path, text, sender=False) == "501 5.1.3"
    assert isinstance(path(text, lenient=True)[0], str)


def test_path_has_256_octets_at_most() -> None:
    # RFC 5321 section 4.5.3.1.3
    label = "b" * 50
    rest = f"@{label}.{label}.{label}.example"
    longest = f"<{'a' * (MAX_PATH - 2 - len(rest))}{rest}>"
    assert len(longest) == MAX_PATH
    assert path(longest) == (longest[1:-1], "")
    assert refused(path, longest.replace("<a", "<aa")) == "501 5.1.7"


@pytest.mark.parametrize("sender", [True, False])
@pytest.mark.parametrize(
    "address",
    [
        "a" * 300 + "@example.org", '"' + "a b" * 100 + '"@example.org', "a@" + "b." * 150 + "c",
        "a" * 300 + ".@example.org", "a@" + "b" * 300, "a" * 1900 + "@example.org",
    ],
    ids=len,
)  # fmt: skip
def test_leniently_a_path_has_no_length_of_its_own(address: str, sender: bool) -> None:
    assert path(f"<{address}> SIZE=1", lenient=True, sender=sender) == (address, " SIZE=1")
    assert refused(path, f"<{address}>", sender=sender).startswith("501")


def test_what_is_right_comes_out_the_same_leniently() -> None:
    for text in ("<a@[IPv6:::FFFF:1.2.3.4]>", "<a@XN--BCHER-KVA.example>", "<@x.example:a@b.c>"):
        assert path(text, lenient=True) == path(text)


def test_null_path_is_for_senders_and_postmaster_for_recipients() -> None:
    assert refused(path, "<>", sender=False) == "501 5.1.3"
    for name in ("postmaster", "Postmaster", "POSTMASTER"):
        assert path(f"<{name}>", sender=False) == (name, "")
        assert refused(path, f"<{name}>") == "501 5.1.7"


@pytest.mark.parametrize(
    "text", ["<é@example.org>", "<a@bücher.example>", '<"é x"@example.org>', "<Ω@例え.example>"]
)
def test_utf8_needs_smtputf8(text: str) -> None:
    # RFC 6531 section 3.5
    assert refused(path, text) == "550 5.6.7"
    assert refused(path, text, sender=False) == "553 5.6.7"
    assert path(text, smtputf8=True) == (text[1:-1], "")


@pytest.mark.parametrize("char", ["\x80", "\x85", "\u2028", "\u2029", "\u202e", "\ufeff", "\ue000"])
def test_characters_that_do_not_print_are_refused(char: str) -> None:
    assert refused(path, f"<a{char}@example.org>", smtputf8=True) == "501 5.1.7"
    assert refused(path, f"<a{char}@example.org>", smtputf8=True, lenient=True) == "501 5.1.7"


# Parameters


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", {}),
        (" ", {}),
        (" SIZE=1", {"SIZE": "1"}),
        (" size=1  body=8BITMIME ", {"SIZE": "1", "BODY": "8BITMIME"}),
        (" SMTPUTF8", {"SMTPUTF8": True}),
        (" ENVID=a+2Bb", {"ENVID": "a+b"}),
        (" FOO=a+2Bb", {"FOO": "a+2Bb"}),
        (" AUTH=<>", {"AUTH": "<>"}),
        (" X-Y=z", {"X-Y": "z"}),
    ],
)
def test_parameters_come_in_upper_case_with_xtext_decoded(text: str, args: dict[str, Any]) -> None:
    assert parse_parameters(text) == args


@pytest.mark.parametrize(
    "text",
    [
        "SIZE=1", "\tSIZE=1", " SIZE=", " =1", " SIZE=1 SIZE=2", " SIZE=1 size=2", " A==b",
        " A=b=c", " -A=b", " A_B=c", " A\tB", " A=b\tc", " A=\x00", " A=\x7f", " é=1", " A A",
        " ENVID=a+0D+0AX", " ENVID=+", " ENVID=+4", " ENVID=+zz", " ENVID=+0a", " ENVID=+C3+A9",
    ],
)  # fmt: skip
def test_bad_parameters_are_refused(text: str) -> None:
    assert refused(parse_parameters, text) == "501 5.5.4"


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_xtext_gives_back_what_was_encoded(text: str) -> None:
    encoded = "".join(f"+{ord(char):02X}" if char in "+=" else char for char in text)
    assert decode_xtext(encoded) == text
    assert decode_xtext("".join(f"+{ord(char):02X}" for char in text)) == text


@given(st.text())
def test_xtext_raises_reject_only_and_never_gives_what_does_not_print(text: str) -> None:
    decoded, code = outcome(decode_xtext, text)
    assert code in (None, 501)
    if code is None:
        assert decoded.isprintable() or decoded == text


# Whatever comes

PARTS = st.sampled_from(
    [
        "<", ">", "@", ".", ":", ",", '"', "\\", "[", "]", "IPv6:", "::1", "1.2.3.4", "a", "b-c",
        "example", "xn--", "xn--bcher-kva", "é", "\u200d", "\u202e", "\x00", "\r", "\n", "\t", " ",
        "postmaster", "=", "+", "SIZE=1", "SMTPUTF8", "%",
    ]
)  # fmt: skip
TEXTS = st.one_of(st.text(), st.lists(PARTS, max_size=20).map("".join))
FRAMED = st.one_of(
    TEXTS, TEXTS.map(lambda text: f"<{text}>"), TEXTS.map(lambda text: f"<a@{text}>")
)


@given(FRAMED, st.booleans(), st.booleans(), st.booleans())
def test_only_reject_escapes_and_addresses_print(
    text: Any, sender: bool, smtputf8: bool, lenient: bool
) -> None:
    result, code = outcome(path, text, sender=sender, smtputf8=smtputf8, lenient=lenient)
    assert code in (None, 501, 550, 553)
    if code is None:
        address, rest = result
        assert address.replace("\u200c", "").replace("\u200d", "").isprintable()
        assert text.endswith(rest)
        assert len(address) < MAX_PATH or lenient


@given(FRAMED, st.booleans())
def test_address_is_its_own_path(text: Any, sender: bool) -> None:
    try:
        address, _ = path(text, sender=sender, smtputf8=True)
    except Reject:
        return
    if len(f"<{address}>") <= MAX_PATH:
        assert path(f"<{address}> X", sender=sender, smtputf8=True) == (address, " X")


@given(TEXTS)
def test_only_reject_escapes_from_parameters(text: Any) -> None:
    for given_text in (text, f" {text}"):
        args, code = outcome(parse_parameters, given_text)
        assert code in (None, 501)
        for name, value in (args or {}).items():
            assert name == name.upper()
            assert name.isascii()
            assert value is True or value


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "<" + "a." * 6000 + "@example.org>", "<" + "a" * 12000, "<a@" + "b-" * 6000 + ">",
        "<" + "@a," * 4000 + ":", '<"' + "\\a" * 6000, "<a@" + "xn--a." * 2000 + ">",
        "<a@" + "a" * 12000 + "!>", " " * 12000 + "<", "<" + "<" * 12000 + ">" * 12000,
        "<a@[" + "1" * 12000 + "]>", "<a@[IPv6:" + ":" * 12000 + "]>",
    ],
)  # fmt: skip
def test_no_long_text_takes_for_ever(text: str) -> None:
    assert refused(path, text, smtputf8=True) == "501 5.1.7"
    assert outcome(path, text, smtputf8=True, lenient=True)[1] in (None, 501)


@pytest.mark.timeout(20)
def test_no_long_parameters_take_for_ever() -> None:
    assert len(parse_parameters(" " + " ".join(f"A{n}=b" for n in range(1000)))) == 1000
    assert refused(parse_parameters, " ENVID=" + "+4" * 6000) == "501 5.5.4"
    parse_parameters(" ENVID=" + "+41" * 4000)
