"""What policies find out: the signal, the log, the metrics, the stored message and the API."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flask")
pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry
from support import Client, Witness, running, talking

from smtp_blinker.listeners.log import EventLog
from smtp_blinker.listeners.metrics import EventMetrics
from smtp_blinker.policies import BasePolicy, Greylist, RateLimit
from smtp_blinker.policies.base import Finding
from smtp_blinker.session import Address, Session
from smtp_blinker.stores import MaildirStore
from smtp_blinker.stores.findings import findings_fields
from smtp_blinker.trace import parse_trace
from smtp_blinker.web import create_app

EVERYBODY: dict[str, Any] = {"trusted": ()}


@dataclass(frozen=True, slots=True)
class Weighed(Finding):
    score: float
    symbols: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        return "spam" if self.score > 5 else "ham"


class Scales(BasePolicy):
    """Finds what it is told to find."""

    name = "scales"

    def __init__(self, found: Finding | None) -> None:
        super().__init__(trusted=())
        self._found = found

    def on_message(self, content: Any, session: Session) -> None:
        if self._found is None:
            self.tell(session, None)
            self.fail(session, "no weights")
        else:
            self.note(session, session.envelope.results, self._found)


def send(client: Client, content: str = "Subject: x\r\n\r\nText\r\n") -> str:
    client.ok("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>")
    assert client.cmd("DATA").startswith("354")
    client.send(content.encode() + b".\r\n")
    return client.reply()


def test_a_verdict_is_told_before_the_reply_with_all_that_was_found() -> None:
    with running() as server:
        witness = Witness(server)
        server.use(Scales(Weighed(7.5, ("A", "B"))))
        with Client(server, hello="EHLO c") as client:
            send(client)
            event = witness.one("verdict")
            assert (event.policy, event.verdict, event.transaction) == ("scales", "spam", 1)
            assert event.as_dict()["result"] == {
                "verdict": "spam",
                "score": 7.5,
                "symbols": ["A", "B"],
            }
            assert witness.names.index("verdict") < witness.names.index("message")
            send(client)
            assert [one.transaction for one in witness.of("verdict")] == [1, 2]


def test_what_can_not_judge_tells_so_without_a_result() -> None:
    with running() as server:
        witness = Witness(server)
        server.use(Scales(None))
        with Client(server, hello="EHLO c") as client:
            assert send(client).startswith("250")
        event = witness.one("verdict")
        assert (event.verdict, event.result) == ("failure", {})
        assert witness.one("error").code == "PolicyFailure"


def test_limits_tell_of_refusals_only_and_greylisting_of_each_recipient() -> None:
    with running() as server:
        witness = Witness(server)
        server.use(RateLimit("1/hour", **EVERYBODY), Greylist(**EVERYBODY))
        with Client(server, hello="EHLO c") as client:
            client.ok("MAIL FROM:<a@example.org>")
            assert client.cmd("RCPT TO:<b@example.com>").startswith("451")
            assert client.cmd("RCPT TO:<c@example.com>").startswith("451")
            client.ok("RSET")
            assert client.cmd("MAIL FROM:<a@example.org>").startswith("451")
        assert [(one.policy, one.verdict) for one in witness.of("verdict")] == [
            ("greylist", "wait"),
            ("greylist", "wait"),
            ("rate_limit", "refused"),
        ]


def test_ignored_hosts_cause_no_verdicts_and_each_server_its_own() -> None:
    scales = Scales(Weighed(1))
    with (
        running(ignored_hosts=["127.0.0.1"]) as quiet,
        running() as first,
        running() as second,
    ):
        nothing, by_first, by_second = map(Witness, (quiet, first, second))
        for server in (first, second, quiet):
            server.use(scales)
        for server in (second, second, quiet):
            with Client(server, hello="EHLO c") as client:
                send(client)
        assert not nothing.of("verdict")
        assert not by_first.of("verdict")
        assert len(by_second.of("verdict")) == 2


def test_the_log_has_a_line_with_the_result(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smtp_blinker.events")
    with running() as server:
        log = EventLog().attach(server)
        server.use(Scales(Weighed(7.5, ("line\nbreak",))))
        with Client(server, hello="EHLO c") as client:
            send(client)
        log.detach()
    [record] = [one for one in caplog.records if "verdict of" in one.getMessage()]
    line = record.getMessage()
    assert line.endswith(
        '] verdict of scales: spam, {"verdict": "spam", "score": 7.5, "symbols": ["line\\nbreak"]}'
    )
    assert record.levelno == logging.INFO
    assert record.__dict__["smtp"]["result"]["score"] == 7.5


def test_metrics_count_by_policy_and_verdict() -> None:
    registry = CollectorRegistry()
    with running() as server:
        metrics = EventMetrics(registry).attach(server)
        server.use(Scales(Weighed(7.5)), Scales(None))
        with Client(server, hello="EHLO c") as client:
            send(client)
            send(client)
        metrics.detach()
    for verdict in ("spam", "failure"):
        labels = {"policy": "scales", "verdict": verdict}
        assert registry.get_sample_value("smtp_verdicts_total", labels) == 2


# The stored message


def stored(tmp_path: Path, *policies: Any) -> bytes:
    with talking(
        on_data=MaildirStore(tmp_path, "mx.test"), use=[*policies], hello="EHLO c"
    ) as client:
        # What a client writes itself is below the Received field of the server.
        forged = 'X-Policy-Result: {"scales": {"verdict": "ham"}}\r\nSubject: x\r\n\r\n'
        assert send(client, forged).startswith("250")
    [path] = (tmp_path / "new").iterdir()
    return path.read_bytes()


def test_a_maildir_has_the_results_and_the_api_shows_them_after_a_restart(tmp_path: Path) -> None:
    content = stored(tmp_path, Scales(Weighed(7.5, ("A", "B"))))
    names = [line.partition(b":")[0] for line in content.split(b"\n") if line[:1] not in b"\t "]
    assert names[:4] == [b"Return-Path", b"Delivered-To", b"X-Policy-Result", b"Received"]
    # Nothing of the server that received it is needed.
    app = create_app(maildir=tmp_path)
    try:
        client: Any = app.test_client()
        [listed] = client.get("/api/messages?wait=10").json["messages"]
        message = client.get(f"/api/messages/{listed['id']}").json
    finally:
        app.extensions["smtp_blinker"].detach()
    assert message["results"] == {
        "scales": {"verdict": "spam", "score": 7.5, "symbols": ["A", "B"]}
    }


def test_a_message_that_nobody_judged_has_no_such_field(tmp_path: Path) -> None:
    content = stored(tmp_path, RateLimit("100/minute", **EVERYBODY))
    assert content.count(b"X-Policy-Result") == 1
    assert parse_trace(content).results == {}


def session_with(results: dict[str, Any]) -> Session:
    session = Session()
    session.envelope.mail_from = Address("")
    session.envelope.results.update(results)
    return session


@pytest.mark.parametrize(
    "result",
    [
        Weighed(1, ("x" * 5000, "\u00fc" * 5000, "a b " * 5000)),
        Weighed(1, tuple(map(str, range(5000)))),
        Weighed(1, ("\r\nForged: yes", "\x00\x1b[2J", "\u2028", "\ud800")),
        Weighed(float("inf")),
        {"verdict": "v", "deep": [[[["x"]]]], "odd": object()},
        {f"{number:0300}": "x" * 300 for number in range(100)},
        "a text",
        None,
    ],
    ids=("long", "many", "controls", "infinite", "nested", "wide", "text", "none"),
)
def test_any_result_makes_bounded_lines_that_can_be_read(result: Any) -> None:
    fields = findings_fields(session_with({"scales": result}))
    assert fields.isascii()
    assert len(fields) < 16 * 1024
    lines = fields.split(b"\r\n")
    assert lines.pop() == b""
    assert max(map(len, lines)) <= 998  # RFC 5322 section 2.1.1
    assert lines[0].startswith(b"X-Policy-Result: {")
    assert all(line.startswith(b" ") for line in lines[1:])
    content = fields + b"Received: from a by b with SMTP; x\r\n\r\n"
    trace = parse_trace(content.replace(b"\r\n", b"\n"))
    assert trace.results == parse_trace(content).results
    json.dumps(trace.results, allow_nan=False)
    is_shown = isinstance(result, (Weighed, dict)) and result != Weighed(float("inf"))
    assert list(trace.results) == (["scales"] if is_shown else [])


@pytest.mark.parametrize(
    "value",
    ["", "{", "[]", '{"a": 1}', "[" * 20_000, '{"a": {"b": 1e999}}', '{"a": {"b": NaN}}'],
    ids=lambda value: value[:20],
)
def test_what_the_server_did_not_write_is_left_out(value: str) -> None:
    content = f"X-Policy-Result: {value}\nReceived: x\n\n".encode()
    assert parse_trace(content).results == {}
