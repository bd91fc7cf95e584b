"""The documentation: its programs run as they stand, its tables hold what the code has.

Each program runs in a folder and a process of its own; only its port numbers are replaced.
"""

from __future__ import annotations

import ast
import base64
import doctest
import json
import re
import runpy
import shutil
import signal
import smtplib
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import scramp
import trustme
import yaml
from interop.engines import Redis
from prometheus_client import CollectorRegistry
from support import SECONDS, Certificate, Program, free_port, python, wait_until
from test_house import FLOORS

import smtp_blinker
from smtp_blinker import DEFAULT_EXTENSIONS, SMTPServer, signals
from smtp_blinker.extensions import OPT_IN_EXTENSIONS
from smtp_blinker.hooks import NAMES
from smtp_blinker.listeners.metrics import EventMetrics, FleetMetrics, SpoolMetrics, StoreMetrics
from smtp_blinker.options import AUTH_METHODS, Options
from smtp_blinker.smtp.verbs import VERB_NAMES
from smtp_blinker.stores.circuit import Circuit
from smtp_blinker.users import set_password
from smtp_blinker.web import create_app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PROGRAMS = DOCS / "programs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
#: Port numbers that programs and configurations name.
PORTS = (2525, 2526, 4650, 6379, 8000, 9100)


class Place:
    """A folder with a certificate and a file of users, and free ports for the programs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {number: free_port() for number in PORTS}
        self.running: list[Program] = []

    def copy(self, name: str) -> Path:
        """The program, with its port numbers replaced by free ones."""
        text = (PROGRAMS / name).read_text()
        for number, port in self.ports.items():
            text = re.sub(rf"\b{number}\b", str(port), text)
        copied = self.folder / name
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(text)
        return copied

    def start(self, *command: str, **variables: str) -> Program:
        self.running.append(
            Program(*command, folder=self.folder, python=False, variables=variables)
        )
        return self.running[-1]

    def run(self, name: str) -> Program:
        return self.start(sys.executable, str(self.copy(name)))

    def smtp(self, number: int = 2525, kind: Any = smtplib.SMTP, **keywords: Any) -> Any:
        """A client that has said EHLO; waits until somebody listens."""
        return self._connected(
            lambda: kind(
                "127.0.0.1",
                self.ports[number],
                local_hostname="client.example",
                timeout=SECONDS,
                **keywords,
            )
        )

    def _connected(self, connect: Any) -> Any:
        def attempt() -> Any:
            ended = [one for one in self.running if one.process.poll() is not None]
            assert not ended, ended[0].output
            try:
                return connect()
            except (ConnectionRefusedError, FileNotFoundError, smtplib.SMTPServerDisconnected):
                return None

        client = wait_until(attempt, "somebody listens")
        client.ehlo()
        return client

    def send(self, subject: str = "Hi", number: int = 2525) -> None:
        with self.smtp(number) as smtp:
            smtp.sendmail("bob@example.net", ["ann@example.com"], f"Subject: {subject}\n\nHello\n")

    def get(self, path: str, number: int) -> str:
        def attempt() -> str | None:
            try:
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{self.ports[number]}{path}", timeout=SECONDS
                ) as response:
                    return str(response.read().decode())
            except OSError:
                return None

        return str(wait_until(attempt, path))


@pytest.fixture
def place(tmp_path: Path, certificate: Certificate) -> Iterator[Any]:
    for path, name in ((certificate.certfile, "cert.pem"), (certificate.keyfile, "key.pem")):
        shutil.copy(path, tmp_path / name)
    made = Place(tmp_path)
    yield made
    for program in made.running:
        program.end()


@pytest.fixture
def trusting(certificate: Certificate) -> Any:
    """A client's TLS context."""
    return ssl.create_default_context(cafile=certificate.ca_certs)


# Programs


@pytest.mark.parametrize("name", ["webhook.py", "relay.py"])
def test_a_program_that_hands_mail_on_begins_without_the_other_side(name: str) -> None:
    """webhook_endpoint.py is run by test_store_webhook.py."""
    program = runpy.run_path(str(PROGRAMS / name))
    assert program["server"].hooks.on_data is program["store"]


