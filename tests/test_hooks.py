"""What the program decides, and what becomes of its faults."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import traceback
import weakref
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event
from support import (
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

from smtp_blinker import (
    Address,
    AuthenticationFailed,
    MessageStream,
    Reject,
    Session,
    SMTPServer,
    signals,
)
from smtp_blinker.hooks import NAMES

LOCAL_ERROR = "451 4.3.0 "


def keyword(name: str, value: object) -> dict[str, Any]:
    """For options whose name only the run knows."""
    return {name: value}


# Registering


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_is_given_as_a_keyword_or_with_the_decorator_of_its_name(name: Any) -> None:
    def hook(*args: Any) -> None:
        """Nothing."""

    assert getattr(SMTPServer(("127.0.0.1", 0), **keyword(name, hook)).hooks, name) is hook
    server = SMTPServer(("127.0.0.1", 0))
    assert getattr(server, name)(hook) is hook
    assert getattr(server.hooks, name) is hook


def test_a_subclass_has_its_hooks_as_methods() -> None:
    class Server(SMTPServer):
        def on_rcpt_to(self, address: Address, session: Session) -> None:  # type: ignore[override]
            raise Reject(550, f"not at {self.options.name}")

        @staticmethod
        def on_mail_from(address: Address, session: Session) -> None:  # type: ignore[override]
            session.sender_seen = True  # type: ignore[attr-defined]

        def on_data(self, stream: MessageStream, session: Session) -> None:  # type: ignore[override]
            raise AssertionError("the keyword counts")

    def store(stream: MessageStream, session: Session) -> str:
        return f"queued, {session.sender_seen}"  # type: ignore[attr-defined]

    server = Server(("127.0.0.1", 0), name="mx.test", on_data=store)
    server.on_close(lambda session: None)  # the others are decorators still
    server.start()
    try:
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<a@example.com>") == "550 5.7.1 not at mx.test"
        server.hooks.on_rcpt_to = None
        client.ok("RSET")
        assert client.message() == "250 2.0.0 queued, True"
    finally:
        server.stop(timeout=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_hook_that_cannot_be_called_is_a_type_error(name: Any) -> None:
    with pytest.raises(TypeError, match=name):
        SMTPServer(("127.0.0.1", 0), **keyword(name, "no"))
    with pytest.raises(TypeError, match=name):
        getattr(SMTPServer(("127.0.0.1", 0)), name)(1)


async def coroutine(*args: Any) -> None:
    raise Reject(550, "nobody awaits it")


def generator(*args: Any) -> Iterator[None]:
    raise Reject(550, "nobody iterates over it")
    yield


async def asynchronous_generator(*args: Any) -> AsyncIterator[None]:
    raise Reject(550, "neither")
    yield


class Awaitable:
    async def __call__(self, *args: Any) -> None:
        raise Reject(550, "nobody awaits it")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "hook",
    [
        coroutine,
        generator,
        asynchronous_generator,
        Awaitable(),
        Awaitable().__call__,
        functools.partial(coroutine),
        functools.partial(Awaitable()),
    ],
    ids=lambda hook: type(hook).__name__ + getattr(hook, "__name__", ""),
)
def test_a_hook_that_a_call_would_not_run_is_a_type_error(name: Any, hook: Any) -> None:
    with pytest.raises(TypeError, match=name):
        SMTPServer(("127.0.0.1", 0), **keyword(name, hook))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "late",
    [
        coroutine,
        generator,
        asynchronous_generator,
        lambda *args: gevent.spawn(lambda: None),
        lambda *args: AsyncResult(),
        lambda *args: Future(),
        lambda *args: map(str, args),
        lambda *args: filter(None, args),
    ],
)
def test_a_hook_that_returns_what_did_not_run_has_accepted_nothing(late: Any) -> None:
    hook = lambda *args: late(*args)  # noqa: E731
    with witnessed(on_auth=hook, auth_optional=True) as client:
        assert client.cmd("AUTH PLAIN AG1lAHB3").startswith(LOCAL_ERROR)
        assert [event.success for event in client.witness.of("auth")] == [False]
        assert client.witness.one("error").code == "HookError"
    for name in ("on_mail_from", "on_rcpt_to", "on_data"):
        with talking(**keyword(name, hook)) as client:
            assert say(client, name).startswith(LOCAL_ERROR)
            client.ok("NOOP")
    gc.collect()


def test_each_hook_is_called_at_its_moment_with_its_arguments(certificate: Certificate) -> None:
    calls = []

    def note(name: Any, result: Any = None) -> Any:
        def hook(*args: Any) -> Any:
            calls.append((name, *args))
            if name == "on_data":
                calls.append(args[0].read())
            return result

        return hook

    hooks = {name: note(name, "user" if name == "on_auth" else None) for name in NAMES}
    with talking(**hooks, **certificate.options, greet=False) as client:
        client.reply()
        assert [call[0] for call in calls] == ["on_connect"]
        client.ok("EHLO me", "STARTTLS")
        assert len(calls) == 1
        client.start_tls()
        client.ok("EHLO me", "AUTH PLAIN AG1lAHB3")
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>")
        client.ok("DATA")
        client.send(b"content\r\n.\r\n")
        assert client.reply().startswith("250")
        client.ok("QUIT")
        assert client.ended()
        poll(lambda: not client.server.connections)
    session = calls[0][1]
    connected, secured, authed, mail, rcpt, rcpt2, data, content, closed = calls
    assert connected == ("on_connect", session)
    assert secured == ("on_secure", session)
    assert authed[0] == "on_auth"
    assert (authed[1].method, authed[1].username, authed[2]) == ("PLAIN", "me", session)
    assert (mail[0], mail[1].address, mail[2]) == ("on_mail_from", "a@example.org", session)
    assert (rcpt[0], rcpt[1].address, rcpt[2]) == ("on_rcpt_to", "b@example.com", session)
    assert rcpt2[1].address == "c@example.com"
    assert data[0] == "on_data"
    assert data[2] is session
    assert content == b"content\r\n"  # type: ignore[comparison-overlap]
    assert closed == ("on_close", session)


# Reject and faults


def say(client: Client, hook: str) -> str:
    """Lead *client*, which has said EHLO, to *hook*; the reply."""
    if hook == "on_auth":
        return client.cmd("AUTH PLAIN AG1lAHB3")
    if hook == "on_mail_from":
        return client.cmd("MAIL FROM:<a@example.org>")
    client.ok("MAIL FROM:<a@example.org>")
    if hook == "on_rcpt_to":
        return client.cmd("RCPT TO:<b@example.com>")
    client.ok("RCPT TO:<b@example.com>", "DATA")
    client.send(b"one\r\n.\r\n")
    return client.reply()


ANSWERED = ["on_auth", "on_mail_from", "on_rcpt_to", "on_data"]


@pytest.mark.parametrize("hook", ANSWERED)
@pytest.mark.parametrize(
    ("reject", "reply"),
    [
        (Reject(550, "no such thing", enhanced="5.7.1"), "550 5.7.1 no such thing"),
        (Reject(450, "later", "4.7.25"), "450 4.7.25 later"),
        (Reject(599, "odd", "5.99.999"), "599 5.99.999 odd"),
    ],
)
def test_reject_gives_exactly_its_reply(hook: Any, reject: Any, reply: str) -> None:
    with witnessed(auth_optional=True, **{hook: raising(reject)}) as client:
        assert say(client, hook) == reply
        assert client.session.error.code == reject.code  # type: ignore[union-attr]
        assert client.cmd("NOOP").startswith("250")
        assert not client.witness.of("error")


def test_reject_with_421_ends_the_connection() -> None:
    with witnessed(on_rcpt_to=raising(Reject(421, "go away", "4.7.0"))) as client:
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<b@example.com>") == "421 4.7.0 go away"
        assert client.ended()
        assert client.witness.one("disconnect").reason == "refused"


def test_an_exception_that_has_no_text_is_451_as_any_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with talking(on_rcpt_to=raising(Mute)) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>").startswith(LOCAL_ERROR)
        client.ok("NOOP")
    assert "HookError" in caplog.text


def test_the_traceback_of_a_fault_names_the_hook_s_line() -> None:
    def on_mail_from(address: Address, session: Session) -> None:
        raise ZeroDivisionError

    with running(on_mail_from=on_mail_from) as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").cmd("MAIL FROM:<>")
        traceback = witness.one("error").error.__traceback__
        names = []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        assert names[-1] == "on_mail_from"


def test_a_refused_sender_leaves_no_transaction() -> None:
    with talking(on_mail_from=raising(Reject(550, "no"))) as client:
        assert client.cmd("MAIL FROM:<a@example.org> BODY=8BITMIME SMTPUTF8 SIZE=5")[:3] == "550"
        left = client.session.envelope
        assert (left.mail_from, left.size) == (None, None)
        assert (left.body_type, left.smtputf8) == ("7bit", False)
        assert client.cmd("RCPT TO:<b@example.com>").startswith("503")
        client.server.hooks.on_mail_from = None
        assert client.cmd("MAIL FROM:<a@example.org> SMTPUTF8 BODY=x").startswith("501")
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<\xe9@example.com>").status == "553 5.6.7"


def test_a_refused_recipient_is_not_in_the_envelope() -> None:
    def on_rcpt_to(address: Address, session: Session) -> None:
        if address.address.startswith("bad"):
            raise Reject(550, "no", "5.1.1")

    envelopes = []
    with talking(
        on_rcpt_to=on_rcpt_to, on_data=lambda stream, session: envelopes.append(session.envelope)
    ) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<bad@example.com>") == "550 5.1.1 no"
        assert client.cmd("DATA").startswith("503")
        client.ok("RCPT TO:<good@example.com>")
        assert client.cmd("RCPT TO:<bad@example.com>").startswith("550")
        client.ok("DATA")
        client.send(b".\r\n")
        assert client.reply().startswith("250")
    assert [one.address for one in envelopes[0].rcpt_to] == ["good@example.com"]


# on_connect, on_secure, on_auth


def test_on_connect_refuses_with_its_reply_and_the_connection_ends() -> None:
    closed: list[Any] = []
    with witnessed(
        on_connect=raising(Reject(554, "not you", "5.7.1")), on_close=closed.append, greet=False
    ) as client:
        assert client.reply() == "554 5.7.1 not you"
        assert client.ended()
        assert client.witness.one("disconnect").reason == "refused"
        assert client.witness.names == ["refused", "disconnect"]
        assert [session.error.code for session in closed] == [554]


def test_a_reject_of_on_connect_s_is_554_where_it_says_nothing_else() -> None:
    with talking(on_connect=raising(Reject), hello=None) as client:
        assert client.greeting == "554 5.7.1 Transaction failed"
        assert client.ended()


def test_on_connect_comes_before_the_greeting() -> None:
    hold = Event()
    with talking(on_connect=lambda session: hold.wait() and None, greet=False) as client:
        assert client.silent()
        assert Client(client.server, greet=False).silent()
        hold.set()
        assert client.reply().startswith("220")


def test_on_secure_knows_the_name_and_the_tls(certificate: Certificate) -> None:
    seen: list[Any] = []

    def on_secure(session: Session) -> None:
        seen.append((session.servername, session.tls, session.secure))

    with talking(on_secure=on_secure, **certificate.options) as client:
        client.ok("STARTTLS")
        assert not seen
        tls = client.start_tls(name="MX.example.COM")
        client.ok("NOOP")
    [(servername, info, secure)] = seen
    assert servername == "mx.example.com"
    assert info.version == tls.version()
    assert info.cipher[0] == tls.cipher()[0]  # type: ignore[index]
    assert info.peer_certificate is None
    assert secure is True


def test_on_secure_meets_a_session_that_knows_nothing_of_before_tls(
    certificate: Certificate,
) -> None:
    seen: list[Any] = []

    def on_secure(session: Session) -> None:
        seen.append((session.opening_command, session.host_name_appears_as, session.user))
        session.user = "by certificate"

    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    with talking(
        **files, on_secure=on_secure, on_auth=lambda auth, session: "in clear",
        allow_insecure_auth=True, hello="EHLO in-clear",
    ) as client:  # fmt: skip
        client.ok("AUTH PLAIN AG1lAHB3", "STARTTLS")
        client.start_tls()
        client.ok("EHLO me", "MAIL FROM:<>")
        assert seen == [(None, None, None)]
        assert client.session.user == "by certificate"


@pytest.mark.parametrize("implicit", [False, True])
def test_on_secure_may_refuse(implicit: bool, certificate: Certificate) -> None:
    with witnessed(
        secure=implicit,
        on_secure=raising(Reject(554, "not with this", "5.7.0")),
        **certificate.options,
        greet=not implicit,
        hello=None,
    ) as client:
        if not implicit:
            client.ok("STARTTLS")
        client.start_tls()
        client.send(b"NOOP\r\n")
        assert client.reply() == "554 5.7.0 not with this"
        assert client.ended()
        assert client.witness.one("disconnect").reason == "refused"


@pytest.mark.parametrize("user", ["me", {"id": 1}, True, 7])
def test_on_auth_returns_the_user(user: bool | dict[str, Any] | int | str) -> None:
    with talking(on_auth=lambda auth, session: user) as client:
        assert client.cmd("AUTH PLAIN AG1lAHB3").startswith("235 2.7.0")
        assert client.session.user is user


@pytest.mark.parametrize("user", [None, False, "", 0, {}])
def test_a_false_value_of_on_auth_is_535(user: Any) -> None:
    with talking(on_auth=lambda auth, session: user) as client:
        assert client.cmd("AUTH PLAIN AG1lAHB3").startswith("535 5.7.8")
        assert client.session.user is None


# on_close


@pytest.mark.parametrize(
    "end", ["quit", "eof", "reset", "content", "refused", "timeout", "tls", "kill"]
)
def test_on_close_runs_once_however_the_connection_ended(
    end: str, certificate: Certificate
) -> None:
    closed: list[Any] = []
    options: dict[str, Any] = {}
    if end == "refused":
        options["on_connect"] = raising(Reject(554, "no"))
    if end == "timeout":
        options["socket_timeout"] = 0.05
    if end == "tls":
        options = {"secure": True, **certificate.options}
    with talking(
        on_close=closed.append, **options, greet=end not in ("refused", "tls"), hello=None
    ) as client:
        if end == "quit":
            client.ok("QUIT")
        elif end == "eof":
            client.close()
        elif end == "reset":
            client.reset()
        elif end == "content":
            client.ok("EHLO me")
            client.begin()
            client.close()
        elif end == "tls":
            client.send(b"this is no handshake\r\n")
        elif end == "kill":
            [connection] = client.server.connections
            gevent.kill(connection.greenlet)
        poll(lambda: closed)
        poll(lambda: not client.server.connections)
        client.close()
        assert len(closed) == 1


def test_on_close_sees_the_session_as_it_ended() -> None:
    closed: list[Any] = []
    with talking(on_close=closed.append) as client:
        assert client.message().startswith("250")
        client.cmd("NONSENSE")
        client.ok("QUIT")
        poll(lambda: closed)
        assert closed[0].transaction == 2
        assert closed[0].error.code == 500
        assert closed[0].host_name_appears_as == "me"


# hook_timeout


def test_a_hook_that_catches_exceptions_does_not_catch_its_timeout() -> None:
    def on_mail_from(address: Address, session: Session) -> None:
        try:
            gevent.sleep(3600)
        except Exception:
            return

    with running(hook_timeout=0.05, on_mail_from=on_mail_from) as server:
        witness = Witness(server)
        assert Client(server, hello="EHLO me").cmd("MAIL FROM:<>").startswith(LOCAL_ERROR)
        assert witness.one("error").code == "HookTimeout"


def test_waiting_for_a_slow_client_is_not_the_hook_s_time() -> None:
    with talking(
        hook_timeout=0.3, on_data=lambda stream, session: stream.read() and None
    ) as client:
        client.begin()
        for _ in range(5):
            gevent.sleep(0.1)
            client.send(b"slow\r\n")
        client.send(b".\r\n")
        assert client.reply().startswith("250")


def test_a_hook_s_time_goes_on_between_two_reads() -> None:
    def on_data(stream: MessageStream, session: Session) -> None:
        for _ in stream:
            gevent.sleep(0.05)

    with talking(hook_timeout=0.2, on_data=on_data) as client:
        assert client.message(b"line\r\n" * 1000).startswith(LOCAL_ERROR)
        assert client.cmd("NOOP").startswith("250")


def test_a_hook_within_its_timeout_leaves_no_alarm_behind() -> None:
    with witnessed(hook_timeout=0.15, on_mail_from=lambda *args: gevent.sleep(0.01)) as client:
        client.ok("MAIL FROM:<>")
        gevent.sleep(0.3)
        client.ok("RSET", "MAIL FROM:<>")
        assert not client.witness.of("error")


# on_data and its stream


def test_without_on_data_the_message_is_read_and_accepted() -> None:
    with talking() as client:
        assert client.message(b"x\r\n" * 100000).startswith("250")
        assert client.cmd("NOOP").startswith("250")


CONTENT = b"".join(b"line %d\r\n" % number for number in range(50000))


@pytest.mark.parametrize("read", ["read", "readline", "readlines"])
def test_a_read_that_a_timeout_of_the_program_s_own_cut_short_has_lost_nothing(read: str) -> None:
    seen, cut = [], Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        with gevent.Timeout(0.05, False):  # type: ignore[arg-type]
            getattr(stream, read)()
        cut.set()
        seen.append(stream.read())

    with talking(on_data=on_data) as client:
        client.begin()
        client.send(b"zero\r\non" if read == "readlines" else b"on")
        cut.wait()
        client.send(b"e\r\ntwo\r\n.\r\n")
        assert client.reply().startswith("250")
    assert seen[0].removeprefix(b"zero\r\n") == b"one\r\ntwo\r\n"
    assert seen[0].startswith(b"zero") == (read == "readlines")


def test_a_stream_that_is_kept_is_empty_when_its_hook_has_returned() -> None:
    kept, later = [], []

    def on_data(stream: MessageStream, session: Session) -> None:
        stream.read(2)
        kept.append(stream)

    with running(on_data=on_data, on_close=lambda session: later.append(kept[0].read())) as server:
        with Client(server, hello="EHLO me") as client:
            assert client.message().startswith("250")
        poll(lambda: later)
    assert later == [b""]


def test_the_hook_runs_while_the_message_arrives() -> None:
    first = Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        assert stream.readline() == b"one\r\n"
        first.set()
        assert stream.read() == b"two\r\n"

    with talking(on_data=on_data) as client:
        client.begin()
        client.send(b"one\r\nt")  # a line's end alone may be the beginning of the message's
        assert first.wait(30)
        client.send(b"wo\r\n.\r\n")
        assert client.reply().startswith("250")


@pytest.mark.parametrize("read", [0, 1, 5000])
def test_what_the_hook_leaves_unread_is_dropped_for_it(read: int) -> None:
    streams = []

    def on_data(stream: MessageStream, session: Session) -> None:
        streams.append(stream)
        stream.read(read)

    with witnessed(on_data=on_data) as client:
        assert client.message(CONTENT).startswith("250")
        assert client.cmd("NOOP").startswith("250")
        assert client.witness.one("message").size == len(CONTENT)
        assert streams[0].byte_length == len(CONTENT)
        assert streams[0].read() == b""


def test_a_hook_that_rejects_before_reading_is_answered_after_the_true_end() -> None:
    with talking(on_data=raising(Reject(550, "no", "5.7.1"))) as client:
        client.begin()
        client.send(b"QUIT\r\n")
        until_read(client.server, client)
        client.send(b"..\r\n.\r\nNOOP\r\n")
        assert [client.reply()[:3] for _ in range(2)] == ["550", "250"]


@pytest.mark.parametrize(
    "elsewhere",
    [
        lambda read: gevent.spawn(read).get(),
        lambda read: gevent.get_hub().threadpool.apply(read),
        gevent.spawn,
    ],
    ids=["greenlet", "thread", "later"],
)
def test_a_message_is_read_in_the_hook_s_own_greenlet(elsewhere: Any) -> None:
    begun: list[Any] = []
    faults = []

    def on_data(stream: MessageStream, session: Session) -> None:
        def read() -> Any:
            begun.append(stream)
            try:
                return stream.read()
            except BaseException as exc:
                faults.append(exc)
                raise

        # gevent prints what a greenlet or a thread dies of.
        with contextlib.redirect_stderr(io.StringIO()):
            before = len(faults)
            elsewhere(read)
            poll(lambda: len(faults) > before)

    with talking(on_data=on_data) as client:
        for number in (1, 2):
            client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA")
            # Its first octets come when it is read already.
            poll(functools.partial(lambda number: len(begun) == number, number))
            client.send(b"one\r\n.\r\n")
            code = "250" if elsewhere is gevent.spawn else "451"
            assert client.reply().startswith(code)
        client.ok("NOOP")
        assert [type(fault) for fault in faults] == [RuntimeError] * 2
        assert "greenlet" in str(faults[0])


def test_a_hook_that_raises_after_reading_is_451() -> None:
    def on_data(stream: MessageStream, session: Session) -> None:
        stream.read()
        raise KeyError("detail")

    with talking(on_data=on_data) as client:
        assert client.message().startswith(LOCAL_ERROR)
        assert client.message().startswith(LOCAL_ERROR)


def test_a_slow_reader_slows_its_sender_down() -> None:
    go = Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        stream.read(1)
        go.wait()
        stream.read()

    with talking(on_data=on_data) as client:
        client.begin()
        client.sock.settimeout(0.3)
        block = b"x" * 1022 + b"\r\n"
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 * 2**20:
                client.sock.sendall(block * 64)
                sent += 65536
        assert sent < 64 * 2**20
        [connection] = client.server.connections
        assert connection.bytes_in < 2**20
        go.set()


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("reader", [MessageStream.read, list])
def test_a_client_that_vanishes_makes_read_raise_connection_error(leave: str, reader: Any) -> None:
    # N10
    seen: list[Any] = []

    def on_data(stream: MessageStream, session: Session) -> None:
        try:
            reader(stream)
        except ConnectionError as exc:
            seen.append(exc)
            raise

    with witnessed(on_data=on_data) as client:
        client.begin()
        client.send(b"half a message\r\n")
        getattr(client, leave)()
        poll(lambda: not client.server.connections)
        assert len(seen) == 1
        event = client.witness.one("error")
        assert event.code == {"close": "ECONNABORTED", "reset": "ECONNRESET"}[leave]
        assert event.response_code is None
        assert not client.witness.of("message")
        gone = client.witness.one("disconnect")
        assert (gone.reason, gone.messages) == ({"close": "eof", "reset": "reset"}[leave], 0)


def test_a_hook_that_swallows_the_connection_error_changes_nothing() -> None:
    reads = []

    def on_data(stream: MessageStream, session: Session) -> str:
        for _ in range(3):
            try:
                stream.read()
            except ConnectionError:
                reads.append(1)
        return "kept"

    closed: list[Any] = []
    with witnessed(on_data=on_data, on_close=closed.append) as client:
        client.begin()
        client.close()
        assert client.witness.one("disconnect").messages == 0
        assert not client.witness.of("message")
        assert len(reads) == 3
        assert len(closed) == 1


def test_a_fault_of_the_hook_s_own_after_the_client_vanished_is_reported() -> None:
    def on_data(stream: MessageStream, session: Session) -> None:
        try:
            stream.read()
        except ConnectionError:
            raise RuntimeError("the program's own") from None

    with witnessed(on_data=on_data) as client:
        client.begin()
        client.close()
        client.witness.one("disconnect")
        assert "HookError" in [event.code for event in client.witness.of("error")]


def test_an_oversized_message_is_552_whatever_the_hook_returns() -> None:
    seen: list[Any] = []

    def on_data(stream: MessageStream, session: Session) -> str:
        try:
            seen.append(stream.read())
        except Reject as exc:
            seen.append(exc.code)
        seen.append(stream.size_exceeded)
        return "kept"

    with witnessed(size=1000, on_data=on_data) as client:
        assert client.message(b"x" * 998 + b"\r\n").startswith("250")
        assert seen == [b"x" * 998 + b"\r\n", False]
        assert client.message(b"x" * 999 + b"\r\n").startswith("552 5.3.4")
        assert seen[2:] == [552, True]
        assert client.message(b"small\r\n").startswith("250")
        assert [event.code for event in client.witness.of("message")] == [250, 552, 250]
        assert not client.witness.of("error")


def test_with_reject_oversized_false_the_program_decides() -> None:
    seen: list[Any] = []

    def on_data(stream: MessageStream, session: Session) -> str:
        content = stream.read()
        seen.append((len(content), stream.byte_length, stream.size_exceeded))
        if stream.size_exceeded and session.envelope.rcpt_to[0].address.startswith("strict"):
            raise Reject(552, "too much", "5.2.3")
        return "kept"

    with talking(size=1000, reject_oversized=False, on_data=on_data) as client:
        assert client.message(b"x" * 998 + b"\r\n") == "250 2.0.0 kept"
        assert client.message(b"x" * 999 + b"\r\n") == "250 2.0.0 kept"
        big = client.message(b"x" * 5000 + b"\r\n", "strict@example.com")
        assert big == "552 5.2.3 too much"
        assert client.cmd("MAIL FROM:<> SIZE=1001").startswith("552 5.3.4")
    assert seen == [(1000, 1000, False), (1001, 1001, True), (5002, 5002, True)]


# LMTP


def lmtp(client: Client, number: int = 3) -> list[str]:
    client.begin(*(f"r{one}@example.com" for one in range(number)))
    client.send(b"hi\r\n.\r\n")
    return [client.reply() for _ in range(number)]


@pytest.mark.parametrize(
    ("result", "replies"),
    [
        (
            ["one", None, Reject(550, "no", "5.1.1")],
            ["250 2.0.0 one", "250 2.0.0 ", "550 5.1.1 no"],
        ),
        ("same", ["250 2.0.0 same"] * 3),
        (["too", "few"], [LOCAL_ERROR] * 3),
        ([None, ValueError("detail"), "three"], ["250 2.0.0 ", LOCAL_ERROR, "250 2.0.0 three"]),
    ],
)
def test_lmtp_has_a_reply_for_each_recipient(result: Any, replies: Any) -> None:
    with witnessed(lmtp=True, on_data=lambda stream, session: result, hello="LHLO me") as client:
        answers = lmtp(client)
        assert all(map(str.startswith, answers, replies)), answers
        faults = [event.code for event in client.witness.of("error")]
        assert faults == (["HookError"] if LOCAL_ERROR in replies else [])
        assert client.cmd("NOOP").startswith("250")


def test_a_user_whose_truth_is_a_fault_is_a_fault_of_the_hook() -> None:
    class Lazy:
        def __bool__(self) -> None:
            raise LookupError("no database")

    with witnessed(on_auth=lambda *args: Lazy(), auth_optional=True) as client:
        assert client.cmd("AUTH PLAIN AG1lAHB3").startswith(LOCAL_ERROR)
        event = client.witness.one("error")
        assert event.code == "HookError"
        assert str(event.error) == "no database"
        client.ok("NOOP")


@pytest.mark.parametrize("name", ANSWERED)
def test_a_reject_that_the_program_keeps_does_not_keep_sessions(name: Any) -> None:
    refusal = AuthenticationFailed() if name == "on_auth" else Reject(550, "no", "5.7.1")
    sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    def hook(*args: Any) -> Any:
        sessions.add(args[-1])
        raise refusal

    with running(**keyword(name, hook), auth_optional=True) as server:
        for _ in range(5):
            with Client(server, hello="EHLO me") as client:
                assert say(client, name).startswith("5")
        poll(lambda: not server.connections)
    gc.collect()
    assert len(sessions) <= 1
    assert len(traceback.extract_tb(refusal.__traceback__)) < 10


def test_a_hook_s_timeout_does_not_cut_short_those_who_hear_of_its_fault() -> None:
    heard = []

    def listener(server: SMTPServer, event: Any) -> None:
        gevent.sleep(0.3)
        heard.append(event.code)

    with running(on_rcpt_to=raising(ValueError), hook_timeout=0.1) as server:
        signals.error.connect(listener, sender=server)
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<a@x.test>")
        assert client.cmd("RCPT TO:<b@x.test>").startswith(LOCAL_ERROR)
    assert heard == ["HookError"]


def test_an_object_as_a_hook_is_reported_by_its_class() -> None:
    class Store:
        def __call__(self, *args: Any) -> None:
            raise ValueError

    with running(on_data=Store()) as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").message()
        assert witness.one("error").meta["hook"].endswith("<locals>.Store")


@pytest.mark.parametrize("name", ANSWERED)
@pytest.mark.parametrize(
    "result",
    [Reject(550, "no", "5.7.1"), ValueError("detail"), ValueError, Reject, AuthenticationFailed],
    ids=repr,
)
def test_no_hook_accepts_by_returning_what_it_should_raise(name: Any, result: Any) -> None:
    with witnessed(**{name: lambda *args: result}, auth_optional=True) as client:
        assert say(client, name).startswith(LOCAL_ERROR)
        event = client.witness.one("error")
        assert event.code == "HookError"
        if isinstance(result, ValueError):
            assert event.error is result
        elif isinstance(result, Reject):
            assert f"{name} returned a Reject" in str(event.error)
        assert client.session.user is None
        client.ok("NOOP")


@pytest.mark.parametrize("fault", ["Exception", "reject"])
def test_lmtp_a_refusal_of_the_whole_message_is_told_for_each_recipient(fault: str) -> None:
    hook = raising(Reject(554, "no") if fault == "reject" else RuntimeError("secret detail"))
    with running(lmtp=True, on_data=hook) as server:
        answers = lmtp(Client(server, hello="LHLO me"))
        code = "554 5.7.1" if fault == "reject" else LOCAL_ERROR
        assert all(answer.startswith(code) for answer in answers)


@pytest.mark.parametrize("whole", [True, False])
def test_lmtp_refused_recipients_of_one_message_are_one_error(whole: bool) -> None:
    def refuse(stream: MessageStream, session: Session) -> Any:
        reject = Reject(550, "no", "5.2.1")
        if whole:
            raise reject
        return [reject] * 30

    with talking(on_data=refuse, lmtp=True, max_errors=1, hello="LHLO me") as client:
        client.ok("MAIL FROM:<a@example.org>")
        for number in range(30):
            client.ok(f"RCPT TO:<{number}@example.com>")
        client.ok("DATA")
        client.send(b"one\r\n.\r\n")
        assert [client.reply() for _ in range(30)] == ["550 5.2.1 no"] * 30
        client.ok("NOOP")


def test_lmtp_replies_to_whom_it_accepted_whatever_the_hook_does_to_the_envelope() -> None:
    def clear(stream: MessageStream, session: Session) -> Any:
        session.envelope.rcpt_to.clear()
        return ["one", Reject(452, "full")]

    with talking(on_data=clear, lmtp=True, hello="LHLO me") as client:
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@c.example>", "RCPT TO:<d@c.example>")
        client.ok("DATA")
        client.send(b"one\r\n.\r\n")
        assert [client.reply(), client.reply()] == ["250 2.0.0 one", "452 4.3.1 full"]
        client.ok("NOOP")


def test_lmtp_knows_only_lhlo() -> None:
    with talking(lmtp=True, hello=None) as client:
        assert client.greeting.split()[2] == "LMTP"
        assert client.cmd("EHLO me").startswith("500")
        assert client.cmd("HELO me").startswith("500")
        assert client.cmd("MAIL FROM:<>").startswith("503")
        client.ok("LHLO me")
    with running() as server:
        assert Client(server).cmd("LHLO me").startswith("500")
