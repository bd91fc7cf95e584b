"""RateLimit, ConnectionLimit, AuthLockout and Greylist on one server."""

from __future__ import annotations

import base64
from typing import Any

import gevent
import pytest
import scramp
from support import Client, Witness, auth_plain, poll, running, talking

from smtp_blinker import Reject, ScramKeys
from smtp_blinker.policies import (
    AuthLockout,
    BasePolicy,
    ConnectionLimit,
    Greylist,
    MemoryCounters,
    RateLimit,
)

LOCKED = "454 4.7.0 Temporary authentication failure, try again later"
FAILED = "535"
#: All are judged; the clients of these tests come from 127.0.0.1.
ALL: dict[str, Any] = {"trusted": ()}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def passwords(auth: Any, session: Any) -> Any:
    return auth.password == "right" and auth.username


# RateLimit


def test_messages_are_limited_and_go_on_when_the_window_has_passed() -> None:
    clock = Clock()
    limit = RateLimit("2/minute", counters=MemoryCounters(clock=clock), **ALL)
    seen: list[Any] = []
    with running(on_rcpt_to=lambda address, session: seen.append(session.envelope)) as server:
        server.use(limit)
        with Client(server, hello="EHLO me") as client:
            for _ in range(2):
                assert client.message().startswith("250")
            said = client.cmd("MAIL FROM:<a@example.org>")
            assert said == "451 4.7.0 Too many messages, try again in 60 seconds"
            assert seen[1].results["rate_limit"].as_dict() == {
                "verdict": "allowed",
                "counted": "messages by network",
                "number": 2,
                "refused": False,
                "retry_after": None,
            }
            clock.now += 60
            client.ok("MAIL FROM:<a@example.org>")


def test_another_connection_of_the_network_is_counted_too() -> None:
    with running(use=[RateLimit("1/hour", **ALL)]) as server:
        with Client(server, hello="EHLO me") as client:
            client.ok("MAIL FROM:<a@example.org>")
        with Client(server, hello="EHLO me") as client:
            assert client.cmd("MAIL FROM:<a@example.org>").startswith("451 4.7.0")
        with Client(server, hello="EHLO me", source="127.0.0.2") as client:
            client.ok("MAIL FROM:<a@example.org>")


def test_recipients_are_limited_and_those_accepted_stay() -> None:
    with talking(use=[RateLimit("2/hour", of="recipients", **ALL)]) as client:
        client.envelope("b@example.com", "c@example.com")
        assert client.cmd("RCPT TO:<d@example.com>").startswith("452 4.7.0 Too many rec")
        assert client.cmd("DATA").startswith("354")


def test_connections_are_limited_before_the_greeting() -> None:
    with running() as server:
        server.use(RateLimit("1/second", of="connections", counters=MemoryCounters(clock=Clock()),
                             **ALL))  # fmt: skip
        with Client(server) as client:
            assert client.greeting.startswith("220")
        with Client(server) as client:
            assert client.greeting == "421 4.7.0 Too many connections, try again in 1 second"
            assert client.ended()


def test_by_sender_the_null_one_is_nobody() -> None:
    with talking(use=[RateLimit("1/hour", key="sender", **ALL)]) as client:
        for _ in range(3):
            client.ok("MAIL FROM:<>", "RSET")
        client.ok("MAIL FROM:<a@example.org>", "RSET", "MAIL FROM:<b@example.org>", "RSET")
        assert client.cmd("MAIL FROM:<A@Example.org>").startswith("451")


@pytest.mark.parametrize("as_object", [False, True])
def test_by_user_whatever_the_program_calls_it(as_object: bool) -> None:
    class User:
        pass

    def on_auth(auth: Any, session: Any) -> Any:
        return User() if as_object else auth.username

    options = {"on_auth": on_auth, "auth_optional": True, "allow_insecure_auth": True}
    with running(**options, use=[RateLimit("1/hour", key="user", **ALL)]) as server:
        with Client(server, hello="EHLO me") as client:
            client.ok("MAIL FROM:<a@example.org>", "RSET", "MAIL FROM:<a@example.org>")
        for name, said in (("ann", "250"), ("bob", "250"), ("ann", "451"), ("bob", "451")):
            with Client(server, hello="EHLO me") as client:
                client.ok(auth_plain(name, "right"))
                assert client.cmd("MAIL FROM:<a@example.org>").startswith(said)


def test_loopback_is_trusted_unless_told_otherwise() -> None:
    with running() as server:
        server.use(RateLimit("1/hour"), Greylist(), ConnectionLimit(1, counters=MemoryCounters()))
        with Client(server, hello="EHLO me"), Client(server, hello="EHLO me") as client:
            for _ in range(3):
                assert client.message().startswith("250")


