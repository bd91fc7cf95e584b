"""What a hook may return and how it must be callable: anything else is a fault (API.md)."""

from __future__ import annotations

import functools
import re
from typing import Any
from unittest.mock import Mock

import pytest
from support import Client, Witness, poll, running, talking, witnessed

from smtp_blinker import SMTPServer
from smtp_blinker.hooks import ARGUMENTS

LOCAL_ERROR = "451 4.3.0 Local error in processing, try again later"


def named(value: object) -> str:
    """The same in every process, as pytest-xdist wants it."""
    return re.sub(r"0x[0-9a-f]+|id='\d+'", "", repr(value))


class Falsy:
    """What an object-relational mapper may give for "not found"."""

    def __bool__(self) -> bool:
        return False


#: What a program might return to refuse, or by accident.
NOT_NONE: list[Any] = [
    *(False, True, 0, 5, 550, 0.0, "", "no", "550 no", b"", b"ok"),
    *((), [], [None], {}, {"code": 550}, set(), object(), Falsy(), NotImplemented, ...),
]


@pytest.mark.parametrize("result", NOT_NONE, ids=named)
@pytest.mark.parametrize("hook", ["on_mail_from", "on_rcpt_to"])
def test_a_hook_accepts_only_by_returning_none(hook: str, result: Any) -> None:
    with witnessed(**{hook: lambda *args: result}) as client:
        if hook == "on_rcpt_to":
            client.ok("MAIL FROM:<a@example.org>")
            assert client.cmd("RCPT TO:<b@example.com>") == LOCAL_ERROR
            assert client.cmd("DATA").startswith("503")
        else:
            assert client.cmd("MAIL FROM:<a@example.org>") == LOCAL_ERROR
            assert client.cmd("RCPT TO:<b@example.com>").startswith("503")
        event = client.witness.one("error")
        assert (event.code, event.response_code) == ("HookError", 451)
        assert hook in str(event.error)
        client.ok("NOOP")


@pytest.mark.parametrize("result", NOT_NONE, ids=named)
@pytest.mark.parametrize("hook", ["on_connect", "on_close"])
def test_a_hook_of_a_connection_accepts_only_by_returning_none(hook: str, result: Any) -> None:
    with witnessed(**{hook: lambda *args: result}, greet=False) as client:
        if hook == "on_connect":
            assert client.reply() == LOCAL_ERROR
            assert client.ended()
        else:
            assert client.reply().startswith("220")
            client.ok("QUIT")
        assert client.witness.one("error").code == "HookError"


@pytest.mark.parametrize("result", [False, True, 5, ""], ids=named)
def test_on_secure_accepts_only_by_returning_none(result: Any, certificate: Any) -> None:
    with witnessed(on_secure=lambda session: result, **certificate.options) as client:
        client.starttls()
        assert client.reply() == LOCAL_ERROR
        assert client.ended()
        assert client.witness.one("error").code == "HookError"


NO_TEXT: list[Any] = [
    *(False, True, 0, 5, 250, b"ok", b"", {}, set(), object(), Falsy(), NotImplemented),
    *("550 no", "550", "451-later", " 550 no", "250 queued", "354", "5.7.1 no", "4.2.2 full"),
    *("\n550 no", "\ufeff550 no", "\0 550 no"),
]


@pytest.mark.parametrize("result", [*NO_TEXT, [], [None], ["queued"], ("queued",)], ids=named)
def test_on_data_accepts_only_by_a_text_or_none(result: Any) -> None:
    with witnessed(on_data=lambda stream, session: result) as client:
        assert client.message() == LOCAL_ERROR
        assert client.witness.one("error").code == "HookError"
        assert client.witness.one("message").code == 451
        client.ok("NOOP")


