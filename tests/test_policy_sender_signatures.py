"""DKIM and ARC: the public ARC suite, the examples of the RFCs, and hostile signatures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dns")
pytest.importorskip("yaml")
pytest.importorskip("cryptography")
pytest.importorskip("dkim")

import dkim
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.zones import Zones

from smtp_blinker.policies.sender.authors import author_domains
from smtp_blinker.policies.sender.body_hash import BodyHash
from smtp_blinker.policies.sender.dkim import MAX_SIGNATURES
from smtp_blinker.policies.sender.header_fields import MAX_FIELDS, MAX_HEADER, HeaderTooLong
from smtp_blinker.policies.sender.keys import parse_key
from smtp_blinker.policies.sender.message import parse_message, verify_message
from smtp_blinker.policies.sender.tags import TagError

SUITE = Path(__file__).parent / "data" / "arc-validation-tests.yml"


def scenarios() -> list[Any]:
    found = []
    for scenario in yaml.safe_load_all(SUITE.read_text()):
        for name, test in scenario["tests"].items():
            found.append(pytest.param(scenario["txt-records"] or {}, test, id=name))
    return found


def judged(content: bytes, keys: Mapping[str, Any]) -> Any:
    """The DKIM results and the ARC result of *content*, *keys* being the TXT records by name."""
    zones = Zones({name: [{"TXT": text}] for name, text in keys.items()})
    file = io.BytesIO(content)
    parsed = parse_message(file)
    records = {name: zones.query(name, "TXT", 1) for name in parsed.key_names}
    return verify_message(file, parsed, records)  # type: ignore[arg-type]


@pytest.mark.parametrize(("keys", "test"), scenarios())
def test_the_public_suite_of_arc(keys: Any, test: Any) -> None:
    content = test["message"].encode().replace(b"\n", b"\r\n")
    _, arc = judged(content, keys)
    # The suite leaves the result open where a seal says that the chain had failed before.
    assert arc.result == (test["cv"].lower() or "fail"), arc


def test_the_suite_is_whole() -> None:
    assert len(scenarios()) == 171


# The RFCs' own examples

BODY = "Hi.\n\nWe lost the game. Are you hungry yet?\n\nJoe.\n"
FIELDS = """\
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?
Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)
Message-ID: <20030712040037.46341.5F8J@football.example.com>
"""
RFC_6376 = (
    """\
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
      4nujc7YopdG5dWLSdNg6xNAZpOPr+kHxt1IrE+NahM6L/LbvaHut
      KVdkLLkpVaVVQPzeRDI009SO2Il5Lu7rDNH6mZckBdrIx0orEtZV
      4bmp/YzhwvcubU4=;
Received: from client1.football.example.com  [192.0.2.1]
      by submitserver.example.com with SUBMISSION;
      Fri, 11 Jul 2003 21:01:54 -0700 (PDT)
"""
    + FIELDS
)
RFC_8463 = (
    """\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=test; t=1528637909; h=from : to : subject :
 date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=F45dVWDfMbQDGHJFlXUNB2HKfbCeLRyhDXgFpEL8GwpsRe0IeIixNTe3
 DhCVlUrSjV4BwcVcOF6+FF3Zo9Rpo1tFOeS9mPYQTnGdaSGsgeefOsk2Jz
 dA+L10TeYt9BgDfQNZtKdN1WO//KgIqXP7OdEFE4LjFYNcUxZQ4FADY+8=
