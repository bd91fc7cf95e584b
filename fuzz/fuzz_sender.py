"""Sender authentication: whatever strangers put into DNS and into headers, a result.

The first octet of an input chooses what the rest is: 0 an SPF record, 1 a DMARC record, 2 the
value of From, 3 a message with the key that its signatures name, 4 a public key.
"""

from __future__ import annotations

import io

from smtp_blinker import Envelope
from smtp_blinker.policies.sender.authors import author_domains
from smtp_blinker.policies.sender.dmarc import check_dmarc
from smtp_blinker.policies.sender.header_fields import Field
from smtp_blinker.policies.sender.keys import parse_key
from smtp_blinker.policies.sender.lookups import Lookups
from smtp_blinker.policies.sender.message import parse_message, verify_message
from smtp_blinker.policies.sender.report import forged_by, results_value
from smtp_blinker.policies.sender.results import SenderAuthenticationResult, SPFResult
from smtp_blinker.policies.sender.spf import check_spf
from smtp_blinker.policies.sender.tags import TagError

_KEY = b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
_SPF = frozenset({"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"})
_MARK = "mx.test"


class _Answers:
    """Says the same to every question about text."""

    def __init__(self, text: bytes) -> None:
        self.text = text

    def query(self, name: str, kind: str, timeout: float) -> tuple[str | bytes, ...]:
        if kind == "TXT":
            return (self.text,)
        return {
            "MX": ("10 a.example.", "0 ."),
            "PTR": ("a.example.",),
            "AAAA": ("2001:db8::1",),
        }.get(kind, ("192.0.2.1",))


def one_input(data: bytes) -> None:
    if data:
        (_spf, _dmarc, _from, _message, _key)[data[0] % 5](data[1:])


def _spf(data: bytes) -> None:
    for client in ("192.0.2.1", "2001:db8::1"):
        lookups = Lookups(_Answers(b"v=spf1 " + data), 60)
        found = check_spf(client, "a.b@example.org", "mx.example.org", lookups)
        assert found.result in _SPF
        assert found.explanation.isprintable()
        _report(SenderAuthenticationResult(found))


def _dmarc(data: bytes) -> None:
    spf = SPFResult("pass", "a.example.com", "mailfrom")
    lookups = Lookups(_Answers(b"v=DMARC1;" + data), 60)
    found = check_dmarc(["b.example.com"], spf, [], lookups)
    assert found.result in ("none", "pass", "fail")
    assert found.policy in ("none", "quarantine", "reject")


def _from(data: bytes) -> None:
    for domain in author_domains([Field("from", b"From:" + data)]):
        assert domain.isascii()
        assert "." in domain
        assert not set(domain) & set(' \t\r\n()<>@,;:\\"')


def _message(data: bytes) -> None:
    content = io.BytesIO(data)
    parsed = parse_message(content)
    records = dict.fromkeys(parsed.key_names, (_KEY,))
    dkim, arc = verify_message(content, parsed, records)
    spf = SPFResult("none", "", "helo")
    dmarc = check_dmarc(parsed.authors, spf, dkim, Lookups(_Answers(b""), 60))
    _report(SenderAuthenticationResult(spf, dkim, arc, dmarc))


def _key(data: bytes) -> None:
    try:
        key = parse_key(data)
    except TagError:
        return
    assert 256 <= key.bits <= 4096
    assert not key.verifies(b"x" * 64, b"y" * 32)


def _report(result: SenderAuthenticationResult) -> None:
    """The field can be written, and says nothing in the name of another."""
    value = results_value(_MARK, result)
    assert value.startswith(f"{_MARK}; spf=")
    assert forged_by(_MARK).search(value)
    Envelope().add_header("Authentication-Results", value)
    result.as_dict()
