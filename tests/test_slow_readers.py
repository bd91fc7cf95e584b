"""Replies that don't leave at once: slow readers, and what happens to a server meanwhile."""

from __future__ import annotations

import socket as stdlib_socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event
from support import Certificate, Client, Witness, poll, raising, running, talking, witnessed

from smtp_blinker import MessageStream, Reject, Session, SMTPServer
from smtp_blinker.smtp.protocol import MAX_PLAIN

RECIPIENTS = 300
#: Ends a connection with a reset.
RESET = b"\1\0\0\0\0\0\0\0"


@contextmanager
def small_buffers(**options: Any) -> Iterator[tuple[SMTPServer, Client]]:
    """A server and a client that have room for a few replies between them."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_SNDBUF, 2048)
    with running(listener, **options) as server:
        client = Client.__new__(Client)
        client.sock = socket.socket()
        client.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_RCVBUF, 2048)
        client.sock.settimeout(30)
        client.sock.connect(server.address)
        client.buffer, client._tls = b"", None
        assert client.reply().startswith("220")
        yield server, client


def send_to_many(client: Client) -> None:
    """A message whose replies the client doesn't read."""
    client.ok("LHLO me", "MAIL FROM:<a@x.test>")
    for number in range(RECIPIENTS):
        client.ok(f"RCPT TO:<{number}@x.test>")
    client.ok("DATA")
    client.send(b"Subject: x\r\n\r\nhello\r\n.\r\n")


def answers(stream: Any, session: Any) -> list[str]:
    return ["x" * 200] * RECIPIENTS


def full(server: SMTPServer) -> None:
    """Wait until the server waits for its client to read."""
    [connection] = server.connections
    before = -1
    while connection.bytes_out != before or not connection.transport.waiting:
        before = connection.bytes_out
        gevent.sleep(0.05)


def test_stop_tears_nothing_from_a_message_s_replies() -> None:
    with small_buffers(lmtp=True, on_data=answers) as (server, client):
        witness = Witness(server)
        send_to_many(client)
        full(server)
        stopping = gevent.spawn(server.stop, 30)
        poll(lambda: server.closed)
        gevent.sleep(0)  # it has gone on to its clients
        for _ in range(RECIPIENTS):
            assert client.reply().startswith("250 2.0.0 xxx")
        client.ends_with("421 4.3.2")
        stopping.get()
        assert witness.one("message").code == 250
        assert witness.one("disconnect").messages == 1


@pytest.mark.parametrize("leaves", [True, False])
def test_a_message_that_was_taken_is_told_of_though_nobody_reads_its_replies(leaves: bool) -> None:
    patience = 60 if leaves else 2
    with small_buffers(lmtp=True, on_data=answers, socket_timeout=patience) as (server, client):
        witness = Witness(server)
        send_to_many(client)
        full(server)
        if leaves:
            client.sock.setsockopt(stdlib_socket.SOL_SOCKET, stdlib_socket.SO_LINGER, RESET)
            client.close()
        event = witness.one("message")
        assert (event.code, len(event.rcpt_to)) == (250, RECIPIENTS)
        assert witness.one("disconnect").messages == 1
        assert witness.of("disconnect")[0].reason == ("reset" if leaves else "timeout")


def test_stop_tears_nothing_from_the_last_replies() -> None:
    with small_buffers(max_junk_commands=None) as (server, client):
        count = (MAX_PLAIN - 6) // 6  # as many as are read at once
        client.send(b"HELP\r\n" * count + b"QUIT\r\n")
        full(server)
        stopping = gevent.spawn(server.stop, 30)
        poll(lambda: server.closed)
        gevent.sleep(0)  # it has gone on to its clients
        for _ in range(count):
            assert client.reply().startswith("214")
        client.ends_with("221")
        stopping.get()


def test_stop_tears_nothing_under_tls(certificate: Certificate) -> None:
    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    with talking(secure=True, max_junk_commands=None, **files, hello=None) as client:
        client.send(b"HELP\r\n" * 100_000 + b"QUIT\r\n")
        full(client.server)
        stopping = gevent.spawn(client.server.stop, 30)
        poll(lambda: client.server.closed)
        gevent.sleep(0)  # it has gone on to its clients
        count = 0
        while (answer := client.reply()).startswith("214"):
            count += 1
        assert count > 1000
        assert answer.startswith("421 4.3.2")
        stopping.get()


# What a message's event and its reply say


def test_the_event_has_what_the_client_was_promised() -> None:
    def on_data(stream: MessageStream, session: Session) -> None:
        session.envelope.rcpt_to = ["somebody else"]  # type: ignore[list-item]
        session.envelope.mail_from = None

    with witnessed(on_data=on_data) as client:
        assert client.message(b"x\r\n", "one@x.test", "two@x.test").startswith("250")
        event = client.witness.one("message")
        assert event.mail_from == "a@example.org"
        assert event.rcpt_to == ("one@x.test", "two@x.test")
        client.ok("NOOP")


def test_the_event_has_the_code_that_was_sent() -> None:
    with witnessed(on_data=raising(Reject(550, "no")), max_errors=0) as client:
        assert client.message().startswith("421")
        assert client.witness.one("message").code == 421


# TLS


def test_a_client_that_ends_tls_is_answered_with_the_end_of_tls(certificate: Certificate) -> None:
    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    with running(secure=True, **files) as server:
        client = Client(server)
        tls = client.tls
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        client.sock.sendall(client._outgoing.read())
        client._incoming.write(client.sock.recv(65536))
        tls.unwrap()  # SSLEOFError where no close_notify came (RFC 8446 section 6.1)


def test_a_record_that_is_none_is_told_by_an_alert(certificate: Certificate) -> None:
    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    with running(secure=True, **files) as server:
        witness = Witness(server)
        client = Client(server)
        client.sock.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        client._incoming.write(client.sock.recv(65536))
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.tls.read(100)
        assert witness.one("error").code == "TLSError"


def test_a_timeout_of_the_program_s_own_costs_no_octets_of_tls(certificate: Certificate) -> None:
    files = {"certfile": certificate.certfile, "keyfile": certificate.keyfile}
    content = b"".join(b"%05d" % number + b"x" * 60 + b"\r\n" for number in range(2000))
    read = []
    sent = Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        sent.wait()
        me = gevent.getcurrent()
        while True:
            # A Timeout that has just passed: it comes at the next chance that the hub has.
            alarm = gevent.get_hub().loop.run_callback(me.throw, gevent.Timeout)
            try:
                piece = stream.read1()
            except gevent.Timeout:
                continue
            finally:
                alarm.stop()
            if not piece:
                return
            read.append(piece)

    with running(secure=True, on_data=on_data, **files) as server:
        client = Client(server)
        client.ok("EHLO me")
        client.begin()
        for line in content.splitlines(keepends=True):
            client.tls.write(line)  # each a record of its own
        client.sock.sendall(client._outgoing.read())
        client.send(b".\r\n")
        sent.set()
        assert client.reply().startswith("250")
    assert b"".join(read) == content
