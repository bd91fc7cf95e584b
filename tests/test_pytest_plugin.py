"""The server for other people's tests, by itself and as fixtures of pytest."""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import gevent
import pytest
from support import SECONDS, BlockingClient, Certificate, free_port, python, wait_until

from smtp_blinker.testing import STAGES, SMTPDFix, SMTPDFixConfig, SMTPTestServer

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def running() -> Iterator[SMTPTestServer]:
    with SMTPTestServer() as server:
        yield server


@pytest.fixture
def server(running: SMTPTestServer) -> SMTPTestServer:
    running.reset()
    return running


def connect(server: SMTPTestServer) -> smtplib.SMTP:
    return smtplib.SMTP(server.host, server.port, "client.example", SECONDS)


def send(
    server: SMTPTestServer, *recipients: str, subject: str = "hello"
) -> dict[str, tuple[int, bytes]]:
    content = f"Subject: {subject}\r\n\r\nText\r\n"
    with connect(server) as client:
        return client.sendmail("a@example.org", recipients or ("b@example.com",), content)


def subjects(server: SMTPTestServer) -> list[str]:
    return [message["Subject"] for message in server.messages]


# What came


def test_a_message_comes_parsed_and_with_its_envelope(server: SMTPTestServer) -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message["To"] = "everybody"
    message.set_content("Hallo\n.\nÖl\n")
    message.add_attachment(b"\0\1", "application", "octet-stream", filename="two octets")
    with connect(server) as client:
        client.login("ann", "secret")
        client.send_message(message, "a@example.org", ["b@example.com", "C@example.com"])
    [received] = server.messages
    assert received["Subject"] == "Grüße"
    text = received.get_body()
    assert text is not None
    assert text.get_content() == "Hallo\n.\nÖl\n"
    [attachment] = received.iter_attachments()
    assert attachment.get_content() == b"\0\1"
    assert received.envelope.mail_from == "a@example.org"
    assert received.envelope.rcpt_to == ["b@example.com", "C@example.com"]
    assert received.envelope.args["SIZE"] == str(len(received.content))
    assert received.session.user == "ann"
    assert received.session.host_name_appears_as == "client.example"
    assert received.content.startswith(b"Subject: =?utf-8?")


def test_messages_come_in_the_order_they_were_acknowledged(server: SMTPTestServer) -> None:
    for subject in ("one", "two", "three"):
        send(server, subject=subject)
    assert subjects(server) == ["one", "two", "three"]


#: Header fields for which one version or another of Python's email package raises.
HOSTILE_FIELDS = [
    b"Content-Type: text/plain; name*",
    b"Content-Type: text/plain; name*0*",
    b"Content-Type: message/rfc822; x*",
    b"Content-Type: message/delivery-status; x*0*",
    b"Content-Type: multipart/mixed; boundary*",
    b"Content-Type: multipart/mixed; boundary*=x\0''b",
    b"Content-Type: text/plain; charset*=x\0''b",
    b"Content-Type: text/plain; x*0*=idna''.%zz",
    b"Content-Disposition: attachment; filename*",
    b"Content-Disposition: inline; filename*0*",
    b"To: <",
    b"To: b@",
    b"To: =?utf-8?q??=>",
    b"Cc: :name*==;1.0",
    b'From: \xc3\xa9...<"',
    b"Message-ID: <",
    b"Subject: =?utf-8?q?=?= =?",
    b"\xff\xfe: x",
    b"Content-Type: message/rfc822\r\n\r\n" * 1500 + b"Content-Type: text/plain",
]


