"""DNSBlocklist and its resolver with Knot DNS, and with servers that misbehave."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("dns")

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rrset
import gevent
from gevent.lock import BoundedSemaphore
from support import HOST, free_port

from smtp_blinker.policies import DNSBlocklist
from smtp_blinker.policies.dns import NO_SUCH_NAME, DNSFailure, Resolver
from smtp_blinker.policies.dnsbl import _reversed

from .knot import running_knot

#: Long enough for every answer of a server that is there, on a busy machine.
PATIENCE = 20.0
EVERYBODY: dict[str, Any] = {"trusted": (), "timeout": PATIENCE}

ZONES = {
    "bl.test": """
1.0.0.127 A 127.0.0.2
1.0.0.127 A 127.0.0.10
1.0.0.127 TXT "Listed, see https://bl.test/1" "27\\013\\010250 forged \\228"
1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 A 127.0.0.4
""",
    "other.test": """
2.0.0.127 A 127.0.0.3
2.0.0.127 TXT "{long}"
""".format(long="x" * 250),
    "spamhaus.test": "*.0.0.127 A 127.255.255.254\n",
    "uribl.test": "*.0.0.127 A 127.0.0.1\n",
    "parked.test": "*.0.0.127 A 192.0.2.1\n",
    "alias.test": """
