"""Any sequence of commands, pieces and departures, against the plain model of RFC 5321.

The real `Connection` talks to hypothesis over a transport without a network (fuzz/harness.py).
After each step the model (tests/model.py) checks the replies: one for each command, in order, of
the kind that the command may get; then the states are compared, and what was delivered.

``SMTP_BLINKER_PROFILE=long`` runs it for a long time.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "fuzz"))

from harness import Answer, Live, cut, store  # type: ignore[import-not-found]
from model import Rules, Session

from smtp_blinker.options import Options
from smtp_blinker.smtp.reply import Reject

LONG = os.environ.get("SMTP_BLINKER_PROFILE") == "long"

SECRETS = {"user": "secret", "two words": "\tpass word "}


def decide(address: str) -> str:
    """What the program of these tests answers to an address."""
    if address.startswith("no"):
        return "550 5.1.1"
    if address.startswith("later"):
        return "451 4.3.0"
    return ""


def ask(address: Any, session: Any) -> None:
    status = decide(address.address)
    if status == "451 4.3.0":
        raise OSError("the disk is full")
    if status:
        raise Reject(550, "no such user here", "5.1.1")


def authenticate(auth: Any, session: Any) -> bool:
    return auth.username in SECRETS and bool(auth.validate_password(SECRETS[auth.username]))


def status(answer: Answer) -> str:
    return f"{answer.code} {answer.enhanced}" if answer.enhanced else str(answer.code)


#: What a server may be configured to; a few at a time, or no session would live long.
CONFIGURED = [
    ("policy", st.sampled_from(["normalize", "allow"])),
    ("size", st.sampled_from([1, 20, 2000])),
    ("max_command_length", st.sampled_from([40, 512])),
    ("max_errors", st.sampled_from([0, 2, 5])),
    ("max_junk_commands", st.sampled_from([1, 5])),
    ("max_recipients", st.sampled_from([1, 2])),
    ("max_messages", st.sampled_from([1, 2])),
    ("max_unauthenticated_commands", st.sampled_from([1, 5])),
    ("max_auth_failures", st.sampled_from([0, 1])),
]
RULES = st.builds(
    lambda pairs, auth, lmtp: {**dict(pairs), **auth, **lmtp},
    st.lists(
        st.sampled_from(CONFIGURED).flatmap(lambda one: st.tuples(st.just(one[0]), one[1])),
        max_size=2,
    ),
    st.sampled_from(
        [{}, {}, {"users": SECRETS, "auth_optional": True}, {"users": SECRETS}],
    ),
    st.sampled_from([{}, {}, {"lmtp": True}]),
)


def base64_line(text: str) -> bytes:
    return base64.b64encode(text.encode())


ADDRESS = st.sampled_from(
    [
        "a@example.org",
        "b@example.com",
        "no@example.com",
        "later@example.com",
        "a.b+c@x",
        "@relay.example:a@example.org",
        "!#$%&'*+-/=?^_`{|}~@a-b.c",
    ]
)
BROKEN_PATH = st.sampled_from(
    ["", "a@b", "<a@b", "a@b>", "<<a@b>>", "<a@b@c>", "<a@>", "<@b>", "<a b@c>", "<a@b>x",
     "<a..b@c>", "<a@-b>", "<a@b->", "<.a@b>", "<a@[999.1.1.1]>", "<a@[IPv6:zz]>", "<a@b.>",
     f"<{'a' * 255}@b>"]
)  # fmt: skip
PARAMETERS = st.lists(
    st.sampled_from(
        ["SIZE=1", "size=20", "SIZE=21", "SIZE=99999999999999999999", "SIZE=-1", "SIZE=abc", "SIZE",
         "SIZE=", "SIZE=1=1", "BODY=7BIT", "BODY=8bitmime", "BODY=FOO", "SMTPUTF8", "SMTPUTF8=1",
         "FOO=1", "FOO", "-A=1", "RET=FULL", "REQUIRETLS"]
    ),
    max_size=3,
)  # fmt: skip
CASED = st.sampled_from([str.upper, str.lower, str.title])


@st.composite
def paths(draw: Any, verb: str) -> bytes:
    case = draw(CASED)
    word = {"MAIL": "FROM:", "RCPT": "TO:"}[verb]
    kind = draw(st.integers(0, 11))
    if kind == 0:
        path = draw(BROKEN_PATH)
    elif kind == 1:
        path = "<>"
    elif kind == 2:
        path = draw(st.sampled_from(["<postmaster>", "<Postmaster>"]))
    else:
        path = f"<{draw(ADDRESS)}>"
    parameters = draw(PARAMETERS) if draw(st.integers(0, 3)) == 0 else []
    return " ".join((f"{case(verb)} {case(word)}{path}", *parameters)).encode()


SIMPLE = st.sampled_from(
    [b"NOOP", b"NOOP x", b"noop ", b"RSET", b"RSET\t", b"HELP", b"VRFY a", b"EXPN a", b"DATA",
     b"data", b"TURN", b"ETRN x", b"XFORWARD ADDR=1", b"XCLIENT NAME=x", b"STARTTLS"]
)  # fmt: skip
# A CRLF follows each: the octets of some chunks go on behind it, and some end before it.
CHUNK = st.sampled_from(
    [b"BDAT 0", b"BDAT 0 LAST", b"bdat 2 last\r\n", b"BDAT 4 LAST\r\nRSET", b"BDAT 6\r\nNOOP",
     b"BDAT 00 0", b"BDAT  4 LAST\r\nRSET",
     b"BDAT 5 LAST\r\n.\r\n.", b"BDAT 3\r\na\nb", b"BDAT 1\r\n\r", b"BDAT 1 LAST\r\n\r",
     b"BDAT 40", b"BDAT 600 LAST\r\n" + b"x" * 600, b"BDAT 22\r\nReceived: x\r\nRSET\r\nxx"]
)  # fmt: skip
BROKEN = st.sampled_from(
    [b"", b" ", b".", b"*", b"FOO", b"FOO BAR", b"EHLO", b"HELO ", b"EHLO a b", b"DATA x",
     b"RSET x", b"QUIT x", b"VRFY", b"NOOP \xff\xfe", b"MAIL", b"RCPT", b"MAIL FROM", b"RCPT TO:",
     b"MAIL FROM:<a@b>\t", b"NOOP\rNOOP", b"NOOP \rx", b"NOOP\nNOOP",
     b"\rNOOP", b"NOOP\r", b"\xc3\xa9", b"EHLO \xc3\xa9", b"NOOP \x01",
     b"VRFY \xc3\xa9\x1b", b"RCPT \xc2\x80", b"DATA \xff",
     b"MAIL FROM:<\xc3\xa9@b>", b"STARTTLS x", b"NOOP " + b"x" * 40, b"NOOP " + b"x" * 2100,
     b"AUTH " + b"x" * 13000, b"X" * 600]
)  # fmt: skip
AUTH = st.sampled_from(
    [
        b"AUTH PLAIN",
        b"AUTH LOGIN",
        b"AUTH LOGIN",
        b"auth plain",
        b"AUTH PLAIN =",
        b"AUTH FOO",
        b"AUTH",
        b"AUTH PLAIN a b",
        b"AUTH PLAIN !",
        b"AUTH LOGIN " + base64_line("user"),
        b"auth plain " + base64_line("\0user\0secret"),
        b"AUTH PLAIN " + base64_line("two words\0\0\tpass word "),
        b"AUTH PLAIN " + base64_line("\0user\0wrong"),
    ]
)
RESPONSE = st.one_of(
    st.sampled_from(["user", "secret", "wrong", "\0user\0secret", "\0user", ""]).map(base64_line),
    st.sampled_from(
        [b"*", b"====", b"dXNlcg", b"NOOP", b"x" * 12400, b"dXNl\rcg==", b"dXNl\ncg=="]
    ),
)
#: After these the server closes.
FATAL = st.sampled_from([b"QUIT", b"quit ", b"BDAT x", b"GET / HTTP/1.1", b"\0", b"\0\1\2"])
HELLO = st.sampled_from([b"EHLO client.example", b"HELO client.example", b"LHLO client.example"])
COMMAND = st.one_of(
    HELLO,
    paths("MAIL"),
    paths("RCPT"),
    paths("RCPT"),
    st.just(b"DATA"),
    CHUNK,
    SIMPLE,
    BROKEN,
    AUTH,
)
CONTENT_PART = st.sampled_from(
    [b"Subject: x\r\n", b"\r\n", b"x\r\n", b".", b"..", b".\r\n", b"..\r\n", b".x\r\n", b" .\r\n",
     b"\r\n.\r\n", b"\n", b"\r", b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r.\r",
     b"\r\r\n", b"\0", b"\x0b.\x0b\r\n", b"\xc2\x85.\xc2\x85\r\n", b"\xff\r\n", b"RSET\r\n",
     b"x" * 999 + b"\r\n", b"Received: x\r\n" * 50, b"MAIL FROM:<evil@example.org>\r\n"]
)  # fmt: skip
CONTENT = st.lists(st.one_of(CONTENT_PART, st.binary(max_size=6)), max_size=8).map(b"".join)
PIECES = st.sampled_from([0, 0, 0, 1, 2, 3, 5, 40, 41, 42])


class SMTPSession(RuleBasedStateMachine):
    """One client from its connection to its end, and what it does after that."""

    live: Live
    model: Session

    @initialize(values=RULES, patience=st.integers(0, 30))
    def connect(self, values: dict[str, Any], patience: int) -> None:
        #: Steps before it may end.
        self.patience = patience
        self.model = Session(Rules(decide=decide, **values))
        options = {key: value for key, value in values.items() if key not in ("users", "policy")}
        options["bare_newline"] = self.model.rules.policy
        hooks: dict[str, Any] = {"on_mail_from": ask, "on_rcpt_to": ask}
        if self.model.rules.users is not None:
            hooks["on_auth"] = authenticate
        self.live = Live(Options(name="mx.example.com", **options), store, **hooks)
        self.model.greeted(self.replies())

    def replies(self) -> list[str]:
        return [status(answer) for answer in self.live.replies()]

    def send(self, octets: bytes, mode: int) -> None:
        self.patience -= 1
        for piece in cut(octets, mode):
            self.live.send(piece)
        self.model.receive(octets, self.replies())

    def end_message(self, octets: bytes, behind: list[bytes], mode: int) -> None:
        self.send(octets + b"\r\n.\r\n" + b"".join(line + b"\r\n" for line in behind), mode)

    # What a client may do

    @rule(line=COMMAND, mode=PIECES)
    def command(self, line: bytes, mode: int) -> None:
        self.send(line + b"\r\n", mode)

    @rule(lines=st.lists(COMMAND, min_size=2, max_size=6), mode=PIECES)
    def pipeline(self, lines: list[bytes], mode: int) -> None:
        self.send(b"".join(line + b"\r\n" for line in lines), mode)

    @rule(data=st.data())
    def go_on(self, data: Any) -> None:
        """What a client does that wants to get its message through, or thinks again."""
        hello = b"LHLO a" if self.model.rules.lmtp else b"EHLO a"
        lines = {
            "START": [hello, hello, b"MAIL FROM:<a@b>"],
            "READY": [
                b"MAIL FROM:<a@b>",
                b"MAIL FROM:<>",
                b"RCPT TO:<c@d>",
                b"DATA",
                b"AUTH LOGIN",
            ],
            "MAIL": [
                b"RCPT TO:<c@d>",
                b"RCPT TO:<no@d>",
                b"DATA",
                b"RSET",
                b"MAIL FROM:<x@y>",
                hello,
            ],
            "RCPT": [b"RCPT TO:<e@f>", b"DATA", b"DATA", b"RSET", b"MAIL FROM:<x@y>", hello],
            "AUTH": [base64_line("user"), base64_line("secret"), b"*"],
            "CONTENT": [b"x", b".", b".", b"..x", b".x", b"x\n."],
        }
        mode = data.draw(PIECES)
        for _ in range(data.draw(st.integers(1, 5))):
            if self.model.state in lines:
                line = data.draw(st.sampled_from(lines[self.model.state]))
                self.send(line + b"\r\n", mode)

    @precondition(lambda self: self.model.state == "READY")
    @rule(mode=PIECES)
    def begin_message(self, mode: int) -> None:
        self.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n", mode)

    @precondition(lambda self: self.model.state == "READY")
    @rule(
        recipients=st.lists(ADDRESS, min_size=1, max_size=3),
        octets=CONTENT,
        behind=st.lists(COMMAND, max_size=3),
        mode=PIECES,
    )
    def whole_message(
        self, recipients: list[str], octets: bytes, behind: list[bytes], mode: int
    ) -> None:
        lines = [b"MAIL FROM:<a@example.org>"]
        lines += [f"RCPT TO:<{recipient}>".encode() for recipient in recipients]
        # With no recipient it is no content but commands.
        self.send(b"".join(line + b"\r\n" for line in [*lines, b"DATA"]), mode)
        if self.model.state == "CONTENT":
            self.end_message(octets, behind, mode)

    @precondition(lambda self: self.model.state == "RCPT")
    @rule(mode=PIECES)
    def data(self, mode: int) -> None:
        self.send(b"DATA\r\n", mode)

    @precondition(lambda self: self.model.state == "CONTENT")
    @rule(octets=CONTENT, mode=PIECES)
    def content(self, octets: bytes, mode: int) -> None:
        self.send(octets, mode)

    @precondition(lambda self: self.model.state == "CONTENT")
    @rule(octets=CONTENT, behind=st.lists(COMMAND, max_size=3), mode=PIECES)
    def end_the_message(self, octets: bytes, behind: list[bytes], mode: int) -> None:
        self.end_message(octets, behind, mode)

    @precondition(lambda self: self.model.state == "READY" and self.model.rules.users)
    @rule(line=AUTH, responses=st.lists(RESPONSE, max_size=3), mode=PIECES)
    def authenticate(self, line: bytes, responses: list[bytes], mode: int) -> None:
        self.send(b"".join(one + b"\r\n" for one in (line, *responses)), mode)

    @precondition(lambda self: self.model.state == "AUTH")
    @rule(line=RESPONSE, mode=PIECES)
    def respond(self, line: bytes, mode: int) -> None:
        self.send(line + b"\r\n", mode)

    @rule(octets=st.one_of(COMMAND, st.binary(max_size=20)), mode=PIECES)
    def send_a_part_of_something(self, octets: bytes, mode: int) -> None:
        self.send(octets, mode)

    @rule(before=st.sampled_from([b"", b"", b"NOOP\r\n"]), line=COMMAND, mode=PIECES)
    def end_a_line_with_a_bare_newline(self, before: bytes, line: bytes, mode: int) -> None:
        self.send(before + line + b"\n", mode)
        self.keep_silent()

    @rule()
    def keep_silent(self) -> None:
        self.live.pause()
        self.model.pause(self.replies())

    # How it may end; what is sent after that goes nowhere

    @precondition(lambda self: self.patience < 0)
    @rule(line=FATAL, behind=COMMAND, mode=PIECES)
    def say_what_ends_it(self, line: bytes, behind: bytes, mode: int) -> None:
        self.send(line + b"\r\n" + behind + b"\r\n", mode)

    @precondition(lambda self: self.patience < 0)
    @rule(how=st.sampled_from(["close", "reset"]))
    def leave(self, how: str) -> None:
        if self.model.state != "CLOSED":
            getattr(self.live, how)()
            self.model.leave(self.replies(), how)

    @precondition(lambda self: self.patience < 0)
    @rule()
    def fall_asleep(self) -> None:
        if self.model.state != "CLOSED":
            self.live.time_out()
            self.model.time_out(self.replies())

    @precondition(lambda self: self.patience < 0)
    @rule()
    def the_server_stops(self) -> None:
        if self.model.state != "CLOSED":
            self.live.shut_down()
            self.model.shut_down(self.replies())

    # What holds after each step

    @invariant()
    def states_are_the_same(self) -> None:
        if self.live.talk is None:
            state = self.live.connection.protocol.state.name
            assert state == self.model.state
        else:
            assert self.model.state == "CLOSED", "the server closed for no reason"

    @invariant()
    def delivered_is_the_same(self) -> None:
        talk = self.live.progress
        expected = [(m.sender, m.recipients, m.content) for m in self.model.delivered]
        got = [
            (sender, recipients, content)
            for (sender, recipients), content in zip(talk.envelopes, talk.delivered, strict=True)
        ]
        assert got == expected

    def teardown(self) -> None:
        if hasattr(self, "live") and self.live.talk is None:
            self.live.close()
            self.model.leave(self.replies())
            self.delivered_is_the_same()
            assert self.live.talk is not None


@st.composite
def messages(draw: Any) -> bytes:
    """A client's whole mail transaction, mostly in order."""
    lines = [draw(HELLO), draw(st.one_of(st.just(b"MAIL FROM:<>"), paths("MAIL")))]
    if draw(st.integers(0, 4)) == 0:
        lines += [b"RCPT TO:<other@example.com>", b"RSET", b"MAIL FROM:<a@example.org>"]
    lines += draw(st.lists(paths("RCPT"), min_size=1, max_size=3))
    lines += draw(st.lists(st.one_of(SIMPLE, BROKEN), max_size=1))
    lines += [b"DATA", draw(CONTENT), b"."]
    return b"".join(line + b"\r\n" for line in lines)


SCRIPT = st.lists(
    st.one_of(messages(), messages(), COMMAND.map(lambda line: line + b"\r\n"), CONTENT), max_size=6
).map(b"".join)


# The short runs are the same each time; what is new is looked for by the long ones.
@settings(max_examples=20_000 if LONG else 400, derandomize=not LONG)
@pytest.mark.timeout(0 if LONG else 120)
@given(values=RULES, octets=SCRIPT, mode=PIECES, cut_off=st.integers(0, 20))
def test_any_conversation_is_that_of_the_model(
    values: dict[str, Any], octets: bytes, mode: int, cut_off: int
) -> None:
    machine = SMTPSession()
    machine.connect(values, 0)
    machine.send(octets[: len(octets) - cut_off], mode)
    machine.states_are_the_same()
    machine.delivered_is_the_same()
    machine.teardown()


TestSMTPSession = SMTPSession.TestCase
TestSMTPSession.pytestmark = [pytest.mark.timeout(0 if LONG else 120)]  # type: ignore[attr-defined]
TestSMTPSession.settings = settings(
    max_examples=20_000 if LONG else 300,
    derandomize=not LONG,
    stateful_step_count=60 if LONG else 25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
