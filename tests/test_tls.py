"""TLS: STARTTLS and SMTPS, SNI, client certificates, reloading."""

from __future__ import annotations

import os
import pty
import ssl
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from gevent import ssl as gevent_ssl
from support import (
    Certificate,
    Client,
    Witness,
    descriptors,
    poll,
    running,
    talking,
    trusting,
    witnessed,
)

from smtp_blinker import MessageStream, Reject, Session, SMTPServer

LOGIN = "AUTH PLAIN AG1lAHB3"


def issue(ca: trustme.CA, folder: Path, *names: str) -> dict[str, str]:
    """certfile and keyfile of a certificate for *names*."""
    issued = ca.issue_cert(*names)
    cert, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    return {"certfile": str(cert), "keyfile": str(key)}


def context_of(files: dict[str, str], maker: Any = ssl) -> ssl.SSLContext:
    context = maker.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(**files)
    return context  # type: ignore[no-any-return]


def secured(server: SMTPServer, context: Any = None, name: str | None = "localhost") -> Client:
    """A client after STARTTLS, or on a server that speaks TLS at once, and EHLO."""
    implicit = server.options.secure or server.options.needs_upgrade
    client = Client(server, greet=not implicit)
    if not implicit:
        client.ok("EHLO me", "STARTTLS")
    client.start_tls(context, name)
    if implicit:
        assert client.reply().startswith("220")
    client.ok("EHLO me")
    return client


def serial(client: Client) -> bytes:
    """What tells certificates apart."""
    return client.tls.getpeercert(binary_form=True)  # type: ignore[return-value]


@pytest.fixture
def trust(certificate: Certificate) -> Any:
    return certificate.client_context()


# STARTTLS and TLS from the first octet


@pytest.mark.parametrize("mode", [{}, {"secure": True}, {"needs_upgrade": True}])
def test_a_message_over_tls(mode: dict[str, Any], certificate: Certificate, trust: Any) -> None:
    sessions = []
    contents = []

    def on_data(stream: MessageStream, session: Session) -> None:
        contents.append(stream.read())
        sessions.append((session.secure, session.tls, session.servername))

    with running(on_data=on_data, **mode, **certificate.options) as server:
        client = secured(server, trust)
        content = bytes(set(range(256)) - set(b"\r\n")) + b"\r\n"
        assert client.message(content * 6000).startswith("250")
        client.ok("QUIT")
        assert client.ended()
    assert contents == [content * 6000]
    [(secure, info, servername)] = sessions
    assert secure is True
    assert servername == "localhost"
    assert info.version == client.tls.version()  # type: ignore[union-attr]
    assert info.cipher == client.tls.cipher()  # type: ignore[union-attr]


def test_starttls_is_offered_only_with_a_certificate_and_only_once(
    certificate: Certificate,
) -> None:
    with talking(hello=None) as client:
        assert "STARTTLS" not in client.cmd("EHLO me")
        assert client.cmd("STARTTLS").startswith("502")
    with talking(**certificate.options, hello=None) as client:
        assert "STARTTLS" in client.cmd("EHLO me")
        under_tls = secured(client.server)
        assert "STARTTLS" not in under_tls.cmd("EHLO me")  # T09
        assert under_tls.cmd("STARTTLS").startswith("503")
        under_tls.ok("NOOP")


def test_after_starttls_the_session_is_forgotten(certificate: Certificate) -> None:
    # T04; RFC 3207 section 4.2
    with talking(**certificate.options, hello="EHLO before") as client:
        client.starttls()
        poll(lambda: client.session.secure)
        assert client.session.host_name_appears_as is None
        assert client.session.opening_command is None
        assert client.cmd("MAIL FROM:<>").startswith("503")
        client.ok("EHLO after")
        assert client.session.host_name_appears_as == "after"


def test_secured_counts_the_session_as_secure() -> None:
    sessions: list[Any] = []
    with talking(
        secured=True, on_connect=sessions.append, on_auth=lambda auth, session: "me", hello=None
    ) as client:
        answer = client.cmd("EHLO me")
        assert "AUTH" in answer
        assert "STARTTLS" not in answer
        client.ok(LOGIN)
        assert client.cmd("STARTTLS").startswith("503")
    assert sessions[0].secure is True
    assert sessions[0].tls is None
    assert sessions[0].transmission_type == "ESMTPSA"


