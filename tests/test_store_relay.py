"""RelayStore: the next hop has the message before our client hears 250."""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from support import Client, Witness, poll, raising, running, talking, witnessed

from smtp_blinker import DEFAULT_EXTENSIONS, Reject, SMTPServer
from smtp_blinker.stores import RelayStore
from smtp_blinker.stores.circuit import FAILURES
from smtp_blinker.stores.next_hop import GROUP


class Hop:
    """A server of ours as the next hop, and what it was told."""

    def __init__(self, **options: Any) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []
        self.envelopes: list[Any] = []
        self.connections: list[str] = []
        self.refuse: Callable[[str], None] = lambda address: None
        self.store: Callable[[Any, Any], Any] = lambda stream, session: None

        def on_rcpt_to(address: Any, session: Any) -> None:
            self.refuse(address.address)

        def on_data(stream: Any, session: Any) -> Any:
            content = stream.read()
            envelope = session.envelope
            result = self.store(stream, session)
            self.got.append(
                (envelope.mail_from.address, [one.address for one in envelope.rcpt_to], content)
            )
            self.envelopes.append(envelope)
            self.connections.append(session.id)
            return result

        self.options: dict[str, Any] = {
            "on_rcpt_to": on_rcpt_to,
            "on_data": on_data,
            "name": "hop.test",
            "extensions": DEFAULT_EXTENSIONS | {"DSN", "MT-PRIORITY"},
            **options,
        }

    @property
    def content(self) -> bytes:
        """The last message, without our Received field."""
        received, _, rest = self.got[-1][2].partition(b";")
        assert received.startswith(b"Received: from me ")
        return rest.partition(b"\r\n")[2].partition(b"\r\n")[2]


@contextmanager
def relaying(
    hop: Hop, scheme: str = "smtp", *, store: dict[str, Any] | None = None, **ours: Any
) -> Iterator[tuple[Client, SMTPServer]]:
    """A client of a server whose mail goes to *hop*."""
    with running(**hop.options) as next_hop:
        url = f"{scheme}://localhost:{next_hop.server_port}"
        made = RelayStore(url, name="mx.test", **(store or {}))
        ours.setdefault("extensions", DEFAULT_EXTENSIONS | {"DSN", "MT-PRIORITY"})
        with running(on_data=made, **ours, use=[made]) as server:
            hello = "LHLO me" if ours.get("lmtp") else "EHLO me"
            yield Client(server, hello=hello), server
        made.close()


