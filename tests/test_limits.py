"""Every option and every limit, at the limit and one past it."""

from __future__ import annotations

import base64
import json
import logging
import socket as stdlib_socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support import (
    MOMENT,
    Certificate,
    Client,
    Witness,
    poll,
    raising,
    running,
    talking,
    until_read,
    witnessed,
)

from smtp_blinker import DEFAULT_EXTENSIONS, Address, Credentials, Reject, Session, SMTPServer

LOGIN = "AUTH PLAIN AG1lAHB3"
NEVER = 3600.0


def features(answer: str) -> set[str]:
    """What an EHLO reply advertises."""
    return {line[4:] for line in answer.split("\n")[1:]}


def keywords(client: Client) -> set[str]:
    return {feature.split()[0] for feature in features(client.cmd("EHLO me"))}


@pytest.fixture
def offering(certificate: Certificate) -> dict[str, Any]:
    """Options of a server that offers every command, to everybody."""
    return {
        "on_auth": lambda *args: 1,
        "auth_optional": True,
        "allow_insecure_auth": True,
        "use_xclient": True,
        "use_xforward": True,
        **certificate.options,
    }


# Names and texts


def test_name_is_the_host_name_unless_it_is_given() -> None:
    with running(name=stdlib_socket.gethostname()):
        assert SMTPServer(None).options.name == stdlib_socket.gethostname()
    with talking(name="mail.example", hello=None) as client:
        assert client.greeting == "220 mail.example ESMTP"
        assert client.cmd("EHLO me").split("\n")[0].startswith("250-mail.example ")


def test_banner_stands_behind_esmtp() -> None:
    with running(banner="no spam, please") as server:
        assert Client(server).greeting == "220 mx.test ESMTP no spam, please"
    with running(banner="hi", lmtp=True) as server:
        assert Client(server).greeting == "220 mx.test LMTP hi"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (None, "mx.test Nice to meet you, [127.0.0.1]"),
        ("%s greets %s.", "mx.test greets [127.0.0.1]."),
        ("%s", "mx.test"),
        ("hello 100% %d", "hello 100% %d"),
    ],
)
def test_helo_response(text: str | None, reply: str) -> None:
    options = {} if text is None else {"helo_response": text}
    with talking(**options, hello=None) as client:
        assert client.cmd("HELO me") == f"250 {reply}"
        assert client.cmd("EHLO me").split("\n")[0] == f"250-{reply}"


# size


def test_size_is_announced_and_mail_is_held_to_it() -> None:
    with talking(size=1000, hello=None) as client:
        assert "SIZE 1000" in features(client.cmd("EHLO me"))
        client.ok("MAIL FROM:<> SIZE=1000", "RSET")
        assert client.cmd("MAIL FROM:<> SIZE=1001").startswith("552 5.3.4")
        client.ok("MAIL FROM:<> SIZE=0")


def test_no_size_limit_is_announced_by_default() -> None:
    with talking(hello=None) as client:
        assert "SIZE" in features(client.cmd("EHLO me"))
        client.ok("MAIL FROM:<> SIZE=999999999999")


def test_hide_size_keeps_the_limit_out_of_ehlo_and_in_force() -> None:
    with talking(size=1234, hide_size=True, hello=None) as client:
        answer = client.cmd("EHLO me")
        assert "1234" not in answer
        assert "SIZE" in features(answer)
        assert client.cmd("MAIL FROM:<> SIZE=1235").startswith("552 5.3.4")
        assert client.message(b"x" * 1233 + b"\r\n").startswith("552 5.3.4")


# extensions, disabled_commands


def test_the_default_extensions_are_what_needs_no_promise(certificate: Certificate) -> None:
    with running(
        on_auth=lambda *args: 1, allow_insecure_auth=True, **certificate.options
    ) as server:
        assert keywords(Client(server)) == DEFAULT_EXTENSIONS
        assert not {"DSN", "REQUIRETLS"} & DEFAULT_EXTENSIONS


@pytest.mark.parametrize("keyword", sorted(DEFAULT_EXTENSIONS))
def test_an_extension_can_be_taken_away(keyword: Any, offering: dict[str, Any]) -> None:
    taken = {keyword, "SMTPUTF8"} if keyword == "8BITMIME" else {keyword}
    with talking(
        extensions=DEFAULT_EXTENSIONS - taken,
        **offering,
        hello=None,
    ) as client:
        assert keywords(client) == (DEFAULT_EXTENSIONS | {"XCLIENT", "XFORWARD"}) - taken
        refused = {
            "8BITMIME": ("MAIL FROM:<> BODY=8BITMIME", "555"),
            "SIZE": ("MAIL FROM:<> SIZE=1", "555"),
            "SMTPUTF8": ("MAIL FROM:<> SMTPUTF8", "555"),
            "STARTTLS": ("STARTTLS", "502"),
        }.get(keyword)
        if refused is not None:
            assert client.cmd(refused[0]).startswith(refused[1])
        answer = client.cmd("NONSENSE")
        assert answer.startswith("500 5.5.2") == (keyword != "ENHANCEDSTATUSCODES")


