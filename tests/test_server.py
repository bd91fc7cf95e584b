"""The server: listening, stopping, threads, the live connections."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import smtplib
import socket as stdlib_socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gevent
import psutil
import pytest
from gevent import socket
from gevent.event import Event
from gevent.pywsgi import WSGIServer
from gevent.server import StreamServer
from support import (
    BlockingClient,
    Certificate,
    Client,
    Witness,
    descriptors,
    greenlets,
    poll,
    python,
    raising,
    running,
    talking,
    tcp_address,
    until_read,
    witnessed,
)

from smtp_blinker import Address, MessageStream, Reject, Session, SMTPServer, signals
from smtp_blinker.signals import close, connect, disconnect, error, listening


def shutting_down(client: Client) -> None:
    client.ends_with("421 4.3.2")


def test_close_and_start_listens_again() -> None:
    with running() as server:
        server.close()
        with pytest.raises(ConnectionRefusedError):
            stdlib_socket.create_connection(tcp_address(server))
        server.start()
        assert Client(server).greeting.startswith("220")


@pytest.mark.parametrize("given", [True, False])
def test_a_unix_server_can_be_started_again(given: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    listener: Any = f"unix:{path}"
    if given:
        listener = stdlib_socket.socket(stdlib_socket.AF_UNIX)
        listener.bind(path)
    server = SMTPServer(listener)
    for _ in range(3):
        server.start()
        assert Client(path).greeting.startswith("220")
        server.stop(timeout=0)


def test_a_unix_socket_whose_owner_is_too_busy_to_accept_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with stdlib_socket.socket(stdlib_socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        waiting = [stdlib_socket.socket(stdlib_socket.AF_UNIX) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(path)
        with pytest.raises(OSError, match="in use"):
            SMTPServer(f"unix:{path}").start()
        for one in waiting:
            one.close()


@pytest.mark.parametrize("given", [True, False])
def test_a_client_that_is_accepted_as_it_stops_is_told_421(given: bool) -> None:
    listener = socket.create_server(("127.0.0.1", 0)) if given else ("127.0.0.1", 0)
    with running(listener) as server:
        client = BlockingClient(server, greet=False)  # the hub doesn't run meanwhile
        # As gevent does it when the listener is ready; then nothing runs before `stop` does.
        accepted = StreamServer.do_read(server)
        assert accepted
        server.do_handle(*accepted)
        server.stop()
        assert not server.connections
        client.ends_with("421 4.3.2")


def test_a_logger_that_raises_costs_no_on_close_and_no_place() -> None:
    class Filter(logging.Filter):
        def filter(self, record: Any) -> bool:
            if "AUTH PLAIN for" in record.getMessage():
                raise LookupError
            return True

    logger = logging.Logger("fails", logging.DEBUG)
    logger.addHandler(logging.NullHandler())
    closed: list[Any] = []
    with running(
        on_auth=lambda auth, session: True, on_close=closed.append, max_clients=1, logger=logger
    ) as server:
        logger.addFilter(Filter())
        witness = Witness(server)
        with Client(server, hello="EHLO me") as client:
            client.send(b"AUTH PLAIN\r\n")
        poll(lambda: not server.connections)
        assert len(closed) == 1
        assert witness.names.count("disconnect") == 1
        logger.removeFilter(logger.filters[0])
        assert Client(server).greeting.startswith("220")


# Listeners


def test_port_0_of_a_tuple_becomes_the_real_port() -> None:
    assert issubclass(SMTPServer, StreamServer)
    with running(("127.0.0.1", 0)) as server:
        assert server.address == ("127.0.0.1", server.server_port)
        assert tcp_address(server)[1] > 0
        assert Client(server).greeting.startswith("220 mx.test ESMTP")


def test_a_bound_blocking_socket_of_the_standard_library_does_not_stall_the_hub() -> None:
    sock = stdlib_socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    server = SMTPServer(sock, disable_reverse_lookup=True)
    seen: list[bytes] = []

    def talk() -> None:
        with stdlib_socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            try:
                seen.append(client.recv(100))
            except TimeoutError:
                seen.append(b"stalled")
                # One more connection sets a stalled accept free.
                stdlib_socket.create_connection(("127.0.0.1", port)).close()

    thread = threading.Thread(target=talk)
    server.start()
    try:
        thread.start()
        poll(lambda: seen)
    finally:
        thread.join()
        server.stop(timeout=0)
    assert seen[0].startswith(b"220 ")


def test_ipv6_clients_are_served() -> None:
    with running(("::1", 0)) as server:
        sessions: list[Any] = []
        server.on_connect(sessions.append)
        assert Client(server).greeting.startswith("220")
    assert sessions[0].remote_address == "::1"
    assert sessions[0].local_port == server.server_port


def test_an_ipv4_client_of_an_ipv6_listener_has_its_ipv4_address() -> None:
    sessions: list[Any] = []
    with running(("::", 0), on_connect=sessions.append) as server:
        Client(("127.0.0.1", server.server_port))
    assert sessions[0].remote_address == "127.0.0.1"


def test_unix_path_is_a_listener(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with running(f"unix:{path}", lmtp=True) as server:
        assert server.address == path
        witness = Witness(server)
        with Client(path, hello="LHLO me") as client:
            assert client.message() == "250 2.0.0 OK: message queued"
            assert client.cmd("QUIT").startswith("221")
        witness.one("disconnect")
        assert witness.one("connect").remote_address == ""
    assert not os.path.exists(path)


def test_unix_socket_that_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    dead = stdlib_socket.socket(stdlib_socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with running(f"unix:{path}"):
        assert Client(path).greeting.startswith("220")


def test_unix_socket_of_a_live_server_is_not_taken_away(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with running(f"unix:{path}"):
        second = SMTPServer(f"unix:{path}")
        witness = Witness(second)
        with pytest.raises(OSError, match="in use") as caught:
            second.start()
        assert caught.value.errno == errno.EADDRINUSE
        assert witness.one("error").code == "EADDRINUSE"
        second.stop()
        assert Client(path).greeting.startswith("220")


def test_a_file_in_the_unix_socket_s_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    server = SMTPServer(f"unix:{path}")
    with pytest.raises(OSError, match="in use"):
        server.start()
    server.stop()
    assert path.read_text() == "mine"


def pair(server: SMTPServer) -> Client:
    """A client whose socket somebody else accepted and gave to `handle`."""
    with stdlib_socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, address = listener.accept()
    gevent.spawn(server.handle, near, address)
    client = Client.__new__(Client)
    client.sock, client.buffer, client._tls = far, b"", None
    client.greeting = client.reply()
    return client


def test_a_server_without_a_listener_serves_the_sockets_it_is_given() -> None:
    server = SMTPServer(None, disable_reverse_lookup=True)
    server.start()
    witness = Witness(server)
    client = pair(server)
    assert len(server.connections) == 1
    client.ok("EHLO me")
    assert client.message().startswith("250")
    server.stop(timeout=0)
    shutting_down(client)
    assert witness.one("disconnect").reason == "shutdown"
    assert witness.names[-1] == "close"


def test_a_server_without_a_listener_that_was_never_started_ends_its_clients_in_stop() -> None:
    server = SMTPServer(None, disable_reverse_lookup=True)
    witness = Witness(server)
    client = pair(server)
    server.stop(timeout=0)
    assert not server.connections
    shutting_down(client)
    assert witness.names[-2:] == ["disconnect", "close"]


def test_taken_port_raises_out_of_start_and_shows_in_error() -> None:
    with running() as first:
        second = SMTPServer(tcp_address(first))
        witness = Witness(second)
        with pytest.raises(OSError, match="in use") as caught:
            second.start()
        assert caught.value.errno == errno.EADDRINUSE
        event = witness.one("error")
        assert event.code == "EADDRINUSE"
        assert event.error is caught.value
        assert (event.remote_address, event.id, event.response_code) == (None, None, None)
        assert event.meta["stage"] == "listen"
        assert witness.names == ["error"]
        assert not second.started
    second.start()
    second.stop()


def test_taken_port_raises_out_of_serve_forever() -> None:
    with running() as first, pytest.raises(OSError, match="in use"):
        SMTPServer(tcp_address(first)).serve_forever()


def test_address_that_is_not_ours_raises_and_shows_in_error() -> None:
    server = SMTPServer(("192.0.2.1", 0))
    witness = Witness(server)
    with pytest.raises(OSError, match="assign"):
        server.start()
    assert witness.one("error").code == "EADDRNOTAVAIL"


def test_listening_is_sent_when_the_socket_listens() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    greetings = []

    @listening.connect_via(server)
    def connect_at_once(sender: Any) -> None:
        assert sender is server
        stdlib_socket.create_connection(tcp_address(server)).close()
        greetings.append(server.server_port)

    server.start()
    server.start()
    server.stop(timeout=0)
    assert greetings == [server.server_port]


def test_it_sits_beside_a_wsgi_server() -> None:
    def application(env: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"hi"]

    web = WSGIServer(("127.0.0.1", 0), application, log=None)
    web.start()
    with running() as server, socket.create_connection(("127.0.0.1", web.server_port)) as http:
        http.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert Client(server).greeting.startswith("220")
        assert http.recv(100).startswith(b"HTTP/1.1 200")
    web.stop()


# stop


def test_stop_tells_idle_clients_421_at_once() -> None:
    with running(close_timeout=3600) as server:
        clients = [Client(server), Client(server, hello="EHLO me"), Client(server, hello="HELO me")]
        clients[2].envelope()
        server.stop()
        for client in clients:
            shutting_down(client)


def test_stop_tells_a_client_inside_auth_421() -> None:
    with talking(close_timeout=3600, on_auth=lambda auth, session: "me") as client:
        assert client.cmd("AUTH LOGIN").startswith("334")
        client.server.stop()
        shutting_down(client)


def test_stop_ends_a_stalled_handshake_and_a_missing_proxy_header(certificate: Certificate) -> None:
    for options in ({"secure": True, **certificate.options}, {"use_proxy": True}):
        with witnessed(close_timeout=3600, proxy_timeout=3600, **options, greet=False) as client:
            poll(lambda: client.server.connections)
            [connection] = client.server.connections
            poll(lambda: connection.transport.waiting)  # noqa: B023
            client.server.stop()
            assert client.ended()
            assert client.witness.one("disconnect").reason == "shutdown"


def test_stop_accepts_nobody_new() -> None:
    hold = Event()
    with talking(on_mail_from=lambda address, session: hold.wait() and None) as client:
        client.send(b"MAIL FROM:<>\r\n")
        until_read(client.server, client)
        stopping = gevent.spawn(client.server.stop)
        poll(lambda: client.server.closed)
        with pytest.raises(ConnectionRefusedError):
            Client(client.server)
        assert not stopping.ready()
        hold.set()
        stopping.get()
        assert client.reply().startswith("250")
        shutting_down(client)


@pytest.mark.parametrize("secure", [False, True])
def test_stop_lets_content_end_with_its_250_and_tells_421_then(
    secure: bool, certificate: Certificate
) -> None:
    contents = []
    options = {"secure": True, **certificate.options} if secure else {}
    with talking(
        close_timeout=3600,
        on_data=lambda stream, session: contents.append(stream.read()),
        **options,
    ) as client:
        client.begin()
        client.send(b"one\r\n")
        stopping = gevent.spawn(client.server.stop)
        poll(lambda: client.server.closed)
        client.send(b"two\r\n")
        until_read(client.server, client)
        assert not stopping.ready()
        client.send(b".\r\n")
        assert client.reply().startswith("250")
        shutting_down(client)
        stopping.get()
    assert contents == [b"one\r\ntwo\r\n"]


def test_stop_waits_for_the_hook_of_a_client_that_has_sent_everything() -> None:
    hold, reached = Event(), Event()

    def on_data(stream: MessageStream, session: Session) -> str:
        stream.read()
        reached.set()
        hold.wait()
        return "kept"

    with talking(close_timeout=3600, on_data=on_data) as client:
        client.begin()
        client.send(b".\r\n")
        reached.wait()
        stopping = gevent.spawn(client.server.stop)
        poll(lambda: client.server.closed)
        assert not stopping.ready()
        hold.set()
        assert client.reply() == "250 2.0.0 kept"
        shutting_down(client)
        stopping.get()


@pytest.mark.parametrize("where", ["content", "hook", "TLS content"])
def test_what_is_left_after_the_timeout_is_closed_with_421(
    where: str, certificate: Certificate
) -> None:
    closed: list[Any] = []
    reached = Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        reached.set()
        if where == "hook":
            gevent.sleep(3600)
        stream.read()

    with witnessed(
        on_data=on_data, on_close=closed.append, close_timeout=0.05, **certificate.options
    ) as client:
        if where == "TLS content":
            client.starttls()
            client.ok("EHLO me")
        client.envelope()
        client.send(b"DATA\r\none\r\n")
        reached.wait()
        client.server.stop()
        assert not client.server.connections
        assert len(closed) == 1
        assert client.witness.one("disconnect").reason == "shutdown"
        assert client.witness.names[-1] == "close"
        replies = client.rest().decode().splitlines()
        assert replies[-1].startswith("421 4.3.2")
        assert len(replies) <= 2  # perhaps the 354


def test_the_argument_of_stop_is_the_timeout() -> None:
    with talking(close_timeout=3600) as client:
        client.begin()
        client.server.stop(timeout=0)
        shutting_down(client)


def test_stop_ends_a_hook_that_swallows_the_first_kill() -> None:
    def on_mail_from(address: Address, session: Session) -> None:
        try:
            gevent.sleep(3600)
        except gevent.GreenletExit:
            gevent.sleep(3600)

    closed: list[Any] = []
    with talking(on_mail_from=on_mail_from, on_close=closed.append) as client:
        client.send(b"MAIL FROM:<>\r\n")
        until_read(client.server, client)
        client.server.stop(timeout=0)
        assert not client.server.connections
    assert len(closed) == 1


def test_stop_ends_a_client_that_never_reads() -> None:
    with talking(max_junk_commands=None, close_timeout=0.1, hello=None) as client:
        client.sock.settimeout(0.3)
        with contextlib.suppress(TimeoutError):
            while True:
                client.sock.sendall(b"HELP\r\n" * 10000)
        client.server.stop()
        assert not client.server.connections


def test_stop_runs_every_on_close_and_waits_for_it() -> None:
    closed = []

    def on_close(session: Session) -> None:
        gevent.sleep(0.05)
        closed.append(session.id)

    with running(on_close=on_close) as server:
        clients = [Client(server, hello="EHLO me") for _ in range(5)]
        server.stop()
        assert len(set(closed)) == len(closed) == len(clients)


def test_close_is_sent_once_and_last() -> None:
    with running(on_close=lambda session: gevent.sleep(0.02)) as server:
        witness = Witness(server)
        clients = [Client(server, hello="EHLO me") for _ in range(3)]
        server.stop()
        assert clients
        assert witness.names == ["connect"] * 3 + ["disconnect"] * 3 + ["close"]
        assert witness.senders == {server}
        server.stop()
        assert witness.names.count("close") == 1


def test_nothing_listens_and_nobody_is_connected_when_close_is_sent() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    seen = []

    @close.connect_via(server)
    def look(sender: Any) -> None:
        with stdlib_socket.socket() as probe:
            seen.append((probe.connect_ex(server.address), set(server.connections)))

    server.start()
    client = Client(server)
    server.stop()
    shutting_down(client)
    assert seen == [(errno.ECONNREFUSED, set())]


def test_stop_of_a_server_that_was_never_started_returns() -> None:
    server = SMTPServer(("127.0.0.1", 0))
    server.stop()
    server.stop(timeout=1)
    server.start()
    Client(server)
    server.stop(timeout=0)


def test_two_stops_at_once_both_return_when_it_is_over() -> None:
    hold = Event()
    with witnessed(on_mail_from=lambda address, session: hold.wait() and None) as client:
        client.send(b"MAIL FROM:<>\r\n")
        until_read(client.server, client)
        stops = [gevent.spawn(client.server.stop) for _ in range(3)]
        poll(lambda: client.server.closed)
        assert not any(one.ready() for one in stops)
        hold.set()
        gevent.joinall(stops, timeout=30, raise_error=True)
        assert all(one.successful() for one in stops)
        assert client.witness.names.count("close") == 1
        assert not client.server.connections


def test_a_hook_may_stop_the_server() -> None:
    def on_rcpt_to(address: Address, session: Session) -> None:
        server.stop()

    with running(on_rcpt_to=on_rcpt_to, close_timeout=45) as server:
        witness = Witness(server)
        idle = Client(server, hello="EHLO me")
        client = Client(server, hello="EHLO me")
        client.ok("MAIL FROM:<>")
        assert client.cmd("RCPT TO:<b@example.com>").startswith("250")
        shutting_down(client)
        shutting_down(idle)
        poll(lambda: not server.connections)
        assert witness.names.count("close") == 1


def test_two_hooks_may_stop_the_server_at_once() -> None:
    both = Event()

    def on_mail_from(address: Address, session: Session) -> None:
        both.wait()
        server.stop()

    with running(on_mail_from=on_mail_from, close_timeout=5) as server:
        witness = Witness(server)
        clients = [Client(server, hello="EHLO me") for _ in range(2)]
        for client in clients:
            client.send(b"MAIL FROM:<>\r\n")
        until_read(server, client)
        both.set()
        poll(lambda: "close" in witness.names and not server.connections)
        assert witness.names.count("close") == 1
        assert all(client.rest() for client in clients)


@pytest.mark.parametrize("signal", [connect, disconnect, signals.message])
def test_a_listener_may_stop_the_server(signal: Any) -> None:
    with running() as server:
        witness = Witness(server)

        def stop(sender: Any, event: Any) -> None:
            server.stop()

        signal.connect(stop, sender=server)
        client = Client(server)
        client.send(b"EHLO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\n")
        if signal is not connect:
            client.send(b"DATA\r\n")
            until_read(server, client)
            client.send(b".\r\nQUIT\r\n")
        client.rest()
        poll(lambda: "close" in witness.names and not server.connections)
        assert witness.names.count("close") == 1
        assert witness.names.count("error") == 0


def test_a_listener_of_error_may_stop_the_server_from_start() -> None:
    with running() as first:
        second = SMTPServer(tcp_address(first))

        @error.connect_via(second)
        def stop(sender: Any, event: Any) -> None:
            second.stop()

        with pytest.raises(OSError, match="in use"):
            second.start()


def test_a_listener_of_listening_may_stop_the_server() -> None:
    server = SMTPServer(("127.0.0.1", 0))
    witness = Witness(server)

    @listening.connect_via(server)
    def stop(sender: Any) -> None:
        server.stop()

    server.start()
    assert sorted(witness.names) == ["close", "listening"]
    assert server.closed


def test_a_listener_of_close_may_stop_the_server_again() -> None:
    server = SMTPServer(("127.0.0.1", 0))
    witness = Witness(server)

    @close.connect_via(server)
    def stop(sender: Any) -> None:
        server.stop()

    server.start()
    with gevent.Timeout(10):
        server.stop()
    assert witness.names == ["listening", "close"]


def test_a_listener_of_close_may_start_the_server_again() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    rounds = []

    @close.connect_via(server)
    def again(sender: Any) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            server.start()

    server.start()
    server.stop()
    client = Client(server)
    assert client.greeting.startswith("220")
    server.stop()
    shutting_down(client)
    assert len(rounds) == 2


def test_start_works_again_on_the_same_port() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    witness = Witness(server)
    ports = set()
    for _ in range(3):
        server.start()
        ports.add(server.server_port)
        client = Client(server, hello="EHLO me")
        assert client.message().startswith("250")
        server.stop()
        shutting_down(client)
        client.close()
    assert len(ports) == 1
    assert witness.names.count("listening") == witness.names.count("close") == 3


def test_stop_leaves_no_greenlet_and_no_descriptor(certificate: Certificate) -> None:
    def rounds(number: int) -> None:
        for _ in range(number):
            with running(close_timeout=0.05, **certificate.options) as server:
                clients = [Client(server, hello="EHLO me") for _ in range(4)]
                clients[1].begin()
                clients[2].ok("STARTTLS")
                clients[2].start_tls()
                clients[3].ok("STARTTLS")
                server.stop()
                for client in clients:
                    client.rest()
                    client.close()

    rounds(2)
    before, opened = greenlets(), descriptors()
    rounds(5)
    poll(lambda: greenlets() <= before and descriptors() <= opened)


def test_stop_leaves_no_greenlet_at_the_moment_it_returns() -> None:
    before = greenlets()
    with running() as server:
        clients = [Client(server, hello="EHLO me") for _ in range(5)]
        server.stop()
        assert greenlets() <= before
        for client in clients:
            shutting_down(client)


def test_stop_leaves_no_lookup_of_a_name() -> None:
    class Slow:
        lookups = 0

        def reverse(self, address: str) -> list[str]:
            self.lookups += 1
            try:
                gevent.sleep(60)
            finally:
                self.lookups -= 1
            return []

    slow = Slow()
    with running(disable_reverse_lookup=False, resolver=slow) as server:
        clients = [Client(server) for _ in range(5)]
        poll(lambda: slow.lookups == 5)
        server.stop()
        assert slow.lookups == 0
        for client in clients:
            shutting_down(client)


def test_stop_ends_serve_forever_which_returns_when_it_is_over() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True, close_timeout=5)
    witness = Witness(server)
    serving = gevent.spawn(server.serve_forever)
    poll(lambda: server.started)
    hold = Event()
    server.on_mail_from(lambda address, session: hold.wait() and None)
    client = Client(server, hello="EHLO me")
    client.send(b"MAIL FROM:<>\r\n")
    until_read(server, client)
    stopping = gevent.spawn(server.stop)
    poll(lambda: server.closed)
    assert not serving.ready()
    hold.set()
    gevent.joinall([stopping, serving], timeout=30, raise_error=True)  # type: ignore[type-var]
    assert serving.successful()
    assert witness.names.count("close") == 1
    assert client.reply().startswith("250")
    shutting_down(client)


def test_killing_serve_forever_stops_the_server() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    witness = Witness(server)
    serving = gevent.spawn(server.serve_forever)
    poll(lambda: server.started)
    client = Client(server)
    serving.kill()
    shutting_down(client)
    poll(lambda: "close" in witness.names)


# The live connections


def test_connections_holds_those_who_are_connected() -> None:
    with running() as server:
        assert server.connections == set()
        clients = [Client(server) for _ in range(3)]
        assert len(server.connections) == 3
        ports = {client.sock.getsockname()[1] for client in clients}
        assert {one.session.remote_port for one in server.connections} == ports
        clients[0].cmd("QUIT")
        clients[1].close()
        clients[2].reset()
        poll(lambda: not server.connections)


def test_connections_holds_those_who_have_not_been_greeted() -> None:
    with talking(use_proxy=True, greet=False) as client:
        poll(lambda: len(client.server.connections) == 1)
        client.close()
        poll(lambda: not client.server.connections)


# In a thread


def test_run_in_thread_serves_a_program_without_gevent() -> None:
    server = SMTPServer(("127.0.0.1", 0), on_data=lambda stream, session: "kept")
    witness = Witness(server)
    with server.run_in_thread() as same:
        assert same is server
        with smtplib.SMTP(*tcp_address(server), timeout=30) as client:
            client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nhi\r\n")
        idle = stdlib_socket.create_connection(tcp_address(server), timeout=30)
        assert idle.recv(100).startswith(b"220")
    assert idle.recv(100).startswith(b"421 4.3.2")
    assert idle.recv(100) == b""
    idle.close()
    assert witness.names[0] == "listening"
    assert witness.names[-1] == "close"
    assert not server.started
    with pytest.raises(ConnectionRefusedError):
        stdlib_socket.create_connection(tcp_address(server))


def test_a_server_in_a_thread_may_be_stopped_from_another() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    witness = Witness(server)
    with server.run_in_thread():
        idle = stdlib_socket.create_connection(tcp_address(server), timeout=30)
        assert idle.recv(100).startswith(b"220")
        server.stop()
        assert not server.connections
        assert idle.recv(100).startswith(b"421 4.3.2")
        idle.close()
    assert witness.names.count("close") == 1


def test_run_in_thread_raises_the_error_of_start() -> None:
    with running() as first:
        second = SMTPServer(tcp_address(first))
        threads = threading.active_count()
        with pytest.raises(OSError, match="in use"), second.run_in_thread():
            pytest.fail("it was entered")
        assert threading.active_count() == threads
        second.stop()  # which has nothing to do
    with second.run_in_thread():
        stdlib_socket.create_connection(tcp_address(second)).close()


def test_run_in_thread_stops_when_the_block_raises() -> None:
    server = SMTPServer(("127.0.0.1", 0))
    with pytest.raises(KeyError), server.run_in_thread():
        raise KeyError
    assert not server.started


def test_run_in_thread_raises_the_error_of_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    server = SMTPServer(("127.0.0.1", 0))

    def stop() -> None:
        SMTPServer.stop(server)
        raise KeyError("it can't")

    monkeypatch.setattr(server, "stop", stop)
    with pytest.raises(KeyError, match="it can't"), server.run_in_thread():
        pass


def test_it_may_run_in_another_thread_while_the_first_one_lives() -> None:
    # A thread that has been joined may be like this for a while too: its hub counts as living
    # until the operating system has let it exit.
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    first, second = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def run() -> Any:
        server.start()
        client = socket.create_connection(tcp_address(server), timeout=30)
        assert client.recv(200).startswith(b"220")
        stopping = gevent.spawn(server.stop)
        farewell = client.recv(200)
        client.close()
        stopping.get()
        return farewell

    with first, second:
        for pool in (first, second, first):
            assert pool.submit(run).result().startswith(b"421")


def test_it_may_stop_and_start_again_in_its_thread() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    with server.run_in_thread():
        for _ in range(3):
            server.stop()
            with pytest.raises(ConnectionRefusedError):
                stdlib_socket.create_connection(tcp_address(server))
            server.start()
            with smtplib.SMTP(*tcp_address(server), timeout=30) as client:
                assert client.noop()[0] == 250
    assert not server.started
    server.start()  # in this thread again
    assert Client(server).greeting.startswith("220")
    server.stop(timeout=0)


def test_a_start_that_fails_in_its_thread_raises_where_it_was_called() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    with server.run_in_thread():
        server.stop()
        with (
            stdlib_socket.create_server(server.address),
            pytest.raises(OSError, match="in use"),
        ):
            server.start()


def test_stop_from_two_threads_while_it_drains() -> None:
    entered = threading.Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        entered.set()
        poll(lambda: len(others) == 3 and server.closed)

    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True, on_data=on_data)
    sent, others = [], []
    with server.run_in_thread():
        client = smtplib.SMTP(*tcp_address(server), timeout=30)
        sender = threading.Thread(
            target=lambda: sent.append(client.sendmail("a@x.test", ["b@x.test"], "x"))
        )
        sender.start()
        assert entered.wait(30)
        for _ in range(3):
            others.append(threading.Thread(target=server.stop, daemon=True))
            others[-1].start()
    for thread in (sender, *others):
        thread.join(30)
        assert not thread.is_alive()
    assert sent == [{}]


def test_run_in_thread_and_start_take_turns() -> None:
    server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
    for _ in range(2):
        with server.run_in_thread(), smtplib.SMTP(*tcp_address(server), timeout=30) as client:
            assert client.noop()[0] == 250
        server.start()
        assert Client(server).greeting.startswith("220")
        server.stop(timeout=0)


def test_two_servers_run_in_threads_at_once() -> None:
    one, two = (SMTPServer(("127.0.0.1", 0), name=name) for name in ("one.test", "two.test"))
    with one.run_in_thread(), two.run_in_thread():
        for server, name in ((one, b"one"), (two, b"two")):
            with smtplib.SMTP(*tcp_address(server), timeout=30) as client:
                assert name in client.helo("me")[1]


def test_run_in_thread_with_a_hook_that_blocks_serves_the_others() -> None:
    server = SMTPServer(("127.0.0.1", 0), on_mail_from=lambda address, session: gevent.sleep(3600))
    with server.run_in_thread():
        stuck = stdlib_socket.create_connection(tcp_address(server))
        stuck.sendall(b"EHLO me\r\nMAIL FROM:<>\r\n")
        with smtplib.SMTP(*tcp_address(server), timeout=30) as client:
            assert client.noop()[0] == 250
        server.options.__dict__["close_timeout"] = 0
    stuck.close()


def test_run_in_thread_leaves_no_thread_no_hub_and_no_descriptor() -> None:
    process = psutil.Process()

    def rounds(number: int) -> None:
        for _ in range(number):
            server = SMTPServer(("127.0.0.1", 0), disable_reverse_lookup=True)
            with (
                server.run_in_thread(),
                stdlib_socket.create_connection(tcp_address(server)) as client,
            ):
                assert client.recv(100)

    def everything() -> tuple[set[Any], ...]:
        gc.collect()
        # gevent 26.9 keeps the objects themselves, which have given back everything.
        hubs = [one for one in gc.get_objects() if isinstance(one, gevent.hub.Hub)]
        return (
            set(threading.enumerate()),
            {thread.id for thread in process.threads()},
            descriptors(),
            {one for one in hubs if one.loop is not None},
        )

    rounds(3)
    before = everything()
    rounds(50)
    assert all(now <= then for now, then in zip(everything(), before, strict=True))


def test_reject_raised_in_start_of_a_session_does_not_stop_a_threaded_server() -> None:
    server = SMTPServer(("127.0.0.1", 0), on_connect=raising(Reject(554, "no")))
    with server.run_in_thread():
        for _ in range(3):
            with stdlib_socket.create_connection(tcp_address(server), timeout=30) as client:
                assert client.recv(100).startswith(b"554")


def test_stop_serves_nothing_that_is_pipelined_behind_the_last_message() -> None:
    began, go_on = Event(), Event()

    def on_data(stream: MessageStream, session: Session) -> None:
        stream.read()
        began.set()
        go_on.wait()

    transaction = b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nx\r\n.\r\n"
    with witnessed(on_data=on_data, close_timeout=3600) as client:
        client.send(transaction * 20)
        began.wait()
        stopping = gevent.spawn(client.server.stop)
        poll(lambda: client.server.closed)
        gevent.sleep(0)
        gevent.sleep(0)
        go_on.set()
        stopping.get()
        assert [client.reply()[:3] for _ in range(4)] == ["250", "250", "354", "250"]
        client.ends_with("421 4.3.2")
        assert len(client.witness.of("message")) == 1


@pytest.mark.parametrize("where", ["on_connect", "on_auth", "on_rcpt_to", "on_data", "on_close"])
def test_close_comes_after_the_connection_whose_hook_stopped_the_server(where: str) -> None:
    order: list[Any] = []

    def stop(*args: Any) -> Any:
        server.stop()
        order.append("stop returned")
        gevent.sleep(0.05)
        return "me" if where == "on_auth" else None

    with running(close_timeout=3600, auth_optional=True, **{where: stop}) as server:
        witness = Witness(server)
        client = Client(server, greet=False)
        client.send(
            b"EHLO me\r\nAUTH PLAIN AG1lAHB3\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\n"
            b"DATA\r\nx\r\n.\r\nQUIT\r\n"
        )
        client.rest()
        poll(lambda: "close" in witness.names)
        assert order == ["stop returned"]
        assert witness.names[-2:] == ["disconnect", "close"]
        assert not server.connections
        assert server.closed


@pytest.mark.parametrize("signal", [connect, disconnect, signals.message, signals.refused])
def test_close_comes_after_the_connection_whose_listener_stopped_the_server(signal: Any) -> None:
    with running(close_timeout=3600) as server:

        def stop(sender: Any, event: Any) -> None:
            server.stop()
            gevent.sleep(0.05)

        signal.connect(stop, sender=server)
        witness = Witness(server)
        client = Client(server, greet=False)
        client.send(
            b"EHLO me\r\nFOO\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n"
            b"x\r\n.\r\nQUIT\r\n"
        )
        client.rest()
        poll(lambda: "close" in witness.names)
        assert witness.names[-2:] == ["disconnect", "close"]
        assert witness.names.count("error") == 0


@pytest.mark.parametrize("times", [1, 2])
def test_a_stop_in_the_hub_returns_at_once(times: int) -> None:
    # As in a signal handler, which runs there while all wait.
    with witnessed() as client:
        for _ in range(times):
            gevent.get_hub().loop.run_callback(client.server.stop)
        assert client.reply().startswith("421 4.3.2")
        poll(lambda: "close" in client.witness.names)
        assert not client.server.connections
        assert client.witness.names.count("close") == 1


def test_a_signal_handler_may_stop_a_server() -> None:
    program = (
        "import signal; from smtp_blinker import SMTPServer\n"
        "server = SMTPServer(('127.0.0.1', 0))\n"
        "signal.signal(signal.SIGALRM, lambda *args: server.stop())\n"
        "server.start()\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\n"
        "server.serve_forever()\n"
        "print('ended')\n"
    )
    done = python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_a_stop_from_within_and_one_from_outside_end_together() -> None:
    def on_rcpt_to(address: Address, session: Session) -> None:
        client.server.stop()

    with witnessed(on_rcpt_to=on_rcpt_to) as client:
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\n")
        client.reply()
        client.server.stop()
        assert not client.server.connections
        assert client.witness.names.count("close") == 1
        client.server.start()
        Client(client.server, hello="EHLO me").ok("QUIT")
