"""When each signal is sent, with what, and what a listener can't do."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.event import Event
from support import (
    SECONDS,
    SIGNALS,
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

from smtp_blinker import Address, Credentials, MessageStream, Reject, Session, SMTPServer, signals
from smtp_blinker.connection import connection
from smtp_blinker.signals import connect, disconnect, message

LOGIN = "AUTH PLAIN AG1lAHB3"


def no(*args: Any) -> None:
    raise Reject(554, "no", "5.7.1")


# connect


@pytest.mark.parametrize("hello", ["HELO Me.Example", "EHLO Me.Example", "LHLO Me.Example"])
def test_connect_follows_the_first_hello(hello: str) -> None:
    with witnessed(lmtp=hello.startswith("LHLO"), hello=None) as client:
        client.ok("NOOP")
        assert client.cmd(hello.split()[0]).startswith("501")
        assert client.witness.names == ["refused"]
        client.ok(hello)
        event = client.witness.one("connect")
        client.ok(hello, "RSET", hello)
        client.ok("MAIL FROM:<>")
        assert client.witness.names == ["refused", "connect"]
        [live] = client.server.connections
    assert event.as_dict() == {
        "id": live.session.id,
        "local_address": "127.0.0.1",
        "local_port": client.server.server_port,
        "remote_address": "127.0.0.1",
        "remote_port": client.sock.getsockname()[1],
        "host_name_appears_as": "me.example",
        "client_hostname": "[127.0.0.1]",
    }
    assert client.witness.senders == {client.server}


def test_connect_has_the_name_by_reverse_dns() -> None:
    names = {"127.0.0.1": ["Client.Example.", "other.example"]}
    resolver = SimpleNamespace(reverse=lambda ip: names[ip])
    with witnessed(disable_reverse_lookup=False, resolver=resolver) as client:
        assert client.witness.one("connect").client_hostname == "client.example"


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "names",
    [
        *([], None, ["evil\r\nname"], ["a\x1b[31m"], ["a\0b"], ["a b"], ["a\u2028b"], ["<a>"]),
        *(["a" * 64], ["\ud800"], [b"mx.example"], [Unspeakable()], RuntimeError, SystemExit(3)),
        *(gevent.GreenletExit, gevent.Timeout(1)),
    ],
    ids=lambda names: type(names).__name__,
)
def test_connect_has_the_address_in_brackets_where_there_is_no_name(names: Any) -> None:
    known = names is None or isinstance(names, list)
    resolver = SimpleNamespace(reverse=(lambda ip: names) if known else raising(names))
    with witnessed(disable_reverse_lookup=False, resolver=resolver, hello=None) as client:
        assert "Nice to meet you, [127.0.0.1]" in client.cmd("EHLO me")
        assert client.witness.one("connect").client_hostname == "[127.0.0.1]"
        Client(client.server, hello="EHLO me")


def test_a_lookup_waits_a_moment_at_most_and_delays_nobody_else() -> None:
    resolver = SimpleNamespace(reverse=lambda ip: gevent.sleep(3600))
    with running(disable_reverse_lookup=False, resolver=resolver) as server:
        witness = Witness(server)
        slow = Client(server)
        slow.send(b"EHLO slow\r\n")
        other = Client(server)
        assert other.cmd("NOOP").startswith("250")
        assert not witness.names
        assert slow.reply().startswith("250")
        assert witness.one("connect").client_hostname == "[127.0.0.1]"


def test_no_connect_for_a_client_that_on_connect_refused() -> None:
    with witnessed(on_connect=no, greet=False) as client:
        client.send(b"EHLO me\r\n")
        client.rest()
        poll(lambda: not client.server.connections)
        assert client.witness.names == ["refused", "disconnect"]


@pytest.mark.parametrize("option", ["use_xclient", "use_xforward"])
def test_where_a_proxy_is_trusted_connect_waits_for_the_address(option: str) -> None:
    verb = option[4:].upper()
    with witnessed(**{option: ["127.0.0.1"]}, hello="EHLO proxy") as client:
        client.ok(f"{verb} NAME=client.example")
        if verb == "XCLIENT":
            client.ok("EHLO proxy")
        assert not client.witness.names
        client.ok(f"{verb} ADDR=192.0.2.7 PORT=77 HELO=them.example")
        event = client.witness.one("connect")
        assert (event.remote_address, event.remote_port) == ("192.0.2.7", 77)
        assert event.host_name_appears_as == "them.example"
        if verb == "XCLIENT":
            client.ok("EHLO them")
        client.ok("MAIL FROM:<>", "RSET", "MAIL FROM:<>")
        assert client.witness.names == ["connect"]
        client.ok("QUIT")
        # What XFORWARD said was about the first transaction.
        last = "192.0.2.7" if verb == "XCLIENT" else "127.0.0.1"
        assert client.witness.one("disconnect").remote_address == last


@pytest.mark.parametrize("option", ["use_xclient", "use_xforward"])
def test_where_no_address_comes_connect_follows_with_the_first_mail(option: str) -> None:
    with witnessed(**{option: True}) as client:
        assert not client.witness.names
        client.ok("MAIL FROM:<>")
        assert client.witness.one("connect").remote_address == "127.0.0.1"
        client.ok("RSET", "MAIL FROM:<>")
        assert client.witness.names == ["connect"]


def test_connect_is_sent_again_when_xforward_names_a_new_client() -> None:
    with witnessed(use_xforward=True) as client:
        client.ok("XFORWARD ADDR=192.0.2.7", "MAIL FROM:<>", "RSET")
        client.ok("XFORWARD ADDR=IPV6:2001:DB8::1 HELO=b", "MAIL FROM:<>")
        addresses = [event.remote_address for event in client.witness.of("connect")]
        assert addresses == ["192.0.2.7", "2001:db8::1"]


def test_connect_is_not_sent_again_when_xforward_names_the_same_client() -> None:
    with witnessed(use_xforward=True) as client:
        for port in (5, 5, 6):
            client.ok(f"XFORWARD ADDR=192.0.2.7 PORT={port} NAME=a.example", "MAIL FROM:<>", "RSET")
        assert [event.remote_port for event in client.witness.of("connect")] == [5, 6]


def test_connect_comes_with_the_first_mail_though_it_is_refused_for_want_of_auth() -> None:
    with witnessed(use_xclient=True, on_auth=lambda auth, session: "me") as client:
        assert client.cmd("MAIL FROM:<>").startswith("530")
        client.ok("AUTH PLAIN AG1lAHB3", "MAIL FROM:<>")
        assert client.witness.names == ["connect", "refused", "auth"]


def test_what_xforward_says_is_about_one_transaction() -> None:
    """Postfix's XFORWARD_README: mail of its own host comes without it."""
    seen = []

    def on_mail_from(address: Address, session: Session) -> None:
        seen.append((session.remote_address, session.client_hostname, session.xforward.get("ADDR")))

    with witnessed(
        use_xforward=True, on_mail_from=on_mail_from, hello="EHLO postfix.example"
    ) as client:
        client.ok("XFORWARD ADDR=192.0.2.7 NAME=a.example HELO=them.example")
        client.message()
        client.message()
        client.ok("XFORWARD ADDR=192.0.2.8", "MAIL FROM:<>", "RSET")
        client.ok("XFORWARD ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE] SOURCE=LOCAL", "MAIL FROM:<>")
        assert client.session.host_name_appears_as == "postfix.example"
        client.ok("RSET", "MAIL FROM:<>")
        assert client.session.xforward == {}
    local = ("127.0.0.1", "[127.0.0.1]", None)
    assert seen == [
        ("192.0.2.7", "a.example", "192.0.2.7"),
        local,
        ("192.0.2.8", "[192.0.2.8]", "192.0.2.8"),
        local,
        local,
    ]
    addresses = [event.remote_address for event in client.witness.of("connect")]
    assert addresses == ["192.0.2.7", "192.0.2.8"]


