"""HAProxy in front, in TCP mode, with PROXY headers of both versions."""

from __future__ import annotations

import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import HOST, SECONDS, Served, bound_socket, environment, program, wait_until

from .names import ASCII_CONTENT, Certificates

Serve = Callable[..., Served]

#: The client's address; all of 127/8 is on the loopback interface.
CLIENT = "127.0.0.5"


class Proxy:
    """A running HAProxy with one server behind it."""

    def __init__(self, port: int, admin: Path, log: Path) -> None:
        self.port = port
        self._admin = admin
        self.log = log

    def status(self) -> dict[str, str]:
        """What it tells of the server, by column: `status`, `check_status` …"""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(SECONDS)
            sock.connect(str(self._admin))
            sock.sendall(b"show stat\n")
            text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        columns, *rows = (line.split(",") for line in text.splitlines() if line)
        columns[0] = columns[0].removeprefix("# ")
        facts = (dict(zip(columns, row, strict=False)) for row in rows)
        return next(row for row in facts if row["svname"] == "ours")


Start = Callable[..., Proxy]


@pytest.fixture
def haproxy(short_folder: Path) -> Iterator[Start]:
    """``haproxy(served, "send-proxy", …)`` starts one; the words are the server line's."""
    path = program("haproxy", "haproxy")
    with ExitStack() as stack:

        def start(served: Served, words: str, **more: Any) -> Proxy:
            return stack.enter_context(_running(path, short_folder, served, words, **more))

        yield start


