"""msmtp, a mail program with SCRAM and EXTERNAL (by GNU SASL)."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import HOST, Served, missing, program, run, wait_until

from smtp_blinker import ScramKeys, Session

from .names import ASCII_CONTENT, PASSWORD, TOKEN, USER, Certificates

Serve = Callable[..., Served]

SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-1")
MECHANISMS = (*SCRAM, "PLAIN", "LOGIN", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")
KEYS = {mechanism: ScramKeys.from_password(PASSWORD, mechanism, 4096) for mechanism in SCRAM}


@pytest.fixture(scope="session")
def msmtp() -> str:
    return program("msmtp", "msmtp")


@pytest.fixture
def send(msmtp: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Sends ASCII_CONTENT."""

    def with_settings(served: Served, method: str, *more: str) -> Any:
        lacking = method.lower() not in run(msmtp, "--version").stdout.split()
        if lacking:
            missing(f"{method} in msmtp", "an msmtp with GNU SASL")
        return run(
            msmtp,
            *("--file=/dev/null", f"--host={HOST}", f"--port={served.port}"),
            *(f"--auth={method.lower()}", f"--user={USER}", "--from=a@example.org", *more),
            *("--", "b@example.com"),
            stdin=ASCII_CONTENT.decode("ascii").replace("\r\n", "\n"),
        )

    return with_settings


def on_scram(username: str, mechanism: str, session: Session) -> ScramKeys | None:
    return KEYS[mechanism] if username == USER else None


def on_auth(auth: Any, session: Session) -> str | None:
    if auth.method in SCRAM or auth.method == "EXTERNAL":
        return auth.username or None
    known = auth.access_token == TOKEN if auth.access_token else auth.validate_password(PASSWORD)
    return auth.username if known and auth.username == USER else None


@pytest.mark.parametrize("method", MECHANISMS[:-1])
def test_msmtp_authenticates(
    serve: Serve, send: Callable[..., Any], method: str, tmp_path: Path
) -> None:
    served = serve(auth_methods=MECHANISMS, on_auth=on_auth, on_scram=on_scram)
    secret = TOKEN if "OAUTH" in method else PASSWORD
    for name, text in (("right", secret), ("wrong", "wrong")):
        (tmp_path / name).write_text(text, "utf-8")
        done = send(served, method, f"--passwordeval=cat {tmp_path / name}")
        assert (done.returncode == 0) == (name == "right"), done.stderr
    assert served.mail.session.user == USER
    assert served.mail.body.rstrip() == ASCII_CONTENT.partition(b"\r\n\r\n")[2].rstrip()
    wait_until(lambda: len(served.of("auth")) == 2, "the failure is signalled")
    assert [(event.method, event.success) for event in served.of("auth")] == [
        (method, True),
        (method, False),
    ]


@pytest.mark.parametrize("implicit", [False, True])
def test_msmtp_is_known_by_its_certificate(
    serve: Serve, send: Callable[..., Any], implicit: bool, certificates: Certificates
) -> None:
    served = serve(
        secure=implicit,
        auth_methods=MECHANISMS,
        on_auth=on_auth,
        ca_certs=certificates.ca,
        cert_reqs=ssl.CERT_OPTIONAL,
        **certificates.options,
    )
    done = send(
        served,
        "EXTERNAL",
        *("--tls=on", f"--tls-starttls={'off' if implicit else 'on'}"),
        f"--tls-trust-file={certificates.ca}",
        f"--tls-cert-file={certificates.client}",
        f"--tls-key-file={certificates.client}",
        "--user=client.example",  # without one it sends no "=" for it
    )
    assert done.returncode == 0, done.stderr
    assert served.mail.session.user == "client.example"