@pytest.mark.parametrize("rate", ["", "5", "0/minute", "5/month", "-1/day", "1/0 hours", "9" * 7])
def test_what_is_no_rate(rate: str) -> None:
    with pytest.raises(ValueError, match='a rate is like "100/minute"'):
        RateLimit(rate)


def test_what_is_a_rate() -> None:
    limit = RateLimit("1000/6 hours")
    assert (limit.number, limit.per) == (1000, 21600)


@pytest.mark.parametrize(
    ("policy", "positional", "keywords", "error", "said"),
    [
        (RateLimit, ["1/day"], {"of": "mails"}, ValueError, "of is one of connections, messages"),
        (RateLimit, ["1/day"], {"key": "ip"}, ValueError, "key is one of network, user, sender"),
        (RateLimit, ["1/day"], {"of": "connections", "key": "user"}, ValueError, "by network"),
        (RateLimit, ["1/day"], {"counters": 7}, TypeError, "counters takes MemoryCounters"),
        (RateLimit, ["1/day"], {"trusted": True}, TypeError, "trusted takes a list"),
        (RateLimit, ["1/day"], {"trusted": ["x"]}, ValueError, "trusted: 'x'"),
        (RateLimit, ["1/day"], {"timeout": 0}, ValueError, "timeout must be greater than 0"),
        (RateLimit, ["1/day"], {"timeout": "1"}, TypeError, "timeout takes a number"),
        (RateLimit, ["1/day"], {"on_failure": "x"}, ValueError, '"accept" or "defer"'),
        (
            ConnectionLimit,
            [0],
            {"counters": MemoryCounters()},
            ValueError,
            "number must be a whole",
        ),
        (AuthLockout, [0], {}, ValueError, "failures must be a whole number"),
        (AuthLockout, [], {"per": 0}, ValueError, "per must be 1 second or more"),
        (Greylist, [0], {}, ValueError, "delay is from 0"),
    ],
)
def test_a_wrong_keyword_says_what_would_be_right(
    policy: Any, positional: list[Any], keywords: dict[str, Any], error: Any, said: str
) -> None:
    with pytest.raises(error, match=said):
        policy(*positional, **keywords)


# ConnectionLimit


def test_live_connections_are_limited_and_given_back() -> None:
    limit = ConnectionLimit(2, counters=MemoryCounters(), **ALL)
    with running(use=[limit]) as server:
        with Client(server), Client(server) as second:
            with Client(server) as third:
                assert third.greeting == "421 4.7.0 Too many connections from your network"
            second.reset()
            poll(lambda: len(server.connections) == 1)
            with Client(server) as fourth:
                assert fourth.greeting.startswith("220")
        poll(lambda: not server.connections)
        assert limit.counters.leases == {}  # type: ignore[attr-defined]
        assert limit._held == {}


# AuthLockout


@pytest.fixture
def clock() -> Clock:
    return Clock()


def locking(clock: Clock, failures: int = 2, **more: Any) -> AuthLockout:
    return AuthLockout(failures, 900, counters=MemoryCounters(clock=clock), **ALL, **more)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smtp_blinker.commands.auth.AUTH_FAILURE_DELAY", 0)


AUTH: dict[str, Any] = {"auth_optional": True, "allow_insecure_auth": True}


def attempt(server: Any, name: str, password: str, source: str = "127.0.0.1") -> str:
    with Client(server, hello="EHLO me", source=source) as client:
        return client.cmd(auth_plain(name, password))


def test_an_account_is_locked_from_everywhere_and_opens_again(clock: Clock) -> None:
    asked: list[str] = []

    def on_auth(auth: Any, session: Any) -> Any:
        asked.append(auth.username)
        return passwords(auth, session)

    with running(on_auth=on_auth, **AUTH, use=[locking(clock)]) as server:
        assert attempt(server, "ann", "wrong", "127.0.0.2").startswith(FAILED)
        assert attempt(server, "Ann", "wrong", "127.0.0.3").startswith(FAILED)
        assert len(asked) == 2
        assert attempt(server, "ann", "right", "127.0.0.4") == LOCKED
        assert len(asked) == 2
        assert attempt(server, "bob", "right", "127.0.0.4").startswith("235")
        clock.now += 900
        assert attempt(server, "ann", "right", "127.0.0.4").startswith("235")