"""
    + FIELDS
)
KEYS = {
    "brisbane._domainkey.example.com": (
        "v=DKIM1; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkM"
        "oGeLnQg1fWn7/zYtIxN2SnFCjxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/R"
        "tdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9tf6mcwGjaNBcWToI"
        "MmPSPDdQPNUYckcQ2QIDAQAB"
    ),
    "brisbane._domainkey.football.example.com": (
        "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
    ),
    "test._domainkey.football.example.com": (
        "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR"
        "iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC"
        "DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3"
        "Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
    ),
}


def wire(header: str, body: str = BODY) -> bytes:
    return f"{header}\n{body}".replace("\n", "\r\n").encode()


def results(content: bytes, keys: Mapping[str, Any] = KEYS) -> list[str]:
    return [one.result for one in judged(content, keys)[0]]


def test_the_examples_of_rfc_6376_and_rfc_8463() -> None:
    [one], arc = judged(wire(RFC_6376), KEYS)
    assert one.as_dict() == {
        "result": "pass",
        "domain": "example.com",
        "selector": "brisbane",
        "identity": "joe@football.example.com",
        "algorithm": "rsa-sha256",
        "bits": 1024,
        "signature": "AuUoFEfD",
        "reason": "",
    }
    assert arc.result == "none"
    assert results(wire(RFC_8463)) == ["pass", "pass"]


@pytest.mark.parametrize(
    ("header", "body", "wanted"),
    [
        (RFC_8463, BODY + "\n\n", ["pass", "pass"]),
        (RFC_8463, BODY.replace(" ", " \t ") , ["pass", "pass"]),
        (RFC_8463, BODY.replace("\n", " \n") , ["pass", "pass"]),
        (RFC_8463, BODY + "More.\n", ["fail", "fail"]),
        (RFC_8463.replace("dinner", "lunch"), BODY, ["fail", "fail"]),
        (RFC_8463.replace("Subject:", "SUBJECT :  "), BODY, ["pass", "pass"]),
        # The fields that are signed once more than they are there keep others out.
        ("Subject: Another\n" + RFC_8463, BODY, ["fail", "fail"]),
        (RFC_6376.replace("SixPack <", "SixPack  <"), BODY, ["fail"]),
        (RFC_6376, BODY + "\n\n", ["pass"]),
        (RFC_6376, BODY.replace("\n", " \n"), ["fail"]),
        (RFC_6376.replace("v=1;", "v=2;"), BODY, ["permerror"]),
        (RFC_6376.replace("rsa-sha256", "rsa-sha1"), BODY, ["permerror"]),
        (RFC_6376.replace("Received : From", "Received"), BODY, ["permerror"]),
        (RFC_6376.replace("joe@football.example.com;", "joe@example.org;"), BODY, ["permerror"]),
        (RFC_6376.replace("q=dns/txt", "q=http"), BODY, ["permerror"]),
        (RFC_6376.replace("q=dns/txt", "x=1600000000"), BODY, ["fail"]),
        (RFC_6376.replace("q=dns/txt", "q=dns/txt; q=dns/txt"), BODY, ["permerror"]),
        (RFC_6376.replace("q=dns/txt", "l=99999"), BODY, ["permerror"]),
        (RFC_6376.replace("q=dns/txt", "l=-1"), BODY, ["permerror"]),
        (RFC_6376.replace("q=dns/txt", "l=" + "9" * 77), BODY, ["permerror"]),
        (RFC_6376.replace("s=brisbane", "s=none"), BODY, ["permerror"]),
        (RFC_6376.replace("s=brisbane", "s=" + "a" * 64), BODY, ["permerror"]),
    ],
)  # fmt: skip
def test_what_a_signature_is_worth(header: str, body: str, wanted: list[str]) -> None:
    assert results(wire(header, body)) == wanted


def signed(content: bytes, **options: Any) -> tuple[bytes, str]:
    """*content* with a signature by dkimpy, and the public key's record."""
    key, record = rsa_key(options.pop("bits", 2048))
    return dkim.sign(content, b"s", b"example.org", key, **options) + content, record


def rsa_key(bits: int) -> tuple[bytes, str]:
    key = rsa.generate_private_key(65537, bits)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, "v=DKIM1; p=" + base64.b64encode(public).decode()


NAME = "s._domainkey.example.org"
MAIL = wire("From: a@example.org\nSubject: x\n", "One.\n")


@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
def test_what_dkimpy_signs(header: bytes, body: bytes) -> None:
    for text in (
        b"",
        b"\r\n",
        b"One. \t \r\n\r\n",
        b"no end",
        b"x" * 20_000 + b" \t" * 20_000 + b"\r\n",
    ):
        mail = b"From:  a@example.org\r\nSubject: x\r\n\r\n" + text
        content, record = signed(mail, canonicalize=(header, body))
        assert results(content, {NAME: record}) == ["pass"], text[:20]
        assert results(content + b"x", {NAME: record}) == ["fail"]


