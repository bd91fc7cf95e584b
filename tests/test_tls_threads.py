"""A TLS handshake whose key costs much is computed in a thread, where it holds up nobody."""

from __future__ import annotations

import ssl
import threading
from typing import Any

import gevent
import pytest
from support import Certificate, Client, poll, running, talking, trusting

from smtp_blinker.connection import tls
from smtp_blinker.connection.tls import TLSChannel, make_context
from smtp_blinker.pools import HANDSHAKES, Workers


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The threads that handshakes ran in, where every one of them counts as costly."""
    seen = []
    go_on = TLSChannel._go_on

    def noting(channel: TLSChannel) -> bool:
        seen.append(threading.get_ident())
        return go_on(channel)

    monkeypatch.setattr(tls, "COSTLY", 0.0)
    monkeypatch.setattr(TLSChannel, "_go_on", noting)
    return seen


def hello_for(context: ssl.SSLContext) -> tuple[TLSChannel, dict[ssl.SSLContext, float]]:
    """A channel that has a ClientHello to answer, and the costs that it notes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trusting().wrap_bio(incoming, outgoing).do_handshake()
    costs: dict[ssl.SSLContext, float] = {}
    channel = TLSChannel(context, {}, costs)
    channel.received(outgoing.read())
    return channel, costs


@pytest.mark.parametrize("implicit", [False, True])
def test_a_costly_handshake_is_answered_in_a_thread(
    implicit: bool, threads: Any, certificate: Certificate
) -> None:
    with talking(secure=implicit, **certificate.options, greet=not implicit, hello=None) as client:
        if not implicit:
            client.ok("EHLO me", "STARTTLS")
        client.start_tls(None, "localhost")
        if implicit:
            assert client.reply().startswith("220")
        client.ok("EHLO me")
        assert client.message().startswith("250")
    first, *others = threads
    assert first != threading.get_ident()
    assert others
    assert set(others) == {threading.get_ident()}


def test_what_it_costs_is_measured_for_each_certificate(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(**certificate.options)
    channel, costs = hello_for(context)
    used = []
    run = HANDSHAKES.run
    monkeypatch.setattr(HANDSHAKES, "run", lambda *args: used.append(args) or run(*args))  # type: ignore[func-returns-value]
    assert channel.handshake() is False
    assert channel.to_send()
    assert costs[context] > 0
    assert not used  # what a certificate costs is not known before its first handshake
    for cost, expected in ((tls.COSTLY, 1), (tls.COSTLY / 2, 1)):
        channel, costs = hello_for(context)
        costs[context] = cost
        assert channel.handshake() is False
        assert len(used) == expected
        assert costs[context] != cost


def test_a_slow_answer_on_a_busy_machine_does_not_make_a_cheap_key_costly(
    certificate: Certificate,
) -> None:
    context = make_context(**certificate.options)
    channel, costs = hello_for(context)
    costs[context] = 1e-6  # the least so far; the answer takes a hundred times as long
    channel.handshake()
    assert 1e-6 < costs[context] < 1.01e-6


def test_a_retry_request_is_no_measure_and_the_answer_after_it_is_computed_in_a_thread(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise clients without a fitting key share would have each signature made in the hub."""
    context = make_context(**certificate.options)
    context.set_ecdh_curve("secp384r1")  # the client offers a share for another curve first
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting().wrap_bio(incoming, outgoing, server_hostname="localhost")
    costs: dict[ssl.SSLContext, float] = {}
    channel = TLSChannel(context, {}, costs)
    used = []
    run = HANDSHAKES.run
    monkeypatch.setattr(HANDSHAKES, "run", lambda *args: used.append(args) or run(*args))  # type: ignore[func-returns-value]
    for answered in (0, 1):
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        channel.received(outgoing.read())
        assert len(used) == 0
        assert channel.handshake() is False
        assert len(used) == answered
        incoming.write(channel.to_send())
        costs.setdefault(context, tls.COSTLY)
    assert costs[context] != tls.COSTLY


def test_a_handshake_that_fails_in_a_thread_is_told_as_in_the_hub(
    threads: Any, certificate: Certificate
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    own = make_context(**certificate.options)
    own.minimum_version = ssl.TLSVersion.TLSv1_3
    with (
        talking(secure=True, ssl_context=own, greet=False) as client,
        pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
    ):
        client.start_tls(context, "localhost")
    assert threads[0] != threading.get_ident()


def test_an_sni_callback_runs_in_the_hub(threads: Any, certificate: Certificate) -> None:
    """It belongs to the program, which may use gevent in it."""
    context = make_context(**certificate.options)
    context.sni_callback = lambda *args: None
    with running(secure=True, ssl_context=context) as server:
        Client(server, greet=False).start_tls(None, "localhost")
    assert set(threads) == {threading.get_ident()}


def test_a_thread_that_is_still_at_it_keeps_the_buffers(
    threads: Any, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's buffers know no lock: nothing may be read from them before the thread has ended."""
    monkeypatch.setattr(tls, "HANDSHAKES", Workers(1))
    free, begun = threading.Event(), threading.Event()

    def other_work() -> None:
        begun.set()
        free.wait(30)

    channel, _ = hello_for(make_context(**certificate.options))
    tls.HANDSHAKES.spawn(other_work)  # type: ignore[attr-defined]
    waiting = gevent.spawn(channel.handshake)
    poll(lambda: begun.is_set() and tls.HANDSHAKES._tasks.qsize() == 1)  # type: ignore[attr-defined]
    waiting.kill()
    assert channel.to_send() == b""
    assert not threads
    free.set()
    poll(lambda: threads and not channel._in_thread)
    assert channel.to_send()