def test_auth_that_is_not_shown_is_demanded_still() -> None:
    with talking(
        on_auth=lambda auth, session: "me", extensions=DEFAULT_EXTENSIONS - {"AUTH"}
    ) as client:
        assert client.cmd("MAIL FROM:<>").startswith("530")
        client.ok(LOGIN, "MAIL FROM:<>")


def test_dsn_is_opt_in() -> None:
    with running() as server:
        client = Client(server, hello="EHLO me")
        assert client.cmd("MAIL FROM:<> RET=HDRS").startswith("555")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<b@example.com> NOTIFY=NEVER").startswith("555")
    with talking(extensions=DEFAULT_EXTENSIONS | {"DSN"}, hello=None) as client:
        assert "DSN" in keywords(client)
        client.ok("MAIL FROM:<> RET=HDRS ENVID=x", "RCPT TO:<b@example.com> NOTIFY=NEVER")


def test_requiretls_is_opt_in_and_wants_tls(certificate: Certificate) -> None:
    with talking(
        extensions=DEFAULT_EXTENSIONS | {"REQUIRETLS"}, **certificate.options, hello=None
    ) as client:
        assert "REQUIRETLS" not in keywords(client)
        assert client.cmd("MAIL FROM:<> REQUIRETLS").startswith("530 5.7.10")
        client.starttls()
        assert "REQUIRETLS" in keywords(client)
        client.ok("MAIL FROM:<> REQUIRETLS")
        assert client.session.envelope.require_tls is True


@pytest.mark.parametrize(
    "verb",
    ["EHLO", "HELP", "VRFY", "NOOP", "RSET", "STARTTLS", "AUTH", "XCLIENT", "XFORWARD"],
)
def test_a_disabled_command_is_502_and_not_advertised(verb: str, offering: dict[str, Any]) -> None:
    with talking(
        disabled_commands=[verb.lower()],
        **offering,
        hello=None,
    ) as client:
        client.ok("HELO me")
        assert client.cmd(f"{verb} x").startswith("502")
        assert client.cmd(verb.lower()).startswith("502")
        if verb in ("AUTH", "STARTTLS", "XCLIENT", "XFORWARD"):
            assert verb not in keywords(client)


@pytest.mark.parametrize("verb", ["HELP", "AUTH", "STARTTLS"])
def test_session_disabled_commands_replaces_the_option(verb: str, offering: dict[str, Any]) -> None:
    def on_connect(session: Session) -> None:
        session.disabled_commands = disabled

    with running(
        on_connect=on_connect,
        disabled_commands=["VRFY"],
        **offering,
    ) as server:
        disabled: Any = {verb}
        client = Client(server)
        advertised = keywords(client)
        assert verb not in advertised
        assert client.cmd(verb).startswith("502")
        assert client.cmd("VRFY x").startswith("252")
        disabled = verb.lower()
        assert Client(server, hello="EHLO me").cmd(verb).startswith("502")
        disabled = None
        assert Client(server, hello="EHLO me").cmd("VRFY x").startswith("502")


def test_a_session_begins_with_the_commands_that_the_option_disables() -> None:
    def on_connect(session: Session) -> None:
        session.disabled_commands |= {"HELP"}  # type: ignore[operator]

    with talking(on_connect=on_connect, disabled_commands=["vrfy"]) as client:
        assert client.cmd("VRFY x").startswith("502")
        assert client.cmd("HELP").startswith("502")


def test_help_shows_no_command_that_is_disabled() -> None:
    with running(disabled_commands=["noop", "vrfy"]) as server:
        words = Client(server, hello="EHLO me").cmd("HELP").split()
    assert {"RSET", "QUIT", "HELP;"} <= set(words)
    assert not {"NOOP", "VRFY"} & set(words)


def test_an_unknown_verb_that_is_to_be_disabled_is_named() -> None:
    with pytest.raises(ValueError, match=r"disabled_commands has VFRY; known are .*AUTH.*VRFY"):
        SMTPServer(None, disabled_commands=["VFRY"])


@pytest.mark.parametrize("verb", ["VRFY", "AUTH", "STARTTLS"])
def test_session_disabled_commands_may_allow_again(verb: str, offering: dict[str, Any]) -> None:
    def on_connect(session: Session) -> None:
        session.disabled_commands = ()

    with talking(
        on_connect=on_connect,
        disabled_commands=[verb],
        **offering,
        hello=None,
    ) as client:
        advertised = keywords(client)
        assert verb in advertised or verb == "VRFY"
        argument = {"VRFY": " x", "AUTH": " PLAIN AG1lAHB3", "STARTTLS": ""}[verb]
        assert client.cmd(verb + argument)[0] == "2"


# greeting_delay


