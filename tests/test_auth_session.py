"""Who the client is: AUTH, XCLIENT, the session's fields, addresses and envelope (section 5)."""

from __future__ import annotations

import base64
import email.utils
import hmac
import json
import re
from email import message_from_bytes, policy
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from support import Certificate, Client, poll, raising, running, talking, witnessed

from smtp_blinker import (
    DEFAULT_EXTENSIONS,
    Address,
    AuthenticationFailed,
    Credentials,
    MessageStream,
    Reject,
    Session,
    SMTPServer,
)

METHODS = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")
DSN = DEFAULT_EXTENSIONS | {"DSN"}


def b64(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def challenge(answer: str) -> bytes:
    assert answer.startswith("334 ")
    return base64.b64decode(answer[4:], validate=True)


class Users:
    """An on_auth hook that knows one user and keeps what it was asked."""

    def __init__(self, password: str = "pä ss") -> None:
        self.password = password
        self.asked: list[Any] = []

    def __call__(self, auth: Credentials, session: Session) -> Any:
        self.asked.append(auth)
        assert auth.authzid in (None, "", "me", "other")  # whom it may act for
        if auth.access_token is not None:
            return auth.access_token == "token"
        return auth.username == "me" and auth.validate_password(self.password)


def plain(client: Client, password: str) -> str:
    return client.cmd("AUTH PLAIN " + b64(f"\0me\0{password}"))


def plain_late(client: Client, password: str) -> str:
    assert challenge(client.cmd("AUTH PLAIN")) == b""
    return client.cmd(b64(f"other\0me\0{password}"))


def login(client: Client, password: str) -> str:
    assert challenge(client.cmd("auth login")) == b"Username:"
    assert challenge(client.cmd(b64("me"))) == b"Password:"
    return client.cmd(b64(password))


def login_early(client: Client, password: str) -> str:
    assert challenge(client.cmd("AUTH LOGIN " + b64("me"))) == b"Password:"
    return client.cmd(b64(password))


def cram(client: Client, password: str) -> str:
    text = challenge(client.cmd("AUTH CRAM-MD5"))
    assert re.fullmatch(rb"<[^<>@ ]+@mx\.test>", text)
    digest = hmac.new(password.encode(), text, "md5").hexdigest()
    return client.cmd(b64(f"me {digest}"))


EXCHANGES = {
    "PLAIN": plain,
    "PLAIN late": plain_late,
    "LOGIN": login,
    "LOGIN early": login_early,
    "CRAM-MD5": cram,
}


@pytest.mark.parametrize("kind", EXCHANGES)
def test_the_right_password_is_accepted(kind: Any) -> None:
    users = Users()
    with witnessed(on_auth=users, auth_methods=METHODS) as client:
        assert EXCHANGES[kind](client, users.password).startswith("235 2.7.0")
        [live] = client.server.connections
        assert live.session.user is True
        assert client.cmd("AUTH PLAIN").startswith("503")
        assert "AUTH" not in client.cmd("EHLO me")
        assert client.message().startswith("250")
    [auth] = users.asked
    method = kind.split()[0]
    assert (auth.method, auth.username) == (method, "me")
    assert client.witness.one("auth").as_dict() == {
        "id": live.session.id,
        "method": method,
        "username": "me",
        "success": True,
    }
    if method == "PLAIN":
        assert auth.password == users.password
        assert auth.authcid == "me"
        assert auth.authzid == ("other" if "late" in kind else "")
    if method == "LOGIN":
        assert auth.password == users.password
    if method == "CRAM-MD5":
        assert auth.password is None
        digest = hmac.new(users.password.encode(), auth.challenge.encode(), "md5").hexdigest()
        assert auth.challenge_response == digest
    assert auth.access_token is None
    assert users.password not in repr(auth)


@pytest.mark.parametrize("kind", EXCHANGES)
def test_a_wrong_password_is_535(kind: Any) -> None:
    users = Users()
    with witnessed(on_auth=users, auth_methods=METHODS) as client:
        assert EXCHANGES[kind](client, "wrong").startswith("535 5.7.8")
        assert client.witness.one("auth").success is False
        assert client.cmd("MAIL FROM:<>").startswith("530")
        assert EXCHANGES[kind](client, users.password).startswith("235")


def xoauth2(token: str, user: str = "me") -> str:
    return b64(f"user={user}\x01auth=Bearer {token}\x01\x01")


@pytest.mark.parametrize("late", [False, True])
def test_xoauth2(late: bool) -> None:
    users = Users()
    with talking(on_auth=users, auth_methods=METHODS) as client:
        if late:
            assert challenge(client.cmd("AUTH XOAUTH2")) == b""
            answer = client.cmd(xoauth2("token"))
        else:
            answer = client.cmd("AUTH XOAUTH2 " + xoauth2("token"))
        assert answer.startswith("235 2.7.0")
    [auth] = users.asked
    assert (auth.method, auth.username, auth.access_token) == ("XOAUTH2", "me", "token")
    assert auth.password is None
    assert auth.validate_password("token") is False
    assert "token" not in repr(auth)


@pytest.mark.parametrize("answer", ["", "*", "=", "AQ=="])
def test_an_xoauth2_failure_shows_its_json_first(answer: str) -> None:
    with witnessed(
        on_auth=raising(AuthenticationFailed(data={"status": "401", "schemes": "bearer"})),
        auth_methods=METHODS,
    ) as client:
        shown = challenge(client.cmd("AUTH XOAUTH2 " + xoauth2("bad")))
        assert json.loads(shown) == {"status": "401", "schemes": "bearer"}
        assert not client.witness.of("auth")
        assert client.cmd(answer).startswith("535 5.7.8")
        assert client.witness.one("auth").success is False
        client.ok("NOOP")


def test_a_long_challenge_is_one_line() -> None:
    # RFC 4954 section 4: 12288 octets with its CRLF. Two lines would be two challenges.
    data = {"status": "401", "openid-configuration": "x" * 5000}

    with talking(
        on_auth=raising(AuthenticationFailed(data=data)),
        auth_methods=("XOAUTH2",),
        auth_optional=True,
    ) as client:
        shown = client.cmd("AUTH XOAUTH2 " + xoauth2("bad"))
        assert "\n" not in shown
        assert json.loads(challenge(shown)) == data
        assert client.cmd("").startswith("535 5.7.8")


@pytest.mark.parametrize("data", [{"status": object()}, {"scope": "x" * 9300}])
def test_data_that_is_no_challenge_is_the_program_s_fault(data: dict[str, Any]) -> None:
    with witnessed(
        on_auth=lambda *args: AuthenticationFailed(data=data),  # which raises
        auth_methods=("XOAUTH2",),
        auth_optional=True,
    ) as client:
        assert client.cmd("AUTH XOAUTH2 " + xoauth2("bad")).startswith("451 4.3.0")
        client.ok("NOOP")
        assert client.witness.one("error").code == "HookError"


def test_authentication_failed_has_a_text_and_means_535_for_the_other_mechanisms() -> None:
    with talking(
        on_auth=raising(AuthenticationFailed("Go away", data={"status": "401"})),
        auth_methods=METHODS,
    ) as client:
        assert plain(client, "x") == "535 5.7.8 Go away"
        challenge(client.cmd("AUTH XOAUTH2 " + xoauth2("bad")))
        assert client.cmd("") == "535 5.7.8 Go away"


def test_oauthbearer() -> None:
    """RFC 7628; on_auth sees it as it sees XOAUTH2."""
    initial = b64("n,a=me,\x01host=mx.test\x01port=587\x01auth=Bearer token\x01\x01")
    users = Users()
    with talking(on_auth=users, auth_methods=["OAUTHBEARER"]) as client:
        assert client.cmd(f"AUTH OAUTHBEARER {initial}").startswith("235")
    assert users.asked[0].access_token == "token"


@pytest.mark.parametrize(
    ("method", "lines"),
    [
        ("PLAIN", ["!!!!"]),
        ("PLAIN", [b64("me")]),
        ("LOGIN", [b64("me"), "!!!"]),
        ("CRAM-MD5", [b64("me 1234")]),
        ("XOAUTH2", [b64("user=me\x01auth=Basic x\x01\x01")]),
    ],
)
def test_malformed_responses_are_501_and_never_reach_the_hook(method: str, lines: Any) -> None:
    users = Users()
    with talking(on_auth=users, auth_methods=METHODS) as client:
        answer = client.cmd(f"AUTH {method}")
        for line in lines:
            assert answer.startswith("334")
            answer = client.cmd(line)
        assert answer.startswith("501 5.5.2")
        assert not users.asked
        client.ok("NOOP")
        assert plain(client, users.password).startswith("235")


@pytest.mark.parametrize("method", METHODS)
def test_an_exchange_can_be_cancelled(method: Any) -> None:
    users = Users()
    with talking(on_auth=users, auth_methods=METHODS) as client:
        client.ok(f"AUTH {method}")
        assert client.cmd("*").startswith("501 5.7.0")
        assert not users.asked
        client.ok("NOOP")


def test_syntax_and_order_of_auth() -> None:
    with talking(on_auth=Users(), auth_methods=["PLAIN"], hello=None) as client:
        assert client.cmd("AUTH PLAIN").startswith("503")
        client.ok("EHLO me")
        assert client.cmd("AUTH").startswith("501 5.5.4")
        assert client.cmd("AUTH LOGIN").startswith("504 5.5.4")
        assert client.cmd("AUTH PLAIN a b c").startswith("501 5.5.4")
        assert client.cmd("AUTH PLAIN =").startswith("501 5.5.2")
    with talking(on_auth=Users(), auth_optional=True) as client:
        client.ok("MAIL FROM:<>")
        assert client.cmd("AUTH PLAIN").startswith("503")
    with talking(on_auth=Users(), auth_methods=METHODS) as client:
        assert client.cmd("AUTH CRAM-MD5 " + b64("x")).startswith("501 5.7.0")


def test_auth_methods_are_advertised_in_their_order() -> None:
    with running(on_auth=Users(), auth_methods=["xoauth2", "LOGIN"]) as server:
        assert "AUTH XOAUTH2 LOGIN" in Client(server).cmd("EHLO me")
    with running(on_auth=Users()) as server:
        assert "AUTH PLAIN LOGIN" in Client(server).cmd("EHLO me")
        assert "AUTH" not in Client(server).cmd("HELO me")


def test_auth_is_demanded_unless_it_is_optional() -> None:
    with running(on_auth=Users()) as server:
        client = Client(server, hello="EHLO me")
        assert client.cmd("MAIL FROM:<>").startswith("530 5.7.0")
        assert plain(client, "pä ss").startswith("235")
        assert client.message().startswith("250")
    with talking(on_auth=Users(), auth_optional=True, hello=None) as client:
        assert "AUTH" in client.cmd("EHLO me")
        assert client.message().startswith("250")


def test_auth_required_message_is_the_text_of_530() -> None:
    with talking(on_auth=Users(), auth_required_message="Log in, please") as client:
        assert client.cmd("MAIL FROM:<>") == "530 5.7.0 Log in, please"


@pytest.mark.parametrize("optional", [False, True])
def test_without_an_on_auth_hook_auth_is_neither_offered_nor_demanded(optional: bool) -> None:
    with talking(auth_optional=optional, hello=None) as client:
        assert "AUTH" not in client.cmd("EHLO me")
        assert client.cmd("AUTH PLAIN")[0] == "5"
        assert client.message().startswith("250")


def test_a_hook_that_is_registered_later_is_asked() -> None:
    with running() as server:
        users = server.on_auth(Users())
        client = Client(server)
        assert "AUTH" in client.cmd("EHLO me")
        assert client.cmd("MAIL FROM:<>").startswith("530")
        assert plain(client, users.password).startswith("235")


@pytest.mark.parametrize("insecure", [False, True])
def test_auth_waits_for_tls_where_starttls_is_there(
    insecure: bool, certificate: Certificate
) -> None:
    users = Users()
    with talking(
        on_auth=users, allow_insecure_auth=insecure, **certificate.options, hello=None
    ) as client:
        assert ("AUTH" in client.cmd("EHLO me")) == insecure
        answer = plain(client, users.password)
        assert answer.startswith("235" if insecure else "538 5.7.11")
        assert len(users.asked) == insecure


# XCLIENT LOGIN


def test_xclient_login_reaches_on_auth_as_method_xclient() -> None:
    asked = []

    def on_auth(auth: Credentials, session: Session) -> dict[str, Any]:
        asked.append((auth.method, auth.username, auth.password, session.remote_address))
        return {"name": auth.username}

    with witnessed(use_xclient=True, on_auth=on_auth, hello="EHLO proxy") as client:
        answer = client.cmd("XCLIENT ADDR=192.0.2.7 LOGIN=me+40example.org")
        assert answer.startswith("220")
        assert client.session.user == {"name": "me@example.org"}
        assert asked == [("XCLIENT", "me@example.org", None, "192.0.2.7")]
        assert client.witness.one("auth").success is True
        client.ok("EHLO me", "MAIL FROM:<>")
        assert client.session.transmission_type == "ESMTPA"


def test_an_xclient_login_that_is_refused_ends_the_connection() -> None:
    with witnessed(
        use_xclient=True, on_auth=lambda auth, session: None, hello="EHLO proxy"
    ) as client:
        assert client.cmd("XCLIENT ADDR=192.0.2.7 LOGIN=me")[0] == "5"
        assert client.ended()
        assert client.witness.one("auth").success is False


def test_xclient_and_xforward_are_kept_in_the_session() -> None:
    with talking(use_xclient=True, use_xforward=True, hello=None) as client:
        answer = client.cmd("EHLO proxy")
        assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in answer
        assert "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE" in answer
        client.ok("XFORWARD IDENT=17 SOURCE=REMOTE")
        client.ok(
            "XCLIENT NAME=c.example ADDR=IPV6:2001:DB8:0::1 PORT=77 HELO=h.example "
            "DESTADDR=192.0.2.1 DESTPORT=25 PROTO=ESMTP"
        )
        session = client.session
        assert session.xclient["ADDR"] == "2001:db8::1"
        assert session.xclient["PROTO"] == "ESMTP"
        assert session.xforward["IDENT"] == "17"
        assert (session.remote_address, session.remote_port) == ("2001:db8::1", 77)
        assert (session.local_address, session.local_port) == ("192.0.2.1", 25)
        assert session.client_hostname == "c.example"
        assert session.host_name_appears_as == "h.example"
        assert client.cmd("MAIL FROM:<>").startswith("503")


# The session


def session_of(server: SMTPServer) -> Any:
    [live] = server.connections
    return live.session


def test_fields_of_a_new_session() -> None:
    sessions = []

    def on_connect(session: Session) -> None:
        sessions.append(session)
        session.mine = {"anything": 1}  # type: ignore[attr-defined]
        assert session.opening_command is None
        assert session.host_name_appears_as is None

    with talking(on_connect=on_connect, hello=None) as client:
        [session] = sessions
        assert session is session_of(client.server)
        assert re.fullmatch(r"[a-z2-7]{16}", session.id.lower())
        assert (session.local_address, session.local_port) == client.server.address
        assert (session.remote_address, session.remote_port) == client.sock.getsockname()
        assert session.client_hostname == "[127.0.0.1]"
        assert session.secure is False
        assert session.tls is session.servername is session.user is None
        assert session.transaction == 1
        assert (session.xclient, session.xforward) == ({}, {})
        assert session.disabled_commands == frozenset()
        assert session.error is None
        assert session.envelope.mail_from is None
        assert session.envelope.rcpt_to == []
        client.ok("EHLO Me.EXAMPLE")
        assert session.opening_command == "EHLO"
        assert session.host_name_appears_as == "me.example"
        client.cmd("NONSENSE")
        assert (session.error.code, session.error.enhanced) == (500, "5.5.2")  # type: ignore[attr-defined]
        client.ok("NOOP")
        assert session.error.code == 500  # type: ignore[attr-defined]
        assert session.mine == {"anything": 1}


def test_error_is_the_last_refusal_however_it_came() -> None:
    closed: list[Any] = []
    with running(socket_timeout=0.1, on_close=closed.append) as server:
        Client(server).rest()
        poll(lambda: closed)
    assert (closed[0].error.code, closed[0].error.enhanced) == (421, "4.4.2")
    closed.clear()
    with talking(on_close=closed.append, hello=None) as client:
        client.server.stop()
        client.rest()
    assert closed[0].error is not None
    assert (closed[0].error.code, closed[0].error.enhanced) == (421, "4.3.2")


def test_transaction_counts_messages() -> None:
    seen = []

    def on_data(stream: MessageStream, session: Session) -> None:
        seen.append(session.transaction)
        if len(seen) == 2:
            raise Reject(550, "no")

    with talking(on_data=on_data) as client:
        client.message()
        client.message()
        client.message()
        client.ok("MAIL FROM:<>", "RSET")
        client.message()
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "expected",
    [
        *("SMTP", "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA"),
        *("UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA"),
        *("LMTP", "LMTPS", "LMTPA", "LMTPSA", "UTF8LMTPSA"),
    ],
)
def test_transmission_type(expected: str, certificate: Certificate) -> None:
    """RFC 3848 and RFC 6531: the session does what each letter stands for."""
    utf8, tls, auth = expected.startswith("UTF8"), "PS" in expected, expected.endswith("A")
    hello = "LHLO" if "LMTP" in expected else "HELO" if expected == "SMTP" else "EHLO"
    seen = []
    with talking(
        lmtp=hello == "LHLO",
        on_auth=lambda *args: "me",
        auth_optional=True,
        allow_insecure_auth=True,
        on_data=lambda stream, session: seen.append(
            (session.transmission_type, session.received_header("mx.test"))
        ),
        **certificate.options,
        hello=f"{hello} me",
    ) as client:
        if tls:
            client.starttls()
            client.ok(f"{hello} me")
        if auth:
            client.ok("AUTH PLAIN AG1lAHB3")
        client.ok(f"MAIL FROM:<a@example.org>{' SMTPUTF8' if utf8 else ''}")
        client.ok("RCPT TO:<b@example.com>", "DATA")
        client.send(b".\r\n")
        client.reply()
    [(kind, header)] = seen
    assert kind == expected
    assert f" with {expected}".encode() in header


