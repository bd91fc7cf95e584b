"""EXTERNAL: who a client is by its certificate."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from support import Certificate, Client, Witness, running, talking

from smtp_blinker import Credentials, Session, SMTPServer
from smtp_blinker.sasl.external import certificate_name

METHODS = ("EXTERNAL", "PLAIN")


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode() or "="


class Asked(list[Any]):
    def __call__(self, auth: Credentials, session: Session) -> bool:
        self.append((auth.username, auth.authcid, auth.password, auth.method))
        assert session.tls.peer_certificate  # type: ignore[union-attr]
        return True


@pytest.fixture
def asked() -> Any:
    return Asked()


@pytest.fixture
def serving(certificate: Certificate, asked: Any) -> Any:
    def serve(**options: Any) -> Any:
        return running(
            **{
                "on_auth": asked,
                "auth_methods": METHODS,
                "cert_reqs": ssl.CERT_OPTIONAL,
                "ca_certs": str(certificate.ca_certs),
                **certificate.options,
                **options,
            }
        )

    return serve


@pytest.fixture
def context(ca: trustme.CA, certificate: Certificate, tmp_path: Path) -> Any:
    """Makes the context of a client whose certificate has these names."""

    def make(*names: str, **more: str) -> ssl.SSLContext:
        issued = ca.issue_cert(*names, **more)  # type: ignore[arg-type]
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
        context = certificate.client_context()
        context.load_cert_chain(tmp_path / "client.pem")
        return context

    return make


def secured(server: SMTPServer, context: Any) -> Client:
    client = Client(server, hello="EHLO me")
    client.ok("STARTTLS")
    client.start_tls(context)
    return client


@pytest.mark.parametrize("late", [False, True])
def test_a_certificate_is_enough(late: bool, serving: Any, context: Any, asked: Any) -> None:
    with serving() as server:
        witness = Witness(server)
        client = secured(server, context("ann@example.org"))
        assert "AUTH EXTERNAL PLAIN" in client.cmd("EHLO me")
        if late:
            assert client.cmd("AUTH EXTERNAL") == "334 "
            answer = client.cmd("")
        else:
            answer = client.cmd("AUTH EXTERNAL =")
        assert answer.startswith("235 2.7.0")
        [live] = server.connections
        assert live.session.user is True
        assert client.message().startswith("250")
        event = witness.one("auth")
    assert asked == [("ann@example.org", "ann@example.org", None, "EXTERNAL")]
    assert (event.method, event.username, event.success) == ("EXTERNAL", "ann@example.org", True)


def test_without_a_certificate_there_is_no_external(
    serving: Any, certificate: Certificate, asked: Any
) -> None:
    with serving(allow_insecure_auth=True) as server:
        client = Client(server)
        assert "AUTH PLAIN" in client.cmd("EHLO me")
        assert client.cmd("AUTH EXTERNAL =").startswith("504 5.5.4")
        client = secured(server, certificate.client_context())
        assert "AUTH PLAIN" in client.cmd("EHLO me")
        assert client.cmd("AUTH EXTERNAL =").startswith("504 5.5.4")
    assert asked == []


def test_tls_that_somebody_else_ends_shows_no_certificate(asked: Any) -> None:
    with talking(secured=True, on_auth=asked, auth_methods=METHODS, hello=None) as client:
        assert "AUTH PLAIN" in client.cmd("EHLO me")
        assert client.cmd("AUTH EXTERNAL =").startswith("504 5.5.4")


@pytest.mark.parametrize(
    ("authzid", "reads_it", "said"),
    [
        ("ann@example.org", False, "235"),
        ("bob@example.org", False, "535 5.7.8"),
        ("bob@example.org", True, "235"),
        ("a\r\nb", True, "501 5.5.2"),
    ],
)
def test_acting_for_another_is_for_the_program_to_allow(
    authzid: str, reads_it: bool, said: str, serving: Any, context: Any, asked: Any
) -> None:
    def on_auth(auth: Credentials, session: Session) -> Any:
        return not reads_it or auth.authzid == authzid

    with serving(on_auth=on_auth) as server:
        client = secured(server, context("ann@example.org"))
        client.ok("EHLO me")
        assert client.cmd(f"AUTH EXTERNAL {b64(authzid)}").startswith(said)


def test_a_certificate_without_a_name_acts_for_nobody_by_itself(
    serving: Any, context: Any, asked: Any
) -> None:
    with serving() as server:
        client = secured(server, context("192.0.2.1"))
        client.ok("EHLO me")
        assert client.cmd(f"AUTH EXTERNAL {b64('root')}").startswith("535 5.7.8")
        assert client.cmd("AUTH EXTERNAL =").startswith("235")
    assert [names[0] for names in asked] == ["", ""]


def test_a_proxy_s_certificate_is_not_that_of_its_client(
    serving: Any, context: Any, asked: Any
) -> None:
    with serving(use_xclient=True) as server:
        client = secured(server, context("proxy@example.org"))
        client.ok("EHLO proxy", "XCLIENT ADDR=192.0.2.7")
        assert "AUTH PLAIN" in client.cmd("EHLO me")
        assert client.cmd("AUTH EXTERNAL =").startswith("504 5.5.4")
    assert asked == []


def test_a_refused_certificate_is_a_failure(serving: Any, context: Any) -> None:
    with serving(on_auth=lambda auth, session: None) as server:
        client = secured(server, context("ann@example.org"))
        client.ok("EHLO me")
        assert client.cmd("AUTH EXTERNAL =").startswith("535 5.7.8")
        [live] = server.connections
        assert live.limits.auth_failures == 1


def test_the_name_of_a_certificate(ca: trustme.CA) -> None:
    subject = (((("organizationName", "Example"),), (("commonName", "Ann"),)),)[0]
    by_address = (("DNS", "host.example"), ("email", "ann@example.org"), ("email", "b@example.org"))
    assert certificate_name({"subject": subject, "subjectAltName": by_address}) == "ann@example.org"
    assert certificate_name({"subject": subject, "subjectAltName": by_address[:1]}) == (
        "host.example"
    )
    assert certificate_name({"subject": subject}) == "Ann"
    assert certificate_name({"subject": subject, "subjectAltName": (("email", "a\0b"),)}) == "Ann"
    assert certificate_name({"subject": subject[:1]}) == ""
    assert certificate_name({}) == ""