def test_a_mail_that_was_refused_has_used_up_nothing_of_xforward() -> None:
    seen = []

    def on_mail_from(address: Address, session: Session) -> None:
        seen.append(session.remote_address)
        if address.address == "bad@x.test":
            raise Reject(550, "no")

    with talking(
        use_xforward=True, on_mail_from=on_mail_from, hello="EHLO postfix.example"
    ) as client:
        client.ok("XFORWARD ADDR=192.0.2.7")
        client.cmd("MAIL FROM:<bad@x.test>")
        client.ok("MAIL FROM:<good@x.test>")
    assert seen == ["192.0.2.7"] * 2


@pytest.mark.parametrize("fault", [ValueError("no database"), Reject(454, "later", "4.7.0")])
def test_a_forwarded_login_that_could_not_be_decided_ends_the_connection(fault: Any) -> None:
    with witnessed(
        use_xclient=True, on_auth=raising(fault), auth_optional=True, hello="EHLO proxy"
    ) as client:
        answer = client.cmd("XCLIENT ADDR=192.0.2.1 LOGIN=bob")
        assert answer[:3] == ("451" if isinstance(fault, ValueError) else "454")
        assert client.ended()
        assert [(event.username, event.success) for event in client.witness.of("auth")] == [
            ("bob", False)
        ]


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_who_is_ignored_goes_by_whom_a_proxy_names(verb: str) -> None:
    option = {f"use_{verb.lower()}": True}
    with running(**option, ignored_hosts=["127.0.0.1"]) as server:
        witness = Witness(server)
        client = Client(server, hello="EHLO proxy")
        client.ok(f"{verb} ADDR=192.0.2.7")
        assert witness.one("connect").remote_address == "192.0.2.7"
    with witnessed(**option, ignored_hosts=["192.0.2.7"], hello="EHLO proxy") as client:
        client.ok(f"{verb} ADDR=192.0.2.7", "QUIT")
        poll(lambda: not client.server.connections)
        assert not client.witness.names