def received(session: Session, **keywords: Any) -> str:
    header = session.received_header(**keywords)
    assert header.endswith(b"\r\n")
    assert b"\n" not in header.replace(b"\r\n", b"")
    assert all(len(line) <= 998 for line in header.split(b"\r\n"))
    parsed = message_from_bytes(header + b"\r\nbody\r\n", policy=policy.default)
    assert parsed.keys() == ["Received"]
    assert parsed.get_content().strip() == "body"
    assert not parsed.defects
    return " ".join(parsed["Received"].split())


def test_received_header_is_a_trace_line() -> None:
    with talking(hello="EHLO me.example") as client:
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
        line = received(session_of(client.server), by="mx.test", message_id="abc17")
    head, date = line.split("; ")
    assert head == (
        "from me.example ([127.0.0.1]) by mx.test with ESMTP id abc17 for <b@example.com>"
    )
    assert email.utils.parsedate_to_datetime(date) is not None


def test_received_header_with_tls_ipv6_and_a_name(certificate: Certificate) -> None:
    with talking(
        use_proxy=True,
        disable_reverse_lookup=False,
        resolver=SimpleNamespace(reverse=lambda ip: ["client.example"]),
        **certificate.options,
        greet=False,
    ) as client:
        client.send(b"PROXY TCP6 2001:DB8::7 2001:db8::25 1 25\r\n")
        client.reply()
        client.ok("EHLO me", "STARTTLS")
        client.start_tls()
        client.ok("EHLO me")
        line = received(session_of(client.server), by="mx.test")
    assert line.startswith("from me (client.example [IPv6:2001:db8::7]) by mx.test with ESMTPS ")
    assert client.tls.cipher()[0] in line  # type: ignore[index]


