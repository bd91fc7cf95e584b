"""What SMTPServer listens on, and that what it can't is told at once."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent.socket
import pytest
from support import serve

from smtp_blinker import SMTPServer

IPV6 = pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")


@pytest.fixture
def unbound() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


@pytest.mark.parametrize(
    "arguments",
    [
        ("127.0.0.1", 2525),
        ("127.0.0.1", "2525"),
        ("", 2525),
        (("127.0.0.1", 2525), None),
        ("127.0.0.1", 2525, "x"),
        (2525,),
        (0,),
        (True,),
        (25.0,),
        ("2525",),
        ("0",),
        (b"127.0.0.1:2525",),
        (b"unix:/run/smtp.sock",),
        (["127.0.0.1", 2525],),
        ({"host": "127.0.0.1"},),
        (Path("/run/smtp.sock"),),
        (...,),
        ((),),
        (("127.0.0.1",),),
        ((2525,),),
        ((2525, "127.0.0.1"),),
        (("127.0.0.1", "2525"),),
        (("127.0.0.1", True),),
        (("127.0.0.1", 25.0),),
        (("127.0.0.1", None),),
        ((None, 2525),),
        ((b"127.0.0.1", 2525),),
        (("127.0.0.1", 2525, 0),),
        (("127.0.0.1", 2525, 0, 0),),
        (("::1", 2525, 0, "lo"),),
        (("::1", 2525, 0, 0, 0),),
    ],
    ids=repr,
)
def test_what_is_no_listener_is_a_type_error(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError) as told:
        SMTPServer(*arguments)
    assert '(host, port), such as ("127.0.0.1", 2525)' in str(told.value)


@pytest.mark.parametrize(
    "listener",
    [
        *("localhost", "127.0.0.1", "/run/smtp.sock", "", ":", "localhost:", "localhost:smtp"),
        *("localhost:25 ", "localhost:+25", "localhost:2_5", "localhost:\u0662\u0665"),
        *("localhost:65536", "127.0.0.1:-1", "::1", "::1:2525", "[::1]", "[localhost]:2525"),
        *("[]:2525", "unix:", "unix:/run/\0", ("127.0.0.1", 65536), ("127.0.0.1", -1)),
        *(("127.0.0.1:2525", 2525), ("[::1]", 2525)),
    ],
    ids=repr,
)
def test_what_can_not_be_listened_on_is_a_value_error(listener: Any) -> None:
    with pytest.raises(ValueError, match="such as") as told:
        SMTPServer(listener)
    assert '(host, port), such as ("127.0.0.1", 2525)' in str(told.value)


def test_the_message_names_what_was_given() -> None:
    wrong: tuple[Any, ...] = (2525, ("127.0.0.1", "2525"), "localhost", ("127.0.0.1", 70000))
    for listener in wrong:
        with pytest.raises((TypeError, ValueError)) as told:
            SMTPServer(listener)
        assert repr(listener) in str(told.value)


def test_a_socket_that_is_not_bound_is_a_value_error(unbound: socket.socket) -> None:
    with pytest.raises(ValueError, match="isn't bound"):
        SMTPServer(unbound)


def test_a_tls_socket_is_a_type_error(unbound: socket.socket) -> None:
    unbound.bind(("127.0.0.1", 0))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with (
        context.wrap_socket(unbound, server_side=True) as sock,
        pytest.raises(TypeError, match="certfile"),
    ):
        SMTPServer(sock)


@pytest.mark.parametrize(
    "listener",
    [
        ("127.0.0.1", 0),
        ("localhost", 0),
        ("", 0),
        "127.0.0.1:0",
        "localhost:0",
        ":0",
        "*:0",
        pytest.param(("::1", 0), marks=IPV6),
        pytest.param(("::1", 0, 0, 0), marks=IPV6),
        pytest.param(("::", 0), marks=IPV6),
        pytest.param("[::1]:0", marks=IPV6),
        pytest.param("[::]:0", marks=IPV6),
    ],
    ids=repr,
)
def test_what_is_a_listener_is_listened_on(listener: Any) -> None:
    with serve(listener) as served:
        host = "::1" if "::1" in str(listener) else "127.0.0.1"
        with socket.create_connection((host, served.port)) as sock:
            assert sock.recv(4) == b"220 "


@pytest.mark.parametrize("module", [socket, gevent.socket])
@pytest.mark.parametrize("state", ["bound", "listening", "nonblocking"])
def test_a_bound_socket_is_a_listener(module: Any, state: str) -> None:
    sock = module.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    if state != "bound":
        sock.listen()
    if state == "nonblocking":
        sock.setblocking(False)
    with serve(sock) as served:
        assert served.server.server_port == port
        for _ in range(2):
            with served.hello():
                pass


def test_none_is_no_listener_and_no_error() -> None:
    assert SMTPServer(None).address is None