def test_every_program_is_shown_by_a_page_and_run_by_a_test() -> None:
    pages = "".join(page.read_text() for page in PAGES)
    others = (Path(__file__).parent / "interop").glob("*.py")
    tests = "".join(file.read_text() for file in (Path(__file__), *others))
    for path in PROGRAMS.rglob("*"):
        name = str(path.relative_to(PROGRAMS))
        if path.is_dir() or "__pycache__" in name or path.name == "__init__.py":
            continue
        assert f"programs/{name}" in pages, f"{name} is shown by no page"
        assert name.split("/")[0] in tests, f"{name} is run by no test"


def test_first_prints_who_sends_what(place: Any) -> None:
    program = place.run("first.py")
    with place.smtp() as smtp:
        smtp.mail("bob@example.net")
        smtp.rcpt("ann@example.com")
        assert smtp.data(b"Subject: Hello\r\n\r\nHi\r\n") == (250, b"2.0.0 thank you")
    program.wait_for("bob@example.net sends: Hello")


def test_decide_accepts_its_mailboxes_only(place: Any) -> None:
    program = place.run("decide.py")
    with place.smtp() as smtp:
        assert smtp.esmtp_features["size"] == str(25 * 2**20)
        assert smtp.mail("x@spam.example") == (550, b"5.7.1 we don't want your mail")
        assert smtp.mail("bob@example.net")[0] == 250
        assert smtp.rcpt("eve@example.com") == (550, b"5.1.1 no such mailbox here")
        assert smtp.rcpt("Ann@example.com")[0] == 250
        assert smtp.docmd("RCPT TO:<postmaster>")[0] == 250
        assert smtp.data(b"Hello\r\n")[0] == 250
    program.wait_for("7 bytes for Ann@example.com, postmaster")


def test_composing_asks_the_policies_and_then_the_hooks(place: Any) -> None:
    program = place.run("composing.py")
    with place.smtp() as smtp:
        smtp.mail("bob@example.net")
        assert smtp.rcpt("ann@example.net") == (550, b"5.7.1 relaying denied")
        assert smtp.rcpt("eve@example.com") == (550, b"5.1.1 no such mailbox here")
        assert smtp.rcpt("ann@example.com")[0] == 250
        assert smtp.rcpt("ann@example.com")[0] == 452
        assert smtp.data(b"X-Virus-Checked: forged\r\n\r\nHello\r\n")[0] == 250
    with place.smtp() as smtp, pytest.raises(smtplib.SMTPDataError, match="has a virus"):
        smtp.sendmail("bob@example.net", ["ann@example.com"], "\n$EICAR-STANDARD-ANTIVIRUS\n")
    program.wait_for("X-Virus-Checked: mx.example.com {'test_file': False}")


def test_policies_greylist_and_limit(place: Any) -> None:
    program = place.run("policies.py")
    with place.smtp() as smtp:
        smtp.mail("bob@example.net")
        code, text = smtp.rcpt("ann@example.com")
        assert (code, text) == (451, b"4.7.1 Greylisted, try again in 1 second")
        time.sleep(1.01)  # as the reply says
        assert smtp.rcpt("ann@example.com")[0] == 250
        assert smtp.data(b"Hello\r\n")[0] == 250
        found = "{'verdict': 'known', 'wait': 0.0, 'client': '127.0.0.0/24'}"
        program.wait_for(f"7 bytes from 127.0.0.0/24, {found}")
        said = []
        for _ in range(10):
            said.append(smtp.mail("bob@example.net"))
            smtp.rset()
    assert said[-1][0] == 451
    assert said[-1][1].startswith(b"4.7.0 Too many messages, try again in")


def test_observe_logs_and_counts(place: Any) -> None:
    program = place.run("observe.py")
    place.send()
    with pytest.raises(smtplib.SMTPDataError):
        place.send("You won the lottery")
    with place.smtp() as smtp:
        assert smtp.docmd("RCPT TO:<ann@example.com>")[0] == 503
    program.wait_for("answers so far: {250: 1, 554: 1, 503: 1}")
    assert re.search("message 1 answered 554.*: no lotteries\n", program.output)
    assert "refused 127.0.0.1, answered 503 Need MAIL command: RCPT TO:<ann" in program.output
    assert re.search(r"INFO \[\w{16}\] connect from 127.0.0.1 port \d+", program.output)


