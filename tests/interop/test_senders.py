"""Other senders of Debian: mail servers, replacements of sendmail, mail programs, libraries.

docs/senders.md says what each of them does and gets.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from support import HOST, Served, beside, missing, program

from smtp_blinker import DEFAULT_EXTENSIONS, Reject

from .names import CONTENT, USER, Certificates

Serve = Callable[..., Served]
Recipients = tuple[str, ...]
Done = subprocess.CompletedProcess[bytes]

PROGRAMS = Path(__file__).resolve().parent / "programs"
SENDER, RECIPIENTS = "a@example.org", ("b@example.com", "c@example.com")
MESSAGE = CONTENT.replace(b"sender@example.org", SENDER.encode())
BODY = MESSAGE.partition(b"\r\n\r\n")[2]
#: One that every program's settings can hold.
PASSWORD = "open/sesame"


@dataclass(frozen=True)
class Way:
    """How to send: to which server, as whom, whether under TLS."""

    served: Served
    folder: Path
    user: str = ""
    password: str = ""
    authority: str = ""


@dataclass(frozen=True)
class Sender:
    """One program. *send* hands it a content with LF lines and returns how it ended."""

    name: str
    send: Callable[[Way, bytes, Recipients], Done]
    #: "ESMTP" if it says EHLO although it has neither to log in nor to use TLS.
    protocol: str = "ESMTP"
    #: How it tells that the content was refused: by its exit "status", its "output", a "bounce".
    tells: str = "status"
    #: Whether it writes the whole header itself, and sends what is behind it only.
    writes_header: bool = False
    #: What it adds to the end of the content.
    adds: bytes = b""
    #: Whether it is tried with STARTTLS and AUTH.
    logs_in: bool = True


def on_auth(auth: Any, session: Any) -> str | None:
    return USER if auth.username == USER and auth.validate_password(PASSWORD) else None


def started(
    *command: str | Path, content: bytes = b"", **more: Any
) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **more.pop("env", {})}
    return subprocess.run(
        [str(word) for word in command],
        input=content,
        capture_output=True,
        timeout=90,
        check=False,
        env=environment,
        **more,
    )


def opensmtpd(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = beside("usr/bin/smtp", "opensmtpd")
    server = f"smtp://{HOST}:{way.served.port}"
    return started(path, "-s", server, "-F", SENDER, *recipients, content=content)


def nullmailer(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = beside("usr/lib/nullmailer/smtp", "nullmailer")
    options = [f"host={HOST}", f"port={way.served.port}"]
    if way.user:
        options += [f"user={way.user}", f"pass={way.password}"]
    if way.authority:
        options += ["starttls", f"x509cafile={way.authority}"]
    envelope = "\n".join((SENDER, *recipients, "", "")).encode()
    message = way.folder / "nullmailer"
    message.write_bytes(envelope + content)
    return started(
        *("sh", "-c", 'exec "$0" 3<"$1"', path, message),  # it reads that file descriptor
        content=("\n".join(options) + "\n\n").encode(),
        env={"HELOHOST": "client.example"},
    )


def ssmtp(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = beside("usr/sbin/ssmtp", "ssmtp")
    lines = [f"mailhub={HOST}:{way.served.port}", "hostname=client.example", "FromLineOverride=YES"]
    if way.authority:
        lines += ["UseTLS=YES", "UseSTARTTLS=YES", f"TLS_CA_File={way.authority}"]
    if way.user:
        lines += [f"AuthUser={way.user}", f"AuthPass={way.password}"]
    (way.folder / "ssmtp").write_text("\n".join(lines) + "\n")
    return started(path, "-C", way.folder / "ssmtp", "-f", SENDER, *recipients, content=content)


def esmtp(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("esmtp", "esmtp")
    settings = way.folder / "esmtprc"
    settings.write_text(f"hostname={HOST}:{way.served.port}\nstarttls=disabled\n")
    settings.chmod(0o600)
    return started(path, "-C", settings, "-f", SENDER, *recipients, content=content)


def s_nail(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("s-nail", "s-nail")
    login = f"{quote(way.user)}:{quote(way.password, '')}@" if way.user else ""
    settings = [
        f"mta=smtp://{login}localhost:{way.served.port}",
        f"smtp-auth={'plain' if way.user else 'none'}",
        *("v15-compat", f"from={SENDER}"),
        *("sendwait", "sendcharsets=utf-8", "mime-encoding=8bit", "ttycharset=utf-8"),
    ]
    if way.authority:
        settings += ["smtp-use-starttls", f"tls-ca-file={way.authority}", "tls-ca-no-defaults"]
    options = [word for setting in settings for word in ("-S", setting)]
    return started(path, "-:/", *options, "-s", "dots", *recipients, content=content)


def mutt(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("mutt", "mutt")
    login = f"{quote(way.user)}@" if way.user else ""
    settings = (
        f"set smtp_url=smtp://{login}{HOST}:{way.served.port}",
        f'set smtp_pass="{way.password}"',
        f"set ssl_starttls={'yes' if way.authority else 'no'}",
        f"set ssl_force_tls={'yes' if way.authority else 'no'}",
        *((f"set certificate_file={way.authority}",) if way.authority else ()),
        f"set from={SENDER} use_envelope_from=yes hostname=client.example",
        "set copy=no charset=utf-8 send_charset=utf-8 allow_8bit=yes smtp_authenticators=plain",
    )
    options = [word for setting in settings for word in ("-e", setting)]
    return started(
        *(path, "-n", "-F", "/dev/null", *options, "-s", "dots", *recipients),
        content=content,
        env={"HOME": str(way.folder), "LC_ALL": "C.UTF-8"},
    )


def phpmailer(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("php", "php-cli")
    if not Path("/usr/share/php/libphp-phpmailer").is_dir():
        missing("PHPMailer", "libphp-phpmailer")
    script = PROGRAMS / "phpmailer.php"
    login = (way.user, way.password, way.authority)
    return started(path, script, str(way.served.port), *login, *recipients, content=content)


def symfony_mailer(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("php", "php-cli")
    if not Path("/usr/share/php/Symfony/Component/Mailer").is_dir():
        missing("Symfony Mailer", "php-symfony-mailer")
    script = PROGRAMS / "symfony_mailer.php"
    login = (way.user, way.password, way.authority)
    return started(path, script, str(way.served.port), *login, *recipients, content=content)


def ruby(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("ruby", "ruby")
    script = PROGRAMS / "net_smtp.rb"
    login = (way.user, way.password, way.authority)
    return started(path, script, str(way.served.port), *login, *recipients, content=content)


def net_smtp(way: Way, content: bytes, recipients: Recipients) -> Done:
    path = program("perl", "perl")
    if way.user:  # Net::SMTP has TLS and AUTH from modules of their own
        for module, package in (
            ("IO::Socket::SSL", "libio-socket-ssl-perl"),
            ("Authen::SASL", "libauthen-sasl-perl"),
        ):
            if subprocess.run([path, f"-M{module}", "-e1"], capture_output=True).returncode:
                missing(f"Perl's {module}", package)
    script = PROGRAMS / "net_smtp.pl"
    login = (way.user, way.password, way.authority)
    return started(path, script, str(way.served.port), *login, *recipients, content=content)


def jakarta_mail(way: Way, content: bytes, recipients: Recipients, chunk_size: int = 0) -> Done:
    path = program("java", "default-jdk-headless")
    jars = [Path("/usr/share/java", f"jakarta-{name}.jar") for name in ("mail", "activation")]
    if not all(jar.exists() for jar in jars):
        missing("Jakarta Mail", "libjakarta-mail-java")
    command = (path, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", ":".join(map(str, jars)))
    login = (way.user, way.password, way.authority)
    return started(
        *(*command, PROGRAMS / "SendMail.java", str(way.served.port), str(chunk_size)),
        *(*login, *recipients),
        content=content,
    )


SENDMAIL_CONFIGURATION = """\
V10/Berkeley
O DeliveryMode=i
O QueueDirectory={folder}/queue
O EightBitMode=pass8
O QueueLA=1000
O RefuseLA=1000
O DaemonPortOptions=Port=0
O TempFileMode=0600
O DeliverByMin=0
O SuperSafe=True
Djclient.example
Cwclient.example
Troot
H?F?From: $f
H?D?Date: $a
H?M?Message-Id: <$t.$i@$j>
HReceived: by $j id $i; $b
S0
R$+\t$#esmtp $@ [{host}] $: $1
S3
R$*<$+>$*\t$2
S4
Mlocal, P=[IPC], {mailer}
Mprog, P=[IPC], {mailer}
Mesmtp, P=[IPC], {mailer}
"""


def sendmail_command(way: Way, *options: str) -> tuple[str, ...]:
    path = beside("usr/libexec/sendmail/sendmail", "sendmail-bin")
    if os.geteuid() != 0:
        missing("the right to run Sendmail", "nothing but run as root: sendmail-bin")
    port = way.served.port
    mailer = f"F=mDFMuXa8, E=\\r\\n, L=990, T=DNS/RFC822/SMTP, A=TCP [{HOST}] {port}"
    configuration = way.folder / "sendmail.cf"
    configuration.write_text(
        SENDMAIL_CONFIGURATION.format(folder=way.folder, host=HOST, mailer=mailer)
    )
    (way.folder / "queue").mkdir()
    # It waits a minute for a host whose name has no dot, so it gets a host name of its own.
    named = ("unshare", "--uts", "sh", "-c", 'hostname client.example; exec "$@"', "sh")
    return (*named, path, "-C", str(configuration), *options)


def sendmail(way: Way, content: bytes, recipients: Recipients) -> Done:
    return started(*sendmail_command(way, "-i", "-f", SENDER, *recipients), content=content)


SENDERS = (
    Sender("sendmail", sendmail, tells="bounce", logs_in=False),
    Sender("opensmtpd", opensmtpd, tells="output", logs_in=False),
    Sender("nullmailer", nullmailer, protocol="SMTP"),
    Sender("ssmtp", ssmtp, protocol="SMTP"),
    Sender("esmtp", esmtp, logs_in=False),
    Sender("s-nail", s_nail, protocol="SMTP", writes_header=True),
    Sender("mutt", mutt, writes_header=True),
    Sender("phpmailer", phpmailer, writes_header=True, adds=b"\r\n"),
    Sender("symfony-mailer", symfony_mailer, adds=b"\r\n"),
    Sender("net-smtp", net_smtp),
    Sender("ruby", ruby),
    Sender("jakarta-mail", jakarta_mail),
)
ALL = pytest.mark.parametrize("sender", SENDERS, ids=lambda sender: sender.name)


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="blinker-sender-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def lines(content: bytes) -> bytes:
    """*content* as files have it."""
    return content.replace(b"\r\n", b"\n")


def given(sender: Sender) -> bytes:
    return lines(BODY if sender.writes_header else MESSAGE)


@ALL
def test_the_content_arrives_whole(serve: Serve, folder: Path, sender: Sender) -> None:
    served = serve()
    done = sender.send(Way(served, folder), given(sender), RECIPIENTS)
    assert done.returncode == 0, done
    [mail] = served.wait_for(1)
    assert sorted(mail.rcpt_to) == list(RECIPIENTS)
    assert mail.mail_from == SENDER
    assert mail.body == BODY + sender.adds
    assert b"\r\nSubject: dots\r\n" in b"\r\n" + mail.content
    assert mail.transmission_type == sender.protocol


@pytest.mark.parametrize(
    "sender", [one for one in SENDERS if one.logs_in], ids=lambda sender: sender.name
)
def test_it_logs_in_under_tls(
    serve: Serve, folder: Path, sender: Sender, certificates: Certificates
) -> None:
    served = serve(on_auth=on_auth, auth_methods=["PLAIN", "LOGIN"], **certificates.options)
    way = Way(served, folder, USER, PASSWORD, str(certificates.ca))
    done = sender.send(way, given(sender), RECIPIENTS)
    assert done.returncode == 0, done
    [mail] = served.wait_for(1)
    assert mail.session.user == USER
    assert mail.session.secure
    assert mail.body == BODY + sender.adds


@ALL
def test_it_is_told_of_a_refusal(serve: Serve, folder: Path, sender: Sender) -> None:
    served: Served

    def on_data(stream: Any, session: Any) -> Any:
        if session.envelope.mail_from.address:
            raise Reject(554, "not wanted here", enhanced="5.7.1")
        return served.record(stream, session)  # a bounce

    served = serve(on_data=on_data)
    done = sender.send(Way(served, folder), given(sender), RECIPIENTS)
    if sender.tells == "bounce":
        [bounce] = served.wait_for(1)
        assert b"not wanted here" in bounce.content
        return
    assert served.messages == []
    if sender.tells == "status":
        assert done.returncode != 0, done
    else:
        assert b"not wanted here" in done.stderr


# BDAT


def test_esmtp_sends_bdat(serve: Serve, folder: Path) -> None:
    served = serve(disabled_commands=["DATA"])
    content = MESSAGE + b"0123456789abcdef\r\n" * 50_000
    done = esmtp(Way(served, folder), lines(content), RECIPIENTS)
    assert done.returncode == 0, done
    assert served.mail.body == content.partition(b"\r\n\r\n")[2]


def test_jakarta_mail_sends_bdat_in_chunks(
    serve: Serve, folder: Path, certificates: Certificates
) -> None:
    served = serve(disabled_commands=["DATA"], on_auth=on_auth, **certificates.options)
    content = MESSAGE + b"0123456789abcdef\r\n" * 1_000
    way = Way(served, folder, USER, PASSWORD, str(certificates.ca))
    done = jakarta_mail(way, content, RECIPIENTS, chunk_size=1000)
    assert done.returncode == 0, done
    # It doubles dots as for DATA, a fault of its own that its reader gets to see.
    sent = content.partition(b"\r\n\r\n")[2].replace(b"\n.", b"\n..")
    assert served.mail.body == b"." + sent


def test_jakarta_mail_is_told_of_a_chunk_that_is_refused(serve: Serve, folder: Path) -> None:
    served = serve(disabled_commands=["DATA"], size=10_000, hide_size=True)
    content = MESSAGE + b"0123456789abcdef\r\n" * 1_000
    done = jakarta_mail(Way(served, folder), content, RECIPIENTS, chunk_size=1000)
    assert done.returncode != 0
    assert b"552" in done.stderr
    assert served.messages == []


# Sendmail


def test_sendmail_relays_deliver_by_and_delivery_notification_wishes(
    serve: Serve, folder: Path
) -> None:
    served = serve(extensions=DEFAULT_EXTENSIONS | {"DELIVERBY", "DSN"})
    dialogue = (
        "EHLO client.example",
        f"MAIL FROM:<{SENDER}> BY=3600;R RET=HDRS ENVID=q1",
        "RCPT TO:<b@example.com> NOTIFY=FAILURE,DELAY",
        "DATA",
        "Subject: x\r\n\r\nhi\r\n.",
    )
    with subprocess.Popen(
        sendmail_command(Way(served, folder), "-bs"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        for command in (*dialogue, "QUIT"):
            while (line := running.stdout.readline())[3:4] == b"-":
                pass
            assert line[:1] in (b"2", b"3"), line
            running.stdin.write(f"{command}\r\n".encode())
            running.stdin.flush()
    [mail] = served.wait_for(1)
    asked = mail.envelope.deliver_by
    assert asked is not None
    assert asked.mode == "R"
    assert 3500 < asked.seconds <= 3600
    assert (mail.envelope.dsn.ret, mail.envelope.dsn.envid) == ("HDRS", "q1")
    assert set(mail.envelope.rcpt_to[0].dsn.notify) == {"FAILURE", "DELAY"}
