"""Exim, which sends BDAT by itself: as the relay of a message that comes in on its standard input.

It has its configuration, queue and logs in a temporary folder; the machine's own mail server isn't
touched. Every server here has DATA disabled, so what arrives came by BDAT.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import HOST, Served, beside, missing, succeed

from smtp_blinker import DEFAULT_EXTENSIONS, Reject
from smtp_blinker.stores import MaildirStore

from .names import CONTENT, Certificates

Serve = Callable[..., Served]

USER = "Debian-exim"
CONFIGURATION = """\
exim_path = {exim}
keep_environment =
primary_hostname = relay.example
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
host_lookup =
local_interfaces = {host}
message_size_limit = 0
tls_advertise_hosts =
acl_smtp_rcpt = accept
dsn_advertise_hosts = *
begin acl
begin routers
tls:
  driver = manualroute
  domains = tls.example
  route_list = * {host}::{port} byname
  transport = tls
  self = send
all:
  driver = manualroute
  route_list = * {host}::{port} byname
  transport = smtp
  self = send
begin transports
smtp:
  driver = smtp
  allow_localhost
tls:
  driver = smtp
  allow_localhost
  hosts_require_tls = *
  tls_sni = mail.example.test
  tls_verify_certificates = {ca}
  tls_verify_hosts = *
  tls_verify_cert_hostnames = :