def test_production_stores_logs_counts_reloads_and_ends(place: Any, trusting: Any) -> None:
    program = place.run("production.py")
    with place.smtp() as smtp:
        smtp.starttls(context=trusting)
        smtp.sendmail("bob@example.net", ["ann@example.com"], "Subject: Hi\n\nHello\n")
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            smtp.sendmail("bob@example.net", ["ann@example.org"], "Subject: Hi\n\nHello\n")
    [stored] = (place.folder / "Maildir/new").iterdir()
    text = stored.read_text()
    assert text.startswith("Return-Path: <bob@example.net>\nDelivered-To: ann@example.com\n")
    assert "by mx.example.com with ESMTPS" in text
    assert 'smtp_messages_total{code="250"} 1.0' in place.get("/metrics", 9100)
    program.wait_for('"signal": "disconnect"')
    assert all(json.loads(line) for line in program.lines)
    (place.folder / "cert.pem").write_text("no certificate")
    program.signal(signal.SIGHUP)
    program.wait_for("the certificate stays as it was")
    program.signal(signal.SIGTERM)
    assert program.exit_status() == 0


def test_auth_users_lets_those_of_the_file_in(place: Any) -> None:
    set_password(place.folder / "users", "ann", "secret")
    program = place.run("auth_users.py")
    with place.smtp() as smtp:
        assert smtp.docmd("MAIL FROM:<bob@example.net>")[0] == 530
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ann", "wrong")
        smtp.login("ann", "secret")
        smtp.sendmail("ann@example.com", ["bob@example.net"], "Subject: Hi\n\nHello\n")
    program.wait_for("a message of ann")


@pytest.mark.parametrize(("name", "password"), [("ann", "secret"), ("ann", "x"), ("bob", "x")])
def test_auth_scram_knows_its_keys(place: Any, name: str, password: str) -> None:
    place.run("auth_scram.py")
    peer = scramp.ScramClient(["SCRAM-SHA-256"], name, password)

    def respond(challenge: Any) -> Any:
        if challenge.startswith(b"r="):
            peer.set_server_first(challenge.decode())
            return peer.get_client_final()
        peer.set_server_final(challenge.decode())
        return ""

    with place.smtp() as smtp:
        smtp.ehlo()
        assert smtp.esmtp_features["auth"].split() == ["SCRAM-SHA-256"]
        first = base64.b64encode(peer.get_client_first().encode()).decode()
        code, answer = smtp.docmd("AUTH", f"SCRAM-SHA-256 {first}")
        while code == 334:
            response = respond(base64.b64decode(answer)).encode()
            code, answer = smtp.docmd(base64.b64encode(response).decode())
        assert code == (235 if password == "secret" else 535)


@pytest.mark.parametrize("method", ["CRAM-MD5", "PLAIN", "LOGIN"])
def test_auth_own_asks_its_table(place: Any, method: str) -> None:
    place.run("auth_own.py")
    with place.smtp() as smtp:
        assert smtp.esmtp_features["auth"].split() == ["CRAM-MD5", "PLAIN", "LOGIN"]
        smtp.user, smtp.password = "ann", "secret"
        authobject = getattr(smtp, f"auth_{method.lower().replace('-', '_')}")
        assert smtp.auth(method, authobject, initial_response_ok=method == "PLAIN")[0] == 235
        assert smtp.mail("eve@example.com")[0] == 550
        assert smtp.mail("ann@example.com")[0] == 250
    with place.smtp() as smtp:
        smtp.user, smtp.password = "nobody", ""
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.auth(method, getattr(smtp, authobject.__name__))
        assert smtp.mail("anybody@example.net")[0] == 250, "AUTH is optional here"


