"""SenderAuthentication in a server: what it adds, takes away, refuses, and where it works."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest

pytest.importorskip("dns")
pytest.importorskip("cryptography")
pytest.importorskip("dkim")

import dkim
from support import Client, Witness, running
from support.zones import Zones
from test_policy_sender_signatures import KEYS, RFC_8463, rsa_key, wire

from smtp_blinker.policies import DNSBlocklist, SenderAuthentication
from smtp_blinker.policies.dns import DNSFailure
from smtp_blinker.policies.sender import policy as policy_module
from smtp_blinker.policies.sender.report import results_value
from smtp_blinker.policies.sender.results import DKIMResult, SenderAuthenticationResult, SPFResult

PRIVATE, RECORD = rsa_key(2048)
ZONE: dict[str, Any] = {
    "example.org": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}],
    "s._domainkey.example.org": [{"TXT": RECORD}],
    "_dmarc.example.org": [{"TXT": "v=DMARC1; p=reject"}],
    "other.example": [{"TXT": "v=spf1 -all"}],
    "slow.example": ["TIMEOUT"],
    "_dmarc.slow.example": ["TIMEOUT"],
}
MAIL = b"From: A <a@example.org>\r\nSubject: x\r\n\r\nText.\r\n"


def signed(content: bytes = MAIL) -> bytes:
    return bytes(dkim.sign(content, b"s", b"example.org", PRIVATE)) + content


class Kept:
    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.results: list[Any] = []

    def __call__(self, stream: Any, session: Any) -> None:
        self.contents.append(stream.read())
        self.results.append(session.envelope.results.get("sender_authentication"))


@contextmanager
def served(**options: Any) -> Iterator[tuple[Any, Kept, Witness]]:
    kept = Kept()
    server_options = options.pop("server", {})
    options.setdefault("resolver", Zones(ZONE))
    options.setdefault("trusted", ())
    with running(on_data=kept, auth_optional=True, **server_options) as server:
        server.use(SenderAuthentication(**options))
        yield server, kept, Witness(server)


def send(server: Any, content: bytes, sender: str = "a@example.org") -> str:
    with Client(server, hello="EHLO client.example.org") as client:
        client.ok(f"MAIL FROM:<{sender}>", "RCPT TO:<b@mx.test>")
        assert client.cmd("DATA").startswith("354")
        client.send(content + b".\r\n")
        return client.reply()


def test_what_passes_has_one_field_with_all_results() -> None:
    # RFC 8463's own message: its first signature begins with what needs quotes, its second doesn't.
    domain = "football.example.com"
    zone = {name: [{"TXT": key}] for name, key in KEYS.items()} | {
        domain: [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}],
        f"_dmarc.{domain}": [{"TXT": "v=DMARC1; p=reject"}],
    }
    content = wire(RFC_8463)
    with served(resolver=Zones(zone)) as (server, kept, _):
        assert send(server, content, f"joe@{domain}").startswith("250")
    [result] = kept.results
    assert [one.result for one in (result.spf, *result.dkim)] == ["pass", "pass", "pass"]
    assert (result.arc.result, result.dmarc.result) == ("none", "pass")
    assert result.as_dict()["dmarc"]["domain"] == domain
    header = kept.contents[0].removesuffix(content)
    assert header.count(b"\r\n ") + 1 == header.count(b"\r\n")
    assert header.replace(b"\r\n", b"").decode() == (
        f"Authentication-Results: mx.test; spf=pass smtp.mailfrom={domain}; "
        f"dkim=pass header.d={domain} header.i=@{domain} header.s=brisbane "
        'header.a=ed25519-sha256 header.b="/gCrinpc"; '
        f"dkim=pass header.d={domain} header.i=@{domain} header.s=test "
        "header.a=rsa-sha256 header.b=F45dVWDf; "
        f"arc=none; dmarc=pass header.from={domain} policy.dmarc=reject"
    )


@pytest.mark.parametrize(
    ("signature", "written"),
    [
        ("AbcdefG1", "AbcdefG1"),
        ("+bcdef+1", "+bcdef+1"),
        ("/bcdefG1", '"/bcdefG1"'),
        ("Ab+d/fG1", '"Ab+d/fG1"'),
        ("AbcdefG=", '"AbcdefG="'),
    ],
)
def test_what_is_no_token_is_quoted(signature: str, written: str) -> None:
    """RFC 2045 section 5.1: of base 64's characters, "/" and "=" can't be in a token."""
    one = DKIMResult("pass", "example.org", signature=signature)
    value = results_value("mx.test", SenderAuthenticationResult(SPFResult("none", "", ""), (one,)))
    assert value.endswith(f"; dkim=pass header.d=example.org header.b={written}")


@pytest.mark.parametrize(
    ("identity", "written"),
    [
        ("a.b+c@example.org", "a.b+c@example.org"),
        ("@example.org", "@example.org"),
        ("@example.", '"@example."'),
        ("a..b@example.org", '"a..b@example.org"'),
        ("@-.example.org", '"@-.example.org"'),
        ('a"\\@example.org', '"a\\"\\\\@example.org"'),
    ],
)
def test_what_is_no_address_is_quoted(identity: str, written: str) -> None:
    """RFC 8601 section 2.2: pvalue"""
    one = DKIMResult("fail", "example.org", identity=identity)
    value = results_value("mx.test", SenderAuthenticationResult(SPFResult("none", "", ""), (one,)))
    assert value.endswith(f" header.i={written}")


def test_forged_fields_go_and_others_stay() -> None:
    ours = [
        b"mx.test; spf=pass",
        b"MX.Test 1; dmarc=pass",
        b"mx.test",
        b' (c (d;) e) "mx.test" (f); dkim=pass',
        b'"m\\x.test"; dkim=pass',
        b"\r\n\tmx.test; spf=pass",
        b"(" + b"x " * 2000 + b") mx.test; spf=pass",
    ]
    others = [
        b"(a) b.example; spf=pass",
        b"mx.test.example.net; spf=pass",
        b"a.example; spf=pass smtp.mailfrom=mx.test",
    ]
    fields = b"".join(b"Authentication-Results: " + one + b"\r\n" for one in ours + others)
    with served() as (server, kept, _):
        assert send(server, fields + MAIL).startswith("250")
    content = kept.contents[0]
    assert content.count(b"Authentication-Results:") == 4
    for one in others:
        assert one in content


def test_forged_fields_in_u_labels_go_too() -> None:
    """RFC 8601 section 5: in internationalized messages U-labels and A-labels are the same."""
    gone = ["xn--bcher-kva.xn--bcher-kva; a=1", "B\u00dcCHER.xn--bcher-kva; a=2",
            '(x) "b\u00fccher.b\u00fccher" 1; a=3']  # fmt: skip
    others = ["bucher.bucher; a=4", "b\u00fccher; a=5", "b\u00fccher.b\u00fccher.example; a=6"]
    fields = "".join(f"Authentication-Results: {one}\r\n" for one in gone + others).encode()
    options = {"name": "b\u00fccher.b\u00fccher"}
    with (
        served(server=options) as (server, kept, _),
        Client(server, hello="EHLO client.example.org") as client,
    ):
        client.ok("MAIL FROM:<a@example.org> BODY=8BITMIME SMTPUTF8", "RCPT TO:<b@mx.test>")
        assert client.cmd("DATA").startswith("354")
        client.send(fields + MAIL + b".\r\n")
        assert client.reply().startswith("250")
    content = kept.contents[0].decode()
    assert content.count("Authentication-Results: xn--bcher-kva.xn--bcher-kva; spf=pass") == 1
    assert content.count("Authentication-Results:") == 1 + len(others)
    assert all(one in content for one in others)


def test_p_reject_is_enforced_only_where_it_is_asked_for() -> None:
    with served() as (server, kept, _):
        assert send(server, MAIL, "a@other.example").startswith("250")
        assert kept.results[0].dmarc.result == "fail"
        assert b"spf=fail smtp.mailfrom=other.example; dkim=none" in kept.contents[0].replace(
            b"\r\n", b""
        )
    with served(enforce_dmarc=True) as (server, kept, witness):
        reply = send(server, MAIL, "a@other.example")
        assert reply == "550 5.7.1 The DMARC policy of example.org is to reject this message"
        assert send(server, signed(), "a@other.example").startswith("250")
        second = b"From: b@other.example\r\n" + signed()
        assert send(server, second, "a@other.example") == reply
        assert send(server, b"Subject: x\r\n\r\n.\r\n").startswith(
            "550 5.7.1 DMARC finds no valid author"
        )
        assert len(kept.contents) == 1
        assert not witness.of("error")


def test_without_an_answer_on_failure_decides() -> None:
    content = MAIL.replace(b"example.org", b"slow.example")
    with served(enforce_dmarc=True) as (server, kept, witness):
        assert send(server, content, "a@slow.example").startswith("250")
        assert kept.results[0].dmarc.result == kept.results[0].spf.result == "temperror"
        assert witness.one("error").code == "PolicyFailure"
    with served(on_failure="defer") as (server, kept, _):
        assert send(server, content, "a@slow.example").startswith("451 4.7.1")
        assert send(server, MAIL).startswith("250")


def test_the_name_in_ehlo_is_checked_too_and_decides_nothing() -> None:
    """RFC 7208 section 2.3"""
    zone = ZONE | {"client.example.org": [{"TXT": "v=spf1 -all"}]}
    with served(resolver=Zones(zone), enforce_dmarc=True) as (server, kept, _):
        assert send(server, MAIL).startswith("250")
    [result] = kept.results
    assert (result.spf.result, result.spf.scope) == ("pass", "mailfrom")
    assert (result.helo.result, result.helo.scope) == ("fail", "helo")
    field = kept.contents[0].replace(b"\r\n", b"")
    assert b"; spf=pass smtp.mailfrom=example.org; spf=fail smtp.helo=client.example.org;" in field


def test_a_bounce_is_judged_by_its_greeting() -> None:
    zone = ZONE | {"client.example.org": [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}]}
    with served(resolver=Zones(zone)) as (server, kept, _):
        assert send(server, MAIL, "").startswith("250")
    assert kept.results[0].spf.scope == "helo"
    assert kept.results[0].helo is None
    assert kept.results[0].dmarc.result == "pass"
    assert b"spf=pass smtp.helo=client.example.org" in kept.contents[0].replace(b"\r\n", b"")


def test_an_internationalized_message() -> None:
    """RFC 8616: addresses and fields in UTF-8 are judged by their A-labels."""
    domain = "xn--bcher-kva.example"
    zone = {
        domain: [{"TXT": "v=spf1 ip4:127.0.0.1 -all"}],
        f"_dmarc.{domain}": [{"TXT": "v=DMARC1; p=reject"}],
        f"s._domainkey.{domain}": [{"TXT": RECORD}],
    }
    mail = "From: J <j\u00fcrgen@b\u00fccher.example>\r\n\r\nGr\u00fc\u00dfe\r\n".encode()
    content = dkim.sign(mail, b"s", "b\u00fccher.example".encode(), PRIVATE) + mail
    with (
        served(resolver=Zones(zone), enforce_dmarc=True) as (server, kept, _),
        Client(server, hello="EHLO client.example.org") as client,
    ):
        client.ok("MAIL FROM:<j\u00fcrgen@b\u00fccher.example> BODY=8BITMIME SMTPUTF8")
        client.ok("RCPT TO:<b@mx.test>")
        assert client.cmd("DATA").startswith("354")
        client.send(content + b".\r\n")
        assert client.reply().startswith("250")
    [result] = kept.results
    assert (result.spf.result, result.dkim[0].result, result.dmarc.result) == ("pass",) * 3
    field = kept.contents[0].removesuffix(content).replace(b"\r\n", b"").decode("ascii")
    assert f"spf=pass smtp.mailfrom={domain}; dkim=pass header.d={domain}" in field
    assert f"dmarc=pass header.from={domain}" in field


def test_trusted_and_authenticated_clients_are_not_judged() -> None:
    forged = b"Authentication-Results: mx.test; spf=pass\r\n" + MAIL
    with served(trusted=["127.0.0.0/8"]) as (server, kept, _):
        assert send(server, forged).startswith("250")
    assert kept.contents == [forged]
    options = {"on_auth": lambda auth, session: "me", "allow_insecure_auth": True}
    with served(server=options) as (server, kept, _), Client(server, hello="EHLO c") as client:
        assert client.cmd("AUTH PLAIN AGEAYg==").startswith("235")
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@mx.test>")
        assert client.cmd("DATA").startswith("354")
        client.send(forged + b".\r\n")
        assert client.reply().startswith("250")
    # A field that only this server may write is taken away from them all the same.
    assert kept.contents == [MAIL]
    assert kept.results == [None]


class Watched(Zones):
    """Notes in which thread it is asked."""

    def __init__(self, zone: dict[str, Any]) -> None:
        super().__init__(zone)
        self.threads: set[int] = set()

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        self.threads.add(threading.get_ident())
        gevent.sleep(0)  # as one that waits for an answer
        return super().query(name, kind, timeout)


def test_what_runs_in_a_thread_and_what_in_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: dict[str, int] = {}
    for name in ("parse_message", "verify_message"):
        original = getattr(policy_module, name)

        def noted(*args: Any, name: str = name, original: Any = original) -> Any:
            ran[name] = threading.get_ident()
            return original(*args)

        monkeypatch.setattr(policy_module, name, noted)
    resolver = Watched(ZONE)
    with served(resolver=resolver) as (server, kept, _):
        assert send(server, signed()).startswith("250")
    assert kept.results[0].dkim[0].result == "pass"
    hub = threading.get_ident()
    # gevent's resolver belongs to the hub; hashes and keys keep a processor busy.
    assert resolver.threads == {hub}
    assert set(ran) == {"parse_message", "verify_message"}
    assert hub not in ran.values()


class Hostile:
    """Answers every question with what makes the most of them."""

    def __init__(self) -> None:
        self.asked = 0

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        self.asked += 1
        if kind == "TXT" and "_dmarc" not in name and "_domainkey" not in name:
            return (b"v=spf1 " + b"mx:a%d.example " * 10 % tuple(range(10)) + b"%{p}.example ptr",)
        if kind == "MX":
            return tuple(f"10 m{i}.{name}." for i in range(10))
        if kind == "PTR":
            return tuple(f"p{i}.example." for i in range(200))
        if kind == "TXT":
            return (b"v=DMARC1; p=reject; np=reject",)
        return ("192.0.2.1",)


def test_look_ups_are_bounded_whatever_a_stranger_s_dns_says() -> None:
    resolver = Hostile()
    signatures = b"".join(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s; h=from; bh=AAAA; b=AAAA\r\n" % i
        for i in range(1000)
    )
    with served(resolver=resolver) as (server, kept, witness):
        assert send(server, signatures + MAIL, "a@evil.example").startswith("250")
    assert len(kept.results[0].dkim) == 10
    # 10 mechanisms with 10 hosts each; 10 keys; 8 names of a walk, and where the author is.
    assert resolver.asked <= 150
    assert not witness.of("error")


class Broken:
    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        raise ZeroDivisionError if kind == "TXT" else DNSFailure("late")


def test_a_resolver_s_own_fault_is_no_answer() -> None:
    with served(resolver=Broken()) as (server, kept, witness):
        assert send(server, signed()).startswith("250")
        assert "ZeroDivisionError" in str(witness.one("error").error)
    assert kept.results[0].dkim[0].result == "temperror"


class Odd:
    """Returns *answer* to every question."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def query(self, name: str, kind: str, timeout: float) -> Any:
        return self._answer