def test_a_network_is_locked_for_all_accounts_and_success_does_not_open_it(clock: Clock) -> None:
    with running(on_auth=passwords, **AUTH, use=[locking(clock, 3)]) as server:
        assert attempt(server, "ann", "wrong").startswith(FAILED)
        assert attempt(server, "bob", "wrong").startswith(FAILED)
        assert attempt(server, "eve", "right").startswith("235")
        assert attempt(server, "cid", "wrong").startswith(FAILED)
        assert attempt(server, "eve", "right") == LOCKED
        assert attempt(server, "ann", "right", "127.0.0.2").startswith("235")


def test_success_clears_the_account(clock: Clock) -> None:
    with running(on_auth=passwords, **AUTH, use=[locking(clock)]) as server:
        for number in range(3):
            source = f"127.0.0.{number + 2}"
            assert attempt(server, "ann", "wrong", source).startswith(FAILED)
            assert attempt(server, "ann", "right", source).startswith("235")


def test_successes_are_no_failures_of_the_network(clock: Clock) -> None:
    with running(on_auth=passwords, **AUTH, use=[locking(clock)]) as server:
        for number in range(5):
            assert attempt(server, f"user{number}", "right").startswith("235")


def test_successes_of_ignored_hosts_are_no_failures(clock: Clock) -> None:
    with running(on_auth=passwords, ignored_hosts=["127.0.0.1"], **AUTH) as server:
        server.use(locking(clock))
        for _ in range(5):
            assert attempt(server, "probe", "right").startswith("235")
            poll(lambda: not server.connections)


def test_a_fault_of_the_program_is_no_failure_of_the_account(clock: Clock) -> None:
    away = [True]

    def on_auth(auth: Any, session: Any) -> Any:
        if away[0]:
            raise OSError("the database is away")
        return passwords(auth, session)

    with running(on_auth=on_auth, **AUTH, use=[locking(clock)]) as server:
        for _ in range(5):
            assert attempt(server, "ann", "right").startswith("451")
        away[0] = False
        assert attempt(server, "ann", "right").startswith("235")


def test_many_guesses_at_once_are_no_more_than_the_number(clock: Clock) -> None:
    asked: list[str] = []

    def on_auth(auth: Any, session: Any) -> Any:
        asked.append(auth.password)
        gevent.sleep(0.02)
        return None

    with running(on_auth=on_auth, **AUTH, use=[locking(clock, 3)]) as server:
        guesses = [
            gevent.spawn(attempt, server, "ann", f"guess {number}", f"127.0.0.{number + 2}")
            for number in range(20)
        ]
        gevent.joinall(guesses, raise_error=True)
        assert sorted(str(guess.value)[:3] for guess in guesses) == ["454"] * 17 + ["535"] * 3
        assert len(asked) == 3


def test_unknown_mechanisms_count_for_the_network(clock: Clock) -> None:
    with talking(on_auth=passwords, **AUTH, use=[locking(clock)]) as client:
        for _ in range(2):
            assert client.cmd("AUTH SESAME").startswith("504")
        assert client.cmd(auth_plain("ann", "right")) == LOCKED


def test_login_in_several_lines_is_counted_once(clock: Clock) -> None:
    with running(on_auth=passwords, **AUTH, use=[locking(clock)]) as server:
        for said in (FAILED, FAILED, "454"):
            with Client(server, hello="EHLO me") as client:
                client.ok("AUTH LOGIN", base64.b64encode(b"ann").decode())
                assert client.cmd(base64.b64encode(b"wrong").decode()).startswith(said)


def scram(client: Client, name: str, password: str) -> str:
    peer = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    first = base64.b64encode((peer.get_client_first() or "").encode()).decode()
    said = client.cmd(f"AUTH SCRAM-SHA-256 {first}")
    peer.set_server_first(base64.b64decode(said[4:]).decode())
    said = client.cmd(base64.b64encode((peer.get_client_final() or "").encode()))
    return client.cmd("") if said.startswith("334") else said


def test_a_locked_account_hears_the_same_for_a_right_and_a_wrong_scram_proof(clock: Clock) -> None:
    keys = ScramKeys.from_password("right", iterations=4096)
    asked: list[str] = []

    def on_auth(auth: Any, session: Any) -> Any:
        asked.append(auth.username)
        return auth.username

    options: dict[str, Any] = {
        "auth_methods": ("SCRAM-SHA-256",),
        "on_scram": lambda username, mechanism, session: keys,
        "on_auth": on_auth,
    }
    with running(**options, **AUTH, use=[locking(clock)]) as server:

        def log_in(password: str, source: str) -> str:
            with Client(server, hello="EHLO me", source=source) as client:
                return scram(client, "ann", password)

        assert log_in("right", "127.0.0.2").startswith("235")
        assert len(asked) == 1
        assert log_in("wrong", "127.0.0.2").startswith(FAILED)
        assert log_in("wrong", "127.0.0.3").startswith(FAILED)
        assert log_in("wrong", "127.0.0.4") == LOCKED
        assert log_in("right", "127.0.0.4") == LOCKED
        assert len(asked) == 1