def test_auth_oauth_takes_tokens(place: Any) -> None:
    place.run("auth_oauth.py")
    bearer = "user=ann@example.com\1auth=Bearer {}\1\1"
    with place.smtp() as smtp:
        assert smtp.auth("XOAUTH2", lambda challenge=None: bearer.format("a1b2c3"))[0] == 235
    with place.smtp() as smtp:
        told = []
        answers = iter((bearer.format("wrong"), ""))

        def respond(challenge: Any = None) -> Any:
            told.append(challenge)
            return next(answers)

        with pytest.raises(smtplib.SMTPAuthenticationError) as failed:
            smtp.auth("XOAUTH2", respond)
        assert failed.value.smtp_code == 535
        assert json.loads(told[-1])["status"] == "invalid_token"
    with place.smtp() as smtp:
        gs2 = "n,a=ann@example.com,\1auth=Bearer a1b2c3\1\1"
        assert smtp.auth("OAUTHBEARER", lambda challenge=None: gs2)[0] == 235


def test_tls_reload_serves_both_kinds_and_reads_the_files_again(
    place: Any, trusting: Any, ca: trustme.CA
) -> None:
    program = place.run("tls_reload.py")

    def serial() -> str:
        with place.smtp() as smtp:
            smtp._host = "localhost"
            smtp.starttls(context=trusting)
            return str(smtp.sock.getpeercert()["serialNumber"])

    first = serial()
    program.wait_for("for localhost")
    with place.smtp(4650, smtplib.SMTP_SSL, context=trusting) as smtp:
        assert smtp.noop()[0] == 250
    renewed = ca.issue_cert("localhost", "127.0.0.1")
    renewed.private_key_pem.write_to_path(place.folder / "key.pem")
    renewed.cert_chain_pems[0].write_to_path(place.folder / "cert.pem")
    program.signal(signal.SIGHUP)
    program.wait_for("certificate read")
    assert serial() != first
    (place.folder / "cert.pem").unlink()
    program.signal(signal.SIGHUP)
    program.wait_for("the certificate stays as it was: ")
    serial()


def test_behind_haproxy_knows_the_client(place: Any) -> None:
    program = place.run("behind_haproxy.py")

    def connect() -> Any:
        sock = socket.create_connection(("127.0.0.1", place.ports[2526]), SECONDS)
        sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n")
        smtp = smtplib.SMTP(local_hostname="client.example")
        smtp.sock = sock
        assert smtp.getreply()[0] == 220
        return smtp

    with place._connected(connect) as smtp:
        smtp.sendmail("bob@example.net", ["ann@example.com"], "Subject: Hi\n\nHello\n")
    program.wait_for("192.0.2.7 came to 192.0.2.1:25")
    program.wait_for("by PROXY version 1, TCP4")


if shutil.which("haproxy") or Path("/usr/sbin/haproxy").exists():

    def test_haproxy_runs_with_the_configuration_of_the_page(place: Any) -> None:
        program = place.run("behind_haproxy.py")
        haproxy = shutil.which("haproxy") or "/usr/sbin/haproxy"
        place.start(haproxy, "-db", "-f", str(place.copy("haproxy.cfg")))
        place.send()
        program.wait_for("127.0.0.1 came to 127.0.0.1:")
        program.wait_for("by PROXY version 2, TCP4")


def test_lmtp_answers_for_each_recipient(place: Any) -> None:
    program = place.run("lmtp.py")
    smtp = place._connected(
        lambda: smtplib.LMTP(str(place.folder / "lmtp.sock"), local_hostname="client.example")
    )
    with smtp:
        assert smtp.docmd("XFORWARD ADDR=192.0.2.7")[0] == 250
        smtp.mail("eve@example.net")
        assert smtp.rcpt("eve@example.com")[0] == 550
        for name in ("ann", "bob"):
            assert smtp.rcpt(f"{name}@example.com")[0] == 250
        assert smtp.data(b"Hello\r\n") == (250, b"2.0.0 delivered to ann@example.com")
        assert smtp.getreply() == (452, b"4.2.2 mailbox full")
    program.wait_for("from 192.0.2.7")


def test_flask_beside_lists_the_mail(place: Any) -> None:
    place.run("flask_beside.py")
    place.send("For the page")
    assert json.loads(place.get("/inbox", 8000)) == [
        {"from": "bob@example.net", "subject": "For the page"}
    ]
    assert "clients" in json.loads(place.get("/health", 8000))