def test_behind_a_proxy_on_a_unix_socket_nobody_is_called_localhost(tmp_path: Path) -> None:
    with witnessed(f"unix:{tmp_path}/socket", use_proxy=True, greet=False) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 25\r\n")
        client.reply()
        assert "[192.0.2.7]" in client.cmd("EHLO me")
        assert client.witness.one("connect").client_hostname == "[192.0.2.7]"
        local = Client(client.server, greet=False)
        local.send(b"PROXY UNKNOWN\r\n")
        local.reply()
        assert "localhost" in local.cmd("EHLO me")


def test_where_the_peer_is_not_a_trusted_proxy_connect_follows_the_hello() -> None:
    with witnessed(use_xclient=["192.0.2.0/24"], use_xforward=["192.0.2.1"]) as client:
        assert client.witness.names == ["connect"]
        assert client.cmd("XCLIENT ADDR=192.0.2.7").startswith("550")
        assert client.cmd("XFORWARD ADDR=192.0.2.7").startswith("550")


@pytest.mark.parametrize("verb", ["XCLIENT", "XFORWARD"])
def test_behind_a_proxy_those_are_trusted_whom_its_header_names(verb: str) -> None:
    trusted = {f"use_{verb.lower()}": ["192.0.2.1"]}
    with running(use_proxy=["127.0.0.1"], **trusted) as server:
        client = Client(server, greet=False)
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.9 1 25\r\n")
        client.reply()
        assert verb in client.cmd("EHLO me")
        client.ok(f"{verb} ADDR=192.0.2.7")
    # The proxy itself is trusted with its header, its clients with nothing.
    trusted = {f"use_{verb.lower()}": ["127.0.0.1"]}
    with talking(use_proxy=["127.0.0.1"], **trusted, greet=False) as client:
        client.send(b"PROXY TCP4 192.0.2.66 192.0.2.9 1 25\r\n")
        client.reply()
        assert verb not in client.cmd("EHLO me")
        assert client.cmd(f"{verb} ADDR=192.0.2.7").startswith("550")


