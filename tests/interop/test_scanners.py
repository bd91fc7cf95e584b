"""Rspamd and ClamAV with the real programs, and with scanners that misbehave."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from support import HOST, free_port

from smtp_blinker.policies import ClamAV, Rspamd
from smtp_blinker.policies.rspamd import MAX_ANSWER, MAX_VALUE, _edit_header, _facts
from smtp_blinker.session import Address, Session

from .scanners import open_folder, start_clamd, start_rspamd

#: Long enough for every answer of a scanner that is there, on a busy machine.
PATIENCE = 30.0
EVERYBODY: dict[str, Any] = {"trusted": (), "timeout": PATIENCE}
EICAR = r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"

Serve = Callable[..., Any]


@pytest.fixture(scope="module")
def rspamd() -> Iterator[Any]:
    """Its URL, and its process."""
    folder, port = open_folder(), free_port()
    try:
        scanner = start_rspamd(folder, port)
        try:
            yield SimpleNamespace(url=f"http://{HOST}:{port}", scanner=scanner)
        finally:
            scanner.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def clamd() -> Iterator[Any]:
    """Its port and its path, and its process."""
    folder, port = open_folder(), free_port()
    try:
        scanner = start_clamd(folder, port)
        try:
            path = str(folder / "clamd.sock")
            yield SimpleNamespace(port=port, path=path, scanner=scanner)
        finally:
            scanner.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# Mail


def send(served: Any, *fields: str, body: str = "hello", recipients: int = 1) -> tuple[int, str]:
    """The reply to a message."""
    message = "\r\n".join(("From: a@example.org", "Subject: test", *fields, "", body, ""))
    with smtplib.SMTP(HOST, served.port, timeout=PATIENCE) as client:
        client.ehlo("client.example.org")
        assert client.mail("a@example.org")[0] == 250
        for number in range(recipients):
            assert client.rcpt(f"b{number}@example.com")[0] == 250
        code, text = client.data(message)
        return code, text.decode("ascii")


def failure(served: Any) -> str:
    """What the only error says."""
    [event] = served.of("error")
    served.forget("error")
    assert event.code == "PolicyFailure"
    return str(event.error)


def header(content: bytes) -> list[str]:
    return content.decode().partition("\r\n\r\n")[0].split("\r\n")


# Rspamd


def test_rspamd_judges_mail(serve: Serve, rspamd: Any) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url, **EVERYBODY))
    assert send(served)[0] == 250
    assert send(served, body=GTUBE) == (550, "5.7.1 Gtube pattern")
    found = served.mail.envelope.results["rspamd"]
    assert (found.action, found.score, found.required_score) == ("no action", 0.0, 15.0)
    assert served.mail.content.endswith(b"hello\r\n")
    assert json.loads(json.dumps(found.as_dict()))["action"] == "no action"


@pytest.mark.parametrize("action", ["soft reject", "greylist"])
def test_what_rspamd_would_hear_again_is_451(serve: Serve, rspamd: Any, action: str) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url, **EVERYBODY))
    assert send(served, f"X-Wish: {action}") == (451, f"4.7.1 As you wish, {action}")
    assert not served.messages


def test_what_rspamd_marks(serve: Serve, rspamd: Any) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url, **EVERYBODY))
    assert send(served, "X-Wish: add header", "X-Spam: No")[0] == 250
    assert send(served, "X-Wish: rewrite subject")[0] == 250
    marked, rewritten = (header(mail.content) for mail in served.messages)
    assert [line for line in marked if line.startswith("X-Spam")] == ["X-Spam: Yes"]
    [subject] = [line for line in rewritten if line.startswith("Subject")]
    assert subject.isascii()
    assert "=?utf-8?" in subject.lower()
    assert served.messages[0].envelope.results["rspamd"].symbols == ("ASKED_FOR",)


def test_what_rspamd_hears_and_the_fields_it_asks_for(serve: Serve, rspamd: Any) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url, **EVERYBODY))
    fields = ("X-Facts: please", "X-Forged: 1", "X-Forged: 2", "X-Second: 1", "X-Second: 2")
    assert send(served, *fields, recipients=2)[0] == 250
    lines = header(served.mail.content)
    facts = "a@example.org b0@example.com b1@example.com 127.0.0.1 client.example.org nil"
    unfolded = served.mail.content.replace(b"\r\n ", b" ").decode()
    assert f"X-Facts: {facts} {served.mail.session.id}\r\n" in unfolded
    assert "X-Folded: one two" in lines
    assert (
        lines.index("X-Two: first")
        < lines.index("X-Two: second")
        < lines.index("From: a@example.org")
    )
    assert not any(line.startswith("X-Forged") for line in lines)
    assert lines.count("X-Second: 1") == lines.count("X-Second: 2") == 1
    [(name, reason)] = served.mail.envelope.results["rspamd"].left_out
    assert (name, reason) == ("X-Second", "only all fields of a name can be removed")


def test_a_message_from_the_spools_file_reaches_rspamd_whole(serve: Serve, rspamd: Any) -> None:
    served = serve(spool_memory=1000)
    served.server.use(Rspamd(rspamd.url, **EVERYBODY))
    assert send(served, "X-Facts: please", body=("x" * 70 + "\r\n") * 5000)[0] == 250
    [added] = [line for line in header(served.mail.content) if line.startswith("X-Size: ")]
    came = served.mail.content.partition(b"From: a@")
    assert int(added.removeprefix("X-Size: ")) == len(came[1] + came[2]) > 350_000


@pytest.mark.parametrize(("on_failure", "code"), [("accept", 250), ("defer", 451)])
def test_a_message_larger_than_rspamd_takes_is_a_failure(
    serve: Serve, rspamd: Any, on_failure: Any, code: int
) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url, on_failure=on_failure, **EVERYBODY))
    assert send(served, body=("x" * 70 + "\r\n") * 70_000)[0] == code
    assert failure(served).startswith("rspamd: ")
    assert all("rspamd" not in mail.envelope.results for mail in served.messages)
    assert send(served)[0] == 250  # which it takes


def test_a_trusted_client_is_not_judged(serve: Serve, rspamd: Any) -> None:
    served = serve()
    served.server.use(Rspamd(rspamd.url))
    assert send(served, body=GTUBE)[0] == 250
    assert "rspamd" not in served.mail.envelope.results


# ClamAV


@pytest.mark.parametrize("form", ["tcp://{host}:{port}", "pair", "unix:{path}", "unix://{path}"])
def test_clamd_finds_a_virus(serve: Serve, clamd: Any, form: str) -> None:
    address: Any = (HOST, clamd.port)
    if form != "pair":
        address = form.format(host=HOST, port=clamd.port, path=clamd.path)
    served = serve()
    served.server.use(ClamAV(address, **EVERYBODY))
    assert send(served)[0] == 250
    assert served.mail.envelope.results["clamav"].as_dict() == {
        "verdict": "clean",
        "signature": None,
        "infected": False,
    }
    said = (550, "5.7.1 The message holds a virus: Test.Marker.UNOFFICIAL")
    assert send(served, body="SMTP-BLINKER-TEST-VIRUS") == said


def test_clamd_finds_eicar_in_an_attachment(serve: Serve, clamd: Any) -> None:
    served = serve(spool_memory=100)
    served.server.use(ClamAV((HOST, clamd.port), **EVERYBODY))
    attached = base64.encodebytes(EICAR.encode()).decode().replace("\n", "\r\n")
    fields = (
        "MIME-Version: 1.0",
        "Content-Type: application/octet-stream",
        "Content-Transfer-Encoding: base64",
    )
    code, text = send(served, *fields, body=attached)
    assert (code, text) == (550, "5.7.1 The message holds a virus: Eicar-Test.UNOFFICIAL")


@pytest.mark.parametrize(("on_failure", "code"), [("accept", 250), ("defer", 451)])
def test_a_message_larger_than_clamd_takes_is_a_failure(
    serve: Serve, clamd: Any, on_failure: Any, code: int
) -> None:
    served = serve()
    served.server.use(ClamAV((HOST, clamd.port), on_failure=on_failure, **EVERYBODY))
    assert send(served, body=("x" * 70 + "\r\n") * 60_000)[0] == code
    assert failure(served).startswith("clamav: ")
    assert all("clamav" not in mail.envelope.results for mail in served.messages)


# Scanners that are away


@pytest.mark.parametrize("which", ["rspamd", "clamd"])
def test_a_scanner_that_stops_and_dies(serve: Serve, which: str) -> None:
    folder, port = open_folder(), free_port()
    start = start_rspamd if which == "rspamd" else start_clamd
    scanner = None

    def policy(timeout: float, **keywords: Any) -> Any:
        keywords.update(trusted=(), timeout=timeout)
        if which == "rspamd":
            return Rspamd(f"http://{HOST}:{port}", **keywords)
        return ClamAV((HOST, port), **keywords)

    try:
        scanner = start(folder, port)
        patient = serve()
        patient.server.use(policy(PATIENCE, on_failure="defer"))
        passing, deferring = serve(), serve()
        passing.server.use(policy(0.3))
        deferring.server.use(policy(0.3, on_failure="defer"))
        assert send(patient)[0] == 250

        scanner.signal(signal.SIGSTOP)
        assert send(passing)[0] == 250
        assert "no answer within 0.3 s" in failure(passing)
        assert send(deferring)[0] == 451
        assert "no answer within 0.3 s" in failure(deferring)
        scanner.signal(signal.SIGCONT)
        assert send(patient)[0] == 250

        scanner.kill()
        for served, code in ((passing, 250), (deferring, 451)):
            assert send(served)[0] == code
            assert "ConnectionRefusedError" in failure(served)
        scanner = start(folder, port)
        assert send(patient)[0] == 250
        assert not patient.of("error")
    finally:
        if scanner is not None:
            scanner.kill()
        shutil.rmtree(folder, ignore_errors=True)


class Fake:
    """Answers each connection with *answer* once it has read *end*; with *context* over TLS."""

    def __init__(self, answer: bytes, end: bytes, context: Any = None) -> None:
        self.answer, self.end, self.context = answer, end, context
        self.received: list[bytes] = []
        self.sock = socket.create_server((HOST, 0))
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.sock.accept()
            except OSError:
                return
            client.settimeout(PATIENCE)
            try:
                if self.context is not None:
                    client = self.context.wrap_socket(client, server_side=True)
                self._answer(client)
            except OSError:
                pass  # the other side didn't like what it saw
            finally:
                client.close()

    def _answer(self, client: socket.socket) -> None:
        read = b""
        while not read.endswith(self.end) and (piece := client.recv(65536)):
            read += piece
        if read:
            self.received.append(read)
            client.sendall(self.answer)

    def __enter__(self) -> Fake:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)  # it wakes accept(), which closing doesn't
        self.sock.close()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def verdict(**more: Any) -> bytes:
    return http(
        json.dumps({"action": "no action", "score": 1, "required_score": 2, **more}).encode()
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "RemoteDisconnected"),
        (b"nonsense\r\n", "BadStatusLine"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, "HTTPException"),
        (http(b"", "503 Away\x1b[31m"), "it answered 503 Away?[31m"),
        (http(b"{"), "not JSON"),
        (http(b"\xff\xfe"), "not JSON"),
        (http(b"[]"), "not a JSON object"),
        (http(b'{"a":' + b"[" * 100_000), "not JSON"),
        (http(b'{"error": "no\\r\\nroom"}'), "no action: no room"),
        (verdict(action=5), "has no action"),
        (verdict(score="high"), "has no score"),
        (verdict(score=float("nan")), "has no score"),
        (verdict(score=True), "has no score"),
        (verdict(required_score=10**400), "has no required_score"),
        (verdict(more="x" * MAX_ANSWER), "longer than"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_ANSWER + 1), "longer than"),
    ],
)
def test_an_answer_that_is_no_verdict_of_rspamd(serve: Serve, answer: bytes, why: str) -> None:
    with Fake(answer, b"hello\r\n") as fake:
        served = serve()
        url = f"http://{HOST}:{fake.port}"
        served.server.use(Rspamd(url, on_failure="defer", **EVERYBODY))
        assert send(served) == (451, "4.7.1 Try again later: this server can't check mail now")
        assert why in failure(served)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"", "after nothing"),
        (b"stream: OK", "after 'stream: OK'"),
        (b"stream: O\r\nK\0", "it answered"),
        (b"OK\0", "it answered 'OK'"),
        (b"stream:  FOUND\0", "it answered"),
        (b"UNKNOWN COMMAND\0", "it answered 'UNKNOWN COMMAND'"),
        (b"stream: Can't allocate memory ERROR\0", "ERROR"),
        (b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0", "Limits.Exceeded"),
        (b"x" * 10_000, "no end"),
        (b"\xff\x1b\0", "it answered '??'"),
    ],
)
def test_an_answer_that_is_no_verdict_of_clamd(serve: Serve, answer: bytes, why: str) -> None:
    with Fake(answer, b"\0\0\0\0") as fake:
        served = serve()
        served.server.use(ClamAV((HOST, fake.port), on_failure="defer", **EVERYBODY))
        assert send(served)[0] == 451
        assert why in failure(served)


def test_a_signature_can_not_forge_a_reply(serve: Serve) -> None:
    with Fake("stream: A\r\n250 Grüße FOUND\0".encode(), b"\0\0\0\0") as fake:
        served = serve()
        served.server.use(ClamAV(f"tcp://{HOST}:{fake.port}", **EVERYBODY))
        assert send(served) == (550, "5.7.1 The message holds a virus: A 250 Gr??e")


def test_a_message_of_rspamds_can_not_forge_a_reply(serve: Serve) -> None:
    said = {"smtp_message": "5.7.1 Spam\r\n250 Grüße" + "x" * 10_000}
    with Fake(verdict(action="reject", messages=said), b"hello\r\n") as fake:
        served = serve()
        served.server.use(Rspamd(f"http://{HOST}:{fake.port}/path/", **EVERYBODY))
        code, text = send(served)
    assert code == 550
    assert text.startswith("5.7.1 Spam 250 Gr??e" + "x" * 100)
    assert len(text) < 250
    assert text.isprintable()
    assert fake.received[0].startswith(b"POST /path/checkv2 HTTP/1.1\r\n")


@pytest.mark.parametrize("verified", [True, False])
def test_rspamd_behind_tls(
    serve: Serve, certificates: Any, monkeypatch: pytest.MonkeyPatch, verified: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    if verified:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    with Fake(verdict(action="reject"), b"hello\r\n", context) as fake:
        served = serve()
        url = f"https://localhost:{fake.port}"
        served.server.use(Rspamd(url, on_failure="defer", **EVERYBODY))
        code, text = send(served)
    if verified:
        assert (code, text) == (550, "5.7.1 The message is rejected as spam")
    else:
        assert code == 451
        assert "CERTIFICATE_VERIFY_FAILED" in failure(served)
        assert not fake.received


def test_an_action_of_the_configurations_own_is_left_to_the_program(serve: Serve) -> None:
    with Fake(verdict(action="quarantine"), b"hello\r\n") as fake:
        served = serve()
        served.server.use(Rspamd(f"http://{HOST}:{fake.port}", **EVERYBODY))
        assert send(served)[0] == 250
    assert served.mail.envelope.results["rspamd"].action == "quarantine"


def test_a_slow_answer_ends_with_the_deadline(serve: Serve) -> None:
    """Each octet comes in time, all of them don't."""
    stop = threading.Event()
    listening = socket.create_server((HOST, 0))

    def drip() -> None:
        client, _ = listening.accept()
        with client:
            try:
                client.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.wait(0.05):
                    client.sendall(b"X")
            except OSError:
                pass

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        served = serve()
        url = f"http://{HOST}:{listening.getsockname()[1]}"
        served.server.use(Rspamd(url, trusted=(), timeout=0.5, on_failure="defer"))
        started = time.monotonic()
        assert send(served)[0] == 451
        assert time.monotonic() - started < PATIENCE
        assert "no answer within 0.5 s" in failure(served)
    finally:
        stop.set()
        thread.join()
        listening.close()