def test_django_site_saves_each_message(place: Any) -> None:
    for path in (PROGRAMS / "django_site").rglob("*.py"):
        place.copy(str(path.relative_to(PROGRAMS)))
    folder = place.folder / "django_site"
    manage = [sys.executable, "manage.py"]
    made = Program(
        *manage, "migrate", "--run-syncdb", "--verbosity", "0", folder=folder, python=False
    )
    assert made.exit_status() == 0, made.output
    made.end()
    program = Program(*manage, "receivemail", folder=folder, python=False)
    place.running.append(program)
    place.send("For the table")
    program.signal(signal.SIGTERM)
    assert program.exit_status() == 0, program.output
    code = (
        "from inbox.models import Mail; m = Mail.objects.get();"
        "print(m.sender, m.recipients, bytes(m.content))"
    )
    shown = Program(*manage, "shell", "--command", code, folder=folder, python=False)
    assert shown.exit_status() == 0, shown.output
    assert "bob@example.net ['ann@example.com'] b'Subject: For the table" in shown.output
    shown.end()


if shutil.which("redis-server"):

    def test_queue_has_what_was_accepted_and_its_consumer_handles_it(place: Any) -> None:
        engine = Redis(place.folder / "redis")
        engine.port = place.ports[6379]
        try:
            engine.start()
            place.run("mail_queue.py")
            place.send()
            with place.smtp() as smtp:
                smtp.sendmail("eve@example.net", ["ann@example.com"], "x" * 200_000)
            consumer = place.run("mail_consumer.py")
            consumer.wait_for("22 bytes from bob@example.net")
            consumer.wait_for("200002 bytes from eve@example.net")
            consumer.signal(signal.SIGTERM)
            assert consumer.exit_status() == 0
            assert not list((place.folder / "contents").iterdir())
        finally:
            engine.end()


def test_metrics_are_there_to_be_scraped(place: Any) -> None:
    place.run("metrics.py")
    place.send()
    assert wait_until(
        lambda: 'smtp_disconnects_total{reason="quit"} 1.0' in place.get("/metrics", 9100)
    )


def test_in_thread_receives_its_own_message(place: Any) -> None:
    program = place.run("in_thread.py")
    assert program.exit_status() == 0, program.output
    assert program.lines[0] == "Subject: Hi"


def test_signals_are_all_heard(place: Any, trusting: Any) -> None:
    program = place.run("signals.py")
    with place.smtp() as smtp:
        smtp.starttls(context=trusting)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            smtp.login("ann", "wrong", initial_response_ok=True)
        smtp.login("ann", "secret")
        smtp.sendmail("ann@example.com", ["bob@example.net"], "Subject: Hi\n\nHello\n")
        with pytest.raises(smtplib.SMTPDataError):
            smtp.sendmail("ann@example.com", ["bob@example.net"], "Subject: bug\n\n")
        smtp.docmd("RCPT TO:<bob@example.net>")
    program.wait_for("quit after 1 messages")
    program.signal(signal.SIGTERM)
    assert program.exit_status() == 0
    for text in (
        f"listening on port {place.ports[2525]}",
        "] client.example from 127.0.0.1",
        "] TLSv1.3, TLS_",
        "] ann is not let in, PLAIN",
        "] ann is let in, PLAIN",
        " bytes: 250 OK",
        " bytes: 451 Local error",
        "] AUTH: 535 ",
        "] RCPT: 503 ",
        "] HookError: a fault of this program, store",
        "closed",
    ):
        assert text in program.output, program.output


def same_dialogue(place: Place) -> list[int]:
    """What a client of the two "before and after" programs is answered: the codes."""
    with place.smtp() as smtp:
        answers = [smtp.login("ann", "secret")[0]]
        answers += [smtp.mail("bob@example.net", ["SIZE=7"])[0]]
        answers += [smtp.rcpt(f"ann@{domain}")[0] for domain in ("example.org", "example.com")]
        answers += [smtp.data(b"Hello\r\n")[0], smtp.docmd("MAIL FROM:<a@b> SIZE=99999999")[0]]
        answers += [smtp.quit()[0]]
    with place.smtp() as smtp:
        with pytest.raises(smtplib.SMTPAuthenticationError) as failed:
            smtp.login("ann", "wrong")
        answers += [failed.value.smtp_code]
    return answers


