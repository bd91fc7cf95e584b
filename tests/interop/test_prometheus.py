"""Prometheus itself reads the metrics, the alert rules and what the dashboard asks it."""

from __future__ import annotations

import io
import json
import math
import re
import smtplib
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from support import HOST, environment, free_port, program, succeed, wait_until

from smtp_blinker import Reject
from smtp_blinker.listeners.metrics import EventMetrics, FleetMetrics, SpoolMetrics, StoreMetrics
from smtp_blinker.policies import ClamAV
from smtp_blinker.stores import SpoolStore, WebhookStore

from .names import Certificates, serving

prometheus_client = pytest.importorskip("prometheus_client")

FILES = Path(__file__).parents[2] / "docs" / "prometheus"
PACKAGE = "prometheus"

#: One in its own folder with a short memory; the seconds of the page's are too long for a test.
CONFIGURATION = """\
global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}
rule_files: ["{rules}"]
scrape_configs:
  - job_name: smtp
    static_configs:
      - targets: ["{host}:{port}"]
"""


def test_the_alert_rules_are_valid() -> None:
    succeed(program("promtool", PACKAGE), "check", "rules", FILES / "alerts.yml")


def test_the_alert_rules_fire_when_they_should_and_not_otherwise() -> None:
    succeed(program("promtool", PACKAGE), "test", "rules", FILES / "alerts_test.yml")
    rules = re.findall(r"alert: (\w+)", (FILES / "alerts.yml").read_text())
    tests = (FILES / "alerts_test.yml").read_text()
    fire = set(re.findall(r"alertname: (\w+)\s+eval_time: \w+\s+exp_alerts:\n", tests))
    assert fire == set(rules)


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.url = f"http://{HOST}:{port}"

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each series; an expression it can't read fails."""
        query = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=30) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as exc:
            if exc.code == 503:  # it is starting
                raise
            raise AssertionError(f"{expression}: {exc.read().decode()}") from None
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]


@pytest.fixture
def scraped(tmp_path: Path, certificates: Certificates) -> Iterator[tuple[Any, Prometheus]]:
    """A server that counts, and a Prometheus that has read its numbers."""
    path = program("prometheus", PACKAGE)

    def on_rcpt_to(address: Any, session: Any) -> None:
        if address.address.startswith("no"):
            raise Reject(550, "no such mailbox", "5.1.1")

    away = WebhookStore("http://127.0.0.1:9/")  # where nothing listens
    spool = SpoolStore(away, tmp_path / "spool")

    def on_data(stream: Any, session: Any) -> Any:
        content = stream.read()
        if b"later" in content:
            raise Reject(452, "no room", "4.3.1")
        if b"bug" in content:
            raise RuntimeError("a bug")
        return spool(io.BytesIO(content), session) if b"spool" in content else None

    with ExitStack() as stack:
        registry = prometheus_client.CollectorRegistry()
        served = stack.enter_context(
            serving(
                auth_optional=True,
                allow_insecure_auth=True,
                on_auth=lambda auth, session: auth.validate_password("secret"),
                on_rcpt_to=on_rcpt_to,
                on_data=on_data,
                **certificates.options,
            )
        )
        # Its scanner is away: nobody listens there.
        scanner = ClamAV((HOST, free_port()), trusted=())
        served.server.use(scanner)
        metrics = EventMetrics(registry).attach(served.server)
        stack.callback(metrics.detach)
        spool.attach(served.server)
        SpoolMetrics(spool, registry=registry)
        StoreMetrics({"hook": away}, registry)
        FleetMetrics(registry=registry)
        page, thread = prometheus_client.start_http_server(0, HOST, registry)
        stack.callback(thread.join)
        stack.callback(page.server_close)
        stack.callback(page.shutdown)
        configuration = tmp_path / "prometheus.yml"
        configuration.write_text(
            CONFIGURATION.format(rules=FILES / "alerts.yml", host=HOST, port=page.server_port)
        )
        succeed(program("promtool", PACKAGE), "check", "config", configuration)
        prometheus = Prometheus(port := free_port())
        log = stack.enter_context(open(tmp_path / "log", "w"))
        process = subprocess.Popen(
            [
                path,
                f"--config.file={configuration}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address={HOST}:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(),
        )
        stack.callback(process.wait)
        stack.callback(process.kill)

        def reads() -> bool:
            assert process.poll() is None, (tmp_path / "log").read_text()
            with suppress(OSError):
                # Twice, because growth is what lies between two readings.
                return bool(prometheus.ask('sum_over_time(up{job="smtp"}[1m]) > 1'))
            return False

        wait_until(reads, "Prometheus reads the metrics")
        yield served, prometheus


def traffic(port: int, certificates: Certificates) -> None:
    """One of everything that the dashboard shows."""
    for text in ("good", "later", "bug", "spool"):
        with smtplib.SMTP(HOST, port, timeout=30) as smtp:
            smtp.starttls(context=certificates.context())
            with suppress(smtplib.SMTPAuthenticationError):
                smtp.login("ann", "wrong" if text == "good" else "secret")
            with suppress(smtplib.SMTPDataError):
                smtp.sendmail("a@example.org", ["b@example.com", "no@example.com"], text)
    with socket.create_connection((HOST, port), timeout=30) as sock:
        sock.recv(100)  # and leaves


FROM_THE_START = (
    *("Clients", "Messages", "Put off", "Faults"),
    *("Refused", "Why", "Errors", "TLS", "Spooled", "Age"),
    *("Messages handed", "Stores", "Events dropped"),
)
WITH_THE_TRAFFIC = (
    *("Messages accepted", "Put off", "Faults"),
    *("Refused", "TLS", "AUTH", "Octets", "Spooled", "Age"),
    *("Messages handed", "Time of a hand", "Verdicts", "Not judged"),
)


def test_every_panel_of_the_dashboard_has_numbers(
    scraped: tuple[Any, Prometheus], certificates: Certificates
) -> None:
    served, prometheus = scraped
    panels = json.loads((FILES / "dashboard.json").read_text())["panels"]
    expressions = {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$__rate_interval", "30s")
        .replace("$job", "smtp")
        .replace("$instance", f"{HOST}:.*")
        for panel in panels
        for target in panel.get("targets", ())
    }
    assert len(expressions) >= 15

    # Before the first client these are zero, not absent: the first fault has to be seen.
    for title, expression in expressions.items():
        answer = prometheus.ask(expression)
        if title.startswith(FROM_THE_START):
            assert {value for _, value in answer} == {0.0}, (title, answer)

    for clients in (5, 10):  # a series that begins has grown by nothing yet
        traffic(served.port, certificates)
        served.forget("error")  # the bug, the store and the scanner that are away

        def read(count: int = clients) -> bool:
            return bool(prometheus.ask("sum(smtp_disconnects_total)")[0][1] == count)

        wait_until(read, "Prometheus has read it")

    def firing() -> set[str]:
        alerts = prometheus.ask('ALERTS{alertstate="firing"}')
        return {labels["alertname"] for labels, _ in alerts}

    wait_until(lambda: len(firing()) >= 2, "the alerts")
    for title, expression in expressions.items():
        answer = prometheus.ask(expression)
        assert answer, (title, expression)
        assert not any(math.isnan(value) for _, value in answer), (title, answer)
        if title.startswith(WITH_THE_TRAFFIC):
            assert any(value > 0 for _, value in answer), (title, answer)
    assert firing() == {"SMTPProgramFaults", "SMTPPoliciesFail"}
