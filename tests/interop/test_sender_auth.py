"""SenderAuthentication with Knot DNS, and with a name server that is silent."""

from __future__ import annotations

import base64
import smtplib
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dns")
pytest.importorskip("cryptography")
pytest.importorskip("dkim")

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from support import HOST, LIBRARY, run

from smtp_blinker.policies import SenderAuthentication
from smtp_blinker.policies.dns import Resolver

from .knot import running_knot

PROGRAM = Path(__file__).resolve().parent / "programs" / "judging.py"
#: Long enough for every answer of a server that is there, on a busy machine.
PATIENCE = 20.0
#: A key whose record doesn't fit into a reply by UDP.
KEY = rsa.generate_private_key(65537, 4096)
PRIVATE = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
_DER = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_P = base64.b64encode(_DER).decode()
_TEXT = f"v=DKIM1; n={'x' * 1200}; p={_P}"
RECORD = " ".join(f'"{_TEXT[place : place + 250]}"' for place in range(0, len(_TEXT), 250))

ZONES = {
    "good.test": f"""
@ TXT "v=spf1 include:spf.good.test -all"
spf TXT "v=spf1 ip4:127.0.0.1 ?all"
_dmarc TXT "v=DMARC1; p=reject"
s._domainkey TXT {RECORD}
alias._domainkey CNAME s._domainkey
loop._domainkey CNAME loop2._domainkey
loop2._domainkey CNAME loop._domainkey
""",
    "loop.test": """
@ TXT "v=spf1 include:a.loop.test -all"
a CNAME b
b CNAME a
_dmarc TXT "v=DMARC1; p=reject"
""",
    "broken.test": None,
}
MAIL = "From: A <a@{domain}>\r\nSubject: x\r\n\r\nText.\r\n"


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with running_knot(tmp_path_factory.mktemp("knot"), ZONES) as address:
        yield address


@pytest.fixture
def judged(serve: Callable[..., Any], knot: Any) -> Callable[..., Any]:
    """Sends mail from a domain, with signatures by these selectors, and returns the result."""
    found: list[Any] = []

    def keep(stream: Any, session: Any) -> None:
        stream.read()
        found.append(session.envelope.results["sender_authentication"])

    served = serve(on_data=keep)
    policy = SenderAuthentication(
        "mx.test", resolver=Resolver([knot]), trusted=(), timeout=PATIENCE, enforce_dmarc=True
    )
    served.server.use(policy)

    def send(domain: str, *selectors: str) -> Any:
        content = MAIL.format(domain=domain).encode()
        for one in selectors:
            content = dkim.sign(content, one.encode(), b"good.test", PRIVATE) + content
        with smtplib.SMTP(HOST, served.server.server_port, timeout=60) as client:
            client.sendmail(f"a@{domain}", ["b@mx.test"], content)
        served.forget("error")
        return found.pop()

    return send


def test_a_record_that_takes_tcp(judged: Any) -> None:
    result = judged("good.test", "s", "alias")
    assert result.spf.mechanism == "include:spf.good.test"
    assert [(one.result, one.bits) for one in result.dkim] == [("pass", 4096)] * 2
    assert (result.dmarc.result, result.dmarc.policy) == ("pass", "reject")


def test_aliases_in_a_circle_and_names_that_are_not_there(judged: Any) -> None:
    assert [one.result for one in judged("good.test", "loop", "none").dkim] == [
        "permerror",  # there is none
        "temperror",
    ]
    result = judged("loop.test")
    assert (result.spf.result, result.dmarc.result) == ("temperror", "temperror")


def test_servfail(judged: Any) -> None:
    result = judged("broken.test")
    assert (result.spf.result, result.dmarc.result) == ("temperror", "temperror")
    assert "SERVFAIL" in result.spf.reason


@pytest.mark.parametrize("mode", ["patched", "late", "unpatched"])
def test_with_and_without_monkey_patching(mode: str, knot: tuple[str, int], tmp_path: Path) -> None:
    """In a process of its own; while a name server is silent the hub goes on."""
    content = MAIL.format(domain="good.test").encode()
    mail = tmp_path / "mail"
    mail.write_bytes(dkim.sign(content, b"s", b"good.test", PRIVATE) + content)
    done = run(sys.executable, PROGRAM, mode, str(knot[1]), mail, PYTHONPATH=LIBRARY)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "pass pass pass\nthe hub went on\n"
    assert "Traceback" not in done.stderr


def test_silence_ends_with_the_deadline(serve: Callable[..., Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        served = serve()
        resolver = Resolver([silent.getsockname()])
        options: dict[str, Any] = {"trusted": (), "timeout": 0.2, "on_failure": "defer"}
        served.server.use(SenderAuthentication("mx.test", resolver=resolver, **options))
        with (
            smtplib.SMTP(HOST, served.server.server_port, timeout=60) as client,
            pytest.raises(smtplib.SMTPDataError) as caught,
        ):
            client.sendmail("a@good.test", ["b@mx.test"], MAIL.format(domain="good.test"))
        assert caught.value.smtp_code == 451
        [error] = served.of("error")
        assert error.code == "PolicyFailure"
        served.forget("error")
