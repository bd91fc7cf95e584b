"""Several deciders: `all_of`, and the policies that `server.use` has asked before the hooks."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from support import Client, Witness, auth_plain, poll, running, talking, witnessed

from smtp_blinker import Policy, Reject, SMTPServer, all_of

LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later"
#: Every method of a policy with what it is called with.
ARGUMENTS = {
    "on_connect": ("session",),
    "on_secure": ("session",),
    "on_auth": ("auth", "session"),
    "on_mail_from": ("address", "session"),
    "on_rcpt_to": ("address", "session"),
    "on_message": ("content", "session"),
    "on_close": ("session",),
}


class Notes:
    """A policy with every method, which writes down what it is asked."""

    def __init__(self, name: str, notes: list[str], **raises: BaseException) -> None:
        self.name, self.notes, self.raises = name, notes, raises

    def _note(self, stage: str) -> bool:
        self.notes.append(f"{self.name} {stage}")
        if stage in self.raises:
            raise self.raises[stage]
        return False  # which refuses nothing, and is no fault

    def on_connect(self, session: Any) -> Any:
        return self._note("on_connect")

    def on_secure(self, session: Any) -> Any:
        return self._note("on_secure")

    def on_auth(self, auth: Any, session: Any) -> Any:
        return self._note("on_auth")

    def on_mail_from(self, address: Any, session: Any) -> Any:
        return self._note("on_mail_from")

    def on_rcpt_to(self, address: Any, session: Any) -> Any:
        return self._note("on_rcpt_to")

    def on_message(self, content: Any, session: Any) -> Any:
        return self._note("on_message")

    def on_close(self, session: Any) -> Any:
        return self._note("on_close")


def converse(client: Client) -> None:
    client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
    assert client.cmd("DATA").startswith("354")
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
    assert client.reply().startswith("250")


# all_of


def test_all_of_calls_each_in_turn_and_returns_the_last_result() -> None:
    notes: list[Any] = []

    def first(stream: Any, session: Any) -> Any:
        notes.append("first")
        return False

    def last(stream: Any, session: Any) -> str:
        notes.append(stream.read())
        return "stored"

    with talking(on_data=all_of(first, last)) as client:
        client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
        assert client.cmd("DATA").startswith("354")
        client.send(b"x\r\n.\r\n")
        assert client.reply() == "250 2.0.0 stored"
    assert notes == ["first", b"x\r\n"]


def test_all_of_ends_with_the_first_that_raises() -> None:
    notes: list[str] = []

    def refuse(address: Any, session: Any) -> None:
        raise Reject(550, "no", "5.7.1")

    def note(address: Any, session: Any) -> None:
        notes.append("asked")

    with talking(on_rcpt_to=all_of(note, refuse, note)) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>") == "550 5.7.1 no"
    assert notes == ["asked"]


def test_the_result_of_the_last_hook_is_checked_and_a_fault_names_all() -> None:
    def says_false(address: Any, session: Any) -> bool:
        return False

    with witnessed(on_rcpt_to=all_of(says_false, says_false)) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>") == LOCAL_ERROR
        assert client.witness.one("error").meta["hook"].startswith("all_of(")
        assert "says_false" in client.witness.one("error").meta["hook"]


async def _waits(session: Any) -> None:
    """A hook that would run none of its lines."""


@pytest.mark.parametrize("wrong", [lambda: None, lambda a, b: None, _waits, all_of(lambda: None)])
def test_a_hook_inside_all_of_is_checked_when_it_is_registered(wrong: Any) -> None:
    right = lambda session: None  # noqa: E731
    server = SMTPServer(None, on_connect=all_of(right, right))
    for hooks in ((right, wrong), (wrong, right)):
        with pytest.raises(TypeError):
            SMTPServer(None, on_connect=all_of(*hooks))
        with pytest.raises(TypeError):
            server.on_connect(all_of(*hooks))


@pytest.mark.parametrize("hooks", [(), (None,), (len, 5)])
def test_all_of_takes_callables(hooks: Any) -> None:
    with pytest.raises(TypeError):
        all_of(*hooks)


# use


@pytest.mark.parametrize("late", [False, True])
def test_policies_are_asked_in_order_and_before_the_programs_hook(late: bool) -> None:
    notes: list[str] = []
    hooks = {
        "on_connect": lambda session: notes.append("program on_connect"),
        "on_mail_from": lambda address, session: notes.append("program on_mail_from"),
        "on_rcpt_to": lambda address, session: notes.append("program on_rcpt_to"),
        "on_data": lambda stream, session: notes.append("program on_data"),
        "on_close": lambda session: notes.append("program on_close"),
    }
    with running(**({} if late else hooks)) as server:
        server.use(Notes("one", notes), Notes("two", notes))
        server.use(Notes("three", notes))
        if late:
            for name, hook in hooks.items():
                getattr(server, name)(hook)
        client = Client(server, hello="EHLO me")
        converse(client)
        client.cmd("QUIT")
        poll(lambda: "program on_close" in notes)
    asked = ("on_connect", "on_mail_from", "on_rcpt_to", "on_message", "on_close")
    expected = []
    for stage in asked:
        expected += [f"{name} {stage}" for name in ("one", "two", "three")]
        expected.append(f"program {'on_data' if stage == 'on_message' else stage}")
    assert notes == expected


def test_policies_decide_without_any_hook() -> None:
    notes: list[str] = []
    with talking(use=[Notes("one", notes, on_rcpt_to=Reject(450, "later", "4.7.1"))]) as client:
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>") == "450 4.7.1 later"


@pytest.mark.parametrize("stage", ["on_mail_from", "on_rcpt_to", "on_message"])
def test_the_first_reject_ends_the_stage(stage: str) -> None:
    notes: list[str] = []
    program = lambda *args: notes.append("program")  # noqa: E731
    name = "on_data" if stage == "on_message" else stage
    with running(**{name: program}) as server:
        refusing = Notes("two", notes, **{stage: Reject(550, "no", "5.7.1")})
        server.use(Notes("one", notes), refusing, Notes("three", notes))
        client = Client(server, hello="EHLO me")
        client.send(b"MAIL FROM:<a@example.org>\r\n")
        replies = [client.reply()]
        if stage != "on_mail_from":
            replies.append(client.cmd("RCPT TO:<b@example.com>"))
        if stage == "on_message":
            assert client.cmd("DATA").startswith("354")
            client.send(b"x\r\n.\r\n")
            replies.append(client.reply())
        assert replies[-1] == "550 5.7.1 no"
    asked = [note for note in notes if note.endswith(stage) or note == "program"]
    assert asked == [f"one {stage}", f"two {stage}"]


@pytest.mark.parametrize("stage", ["on_connect", "on_mail_from", "on_rcpt_to", "on_message"])
def test_another_exception_is_a_fault_that_names_the_policys_method(stage: str) -> None:
    notes: list[str] = []
    with running() as server:
        witness = Witness(server)
        server.use(Notes("one", notes, **{stage: ConnectionError("away")}))
        client = Client(server, greet=False)
        said = [client.reply()]
        if stage == "on_connect":
            assert said == [LOCAL_ERROR]
        else:
            said.append(client.cmd("EHLO me"))
            said.append(client.cmd("MAIL FROM:<a@example.org>"))
        if stage in ("on_rcpt_to", "on_message"):
            said.append(client.cmd("RCPT TO:<b@example.com>"))
        if stage == "on_message":
            assert client.cmd("DATA").startswith("354")
            client.send(b"x\r\n.\r\n")
            said.append(client.reply())
        assert said[-1] == LOCAL_ERROR
        event = witness.one("error")
        assert (event.code, event.response_code) == ("HookError", 451)
        assert event.meta["hook"] == f"Notes.{stage}"


def test_on_close_calls_each_policy_whatever_the_others_raise() -> None:
    notes: list[str] = []
    with running(on_close=lambda session: notes.append("program")) as server:
        witness = Witness(server)
        server.use(
            Notes("one", notes, on_close=KeyError("x")),
            Notes("two", notes, on_close=Reject()),
            Notes("three", notes),
        )
        Client(server, hello="EHLO me").cmd("QUIT")
        poll(lambda: "program" in notes)
        assert witness.one("error").meta["hook"] == "Notes.on_close"
    assert notes[-4:] == ["one on_close", "two on_close", "three on_close", "program"]


def test_on_secure_is_asked_of_policies(certificate: Any) -> None:
    notes: list[str] = []
    with running(**certificate.options) as server:
        server.use(Notes("one", notes, on_secure=Reject(554, "no", "5.7.1")))
        client = Client(server, hello="EHLO me")
        client.starttls()
        assert client.reply() == "554 5.7.1 no"


def test_policies_alone_dont_offer_auth() -> None:
    notes: list[str] = []
    with talking(allow_insecure_auth=True, use=[Notes("one", notes)], hello=None) as client:
        assert "AUTH" not in client.cmd("EHLO me")
        client.ok("MAIL FROM:<a@example.org>")  # and none is demanded
        client.server.on_auth(lambda auth, session: auth.username)
        later = Client(client.server)
        assert "AUTH" in later.cmd("EHLO me")
        assert later.cmd(auth_plain("ann", "secret")).startswith("235")
    assert notes.count("one on_auth") == 1


def test_a_policy_refuses_auth_before_the_program_is_asked() -> None:
    notes: list[str] = []

    def program(auth: Any, session: Any) -> str:
        notes.append("program")
        return "ann"

    with running(on_auth=program, allow_insecure_auth=True) as server:
        server.use(Notes("one", notes, on_auth=Reject(454, "locked", "4.7.0")))
        client = Client(server, hello="EHLO me")
        assert client.cmd(auth_plain("ann", "secret")) == "454 4.7.0 locked"
    assert "program" not in notes


def test_a_policy_that_reads_authzid_allows_no_other_identity() -> None:
    class Reads:
        def on_auth(self, auth: Any, session: Any) -> None:
            session.seen = auth.authzid

    with running(on_auth=lambda auth, session: "ann", allow_insecure_auth=True) as server:
        server.use(Reads())
        client = Client(server, hello="EHLO me")
        assert client.cmd(auth_plain("ann", "secret", "boss")).startswith("535")


def test_attach_is_called_with_the_server() -> None:
    class Attaches:
        server: Any = None

        def attach(self, server: Any) -> None:
            self.server = server

    class Both(Attaches):
        def on_rcpt_to(self, address: Any, session: Any) -> None:
            raise Reject(550, "no", "5.7.1")

    alone, both = Attaches(), Both()
    with running(use=[alone, both]) as server:
        assert alone.server is both.server is server
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>") == "550 5.7.1 no"


class NoArguments:
    def on_rcpt_to(self) -> None: ...


class Waits:
    async def on_rcpt_to(self, address: Any, session: Any) -> None: ...


class NoMethod:
    on_rcpt_to = 5


class Stores:
    def on_rcpt_to(self, address: Any, session: Any) -> None: ...

    def on_data(self, stream: Any, session: Any) -> None: ...


@pytest.mark.parametrize(
    "wrong",
    [None, 5, "on_rcpt_to", object(), lambda session: None, Notes, *(
        kind() for kind in (NoArguments, Waits, NoMethod, Stores)
    )],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_policy_is_a_type_error_and_nothing_is_used(wrong: Any) -> None:
    notes: list[str] = []
    server = SMTPServer(None)
    with pytest.raises(TypeError):
        server.use(Notes("one", notes), wrong)
    assert all(getattr(server.hooks, name) is None for name in ARGUMENTS if name != "on_message")
    assert server.hooks.on_message == ()


def test_a_policy_needs_no_base_class_and_may_name_it() -> None:
    class Mine(Policy):
        def on_connect(self, session: Any) -> None: ...

    SMTPServer(None).use(Mine())


def test_each_policy_has_the_hook_timeout_for_itself() -> None:
    class Hangs:
        def on_rcpt_to(self, address: Any, session: Any) -> None:
            gevent.sleep(60)

    with running(hook_timeout=0.05) as server:
        witness = Witness(server)
        server.use(Hangs())
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<a@example.org>")
        assert client.cmd("RCPT TO:<b@example.com>") == LOCAL_ERROR
        assert witness.one("error").code == "HookTimeout"


def test_results_are_of_the_connection_and_of_the_message() -> None:
    seen: list[Any] = []

    class Finds:
        def on_rcpt_to(self, address: Any, session: Any) -> None:
            session.results.setdefault("finds", []).append(session.transaction)
            session.envelope.results["finds"] = session.transaction

    def store(stream: Any, session: Any) -> None:
        seen.append((list(session.results["finds"]), dict(session.envelope.results)))

    with talking(on_data=store, use=[Finds()]) as client:
        converse(client)
        converse(client)
        client.ok("MAIL FROM:<a@example.org>")
        assert client.session.envelope.results == {}
    assert seen == [([1], {"finds": 1}), ([1, 2], {"finds": 2})]