@contextmanager
def _running(
    path: str,
    folder: Path,
    served: Served,
    words: str,
    *,
    bind: str = "",
    lines: tuple[str, ...] = (),
    family: int = socket.AF_INET,
) -> Iterator[Proxy]:
    """*bind* is added to the bind line, *lines* to the section."""
    config, admin, log = (folder / name for name in ("haproxy.cfg", "admin", "haproxy.log"))
    with bound_socket(family) as sock, log.open("wb") as output:
        port: int = sock.getsockname()[1]
        config.write_text(
            "\n".join(
                (
                    "global",
                    f"  stats socket {admin} mode 600 level admin",
                    "defaults",
                    "  mode tcp",
                    *(
                        f"  timeout {what} {SECONDS:g}s"
                        for what in ("connect", "client", "server", "check")
                    ),
                    "listen smtp",
                    f"  bind fd@{sock.fileno()} {bind}",
                    *(f"  {line}" for line in lines),
                    f"  server ours {HOST}:{served.port} {words}",
                    "",
                )
            )
        )
        process = subprocess.Popen(
            [path, "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[sock.fileno()],
            env=environment(),
        )
    try:
        wait_until(lambda: admin.exists() or process.poll() is not None, f"HAProxy runs: {config}")
        assert process.poll() is None, log.read_text()
        yield Proxy(port, admin, log)
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def deliver(smtp: smtplib.SMTP) -> tuple[str, int]:
    """Sends a message; the client's own address and port."""
    sock = smtp.sock
    assert sock is not None
    address = sock.getsockname()
    smtp.sendmail("a@example.org", ["b@example.com"], ASCII_CONTENT)
    smtp.quit()
    return address[0], address[1]


def client(port: int) -> smtplib.SMTP:
    return smtplib.SMTP(HOST, port, "client.example", SECONDS, source_address=(CLIENT, 0))


@pytest.mark.parametrize(("words", "version"), [("send-proxy", 1), ("send-proxy-v2", 2)])
def test_haproxy_says_who_the_client_is(
    serve: Serve, haproxy: Start, words: str, version: int
) -> None:
    asked: list[str] = []
    served = serve(
        use_proxy=[HOST], on_connect=lambda session: asked.append(session.remote_address)
    )
    proxy = haproxy(served, words)
    address = deliver(client(proxy.port))
    session = served.mail.session
    assert (session.remote_address, session.remote_port) == address
    assert address[0] == CLIENT
    assert (session.local_address, session.local_port) == (HOST, proxy.port)
    assert (session.proxy.version, session.proxy.family) == (version, "TCP4")
    assert asked == [CLIENT]
    assert [(event.remote_address, event.remote_port) for event in served.of("connect")] == [
        address
    ]
    assert served.mail.content == ASCII_CONTENT


@pytest.mark.usefixtures("ipv6")
@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
def test_haproxy_says_who_an_ipv6_client_is(serve: Serve, haproxy: Start, words: str) -> None:
    served = serve(use_proxy=["127.0.0.0/8"])
    proxy = haproxy(served, words, family=socket.AF_INET6)
    address = deliver(smtplib.SMTP("::1", proxy.port, "client.example", SECONDS))
    session = served.mail.session
    assert (session.remote_address, session.remote_port) == address
    assert session.proxy.family == "TCP6"


def test_haproxy_is_not_believed_from_elsewhere(serve: Serve, haproxy: Start) -> None:
    served = serve(use_proxy=["192.0.2.1"])
    proxy = haproxy(served, "send-proxy-v2")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client(proxy.port)
    wait_until(lambda: served.of("disconnect"), "the connection ended")
    assert [event.reason for event in served.of("disconnect")] == ["proxy"]


def test_a_haproxy_that_sends_no_header_gets_nothing(serve: Serve, haproxy: Start) -> None:
    served = serve(use_proxy=True, proxy_timeout=0.3)
    proxy = haproxy(served, "")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client(proxy.port)
    wait_until(lambda: served.of("disconnect"), "the connection ended")
    assert [event.reason for event in served.of("disconnect")] == ["proxy"]


@pytest.mark.parametrize("words", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("start", [True, False], ids=["STARTTLS", "TLS"])
def test_haproxy_passes_tls_on(
    serve: Serve, haproxy: Start, certificates: Certificates, words: str, start: bool
) -> None:
    served = serve(use_proxy=True, secure=not start, **certificates.options)
    proxy = haproxy(served, words)
    where = ("localhost", proxy.port, "client.example")
    context = certificates.context()
    smtp: smtplib.SMTP
    if start:
        smtp = smtplib.SMTP(*where, timeout=SECONDS, source_address=(CLIENT, 0))
        smtp.starttls(context=context)
    else:
        smtp = smtplib.SMTP_SSL(
            *where, timeout=SECONDS, source_address=(CLIENT, 0), context=context
        )
    deliver(smtp)
    assert served.mail.remote_address == CLIENT
    assert served.mail.transmission_type == "ESMTPS"
    assert served.mail.session.servername == "localhost"


def test_haproxy_ends_tls_and_tells_about_it(
    serve: Serve, haproxy: Start, certificates: Certificates
) -> None:
    served = serve(use_proxy=True, secured=True)
    context = certificates.context()
    context.load_cert_chain(certificates.client)
    proxy = haproxy(
        served,
        "send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,"
        "authority,crc32c,unique-id",
        bind=f"ssl crt {certificates.server} ca-file {certificates.ca} verify required",
        lines=("unique-id-format connection-%ci-%cp",),
    )
    smtp = smtplib.SMTP_SSL(
        "localhost",
        proxy.port,
        "client.example",
        timeout=SECONDS,
        source_address=(CLIENT, 0),
        context=context,
    )
    address, port = deliver(smtp)
    session = served.mail.session
    assert served.mail.transmission_type == "ESMTPS"
    assert (session.remote_address, session.remote_port) == (address, port)
    header = session.proxy
    assert header.authority == "localhost"
    assert header.unique_id == b"connection-%s-%d" % (address.encode(), port)
    assert header.ssl.version == "TLSv1.3"
    assert header.ssl.cn == "client.example"
    assert (header.ssl.client & 1, header.ssl.verify) == (1, 0)
    assert header.ssl.cipher.startswith("TLS_")
    assert header.ssl.key_alg
    assert header.ssl.sig_alg
    assert 0x03 in header.tlvs  # the checksum, which was verified


def test_haproxy_with_many_clients(serve: Serve, haproxy: Start) -> None:
    served = serve(use_proxy=True)
    proxy = haproxy(served, "send-proxy-v2")
    clients = [client(proxy.port) for _ in range(30)]
    addresses = [deliver(smtp) for smtp in clients]
    assert len(set(addresses)) == 30
    assert [
        (mail.session.remote_address, mail.session.remote_port) for mail in served.messages
    ] == addresses


def _wait_for_more(ended: list[object], count: int) -> None:
    goal = len(ended) + count
    wait_until(lambda: len(ended) >= goal, "the checks go on")


@pytest.mark.parametrize("check", ["connect", "smtpchk"])
@pytest.mark.parametrize("words", ["", "send-proxy", "send-proxy-v2"])
def test_health_checks_disturb_nobody(serve: Serve, haproxy: Start, words: str, check: str) -> None:
    ended: list[object] = []
    served = serve(use_proxy=bool(words), ignored_hosts=[HOST], on_close=ended.append)
    lines = ("option smtpchk EHLO haproxy.example",) * (check == "smtpchk")
    # The interval is also what a check may take: on a slow machine a few come too late.
    proxy = haproxy(served, f"{words} check inter 50ms rise 1 fall 1000", lines=lines)
    for _ in range(3):
        deliver(client(proxy.port))
        if words or check == "smtpchk":  # a bare connect is reset before it can be accepted
            _wait_for_more(ended, 4)
        assert proxy.status()["status"] == "UP"
    facts = wait_until(lambda: "OK" in (row := proxy.status())["check_status"] and row, "a check")
    assert facts["check_status"] in ("L7OK", "L4OK", "* L7OK", "* L4OK")
    assert [mail.content for mail in served.messages] == [ASCII_CONTENT] * 3
    assert served.of("error") == []
    if words:
        # Through the proxy the clients are who they are, and only the checks come from HOST.
        assert [event.remote_address for event in served.of("connect")] == [CLIENT] * 3
        wait_until(lambda: len(served.of("disconnect")) == 3, "the clients have left")
        assert {event.remote_address for event in served.of("disconnect")} == {CLIENT}
