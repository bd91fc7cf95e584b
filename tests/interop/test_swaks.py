"""swaks, the Swiss Army Knife for SMTP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import HOST, Served, missing, program, raising, run, succeed

from smtp_blinker import Reject

from .names import ASCII_CONTENT, PASSWORD, USER, Certificates, on_auth

Serve = Callable[..., Served]
Swaks = Callable[..., str]

ENVELOPE = ("--from", "a@example.org", "--to", "b@example.com,c@example.com")


@pytest.fixture(scope="session")
def path() -> str:
    return program("swaks", "swaks")


@pytest.fixture
def swaks(path: str, tmp_path: Path) -> Swaks:
    """Sends ASCII_CONTENT; the whole dialogue is returned."""
    file = tmp_path / "content"
    file.write_bytes(ASCII_CONTENT)

    def send(port: int | None, *args: str, envelope: tuple[str, ...] = ENVELOPE) -> str:
        where = [] if port is None else ["--server", HOST, "--port", str(port)]
        return succeed(path, *where, "--helo", "client.example", *envelope, *args, f"--data={file}")

    return send


@pytest.fixture(scope="session")
def _tls(path: str) -> None:
    if "TLS supported" not in run(path, "--support").stdout:
        missing("TLS in swaks", "libnet-ssleay-perl")


needs_tls = pytest.mark.usefixtures("_tls")


def test_swaks_delivers(serve: Serve, swaks: Swaks) -> None:
    served = serve()
    swaks(served.port)
    mail = served.mail
    assert mail.content.rstrip(b"\r\n") == ASCII_CONTENT.rstrip(b"\r\n")
    assert mail.rcpt_to == ["b@example.com", "c@example.com"]
    assert mail.session.host_name_appears_as == "client.example"


def test_swaks_pipelines(serve: Serve, swaks: Swaks) -> None:
    served = serve()
    swaks(served.port, "--pipeline")
    assert served.mail.rcpt_to == ["b@example.com", "c@example.com"]


def test_swaks_sees_a_refusal(serve: Serve, path: str) -> None:
    served = serve(on_mail_from=raising(Reject(550, "not from you", enhanced="5.7.1")))
    done = run(path, "--server", HOST, "--port", str(served.port), *ENVELOPE)
    assert done.returncode == 23
    assert "<** 550 5.7.1 not from you" in done.stdout


@needs_tls
@pytest.mark.parametrize("version", ["tlsv1_2", "tlsv1_3"])
def test_swaks_upgrades_with_starttls(
    serve: Serve, swaks: Swaks, certificates: Certificates, version: str
) -> None:
    served = serve(**certificates.options)
    swaks(
        served.port,
        *("--tls", "--tls-protocol", version, "--tls-verify", "--tls-sni", "mail.example.test"),
        *("--tls-ca-path", str(certificates.ca)),
    )
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.tls.version == version.replace("tls", "TLS").replace("_", ".")
    assert served.mail.session.servername == "mail.example.test"


@needs_tls
def test_swaks_speaks_tls_from_the_first_octet(
    serve: Serve, swaks: Swaks, certificates: Certificates
) -> None:
    served = serve(secure=True, **certificates.options)
    swaks(served.port, "--tls-on-connect")
    assert served.mail.transmission_type == "ESMTPS"


@needs_tls
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_swaks_authenticates(
    serve: Serve, swaks: Swaks, path: str, certificates: Certificates, method: str
) -> None:
    served = serve(
        auth_methods=["PLAIN", "LOGIN", "CRAM-MD5"], on_auth=on_auth, **certificates.options
    )
    auth = ("--tls", "--auth", method, "--auth-user", USER, "--auth-password")
    swaks(served.port, *auth, PASSWORD)
    assert served.mail.session.user == USER
    assert served.mail.transmission_type == "ESMTPSA"
    refused = run(path, "--server", HOST, "--port", str(served.port), *ENVELOPE, *auth, "wrong")
    assert refused.returncode == 28
    assert "<~* 535 5.7.8" in refused.stdout
    assert [(event.method, event.success) for event in served.of("auth")] == [
        (method, True),
        (method, False),
    ]


@pytest.mark.parametrize("over", ["TCP", "UNIX"])
def test_swaks_speaks_lmtp(serve: Serve, swaks: Swaks, short_folder: Path, over: str) -> None:
    path = short_folder / "lmtp.sock"
    served = serve(*([f"unix:{path}"] if over == "UNIX" else []), lmtp=True)
    where = ("--socket", str(path)) if over == "UNIX" else ()
    dialogue = swaks(None if where else served.port, "--protocol", "LMTP", *where)
    assert served.mail.transmission_type == "LMTP"
    assert dialogue.count("queued as 1") == 2  # a reply for each recipient


@pytest.mark.parametrize("version", ["1", "2"])
def test_swaks_introduces_its_client_with_proxy(serve: Serve, swaks: Swaks, version: str) -> None:
    served = serve(use_proxy=[HOST])
    swaks(
        served.port,
        *("--proxy-version", version, "--proxy-family", "TCP4" if version == "1" else "AF_INET"),
        *("--proxy-source", "192.0.2.7", "--proxy-source-port", "4711"),
        *("--proxy-dest", "198.51.100.1", "--proxy-dest-port", "25"),
        *(() if version == "1" else ("--proxy-protocol", "STREAM", "--proxy-command", "PROXY")),
    )
    session = served.mail.session
    assert (session.remote_address, session.remote_port) == ("192.0.2.7", 4711)
    assert (session.local_address, session.local_port) == ("198.51.100.1", 25)
    assert session.proxy.version == int(version)


def test_swaks_introduces_its_client_with_xclient(serve: Serve, swaks: Swaks) -> None:
    served = serve(use_xclient=[HOST])
    swaks(
        served.port,
        *("--xclient-addr", "192.0.2.8", "--xclient-name", "client.example.net"),
        *("--xclient-helo", "Inner.Example"),
    )
    session = served.mail.session
    assert session.remote_address == "192.0.2.8"
    assert session.client_hostname == "client.example.net"
    assert [event.remote_address for event in served.of("connect")] == ["192.0.2.8"]