# Addresses


def mail(argument: str, **options: Any) -> tuple[Any, ...]:
    """The address and envelope that MAIL FROM: *argument* makes."""
    seen = []

    def on_mail_from(address: Address, session: Session) -> None:
        seen.append((address, session.envelope))

    with talking(on_mail_from=on_mail_from, **options) as client:
        client.ok(f"MAIL FROM:{argument}")
        assert session_of(client.server).envelope.mail_from is seen[0][0]
        assert session_of(client.server).envelope is seen[0][1]
    return seen[0]


def test_smtputf8_addresses() -> None:
    address, envelope = mail("<jürgen@bücher.example> SMTPUTF8")
    assert address.address == "jürgen@bücher.example"
    assert envelope.smtputf8 is True
    assert address.args == {"SMTPUTF8": True}


def test_args_have_upper_case_keywords_and_decoded_values() -> None:
    address, envelope = mail(
        "<a@example.org> size=17 Body=8bitmime AUTH=b+40example.org EnvId=q+2B+20x "
        "ret=hdrs smtputf8",
        extensions=DSN,
    )
    assert address.args == {
        "SIZE": "17",
        "BODY": "8bitmime",
        "AUTH": "b@example.org",
        "ENVID": "q+ x",
        "RET": "hdrs",
        "SMTPUTF8": True,
    }
    assert envelope.size == 17
    assert envelope.body_type == "8bitmime"
    assert envelope.smtputf8 is True
    assert envelope.auth == "b@example.org"
    assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "q+ x")
    assert envelope.require_tls is False