def test_a_client_that_waits_for_the_greeting_is_served() -> None:
    with running(greeting_delay=0.1) as server:
        began = time.monotonic()
        client = Client(server)
        assert time.monotonic() - began > 0.09
        client.ok("EHLO me")


def test_the_delay_comes_behind_a_proxy_header() -> None:
    with talking(greeting_delay=0.2, use_proxy=["127.0.0.1"], greet=False) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25\r\nEHLO me\r\n")
        client.ends_with("421 ")


# bare_newline


def test_bare_newline_by_network() -> None:
    policies = {"127.0.0.0/8": "allow", "127.0.0.2/32": "reject", "127.0.0.3": "normalize"}
    seen = []
    with running(
        bare_newline=policies, on_data=lambda stream, session: seen.append(stream.read())
    ) as server:
        answers = {
            source: Client(server, hello="EHLO me", source=source).message(b"a\nb\r\n")[:3]
            for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        }
    assert answers == {"127.0.0.1": "250", "127.0.0.2": "550", "127.0.0.3": "250"}
    assert seen == [b"a\nb\r\n", b"a\r\nb\r\n"]


def test_the_policy_is_that_of_the_client_a_proxy_names() -> None:
    with talking(
        bare_newline={"192.0.2.0/24": "allow"}, use_proxy=True, use_xclient=True, greet=False
    ) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25\r\n")
        client.reply()
        client.ok("EHLO me")
        assert client.message(b"a\nb\r\n").startswith("250")
        client.ok("XCLIENT ADDR=198.51.100.1", "EHLO me")
        assert client.message(b"a\nb\r\n").startswith("550")


# lenient_address_parsing

ODD = ["a..b@example.org", ".a@example.org", "foo bar@example.org", "nobody", "a@-x-.example"]


@pytest.mark.parametrize("path", ODD)
def test_odd_addresses_are_kept_by_the_lenient_only(path: Any) -> None:
    with running() as server:
        client = Client(server, hello="EHLO me")
        assert client.cmd(f"MAIL FROM:<{path}>").startswith("501 5.1.7")
        client.ok("MAIL FROM:<>")
        assert client.cmd(f"RCPT TO:<{path}>").startswith("501 5.1.3")
    with talking(lenient_address_parsing=True) as client:
        client.ok(f"MAIL FROM:<{path}>", f"RCPT TO:<{path}>")
        assert client.session.envelope.mail_from.address == path  # type: ignore[union-attr]
        assert client.session.envelope.rcpt_to[0].address == path


def test_devices_that_were_never_tried_elsewhere_are_served_by_the_lenient_only() -> None:
    for lenient in (False, True):
        with talking(lenient_address_parsing=lenient, hello=None) as client:
            reply = client.cmd("EHLO My Scanner 3000")
            assert reply.startswith("250") is lenient
            client.ok("HELO me")
            for extra in ("RET=HDRS", "ENVID=x"):
                reply = client.cmd(f"MAIL FROM:<a@example.org> {extra}")
                assert reply.startswith("250" if lenient else "555")
                client.ok("RSET", "MAIL FROM:<a@example.org>")
                for extra in ("NOTIFY=NEVER", "ORCPT=rfc822;b@example.com"):
                    reply = client.cmd(f"RCPT TO:<b@example.com> {extra}")
                    assert reply.startswith("250" if lenient else "555")
                client.ok("RSET")
            assert client.cmd("MAIL FROM:<a@example.org> X=y").startswith("555")


# logger


def logged(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records)


SECRET = base64.b64encode(b"\0me\0secret").decode()