@pytest.mark.parametrize("field", HOSTILE_FIELDS, ids=lambda field: repr(field[:50]))
@pytest.mark.parametrize("kind", [SMTPTestServer, SMTPDFix])
def test_what_python_can_not_parse_is_received(kind: type[SMTPTestServer], field: bytes) -> None:
    content = b"Subject: hello\r\n" + field + b"\r\n\r\nText\r\n"
    with kind() as server:
        with connect(server) as client:
            client.ehlo()
            client.mail("a@example.org", ["BODY=8BITMIME"])
            client.rcpt("b@example.com")
            assert client.data(content)[0] == 250
        [message] = server.messages
        assert message.content == content
        assert message["Subject"] == "hello"
        assert message.envelope.rcpt_to == ["b@example.com"]
        assert server.errors == []
        assert "hello" in repr(message)
        # What tests do with it, of which nothing may raise.
        assert len(message.keys()) == len(message.items())
        assert isinstance(str(message["To"]), str)
        parts = list(message.walk())
        assert all(part.get_content_type() for part in parts)
        assert all(part.is_attachment() in (True, False) for part in parts)
        message.get_body()


def test_parts_are_divided_in_spite_of_a_broken_parameter(server: SMTPTestServer) -> None:
    with connect(server) as client:
        client.sendmail(
            "a@example.org",
            ["b@example.com"],
            "Content-Type: multipart/mixed; boundary=cut; x*\r\n\r\n"
            "--cut\r\nContent-Type: text/plain; name*\r\n\r\nHello\r\n"
            "--cut\r\nContent-Disposition: attachment; filename*\r\n\r\nAttached\r\n"
            "--cut--\r\n",
        )
    [message] = server.messages
    text = message.get_body()
    assert text is not None
    assert text.get_content() == "Hello"
    assert text["Content-Type"] == "text/plain; name*"
    assert [part.get_content() for part in message.iter_attachments()] == ["Attached"]


def test_what_can_not_be_divided_has_its_fields_and_one_text(server: SMTPTestServer) -> None:
    send(server, subject="hello\r\nContent-Type: multipart/mixed; boundary*=x\0''b")
    [message] = server.messages
    assert message["Subject"] == "hello"
    assert message.get_payload() == "Text\n"
    assert [type(defect) for defect in message.defects] == [ValueError]