def test_defaults_of_the_envelope() -> None:
    _, envelope = mail("<a@example.org>")
    assert envelope.body_type == "7bit"
    assert (envelope.smtputf8, envelope.require_tls, envelope.size) == (False, False, None)
    assert envelope.auth is None
    assert (envelope.dsn.ret, envelope.dsn.envid) == (None, None)


def test_dsn_of_a_recipient() -> None:
    seen = []
    with talking(
        extensions=DSN, on_rcpt_to=lambda address, session: seen.append(address)
    ) as client:
        client.ok(
            "MAIL FROM:<>",
            "RCPT TO:<b@example.com> notify=success,FAILURE ORCPT=rfc822;b+2Bx@example.com",
            "RCPT TO:<c@example.com> NOTIFY=NEVER",
            "RCPT TO:<Postmaster>",
        )
        envelope = session_of(client.server).envelope
    assert envelope.rcpt_to == seen
    assert set(seen[0].dsn.notify) == {"SUCCESS", "FAILURE"}
    assert seen[0].dsn.orcpt == "rfc822;b+x@example.com"
    assert seen[0].args == {"NOTIFY": "success,FAILURE", "ORCPT": "rfc822;b+x@example.com"}
    assert tuple(seen[1].dsn.notify) == ("NEVER",)
    assert (seen[2].dsn.notify, seen[2].dsn.orcpt) == (None, None)
    assert seen[2].address == "Postmaster"


