"""Who counts as a client: the refused don't, and a peer without a PROXY header hears nothing."""

from __future__ import annotations

import pytest
from support import Client, Witness, poll, running, talking

from smtp_blinker.connection import connection


def test_a_refused_client_does_not_count_while_it_still_sends() -> None:
    with running(max_clients=3, max_clients_per_ip=1) as server:
        first = Client(server, source="127.0.0.2")
        pests = []
        for _ in range(20):
            pest = Client(server, greet=False, source="127.0.0.2")
            pest.send(b"x")  # so that the server reads on after its 421
            assert pest.reply().startswith("421 4.7.0")
            pests.append(pest)
        others = [Client(server, hello="EHLO me", source=f"127.0.0.{n}") for n in (3, 4)]
        full = Client(server, greet=False, source="127.0.0.5")
        assert full.reply().startswith("421 4.3.2")
        for client in [first, *others]:
            client.ok("EHLO me", "QUIT")
        poll(lambda: len(server.connections) <= server.lingering)
        Client(server, hello="EHLO me", source="127.0.0.2").ok("QUIT")
        for pest in pests:
            pest.close()
    assert server._admitted == 0
    assert not server._by_address


def test_a_client_that_was_told_its_last_reply_does_not_count() -> None:
    with talking(max_clients=1) as client:
        client.send(b"QUIT\r\n" + b"x" * 20_000)  # more than it reads at once
        assert client.reply().startswith("221")
        poll(lambda: client.server._admitted == 0)
        assert client.server.connections
        Client(client.server, hello="EHLO me").ok("QUIT")


def test_only_so_many_connections_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MAX_LINGERING", 2)
    with running(max_clients=0) as server:
        witness = Witness(server)
        pests = [Client(server, greet=False) for _ in range(6)]
        for pest in pests:
            pest.send(b"x")
        poll(lambda: len(witness.of("refused")) == 6)
        poll(lambda: len(server.connections) <= 2)
        for pest in pests:
            pest.close()
        poll(lambda: not server.connections)
        assert server.lingering == 0


def test_a_full_server_says_nothing_before_a_proxy_header() -> None:
    with running(use_proxy=["192.0.2.1"], max_clients=0) as server:
        assert Client(server, greet=False).rest() == b""


def test_a_full_server_answers_behind_a_proxy_header() -> None:
    with running(use_proxy=True, max_clients=1) as server:
        header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n"
        first = Client(server, greet=False)
        first.send(header)
        assert first.reply().startswith("220")
        second = Client(server, greet=False)
        assert second.silent()
        second.send(header)
        assert second.reply().startswith("421 4.3.2")


def test_peers_that_send_no_header_are_bounded_too() -> None:
    with running(use_proxy=True, max_clients=2, proxy_timeout=60) as server:
        witness = Witness(server)
        waiting = [Client(server, greet=False) for _ in range(2)]
        poll(lambda: server._unintroduced == 2)
        assert Client(server, greet=False).rest() == b""
        assert witness.one("disconnect").detail == "too many peers that have sent no PROXY header"
        waiting[0].send(b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")
        assert waiting[0].reply().startswith("220")
        assert server._unintroduced == 1
    assert server._unintroduced == server._admitted == 0
