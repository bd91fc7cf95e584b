"""openssl s_client, with STARTTLS and with TLS from the first octet."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from ssl import CERT_OPTIONAL, CERT_REQUIRED

import pytest
from support import HOST, PROGRAM_SECONDS, SECONDS, Served, environment, program, run, wait_until

from .names import ASCII_CONTENT, Certificates

Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def openssl() -> str:
    return program("openssl", "openssl")


STARTTLS = ("-starttls", "smtp", "-name", "client.example")


class Dialogue:
    """A running s_client whose lines go to the server and whose output comes from it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: Queue[bytes] = Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def reply(self) -> bytes:
        """The last line of the next reply."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(deadline - time.monotonic(), 0))
            except Empty:
                raise AssertionError("no reply") from None
            assert line, "s_client ended"
            if line[:3].isdigit() and line[3:4] == b" ":
                return line

    def send(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def ask(self, command: str, code: int) -> bytes:
        self.send(f"{command}\r\n".encode())
        reply = self.reply()
        assert reply.startswith(b"%d " % code), reply
        return reply

    def deliver(self) -> None:
        """A message, and QUIT."""
        self.ask("EHLO client.example", 250)
        self.ask("MAIL FROM:<a@example.org>", 250)
        self.ask("RCPT TO:<b@example.com>", 250)
        self.ask("DATA", 354)
        self.send(ASCII_CONTENT.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert self.reply().startswith(b"250 ")
        self.ask("QUIT", 221)
        assert self.process.wait(SECONDS) == 0


@contextmanager
def connected(
    openssl: str, served: Served, certificates: Certificates, *args: str | Path
) -> Iterator[Dialogue]:
    """-quiet keeps s_client from taking RCPT for its own command R."""
    where = ("-connect", f"{HOST}:{served.port}", "-CAfile", str(certificates.ca))
    process = subprocess.Popen(
        [openssl, "s_client", "-quiet", "-verify_return_error", *where, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    ends = threading.Timer(PROGRAM_SECONDS, process.kill)
    ends.start()
    try:
        yield Dialogue(process)
    finally:
        ends.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass


def shake_hands(
    openssl: str, served: Served, certificates: Certificates, *args: str | Path
) -> subprocess.CompletedProcess[str]:
    """A handshake and nothing else; its report is on standard output."""
    where = ("-connect", f"{HOST}:{served.port}", "-CAfile", certificates.ca)
    return run(openssl, "s_client", *where, *args)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("start", [True, False], ids=["STARTTLS", "TLS"])
def test_openssl_delivers(
    serve: Serve, openssl: str, certificates: Certificates, start: bool, version: str
) -> None:
    served = serve(secure=not start, **certificates.options)
    option = f"-tls{version.replace('.', '_')}"
    with connected(openssl, served, certificates, *STARTTLS * start, option) as dialogue:
        if not start:
            assert dialogue.reply().startswith(b"220 ")
        dialogue.deliver()
    assert served.mail.content == ASCII_CONTENT
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.tls.version == f"TLSv{version}"


@pytest.mark.parametrize("start", [True, False], ids=["STARTTLS", "TLS"])
@pytest.mark.parametrize("version", ["1", "1_1"])
def test_openssl_is_refused_with_an_old_version(
    serve: Serve, openssl: str, certificates: Certificates, start: bool, version: str
) -> None:
    served = serve(secure=not start, **certificates.options)
    # At security level 0 openssl itself would still speak it.
    old = (f"-tls{version}", "-cipher", "DEFAULT:@SECLEVEL=0")
    done = shake_hands(openssl, served, certificates, *STARTTLS * start, *old)
    assert done.returncode == 1
    assert "alert protocol version" in done.stderr
    (event,) = wait_until(lambda: served.of("error"), "the failure is signalled")
    assert event.code == "TLSError"
    served.forget("error")


def test_openssl_is_refused_without_a_common_cipher(
    serve: Serve, openssl: str, certificates: Certificates
) -> None:
    served = serve(ciphers="ECDHE+AESGCM", **certificates.options)
    other = (*STARTTLS, "-tls1_2", "-cipher", "ECDHE+CHACHA20")
    done = shake_hands(openssl, served, certificates, *other)
    assert "alert handshake failure" in done.stderr
    wait_until(lambda: served.of("error"), "the failure is signalled")
    served.forget("error")
    good = shake_hands(openssl, served, certificates, *STARTTLS, "-tls1_2")
    assert "AES" in good.stdout


@pytest.mark.parametrize("start", [True, False], ids=["STARTTLS", "TLS"])
def test_openssl_gets_the_certificate_of_the_name_it_asks_for(
    serve: Serve, openssl: str, certificates: Certificates, start: bool
) -> None:
    served = serve(
        secure=not start,
        sni_options={"other.example": {"certfile": certificates.other}},
        **certificates.options,
    )
    for asked, shown in (
        (("-servername", "other.example"), "CN = other.example"),
        (("-servername", "OTHER.example"), "CN = other.example"),
        (("-servername", "third.example"), "CN = localhost"),
        (("-noservername",), "CN = localhost"),
    ):
        done = shake_hands(openssl, served, certificates, *STARTTLS * start, *asked)
        assert shown in done.stdout
        assert "Verify return code: 0 (ok)" in done.stdout
    wait_until(lambda: len(served.of("disconnect")) == 4, "all four have left")
    names = [event.servername for event in served.of("secure")]
    assert names == ["other.example", "other.example", "third.example", None]


def test_openssl_shows_its_certificate(
    serve: Serve, openssl: str, certificates: Certificates
) -> None:
    options = {"ca_certs": certificates.ca, **certificates.options}
    served = serve(cert_reqs=CERT_OPTIONAL, **options)
    mine = ("-cert", certificates.client, "-key", certificates.client)
    for args in (mine, ()):
        with connected(openssl, served, certificates, *STARTTLS, *args) as dialogue:
            dialogue.deliver()
    known, unknown = (mail.session.tls.peer_certificate for mail in served.messages)
    assert ("DNS", "client.example") in known["subjectAltName"]
    assert unknown is None


@pytest.mark.parametrize("version", ["1_2", "1_3"])
def test_openssl_is_refused_without_a_certificate(
    serve: Serve, openssl: str, certificates: Certificates, version: str
) -> None:
    served = serve(cert_reqs=CERT_REQUIRED, ca_certs=certificates.ca, **certificates.options)
    # A client of TLS 1.3 learns of it only when it reads on.
    done = shake_hands(openssl, served, certificates, *STARTTLS, f"-tls{version}", "-ign_eof")
    wait_until(lambda: served.of("error"), "the failure is signalled")
    assert "alert" in done.stderr
    assert [event.code for event in served.of("error")] == ["TLSError"]
    served.forget("error")


def test_openssl_speaks_the_new_certificate_after_a_reload(
    serve: Serve, openssl: str, certificates: Certificates
) -> None:
    served = serve(**certificates.options)
    with connected(openssl, served, certificates, *STARTTLS) as dialogue:
        dialogue.ask("NOOP", 250)
        other = certificates.other
        served.server.update_secure_context(certfile=other, keyfile=other)
        assert "CN = other.example" in shake_hands(openssl, served, certificates, *STARTTLS).stdout
        dialogue.deliver()  # the old connection lives on
    assert served.mail.content == ASCII_CONTENT
