"""A Postfix of its own that relays to the server with XFORWARD, over SMTP and LMTP.

It has its configuration, queue and data in a temporary folder and listens on one port of the
loopback interface; the machine's own Postfix, if there is one, isn't touched.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import (
    HOST,
    SECONDS,
    Message,
    Served,
    free_port,
    missing,
    program,
    run,
    succeed,
    wait_until,
)

from smtp_blinker import DEFAULT_EXTENSIONS, Reject
from smtp_blinker.stores import RelayStore

from .names import ASCII_CONTENT, Certificates, serving

#: What Postfix is told of its client, with XCLIENT.
CLIENT, CLIENT_PORT, CLIENT_NAME = "192.0.2.7", "4711", "client.example.net"

MASTER = """\
{host}:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

#: smtp.example and bounces go to the server over SMTP, the others as their names say.
MAIN = """\
compatibility_level = 3.6
command_directory = {command_directory}
daemon_directory = {daemon_directory}
shlib_directory = {shlib_directory}
meta_directory = {meta_directory}
config_directory = {folder}/config
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/log/mail.log
maillog_file_prefixes = {folder}
multi_instance_enable = no
myhostname = relay.example
mydomain = relay.example
myorigin = relay.example
mydestination =
mynetworks = 127.0.0.0/8 192.0.2.0/24
inet_interfaces = {host}
inet_protocols = ipv4
alias_maps =
alias_database =
local_recipient_maps =
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
lmtp_dns_support_level = disabled
smtpd_relay_restrictions = permit_mynetworks, reject
local_header_rewrite_clients =
smtpd_authorized_xclient_hosts = {host}
relayhost = [{host}]:{smtp}
transport_maps = inline:{{
  {{ tls.example = smtp:[{host}]:{tls} }}
  {{ lmtp.example = lmtp:inet:[{host}]:{lmtp} }}
  {{ unix.example = lmtp:unix:{unix} }} }}
smtp_send_xforward_command = yes
lmtp_send_xforward_command = yes
smtp_tls_CAfile = {ca}
smtp_tls_policy_maps = inline:{{ {{ [{host}]:{tls} = verify match=mail.example.test }} }}
minimal_backoff_time = 1s
maximal_backoff_time = 2s
queue_run_delay = 1s
smtp_connection_cache_on_demand = no
"""


class Relay:
    """A running Postfix and the servers it relays to."""

    def __init__(
        self, folder: Path, port: int, smtp: Served, tls: Served, lmtp: Served, unix: Served
    ) -> None:
        self.folder = folder
        self.port = port
        self.smtp, self.tls, self.lmtp, self.unix = smtp, tls, lmtp, unix
        #: Decides for the SMTP server.
        self.refuse: Callable[[str], Reject | None] = lambda address: None

    @property
    def log(self) -> str:
        try:
            return (self.folder / "log" / "mail.log").read_text(errors="replace")
        except OSError:
            return "(no log)"

    def send(
        self,
        *recipients: str,
        sender: str = "a@example.org",
        mail_options: tuple[str, ...] = (),
        rcpt_options: tuple[str, ...] = (),
    ) -> None:
        """Hand a message to Postfix as CLIENT would."""
        with smtplib.SMTP(HOST, self.port, "proxy.example", SECONDS) as smtp:
            smtp.ehlo()
            who = f"NAME={CLIENT_NAME} ADDR={CLIENT} PORT={CLIENT_PORT} HELO=inner.example"
            assert smtp.docmd("XCLIENT", who)[0] == 220
            smtp.ehlo("inner.example")
            smtp.sendmail(sender, recipients, ASCII_CONTENT, mail_options, rcpt_options)

    def wait(self, served: Served, count: int = 1) -> list[Message]:
        try:
            return served.wait_for(count)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n{self.log[-5000:]}") from None