SAME_ANSWERS = [235, 250, 550, 250, 250, 552, 221, 535]


@pytest.mark.parametrize("name", ["before_aiosmtpd.py", "after_aiosmtpd.py"])
def test_aiosmtpd_before_and_after_answer_alike(place: Any, name: str) -> None:
    program = place.run(name)
    assert same_dialogue(place) == SAME_ANSWERS
    program.wait_for("127.0.0.1 bob@example.net ['ann@example.com']")
    assert "Hello" in program.output


def test_after_smtp_server_answers_as_before(place: Any) -> None:
    program = place.run("after_smtp_server.py")
    assert same_dialogue(place) == SAME_ANSWERS
    program.wait_for("connect from 127.0.0.1")
    program.wait_for("7 bytes of ann")
    program.signal(signal.SIGTERM)
    assert program.exit_status() == 0


MODULES = [path for path in (ROOT.glob("*/.cache/node_modules")) if (path / "smtp-server").is_dir()]
MODULES += ROOT.glob("tests/*/.cache/node_modules")

if shutil.which("node") and MODULES:

    def test_before_smtp_server_runs_where_npm_has_put_it(place: Any) -> None:
        path = place.copy("before_smtp_server.js")
        program = place.start("node", str(path), NODE_PATH=str(MODULES[0]))
        assert same_dialogue(place) == SAME_ANSWERS
        program.wait_for("connect from 127.0.0.1")
        program.wait_for("7 bytes of ann")


# Code in the pages


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_code_in_pages_is_python_and_sessions_come_out_as_printed(page: Any) -> None:
    for code in blocks(page, "python"):
        ast.parse(code)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    parser = doctest.DocTestParser()
    names: dict[str, Any] = {}
    for code in blocks(page, "pycon"):
        test = parser.get_doctest(code, names, page.name, str(page), 0)
        runner.run(test, clear_globs=False)
        names.update(test.globs)
    assert runner.failures == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_pages_name_no_place_of_the_machine_they_were_written_on(page: Any) -> None:
    text = page.read_text()
    assert not re.search(r"/(?:work|tmp|home|root)/", text)
    hosts = set(re.findall(r"https?://([^/\s)`'\"]+)", text))
    assert hosts <= PUBLIC | {host for host in hosts if host.startswith(("127.0.0.1", "…"))}, hosts


#: Where links may lead.
PUBLIC = {
    "aiosmtpd.aio-libs.org",
    "blinker.readthedocs.io",
    "docs.djangoproject.com",
    "grafana.com",
    "nodemailer.com",
    "prometheus.io",
    "semver.org",
    "www.gevent.org",
    "www.haproxy.org",
    "www.postfix.org",
    "www.rfc-editor.org",
}


# Tables


def rows(page: str) -> dict[str, list[str]]:
    """The cells of all tables of *page*, by what the first one has in backticks."""
    found: dict[str, list[str]] = {}
    for line in (DOCS / page).read_text().splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = cells
    return found


def test_options_has_every_option_with_its_default() -> None:
    table = rows("options.md")
    for option in fields(Options):
        cells = table.pop(option.name, None)
        assert cells is not None, f"{option.name} is missing"
        default = option.default if option.default is not MISSING else option.default_factory()  # type: ignore[operator]
        if option.name == "name":
            assert cells[1] == "the host name"
        elif option.name == "extensions":
            assert cells[1] == "`DEFAULT_EXTENSIONS`"
        else:
            assert eval(cells[1].strip("`"), {}) == default, option.name  # noqa: S307
    assert table.keys() >= set(NAMES)
    assert not set(table) - set(NAMES) - DEFAULT_EXTENSIONS - OPT_IN_EXTENSIONS


def test_options_has_every_extension() -> None:
    table = rows("options.md")
    for name in DEFAULT_EXTENSIONS | OPT_IN_EXTENSIONS:
        assert name in table, name