# secure, auth, message


def test_secure_is_sent_after_each_handshake(certificate: Certificate) -> None:
    for implicit in (False, True):
        with witnessed(
            secure=implicit, **certificate.options, greet=not implicit, hello=None
        ) as client:
            if not implicit:
                client.ok("STARTTLS")
            tls = client.start_tls(name="localhost")
            if implicit:
                client.reply()
            client.ok("EHLO me")
            assert client.witness.names == ["secure", "connect"]
            event = client.witness.one("secure")
            [live] = client.server.connections
        assert event.as_dict() == {
            "id": live.session.id,
            "servername": "localhost",
            "protocol": tls.version(),
            "cipher": tls.cipher()[0],  # type: ignore[index]
        }


def test_secure_has_no_servername_where_the_client_gave_none(certificate: Certificate) -> None:
    with running(secure=True, **certificate.options) as server:
        witness = Witness(server)
        Client(server, greet=False).start_tls(name=None)
        assert witness.one("secure").servername is None


@pytest.mark.parametrize("name", ["a\r\nb", "a\x1b[31m", "a\tb", "\x7f.example"])
def test_a_servername_that_does_not_print_is_none(name: str, certificate: Certificate) -> None:
    # ssl takes such a name of a client, and gives it to the server as it is.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with witnessed(secure=True, **certificate.options, greet=False) as client:
        client.start_tls(context, name=name)
        assert client.reply().startswith("220")
        assert client.witness.one("secure").servername is None
        assert client.session.servername is None


def test_no_secure_for_a_failed_handshake_but_an_error_and_a_disconnect(
    certificate: Certificate,
) -> None:
    with witnessed(secure=True, **certificate.options, greet=False) as client:
        client.send(b"EHLO me\r\n" * 10)
        client.rest()
        assert client.witness.one("disconnect").reason == "tls"
        assert client.witness.names == ["error", "disconnect"]
        event = client.witness.one("error")
        assert event.code == "TLSError"
        assert event.remote_address == "127.0.0.1"
        assert event.meta["stage"] == "handshake"


def test_auth_is_sent_when_an_exchange_ends() -> None:
    def on_auth(auth: Credentials, session: Session) -> bool:
        return auth.password == "pw"

    with witnessed(on_auth=on_auth) as client:
        client.ok("AUTH LOGIN", "bWU=")
        assert not client.witness.of("auth")
        assert client.cmd("cHg=").startswith("535")
        assert client.cmd("AUTH PLAIN !!").startswith("501")
        client.ok("AUTH PLAIN")
        assert client.cmd("*").startswith("501")
        client.ok(LOGIN)
        events = client.witness.of("auth")
        [live] = client.server.connections
    assert [(e.method, e.username, e.success) for e in events] == [
        ("LOGIN", "me", False),
        ("PLAIN", None, False),
        ("PLAIN", None, False),
        ("PLAIN", "me", True),
    ]
    assert {e.id for e in events} == {live.session.id}
    told = json.dumps([e.as_dict() for e in events])
    assert "pw" not in told.replace(live.session.id, "")  # in which chance may put it