@pytest.fixture(scope="module")
def postfix(certificates: Certificates) -> Iterator[Relay]:
    command = program("postfix", "postfix")
    if os.geteuid() != 0:
        missing("the right to run Postfix", "nothing but run as root: postfix")
    folder = Path(tempfile.mkdtemp(prefix="blinker-postfix-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)  # Postfix works as a user of its own
        relay: Relay

        def on_rcpt_to(address: Any, session: Any) -> None:
            refusal = relay.refuse(address.address)
            if refusal is not None:
                raise refusal

        def one(*args: Any, **options: Any) -> Served:
            return stack.enter_context(serving(*args, use_xforward=[HOST], **options))

        extensions = DEFAULT_EXTENSIONS | {"DSN"}
        unix = folder / "lmtp.sock"
        served = {
            "smtp": one(on_rcpt_to=on_rcpt_to, extensions=extensions),
            "tls": one(**certificates.options),
            "lmtp": one(lmtp=True),
            # XFORWARD trusts addresses, which a UNIX socket's peer has only where all are trusted.
            "unix": stack.enter_context(serving(f"unix:{unix}", lmtp=True, use_xforward=True)),
        }
        unix.chmod(0o666)
        relay = Relay(folder, free_port(), **served)
        _configure(relay, unix, certificates)
        config = str(folder / "config")
        succeed(command, "-c", config, "start")
        stack.callback(_stop, relay, command, config)
        wait_until(lambda: _greets(relay.port), f"Postfix listens\n{relay.log[-5000:]}")
        yield relay


def _configure(relay: Relay, unix: Path, certificates: Certificates) -> None:
    folder = relay.folder
    for name in ("config", "queue", "data", "log"):
        (folder / name).mkdir(mode=0o755)
    shutil.chown(folder / "data", "postfix")
    authority = folder / "ca.pem"  # the one of pytest's is root's
    shutil.copyfile(certificates.ca, authority)
    authority.chmod(0o644)
    names = ("command_directory", "daemon_directory", "shlib_directory", "meta_directory")
    postconf = program("postconf", "postfix")
    built_in = dict(line.split(" = ", 1) for line in succeed(postconf, "-d", *names).splitlines())
    ports = {name: getattr(relay, name).port for name in ("smtp", "tls", "lmtp")}
    (folder / "config" / "main.cf").write_text(
        MAIN.format(**built_in, **ports, folder=folder, host=HOST, unix=unix, ca=authority)
    )
    (folder / "config" / "master.cf").write_text(MASTER.format(host=HOST, port=relay.port))


def _greets(port: int) -> bool:
    try:
        with smtplib.SMTP(HOST, port, "proxy.example", SECONDS):
            return True
    except OSError:
        return False


def _stop(relay: Relay, command: str, config: str) -> None:
    run(command, "-c", config, "stop")
    wait_until(lambda: run(command, "-c", config, "status").returncode, "Postfix ends")


@pytest.fixture
def relay(postfix: Relay) -> Relay:
    """With empty mailboxes."""
    for served in (postfix.smtp, postfix.tls, postfix.lmtp, postfix.unix):
        served.messages.clear()
        for name in ("connect", "disconnect", "secure"):
            served.forget(name)
    postfix.refuse = lambda address: None
    return postfix


def assert_forwarded(served: Served, mail: Message) -> None:
    """The client of Postfix is the client of the server, and the signal says so."""
    assert mail.xforward["ADDR"] == CLIENT
    assert mail.xforward["NAME"] == CLIENT_NAME
    assert mail.xforward["PORT"] == CLIENT_PORT
    assert mail.xforward["PROTO"] == "ESMTP"
    assert mail.xforward["HELO"] == "inner.example"
    assert mail.xforward["SOURCE"] == "REMOTE"
    assert mail.xforward["IDENT"]
    assert mail.remote_address == CLIENT
    (event,) = served.of("connect")
    assert (event.remote_address, event.remote_port) == (CLIENT, int(CLIENT_PORT))
    assert event.client_hostname == CLIENT_NAME


def test_postfix_relays_with_xforward(relay: Relay) -> None:
    relay.send("b@smtp.example", "c@smtp.example")
    (mail,) = relay.wait(relay.smtp)
    assert_forwarded(relay.smtp, mail)
    assert mail.mail_from == "a@example.org"
    assert sorted(mail.rcpt_to) == ["b@smtp.example", "c@smtp.example"]
    header, _, body = mail.content.partition(b"\r\n\r\n")
    assert body == ASCII_CONTENT.partition(b"\r\n\r\n")[2]
    assert f"from inner.example ({CLIENT_NAME} [{CLIENT}])".encode() in header
    assert mail.envelope.size >= len(mail.content)  # Postfix announces one octet more


def test_postfix_relays_with_xforward_after_starttls(relay: Relay) -> None:
    relay.send("b@tls.example")
    (mail,) = relay.wait(relay.tls)
    assert_forwarded(relay.tls, mail)
    assert mail.transmission_type == "ESMTPS"


def test_postfix_relays_many_messages(relay: Relay) -> None:
    for number in range(20):
        relay.send(f"b{number}@smtp.example")
    mails = relay.wait(relay.smtp, 20)
    assert sorted(mail.rcpt_to[0] for mail in mails) == sorted(
        f"b{number}@smtp.example" for number in range(20)
    )
    assert {mail.remote_address for mail in mails} == {CLIENT}


def test_postfix_relays_delivery_notification_wishes(relay: Relay) -> None:
    relay.send(
        "b@smtp.example",
        mail_options=("RET=HDRS", "ENVID=one+2Btwo"),
        rcpt_options=("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;first+40example.com"),
    )
    (mail,) = relay.wait(relay.smtp)
    assert (mail.envelope.dsn.ret, mail.envelope.dsn.envid) == ("HDRS", "one+two")
    recipient = mail.envelope.rcpt_to[0].dsn
    assert set(recipient.notify) == {"FAILURE", "DELAY"}
    assert recipient.orcpt == "rfc822;first@example.com"


@pytest.mark.parametrize("over", ["smtp", "tls"], ids=["with DSN", "without DSN"])
def test_postfix_relays_internationalised_mail(relay: Relay, over: str) -> None:
    # With DSN it says ORCPT=rfc822;+E7+94+A8+E6+88+B7@smtp.example.
    relay.send(f"用户@{over}.example", mail_options=("SMTPUTF8",))
    wait_until(lambda: relay.smtp.messages or relay.tls.messages, "a message or a bounce")
    (mail,) = relay.smtp.messages + relay.tls.messages
    assert mail.rcpt_to == [f"用户@{over}.example"], mail.content.decode()
    assert mail.envelope.smtputf8


def test_postfix_bounces_what_is_refused(relay: Relay) -> None:
    refusal = Reject(550, "no such user", enhanced="5.1.1")
    relay.refuse = lambda address: refusal if address.startswith("no") else None
    relay.send("no@smtp.example", "b@smtp.example")
    first, second = relay.wait(relay.smtp, 2)
    mail, bounce = (first, second) if first.mail_from else (second, first)
    assert mail.rcpt_to == ["b@smtp.example"]
    assert (bounce.mail_from, bounce.rcpt_to) == ("", ["a@example.org"])
    assert b"no such user" in bounce.content
    assert b"Status: 5.1.1" in bounce.content


def test_postfix_tries_again_after_a_temporary_refusal(relay: Relay) -> None:
    refusals = [Reject(450, "come back later", enhanced="4.2.1")]
    relay.refuse = lambda address: refusals.pop() if refusals else None
    relay.send("b@smtp.example")
    (mail,) = relay.wait(relay.smtp)
    assert mail.rcpt_to == ["b@smtp.example"]
    assert refusals == []


@pytest.mark.parametrize("over", ["lmtp", "unix"])
def test_postfix_delivers_over_lmtp(relay: Relay, over: str) -> None:
    relay.send(f"b@{over}.example", f"c@{over}.example")
    served = getattr(relay, over)
    (mail,) = relay.wait(served)
    assert sorted(mail.rcpt_to) == [f"b@{over}.example", f"c@{over}.example"]
    assert mail.transmission_type == "LMTP"
    assert_forwarded(served, mail)


def test_postfix_is_the_next_hop_of_a_relay_store(relay: Relay) -> None:
    store = RelayStore(f"smtp://{HOST}:{relay.port}", name="mx.example")
    options = {"on_data": store, "extensions": DEFAULT_EXTENSIONS | {"DSN"}}
    with serving(**options) as ours, smtplib.SMTP(HOST, ours.port, "me", SECONDS) as smtp:
        for _ in range(3):
            smtp.sendmail(
                "a@example.org",
                ["b@smtp.example", "c@smtp.example"],
                ASCII_CONTENT,
                ["RET=HDRS", "ENVID=one+2Btwo"],
                ["NOTIFY=FAILURE"],
            )
    mails = relay.wait(relay.smtp, 3)
    assert len(mails) == 3
    for mail in mails:
        assert sorted(mail.rcpt_to) == ["b@smtp.example", "c@smtp.example"]
        assert (mail.envelope.dsn.ret, mail.envelope.dsn.envid) == ("HDRS", "one+two")
        header, _, body = mail.content.partition(b"\r\n\r\n")
        assert body == ASCII_CONTENT.partition(b"\r\n\r\n")[2]
        assert b"by mx.example with ESMTP" in header


def test_postfix_takes_the_commands_of_a_relay_store_in_groups(relay: Relay) -> None:
    store = RelayStore(f"smtp://{HOST}:{relay.port}", name="mx.example")
    recipients = [f"b{number}@smtp.example" for number in range(250)]
    with serving(on_data=store) as ours, smtplib.SMTP(HOST, ours.port, "me", SECONDS) as smtp:
        smtp.sendmail("a@example.org", recipients, ASCII_CONTENT)

    def arrived() -> list[str]:
        return [one for mail in relay.smtp.messages for one in mail.rcpt_to]

    wait_until(lambda: len(arrived()) >= len(recipients), "the message for all recipients")
    assert sorted(arrived()) == sorted(recipients)
