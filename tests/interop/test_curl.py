"""curl's smtp:// and smtps://."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support import HOST, Served, missing, program, run, succeed, wait_until

from .names import CONTENT, PASSWORD, TOKEN, USER, Certificates, on_auth

Serve = Callable[..., Served]

ENVELOPE = ("--mail-from", "a@example.org", "--mail-rcpt", "b@example.com")


@pytest.fixture(scope="session")
def curl() -> str:
    path = program("curl", "curl")
    if " smtps" not in run(path, "-V").stdout:
        missing("SMTP in curl", "curl (Debian's)")
    return path


@pytest.fixture
def content(tmp_path: Path) -> Path:
    file = tmp_path / "content"
    file.write_bytes(CONTENT)
    return file


def url(served: Served, scheme: str = "smtp", host: str = HOST) -> str:
    return f"{scheme}://{host}:{served.port}/client.example"


def test_curl_delivers(serve: Serve, curl: str, content: Path) -> None:
    served = serve()
    succeed(curl, "-sS", url(served), *ENVELOPE, "--mail-rcpt", "c@example.com", "-T", content)
    mail = served.mail
    assert mail.content == CONTENT
    assert mail.rcpt_to == ["b@example.com", "c@example.com"]
    assert mail.envelope.size == len(CONTENT)
    assert mail.session.host_name_appears_as == "client.example"


def test_curl_sends_several_messages_on_one_connection(
    serve: Serve, curl: str, content: Path
) -> None:
    served = serve()
    one = ("-sS", url(served), *ENVELOPE, "-T", str(content))
    succeed(curl, *one, "--next", *one, "--next", *one)
    assert [mail.content for mail in served.messages] == [CONTENT] * 3
    assert len(served.of("connect")) == 1


def test_curl_sends_a_large_message(serve: Serve, curl: str, tmp_path: Path) -> None:
    served = serve(size=20_000_000)
    large = CONTENT * 10_000
    (tmp_path / "large").write_bytes(large)
    succeed(curl, "-sS", url(served), *ENVELOPE, "-T", tmp_path / "large")
    assert served.mail.content == large


def test_curl_is_told_that_a_message_is_too_large(serve: Serve, curl: str, content: Path) -> None:
    served = serve(size=500)
    done = run(curl, "-v", url(served), *ENVELOPE, "-T", content)
    assert done.returncode == 55
    assert "552 5.3.4" in done.stderr
    assert served.messages == []


def test_curl_composes_mime(serve: Serve, curl: str, content: Path) -> None:
    served = serve()
    part = f"file=@{content};type=application/octet-stream;encoder=base64"
    succeed(curl, "-sS", url(served), *ENVELOPE, "-H", "Subject: parts", "-F", "=text", "-F", part)
    assert b"Subject: parts\r\n" in served.mail.content
    assert b"multipart/mixed" in served.mail.content


def test_curl_asks_about_a_mailbox(serve: Serve, curl: str) -> None:
    served = serve()
    assert succeed(curl, "-sS", url(served), "--mail-rcpt", "b").startswith("252 ")
    assert succeed(curl, "-sS", url(served), "-X", "NOOP").startswith("250 ")
    assert len(succeed(curl, "-sS", url(served), "-X", "HELP")) > 4


def test_curl_sends_internationalised_mail(serve: Serve, curl: str, content: Path) -> None:
    served = serve()
    succeed(
        curl,
        *("-sS", url(served), "--mail-from", "jürgen@example.org"),
        *("--mail-rcpt", "用户@example.com", "-T", content),
        LC_ALL="C.UTF-8",
    )
    mail = served.mail
    assert mail.envelope.smtputf8
    assert (mail.mail_from, mail.rcpt_to) == ("jürgen@example.org", ["用户@example.com"])


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl_speaks_tls(
    serve: Serve,
    curl: str,
    content: Path,
    certificates: Certificates,
    scheme: str,
    version: str,
) -> None:
    served = serve(secure=scheme == "smtps", **certificates.options)
    succeed(
        curl,
        *("-sS", "--ssl-reqd", "--cacert", certificates.ca, url(served, scheme, "localhost")),
        *(f"--tlsv{version}", "--tls-max", version, *ENVELOPE, "-T", content),
    )
    assert served.mail.content == CONTENT
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.tls.version == f"TLSv{version}"


@pytest.mark.parametrize("initial_response", [True, False])
@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
def test_curl_authenticates(
    serve: Serve, curl: str, content: Path, method: str, initial_response: bool
) -> None:
    served = serve(auth_methods=["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"], on_auth=on_auth)
    option = ("--sasl-ir",) if initial_response else ()
    how = (*option, "--login-options", f"AUTH={method}", "-T", str(content))
    bearer = method == "XOAUTH2"

    def who(secret: str) -> tuple[str, ...]:
        return ("-u", USER, "--oauth2-bearer", secret) if bearer else ("-u", f"{USER}:{secret}")

    succeed(curl, "-sS", url(served), *ENVELOPE, *how, *who(TOKEN if bearer else PASSWORD))
    assert served.mail.session.user == USER
    refused = run(curl, "-sS", url(served), *ENVELOPE, *how, *who("wrong"))
    assert refused.returncode == 67
    # After the challenge that tells why XOAUTH2 failed, curl leaves without a word.
    wait_until(lambda: len(served.of("auth")) == 2, "the failure is signalled")
    assert [(event.method, event.success) for event in served.of("auth")] == [
        (method, True),
        (method, False),
    ]