def test_a_signature_for_a_part_of_the_body_is_no_pass() -> None:
    content, record = signed(MAIL, length=True)
    assert results(content, {NAME: record}) == ["pass"]
    [one], _ = judged(content + b"<h1>A stranger's</h1>\r\n", {NAME: record})
    assert (one.result, one.reason) == ("policy", "the signature doesn't cover the whole body")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("v=DKIM1; p=", "the key is revoked"),
        ("p={p}; v=DKIM1", "the key record isn't of version DKIM1"),
        ("v=DKIM1; s=tlsrpt; p={p}", "the key isn't for mail"),
        ("v=DKIM1; h=sha1; p={p}", "the key isn't for SHA-256"),
        ("v=DKIM1; k=ed25519; p={p}", "an Ed25519 key must have 32 octets"),
        ("v=DKIM1; k=x; p={p}", "keys of kind 'x' are unknown"),
        ("v=DKIM1; p=!!!", "p= isn't base64"),
        ("v=DKIM1; p=AAAA", "the RSA key is malformed, or too short"),
        ("v=DKIM1; n=" + "x" * 5000 + "; p={p}", "a key record of "),
        ("something else", "malformed tag 'something else'"),
    ],
)
def test_keys_that_verify_nothing(change: str, reason: str) -> None:
    content, record = signed(MAIL)
    p = record.partition("p=")[2]
    [one], _ = judged(content, {NAME: change.format(p=p)})
    assert one.result == "permerror"
    assert one.reason.startswith(reason)


def test_a_key_for_the_domain_itself_only() -> None:
    content, record = signed(MAIL, identity=b"a@sub.example.org")
    assert results(content, {NAME: record}) == ["pass"]
    assert results(content, {NAME: record + "; t=s"}) == ["permerror"]


def test_domains_in_u_labels() -> None:
    """RFC 8616 section 5: looked up and reported as A-labels, hashed as they came."""
    mail = wire("From: j\u00fcrgen@b\u00fccher.example\nSubject: x\n", "One.\n")
    domain = "b\u00fccher.example"
    key, record = rsa_key(2048)
    content = dkim.sign(
        mail, "s\u00e9".encode(), domain.encode(), key, identity=f"\u00fc@{domain}".encode()
    )
    name = "xn--s-bga._domainkey.xn--bcher-kva.example"
    [one], _ = judged(content + mail, {name: record})
    assert (one.result, one.domain) == ("pass", "xn--bcher-kva.example")
    assert (one.selector, one.identity) == ("xn--s-bga", "\u00fc@xn--bcher-kva.example")
    assert results(content + mail.replace(b"One", b"Two"), {name: record}) == ["fail"]


def test_keys_too_small_and_too_large() -> None:
    content, _ = signed(MAIL)
    _, small = rsa_key(1024)
    assert parse_key(small.encode()).bits == 1024
    # 512 bits; cryptography makes none any more.
    tiny = "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52T"
    tiny += "b/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak19F4WrbVTK5Gg5tW220MCAwEAAQ=="
    [one], _ = judged(content, {NAME: tiny})
    assert one.result == "permerror"
    for bits, exponent, reason in (
        (16_384, 65537, "more than 4096 bits"),
        (5120, 65537, "of 5120 bits"),
        (2048, 2**2000 + 1, "the exponent of the RSA key is too large"),
    ):
        numbers = rsa.RSAPublicNumbers(exponent, 2 ** (bits - 1) + 1)
        der = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        record = "v=DKIM1; p=" + base64.b64encode(der).decode()
        [one], _ = judged(content, {NAME: record})
        assert one.result == "permerror"
        assert reason in one.reason


def test_a_thousand_signatures() -> None:
    content, record = signed(MAIL)
    signature = content[: -len(MAIL)]
    dkim_results, _ = judged(signature * 900 + MAIL, {NAME: record})
    # The other 890 are what each of the ten might have signed, and didn't.
    assert [one.result for one in dkim_results] == ["pass"] * MAX_SIGNATURES