# Greylist


def test_a_new_triplet_has_to_come_again(clock: Clock) -> None:
    with running(use=[Greylist(counters=MemoryCounters(clock=clock), **ALL)]) as server:

        def rcpt(source: str = "127.0.0.1", sender: str = "a@example.org") -> str:
            with Client(server, hello="EHLO me", source=source) as client:
                client.ok(f"MAIL FROM:<{sender}>")
                return client.cmd("RCPT TO:<b@example.com>")

        assert rcpt() == "451 4.7.1 Greylisted, try again in 300 seconds"
        clock.now += 299.5
        assert rcpt("127.0.0.9") == "451 4.7.1 Greylisted, try again in 1 second"  # the same /24
        clock.now += 0.5
        assert rcpt().startswith("250")
        assert rcpt().startswith("250")
        assert rcpt(sender="other@example.org").startswith("451 4.7.1")
        assert rcpt("127.0.1.1").startswith("451 4.7.1")


def test_an_ipv6_client_is_known_by_its_64(clock: Clock) -> None:
    with running(use_xclient=True) as server:
        server.use(Greylist(counters=MemoryCounters(clock=clock), **ALL))
        for address, said in (
            ("2001:db8:0:1::7", "451"),
            ("2001:db8:0:1:ffff::8", "250"),
            ("2001:db8:0:2::7", "451"),
            ("::ffff:192.0.2.1", "451"),
            ("::ffff:198.51.100.1", "451"),
        ):
            with Client(server, hello="EHLO me") as client:
                assert client.cmd(f"XCLIENT ADDR=IPV6:{address}").startswith("220")
                client.ok("EHLO me", "MAIL FROM:<a@example.org>")
                assert client.cmd("RCPT TO:<b@example.com>").startswith(said), address
            clock.now += 300


def test_where_spf_passes_the_domain_stands_for_the_network(clock: Clock) -> None:
    class Passes:
        def on_mail_from(self, address: Any, session: Any) -> None:
            class Result:
                result = "pass"

            class Found:
                spf = Result()

            session.envelope.results["sender_authentication"] = Found()

    with running(use=[Passes(), Greylist(counters=MemoryCounters(clock=clock), **ALL)]) as server:
        for source, said in (("127.0.0.1", "451"), ("127.0.1.1", "250"), ("127.0.2.1", "250")):
            with Client(server, hello="EHLO me", source=source) as client:
                client.ok("MAIL FROM:<a@example.org>")
                assert client.cmd("RCPT TO:<b@example.com>").startswith(said)
            clock.now += 300


def test_those_who_authenticated_are_not_greylisted() -> None:
    with talking(on_auth=passwords, **AUTH, use=[Greylist(**ALL)]) as client:
        client.ok(auth_plain("ann", "right"))
        client.envelope()


# What all have in common


def test_failures_are_events_and_where_asked_for_a_451() -> None:
    class Asks(BasePolicy):
        name = "asks"

        def on_mail_from(self, address: Any, session: Any) -> None:
            if self.judges(session):
                self.fail(session, TimeoutError("no answer"))

    with running() as server:
        witness = Witness(server)
        server.use(Asks(trusted=["127.0.0.2"]), Asks(trusted=["127.0.0.2"], on_failure="defer"))
        with Client(server, hello="EHLO me") as client:
            said = client.cmd("MAIL FROM:<a@example.org>")
            assert said == "451 4.7.1 Try again later: this server can't check mail now"
        with Client(server, hello="EHLO me", source="127.0.0.2") as client:
            client.ok("MAIL FROM:<a@example.org>")
    events = witness.of("error")
    assert [(event.code, event.response_code) for event in events] == [
        ("PolicyFailure", None),
        ("PolicyFailure", 451),
    ]
    assert events[0].meta == {"policy": "asks"}
    assert isinstance(events[0].error.__cause__, TimeoutError)


def test_a_policy_s_refusal_ends_what_the_others_would_count() -> None:
    class Refuses:
        def on_mail_from(self, address: Any, session: Any) -> None:
            if address.address == "bad@example.org":
                raise Reject(550, "no")

    with talking(use=[Refuses(), RateLimit("1/hour", **ALL)]) as client:
        assert client.cmd("MAIL FROM:<bad@example.org>").startswith("550")
        client.ok("MAIL FROM:<a@example.org>")