def test_message_is_sent_when_a_message_was_answered() -> None:
    answers = {"bad@example.com": Reject(550, "no"), "broken@example.com": KeyError("x")}

    def on_data(stream: MessageStream, session: Session) -> None:
        failure = answers.get(session.envelope.rcpt_to[0].address)
        if failure is not None:
            raise failure

    with witnessed(on_data=on_data) as client:
        client.envelope("b@example.com", "c@example.com")
        assert not client.witness.of("message")
        client.ok("DATA")
        client.send(b"..x\r\n")
        gevent.sleep(0.05)
        client.send(b".\r\n")
        client.reply()
        client.ok("MAIL FROM:<>", "RCPT TO:<bad@example.com>", "DATA")
        client.send(b".\r\n")
        client.reply()
        client.message(b"", "broken@example.com")
        events = client.witness.of("message")
        [live] = client.server.connections
    assert [(e.transaction, e.mail_from, list(e.rcpt_to), e.size, e.code) for e in events] == [
        (1, "a@example.org", ["b@example.com", "c@example.com"], 4, 250),
        (2, "", ["bad@example.com"], 0, 550),
        (3, "a@example.org", ["broken@example.com"], 0, 451),
    ]
    assert {e.id for e in events} == {live.session.id}
    assert 0.04 < events[0].seconds < 30


@pytest.mark.parametrize("lmtp", [False, True])
def test_message_is_sent_though_the_client_left_before_its_answer(lmtp: bool) -> None:
    left = Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        stream.read()
        left.wait(SECONDS)

    with witnessed(on_data=on_data, lmtp=lmtp, hello="LHLO me" if lmtp else "EHLO me") as client:
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA")
        client.send(b"one\r\n.\r\n")
        until_read(client.server, client)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        left.set()
        assert client.witness.one("disconnect").messages == 1
        assert [(event.code, event.size) for event in client.witness.of("message")] == [(250, 5)]


def test_no_message_for_a_transaction_that_was_reset() -> None:
    with witnessed() as client:
        client.envelope()
        client.ok("RSET")
        client.envelope()
        client.ok("QUIT")
        client.witness.one("disconnect")
        assert client.witness.names == ["connect", "disconnect"]


# disconnect


def test_disconnect_tells_how_it_was() -> None:
    with witnessed() as client:
        assert client.message().startswith("250")
        assert client.message().startswith("250")
        client.send(b"QUIT\r\n")
        client.rest()
        event = client.witness.one("disconnect")
    assert event.id == client.witness.one("connect").id
    assert event.remote_address == "127.0.0.1"
    assert (event.messages, event.reason) == (2, "quit")
    assert 0 < event.seconds < 30
    sent = b"EHLO me\r\n" + 2 * (
        b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
        b"Subject: x\r\n\r\nhello\r\n.\r\n"
    )
    assert event.bytes_in == len(sent) + len(b"QUIT\r\n")
    assert event.bytes_out > 100


def quit_(client: Any) -> None:
    client.ok("QUIT")


def leave(client: Any) -> None:
    client.close()


def reset(client: Any) -> None:
    client.reset()


def stay(client: Any) -> None:
    """Do nothing."""


def nonsense(client: Any) -> None:
    client.send(b"NONSENSE\r\n" * 10)


def http(client: Any) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")


def garbage(client: Any) -> None:
    client.send(b"\0garbage, no handshake and no header either\r\n" * 4)