1.0.0.127 CNAME target
target A 127.0.0.5
gone CNAME nothing
2.0.0.127 CNAME 3.0.0.127
3.0.0.127 CNAME 2.0.0.127
""",
    "big.test": "1.0.0.127 A 127.0.0.2\n" + "1.0.0.127 TXT {}\n".format(
        " ".join(f'"{number:0200d}"' for number in range(20))
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with running_knot(tmp_path_factory.mktemp("knot"), ZONES) as address:
        yield address


def mail(served: Any, source: str = HOST) -> tuple[int, str]:
    with smtplib.SMTP(
        HOST, served.server.server_port, source_address=(source, 0), timeout=30
    ) as client:
        client.ehlo()
        code, text = client.mail("a@example.org")
        return code, text.decode("ascii")


Serve = Callable[..., Any]


def test_a_listed_client_hears_what_the_list_says(serve: Serve, knot: Any) -> None:
    served = serve()
    served.server.use(DNSBlocklist("bl.test", resolver=Resolver([knot]), **EVERYBODY))
    code, text = mail(served)
    assert code == 554
    assert text == (
        "5.7.1 Client address [127.0.0.1] is listed by bl.test: "
        "Listed, see https://bl.test/127??250 forged ?"
    )
    assert mail(served, "127.0.0.9")[0] == 250


def test_several_lists_and_what_is_found_without_refusing(serve: Serve, knot: Any) -> None:
    found: list[Any] = []
    served = serve(on_mail_from=lambda address, session: found.append(session.results))
    zones = ["other.test", "BL.test.", "alias.test"]
    served.server.use(DNSBlocklist(zones, reject=False, resolver=Resolver([knot]), **EVERYBODY))
    assert mail(served)[0] == 250
    assert mail(served, "127.0.0.2")[0] == 250
    first, second = (one["dnsblocklist"] for one in found)
    assert [(one.zone, sorted(one.answers)) for one in first.listings] == [
        ("bl.test", ["127.0.0.10", "127.0.0.2"]),
        ("alias.test", ["127.0.0.5"]),
    ]
    assert second.as_dict()["listings"][0]["text"] == "x" * 200
    # Aliases in a circle are no listing, and no answer.
    assert [zone for zone, _ in second.failures] == ["alias.test"]


@pytest.mark.parametrize("zone", ["spamhaus.test", "uribl.test", "parked.test"])
def test_you_may_not_ask_is_a_failure_and_no_listing(serve: Serve, knot: Any, zone: str) -> None:
    served = serve()
    served.server.use(DNSBlocklist(zone, resolver=Resolver([knot]), **EVERYBODY))
    assert mail(served)[0] == 250
    assert "which is not a listing" in str(served.of("error")[0].error)
    assert served.of("error")[0].code == "PolicyFailure"
    served.forget("error")


def test_where_mail_shall_wait_for_an_answer(serve: Serve, knot: Any) -> None:
    served = serve()
    served.server.use(
        DNSBlocklist(
            ["bl.test", "uribl.test"], resolver=Resolver([knot]), on_failure="defer", **EVERYBODY
        )
    )
    assert mail(served)[0] == 554  # one answer is enough
    assert not served.of("error")
    assert mail(served, "127.0.0.9")[0] == 451
    served.forget("error")


def test_ipv6_by_its_nibbles(serve: Serve, knot: Any, ipv6: None) -> None:
    served = serve(("::1", 0))
    served.server.use(DNSBlocklist("bl.test", resolver=Resolver([knot]), **EVERYBODY))
    with smtplib.SMTP("::1", served.server.server_port) as client:
        client.ehlo()
        code, text = client.mail("a@example.org")
    assert (code, text) == (554, b"5.7.1 Client address [::1] is listed by bl.test")
    # RFC 5782 section 2.4's own example.
    assert _reversed("2001:db8:1:2:3:4:567:89ab") == (
        "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"
    )
    assert _reversed("::ffff:192.0.2.99") == _reversed("192.0.2.99") == "99.2.0.192"


def test_one_lookup_serves_the_connection(serve: Serve, knot: Any) -> None:
    asked: list[str] = []
    real = Resolver([knot])

    class Counting:
        def query(self, name: str, kind: str, timeout: float) -> Any:
            asked.append(name)
            return real.query(name, kind, timeout)

    served = serve()
    served.server.use(DNSBlocklist("bl.test", resolver=Counting(), **EVERYBODY))
    with smtplib.SMTP(HOST, served.server.server_port, source_address=("127.0.0.9", 0)) as client:
        client.ehlo()
        for _ in range(3):
            assert client.mail("a@example.org")[0] == 250
            client.rset()
    assert asked == ["9.0.0.127.bl.test"]


@pytest.mark.parametrize("zone", ["", "localhost", "a b.test", "x" * 64 + ".test", 7, []])
def test_what_is_no_zone(zone: Any) -> None:
    with pytest.raises(ValueError, match="zone"):
        DNSBlocklist(zone, resolver=Resolver([HOST]))


# The resolver


def test_a_truncated_reply_is_asked_for_by_tcp(knot: Any) -> None:
    [text] = Resolver([knot]).query("1.0.0.127.big.test", "TXT", PATIENCE)
    assert isinstance(text, bytes)
    assert len(text) == 4000


def test_nothing_there_is_an_answer_that_is_kept(knot: Any) -> None:
    resolver = Resolver([knot])
    assert resolver.query("nothing.bl.test", "A", PATIENCE) == ()
    assert resolver.query("1.0.0.127.bl.test", "AAAA", PATIENCE) == ()
    resolver._servers = [(HOST, free_port())]
    assert resolver.query("Nothing.bl.test.", "A", PATIENCE) == ()
    with pytest.raises(DNSFailure):
        resolver.query("else.bl.test", "A", PATIENCE)


def test_refused_by_one_server_another_is_asked(knot: Any) -> None:
    nothing = (HOST, free_port())
    assert Resolver([nothing, knot]).query("1.0.0.127.big.test", "A", PATIENCE) == ("127.0.0.2",)
    with pytest.raises(DNSFailure, match="REFUSED"):  # it isn't its zone
        Resolver([knot]).query("elsewhere.example", "A", PATIENCE)


class Misbehaving:
    """A name server that sends what *replies* makes of a question."""

    def __init__(self, replies: Callable[[Any], list[bytes]]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((HOST, 0))
        self.address = self.sock.getsockname()
        self.replies = replies
        self.asked = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            wire, client = self.sock.recvfrom(65535)
            if not wire:
                return
            self.asked += 1
            for reply in self.replies(dns.message.from_wire(wire)):
                self.sock.sendto(reply, client)

    def __enter__(self) -> Misbehaving:
        return self

    def __exit__(self, *exc: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self.address)


def answer(question: Any, ttl: int = 60, code: int = 0) -> Any:
    reply = dns.message.make_response(question)
    reply.set_rcode(dns.rcode.Rcode(code))
    if not code:
        name = question.question[0].name
        reply.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", "127.0.0.2"))
    return reply


def test_forged_and_malformed_replies_are_passed_over() -> None:
    def replies(question: Any) -> list[bytes]:
        forged = answer(question)
        forged.id ^= 1
        forged.answer[0] = dns.rrset.from_text(question.question[0].name, 9, "IN", "A", "127.0.0.9")
        many = answer(question)
        for number in range(300):
            more = dns.rrset.from_text(f"{number}.test.", 9, "IN", "A", "127.0.0.9")
            many.additional.append(more)
        return [
            b"",
            b"nonsense",
            many.to_wire(max_size=65535),
            forged.to_wire(),
            b"x" * 9000,
            answer(question).to_wire(),
        ]

    with Misbehaving(replies) as server:
        assert Resolver([server.address]).query("a.test", "A", PATIENCE) == ("127.0.0.2",)


def test_ttls_are_honoured() -> None:
    with Misbehaving(lambda question: [answer(question, 0).to_wire()]) as server:
        resolver = Resolver([server.address])
        for _ in range(2):
            resolver.query("a.test", "A", PATIENCE)
        assert server.asked == 2


def test_silence_ends_with_the_deadline() -> None:
    with Misbehaving(lambda question: []) as server, pytest.raises(DNSFailure, match="no reply"):
        Resolver([server.address]).query("a.test", "A", 0.05)


def test_so_many_questions_wait_for_a_reply_at_once_and_no_more() -> None:
    with Misbehaving(lambda question: []) as server:
        resolver = Resolver([server.address])
        resolver._free = BoundedSemaphore(2)

        def ask(number: int, timeout: float) -> str:
            with pytest.raises(DNSFailure) as caught:
                resolver.query(f"{number}.test", "A", timeout)
            return str(caught.value)

        first = [gevent.spawn(ask, number, 0.5) for number in range(2)]
        gevent.sleep(0)  # they have the turns
        others = [gevent.spawn(ask, number, 0.05) for number in range(2, 6)]
        assert {one.get().partition(": ")[2] for one in others} == {
            "100 other queries are in progress"
        }
        assert all("no reply" in one.get() for one in first)
        assert server.asked == 2
        assert resolver._free.counter == 2


def test_names_that_are_not_there_are_told_from_those_with_other_records(knot: Any) -> None:
    resolver = Resolver([knot])
    for _ in range(2):  # from the server, and from what is kept
        assert resolver.query("nothing.bl.test", "A", PATIENCE) is NO_SUCH_NAME
        # It has another record; it has names below it; it is an alias of what isn't there.
        for name in ("1.0.0.127.bl.test", "0.127.bl.test", "gone.alias.test"):
            found = resolver.query(name, "AAAA", PATIENCE)
            assert found == ()
            assert found is not NO_SUCH_NAME


def test_servfail_is_no_answer() -> None:
    with (
        Misbehaving(lambda question: [answer(question, code=2).to_wire()]) as server,
        pytest.raises(DNSFailure, match="SERVFAIL"),
    ):
        Resolver([server.address]).query("a.test", "A", PATIENCE)


@pytest.mark.parametrize("name", ["a..test", "x" * 64 + ".test", "x." * 200])
def test_a_name_that_can_not_be_asked_for(name: str) -> None:
    with pytest.raises(DNSFailure):
        Resolver([HOST]).query(name, "A", PATIENCE)