def test_signals_page_has_every_signal_and_every_field() -> None:
    text = (DOCS / "signals.md").read_text()
    events = {
        "connect": signals.ConnectEvent,
        "error": signals.ErrorEvent,
        "secure": signals.SecureEvent,
        "auth": signals.AuthEvent,
        "message": signals.MessageEvent,
        "refused": signals.RefusedEvent,
        "verdict": signals.VerdictEvent,
        "disconnect": signals.DisconnectEvent,
        "close": None,
        "listening": None,
    }
    for name, event in events.items():
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        assert f'start-after: "# {name}"' in section
        for field in fields(event) if event else ():
            assert f"`{field.name}`" in section, f"{name}: {field.name}"


def test_rfcs_page_names_tests_that_exist() -> None:
    _, heading, table = (DOCS / "rfcs.md").read_text().partition("## Where each is tested")
    named = set(re.findall(r"`((?:interop/)?test_\w+\.py)`", table))
    assert heading
    assert named
    assert not [name for name in named if not (ROOT / "tests" / name).is_file()]


def test_rfcs_page_has_every_verb_extension_and_mechanism() -> None:
    text = (DOCS / "rfcs.md").read_text()
    words = VERB_NAMES | DEFAULT_EXTENSIONS | OPT_IN_EXTENSIONS
    for word in words | set(AUTH_METHODS):
        assert re.search(rf"\b{word}\b", text), word


def test_layout_page_names_every_module() -> None:
    text = (DOCS / "layout.md").read_text()
    package = Path(smtp_blinker.__file__).parent
    for path in package.glob("*"):
        name = f"{path.name}/" if path.is_dir() else path.name
        if name not in ("__pycache__/", "py.typed", "__init__.py"):
            assert f"`{name}`" in text, name
    for floor in FLOORS:
        for module in floor - {"__init__"}:
            assert f"`{module.rpartition('.')[2]}.py`" in text, module


def test_reference_has_every_public_name() -> None:
    text = "".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    for name in smtp_blinker.__all__:
        assert re.search(rf":: smtp_blinker\.{name}$", text, re.M), name


def test_web_page_has_every_route_of_the_api(tmp_path: Path) -> None:
    text = (DOCS / "web.md").read_text()
    app = create_app([], tmp_path)
    # Without servers it listens to those of all other tests.
    app.extensions["smtp_blinker"].detach()
    for rule in app.url_map.iter_rules():
        if rule.endpoint in ("static", "index") or rule.rule.startswith("/api/inboxes/<inbox>/"):
            continue  # the latter are those of the first inbox once more
        path = rule.rule.replace("<id>", "ID").replace("<int:number>", "NUMBER")
        path = path.replace("<tag>", "TAG")
        short = path.replace("/api/messages/ID/", "…/")
        methods = "|".join(rule.methods - {"HEAD", "OPTIONS"})  # type: ignore[operator]
        assert re.search(
            rf"^\| [^|]*\b({methods})\b[^|]*({re.escape(path)}|{re.escape(short)})[?`]", text, re.M
        ), rule


def test_prometheus_page_has_every_metric_with_its_labels(known_metrics: Any) -> None:
    table = rows("howto/prometheus.md")
    for name, labels in known_metrics.items():
        name = re.sub(r"_(created|sum|count|bucket)$", "", name)
        if name in table or f"{name}_total" in table:
            cells = table.pop(name, None) or table[f"{name}_total"]
            assert set(re.findall(r"`(\w+)`", cells[1])) == labels - {"le"}, name
    assert not table


def test_options_of_smtp_blinker_that_pages_name_exist() -> None:
    done = python("-m", "smtp_blinker", "--help")
    known = set(re.findall(r"--[a-z][\w-]+", done.stdout))
    for page in (ROOT / "README.md", *PAGES):
        for line in page.read_text().splitlines():
            _, _, rest = line.partition("smtp-blinker ")
            options = re.findall(r"(?<!\w)--[a-z][\w-]+", rest)
            assert set(options) <= known, (page.name, line)


def test_the_first_program_of_the_readme_is_the_example() -> None:
    _, _, rest = (ROOT / "README.md").read_text().partition("## A first program")
    program = rest.split("```python\n")[1].split("```")[0]
    assert program == (ROOT / "examples/first_program.py").read_text()