def test_after_helo_there_are_no_parameters() -> None:
    with talking(extensions=DSN, hello="HELO me") as client:
        assert client.cmd("MAIL FROM:<> SIZE=1").startswith("555")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<b@example.com> NOTIFY=NEVER").startswith("555")


@pytest.mark.parametrize("ending", ["RSET", "EHLO me", "HELO me", "message"])
def test_a_new_transaction_has_a_new_envelope(ending: str) -> None:
    with talking() as client:
        client.ok("MAIL FROM:<a@example.org> BODY=8BITMIME SIZE=7", "RCPT TO:<b@example.com>")
        before = session_of(client.server).envelope
        if ending == "message":
            client.ok("DATA")
            client.send(b".\r\n")
            client.reply()
        else:
            client.ok(ending)
        after = session_of(client.server).envelope
        assert after is not before
        assert (after.mail_from, after.rcpt_to, after.body_type) == (None, [], "7bit")
        assert before.mail_from.address == "a@example.org"
        client.ok("MAIL FROM:<c@example.org>")
        assert session_of(client.server).envelope.size is None


def test_proxy_is_in_the_session() -> None:
    with talking(use_proxy=["127.0.0.0/8"], greet=False) as client:
        client.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 77 25\r\n")
        assert client.reply().startswith("220")
        session = session_of(client.server)
        assert session.proxy is not None
        assert (session.remote_address, session.remote_port) == ("192.0.2.7", 77)
        assert (session.local_address, session.local_port) == ("192.0.2.1", 25)
    gevent.sleep(0)


@pytest.mark.parametrize("answer", [b"x\nx", b"x" * 13000, b"", b"*", b"!"])
def test_an_oauth_guess_counts_whatever_answers_its_challenge(answer: bytes) -> None:
    pauses = []
    with talking(
        on_auth=lambda auth, session: None, auth_methods=("XOAUTH2",), auth_optional=True
    ) as client:
        [live] = client.server.connections
        for _ in range(3):
            started = monotonic()
            assert client.cmd("AUTH XOAUTH2 " + xoauth2("bad")).startswith("334")
            pauses.append(monotonic() - started)
            client.send(answer + b"\r\n")
            assert client.reply()[0] == "5"
        assert live.limits.auth_failures == 3
        # The reply to each failure comes a little later than the one before.
        assert all(pause > 0.24 * number for number, pause in enumerate(pauses, 1))
        assert client.cmd("AUTH XOAUTH2 " + xoauth2("bad")).startswith("421 4.7.0")
        assert client.ended()