def test_secured_with_secure_begins_no_handshake(certificate: Certificate) -> None:
    with running(secured=True, secure=True, **certificate.options) as server:
        Client(server, hello="EHLO me")


def test_needs_upgrade_makes_the_session_first(certificate: Certificate) -> None:
    seen: list[Any] = []
    with running(
        needs_upgrade=True,
        on_connect=lambda session: seen.append(session.secure),
        **certificate.options,
    ) as server:
        secured(server).ok("NOOP")
    assert len(seen) == 1


def test_auth_after_tls(certificate: Certificate) -> None:
    with running(on_auth=lambda auth, session: "me", **certificate.options) as server:
        client = Client(server)
        assert "AUTH" not in client.cmd("EHLO me")
        assert client.cmd(LOGIN).startswith("538 5.7.11")
        client = secured(server)
        assert "AUTH PLAIN LOGIN" in client.cmd("EHLO me")
        client.ok(LOGIN)
        [user] = [one.session.user for one in server.connections if one.session.user]
        assert user == "me"


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_modern_tls_is_spoken(version: str, certificate: Certificate) -> None:
    context = trusting()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with running(**certificate.options) as server:
        assert secured(server, context).tls.version() == version.replace("_", ".")


def test_tls_1_1_is_refused(certificate: Certificate) -> None:
    # N14; RFC 8996
    context = trusting()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, which is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with witnessed(**certificate.options) as client:
        client.ok("STARTTLS")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            client.start_tls(context)
        client.close()
        assert client.witness.one("error").code == "TLSError"
        assert client.witness.one("disconnect").reason == "tls"


def test_ciphers_are_those_given(certificate: Certificate) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with running(ciphers="ECDHE+AES256", **certificate.options) as server:
        assert "AES256" in secured(server, context).tls.cipher()[0]  # type: ignore[index]


# Contexts


@pytest.mark.parametrize("maker", [ssl, gevent_ssl])
@pytest.mark.parametrize("implicit", [False, True])
def test_any_context_does_and_an_idle_client_stalls_nobody(
    maker: Any, implicit: bool, certificate: Certificate, trust: Any
) -> None:
    context = context_of(certificate.options, maker)
    with running(ssl_context=context, secure=implicit) as server:
        idle = [Client(server, greet=False) for _ in range(3)]
        half = Client(server, greet=not implicit)
        if not implicit:
            half.ok("STARTTLS")
        half.send(b"\x16\x03\x01")
        client = secured(server, trust)
        assert client.message().startswith("250")
        other = secured(server, trust)
        client.begin()
        client.send(b"half a message")
        assert other.message().startswith("250")
        assert idle


def test_a_stalled_handshake_holds_up_nobody(certificate: Certificate) -> None:
    with running(secure=True, **certificate.options) as server:
        stalled = [Client(server, greet=False) for _ in range(5)]
        for client in stalled:
            client.send(b"\x16\x03\x01\x02\x00\x01")
        for _ in range(3):
            assert secured(server).message().startswith("250")


@pytest.mark.parametrize("octet", [b"\x00", b"\x16\x03\x01\x00\x05hello", b"EHLO me\r\n" * 9])
def test_a_handshake_of_nonsense_ends_that_client_only(
    octet: bytes, certificate: Certificate
) -> None:
    with talking(secure=True, **certificate.options, greet=False) as client:
        client.send(octet + b"\r\n" * 50)
        said = client.rest()  # N19
        assert b"220" not in said
        assert b"250" not in said
        secured(client.server)


# SNI