def test_links_between_pages_lead_somewhere() -> None:
    tops = (ROOT / name for name in ("README.md", "SECURITY.md", "CHANGES.md", "CONTRIBUTING.md"))
    for page in (*tops, *ROOT.glob("*/README.md"), *PAGES):
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if "://" in target:
                continue
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), f"{page}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.+)$", other.read_text(), re.M)
                words = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
                assert anchor in [each.replace(" ", "-") for each in words], f"{page}: {target}"


# Prometheus

FUNCTIONS = {
    "sum", "rate", "increase", "histogram_quantile", "by", "le", "unless", "offset", "or", "on",
    "up", "max", "time", "clamp_min", "and", "vector", "min_over_time",
}  # fmt: skip
LABELS = {
    "instance",
    "spool",
    "store",
    "job",
    "code",
    "reason",
    "verb",
    "method",
    "outcome",
    "protocol",
    "policy",
    "verdict",
}


@pytest.fixture(scope="module")
def known_metrics() -> Any:
    """The names in a registry after every event has come once: name -> labels."""
    registry = CollectorRegistry()
    metrics = EventMetrics(registry).attach(server := SMTPServer(None))
    sent: list[tuple[Any, Any]] = [
        (signals.connect, signals.ConnectEvent("i", "", 0, "", 0, "h", "c")),
        (signals.secure, signals.SecureEvent("i", None, "TLSv1.3", "c")),
        (signals.auth, signals.AuthEvent("i", "PLAIN", "ann", True)),
        (signals.message, signals.MessageEvent("i", 1, "", (), 1, 250, "OK", 0.1)),
        (signals.refused, signals.RefusedEvent("i", "", "RCPT", "", 550, "no")),
        (signals.verdict, signals.VerdictEvent("i", 1, "clamav", "clean")),
        (signals.error, signals.ErrorEvent(OSError(), "EMFILE")),
        (signals.disconnect, signals.DisconnectEvent("i", "", 1.0, 1, 1, 1, "quit")),
    ]
    for signal_, event in sent:
        signals.emit(signal_, server, event)
    metrics.detach()
    SpoolMetrics(SimpleNamespace(path="/", messages=1, bytes=1, age=1.0), registry=registry)
    StoreMetrics({"it": SimpleNamespace(circuit=Circuit())}, registry)
    FleetMetrics(registry=registry)
    return {
        sample.name: set(sample.labels)
        for metric in registry.collect()
        for sample in metric.samples
    }


def check_expression(expression: str, known: dict[str, set[str]]) -> None:
    assert expression.count("(") == expression.count(")")
    bare = re.sub(r'"[^"]*"', "", expression)
    names = set(re.findall(r"\bsmtp_\w+", bare))
    assert names or bare.startswith("up{"), expression
    for name in names:
        assert name in known, f"{name} in {expression}"
    for name, selector in re.findall(r"\b(smtp_\w+)\{([^}]*)\}", expression):
        for label in re.findall(r"(\w+)\s*(?:=|!)", re.sub(r'"[^"]*"', "", selector)):
            assert label in known[name] | {"instance", "job"}, f"{label} of {name}"
    without = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    words = set(re.findall(r"(?<![\w$])[a-z_]{2,}\w*", without)) - names
    assert words <= FUNCTIONS | LABELS, words


def test_alerts_use_metrics_that_exist(known_metrics: Any) -> None:
    groups = yaml.safe_load((DOCS / "prometheus/alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 8
    for rule in rules:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"].keys() == {"summary", "description"}
        check_expression(rule["expr"], known_metrics)


def test_dashboard_uses_metrics_that_exist_and_leaves_none_out(known_metrics: Any) -> None:
    dashboard = json.loads((DOCS / "prometheus/dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in expressions:
        check_expression(expression, known_metrics)
    assert len({panel["id"] for panel in panels}) == len(panels)
    for name in known_metrics:
        name = re.sub(r"_(created|sum|count)$", "", name)
        assert any(name in expression for expression in expressions), name


# The whole


def test_sphinx_builds_it_without_a_warning(tmp_path: Path) -> None:
    done = python("-m", "sphinx", "-W", "-n", "-q", "-b", "html", DOCS, tmp_path, seconds=110)
    assert done.returncode == 0, done.stderr