@pytest.mark.parametrize("answer", [None, 5, (None,), ("a", 5)])
def test_an_answer_that_a_resolver_can_not_have_is_none(answer: Any) -> None:
    with served(resolver=Odd(answer)) as (server, kept, witness):
        server.use(DNSBlocklist("bl.example", resolver=Odd(answer), trusted=()))
        assert send(server, signed()).startswith("250")
        errors = {one.meta["policy"] for one in witness.of("error")}
        assert errors == {"sender_authentication", "dnsblocklist"}
    assert kept.results[0].dkim[0].result == "temperror"
    assert kept.results[0].spf.result == "temperror"


def test_a_header_that_is_too_long() -> None:
    content = b"X: " + b"y" * 900 + b"\r\n"
    with served(enforce_dmarc=True) as (server, _, witness):
        assert send(server, content * 600 + MAIL).startswith(
            "550 5.7.1 DMARC finds no valid author"
        )
    assert not witness.of("error")


def test_an_authserv_id_in_u_labels_is_written_in_a_labels() -> None:
    policy = SenderAuthentication("b\u00fccher.example", resolver=Zones({}))
    assert policy.authserv_id == "xn--bcher-kva.example"


@pytest.mark.parametrize("value", ["", "a b", "a;b", "-x", 5])
def test_a_wrong_authserv_id(value: Any) -> None:
    with pytest.raises(ValueError, match="authserv_id is a name like"):
        SenderAuthentication(value, resolver=Zones({}))
