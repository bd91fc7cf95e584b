"""RecipientStore: which store has a recipient, and what the client hears when one of them fails."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import pytest
from support import serve

from smtp_blinker import MessageStream, Reject, Session, SMTPServer
from smtp_blinker.session import Address
from smtp_blinker.stores import RecipientStore

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"


class Box:
    """A store that keeps what it is given, or fails as it is told."""

    def __init__(self, result: Any = "kept", failure: Any = None) -> None:
        self.result = result
        self.failure = failure
        self.messages: list[Any] = []

    def __call__(self, stream: MessageStream, session: Session) -> Any:
        content = stream.read()
        if self.failure is not None:
            raise self.failure
        recipients = [recipient.address for recipient in session.envelope.rcpt_to]
        self.messages.append((recipients, content))
        return self.result

    @property
    def recipients(self) -> Any:
        return [address for recipients, _ in self.messages for address in recipients]


def a_session(*recipients: Any, user: Any = None, opening_command: str = "EHLO") -> Any:
    session = Session(lmtp=opening_command == "LHLO")
    session.opening_command = opening_command
    session.user = user
    session.envelope.mail_from = Address("bob@example.net")
    session.envelope.rcpt_to = [Address(recipient) for recipient in recipients]
    return session


def hand_over(store: Any, *recipients: Any, content: Any = MESSAGE, **facts: Any) -> Any:
    return store(io.BytesIO(content), a_session(*recipients, **facts))


# Patterns


@pytest.mark.parametrize(
    ("patterns", "recipient", "chosen"),
    [
        (("@example.com", "ann@example.com", "*"), "ann@example.com", "ann@example.com"),
        (("*", "@example.com"), "eve@example.com", "@example.com"),
        (("*", "@example.com"), "eve@sub.example.com", "*"),
        (("user:sam", "@example.com"), "eve@example.com", "@example.com"),
        (("*", "user:sam"), "eve@elsewhere.example", "user:sam"),
        (("*", "user:eve"), "eve@elsewhere.example", "*"),
        # The case of a domain, and of a-z in a local part.
        (("Ann@Example.COM", "*"), "aNN@eXAMPLE.com", "Ann@Example.COM"),
        (("\u00c4nn@example.com", "*"), "\u00e4nn@example.com", "*"),
        # A-labels and U-labels are one domain.
        (("@xn--bcher-kva.example", "*"), "ann@b\u00fccher.example", "@xn--bcher-kva.example"),
        (("@B\u00dcCHER.example", "*"), "ann@b\u00fccher.example", "@B\u00dcCHER.example"),
        (("@stra\u00dfe.example", "*"), "ann@strasse.example", "*"),
        (("@[IPv6:2001:db8::1]", "*"), "ann@[IPv6:2001:db8::1]", "@[IPv6:2001:db8::1]"),
        # Quotes that a local part doesn't need are not a part of it; others are.
        (("ann.lee@example.com", "*"), '"ann.lee"@example.com', "ann.lee@example.com"),
        (("ann@example.com", "*"), '"a\\nn"@example.com', "ann@example.com"),
        (('"ann lee"@example.com', "*"), '"ann lee"@example.com', '"ann lee"@example.com'),
        (("ann@b@example.com", "@example.com"), '"ann@b"@example.com', "@example.com"),
        # RFC 5321 section 4.5.1
        (("postmaster", "@example.com"), "Postmaster", "postmaster"),
        (("postmaster", "@example.com"), "postmaster@example.com", "@example.com"),
        (("@example.com", "*"), "postmaster", "*"),
        # What only lenient parsing lets in is an address like any other.
        (("user:sam", "*"), "user:sam", "user:sam"),  # for he is the user
        (("user:eve", "*"), "user:eve", "*"),
        (("user:eve@example.com", "*"), "user:eve@example.com", "*"),
        (("@example.com", "*"), "a b@example.com", "@example.com"),
        (("@example.com", "*"), "@example.com", "@example.com"),
    ],
)
def test_the_most_precise_pattern_counts(
    patterns: tuple[str, str, str] | tuple[str, str], recipient: str, chosen: str
) -> None:
    boxes = {pattern: Box() for pattern in patterns}
    assert hand_over(RecipientStore(boxes), recipient, user="sam") == "kept"
    assert [pattern for pattern, box in boxes.items() if box.messages] == [chosen]


@pytest.mark.parametrize("recipient", ["postmaster", "eve@elsewhere.example", "user:sam", "*"])
@pytest.mark.parametrize("user", [None, "eve"])
def test_an_address_that_nothing_fits_is_refused(recipient: str, user: str | None) -> None:
    box = Box()
    store = RecipientStore({"@example.com": box, "user:sam": box})
    with pytest.raises(Reject) as caught:
        hand_over(store, "ann@example.com", recipient, user=user)
    assert (caught.value.code, caught.value.enhanced) == (550, "5.1.1")
    with pytest.raises(Reject):
        store.on_rcpt_to(Address(recipient), a_session(user=user))
    assert box.messages == []


@pytest.mark.parametrize(
    "pattern",
    ["", "ann", "ann@", "@", "user:", "*@example.com", "@*", "@*.example.com", "example.com"],
)
def test_a_wrong_pattern_is_a_value_error_that_says_which(pattern: str) -> None:
    with pytest.raises(ValueError, match="a pattern is") as caught:
        RecipientStore({pattern: Box()})
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("@example.com", "@EXAMPLE.com"),
        ("ann@example.com", "Ann@example.com"),
        ("@b\u00fccher.example", "@xn--bcher-kva.example"),
        ("postmaster", "Postmaster"),
    ],
)
def test_two_patterns_for_one_address_are_a_value_error(first: str, second: str) -> None:
    with pytest.raises(ValueError, match="same address or domain"):
        RecipientStore({first: Box(), second: Box()})


@pytest.mark.parametrize(
    ("stores", "error"),
    [
        ({}, ValueError),
        (None, TypeError),
        ([("*", print)], TypeError),
        ({"*": "Maildir"}, TypeError),
        ({3: print}, TypeError),
    ],
)
def test_what_is_no_mapping_of_patterns_to_stores_is_refused(stores: Any, error: Any) -> None:
    with pytest.raises(error, match=r"stores|callable|pattern"):
        RecipientStore(stores)


def test_the_inner_stores_are_known_each_once() -> None:
    one, other = Box(), Box()
    store = RecipientStore({"*": one, "user:ann": other, "@example.com": one})
    assert sorted(map(id, store.stores)) == sorted(map(id, (one, other)))


# Several stores


def test_each_store_sees_its_own_recipients_and_the_whole_message() -> None:
    one, other = Box("one"), Box("other")
    store = RecipientStore({"@one.example": one, "*": other})
    session = a_session("a@one.example", "b@two.example", "c@one.example")
    recipients = list(session.envelope.rcpt_to)
    assert store(io.BytesIO(MESSAGE), session) == "other"
    assert one.messages == [(["a@one.example", "c@one.example"], MESSAGE)]
    assert other.messages == [(["b@two.example"], MESSAGE)]
    # The session is the server's; only what the stores saw was another one.
    assert session.envelope.rcpt_to == recipients


def test_a_message_for_one_store_is_not_copied() -> None:
    seen = []
    store = RecipientStore({"@one.example": lambda *args: seen.append(args), "*": Box()})
    stream, session = io.BytesIO(MESSAGE), a_session("a@one.example", "b@one.example")
    store(stream, session)
    assert seen == [(stream, session)]


def test_a_failure_before_any_store_has_it_is_the_reply() -> None:
    first, second = Box(failure=Reject(550, "no", "5.7.1")), Box()
    store = RecipientStore({"@one.example": first, "*": second})
    with pytest.raises(Reject) as caught:
        hand_over(store, "a@one.example", "b@two.example")
    assert caught.value.code == 550
    assert second.messages == []


@pytest.mark.parametrize("code", [450, 550])
def test_a_refusal_after_another_store_took_it_is_451(code: int) -> None:
    first, second = Box(), Box(failure=Reject(code, "no"))
    store = RecipientStore({"@one.example": first, "*": second})
    with pytest.raises(Reject) as caught:
        hand_over(store, "a@one.example", "b@two.example")
    assert (caught.value.code, caught.value.enhanced) == (451, "4.3.0")
    assert first.recipients == ["a@one.example"]


def test_any_other_failure_goes_out_as_it_is() -> None:
    store = RecipientStore({"@one.example": Box(), "*": Box(failure=OSError("away"))})
    with pytest.raises(OSError, match="away"):
        hand_over(store, "a@one.example", "b@two.example")


@pytest.mark.parametrize("result", [False, 0, b"no", {}, "550 no", [None]])
def test_what_no_store_may_return_does_not_count_as_stored(result: Any) -> None:
    for boxes in (
        {"@one.example": Box(result), "*": Box()},
        {"*": Box(result), "@x.example": Box()},
    ):
        store = RecipientStore(boxes)
        with pytest.raises((TypeError, ValueError)):
            hand_over(store, "a@one.example", "b@two.example", "c@x.example")


def test_what_is_thrown_into_the_greenlet_goes_through() -> None:
    timeout = gevent.Timeout()
    store = RecipientStore({"@one.example": Box(failure=timeout), "*": Box()})
    for opening_command in ("EHLO", "LHLO"):
        with pytest.raises(gevent.Timeout):
            hand_over(store, "a@one.example", "b@x.example", opening_command=opening_command)


def temporary_files() -> Any:
    """What is open and has no name, of the folder of temporary files."""
    gc.collect()
    names = []
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return [name for name in names if name.startswith(tempfile.gettempdir())]


class Stream:
    """A message whose sender goes after some pieces."""

    def __init__(self, pieces: Any, failure: Any) -> None:
        self.pieces = pieces
        self.failure = failure

    def read(self, size: int = -1) -> bytes:
        if self.pieces == 0:
            raise self.failure
        self.pieces -= 1
        return b"x" * size


@pytest.mark.parametrize("pieces", [1, 40])  # in memory, in a file
@pytest.mark.parametrize("failure", [ConnectionAbortedError("gone"), Reject(552, "too large")])
def test_a_client_that_goes_leaves_nothing(
    pieces: int, failure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = Box(), Box()
    store = RecipientStore({"@one.example": one, "*": other})
    seen = []
    stream = Stream(pieces, failure)
    read = stream.read

    def watched(size: Any) -> Any:
        seen.append(len(temporary_files()))
        return read(size)

    stream.read = watched  # type: ignore[assignment, method-assign]
    with pytest.raises(type(failure)):
        store(stream, a_session("a@one.example", "b@two.example"))
    assert max(seen) == (pieces > 16)
    assert (one.messages, other.messages) == ([], [])
    assert list(tmp_path.iterdir()) == []
    with gevent.Timeout(15):
        while temporary_files():  # the file is closed in a thread
            gevent.sleep(0.01)


def test_a_full_disk_is_452(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_file(**keywords: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", no_file)
    store = RecipientStore({"@one.example": Box(), "*": Box()})
    with pytest.raises(Reject) as caught:
        hand_over(store, "a@one.example", "b@two.example", content=b"x" * 2**21)
    assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")
    assert "No space left" in caplog.text


# In a server


def test_two_stores_have_a_large_message_octet_by_octet() -> None:
    line = b"0123456789abcdef" * 4 + b"\r\n"
    content = line * (3 * 2**20 // len(line))
    digests = []

    def store(stream: MessageStream, session: Session) -> None:
        digest = hashlib.sha256()
        while piece := stream.read(100_000):
            digest.update(piece)
        digests.append((session.envelope.rcpt_to[0].address, digest.hexdigest()))

    store = RecipientStore({"@one.example": store, "*": lambda *args: store_other(*args)})

    def store_other(stream: MessageStream, session: Session) -> None:
        assert stream.seek(0, io.SEEK_END) == len(content)
        stream.seek(0)
        assert stream.readline() == line
        digests.append((session.envelope.rcpt_to[0].address, None))

    with serve(on_data=store) as served, served.hello() as client:
        send(client, content, "a@one.example", "b@two.example")
        assert client.reply().status == "250 2.0.0"
    assert digests == [
        ("a@one.example", hashlib.sha256(content).hexdigest()),
        ("b@two.example", None),
    ]


def send(client: Any, content: Any, *recipients: Any) -> None:
    assert client.cmd("MAIL FROM:<bob@example.net>").code == 250
    for recipient in recipients:
        assert client.cmd(f"RCPT TO:<{recipient}>").code == 250
    assert client.cmd("DATA").code == 354
    client.send(content + b".\r\n")


def test_with_lmtp_each_recipient_has_the_reply_of_its_store() -> None:
    many = Box(["first", Reject(550, "no", "5.7.1")])
    wrong = Box(["one"] * 3)
    broken = Box(failure=OSError("away"))
    refusing = Box(failure=Reject(452, "full", "4.2.2"))
    store = RecipientStore(
        {
            "@many.example": many,
            "@wrong.example": wrong,
            "@broken.example": broken,
            "@refusing.example": refusing,
            "@good.example": Box(),
        }
    )
    with serve(on_data=store, lmtp=True) as served, served.hello() as client:
        domains = ("many", "broken", "nobody", "good", "many", "refusing", "wrong")
        send(client, MESSAGE, *(f"ann@{domain}.example" for domain in domains))
        replies = [answer.status for answer in client.replies(len(domains))]
        assert replies == [
            "250 2.0.0",
            "451 4.3.0",
            "550 5.1.1",
            "250 2.0.0",
            "550 5.7.1",
            "452 4.2.2",
            "451 4.3.0",
        ]
        send(client, MESSAGE, "ann@nobody.example", "eve@nobody.example")
        assert [answer.status for answer in client.replies(2)] == ["550 5.1.1"] * 2
        faults = {str(event.error) for event in served.of("error")}
        assert "away" in faults
        assert any("3 results for 1 recipients" in fault for fault in faults)


class PolicyBox(Box):
    """A store that is a policy too."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.servers: list[Any] = []

    def attach(self, server: SMTPServer) -> None:
        self.servers.append(server)

    def on_mail_from(self, address: Address, session: Session) -> None:
        self.asked.append(address.address)
        if address.address == "mallory@example.net":
            raise Reject(451, "away", "4.3.0")

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        self.asked.append(address.address)
        if address.address.startswith("full@"):
            raise Reject(452, "full", "4.2.2")