@pytest.mark.parametrize("result", NO_TEXT, ids=named)
@pytest.mark.parametrize("each", [False, True])
def test_on_data_of_lmtp_accepts_only_by_texts_or_none(result: Any, each: bool) -> None:
    returned = [None, result] if each else result
    with witnessed(on_data=lambda stream, session: returned, lmtp=True, hello="LHLO me") as client:
        client.ok("MAIL FROM:<>", "RCPT TO:<b@example.com>", "RCPT TO:<c@example.com>", "DATA")
        client.send(b".\r\n")
        first = "250 2.0.0 OK: message queued" if each else LOCAL_ERROR
        assert [client.reply(), client.reply()] == [first, LOCAL_ERROR]
        assert client.witness.one("error").code == "HookError"


@pytest.mark.parametrize("text", ["queued", "5 recipients", "550th message", "2500 octets", "2.0x"])
def test_a_text_that_is_no_reply_is_one(text: str) -> None:
    with running(on_data=lambda stream, session: text) as server:
        assert Client(server, hello="EHLO me").message() == f"250 2.0.0 {text}"


def test_a_fault_does_not_show_the_whole_of_what_was_returned() -> None:
    with running(on_data=lambda stream, session: b"x" * 10_000) as server:
        witness = Witness(server)
        Client(server, hello="EHLO me").message()
        assert len(str(witness.one("error").error)) < 300


# How it must be callable


def arguments(number: int) -> Any:
    """A function of *number* positional arguments."""
    return [
        lambda: None,
        lambda one: None,
        lambda one, two: None,
        lambda one, two, three: None,
    ][number]


@pytest.mark.parametrize("hook", ARGUMENTS)
@pytest.mark.parametrize("number", range(4))
def test_a_hook_takes_its_arguments_or_is_a_type_error(hook: str, number: int) -> None:
    function = arguments(number)
    server = SMTPServer(("127.0.0.1", 0))
    if number == len(ARGUMENTS[hook]):
        getattr(server, hook)(function)
        SMTPServer(("127.0.0.1", 0), **{hook: function})
        return
    called_as = f"{hook}({', '.join(ARGUMENTS[hook])})"
    for register in (
        lambda: getattr(server, hook)(function),
        lambda: SMTPServer(("127.0.0.1", 0), **{hook: function}),
        lambda: type("Sub", (SMTPServer,), {hook: arguments_of_a_method(number)})(("127.0.0.1", 0)),
    ):
        with pytest.raises(TypeError) as caught:
            register()
        assert called_as in str(caught.value)


def arguments_of_a_method(number: int) -> Any:
    return [
        lambda self: None,
        lambda self, one: None,
        lambda self, one, two: None,
        lambda self, one, two, three: None,
    ][number]


def wrapped_with_more(function: Any) -> Any:
    """A decorator that gives its function one argument more, as those that inject things do."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function("a connection to the database", *args)

    return call


@wrapped_with_more
def with_database(database: str, stream: Any, session: Any) -> None:
    assert database


class Store:
    def __call__(self, stream: Any, session: Any, *, fast: bool = True) -> None:
        pass

    def method(self, stream: Any, session: Any = None) -> None:
        pass

    @staticmethod
    def static(*args: Any) -> None:
        pass


@pytest.mark.parametrize(
    "hook",
    [
        with_database,
        Store(),
        Store().method,
        Store.static,
        functools.partial(lambda one, stream, session: None, 1),
        functools.partial(lambda stream, session, key: None, key=1),
        Mock(return_value=None),
        print,
    ],
    ids=named,
)
def test_everything_that_can_be_called_so_is_a_hook(hook: Any) -> None:
    with talking(on_data=hook) as client:
        assert client.message().startswith("250")
        poll(lambda: True)


@pytest.mark.parametrize("hook", [lambda stream, session, *, key: None, Store.__call__])
def test_a_required_argument_that_nothing_gives_is_a_type_error(hook: Any) -> None:
    with pytest.raises(TypeError, match=r"on_data\(stream, session\)"):
        SMTPServer(("127.0.0.1", 0), on_data=hook)