def test_wait_for_returns_when_there_are_enough(server: SMTPTestServer) -> None:
    code = (
        "import smtplib, sys\n"
        "for _ in range(2):\n"
        "    with smtplib.SMTP('127.0.0.1', int(sys.argv[1])) as smtp:\n"
        "        smtp.sendmail('a@example.org', ['b@example.com'], 'Subject: x')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(server.port)]):
        assert len(server.wait_for(2, timeout=SECONDS)) == 2


def test_wait_for_says_how_many_came(server: SMTPTestServer) -> None:
    send(server)
    with pytest.raises(TimeoutError, match=r"1 of 2 messages came within 0\.01 seconds"):
        server.wait_for(2, timeout=0.01)


def test_wait_for_says_what_there_was_instead(server: SMTPTestServer) -> None:
    def said() -> str:
        with pytest.raises(TimeoutError) as caught:
            server.wait_for(2, timeout=0.01)
        return str(caught.value)

    assert f"no client connected to {server.host}:{server.port}" in said()
    send(server, subject="one")
    assert "; <message 'one' from <a@example.org> to <b@example.com>>; clients: 1" in said()
    server.refuse(code=552, text="Too large", at="CONTENT")
    with connect(server) as client:
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("a@example.org", ["b@example.com"], "Subject: two")
        assert "; clients: 2, connected now: 1; refused: 552 " in said()
        assert "Too large" in said()
    with BlockingClient((server.host, server.port), greet=False) as raw:
        raw.cmd("EHLO x")
        raw.cmd("MAIL FROM:<a@example.org>")
        raw.cmd("RCPT TO:<b@example.com>")
        raw.cmd("DATA")
        raw.send(b"Subject: cut off")
    wait_until(lambda: server.errors)
    assert "; error: " in said()
    server.reset()
    assert "no client connected" in said()


def test_messages_and_servers_are_told_apart_when_a_test_fails(server: SMTPTestServer) -> None:
    send(server, *(f"b{number}@example.com" for number in range(7)))
    text = repr(server.messages[0])
    assert text.startswith("<message 'hello' from <a@example.org> to <b0@example.com> ")
    assert text.endswith("<b4@example.com> and 2 more>")
    assert repr(server) == f"<SMTPTestServer {server.host}:{server.port}, messages: 1>"


def test_wait_for_lets_greenlets_of_the_test_send(server: SMTPTestServer) -> None:
    def sender() -> None:
        with gevent.socket.create_connection((server.host, server.port)) as sock:
            for line in ("HELO x", "MAIL FROM:<>", "RCPT TO:<b@example.com>", "DATA", ".", "QUIT"):
                assert sock.recv(1000)
                sock.sendall(f"{line}\r\n".encode())
            assert sock.recv(1000)

    greenlet = gevent.spawn(sender)
    [message] = server.wait_for(1, timeout=SECONDS)
    assert message.envelope.mail_from == ""
    greenlet.get()


def test_errors_tell_of_a_client_that_left_amid_its_message(server: SMTPTestServer) -> None:
    with BlockingClient((server.host, server.port), greet=False) as client:
        client.send(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubj")
        client.replies(5)
    wait_until(lambda: server.errors)
    assert server.messages == []
    assert [error.remote_address for error in server.errors] == ["127.0.0.1"]


# Faults


def test_refuse_is_for_its_recipient_only(server: SMTPTestServer) -> None:
    server.refuse("bob@example.com", 551, "Gone")
    refused = send(server, "ann@example.com", "Bob@Example.com")
    assert refused == {"Bob@Example.com": (551, b"5.1.6 Gone")}
    [message] = server.messages
    assert message.envelope.rcpt_to == ["ann@example.com"]


def test_refuse_without_a_recipient_is_for_everybody(server: SMTPTestServer) -> None:
    server.refuse()
    with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        send(server, "ann@example.com", "bob@example.com")
    assert {code for code, _ in refused.value.recipients.values()} == {550}


def test_refuse_may_happen_a_number_of_times(server: SMTPTestServer) -> None:
    server.refuse(code=451, times=2)
    for _ in range(2):
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(server)
    assert send(server) == {}


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("CONNECT", smtplib.SMTPConnectError),
        ("AUTH", smtplib.SMTPAuthenticationError),
        ("MAIL", smtplib.SMTPSenderRefused),
        ("CONTENT", smtplib.SMTPDataError),
    ],
)
def test_refuse_works_where_the_server_answers(
    server: SMTPTestServer, at: str, error: type[smtplib.SMTPResponseException]
) -> None:
    server.refuse(code=454, at=at)

    def login_and_send() -> None:
        with connect(server) as client:
            client.login("ann", "secret")
            client.sendmail("a@example.org", ["b@example.com"], "Subject: x")

    with pytest.raises(error) as refused:
        login_and_send()
    assert refused.value.smtp_code == 454
    assert server.messages == []


def test_faults_say_what_they_do_not_take(server: SMTPTestServer) -> None:
    with pytest.raises(ValueError, match="'DATE' is not one of CONNECT, EHLO"):
        server.drop(after="DATE")
    with pytest.raises(ValueError, match="can't refuse EHLO"):
        server.refuse(at="EHLO")
    with pytest.raises(ValueError, match="from 400 to 599"):
        server.refuse(code=250)
    assert send(server) == {}


@pytest.mark.parametrize("at", ["EHLO", "MAIL", "RCPT", "CONTENT", None])
def test_delay_lets_the_client_wait(server: SMTPTestServer, at: str | None) -> None:
    with BlockingClient((server.host, server.port), greet=False) as client:
        client.reply()
        server.delay(1000, at)
        commands = {"EHLO": "EHLO x", "MAIL": "MAIL FROM:<>", "RCPT": "RCPT TO:<b@example.com>"}
        for stage, command in {**commands, "DATA": "DATA", "CONTENT": "."}.items():
            if stage == (at or "EHLO"):
                client.send(f"{command}\r\n".encode())
                break
            client.cmd(command)
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.reply()
        client.sock.settimeout(SECONDS)
        server.reset()  # doesn't wait for it
        client.rest()
    assert server.messages == []


def test_a_short_delay_delays_only(server: SMTPTestServer) -> None:
    server.delay(0.01)
    assert send(server) == {}