begin retry
* * F,1h,1s
"""
MAIL = ("a@example.org", "b@example.com", "c@example.com")


@dataclass
class Exim:
    """Runs Exim with a configuration that relays to the server on *port*."""

    program: str
    folder: Path

    def relay(
        self, served: Served, content: bytes, *recipients: str, mail: str = "", rcpt: str = ""
    ) -> None:
        """Hand over *content*, with dots still to be stuffed, and wait until Exim has tried."""
        lines = content.replace(b"\r\n.", b"\r\n..").decode("utf-8", "surrogateescape")
        dialogue = [
            "EHLO client.example",
            f"MAIL FROM:<a@example.org>{mail}",
            *(f"RCPT TO:<{recipient}>{rcpt}" for recipient in recipients),
            "DATA",
            f"{lines}.",
            "QUIT",
        ]
        text = "\n".join(line.replace("\r\n", "\n") for line in dialogue) + "\n"
        succeed(*self.command(served), "-odf", "-bs", stdin=text)

    def retry(self, served: Served) -> None:
        succeed(*self.command(served), "-qff")

    def command(self, served: Served) -> tuple[str, ...]:
        path = self.folder / "configuration"
        ca = self.folder / "ca.pem"
        path.write_text(
            CONFIGURATION.format(
                exim=self.program, folder=self.folder, host=HOST, port=served.port, ca=ca
            )
        )
        return (self.program, "-C", str(path))

    @property
    def log(self) -> str:
        return (self.folder / "log" / "mainlog").read_text(errors="replace")

    def deliveries(self, mark: str = "=>") -> list[str]:
        return [line for line in self.log.splitlines() if f" {mark} " in line]


@pytest.fixture
def exim(certificates: Certificates) -> Iterator[Exim]:
    path = beside("usr/sbin/exim4", "exim4-daemon-light")
    if os.geteuid() != 0:
        missing("the right to run Exim", "nothing but run as root: exim4-daemon-light")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        missing(f"the user {USER}", "exim4-daemon-light, or run .ci/debian_beside as root")
    folder = Path(tempfile.mkdtemp(prefix="blinker-exim-", dir="/tmp"))
    try:
        folder.chmod(0o755)  # Exim works as a user of its own
        for name in ("spool", "log"):
            (folder / name).mkdir()
            shutil.chown(folder / name, USER)
        shutil.copyfile(certificates.ca, folder / "ca.pem")
        (folder / "ca.pem").chmod(0o644)
        # A copy, since it starts itself again as USER, who can't enter root's home.
        yield Exim(str(shutil.copy(path, str(folder))), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def by_bdat(serve: Serve, **options: Any) -> Served:
    return serve(disabled_commands=["DATA"], **options)


def assert_whole(content: bytes, sent: bytes) -> None:
    """*content* is *sent* with the fields that Exim adds to the header."""
    header, _, body = content.partition(b"\r\n\r\n")
    assert header.startswith(b"Received: ")
    sent_header, _, sent_body = sent.partition(b"\r\n\r\n")
    assert set(sent_header.split(b"\r\n")) <= set(header.split(b"\r\n"))
    assert body == sent_body


def test_exim_sends_a_message_in_one_chunk(serve: Serve, exim: Exim) -> None:
    served = by_bdat(serve)
    exim.relay(served, CONTENT, *MAIL[1:])
    assert_whole(served.mail.content, CONTENT)
    assert served.mail.rcpt_to == ["b@example.com", "c@example.com"]
    assert served.mail.transmission_type == "ESMTP"
    [line] = exim.deliveries()
    assert " K " in line  # Exim's own word for "by BDAT"


def test_a_message_by_bdat_is_stored_whole(serve: Serve, exim: Exim, tmp_path: Path) -> None:
    served = by_bdat(serve, on_data=MaildirStore(tmp_path / "Maildir"))
    content = CONTENT + b"0123456789abcdef\r\n" * 100_000
    exim.relay(served, content, "b@example.com")
    [file] = (tmp_path / "Maildir" / "new").iterdir()
    # The store has lines as files do, and its own trace fields above those of Exim.
    stored = file.read_bytes().replace(b"\n", b"\r\n")
    assert_whole(stored[stored.index(b"Received: from root") :], content)


def test_exim_sends_a_large_message_in_chunks(serve: Serve, exim: Exim) -> None:
    lines = b"".join(b".%d. caf\xc3\xa9 %s\r\n" % (n, b"x" * (n % 900)) for n in range(20_000))
    content = CONTENT + lines
    served = by_bdat(serve)
    exim.relay(served, content, *MAIL[1:], mail=" BODY=8BITMIME")
    assert_whole(served.mail.content, content)
    # It passes on octets beyond ASCII without BODY=8BITMIME, whatever it was told itself.
    assert served.mail.envelope.body_type == "7bit"
    assert served.mail.envelope.size >= len(served.mail.content)


def test_exim_sends_chunks_over_tls(serve: Serve, exim: Exim, certificates: Certificates) -> None:
    content = CONTENT + b"0123456789abcdef\r\n" * 200_000
    served = by_bdat(serve, **certificates.options)
    exim.relay(served, content, "b@tls.example")
    assert_whole(served.mail.content, content)
    assert served.mail.transmission_type == "ESMTPS"


def test_a_refused_recipient_bounces_and_the_others_get_the_message(
    serve: Serve, exim: Exim
) -> None:
    def on_rcpt_to(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "no such user", enhanced="5.1.1")

    served = by_bdat(serve, on_rcpt_to=on_rcpt_to)
    exim.relay(served, CONTENT, "b@example.com", "no@example.com", "c@example.com")
    first, second = served.wait_for(2)
    mail, bounce = (first, second) if first.mail_from else (second, first)
    assert mail.rcpt_to == ["b@example.com", "c@example.com"]
    assert_whole(mail.content, CONTENT)
    assert (bounce.mail_from, bounce.rcpt_to) == ("", ["a@example.org"])
    assert b"no such user" in bounce.content


def test_only_refused_recipients_and_the_chunk_behind_them_is_no_command(
    serve: Serve, exim: Exim
) -> None:
    # Exim pipelines RCPT and BDAT, so the refused chunk is on its way already.
    def on_rcpt_to(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "no such user", enhanced="5.1.1")

    content = CONTENT + b"RSET\r\nMAIL FROM:<x@example.net>\r\nRCPT TO:<y@example.com>\r\n"
    served = by_bdat(serve, on_rcpt_to=on_rcpt_to)
    exim.relay(served, content, "no@example.com", "no2@example.com")
    [bounce] = served.wait_for(1)
    assert (bounce.mail_from, bounce.rcpt_to) == ("", ["a@example.org"])


@pytest.mark.parametrize("when", ["before reading", "after reading"])
def test_a_refusal_of_the_content_reaches_exim(serve: Serve, exim: Exim, when: str) -> None:
    bounces: list[bytes] = []

    def on_data(stream: Any, session: Any) -> None:
        if session.envelope.mail_from.address:
            if when == "after reading":
                stream.read()
            raise Reject(554, "not wanted here", enhanced="5.7.1")
        bounces.append(stream.read())

    served = by_bdat(serve, on_data=on_data)
    exim.relay(served, CONTENT + b"x\r\n" * 500_000, "b@example.com")
    [bounce] = bounces
    assert b"not wanted here" in bounce
    assert len(exim.deliveries("**")) == 1


def test_exim_tries_again_after_a_temporary_refusal(serve: Serve, exim: Exim) -> None:
    refusals = [Reject(451, "come back later", enhanced="4.3.0")]
    mails: list[bytes] = []

    def on_data(stream: Any, session: Any) -> None:
        content = stream.read()
        if refusals:
            raise refusals.pop()
        mails.append(content)

    served = by_bdat(serve, on_data=on_data)
    exim.relay(served, CONTENT, "b@example.com")
    assert len(exim.deliveries("==")) == 1
    exim.retry(served)
    [content] = mails
    assert_whole(content, CONTENT)


def test_a_message_over_the_size_bounces(serve: Serve, exim: Exim) -> None:
    served = by_bdat(serve, size=100_000)
    exim.relay(served, CONTENT + b"x" * 998 + b"\r\n" + b"x\r\n" * 100_000, "b@example.com")
    [bounce] = served.wait_for(1)
    assert bounce.mail_from == ""
    assert b"maximum size" in bounce.content


def test_a_message_of_unknown_size_over_the_limit_bounces(serve: Serve, exim: Exim) -> None:
    # Without SIZE in EHLO the limit is found in the chunks.
    served = by_bdat(serve, size=100_000, extensions=DEFAULT_EXTENSIONS - {"SIZE"})
    exim.relay(served, CONTENT + b"x\r\n" * 200_000, "b@example.com")
    [bounce] = served.wait_for(1)
    assert bounce.mail_from == ""


def test_exim_relays_delivery_notification_wishes(serve: Serve, exim: Exim) -> None:
    served = by_bdat(serve, extensions=DEFAULT_EXTENSIONS | {"DSN"})
    wishes = {"mail": " RET=HDRS ENVID=q1", "rcpt": " NOTIFY=FAILURE,DELAY"}
    exim.relay(served, CONTENT, "b@example.com", **wishes)
    dsn = served.mail.envelope.dsn
    assert (dsn.ret, dsn.envid) == ("HDRS", "q1")
    assert set(served.mail.envelope.rcpt_to[0].dsn.notify) == {"FAILURE", "DELAY"}


def test_exim_without_chunking_falls_back_to_data(serve: Serve, exim: Exim) -> None:
    served = serve(extensions=DEFAULT_EXTENSIONS - {"CHUNKING"})
    exim.relay(served, CONTENT, *MAIL[1:])
    assert_whole(served.mail.content, CONTENT)
    [line] = exim.deliveries()
    assert " K " not in line