@pytest.mark.parametrize(
    ("options", "does", "reason"),
    [
        ({}, quit_, "quit"),
        ({}, leave, "eof"),
        ({}, reset, "reset"),
        ({"socket_timeout": 0.05}, stay, "timeout"),
        ({"session_timeout": 0.05}, stay, "timeout"),
        ({"on_connect": no}, stay, "refused"),
        ({"max_clients": 0}, stay, "refused"),
        ({}, nonsense, "abuse"),
        ({}, http, "abuse"),
        ({"greeting_delay": 3600}, leave, "eof"),
        ({"greeting_delay": 3600}, nonsense, "abuse"),
        ({"use_proxy": True}, leave, "proxy"),
        ({"use_proxy": True}, reset, None),
        ({"use_proxy": True}, garbage, "proxy"),
        ({"use_proxy": True, "proxy_timeout": 0.05}, stay, "proxy"),
        ({"use_proxy": ["192.0.2.1"]}, stay, "proxy"),
        ({"secure": True}, leave, "tls"),
        ({"secure": True}, reset, "tls"),
        ({"secure": True}, garbage, "tls"),
        ({"secure": True, "handshake_timeout": 0.05}, stay, "tls"),
    ],
)
def test_disconnect_is_sent_for_every_connection_with_its_reason(
    options: dict[str, Any], does: Any, reason: str | None, certificate: Certificate
) -> None:
    if "secure" in options:
        options = {**options, **certificate.options}
    early = {"on_connect", "max_clients", "greeting_delay", "use_proxy", "secure"}
    with witnessed(**options, greet=not early & set(options), hello=None) as client:
        does(client)
        if does not in (leave, reset):
            client.rest()
        event = client.witness.one("disconnect")
        assert reason in (event.reason, None)
        assert event.id
        assert event.seconds >= 0
        poll(lambda: not client.server.connections)
        assert client.witness.names.count("disconnect") == 1
        # Who hangs up or never says a word is no failure of anything.
        if does is not garbage:
            assert not client.witness.of("error")


# error


def test_error_has_its_fields() -> None:
    def on_rcpt_to(address: Address, session: Session) -> None:
        raise KeyError("boom")

    with witnessed(on_rcpt_to=on_rcpt_to) as client:
        client.ok("MAIL FROM:<>")
        client.cmd("RCPT TO:<b@example.com>")
        event = client.witness.one("error")
        [live] = client.server.connections
    assert isinstance(event.error, KeyError)
    assert (event.code, event.remote_address) == ("HookError", "127.0.0.1")
    assert (event.response_code, event.id) == (451, live.session.id)
    assert event.meta["command"] == "RCPT"
    assert "on_rcpt_to" in event.meta["hook"]


def test_error_tells_the_tls_protocol(certificate: Certificate) -> None:
    with witnessed(
        on_mail_from=raising(KeyError("boom")), **certificate.options, hello=None
    ) as client:
        client.starttls()
        client.ok("EHLO me")
        client.cmd("MAIL FROM:<>")
        assert client.witness.one("error").meta["protocol"] == client.tls.version()


@pytest.mark.parametrize("where", ["MAIL", "RCPT", "DATA"])
def test_a_reset_inside_a_transaction_is_an_error(where: str) -> None:
    with witnessed() as client:
        commands = ["MAIL FROM:<>", "RCPT TO:<b@example.com>", "DATA"]
        for command in commands:
            client.ok(command)
            if command.startswith(where):
                break
        client.reset()
        assert client.witness.one("disconnect").reason == "reset"
        event = client.witness.one("error")
        assert event.code == "ECONNRESET"
        assert event.remote_address == "127.0.0.1"
        assert event.response_code is None


@pytest.mark.parametrize("before", ["", "EHLO me", "RSET", "message"])
def test_a_reset_outside_a_transaction_is_no_error(before: str) -> None:
    with witnessed(hello="EHLO me" if before else None) as client:
        if before == "RSET":
            client.ok("MAIL FROM:<>", "RSET")
        elif before == "message":
            client.message()
        client.reset()
        assert client.witness.one("disconnect").reason == "reset"
        assert not client.witness.of("error")


def test_an_error_without_a_listener_is_logged_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with talking(on_mail_from=raising(KeyError("boom"))) as client:
        with caplog.at_level(logging.ERROR, "smtp_blinker"):
            client.cmd("MAIL FROM:<>")
        client.ok("NOOP")
    [record] = [one for one in caplog.records if one.name == "smtp_blinker"]
    assert record.levelno == logging.ERROR
    assert "HookError" in record.getMessage()
    assert record.exc_info is not None


def test_an_error_that_somebody_hears_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with running(on_mail_from=raising(KeyError("boom"))) as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").cmd("MAIL FROM:<>")
        witness.one("error")
    assert not [one for one in caplog.records if one.name == "smtp_blinker"]


# Listeners