@pytest.mark.parametrize("stage", STAGES)
def test_drop_closes_without_a_word(server: SMTPTestServer, stage: str) -> None:
    server.drop(stage, times=1)
    server.use_starttls(required=False)

    def dialogue(client: BlockingClient) -> str:
        reached = "CONNECT"
        try:
            client.reply()
            reached = "EHLO"
            client.cmd("EHLO x")
            reached = "STARTTLS"
            client.cmd("STARTTLS")
            client.start_tls(server.client_context())
            client.cmd("EHLO x")
            reached = "AUTH"
            client.cmd("AUTH PLAIN AGFubgBzZWNyZXQ=")
            reached = "MAIL"
            client.cmd("MAIL FROM:<a@example.org>")
            reached = "RCPT"
            client.cmd("RCPT TO:<b@example.com>")
            client.cmd("DATA")
            reached = "DATA" if stage == "DATA" else "CONTENT"
            client.cmd("Subject: x\r\n\r\n.")
            reached = "end"
        except (AssertionError, EOFError, OSError):
            pass
        return reached

    with BlockingClient((server.host, server.port), greet=False) as client:
        assert dialogue(client) == stage
        assert client.rest() == b""
    assert server.messages == []
    with BlockingClient((server.host, server.port), greet=False) as client:
        # The fault has struck its one time.
        assert dialogue(client) == "end"
    assert server.errors == []


def test_smtplib_sees_a_lost_connection(server: SMTPTestServer) -> None:
    server.drop(after="CONTENT")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        send(server)
    assert server.messages == []


def test_require_auth_takes_one_user(server: SMTPTestServer) -> None:
    server.require_auth("ann", "secret")
    with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
        send(server)
    with connect(server) as client:
        for user, password in (("ann", "wrong"), ("bob", "secret")) * 3:
            with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                client.login(user, password)
        client.login("ann", "secret")
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
    assert [message.session.user for message in server.messages] == ["ann"]


def test_use_starttls_is_demanded(server: SMTPTestServer) -> None:
    server.use_starttls()
    server.require_auth("ann", "secret")
    with connect(server) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("MAIL FROM:<a@example.org>")[0] == 530
        client.starttls(context=server.client_context())
        client.login("ann", "secret")
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
    [message] = server.messages
    assert message.session.secure


def test_use_starttls_may_be_an_offer(server: SMTPTestServer) -> None:
    server.use_starttls(required=False)
    assert send(server) == {}


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_use_tls_speaks_tls_at_once(server: SMTPTestServer, name: str) -> None:
    server.use_tls()
    context = server.client_context()
    with smtplib.SMTP_SSL(name, server.port, timeout=SECONDS, context=context) as client:
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
    assert server.messages[0].session.secure


def test_a_client_without_ca_file_does_not_trust_the_server(server: SMTPTestServer) -> None:
    server.use_tls()
    with pytest.raises(ssl.SSLCertVerificationError):
        smtplib.SMTP_SSL(server.host, server.port, context=ssl.create_default_context())
    assert "BEGIN CERTIFICATE" in Path(server.ca_file).read_text()


def test_a_certificate_of_the_tester_is_used(certificate: Certificate) -> None:
    with SMTPTestServer(**certificate.options) as server:
        server.use_tls()
        context = certificate.client_context()
        with smtplib.SMTP_SSL("localhost", server.port, context=context) as client:
            assert client.noop()[0] == 250


# Life


def test_reset_undoes_everything_but_the_port(server: SMTPTestServer) -> None:
    port = server.port
    send(server)
    server.refuse()
    server.delay(1000)
    server.drop()
    server.require_auth("ann", "secret")
    server.use_tls()
    with BlockingClient((server.host, server.port), greet=False) as client:
        server.reset()
        assert client.rest()[:3] in (b"", b"421")
    assert (server.messages, server.errors, server.port) == ([], [], port)
    assert send(server, subject="after") == {}
    assert subjects(server) == ["after"]


