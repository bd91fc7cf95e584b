"""Waiting and sending, over a pair of sockets and without a server."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import pytest
from gevent import socket
from support import SECONDS, octets

from smtp_blinker.connection.transport import Interrupted, Transport
from smtp_blinker.listener import client_socket

NEVER = float("inf")


@pytest.fixture
def pair() -> Iterator[tuple[Any, Any]]:
    one, theirs = socket.socketpair()
    ours = client_socket(one, one.detach())
    yield ours, theirs
    ours.close()
    theirs.close()


def read_all(sock: Any, size: int) -> bytes:
    received = b""
    while len(received) < size:
        received += sock.recv(65536)
    return received


def test_deadline_of_a_wait_passes(pair: Any) -> None:
    transport = Transport(pair[0], SECONDS, NEVER)
    with pytest.raises(TimeoutError):
        transport.receive(10, monotonic() + 0.02)
    pair[1].sendall(b"later")
    assert transport.receive(10, monotonic() + SECONDS) == b"later"
    transport.close()


def test_no_wait_outlasts_the_last_moment(pair: Any) -> None:
    transport = Transport(pair[0], SECONDS, monotonic() + 0.02)
    with pytest.raises(TimeoutError):
        transport.receive(10, monotonic() + 600)
    transport.unsent = b"x" * 10_000_000
    with pytest.raises(TimeoutError):
        transport.flush()
    transport.close()


def test_sending_without_a_deadline_takes_as_long_as_patience(pair: Any) -> None:
    transport = Transport(pair[0], 0.02, NEVER)
    transport.unsent = b"x" * 10_000_000
    with pytest.raises(TimeoutError):
        transport.flush()
    transport.close()


def test_slow_reader_gets_everything(pair: Any) -> None:
    transport = Transport(pair[0], SECONDS, NEVER)
    data = bytes(range(256)) * 20_000
    reader = gevent.spawn(read_all, pair[1], len(data))
    transport.unsent = data
    transport.flush()
    assert reader.get(timeout=SECONDS) == data
    assert transport.unsent == b""
    assert transport.bytes_out == len(data)
    transport.close()


def test_interrupted_sending_tears_nothing(pair: Any) -> None:
    transport = Transport(pair[0], SECONDS, NEVER)
    data = bytes(range(256)) * 20_000
    transport.unsent = data
    loop = gevent.get_hub().loop

    def interrupt() -> None:
        assert transport.waiting
        transport.interrupt()

    gevent.spawn_later(0.01, loop.run_callback, interrupt)
    with pytest.raises(Interrupted):
        transport.flush()
    assert not transport.waiting
    assert 0 < len(transport.unsent) < len(data)
    reader = gevent.spawn(read_all, pair[1], len(data))
    transport.flush()
    assert reader.get(timeout=SECONDS) == data
    transport.close()


@pytest.mark.parametrize("pieces", [[b"EHLO x\r\n"], octets(b"EHLO x\r\n")])
def test_what_is_unsent_goes_before_a_wait(pair: Any, pieces: Any) -> None:
    transport = Transport(pair[0], SECONDS, NEVER)
    for piece in pieces:
        transport.unsent += piece
    pair[1].sendall(b"250 x\r\n")
    assert transport.receive(100, monotonic() + SECONDS) == b"250 x\r\n"
    assert pair[1].recv(100) == b"EHLO x\r\n"
    transport.close()


def test_last_moment_does_not_cut_the_end_short(pair: Any) -> None:
    # Closing with something unread would reset the last reply away.
    ours, theirs = pair
    transport = Transport(ours, SECONDS, monotonic() - 1)
    theirs.sendall(b"x" * 10)

    def client() -> None:
        assert theirs.recv(10) == b""
        theirs.sendall(b"y" * 20)
        theirs.close()

    talk = gevent.spawn(client)
    transport.linger()
    talk.get(timeout=SECONDS)
    assert transport.bytes_in == 20
    transport.close()