def test_a_thousand_arc_fields() -> None:
    field = "ARC-Seal: i=1; cv=none\nARC-Seal: i=2; cv=none\n"
    assert judged(wire(field * 500), {})[1].result == "fail"
    tags = "a=rsa-sha256; b=AAAA; d=a.example"
    chain = "".join(
        f"ARC-Authentication-Results: i={i}; x\n"
        f"ARC-Seal: i={i}; {tags}; s=s{i}; cv={'none' if i == 1 else 'pass'}\n"
        f"ARC-Message-Signature: i={i}; {tags}; bh=AAAA; s=m{i}; h=from\n"
        for i in range(1, 51)
    )
    parsed = parse_message(io.BytesIO(wire(chain)))
    assert len(parsed.key_names) == 51
    assert judged(wire(chain), {})[1].reason == "no key"
    # RFC 8617 section 5.2.1: an error of DNS is as permanent as others.
    file = io.BytesIO(wire(chain))
    records = dict.fromkeys(parsed.key_names, "no reply")
    _, arc = verify_message(file, parse_message(file), records)
    assert (arc.result, arc.reason) == ("fail", "no reply")


@pytest.mark.parametrize(
    "field",
    [
        "X: " + "a b\t" * 25_000,
        "X: " + "a\n " * 25_000 + "b",
        "DKIM-Signature: " + "a=b;" * 25_000,
        "DKIM-Signature: v=1; h=" + "from:" * 20_000,
        "DKIM-Signature: v=1;" + " " * 100_000 + "a=rsa-sha256",
        "From: " + "(" * 100_000,
        "From: " + '"' * 100_000,
        "From: " + "a@b.example, " * 8000,
        "From: x@" + "\u4e00\u9fa5" * 2000 + ".example",
        "From: x@" + ("\u4e00\u9fa5" * 40 + ".") * 60 + "example",
        "DKIM-Signature: v=1; a=rsa-sha256; s=s; h=from; bh=A; b=A; d=" + "\u4e00\u9fa5" * 2000,
        "ARC-Seal: " + "i=1;" * 25_000,
        "ARC-Authentication-Results: i=" + " " * 100_000,
    ],
    ids=lambda field: field[:20],
)
def test_fields_of_100_kib(field: str) -> None:
    content = wire(field + "\n" + RFC_8463)
    dkim_results, _ = judged(content, KEYS)
    # What is signed twice over keeps a second From out.
    wanted = "fail" if field.startswith("From") else "pass"
    assert {one.result for one in dkim_results[-2:]} == {wanted}
    authors = parse_message(io.BytesIO(content)).authors
    assert authors == ([] if wanted == "fail" else ["football.example.com"])


def test_headers_that_are_too_long() -> None:
    for content in (
        b"a:b\r\n" * (MAX_FIELDS + 10),
        b"a: " + b"x" * MAX_HEADER,
        b"a:\r\n" + b" \r\n" * MAX_HEADER,
    ):
        with pytest.raises(HeaderTooLong):
            parse_message(io.BytesIO(content))


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"a", b"  b"]), max_size=30))
@example([b"\r\n"] * 12 + [b"\r"])
@example([b"a", b"\r", b"\r\n", b"\n", b"\r\n"])
def test_a_body_in_any_pieces_has_one_hash(pieces: list[bytes]) -> None:
    for relaxed in (False, True):
        whole, split = BodyHash(relaxed, [None, 0, 3]), BodyHash(relaxed, [None, 0, 3])
        whole.feed(b"".join(pieces))
        for piece in pieces:
            split.feed(piece)
        assert whole.digests() == split.digests()
        assert whole.length == split.length


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_octets_of_any_kind(octets: bytes) -> None:
    for content in (octets, b"DKIM-Signature: " + octets + wire(RFC_8463)):
        judged(content, KEYS)
        author_domains(parse_message(io.BytesIO(b"From: " + octets)).fields)
    try:
        parse_key(octets)
    except TagError:
        pass
