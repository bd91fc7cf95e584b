"""smtplib of the standard library and aiosmtplib."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from email.policy import SMTPUTF8 as SMTPUTF8_POLICY
from pathlib import Path
from typing import Any

import pytest
from support import HOST, SECONDS, Served, missing, wait_until

from smtp_blinker import DEFAULT_EXTENSIONS, Reject

from .names import ASCII_CONTENT, CONTENT, PASSWORD, TOKEN, USER, Certificates, on_auth

Serve = Callable[..., Served]

METHODS = ("PLAIN", "LOGIN", "CRAM-MD5")


def utf8_message() -> EmailMessage:
    message = EmailMessage(policy=SMTPUTF8_POLICY)
    message["From"] = "jürgen@exämple.org"
    message["To"] = "用户@例え.example"
    message["Subject"] = "Grüße"
    message.set_content("Привет\n")
    return message


def assert_utf8(served: Served) -> None:
    mail = served.mail
    assert mail.envelope.smtputf8
    assert mail.mail_from == "jürgen@exämple.org"
    assert mail.rcpt_to == ["用户@例え.example"]
    assert "Subject: Grüße\r\n".encode() in mail.content
    assert mail.transmission_type == "UTF8SMTP"


# smtplib


@pytest.fixture
def client() -> Iterator[Callable[..., smtplib.SMTP]]:
    """Makes clients and closes them."""
    clients: list[smtplib.SMTP] = []

    def connect(kind: Callable[..., smtplib.SMTP], *args: Any, **more: Any) -> smtplib.SMTP:
        one = kind(*args, local_hostname="client.example", timeout=SECONDS, **more)
        clients.append(one)
        return one

    yield connect
    for one in clients:
        one.close()


def test_smtplib_sends_and_is_told_what_is_queued(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve(size=100_000)
    smtp = client(smtplib.SMTP, HOST, served.port)
    assert smtp.noop()[0] == 250
    recipients = ["one@example.com", "two@example.com"]
    assert smtp.sendmail("a@example.org", recipients, CONTENT, ["BODY=8BITMIME"]) == {}
    assert smtp.esmtp_features["size"] == "100000"
    smtp.quit()
    mail = served.mail
    assert mail.content == CONTENT
    assert mail.rcpt_to == recipients
    assert mail.envelope.body_type == "8bitmime"
    assert mail.envelope.size == len(CONTENT)
    assert mail.transmission_type == "ESMTP"
    assert [event.host_name_appears_as for event in served.of("connect")] == ["client.example"]
    (gone,) = wait_until(lambda: served.of("disconnect"), "the connection ended")
    assert gone.reason == "quit"


def test_smtplib_says_helo_to_a_server_without_extensions(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve(disabled_commands=["EHLO"])
    smtp = client(smtplib.SMTP, HOST, served.port)
    smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
    smtp.quit()
    assert served.mail.transmission_type == "SMTP"


def test_smtplib_sends_many_messages_on_one_connection(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve()
    smtp = client(smtplib.SMTP, HOST, served.port)
    for number in range(50):
        smtp.sendmail(
            "a@example.org", ["b@example.com"], b"N: %d\r\n\r\ny" % number + b"y" * number
        )
    smtp.quit()
    assert [mail.content for mail in served.messages] == [
        b"N: %d\r\n\r\ny" % number + b"y" * number + b"\r\n" for number in range(50)
    ]
    assert len(served.of("connect")) == 1


def test_smtplib_learns_which_recipients_were_refused(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    def on_rcpt_to(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "no such user", enhanced="5.1.1")

    served = serve(on_rcpt_to=on_rcpt_to, size=1000)
    smtp = client(smtplib.SMTP, HOST, served.port)
    refused = smtp.sendmail("a@example.org", ["no@example.com", "b@example.com"], b"Hi: you\r\n")
    assert refused == {"no@example.com": (550, b"5.1.1 no such user")}
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        smtp.sendmail("a@example.org", ["no@example.com"], b"Hi: you\r\n")
    with pytest.raises(smtplib.SMTPSenderRefused) as raised:
        smtp.sendmail("a@example.org", ["b@example.com"], b"x" * 1001)
    assert raised.value.smtp_code == 552
    smtp.quit()
    assert served.mail.rcpt_to == ["b@example.com"]


def test_smtplib_sends_internationalised_mail(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve()
    smtp = client(smtplib.SMTP, HOST, served.port)
    smtp.send_message(utf8_message())
    smtp.quit()
    assert_utf8(served)


def test_smtplib_asks_for_delivery_notifications(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve(extensions=DEFAULT_EXTENSIONS | {"DSN"})
    smtp = client(smtplib.SMTP, HOST, served.port)
    smtp.sendmail(
        "a@example.org",
        ["b@example.com"],
        ASCII_CONTENT,
        ["RET=HDRS", "ENVID=QQ+2B1"],
        ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;b+40example.com"],
    )
    smtp.quit()
    envelope = served.mail.envelope
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "QQ+1")
    recipient = envelope.rcpt_to[0].dsn
    assert recipient.notify == ("SUCCESS", "FAILURE")
    assert recipient.orcpt == "rfc822;b@example.com"


def test_smtplib_upgrades_with_starttls(
    serve: Serve, client: Callable[..., smtplib.SMTP], certificates: Certificates
) -> None:
    served = serve(**certificates.options)
    smtp = client(smtplib.SMTP, "localhost", served.port)
    assert smtp.starttls(context=certificates.context())[0] == 220
    smtp.sendmail("a@example.org", ["b@example.com"], CONTENT * 500, ["BODY=8BITMIME"])
    assert not smtp.has_extn("starttls")
    smtp.quit()
    assert served.mail.content == CONTENT * 500
    assert served.mail.transmission_type == "ESMTPS"
    assert [(event.servername, event.protocol) for event in served.of("secure")] == [
        ("localhost", "TLSv1.3")
    ]


def test_smtplib_speaks_tls_from_the_first_octet(
    serve: Serve, client: Callable[..., smtplib.SMTP], certificates: Certificates
) -> None:
    served = serve(secure=True, **certificates.options)
    smtp = client(smtplib.SMTP_SSL, "localhost", served.port, context=certificates.context())
    smtp.sendmail("a@example.org", ["b@example.com"], CONTENT, ["BODY=8BITMIME"])
    smtp.quit()
    assert served.mail.content == CONTENT
    assert served.mail.transmission_type == "ESMTPS"


@pytest.mark.parametrize("method", METHODS)
def test_smtplib_authenticates(
    serve: Serve, client: Callable[..., smtplib.SMTP], certificates: Certificates, method: str
) -> None:
    # smtplib encodes credentials as ASCII.
    served = serve(
        auth_methods=[method],
        on_auth=lambda auth, session: auth.validate_password("ascii") and auth.username,
        **certificates.options,
    )
    smtp = client(smtplib.SMTP, "localhost", served.port)
    with pytest.raises(smtplib.SMTPNotSupportedError):
        smtp.login(USER, "ascii")  # not before TLS
    smtp.starttls(context=certificates.context())
    with pytest.raises(smtplib.SMTPSenderRefused) as refused:
        smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
    assert refused.value.smtp_code == 530
    with pytest.raises(smtplib.SMTPAuthenticationError) as raised:
        smtp.login(USER, "wrong")
    assert raised.value.smtp_code == 535
    for initial_response_ok in (True, False):
        one = client(smtplib.SMTP, "localhost", served.port)
        one.starttls(context=certificates.context())
        assert one.login(USER, "ascii", initial_response_ok=initial_response_ok)[0] == 235
        one.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
        one.quit()
    smtp.quit()
    assert [mail.session.user for mail in served.messages] == [USER, USER]
    assert {mail.transmission_type for mail in served.messages} == {"ESMTPSA"}
    assert [event.success for event in served.of("auth")] == [False, True, True]


def test_smtplib_picks_a_method_by_itself(
    serve: Serve, client: Callable[..., smtplib.SMTP]
) -> None:
    served = serve(
        auth_methods=["XOAUTH2", *METHODS],
        on_auth=lambda auth, session: auth.validate_password("ascii") and auth.username,
    )
    smtp = client(smtplib.SMTP, HOST, served.port)
    smtp.login(USER, "ascii")
    smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
    smtp.quit()
    assert [event.method for event in served.of("auth")] == ["CRAM-MD5"]


@pytest.mark.parametrize("over", ["TCP", "UNIX"])
def test_smtplib_speaks_lmtp(
    serve: Serve, client: Callable[..., smtplib.SMTP], short_folder: Path, over: str
) -> None:
    def on_data(stream: Any, session: Any) -> list[Any]:
        served.record(stream, session)
        outcomes = ["kept", Reject(552, "mailbox full", enhanced="5.2.2"), None]
        return outcomes[: len(session.envelope.rcpt_to)]

    path = short_folder / "lmtp.sock"
    served = serve(*([f"unix:{path}"] if over == "UNIX" else []), lmtp=True, on_data=on_data)
    where = (str(path),) if over == "UNIX" else (HOST, served.port)
    lmtp = client(smtplib.LMTP, *where)
    assert lmtp.ehlo()[0] == 250  # its LHLO
    lmtp.mail("a@example.org")
    for name in ("one", "two", "three"):
        assert lmtp.rcpt(f"{name}@example.com")[0] == 250
    replies = [lmtp.data(ASCII_CONTENT), lmtp.getreply(), lmtp.getreply()]
    assert [code for code, _ in replies] == [250, 552, 250]
    assert [b"kept" in replies[0][1], b"mailbox full" in replies[1][1]] == [True, True]
    assert lmtp.sendmail("", ["one@example.com"], ASCII_CONTENT) == {}
    lmtp.quit()
    assert [mail.content for mail in served.messages] == [ASCII_CONTENT] * 2
    assert served.messages[0].transmission_type == "LMTP"


def test_smtplib_upgrades_lmtp_with_starttls(
    serve: Serve, client: Callable[..., smtplib.SMTP], certificates: Certificates
) -> None:
    served = serve(lmtp=True, **certificates.options)
    lmtp = client(smtplib.LMTP, "localhost", served.port)
    lmtp.starttls(context=certificates.context())
    lmtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
    lmtp.quit()
    assert served.mail.transmission_type == "LMTPS"


# aiosmtplib


def aio(**options: Any) -> Any:
    try:
        import aiosmtplib
    except ImportError:
        missing("aiosmtplib", "aiosmtplib (pip)")
    return aiosmtplib.SMTP(local_hostname="client.example", timeout=SECONDS, **options)


def go(task: Any) -> Any:
    return asyncio.run(asyncio.wait_for(task, SECONDS))


def test_aiosmtplib_sends_messages_on_one_connection(serve: Serve) -> None:
    served = serve(size=100_000, extensions=DEFAULT_EXTENSIONS | {"DSN"})

    async def session() -> None:
        async with aio(hostname=HOST, port=served.port, start_tls=False) as smtp:
            for _ in range(3):
                await smtp.sendmail(
                    "a@example.org",
                    ["b@example.com"],
                    CONTENT,
                    mail_options=["BODY=8BITMIME", "RET=FULL"],
                    rcpt_options=["NOTIFY=NEVER"],
                )
            assert (await smtp.vrfy("b@example.com")).code == 252
            assert (await smtp.rset()).code == 250

    go(session())
    assert [mail.content for mail in served.messages] == [CONTENT] * 3
    assert served.messages[0].envelope.dsn.ret == "FULL"
    assert served.messages[0].envelope.rcpt_to[0].dsn.notify == ("NEVER",)


def test_aiosmtplib_sends_on_many_connections_at_once(serve: Serve) -> None:
    served = serve()

    async def one(number: int) -> None:
        async with aio(hostname=HOST, port=served.port, start_tls=False) as smtp:
            content = b"N: %d\r\n\r\n" % number + b"z" * 20_000
            await smtp.sendmail(f"a{number}@example.org", ["b@example.com"], content)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(40)))

    go(all_of_them())
    assert sorted(mail.mail_from for mail in served.messages) == sorted(
        f"a{number}@example.org" for number in range(40)
    )
    assert {len(mail.body) for mail in served.messages} == {20_002}


def test_aiosmtplib_sends_internationalised_mail(serve: Serve) -> None:
    served = serve()

    async def session() -> None:
        async with aio(hostname=HOST, port=served.port, start_tls=False) as smtp:
            await smtp.send_message(utf8_message())

    go(session())
    assert_utf8(served)


@pytest.mark.parametrize("over", ["STARTTLS", "TLS"])
def test_aiosmtplib_speaks_tls(serve: Serve, certificates: Certificates, over: str) -> None:
    served = serve(secure=over == "TLS", **certificates.options)

    async def session() -> None:
        async with aio(
            hostname="localhost",
            port=served.port,
            use_tls=over == "TLS",
            start_tls=over == "STARTTLS",
            tls_context=certificates.context(),
        ) as smtp:
            await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT * 500)

    go(session())
    assert served.mail.content == ASCII_CONTENT * 500
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.servername == "localhost"


def test_aiosmtplib_shows_a_client_certificate(serve: Serve, certificates: Certificates) -> None:
    served = serve(
        secure=True,
        ca_certs=certificates.ca,
        cert_reqs=ssl.CERT_REQUIRED,
        **certificates.options,
    )

    async def session() -> None:
        context = certificates.context()
        context.load_cert_chain(certificates.client)
        async with aio(
            hostname="localhost", port=served.port, use_tls=True, tls_context=context
        ) as smtp:
            await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)

    go(session())
    peer = served.mail.session.tls.peer_certificate
    assert ("DNS", "client.example") in peer["subjectAltName"]


@pytest.mark.parametrize("method", [*METHODS, "XOAUTH2"])
def test_aiosmtplib_authenticates(serve: Serve, method: str) -> None:
    served = serve(auth_methods=[method], on_auth=on_auth)
    where = {"hostname": HOST, "port": served.port, "start_tls": False}

    async def session() -> None:
        import aiosmtplib

        log_in = f"auth_{method.lower().replace('-', '')}"
        good, bad = (TOKEN, "expired") if method == "XOAUTH2" else (PASSWORD, "wrong")
        async with aio(**where) as smtp:
            await smtp.ehlo()
            if method != "XOAUTH2":  # which it knows only with a generator of tokens
                assert smtp.supported_auth_methods == [method.lower()]
            with pytest.raises(aiosmtplib.SMTPAuthenticationError) as raised:
                await getattr(smtp, log_in)(USER, bad)
            assert raised.value.code == 535
            with pytest.raises(aiosmtplib.SMTPSenderRefused):
                await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
            assert (await getattr(smtp, log_in)(USER, good)).code == 235
            await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
        if method != "XOAUTH2":
            async with aio(**where, username=USER, password=PASSWORD) as smtp:
                await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)

    go(session())
    assert {mail.session.user for mail in served.messages} == {USER}
    assert {event.method for event in served.of("auth")} == {method}


def test_aiosmtplib_connects_to_a_unix_socket(serve: Serve, short_folder: Path) -> None:
    path = short_folder / "smtp.sock"
    served = serve(f"unix:{path}")

    async def session() -> None:
        async with aio(socket_path=str(path), start_tls=False) as smtp:
            await smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)

    go(session())
    assert served.mail.content == ASCII_CONTENT
    assert served.mail.remote_address == ""