def send(client: Client, content: bytes, *commands: str) -> str:
    client.ok(*(commands or ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")))
    assert client.cmd("DATA").startswith("354")
    client.send(content + b".\r\n")
    return client.reply()


@pytest.mark.parametrize("scheme", ["smtp", "lmtp"])
def test_the_next_hop_has_envelope_and_content(scheme: str) -> None:
    hop = Hop(lmtp=scheme == "lmtp")
    hop.store = lambda stream, session: "kept as 17"
    content = b"Subject: x\r\n\r\n..\r\n.a\r\n\r\n" + b"y" * 70_000 + b"\r\n.\r\n"
    with relaying(hop, scheme) as (client, _):
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        reply = send(
            client, stuffed, "MAIL FROM:<>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>"
        )
        assert reply == "250 2.0.0 relayed: kept as 17"
        assert hop.got[-1][:2] == ("", ["b@example.com", "c@example.com"])
        assert hop.content == content


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3 * 2**20])
@pytest.mark.parametrize("end", [b"\r\n", b"\r\n.\r\n", b"\r\n\r\n"])
def test_content_of_every_size_arrives_whole(size: int, end: bytes) -> None:
    hop = Hop()
    content = b"Subject: x\r\n\r\n" + b"\r\n.".join([b"z" * 60] * (size // 63 + 1)) + end
    with relaying(hop) as (client, _):
        assert send(client, content.replace(b"\r\n.", b"\r\n..")).startswith("250")
        assert hop.content == content


@pytest.mark.parametrize(
    ("content", "arrives"),
    [
        (b"a\nb\r\n", b"a\r\nb\r\n"),
        (b"a\rb\r\n", b"a\r\nb\r\n"),
        (b"a\n..\n\r\n", b"a\r\n..\r\n\r\n"),
        (b"a\n.\rMAIL FROM:<evil@example.org>\r\n", b"a\r\n.\r\nMAIL FROM:<evil@example.org>\r\n"),
    ],
)
def test_bare_newlines_can_not_end_the_content_at_the_next_hop(
    content: bytes, arrives: bytes
) -> None:
    hop = Hop()
    with relaying(hop, bare_newline="allow") as (client, _):
        head = b"Subject: x\r\n\r\n"
        assert send(client, head + content).startswith("250")
        assert hop.content == head + arrives
        assert len(hop.got) == 1


def test_a_first_line_that_is_no_field_does_not_continue_ours() -> None:
    hop = Hop()
    with relaying(hop) as (client, _):
        assert send(client, b" no field\r\n").startswith("250")
        assert hop.content == b"\r\n no field\r\n"


def test_parameters_are_passed_on() -> None:
    hop = Hop()
    with relaying(hop) as (client, _):
        send(
            client,
            b"Subject: \xc3\xa9\r\n\r\n",
            "MAIL FROM:<ä@bücher.example> SMTPUTF8 BODY=8BITMIME RET=HDRS ENVID=a+2Bb"
            " MT-PRIORITY=3",
            "RCPT TO:<b@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b+2B@example.com",
        )
        [envelope] = hop.envelopes
        assert envelope.mail_from.address == "ä@bücher.example"
        assert envelope.smtputf8
        assert envelope.body_type == "8bitmime"
        assert (envelope.dsn.ret, envelope.dsn.envid) == ("HDRS", "a+b")
        assert envelope.priority == 3
        [recipient] = envelope.rcpt_to
        assert recipient.dsn.notify == ("FAILURE", "DELAY")
        assert recipient.dsn.orcpt == "rfc822;b+@example.com"
        assert envelope.size is not None


@pytest.mark.parametrize(
    ("orcpt", "passed_on"),
    [
        ("utf-8;ö@example.com", r"utf-8;\x{F6}@example.com"),  # RFC 6533 section 3
        ("utf-8;+C3+B6+2Bx@example.com", r"utf-8;\x{F6}\x{2B}x@example.com"),
        (r"utf-8;\x{F6}@example.com", r"utf-8;\x{F6}@example.com"),
        ("rfc822;+C3+B6@example.com", "rfc822;ö@example.com"),  # as it came: Postfix sends such
    ],
)
def test_an_internationalized_original_recipient_is_passed_on(orcpt: str, passed_on: str) -> None:
    hop = Hop()
    with relaying(hop) as (client, _):
        rcpt = f"RCPT TO:<ö@example.com> ORCPT={orcpt}"
        reply = send(client, b"x\r\n", "MAIL FROM:<a@example.org> SMTPUTF8", rcpt)
        assert reply.startswith("250")
    assert hop.envelopes[0].rcpt_to[0].dsn.orcpt == passed_on


def test_without_smtputf8_a_domain_is_sent_as_a_labels() -> None:
    hop = Hop(extensions=DEFAULT_EXTENSIONS - {"SMTPUTF8"})
    with relaying(hop) as (client, _):
        reply = send(
            client, b"x\r\n", "MAIL FROM:<a@xn--bcher-kva.example>", "RCPT TO:<b@example.com>"
        )
        assert reply.startswith("250")
        assert hop.got[-1][0] == "a@bücher.example"


@pytest.mark.parametrize(
    ("lacks", "mail", "content", "reply"),
    [
        ("SMTPUTF8", "MAIL FROM:<ä@example.org> SMTPUTF8", b"x\r\n", "550 5.6.7"),
        ("8BITMIME", "MAIL FROM:<a@example.org> BODY=8BITMIME", b"\xc3\xa9\r\n", "554 5.6.3"),
        ("8BITMIME", "MAIL FROM:<a@example.org> BODY=8BITMIME", b"plain\r\n", "250 2.0.0"),
        ("DSN", "MAIL FROM:<a@example.org> RET=FULL", b"x\r\n", "250 2.0.0"),
    ],
)
def test_what_the_next_hop_lacks(lacks: str, mail: str, content: bytes, reply: str) -> None:
    gone = {lacks, "SMTPUTF8"} if lacks == "8BITMIME" else {lacks}
    hop = Hop(extensions=DEFAULT_EXTENSIONS - gone)
    with relaying(hop) as (client, _):
        assert send(client, content, mail, "RCPT TO:<b@example.com>").startswith(reply)
        assert len(hop.got) == (reply[0] == "2")


def refusing(*refusals: tuple[str, int, str]) -> Callable[[str], None]:
    def refuse(address: str) -> None:
        for name, code, enhanced in refusals:
            if address == name:
                raise Reject(code, f"no {name}", enhanced)

    return refuse


RECIPIENTS = ("RCPT TO:<a@example.com>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>")


@pytest.mark.parametrize(
    ("refusals", "reply"),
    [
        ([("b@example.com", 550, "5.1.1")], "550 5.1.1 no b@example.com"),
        ([("b@example.com", 550, "5.1.1"), ("c@example.com", 451, "4.7.1")], "451 4.7.1 no c@"),
        ([("b@example.com", 450, "4.2.1")], "450 4.2.1 no b@example.com"),
    ],
)
def test_where_one_recipient_is_refused_nothing_is_sent(refusals: Any, reply: str) -> None:
    hop = Hop()
    hop.refuse = refusing(*refusals)
    with relaying(hop) as (client, _):
        mail = ("MAIL FROM:<a@example.org>", *RECIPIENTS)
        assert send(client, b"x\r\n", *mail).startswith(reply)
        assert hop.got == []
        hop.refuse = refusing()
        assert send(client, b"x\r\n", *mail).startswith("250")
        assert len(hop.got) == 1


@pytest.mark.parametrize("scheme", ["smtp", "lmtp"])
def test_with_lmtp_each_recipient_has_its_own_reply(scheme: str) -> None:
    hop = Hop(lmtp=scheme == "lmtp")
    hop.refuse = refusing(("b@example.com", 550, "5.1.1"))
    with relaying(hop, scheme, lmtp=True) as (client, _):
        first = send(client, b"x\r\n", "MAIL FROM:<a@example.org>", *RECIPIENTS)
        replies = [first, client.reply(), client.reply()]
        assert [reply[:9] for reply in replies] == ["250 2.0.0", "550 5.1.1", "250 2.0.0"]
        assert hop.got[-1][1] == ["a@example.com", "c@example.com"]


def test_a_refusal_after_the_content_is_our_reply() -> None:
    hop = Hop()

    def refuse(stream: Any, session: Any) -> None:
        raise Reject(554, "looks like spam", "5.7.1")

    hop.store = refuse
    with relaying(hop) as (client, server):
        witness = Witness(server)
        for _ in range(FAILURES + 1):  # it is no failure of the next hop
            assert send(client, b"x\r\n") == "554 5.7.1 looks like spam"
        assert not witness.of("error")


def test_a_hop_that_refuses_for_now_is_not_away() -> None:
    hop = Hop()
    hop.refuse = refusing(("b@example.com", 451, "4.7.1"))
    with relaying(hop) as (client, _):
        for _ in range(FAILURES + 1):
            assert send(client, b"x\r\n").startswith("451 4.7.1 no b@")


def test_connections_are_used_again_and_a_dead_one_is_replaced() -> None:
    hop = Hop()
    with running(**hop.options) as next_hop:
        store = RelayStore(f"smtp://127.0.0.1:{next_hop.server_port}")
        with talking(on_data=store) as client:
            for _ in range(3):
                assert send(client, b"x\r\n").startswith("250")
            assert len(set(hop.connections)) == 1
            next_hop.stop(timeout=0)
            next_hop.start()
            assert send(client, b"x\r\n").startswith("250")
            assert len(set(hop.connections)) == 2


def test_a_hop_that_takes_so_many_messages_on_a_connection_has_another_one() -> None:
    hop = Hop(max_messages=2)
    with relaying(hop) as (client, _):
        for number in range(5):
            assert send(client, b"%d\r\n" % number).startswith("250 "), hop.got
    assert [content[-3:] for _, _, content in hop.got] == [b"%d\r\n" % n for n in range(5)]
    assert [hop.connections.count(one) for one in dict.fromkeys(hop.connections)] == [2, 2, 1]


def test_a_hop_that_ends_new_connections_too_is_451() -> None:
    hop = Hop(on_mail_from=raising(Reject(421, "too busy", "4.3.2")))
    with relaying(hop) as (client, _):
        assert send(client, b"x\r\n").startswith("451 4.3")


PIPELINING = ["EHLO", "MAIL RCPT RCPT", "DATA", "."]
ONE_BY_ONE = ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "."]


@contextmanager
def scripted_hop(hello: bytes, replies: dict[str, bytes]) -> Iterator[tuple[RelayStore, list[str]]]:
    """A store whose next hop says *hello* to EHLO, and *replies* by verb, otherwise 250.

    Also the verbs that it got, in a line those that came before it answered.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    heard: list[str] = []

    def talk(sock: Any) -> None:
        sock.sendall(b"220 hop\r\n")
        is_content = False
        while octets := sock.recv(1_000_000):
            while is_content and not octets.endswith(b"\r\n.\r\n"):
                octets += sock.recv(1_000_000)
            verbs = (
                ["."] if is_content else [line[:4].upper() for line in octets.decode().splitlines()]
            )
            is_content = verbs == ["DATA"]
            heard.append(" ".join(verbs))
            answers = {"EHLO": hello, "DATA": b"354 go on\r\n"} | replies
            sock.sendall(b"".join(answers.get(verb, b"250 ok\r\n") for verb in verbs))
            if any(answers.get(verb, b"").startswith(b"421") for verb in verbs):
                break
        sock.close()

    def serve() -> None:
        while True:
            gevent.spawn(talk, listener.accept()[0])

    greenlet = gevent.spawn(serve)
    store = RelayStore(f"smtp://127.0.0.1:{listener.getsockname()[1]}", timeout=30)
    try:
        yield store, heard
    finally:
        store.close()
        greenlet.kill()
        listener.close()


TWO = ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>")


@pytest.mark.parametrize(
    ("hello", "heard"),
    [(b"250-hop\r\n250 PIPELINING\r\n", PIPELINING), (b"250 hop\r\n", ONE_BY_ONE)],
    ids=["with PIPELINING", "without"],
)
def test_the_envelope_is_one_group_where_the_next_hop_has_pipelining(
    hello: bytes, heard: list[str]
) -> None:
    with scripted_hop(hello, {}) as (store, told), talking(on_data=store) as client:
        assert send(client, b"x\r\n", *TWO).startswith("250")
        assert told == heard


@pytest.mark.parametrize(
    ("hello", "heard"),
    [
        (b"250-hop\r\n250 PIPELINING\r\n", ["MAIL RCPT RCPT", "RSET"]),
        (b"250 hop\r\n", ["MAIL", "RSET"]),
    ],
    ids=["with PIPELINING", "without"],
)
def test_where_the_sender_is_refused_the_next_message_is_accepted(
    hello: bytes, heard: list[str]
) -> None:
    """The replies to the rest of the group are not those of the next message."""
    replies = {"MAIL": b"550 5.1.8 not you\r\n", "RCPT": b"503 5.5.1 no MAIL\r\n"}
    with scripted_hop(hello, replies) as (store, told), talking(on_data=store) as client:
        assert send(client, b"x\r\n", *TWO) == "550 5.1.8 not you"
        assert told[1:] == heard
        replies.clear()
        assert send(client, b"x\r\n", *TWO) == "250 2.0.0 relayed: ok"


@pytest.mark.parametrize("hello", [b"250-hop\r\n250 PIPELINING\r\n", b"250 hop\r\n"])
def test_a_hop_that_leaves_between_recipients_is_451(hello: bytes) -> None:
    replies = {"RCPT": b"421 4.3.2 bye\r\n"}
    with scripted_hop(hello, replies) as (store, _), talking(on_data=store) as client:
        assert send(client, b"x\r\n", *TWO).startswith("451 4.3")


@pytest.mark.parametrize("extensions", [DEFAULT_EXTENSIONS, DEFAULT_EXTENSIONS - {"PIPELINING"}])
def test_each_of_many_recipients_has_its_own_reply(extensions: set[str]) -> None:
    """More than go in one group."""
    hop = Hop(extensions=extensions)
    hop.refuse = refusing(("b77@example.com", 550, "5.1.1"), ("b201@example.com", 450, "4.2.2"))
    recipients = [f"b{number}@example.com" for number in range(2 * GROUP + 30)]
    with relaying(hop, lmtp=True) as (client, _):
        client.ok("MAIL FROM:<a@example.org>", *(f"RCPT TO:<{one}>" for one in recipients))
        assert client.cmd("DATA").startswith("354")
        client.send(b"x\r\n.\r\n")
        for one in recipients:
            expected = {"b77@example.com": "550 5.1.1", "b201@example.com": "450 4.2.2"}
            assert client.reply().startswith(expected.get(one, "250 "))
        [(_, arrived, _)] = hop.got
        assert arrived == [one for one in recipients if one.split("@")[0] not in {"b77", "b201"}]


@pytest.mark.parametrize("when", ["greeting", "mail", "content"])
def test_a_next_hop_that_is_silent_is_given_up(when: str) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    kept = []

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            kept.append(sock)
            if when == "greeting":
                continue
            sock.sendall(b"220 hop\r\n")
            sock.recv(1000)
            sock.sendall(b"250 hop\r\n")
            if when == "mail":
                continue
            for reply in (b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
                sock.recv(1000)
                sock.sendall(reply)

    greenlet = gevent.spawn(serve)
    try:
        store = RelayStore(f"smtp://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
        with witnessed(on_data=store, use=[store]) as client:
            for _ in range(FAILURES):
                assert send(client, b"x\r\n").startswith("451 4.3.0")
            assert "within 0.3 s" in str(client.witness.of("error")[0].error)
            assert client.cmd("MAIL FROM:<a@example.org>").startswith("451 4.3.0")
    finally:
        greenlet.kill()
        listener.close()


@pytest.mark.parametrize("scheme", ["smtp", "smtps", "lmtp"])
def test_a_next_hop_that_stops_reading_is_given_up(
    scheme: str, tmp_path: Any, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing more fits into the socket, not even a QUIT."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_certs))
    never = Event()
    hop = Hop(on_data=lambda stream, session: never.wait(), lmtp=scheme == "lmtp")
    if scheme == "smtps":
        hop.options |= {"secure": True, **certificate.options}
    listener = {"lmtp": f"unix:{tmp_path}/lmtp"}.get(scheme, ("127.0.0.1", 0))
    with running(listener, **hop.options) as next_hop:
        where = f"{tmp_path}/lmtp" if scheme == "lmtp" else f"localhost:{next_hop.server_port}"
        store = RelayStore(f"{scheme}://{where}", timeout=0.5)
        with witnessed(on_data=store) as client:
            assert send(client, b"x\r\n" * 3_000_000).startswith("451 4.3.0")
            assert "within 0.5 s" in str(client.witness.one("error").error)
        never.set()


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [(b"554 go away\r\n", smtplib.SMTPConnectError), (b"", smtplib.SMTPServerDisconnected)],
)
def test_a_next_hop_that_is_not_ready_bounces_no_mail(
    greeting: bytes, kind: type[Exception]
) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(5)

    def serve() -> None:
        while True:
            sock, _ = listener.accept()
            sock.sendall(greeting)
            sock.close()

    greenlet = gevent.spawn(serve)
    try:
        store = RelayStore(f"smtp://127.0.0.1:{listener.getsockname()[1]}")
        with running(on_data=store) as server:
            witness = Witness(server)
            assert send(Client(server, hello="EHLO me"), b"x\r\n").startswith("451 4.3.0")
            assert isinstance(witness.one("error").error, (kind, ConnectionError))
    finally:
        greenlet.kill()
        listener.close()


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_tls_is_used_and_verified(
    scheme: str, certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = Hop(secure=scheme == "smtps", **certificate.options)
    secure: list[bool] = []
    hop.store = lambda stream, session: secure.append(session.secure)
    store = None if scheme == "smtps" else {"starttls": True}
    with relaying(hop, scheme, store=store) as (client, server):
        witness = Witness(server)
        assert send(client, b"x\r\n").startswith("451 4.3.0")
        assert "CERTIFICATE_VERIFY_FAILED" in str(witness.one("error").error)
        assert hop.got == []
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_certs))
    with relaying(hop, scheme, store=store) as (client, _):
        assert send(client, b"x\r\n").startswith("250")
    assert secure == [True]


def test_starttls_that_is_demanded_and_not_offered_sends_nothing() -> None:
    hop = Hop()
    with relaying(hop, store={"starttls": True}) as (client, server):
        witness = Witness(server)
        assert send(client, b"x\r\n").startswith("451 4.3.0")
        assert "offers no STARTTLS" in str(witness.one("error").error)
        assert hop.got == []


def test_a_password_is_sent_to_the_next_hop() -> None:
    users: list[tuple[str, str]] = []

    def on_auth(auth: Any, session: Any) -> str:
        users.append((auth.username, auth.password))
        return "ann"

    hop = Hop(on_auth=on_auth, allow_insecure_auth=True)
    with running(**hop.options) as next_hop:
        store = RelayStore(f"smtp://ann:s%40crate@localhost:{next_hop.server_port}")
        with running(on_data=store) as server:
            assert send(Client(server, hello="EHLO me"), b"x\r\n").startswith("250")
    assert users == [("ann", "s@crate")]


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_a_password_in_utf_8_is_sent_to_the_next_hop(method: str) -> None:
    users: list[str] = []

    def on_auth(auth: Any, session: Any) -> bool:
        users.append(auth.username)
        return bool(auth.validate_password("pässwörd"))

    hop = Hop(on_auth=on_auth, allow_insecure_auth=True, auth_methods=(method,))
    with running(**hop.options) as next_hop:
        user = "j%C3%BCrgen:p%C3%A4ssw%C3%B6rd"
        store = RelayStore(f"smtp://{user}@localhost:{next_hop.server_port}")
        with running(on_data=store) as server:
            assert send(Client(server, hello="EHLO me"), b"x\r\n").startswith("250")
    assert users == ["jürgen"]


def test_a_near_hop_that_offers_auth_with_tls_only_has_tls(
    certificate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    secure: list[bool] = []

    def on_auth(auth: Any, session: Any) -> str:
        secure.append(session.secure)
        return "ann"

    hop = Hop(on_auth=on_auth, **certificate.options)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_certs))
    with running(**hop.options) as next_hop:
        store = RelayStore(f"smtp://ann:secret@localhost:{next_hop.server_port}")
        with running(on_data=store) as server:
            assert send(Client(server, hello="EHLO me"), b"x\r\n").startswith("250")
    assert secure == [True]


def test_a_hop_that_speaks_smtp_gets_nothing_by_lmtp() -> None:
    """It would take the message with one reply for all recipients: a 250 that is never heard."""
    hop = Hop()
    with running(**hop.options) as next_hop:
        store = RelayStore(f"lmtp://localhost:{next_hop.server_port}", timeout=5)
        with witnessed(on_data=store) as client:
            to_two = ("MAIL FROM:<a@example.org>", "RCPT TO:<b@c.test>", "RCPT TO:<d@c.test>")
            assert send(client, b"x\r\n", *to_two).startswith("451 4.3.0")
            assert "doesn't speak LMTP" in str(client.witness.one("error").error)
    assert hop.got == []


def test_a_unix_socket(tmp_path: Any) -> None:
    hop = Hop(lmtp=True)
    with running(f"unix:{tmp_path}/lmtp", **hop.options):
        store = RelayStore(f"lmtp://{tmp_path}/lmtp")
        with running(on_data=store) as server:
            assert send(Client(server, hello="EHLO me"), b"x\r\n").startswith("250")
    assert len(hop.got) == 1


def test_a_client_that_leaves_has_sent_nothing() -> None:
    hop = Hop()
    with relaying(hop) as (client, server):
        client.begin()
        client.send(b"half a mess")
        client.sock.close()
        poll(lambda: not server.connections)
    assert hop.got == []


@pytest.mark.parametrize(
    ("url", "options", "kind"),
    [
        ("http://host", {}, ValueError),
        ("smtp://", {}, ValueError),
        ("smtp://host:x", {}, ValueError),
        ("smtp://host/path", {}, ValueError),
        ("smtp://host?x=1", {}, ValueError),
        ("lmtp://", {}, ValueError),
        ("host", {}, ValueError),
        ("smtps://host", {"starttls": True}, ValueError),
        ("smtp://host", {"timeout": 0}, ValueError),
        (25, {}, TypeError),
        ("smtp://host", {"timeout": True}, TypeError),
    ],
)
def test_a_wrong_argument_is_told(url: Any, options: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        RelayStore(url, **options)


@pytest.mark.parametrize("hops", [1, 2])
def test_a_message_that_comes_back_is_a_loop(hops: int) -> None:
    """Each pass needs a connection, so it would wait for one until the timeout."""
    stores: list[RelayStore] = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                running(on_data=lambda stream, session, n=n: stores[n](stream, session))
            )
            for n in range(hops)
        ]
        for n in range(hops):
            port = servers[(n + 1) % hops].server_port
            stores.append(RelayStore(f"smtp://127.0.0.1:{port}", name="mx.test", timeout=20))
            stack.callback(stores[-1].close)
        client = Client(servers[0], hello="EHLO me")
        assert send(client, b"Subject: x\r\n\r\nx\r\n").startswith("554 5.4.6")
        # The same message isn't one where it comes again.
        assert send(client, b"Subject: x\r\n\r\nx\r\n").startswith("554 5.4.6")
        end = stack.enter_context(running())
        stores[-1] = RelayStore(f"smtp://127.0.0.1:{end.server_port}")
        stack.callback(stores[-1].close)
        assert send(client, b"Subject: x\r\n\r\nx\r\n").startswith("250")