def test_a_message_s_answer_does_not_wait_for_a_listener() -> None:
    go = Event()
    with running() as server:

        @message.connect_via(server)
        def hang(sender: Any, event: Any) -> None:
            go.wait()

        client = Client(server, hello="EHLO me")
        assert client.message().startswith("250")
        go.set()


def test_a_listener_of_all_servers_hears_all() -> None:
    heard = []

    def listener(server: SMTPServer, event: Any) -> None:
        heard.append(server)

    connect.connect(listener)
    try:
        with running() as one, running() as two:
            Client(one, hello="EHLO me")
            Client(two, hello="EHLO me")
            assert heard == [one, two]
    finally:
        connect.disconnect(listener)


def test_ignored_hosts_are_neither_signalled_nor_logged(caplog: pytest.LogCaptureFixture) -> None:

    closed: list[Any] = []
    with (
        caplog.at_level(logging.DEBUG),
        running(
            ignored_hosts=["127.0.0.2", "192.0.2.0/24"],
            logger=True,
            on_mail_from=raising(KeyError("boom")),
            on_close=closed.append,
        ) as server,
    ):
        witness = Witness(server)
        caplog.clear()
        client = Client(server, hello="EHLO me", source="127.0.0.2")
        client.cmd("MAIL FROM:<>")
        client.ok("QUIT")
        Client(server, source="127.0.0.2").reset()
        poll(lambda: not server.connections)
        assert not witness.names
        assert not caplog.records
        assert len(closed) == 2
        Client(server, hello="EHLO me")
        assert witness.names == ["connect"]


def test_an_ignored_host_behind_a_proxy_is_ignored() -> None:
    with witnessed(ignored_hosts=["192.0.2.7"], use_proxy=True, greet=False) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 25\r\n")
        client.reply()
        client.ok("EHLO me", "QUIT")
        poll(lambda: not client.server.connections)
        assert not client.witness.names


def test_no_event_is_built_when_nobody_listens(
    monkeypatch: pytest.MonkeyPatch, certificate: Certificate
) -> None:
    built = []
    for name in SIGNALS:
        # Other tests' listeners may be there still.
        monkeypatch.setattr(getattr(signals, name), "receivers", {})
    for name in ("ConnectEvent", "SecureEvent", "AuthEvent", "MessageEvent", "DisconnectEvent"):
        original = getattr(signals, name)

        def build(*args: Any, name: Any = name, original: Any = original, **keywords: Any) -> Any:
            built.append(name)
            return original(*args, **keywords)

        monkeypatch.setattr(signals, name, build)
        assert not hasattr(connection, name)

    def session() -> Iterator[Any]:
        with running(on_auth=lambda auth, session: "me", **certificate.options) as server:
            yield server
            client = Client(server, hello="EHLO me")
            client.starttls()
            client.ok("EHLO me", LOGIN)
            client.message()
            client.ok("QUIT")
            client.rest()
            poll(lambda: not server.connections)

    for _ in session():
        assert not built
    assert not built
    # A listener of another server, and one whose server has gone, are no listeners of this one.
    other = SMTPServer(None)
    held = [Witness(other), Witness(SMTPServer(None))]
    for _ in session():
        assert not built
    assert not built
    assert len(held) == 2
    witness = [Witness(server) for server in session()]
    assert built == ["ConnectEvent", "SecureEvent", "AuthEvent", "MessageEvent", "DisconnectEvent"]
    assert len(witness) == 1


def test_disconnect_comes_when_the_connection_has_ended() -> None:
    with running(on_close=lambda session: order.append("on_close")) as server:  # type: ignore[has-type]
        order = []

        @disconnect.connect_via(server)
        def note(sender: Any, event: Any) -> None:
            order.append("disconnect")

        client = Client(server)
        client.ok("QUIT")
        assert client.ended()
        poll(lambda: len(order) == 2)
        assert order == ["on_close", "disconnect"]