def test_with_use_stores_are_asked_for_their_own_recipients_at_rcpt() -> None:
    policy = PolicyBox()
    store = RecipientStore({"@one.example": policy, "@two.example": Box()})
    with serve(on_data=store) as served, served.hello() as client:
        served.server.use(store)
        assert policy.servers == [served.server]
        assert client.cmd("MAIL FROM:<mallory@example.net>").code == 250
        assert client.cmd("RCPT TO:<ann@two.example>").code == 250
        assert policy.asked == []
        assert client.cmd("RCPT TO:<ann@one.example>").status == "451 4.3.0"
        assert client.cmd("RCPT TO:<ann@nobody.example>").status == "550 5.1.1"
        client.cmd("RSET")
        client.cmd("MAIL FROM:<bob@example.net>")
        assert client.cmd("RCPT TO:<full@one.example>").status == "452 4.2.2"
        assert client.cmd("RCPT TO:<ann@one.example>").code == 250
        assert policy.asked[1:] == [
            *("bob@example.net", "full@one.example"),
            *("bob@example.net", "ann@one.example"),
        ]


def test_without_use_an_unknown_address_is_refused_at_the_message() -> None:
    box = Box()
    with serve(on_data=RecipientStore({"@one.example": box})) as served, served.hello() as client:
        send(client, MESSAGE, "a@one.example", "b@two.example")
        assert client.reply().status == "550 5.1.1"
        send(client, MESSAGE, "a@one.example")
        assert client.reply().status == "250 2.0.0"
    assert box.messages == [(["a@one.example"], MESSAGE)]


def test_lenient_addresses_are_no_users() -> None:
    box, users = Box(), Box()
    store = RecipientStore({"user:ann@example.com": users, "@example.com": box})
    with (
        serve(on_data=store, lenient_address_parsing=True) as served,
        served.hello() as client,
    ):
        send(client, MESSAGE, "user:ann@example.com", "..@example.com")
        assert client.reply().code == 250
    assert (box.recipients, users.messages) == (["user:ann@example.com", "..@example.com"], [])


def test_an_lmtp_server_takes_no_ehlo() -> None:
    # What the store tells the two by.
    with serve(lmtp=True) as served, served.connect() as client:
        assert client.cmd("EHLO client.example").code == 500