def test_sni_chooses_the_certificate(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    seen: list[Any] = []
    with running(
        secure=True,
        sni_options={
            "dict.example": issue(ca, tmp_path, "dict.example"),
            "Context.Example": context_of(issue(ca, tmp_path, "context.example")),
        },
        on_secure=lambda session: seen.append(session.servername),
        **certificate.options,
    ) as server:
        for name in ("dict.example", "DICT.Example", "context.example"):
            trust = certificate.client_context()
            assert secured(server, trust, name).message().startswith("250")
        secured(server, certificate.client_context(), "localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            secured(server, certificate.client_context(), "other.example")
        secured(server, None, None)
    assert seen[:4] == ["dict.example", "dict.example", "context.example", "localhost"]
    assert seen[-1] is None


@pytest.mark.parametrize("key", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example"])
def test_sni_names_are_compared_as_lower_case_a_labels(
    key: str, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    seen: list[Any] = []
    files = issue(ca, tmp_path, "xn--bcher-kva.example")
    with running(
        secure=True,
        sni_options={key: files},
        on_secure=lambda session: seen.append(session.servername),
        **certificate.options,
    ) as server:
        for name in ("xn--bcher-kva.example", "XN--BCHER-KVA.Example", "bücher.example"):
            client = secured(server, trusting(), name)
            assert serial(client) == ssl.PEM_cert_to_DER_cert(Path(files["certfile"]).read_text())
    assert set(seen) == {"xn--bcher-kva.example"}


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("straße.example", "xn--strae-oqa.example"),
        ("STRAẞE.example", "xn--strae-oqa.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("\N{FULLWIDTH LATIN SMALL LETTER M}x.example", "mx.example"),
    ],
)
def test_sni_names_are_those_of_idna_2008(
    key: str, label: str, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files = issue(ca, tmp_path, label)
    with running(secure=True, sni_options={key: files}, **certificate.options) as server:
        client = secured(server, trusting(), label)
        assert serial(client) == ssl.PEM_cert_to_DER_cert(Path(files["certfile"]).read_text())


def test_sni_with_starttls(ca: trustme.CA, tmp_path: Path, certificate: Certificate) -> None:
    with running(
        sni_options={"two.example": issue(ca, tmp_path, "two.example")}, **certificate.options
    ) as server:
        secured(server, certificate.client_context(), "two.example").ok("NOOP")


def test_servers_that_share_a_context_keep_their_own_sni_maps(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    context = context_of(certificate.options)
    one, two = (issue(ca, tmp_path, name) for name in ("one.example", "two.example"))
    with (
        running(secure=True, ssl_context=context, sni_options={"one.example": one}) as first,
        running(secure=True, ssl_context=context, sni_options={"two.example": two}) as second,
    ):
        secured(second, certificate.client_context(), "two.example")
        secured(first, certificate.client_context(), "one.example")


@pytest.mark.parametrize("maker", [ssl, gevent_ssl])
def test_an_sni_entry_may_be_any_context(
    maker: Any, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    context = context_of(issue(ca, tmp_path, "g.example"), maker)
    with running(secure=True, sni_options={"g.example": context}, **certificate.options) as server:
        secured(server, certificate.client_context(), "g.example").ok("NOOP")


def test_the_program_s_own_sni_callback_is_still_called(certificate: Certificate) -> None:
    names = []
    context = context_of(certificate.options)
    context.sni_callback = lambda channel, name, context: names.append(name)
    with running(secure=True, ssl_context=context) as server:
        secured(server).ok("NOOP")
    assert names == ["localhost"]


def client_hello(server_name: bytes) -> bytes:
    """A ClientHello of OpenSSL's with *server_name*, whatever octets those are."""
    stand_in = "".join("." if n % 50 == 49 else "a" for n in range(len(server_name)))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing, server_hostname=stand_in).do_handshake()
    hello = outgoing.read()
    # RFC 6066 section 3: the name stands behind its type and its length.
    front = b"\0" + len(server_name).to_bytes(2, "big")
    assert hello.count(front + stand_in.encode()) == 1
    return hello.replace(front + stand_in.encode(), front + server_name)


ODD_NAMES = [
    "bücher.example".encode(), b"\xff\xfe.example", b"\x80", b"two.example\xff", "\u2028".encode(),
    b"a\x1b[2J.example", b"a b", b"a\r\nb", b"..", b"a" * 255, b"127.0.0.1", b"%s",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_server_name_is_no_word_on_standard_error(
    name: Any,
    ca: trustme.CA,
    tmp_path: Path,
    certificate: Certificate,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with talking(
        secure=True,
        sni_options={"two.example": issue(ca, tmp_path, "two.example")},
        **certificate.options,
        greet=False,
    ) as client:
        client.send(client_hello(name))
        assert client.recv()[:1] == b"\x16"  # a ServerHello: the default certificate will do
        secured(client.server, certificate.client_context(), "two.example").ok("NOOP")
    assert capfd.readouterr().err == ""


def in_records(hello: bytes, size: int) -> bytes:
    body = hello[5:]
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(hello[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize(
    "cut",
    [
        lambda hello: hello,
        lambda hello: in_records(hello, 1),
        lambda hello: b"\x15\x03\x01\x00\x02\x01\x00" + hello,  # a warning first
        lambda hello: b"\x16\x03\x01\x00\x00" + hello,
    ],
)
@pytest.mark.parametrize("maker", [ssl, gevent_ssl])
@pytest.mark.parametrize("name", [b"\xff.example", "bücher.example".encode()])
def test_a_name_that_no_callback_can_be_given_is_an_alert(
    name: bytes, maker: Any, cut: Any, certificate: Certificate, capfd: pytest.CaptureFixture[str]
) -> None:
    names = []
    context = context_of(certificate.options, maker)
    context.sni_callback = lambda channel, name, context: names.append(name)
    with witnessed(secure=True, ssl_context=context, greet=False) as client:
        client.send(cut(client_hello(name)))
        # A record of an alert: fatal, unrecognized_name (RFC 8446 section 6).
        assert client.rest() == b"\x15\x03\x03\x00\x02\x02\x70"
        assert client.witness.one("error").code == "TLSError"
        assert "ASCII" in str(client.witness.one("error").error)
        secured(client.server).ok("NOOP")
    assert names == ["localhost"]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("maker", [ssl, gevent_ssl])
@pytest.mark.parametrize("returns", [False, True])
def test_a_broken_sni_callback_of_the_program_is_in_the_error_event(
    returns: bool, maker: Any, certificate: Certificate, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(channel: Any, name: Any, context: Any) -> str:
        if returns:
            return "nonsense"
        raise KeyError(name)

    context = context_of(certificate.options, maker)
    context.sni_callback = broken  # type: ignore[assignment]
    with witnessed(secure=True, ssl_context=context, greet=False) as client:
        with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
            client.start_tls()
        client.close()
        error = client.witness.one("error")
        assert error.code == "TLSError"
        assert isinstance(error.error.__cause__, TypeError if returns else KeyError)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("size", [1, 7])
def test_the_name_is_found_however_the_handshake_is_cut(
    size: int, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files = issue(ca, tmp_path, "two.example")
    with talking(
        secure=True, sni_options={"two.example": files}, **certificate.options, greet=False
    ) as client:
        sendall = client.sock.sendall

        class Slow:
            def sendall(self, data: Any) -> None:
                for start in range(0, len(data), size):
                    sendall(data[start : start + size])
                    gevent.sleep(0)

            def __getattr__(self, name: Any) -> Any:
                return getattr(sock, name)

        sock, client.sock = client.sock, Slow()
        client.start_tls(certificate.client_context(), "two.example")
        assert serial(client) == ssl.PEM_cert_to_DER_cert(Path(files["certfile"]).read_text())


# Client certificates


def with_certificate(certificate: Certificate, files: dict[str, str]) -> ssl.SSLContext:
    context = certificate.client_context()
    context.load_cert_chain(**files)
    return context


def test_a_client_s_certificate_is_in_the_session(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    seen: list[Any] = []
    with running(
        cert_reqs=ssl.CERT_OPTIONAL,
        ca_certs=str(certificate.ca_certs),
        on_secure=lambda session: seen.append(session.tls.peer_certificate),
        **certificate.options,
    ) as server:
        secured(server, with_certificate(certificate, issue(ca, tmp_path, "client.example")))
        secured(server, certificate.client_context())
    assert ("DNS", "client.example") in seen[0]["subjectAltName"]
    assert seen[1] is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_is_required_is_required(
    version: Any, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    with running(
        cert_reqs=ssl.CERT_REQUIRED, ca_certs=str(certificate.ca_certs), **certificate.options
    ) as server:
        secured(server, with_certificate(certificate, issue(ca, tmp_path, "client.example")))
        witness = Witness(server)
        context = certificate.client_context()
        context.maximum_version = version
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            secured(server, context)
        assert witness.of("error")[0].code == "TLSError"
        assert not witness.of("secure")


def test_a_certificate_of_a_stranger_is_refused(tmp_path: Path, certificate: Certificate) -> None:
    import trustme

    stranger = issue(trustme.CA(), tmp_path, "client.example")
    with (
        running(
            cert_reqs=ssl.CERT_OPTIONAL, ca_certs=str(certificate.ca_certs), **certificate.options
        ) as server,
        pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
    ):
        secured(server, with_certificate(certificate, stranger))


def test_a_required_certificate_is_required_under_an_sni_name_too(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    with (
        running(
            cert_reqs=ssl.CERT_REQUIRED,
            ca_certs=str(certificate.ca_certs),
            sni_options={"two.example": issue(ca, tmp_path, "two.example")},
            **certificate.options,
        ) as server,
        pytest.raises((ssl.SSLError, ConnectionError, EOFError)),
    ):
        secured(server, certificate.client_context(), "two.example")


# What each name demands

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def shake_hands(server: SMTPServer, context: Any, version: Any, name: str = "two.example") -> Any:
    """The client after a whole handshake and a greeting, or None when the server refused it."""
    context.minimum_version = context.maximum_version = version
    try:
        return secured(server, context, name)
    except (ssl.SSLError, ConnectionError, EOFError):
        return None


@pytest.fixture
def clients(ca: trustme.CA, tmp_path: Path, certificate: Certificate) -> dict[str, Any]:
    """What makes a context: without a certificate, with a good one, with a stranger's."""
    import trustme

    (tmp_path / "stranger").mkdir()
    good = issue(ca, tmp_path, "client.example")
    bad = issue(trustme.CA(), tmp_path / "stranger", "client.example")
    return {
        "none": certificate.client_context,
        "good": lambda: with_certificate(certificate, good),
        "bad": lambda: with_certificate(certificate, bad),
    }


def context_that_asks(
    files: Any, certificate: Certificate, mode: Any = ssl.CERT_REQUIRED
) -> ssl.SSLContext:
    context = context_of(files)
    context.load_verify_locations(certificate.ca_certs)
    context.verify_mode = mode
    return context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("default", "entry"),
    [
        ("silent", "dict asks"), ("silent", "context asks"), ("context", "dict asks"),
        ("context", "context asks"), ("asks", "dict"), ("asks", "context asks"),
        ("context asks", "dict"), ("context asks", "dict asks"), ("context asks", "context asks"),
        ("context optional", "context asks"), ("optional", "dict asks"),
    ],
)  # fmt: skip
def test_what_a_name_demands_is_demanded(
    default: str,
    entry: str,
    version: Any,
    ca: trustme.CA,
    tmp_path: Path,
    certificate: Certificate,
    clients: Any,
) -> None:
    files = issue(ca, tmp_path, "two.example")
    asks = {"ca_certs": certificate.ca_certs, "cert_reqs": ssl.CERT_REQUIRED}
    options = {
        "silent": certificate.options,
        "asks": {**certificate.options, **asks},
        "optional": {**certificate.options, **asks, "cert_reqs": ssl.CERT_OPTIONAL},
        "context": {"ssl_context": context_of(certificate.options)},
        "context asks": {"ssl_context": context_that_asks(certificate.options, certificate)},
        "context optional": {
            "ssl_context": context_that_asks(certificate.options, certificate, ssl.CERT_OPTIONAL)
        },
    }[default]
    two = {
        "dict": files,
        "dict asks": {**files, **asks},
        "context asks": context_that_asks(files, certificate),
    }[entry]
    seen: list[Any] = []
    with running(
        secure=True,
        sni_options={"two.example": two},
        on_secure=lambda session: seen.append(session.tls.peer_certificate),
        **options,
    ) as server:
        assert shake_hands(server, clients["none"](), version) is None
        assert shake_hands(server, clients["bad"](), version) is None
        assert not seen
        good = shake_hands(server, clients["good"](), version)
        assert serial(good) == ssl.PEM_cert_to_DER_cert(Path(files["certfile"]).read_text())
        assert ("DNS", "client.example") in seen[0]["subjectAltName"]
        # The default goes by its own.
        other = shake_hands(server, clients["none"](), version, "localhost")
        assert (other is None) == default.endswith("asks")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_name_may_demand_less_when_it_says_so(
    version: Any, ca: trustme.CA, tmp_path: Path, certificate: Certificate, clients: Any
) -> None:
    files = issue(ca, tmp_path, "two.example")
    asks = {"ca_certs": certificate.ca_certs, "cert_reqs": ssl.CERT_REQUIRED}
    for default in (
        {**certificate.options, **asks},
        {"ssl_context": context_that_asks(certificate.options, certificate)},
    ):
        for entry in (
            {**files, "cert_reqs": ssl.CERT_NONE},
            context_that_asks(files, certificate, ssl.CERT_OPTIONAL),
        ):
            with running(secure=True, sni_options={"two.example": entry}, **default) as server:
                assert shake_hands(server, clients["none"](), version) is not None
                assert shake_hands(server, clients["none"](), version, "localhost") is None


@pytest.mark.parametrize("later", [False, True])
def test_a_context_that_says_nothing_of_client_certificates_is_no_way_round_them(
    later: bool, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    entry = context_of(issue(ca, tmp_path, "two.example"))
    for default in (
        {
            **certificate.options,
            "ca_certs": certificate.ca_certs,
            "cert_reqs": ssl.CERT_REQUIRED,
        },
        {"ssl_context": context_that_asks(certificate.options, certificate)},
    ):
        change: dict[str, Any] = {"sni_options": {"two.example": entry}}
        take: Any = partial(SMTPServer, None, **default)
        if later:
            take = take().update_secure_context
        with pytest.raises(ValueError, match=r"sni_options\['two.example'\].*verify_mode"):
            take(**change)


def test_authorities_that_can_not_be_copied_are_a_value_error(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files = issue(ca, tmp_path, "two.example")
    default = context_of(certificate.options)
    default.load_verify_locations(capath=str(tmp_path))  # read when a client's come
    default.verify_mode = ssl.CERT_REQUIRED
    with pytest.raises(ValueError, match=r"sni_options\['two.example'\].*ca_certs"):
        SMTPServer(None, ssl_context=default, sni_options={"two.example": files})
    SMTPServer(
        None,
        ssl_context=default,
        sni_options={"two.example": {**files, "ca_certs": certificate.ca_certs}},
    )


def test_a_name_has_the_lowest_version_of_its_own_context(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    modern, files = context_of(certificate.options), issue(ca, tmp_path, "two.example")
    own = context_of(files)
    modern.minimum_version = own.minimum_version = ssl.TLSVersion.TLSv1_3
    for options, entry in (({"ssl_context": modern}, files), (certificate.options, own)):
        with running(secure=True, sni_options={"two.example": entry}, **options) as server:
            old, new = (shake_hands(server, certificate.client_context(), one) for one in VERSIONS)
            assert old is None
            assert new is not None


def test_a_name_has_the_ciphers_of_its_own_or_those_of_the_default(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files, context = issue(ca, tmp_path, "two.example"), context_of(certificate.options)
    context.set_ciphers("ECDHE+AES256")
    strict = {"ciphers": "ECDHE+AES256"}
    for options, entry in (
        ({**certificate.options, **strict}, files),
        (certificate.options, {**files, **strict}),
        ({**certificate.options, "ciphers": "ECDHE+AES128"}, {**files, **strict}),
        ({"ssl_context": context}, files),
    ):
        with running(secure=True, sni_options={"two.example": entry}, **options) as server:
            small, large = certificate.client_context(), certificate.client_context()
            small.set_ciphers("ECDHE+AES128")
            large.set_ciphers("ECDHE+AES256")
            assert shake_hands(server, small, ssl.TLSVersion.TLSv1_2) is None
            assert shake_hands(server, large, ssl.TLSVersion.TLSv1_2) is not None


@pytest.mark.parametrize("version", VERSIONS)
def test_our_contexts_send_no_session_tickets(
    version: Any, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files = issue(ca, tmp_path, "two.example")
    with running(secure=True, sni_options={"two.example": files}, **certificate.options) as server:
        for name in ("localhost", "two.example"):
            client = shake_hands(server, certificate.client_context(), version, name)
            client.ok("NOOP")  # what TLS 1.3 sends after the handshake has come too
            session = client.tls.session
            assert session is None or not session.has_ticket


def test_on_secure_may_refuse_a_client_without_a_certificate(certificate: Certificate) -> None:
    def on_secure(session: Session) -> None:
        if session.tls.peer_certificate is None:  # type: ignore[union-attr]
            raise Reject(530, "a certificate, please", "5.7.0")

    with talking(
        cert_reqs=ssl.CERT_OPTIONAL,
        ca_certs=str(certificate.ca_certs),
        on_secure=on_secure,
        **certificate.options,
    ) as client:
        client.starttls()
        client.send(b"EHLO me\r\n")
        assert client.reply() == "530 5.7.0 a certificate, please"
        assert client.ended()


# New certificates


@pytest.mark.parametrize("how", ["files", "context", "same files"])
def test_new_certificates_are_for_those_who_come_after(
    how: str, ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    files = issue(ca, tmp_path, "localhost")
    newer = issue(ca, tmp_path / "..", "127.0.0.1", "localhost")
    with running(**files) as server:
        old = secured(server)
        plain = Client(server, hello="EHLO me")
        old.begin()
        if how == "files":
            server.update_secure_context(**newer)
        elif how == "context":
            server.update_secure_context(ssl_context=context_of(newer))
        else:
            for name in ("certfile", "keyfile"):
                Path(files[name]).write_bytes(Path(newer[name]).read_bytes())
            server.update_secure_context()
        old.send(b"still here\r\n.\r\n")
        assert old.reply().startswith("250")
        new = secured(server)
        plain.starttls()
        der = ssl.PEM_cert_to_DER_cert(Path(newer["certfile"]).read_text())
        assert serial(new) == serial(plain) == der
        assert serial(old) != der
        assert old.cmd("NOOP").startswith("250")


def test_the_first_certificate_may_come_while_the_server_runs(certificate: Certificate) -> None:
    with running() as server:
        before = Client(server)
        assert "STARTTLS" not in before.cmd("EHLO me")
        assert before.cmd("STARTTLS").startswith("502")
        server.update_secure_context(**certificate.options)
        secured(server, certificate.client_context())


def test_a_new_certificate_that_can_not_be_loaded_leaves_the_old(
    tmp_path: Path, certificate: Certificate
) -> None:
    (tmp_path / "bad").write_text("no certificate")
    with running(**certificate.options) as server:
        with pytest.raises(OSError, match="No such"):
            server.update_secure_context(certfile=str(tmp_path / "no such"))
        with pytest.raises(ssl.SSLError):
            server.update_secure_context(certfile=str(tmp_path / "bad"))
        with pytest.raises(TypeError, match="nonsense"):
            server.update_secure_context(nonsense=1)
        secured(server, certificate.client_context())


@pytest.mark.parametrize("name", ["certfile", "keyfile", "ca_certs"])
def test_a_file_that_can_not_be_read_is_named(
    name: str, tmp_path: Path, certificate: Certificate
) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        SMTPServer(None, **{**certificate.options, name: missing})


def test_an_encrypted_key_is_an_error_and_asks_nobody(
    tmp_path: Path, certificate: Certificate
) -> None:
    key = serialization.load_pem_private_key(certificate.keyfile.read_bytes(), None)
    keyfile = tmp_path / "key.pem"
    keyfile.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        )
    )
    # With a terminal, OpenSSL would ask there.
    master, terminal = pty.openpty()
    program = f"""
from smtp_blinker import SMTPServer
SMTPServer(None, certfile={str(certificate.certfile)!r}, keyfile={str(keyfile)!r})
"""
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            stdin=terminal,
            stderr=subprocess.PIPE,
            start_new_session=True,
            timeout=60,
        )
    finally:
        os.close(master)
        os.close(terminal)
    assert b"SSLError" in ended.stderr
    assert b"the key is encrypted" in ended.stderr


def test_the_error_names_the_file_that_can_not_be_loaded(ca: trustme.CA, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("no certificate")
    (tmp_path / "other").mkdir()
    files: dict[str, Any] = issue(ca, tmp_path, "localhost")
    other = issue(ca, tmp_path / "other", "localhost")["keyfile"]
    bad = str(tmp_path / "bad")
    for wrong, said in (
        ({"certfile": bad}, "bad has no certificate in PEM"),
        ({"certfile": files["keyfile"]}, "localhost.key has no certificate in PEM"),
        ({"keyfile": bad}, "bad has no private key in PEM"),
        ({"keyfile": None}, "localhost.pem has no private key in PEM"),
        ({"keyfile": other}, "other/localhost.key: .*mismatch"),
        ({"ca_certs": bad}, "bad: "),
    ):
        with pytest.raises(ssl.SSLError, match=said):
            SMTPServer(None, **(files | wrong))


def test_a_new_sni_map_is_for_those_who_come_after(
    ca: trustme.CA, tmp_path: Path, certificate: Certificate
) -> None:
    with running(secure=True, **certificate.options) as server:
        server.update_secure_context(sni_options={"n.example": issue(ca, tmp_path, "n.example")})
        secured(server, certificate.client_context(), "n.example")
        secured(server, certificate.client_context(), "localhost")


# The end of TLS


def test_the_server_says_goodbye_in_tls(certificate: Certificate) -> None:
    with running(**certificate.options) as server:
        client = secured(server)
        client.ok("QUIT")
        # A close_notify is the end of file; without it OpenSSL has an error instead.
        data = client.sock.recv(1000)
        client._incoming.write(data)
        assert client.tls.read(10) == b"" or client.tls.pending() == 0


def test_nonsense_inside_tls_ends_that_client_only(certificate: Certificate) -> None:
    with running(**certificate.options) as server:
        witness = Witness(server)
        client = secured(server)
        client.sock.sendall(b"in clear\r\n" * 10)
        client.sock.settimeout(30)
        assert client._raw() is not None
        witness.one("disconnect")
        secured(server)


# Settings that are wrong, or contradict each other


@pytest.mark.parametrize(
    ("changes", "error", "name"),
    [
        ({"ssl_context": 5}, TypeError, "ssl_context"),
        ({"certfile": 5}, TypeError, "certfile"),
        ({"sni_options": None}, TypeError, "sni_options"),
        ({"sni_options": {5: {"certfile": "x"}}}, TypeError, "sni_options"),
        ({"sni_options": {"a": {"certfile": "x", "key": "y"}}}, TypeError, r"sni_options\['a'\]"),
        ({"sni_options": {"a": {"certfile": 5}}}, TypeError, r"sni_options\['a'\]: certfile"),
        ({"cert_reqs": 99}, ValueError, "cert_reqs"),
        ({"cert_reqs": ssl.CERT_REQUIRED}, ValueError, "ca_certs"),
        ({"ciphers": 5}, TypeError, "ciphers"),
        ({"ciphers": "NOPE"}, ssl.SSLError, "ciphers.*NOPE"),
        ({"keyfile": "x", "certfile": None}, ValueError, "keyfile"),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_a_wrong_setting_is_named_before_anything_is_opened(
    changes: dict[str, Any], error: Any, name: str, later: bool, certificate: Certificate
) -> None:
    def make() -> Any:
        return SMTPServer(None, **{**certificate.options, **changes})

    take = SMTPServer(None, **certificate.options).update_secure_context
    before = descriptors()
    with pytest.raises(error, match=name):
        take(**changes) if later else make()
    assert descriptors() <= before


def test_a_number_is_no_descriptor_of_a_certificate_and_stays_open(
    certificate: Certificate,
) -> None:
    server = SMTPServer(None, **certificate.options)
    with open(certificate.certfile) as file:
        with pytest.raises(TypeError, match="certfile"):
            server.update_secure_context(certfile=file.fileno())
        with pytest.raises(TypeError, match="certfile"):
            server.update_secure_context(sni_options={"a.example": {"certfile": file.fileno()}})
        assert "BEGIN CERTIFICATE" in file.read()


@pytest.mark.parametrize(
    "setting",
    [
        {"cert_reqs": ssl.CERT_REQUIRED},
        {"ca_certs": "ca.pem"},
        {"ciphers": "HIGH"},
        {"certfile": "cert.pem"},
        {"keyfile": "key.pem"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_what_a_context_has_is_not_said_beside_it(
    setting: dict[str, Any], certificate: Certificate
) -> None:
    [name] = setting
    context = certificate.context()
    with pytest.raises(ValueError, match=f"ssl_context or {name}"):
        SMTPServer(None, ssl_context=context, **setting)
    with pytest.raises(ValueError, match=f"ssl_context or {name}"):
        SMTPServer(None, **certificate.options).update_secure_context(
            ssl_context=context, **setting
        )
    if name != "certfile":  # which replaces it
        with pytest.raises(ValueError, match=f"ssl_context or {name}"):
            SMTPServer(None, ssl_context=context).update_secure_context(**setting)


def test_a_new_context_replaces_all_that_made_the_old_one(certificate: Certificate) -> None:
    options = {**certificate.options, "ca_certs": certificate.ca_certs, "ciphers": "HIGH"}
    with running(secure=True, cert_reqs=ssl.CERT_REQUIRED, **options) as server:
        server.update_secure_context(ssl_context=certificate.context())
        client = Client(server, greet=False)
        client.start_tls()
        assert client.reply().startswith("220")
        server.update_secure_context(**certificate.options)
        client = Client(server, greet=False)
        client.start_tls()
        assert client.reply().startswith("220")


def test_a_client_s_context_is_refused_at_once(certificate: Any) -> None:
    client_s = certificate.client_context()
    with pytest.raises(ValueError, match="ssl_context is a client's context"):
        SMTPServer(None, ssl_context=client_s)
    with pytest.raises(ValueError, match=r"sni_options\['a.example'\] is a client's context"):
        SMTPServer(None, **certificate.options, sni_options={"a.example": client_s})