def test_reset_ends_a_message_that_is_on_its_way(server: SMTPTestServer) -> None:
    with BlockingClient((server.host, server.port), greet=False) as client:
        client.send(b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubj")
        assert client.replies(5)[-1].code == 354
        server.reset()
        assert [reply.code for reply in client.rest_of_replies()] == [421]
    assert server.messages == []


def test_stop_closes_the_port_and_start_opens_it_again() -> None:
    server = SMTPTestServer()
    server.start()
    send(server)
    server.stop()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        send(server)
    assert len(server.messages) == 1
    server.start()
    send(server)
    assert len(server.messages) == 2
    server.stop()


@pytest.mark.parametrize(
    "fault",
    [
        lambda server: server.refuse("ann@example.com", at="CONTENT"),
        lambda server: server.refuse("shop@example.com", at="MAIL"),
        lambda server: server.refuse(times=0),
        lambda server: server.drop(times=0),
        lambda server: server.delay(-1),
        lambda server: server.delay(1, times=-1),
        lambda server: server.refuse(at="RCTP"),
    ],
)
def test_a_fault_that_would_never_happen_is_told(fault: Any) -> None:
    with pytest.raises(ValueError, match=r"RCPT|times|seconds"):
        fault(SMTPTestServer())


def test_a_taken_port_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = SMTPTestServer(port=taken.getsockname()[1])
        with pytest.raises(OSError, match="in use"):
            server.start()
    server.start()
    server.stop()


def test_options_of_the_server_are_taken() -> None:
    with SMTPTestServer(size=10, name="mx.test") as server:
        with connect(server) as client:
            client.ehlo()
            assert client.esmtp_features["size"] == "10"
        server.reset()
        with pytest.raises(smtplib.SMTPSenderRefused, match="552"):
            send(server)


def test_an_unknown_option_is_told() -> None:
    with pytest.raises(TypeError, match="no option 'sise'"):
        SMTPTestServer(sise=10).start()


# The names of smtpdfix


@pytest.fixture
def smtpd() -> Iterator[SMTPDFix]:
    with SMTPDFix() as server:
        yield server


def test_smtpd_has_messages_as_smtpdfix_makes_them(smtpd: SMTPDFix) -> None:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    with smtplib.SMTP(smtpd.hostname, smtpd.port, timeout=SECONDS) as client:
        client.send_message(message, "a@example.org", ["b@example.com", "c@example.com"])
        assert client.sock is not None
        peer = client.sock.getsockname()
    [received] = smtpd.messages
    assert received["Subject"] == "=?utf-8?q?Gr=C3=BC=C3=9Fe?="
    assert received["X-Peer"] == str(peer)
    assert received["X-MailFrom"] == "a@example.org"
    assert received["X-RcptTo"] == "b@example.com, c@example.com"
    assert received.envelope.rcpt_to == ["b@example.com", "c@example.com"]


def test_smtpd_has_messages_that_can_be_printed(smtpd: SMTPDFix) -> None:
    send(smtpd)
    assert str(smtpd.messages[0]).startswith("Subject: hello\n")
    assert smtpd.messages[0].get_body() is not None


def test_smtpd_takes_bare_newlines_as_smtpdfix_does(smtpd: SMTPDFix) -> None:
    message = EmailMessage()
    message["Subject"] = "hello"
    message.set_content("one\ntwo\n")
    with smtplib.SMTP(smtpd.hostname, smtpd.port) as client:
        client.sendmail("a@example.org", "b@example.com", message.as_bytes())
    assert smtpd.messages[0]["Subject"] == "hello"
    assert smtpd.messages[0].get_payload().splitlines()[:2] == ["one", "two"]  # type: ignore[union-attr]


def test_smtpd_config_switches_starttls(smtpd: SMTPDFix) -> None:
    port = smtpd.port
    smtpd.config.use_starttls = True
    with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
        send(smtpd)
    with connect(smtpd) as client:
        client.starttls(context=smtpd.client_context())
        client.login("user", "password")
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
    smtpd.config.use_starttls = False
    send(smtpd)
    assert len(smtpd.messages) == 2
    assert smtpd.port == smtpd.config.port == port


def test_smtpd_config_switches_tls(smtpd: SMTPDFix, certificate: Certificate) -> None:
    smtpd.config.ssl_cert_files = (str(certificate.certfile), str(certificate.keyfile))
    smtpd.config.use_ssl = True
    context = certificate.client_context()
    with smtplib.SMTP_SSL("localhost", smtpd.port, context=context) as client:
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
    assert len(smtpd.messages) == 1


def test_smtpd_config_names_the_files_that_a_client_can_trust(smtpd: SMTPDFix) -> None:
    assert smtpd.config.ssl_cert_files is None
    smtpd.config.use_starttls = True
    assert smtpd.config.ssl_cert_files is not None
    context = ssl.create_default_context(cafile=smtpd.config.ssl_cert_files[0])
    with connect(smtpd) as client:
        assert client.starttls(context=context)[0] == 220


def test_smtpd_config_tells_a_missing_file(smtpd: SMTPDFix, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        smtpd.config.ssl_cert_files = (str(tmp_path / "missing.pem"), None)


def test_smtpd_config_takes_text(smtpd: SMTPDFix) -> None:
    smtpd.config.port = str(smtpd.port)  # type: ignore[assignment]
    assert smtpd.config.port == smtpd.port
    for text, truth in {"yes": True, "0": False, "On": True, "False": False}.items():
        smtpd.config.enforce_auth = text  # type: ignore[assignment]
        assert smtpd.config.enforce_auth is truth
    with pytest.raises(ValueError, match="'perhaps' is neither true nor false"):
        smtpd.config.use_ssl = "perhaps"  # type: ignore[assignment]


def test_smtpd_offers_auth_without_tls_only_if_told_to(smtpd: SMTPDFix) -> None:
    with connect(smtpd) as client, pytest.raises(smtplib.SMTPNotSupportedError):
        client.login("user", "password")
    with connect(smtpd) as client:
        client.ehlo()
        assert client.docmd("AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=")[0] == 538
    smtpd.config.auth_require_tls = False
    with connect(smtpd) as client:
        assert client.login("user", "password")[0] == 235


def test_smtpd_reset_keeps_the_messages_as_smtpdfix_does(smtpd: SMTPDFix) -> None:
    send(smtpd)
    smtpd.reset()
    assert len(smtpd.messages) == 1
    smtpd.reset(persist_messages=False)
    assert smtpd.messages == []


def test_smtpd_takes_a_configuration() -> None:
    config = SMTPDFixConfig(enforce_auth=True)
    with SMTPDFix(config=config) as smtpd:
        assert smtpd.config is config
        with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
            send(smtpd)


def test_smtpd_config_demands_auth(smtpd: SMTPDFix) -> None:
    smtpd.config.auth_require_tls = False
    smtpd.config.login_username = "ann"
    smtpd.config.login_password = "secret"
    smtpd.config.enforce_auth = True
    with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
        send(smtpd)
    with connect(smtpd) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("user", "password")
        client.login("ann", "secret")
        client.sendmail("a@example.org", ["b@example.com"], "Subject: x")


def test_smtpd_config_moves_the_server(smtpd: SMTPDFix) -> None:
    port = free_port()
    smtpd.config.port = port
    assert smtpd.port == port
    smtpd.config.enforce_auth = False
    send(smtpd)


def test_smtpd_config_tells_a_misspelt_name(smtpd: SMTPDFix) -> None:
    with pytest.raises(AttributeError, match="has no use_tsl"):
        smtpd.config.use_tsl = True


def test_smtpd_config_begins_with_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTPD_ENFORCE_AUTH", "True")
    monkeypatch.setenv("SMTPD_AUTH_REQUIRE_TLS", "no")
    monkeypatch.setenv("SMTPD_LOGIN_NAME", "ann")
    monkeypatch.setenv("SMTPD_LOGIN_PASSWORD", "secret")
    with SMTPDFix() as smtpd, connect(smtpd) as client:
        assert client.docmd("EHLO x")[0] == 250
        assert client.docmd("MAIL FROM:<a@example.org>")[0] == 530
        assert client.login("ann", "secret")[0] == 235


def test_smtpd_has_the_faults_too(smtpd: SMTPDFix) -> None:
    smtpd.refuse("b@example.com")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(smtpd)
    smtpd.reset()
    send(smtpd)


# The fixtures

PLUGIN = ("-p", "smtp_blinker.pytest_plugin")
PROGRAM = """
import smtplib

def send(address, subject="hello", to="b@example.com"):
    host, port = address
    with smtplib.SMTP(host, port) as smtp:
        smtp.sendmail("a@example.org", [to], f"Subject: {subject}\\r\\n\\r\\nText")
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for a session of its own, with a program to test."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(pytester.path)]))
    pytester.makepyfile(program=PROGRAM)
    return pytester


def passes(session: pytest.Pytester, passed: int, *arguments: str) -> None:
    result = session.runpytest_subprocess(*PLUGIN, "-W", "error", *arguments)
    result.assert_outcomes(passed=passed)


def test_the_first_test_of_the_page_passes_as_it_stands(session: pytest.Pytester) -> None:
    page = (ROOT / "docs" / "pytest.md").read_text()
    session.makepyfile(test_welcome=page.split("```python\n")[1].split("```")[0])
    passes(session, 1)


def test_each_test_finds_the_server_as_new(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import pytest
        from program import send

        ports = set()

        @pytest.mark.parametrize("number", range(3))
        def test_one(smtp_server, smtp_server_address, number):
            assert smtp_server.messages == []
            send(smtp_server_address, subject=str(number))
            assert [message["Subject"] for message in smtp_server.messages] == [str(number)]
            smtp_server.refuse()
            smtp_server.require_auth("a", "b")
            smtp_server.use_tls()
            ports.add(smtp_server.port)
            assert len(ports) == 1
        """
    )
    passes(session, 3)


def test_a_unittest_style_test_has_it_as_an_attribute(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import unittest
        import pytest
        from program import send

        @pytest.mark.usefixtures("smtp_server")
        class MailTest(unittest.TestCase):
            def setUp(self):
                self.address = self.smtp_server.host, self.smtp_server.port

            def test_one(self):
                send(self.address)
                self.assertEqual(len(self.smtp_server.messages), 1)

            test_two = test_one
        """
    )
    passes(session, 2)


def test_unittest_without_pytest_uses_the_server_itself(session: pytest.Pytester) -> None:
    session.makepyfile(
        test_mail="""
        import sys
        import unittest
        from program import send
        from smtp_blinker.testing import SMTPTestServer

        class MailTest(unittest.TestCase):
            @classmethod
            def setUpClass(cls):
                cls.smtp_server = SMTPTestServer()
                cls.smtp_server.start()
                cls.addClassCleanup(cls.smtp_server.stop)

            def setUp(self):
                self.smtp_server.reset()

            def test_one(self):
                send((self.smtp_server.host, self.smtp_server.port))
                self.assertEqual(len(self.smtp_server.messages), 1)
                self.assertNotIn("pytest", sys.modules)

            test_two = test_one
        """
    )
    result = session.run(sys.executable, "-m", "unittest", "-v", "test_mail")
    result.stderr.fnmatch_lines(["OK"])


def test_each_process_of_xdist_has_a_server(session: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    session.makepyfile(
        """
        import pytest
        from program import send

        @pytest.mark.parametrize("number", range(8))
        def test_one(smtp_server, number):
            send((smtp_server.host, smtp_server.port), subject=str(number))
            assert [message["Subject"] for message in smtp_server.messages] == [str(number)]
        """
    )
    passes(session, 8, "-p", "xdist.plugin", "-n", "2")


PATCHED = """
    import threading
    import gevent
    from gevent import monkey
    from program import send

    def test_a_program_that_uses_gevent(smtp_server):
        assert monkey.is_module_patched("socket")
        threads = [
            threading.Thread(target=send, args=(("127.0.0.1", smtp_server.port),)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        smtp_server.wait_for(3)
        for thread in threads:
            thread.join()

    def test_another(smtp_server):
        assert smtp_server.messages == []
        smtp_server.use_starttls()
        import smtplib
        with smtplib.SMTP("localhost", smtp_server.port) as client:
            client.starttls(context=smtp_server.client_context())
            smtp_server.drop(after="MAIL")
            try:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
            except smtplib.SMTPServerDisconnected:
                pass
            else:
                assert False
    """


def test_a_program_that_is_monkey_patched_by_its_conftest(session: pytest.Pytester) -> None:
    session.makeconftest("from gevent import monkey\nmonkey.patch_all()\n")
    session.makepyfile(PATCHED)
    passes(session, 2)


def test_a_program_that_is_monkey_patched_from_the_start(session: pytest.Pytester) -> None:
    session.makepyfile(PATCHED)
    result = session.run(sys.executable, "-m", "gevent.monkey", "--module", "pytest", *PLUGIN)
    result.assert_outcomes(passed=2)


def test_a_program_that_patches_sockets_only(session: pytest.Pytester) -> None:
    session.makeconftest("from gevent import monkey\nmonkey.patch_socket()\n")
    session.makepyfile(PATCHED)
    passes(session, 2)


def test_a_program_on_asyncio(session: pytest.Pytester) -> None:
    pytest.importorskip("aiosmtplib")
    session.makepyfile(
        """
        import asyncio
        import aiosmtplib

        def test_one(smtp_server):
            async def send():
                await aiosmtplib.send(
                    "Subject: hello", sender="a@example.org", recipients=["b@example.com"],
                    hostname=smtp_server.host, port=smtp_server.port)
            asyncio.run(send())
            assert smtp_server.messages[0]["Subject"] == "hello"
        """
    )
    passes(session, 1)


def test_options_of_the_server_are_a_fixture_to_override(session: pytest.Pytester) -> None:
    port = free_port()
    session.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def smtp_server_options():
            return {{"port": {port}, "lmtp": True}}
        """
    )
    session.makepyfile(
        f"""
        import smtplib

        def test_one(smtp_server):
            with smtplib.LMTP("127.0.0.1", {port}) as client:
                client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
            assert len(smtp_server.messages) == 1
        """
    )
    passes(session, 1)


SMTPD = """
    import smtplib

    def test_one(smtpd):
        with smtplib.SMTP(smtpd.hostname, smtpd.port) as client:
            client.sendmail("a@example.org", ["b@example.com"], "Subject: x")
        assert len(smtpd.messages) == 1
        smtpd.config.use_starttls = True

    test_two = test_one
    """


def test_tests_for_smtpdfix_run_unchanged(session: pytest.Pytester) -> None:
    session.makepyfile(SMTPD)
    passes(session, 2)


def test_smtpdfix_keeps_its_fixture_where_it_is_there(session: pytest.Pytester) -> None:
    # This is how its plugin is named.
    session.makepyfile(
        smtpd="import pytest\n@pytest.fixture\ndef smtpd(): return 'its own'\n",
        test_it="def test_one(smtpd): assert smtpd == 'its own'\n",
    )
    passes(session, 1, "-p", "smtpd")


def test_a_session_without_mail_starts_no_server(session: pytest.Pytester) -> None:
    session.makepyfile(
        """
        import sys
        import threading

        def test_one():
            assert "smtp_blinker.testing" not in sys.modules
            assert threading.active_count() == 1
        """
    )
    passes(session, 1)


def test_a_certificate_leaves_no_warning_in_development_mode(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import smtplib, ssl\n"
        "def test_it(smtp_server):\n"
        "    smtp_server.use_starttls()\n"
        "    context = ssl.create_default_context()\n"
        "    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE\n"
        "    with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:\n"
        "        client.starttls(context=context)\n"
        "        client.sendmail('a@example.org', ['b@example.com'], 'Subject: x')\n"
        "    smtp_server.wait_for(1)\n"
    )
    options = ["-X", "dev", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = python(*options, tmp_path, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