@pytest.mark.parametrize("which", ["http", "https", "tcp"])
def test_a_silent_scanner_holds_up_no_other_client(serve: Serve, which: str) -> None:
    with socket.create_server((HOST, 0)) as silent:
        place = f"{which}://{HOST}:{silent.getsockname()[1]}"
        served = serve()
        policy = ClamAV if which == "tcp" else Rspamd
        served.server.use(policy(place, on_failure="defer", **EVERYBODY))
        replies: list[Any] = []
        waiting = threading.Thread(target=lambda: replies.append(send(served)))
        with smtplib.SMTP(HOST, served.port, timeout=PATIENCE) as other:
            waiting.start()
            silent.settimeout(PATIENCE)
            client, _ = silent.accept()
            with client:
                # The scanner has been asked, and the server waits.
                assert client.recv(1)
                assert other.noop()[0] == 250
                assert not replies
            waiting.join()
        assert replies[0][0] == 451
        assert failure(served)


# The header, without a server


def edited(action: str = "no action", utf8: bool = False, **answer: Any) -> tuple[str, Any]:
    session = Session()
    session.envelope.smtputf8 = utf8
    left_out = list(_edit_header(session, action, answer))
    edits = session.envelope.header_edits
    return edits.top.decode() if edits else "", left_out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "one\r\nX-Forged: two"),
        ("X-A", "one\nX-Forged: two"),
        ("X-A", "one\rX-Forged: two"),
        ("X-A", "one\0two"),
        ("X-A", "one\r\n\r\nbody"),
        ("X-A\r\nX-Forged", "two"),
        ("X-A:", "two"),
        ("", "two"),
        ("X A", "two"),
        ("X-A", "\ud800"),
        ("X-A", "x" * (MAX_VALUE + 1)),
        ("X-A", "x" * 1000),
        ("X-A", 5),
        ("X-A", None),
        ("X-A", {"order": 1}),
        ("X-A", [["two"]]),
    ],
)
@pytest.mark.parametrize("utf8", [False, True])
def test_a_field_that_can_not_be_added(name: str, value: Any, utf8: bool) -> None:
    top, left_out = edited(utf8=utf8, milter={"add_headers": {"X-Good": "1", name: value}})
    assert top == "X-Good: 1\r\n"
    [(_, reason)] = left_out
    assert reason
    assert reason.isprintable()