def test_logger_true_is_the_logger_smtp_blinker(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with talking(logger=True, hello="EHLO me.example") as client:
        client.ok("QUIT")
        poll(lambda: not client.server.connections)
        [ours] = {record.name for record in caplog.records}
        assert ours == "smtp_blinker"
    text = logged(caplog)
    assert "EHLO me.example" in text
    assert "221 2.0.0 Bye" in text


def test_logger_may_be_any_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(logger=logging.getLogger("mine")) as server:
        Client(server, hello="EHLO me")
    assert {record.name for record in caplog.records} == {"mine"}


def test_without_a_logger_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with talking() as client:
        client.message()
        client.ok("QUIT")
        client.rest()
    assert not caplog.records


@pytest.mark.parametrize(
    "lines",
    [
        [f"AUTH PLAIN {SECRET}"],
        [f"auth plain {SECRET}"],
        [f"AUTH  PLAIN  {SECRET}"],
        [f"AUTH\tPLAIN\t{SECRET}"],
        [f"AUTH PLAIN\t{SECRET}"],
        [f"AUTH PLAIN {SECRET} x"],
        [f"AUTH NOSUCH {SECRET}"],
        ["AUTH PLAIN", SECRET],
        ["AUTH LOGIN", "bWU=", "c2VjcmV0"],
        ["AUTH LOGIN bWU=", "c2VjcmV0"],
        ["AUTH LOGIN", "!!!"],
        ["AUTH PLAIN", SECRET + "A" * 13000],
        [f"AUTH PLAIN {SECRET}" + "A" * 13000],
        ["AUTH CRAM-MD5", base64.b64encode(b"me " + b"5ec2e7" * 5 + b"00").decode()],
    ],
)
@pytest.mark.parametrize("good", [True, False])
def test_credentials_are_never_logged(
    caplog: pytest.LogCaptureFixture, lines: Any, good: bool
) -> None:
    caplog.set_level(logging.DEBUG)
    with talking(
        logger=True,
        on_auth=lambda auth, session: good,
        auth_methods=["PLAIN", "LOGIN", "CRAM-MD5"],
    ) as client:
        for line in lines:
            client.cmd(line)
        client.ok("QUIT")
        client.rest()
        poll(lambda: not client.server.connections)
    text = logged(caplog)
    assert "AUTH" in text.upper()
    for secret in (
        SECRET[:12],
        "c2VjcmV0",
        "secret",
        lines[-1][-12:] if len(lines) > 1 else SECRET,
    ):
        assert secret not in text, text


def test_control_characters_do_not_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with talking(logger=True, hello=None) as client:
        client.cmd(b"NOOP \x1b[31m\x07\xff")
        client.cmd(b"\x9b\x85nonsense")
    assert logged(caplog).replace("\n", "").isprintable()


# Constructor


def test_a_certificate_that_is_not_there_shows_in_the_constructor() -> None:
    with pytest.raises(FileNotFoundError):
        SMTPServer(("127.0.0.1", 0), certfile="/no/such/file")


def test_both_kinds_of_certificate_are_a_contradiction(certificate: Certificate) -> None:
    with pytest.raises(ValueError, match="ssl_context"):
        SMTPServer(None, ssl_context=certificate.client_context(), **certificate.options)


# max_clients, max_clients_per_ip


@pytest.fixture(params=[False, True], ids=["plain text", "TLS"])
def secure(request: pytest.FixtureRequest, certificate: Certificate) -> dict[str, Any]:
    """Options of a server without TLS, and of one that speaks it from the first octet."""
    return {"secure": True, **certificate.options} if request.param else {}


def test_max_clients(secure: dict[str, Any]) -> None:
    # N07
    with running(max_clients=2, **secure) as server:
        witness = Witness(server)
        first, second = Client(server), Client(server)
        Client(server, greet=False).ends_with("421 4.3.2")  # in clear: TLS has not begun
        assert witness.one("disconnect").reason == "refused"
        second.ok("NOOP")
        first.close()
        poll(lambda: len(server.connections) == 1)
        fourth = Client(server)
        assert len(server.connections) == 2
        fourth.ok("NOOP")


def test_a_refused_client_does_not_count() -> None:
    with talking(max_clients=1, hello=None) as client:
        for _ in range(5):
            Client(client.server, greet=False).ends_with("421 4.3.2")
        client.ok("QUIT")
        poll(lambda: not client.server.connections)
        Client(client.server)


def test_max_clients_per_ip(secure: dict[str, Any]) -> None:
    # N05
    with running(max_clients_per_ip=2, **secure) as server:
        first, second = Client(server), Client(server)
        for _ in range(3):
            Client(server, greet=False).ends_with("421 4.7.0")
        Client(server, source="127.0.0.2").ok("NOOP", "QUIT")
        second.ok("NOOP")
        first.ok("QUIT")
        poll(lambda: len(server.connections) == 1)
        Client(server).ok("NOOP")


@pytest.mark.parametrize(
    ("header", "one", "other", "neighbour"),
    [
        (b"TCP4 %s 192.0.2.1 1 25", b"192.0.2.7", b"192.0.2.8", b"192.0.2.7"),
        (b"TCP6 %s 2001:db8::25 1 25", b"2001:db8:1:2::1", b"2001:db8:1:3::1", b"2001:db8:1:2::ff"),
    ],
)
def test_max_clients_per_ip_counts_the_client_behind_the_proxy(
    header: bytes, one: bytes, other: bytes, neighbour: bytes
) -> None:
    with running(max_clients_per_ip=1, use_proxy=True) as server:

        def client(address: bytes) -> Client:
            client = Client(server, greet=False)
            client.send(b"PROXY " + header % address + b"\r\n")
            return client

        held = [client(one), client(other)]
        assert all(one.reply().startswith("220") for one in held)
        client(neighbour).ends_with("421 4.7.0")


# Counts


def test_max_recipients() -> None:
    # L18; RFC 5321 section 4.5.3.1.10
    seen = []
    with talking(
        max_recipients=3,
        on_data=lambda stream, session: seen.append(len(session.envelope.rcpt_to)),
    ) as client:
        client.envelope("a@example.com", "b@example.com", "c@example.com")
        for _ in range(30):
            assert client.cmd("RCPT TO:<d@example.com>").startswith("452 4.5.3")
        client.ok("DATA")
        client.send(b".\r\n")
        assert client.reply().startswith("250")
        assert client.message().startswith("250")
    assert seen == [3, 1]


def test_a_thousand_recipients_are_the_default() -> None:
    # L17
    with talking() as client:
        client.ok("MAIL FROM:<>")
        client.send(b"RCPT TO:<b@example.com>\r\n" * 1001)
        codes = [client.reply()[:9] for _ in range(1001)]
        assert codes == ["250 2.1.5"] * 1000 + ["452 4.5.3"]


def test_max_messages() -> None:
    with witnessed(max_messages=2) as client:
        client.message()
        client.message()
        client.ok("NOOP")
        client.send(b"MAIL FROM:<>\r\nNOOP\r\n")
        client.ends_with("421 4.7.0")
        assert client.witness.one("disconnect").messages == 2


def line_of(length: int, start: bytes = b"NOOP ") -> bytes:
    return start + b"x" * (length - len(start) - 2) + b"\r\n"


@pytest.mark.parametrize("limit", [2048, 100])
@pytest.mark.parametrize("apart", [False, True])
def test_max_command_length(limit: int, apart: bool) -> None:
    with talking(**({} if limit == 2048 else {"max_command_length": limit}), hello=None) as client:
        for length, reply in ((limit, "250"), (limit + 1, "500 5.5.2"), (limit * 50, "500 5.5.2")):
            line = line_of(length)
            for piece in (line[:50], line[50:-1], line[-1:]) if apart else (line,):
                client.send(piece)
                if apart:
                    until_read(client.server, client)
            assert client.reply().startswith(reply), length
        client.ok("NOOP")


def test_a_line_that_is_too_long_is_answered_once_and_the_session_is_in_sync() -> None:
    with talking() as client:
        client.send(b"MAIL FROM:<" + b"x" * 100000 + b">\r\nNOOP\r\nMAIL FROM:<>\r\n")
        assert [client.reply()[:3] for _ in range(3)] == ["500", "250", "250"]


def test_auth_lines_may_have_12288_octets() -> None:
    seen = []

    def on_auth(auth: Credentials, session: Session) -> bool:
        seen.append(len(auth.password))  # type: ignore[arg-type]
        return True

    def plain(length: int) -> bytes:
        return base64.b64encode(b"\0u\0" + b"p" * (length - 3))

    # With CRLF 12286 octets of base64, of which those that whole groups of four make.
    room = 12286 - 12286 % 4
    with running(on_auth=on_auth, max_unauthenticated_commands=None) as server:
        client = Client(server, hello="EHLO me")
        client.ok("AUTH PLAIN")
        client.send(plain(room // 4 * 3) + b"\r\n")
        assert client.reply().startswith("235")
        client = Client(server, hello="EHLO me")
        initial = b"AUTH PLAIN " + plain((12286 - 11) // 4 * 3)
        assert len(initial) <= 12286
        client.send(initial + b"\r\n")
        assert client.reply().startswith("235")
    assert all(length > 9000 for length in seen)
    assert len(seen) == 2


def test_an_auth_response_that_is_too_long_is_500_5_5_6_and_the_session_in_sync() -> None:
    with talking(on_auth=lambda *args: True, max_unauthenticated_commands=None) as client:
        client.ok("AUTH PLAIN")
        client.send(b"A" * 12286 + b"\r\n")
        assert client.reply().startswith("501")
        client.ok("AUTH PLAIN")
        client.send(b"A" * 12287 + b"\r\n")
        assert client.reply().startswith("500 5.5.6")
        client.ok("AUTH PLAIN")
        client.send(b"A" * 100000 + b"\r\nNOOP\r\n")
        assert client.reply().startswith("500 5.5.6")
        assert client.reply().startswith("250")
        client.ok(LOGIN)


def test_a_short_command_length_leaves_auth_its_room() -> None:
    with talking(max_command_length=512, on_auth=lambda *args: True) as client:
        token = base64.b64encode(b"\0u\0" + b"p" * 3000).decode()
        assert client.cmd(f"AUTH PLAIN {token}").startswith("235")


def test_a_long_command_length_leaves_auth_its_limit() -> None:
    with talking(max_command_length=20000, on_auth=lambda *args: True) as client:
        client.ok("NOOP " + "x" * (20000 - 7))
        assert client.cmd("NOOP " + "x" * (20001 - 7)).startswith("500 5.5.2")
        assert client.cmd("AUTH PLAIN " + "A" * (12289 - 13)).startswith("500 5.5.6")
        for length, code in ((12288, "501 5.5.2"), (12289, "500 5.5.6"), (20001, "500 5.5.6")):
            client.ok("AUTH PLAIN")
            assert client.cmd("A" * (length - 2)).startswith(code)


@pytest.mark.parametrize("limit", [0, 3, 10])
def test_max_unauthenticated_commands(limit: int) -> None:
    options = {} if limit == 10 else {"max_unauthenticated_commands": limit}
    with running(on_auth=lambda *args: True, **options) as server:
        client = Client(server)
        for command in ["EHLO me", "RSET", "NOOP", *["NOOP"] * 7][:limit]:
            client.ok(command)
        client.send(b"NOOP\r\n")
        client.ends_with("421 4.7.0")
        client = Client(server)
        if limit:
            client.ok("EHLO me", LOGIN)
            client.ok(*["NOOP"] * 20)


def test_where_auth_is_not_demanded_nobody_counts_as_unauthenticated() -> None:
    for options in ({}, {"on_auth": lambda *args: True, "auth_optional": True}):
        with running(**options) as server:
            Client(server).ok(*["NOOP"] * 50)


@pytest.mark.parametrize(
    ("option", "command", "reply"),
    [
        ("max_errors", "MAIL FROM:<>", "503 5.5.1"),
        ("max_junk_commands", "NOOP", "250 2.0.0"),
        ("max_unauthenticated_commands", "NOOP", "250 2.0.0"),
    ],
)
def test_none_is_no_limit(option: str, command: str, reply: str) -> None:
    options: dict[str, Any] = {"max_junk_commands": None, option: None}
    if option == "max_unauthenticated_commands":
        options["on_auth"] = lambda *args: True
    with talking(**options, hello=None) as client:
        client.send(f"{command}\r\n".encode() * 1000)
        assert {one.status for one in client.replies(1000)} == {reply}


@pytest.mark.parametrize("limit", [0, 3, 20])
def test_max_errors(limit: int) -> None:
    with talking(**({} if limit == 20 else {"max_errors": limit}), hello=None) as client:
        for _ in range(limit):
            assert client.cmd("MAIL FROM:<>").startswith("503")
        client.send(b"MAIL FROM:<>\r\n")
        client.ends_with("421 4.7.0")


def test_a_good_command_makes_errors_good() -> None:
    with talking(max_errors=2, hello=None) as client:
        for _ in range(5):
            assert client.cmd("MAIL FROM:<>").startswith("503")
            assert client.cmd("MAIL FROM:<>").startswith("503")
            client.ok("NOOP")


def test_temporary_refusals_are_no_errors() -> None:
    with talking(max_errors=2, on_mail_from=raising(Reject(450, "later"))) as client:
        for _ in range(20):
            assert client.cmd("MAIL FROM:<>").startswith("450")


@pytest.mark.parametrize("limit", [0, 3, 100])
def test_max_junk_commands(limit: int) -> None:
    junk = ["NOOP", "RSET", "VRFY x", "HELP", "NOOP x", "HELP"]
    with talking(**({} if limit == 100 else {"max_junk_commands": limit})) as client:
        for number in range(limit):
            client.ok(junk[number % len(junk)])
        if limit:
            client.message()
            for number in range(limit):
                client.ok(junk[number % len(junk)])
        client.send(b"NOOP\r\n")
        client.ends_with("421 4.7.0")


@pytest.mark.parametrize(
    "lines",
    [
        ["AUTH LOGIN", "*"],
        ["AUTH LOGIN", "dXNlcg==", "*"],
        ["AUTH PLAIN", "!"],
        ["AUTH PLAIN", "A" * 12287],
    ],
)
def test_exchanges_that_come_to_nothing_are_junk(lines: list[str]) -> None:
    with talking(on_auth=lambda *args: True, max_junk_commands=5) as client:
        for _ in range(5):
            assert [client.cmd(line)[0] for line in lines] == [*["3"] * (len(lines) - 1), "5"]
        for line in lines[:-1]:
            assert client.cmd(line)[0] == "3"
        client.send(lines[-1].encode() + b"\r\n")
        client.ends_with("421 4.7.0")


def test_faults_of_on_auth_are_junk() -> None:
    with talking(on_auth=lambda *args: 1 / 0, max_junk_commands=5, auth_optional=True) as client:
        for _ in range(5):
            assert client.cmd(LOGIN).startswith("451 4.3.0")
        client.send(LOGIN.encode() + b"\r\n")
        client.ends_with("421 4.7.0")


def test_ten_unrecognised_commands_are_enough() -> None:
    with talking() as client:
        for _ in range(9):
            assert client.cmd("NONSENSE").startswith("500 5.5.2")
            client.ok("NOOP")
        client.send(b"NONSENSE\r\n")
        client.ends_with("421 4.7.0")


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_max_auth_failures(limit: int) -> None:
    # A11
    asked: list[Any] = []
    seconds = []
    with talking(
        on_auth=lambda *args: asked.append(args),
        **({} if limit == 3 else {"max_auth_failures": limit}),
    ) as client:
        for _ in range(limit):
            began = time.monotonic()
            client.send(LOGIN.encode() + b"\r\n")
            Client(client.server, hello="EHLO me")  # who is not delayed
            assert client.reply().startswith("535")
            seconds.append(time.monotonic() - began)
        client.send(LOGIN.encode() + b"\r\n")
        client.ends_with("421 4.7.0")
    assert len(asked) == limit
    assert seconds == sorted(seconds)
    assert all(one > 0.1 for one in seconds)


# Seconds


def drip(client: Client, octets: bytes = b"x" * 10000) -> None:
    try:
        for octet in octets:
            client.send(bytes([octet]))
            gevent.sleep(0.01)
    except OSError:
        pass


@pytest.mark.parametrize("dripping", [False, True])
def test_socket_timeout_for_a_command(dripping: bool, secure: dict[str, Any]) -> None:
    # N01, N03
    with witnessed(socket_timeout=0.3, **secure, hello=None) as client:
        client.ok("NOOP")
        dripper = gevent.spawn(drip, client) if dripping else None
        assert client.reply().startswith("421 4.4.2")
        assert not client.recv()
        event = client.witness.one("disconnect")
        assert event.reason == "timeout"
        assert event.seconds >= 0.3
        assert not client.witness.of("error")
        if dripper is not None:
            dripper.kill()


def test_socket_timeout_begins_again_with_each_command() -> None:
    with talking(socket_timeout=0.4, hello=None) as client:
        for _ in range(6):
            gevent.sleep(0.1)
            client.ok("NOOP")


def test_socket_timeout_for_an_auth_response() -> None:
    with talking(socket_timeout=0.1, on_auth=lambda *args: True) as client:
        client.ok("AUTH PLAIN")
        client.ends_with("421 4.4.2")


def test_socket_timeout_for_the_next_piece_of_content() -> None:
    with witnessed(socket_timeout=0.4) as client:
        client.begin()
        for _ in range(6):
            gevent.sleep(0.1)
            client.send(b"piece\r\n")
        client.ends_with("421 4.4.2")
        assert client.witness.one("disconnect").reason == "timeout"


def test_a_slow_hook_is_not_the_client_s_time() -> None:
    with talking(socket_timeout=0.1, on_mail_from=lambda *args: gevent.sleep(0.3)) as client:
        client.ok("MAIL FROM:<>", "RSET")


def test_data_timeout_for_a_dripping_client() -> None:
    # N02
    with witnessed(data_timeout=0.3) as client:
        client.begin()
        dripper = gevent.spawn(drip, client)
        assert client.reply().startswith("421 4.4.2")
        assert client.witness.one("disconnect").reason == "timeout"
        dripper.kill()


def test_data_timeout_is_for_one_message() -> None:
    with talking(data_timeout=0.5) as client:
        for _ in range(4):
            client.begin()
            client.send(b"x\r\n")
            gevent.sleep(0.2)
            client.send(b".\r\n")
            assert client.reply().startswith("250")


@pytest.mark.parametrize("where", ["commands", "content", "dripping"])
def test_session_timeout(where: str) -> None:
    with witnessed(session_timeout=0.4, hello=None) as client:
        if where == "content":
            client.ok("EHLO me")
            client.begin()
        octets = b"NOOP\r\n" * 1000 if where == "commands" else b"x" * 999
        talker = gevent.spawn(drip, client, octets)
        assert b"421 4.4.2" in client.rest()
        assert client.witness.one("disconnect").reason == "timeout"
        talker.kill()


@pytest.mark.parametrize(
    "options",
    [
        {"greeting_delay": NEVER},
        {"use_proxy": True, "proxy_timeout": NEVER},
        {"secure": True, "handshake_timeout": NEVER},
    ],
)
def test_session_timeout_counts_what_comes_before_the_greeting(
    options: dict[str, Any], certificate: Certificate
) -> None:
    if "secure" in options:
        options = {**options, **certificate.options}
    with witnessed(session_timeout=0.3, **options, greet=False) as client:
        client.sock.settimeout(10)
        assert b"220" not in client.rest()
        client.witness.one("disconnect")


@pytest.mark.parametrize("dripping", [False, True])
@pytest.mark.parametrize("implicit", [False, True])
def test_handshake_timeout(dripping: bool, implicit: bool, certificate: Certificate) -> None:
    # N15
    with witnessed(
        handshake_timeout=0.2,
        secure=implicit,
        **certificate.options,
        greet=not implicit,
        hello=None,
    ) as client:
        if not implicit:
            client.ok("STARTTLS")
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 400
        dripper = gevent.spawn(drip, client, hello) if dripping else None
        assert client.rest() == b""
        assert client.witness.one("disconnect").reason == "tls"
        if dripper is not None:
            dripper.kill()


@pytest.mark.parametrize("dripping", [False, True])
def test_proxy_timeout(dripping: bool) -> None:
    # N47
    with witnessed(proxy_timeout=0.2, use_proxy=True, greet=False) as client:
        header = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25"
        dripper = gevent.spawn(drip, client, header) if dripping else None
        assert client.rest() == b""
        assert client.witness.one("disconnect").reason == "proxy"
        if dripper is not None:
            dripper.kill()


# Others


@pytest.mark.parametrize("verb", ["GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "get"])
def test_an_http_request_gets_421_and_a_close(verb: str) -> None:
    with witnessed(hello=None) as client:
        client.send(f"{verb} /x HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        client.ends_with("421 ")
        assert client.witness.one("disconnect").reason == "abuse"


def test_a_client_that_never_reads_is_closed_and_others_are_served(secure: dict[str, Any]) -> None:
    # N04
    with witnessed(socket_timeout=0.5, max_junk_commands=None, **secure, hello=None) as client:

        def flood() -> None:
            try:
                while True:
                    client.send(b"HELP\r\n" * 1000)
            except OSError:
                pass

        flooder = gevent.spawn(flood)
        with Client(client.server) as other:
            other.ok("NOOP")
            client.witness.one("disconnect")
        flooder.join()
        assert client.witness.of("disconnect")[0].reason == "timeout"


def test_running_out_of_descriptors_harms_nobody_who_is_there(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import json, resource, socket, sys, time
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        import gevent
        from smtp_blinker import SMTPServer
        from smtp_blinker.signals import error
        server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
        codes = []

        @error.connect_via(server)
        def note(server, event):
            codes.append((event.code, event.remote_address))

        server.start()
        print(server.server_port, flush=True)
        gevent.get_hub().threadpool.apply(sys.stdin.readline)
        print(json.dumps(codes), flush=True)
        server.stop(timeout=0)
        """
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        first = Client(address)
        others = [Client(address, greet=False) for _ in range(80)]
        gevent.sleep(0.5)
        # Those who are here are served, while some wait in the backlog.
        first.ok("EHLO me", "NOOP")
        assert others[-1].silent(MOMENT)
        for other in others[:40]:
            other.close()
        assert others[-1].reply().startswith("220")
        Client(address, hello="EHLO me")
        process.stdin.write("\n")
        process.stdin.flush()
        codes = json.loads(process.stdout.readline())
    assert set(map(tuple, codes)) == {("EMFILE", None)}
    # It was half a second: the pauses between two attempts grow from 10 ms to 1 s.
    assert 1 <= len(codes) < 20


def test_close_timeout_is_what_stop_waits() -> None:
    reached = Event()

    def on_mail_from(address: Address, session: Session) -> None:
        reached.set()
        gevent.sleep(NEVER)

    with running(close_timeout=0.2, on_mail_from=on_mail_from) as server:
        Client(server, hello="EHLO me").send(b"MAIL FROM:<>\r\n")
        reached.wait()
        began = time.monotonic()
        server.stop()
        assert 0.2 <= time.monotonic() - began < 30


@pytest.mark.parametrize("code", [450, 451, 452])
def test_refused_recipients_are_bounded_on_a_connection(code: int) -> None:
    with witnessed(on_rcpt_to=raising(Reject(code, "later")), max_refused_recipients=30) as client:
        for _ in range(3):
            client.ok("MAIL FROM:<>")
            for _ in range(10):
                assert client.cmd("RCPT TO:<b@example.com>").startswith(str(code))
            client.ok("RSET")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<b@example.com>").startswith("421 4.7.0")
        assert client.ended()
        assert client.witness.one("disconnect").reason == "abuse"


def test_recipients_are_refused_for_different_reasons_and_all_count() -> None:
    def refuse(address: Address, session: Session) -> None:
        if address.address.startswith("fault"):
            raise ValueError
        if address.address.startswith("later"):
            raise Reject(450, "later")

    with talking(on_rcpt_to=refuse, max_refused_recipients=4, max_recipients=1) as client:
        assert client.cmd("RCPT TO:<b@example.com>").startswith("503")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<fault@example.com>").startswith("451")
        assert client.cmd("RCPT TO:<later@example.com>").startswith("450")
        client.ok("RCPT TO:<b@example.com>")
        assert client.cmd("RCPT TO:<c@example.com>").startswith("452")
        assert client.cmd("RCPT TO:<d@example.com>").startswith("421 4.7.0")


@pytest.mark.parametrize("number", [21, 25])
def test_a_mailing_list_s_refused_recipients_do_not_end_it(number: int) -> None:
    with running(on_rcpt_to=raising(Reject(450, "greylisted", "4.7.1"))) as server:
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<>")
        client.send(b"RCPT TO:<b@example.com>\r\n" * number)
        assert [client.reply()[:3] for _ in range(number)] == ["450"] * number
        client.ok("NOOP")
    with talking(max_recipients=1) as client:
        client.ok("MAIL FROM:<>", "RCPT TO:<b@example.com>")
        client.send(b"RCPT TO:<b@example.com>\r\n" * number)
        assert [client.reply()[:3] for _ in range(number)] == ["452"] * number
        client.ok("DATA")