def test_a_subject_can_not_forge_a_field() -> None:
    top, left_out = edited("rewrite subject", subject="[spam]\r\nX-Forged: 1")
    assert top == ""
    assert left_out


def test_folded_values_and_those_beyond_ascii() -> None:
    fields = {"X-A": "one;\r\n\ttwo\n  three\tfour", "X-B": "Grüße 猫"}
    top, left_out = edited(milter={"add_headers": fields})
    assert not left_out
    assert "X-A: one; two three four\r\n" in top
    assert "X-B: =?utf-8?b?R3LDvMOfZSDnjKs=?=\r\n" in top
    assert "X-B: Grüße 猫\r\n" in edited(utf8=True, milter={"add_headers": fields})[0]


def test_no_more_fields_than_anyone_wants() -> None:
    top, left_out = edited(milter={"add_headers": {"X-A": ["x"] * 1000}})
    assert top.count("X-A") == 200
    assert left_out == [("", "too many changes")]


@pytest.mark.parametrize("milter", [5, [], {"add_headers": 5, "remove_headers": ["X-A"]}])
def test_a_milter_block_that_is_none(milter: Any) -> None:
    assert edited(milter=milter) == ("", [])


def test_what_rspamd_is_told_can_not_forge_a_field() -> None:
    session = Session()
    session.remote_address = "2001:db8::1"
    session.client_hostname = "mail.example.org"
    session.host_name_appears_as = "evil\r\nUser: root\u2028" + "x" * 2000
    session.user = SimpleNamespace()
    session.envelope.mail_from = Address("")
    session.envelope.rcpt_to = [Address("a\n@bücher.example")]
    facts = dict(_facts(session))
    assert facts["From"] == b"<>"
    assert facts["Rcpt"] == b"a?@xn--bcher-kva.example"
    assert facts["Ip"] == b"2001:db8::1"
    assert facts["Hostname"] == b"mail.example.org"
    assert facts["Helo"].startswith(b"evil??User: root?xxx")
    assert len(facts["Helo"]) == 1000
    assert facts["User"]
    assert all(b"\r" not in value and b"\n" not in value for value in facts.values())


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:11333", "ftp://localhost", "http://", "http://h:99999", "http://h:x"),
        *("http://u:p@h", "http://h/?a", "http://[::1", "http://h h", "http://h\r\nX: y", 5, None),
    ],
)
def test_what_is_no_url(url: Any) -> None:
    with pytest.raises(ValueError, match="the URL of rspamd is http://HOST:11333"):
        Rspamd(url)


@pytest.mark.parametrize(
    "address",
    [
        *("", "localhost:3310", "tcp://localhost", "tcp://:3310", "tcp://h:0", "tcp://h:x", 5),
        *("tcp://h:3310/x", "tcp://u@h:3310", "unix:", "unix:clamd", "unix:/a\0b", ("h", "3310")),
        *(("h",), ("", 3310), ("h", True), ("h", 65536), None, "tcp://[::1"),
    ],
)
def test_what_is_no_address_of_clamd(address: Any) -> None:
    with pytest.raises(ValueError, match="the address of clamd is tcp://HOST:3310"):
        ClamAV(address)
