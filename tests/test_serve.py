"""The program smtp-blinker as a user runs it: a process, its ports, its signals, its Maildir."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pkgutil
import pty
import re
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import click
import psutil
import pytest
import scramp
import trustme
from cryptography.hazmat.primitives import serialization
from support import free_port, python, trusting, wait_until
from support.cli import (
    ANYWHERE,
    MESSAGE,
    ROOT,
    SECONDS,
    SERVE,
    SmtpBlinker,
    adduser,
    environment,
    refused,
    run,
)

import smtp_blinker
import smtp_blinker.serve
from smtp_blinker.serve.cli import command
from smtp_blinker.serve.help import Option
from smtp_blinker.serve.values import parse_size
from smtp_blinker.users import hash_password

# Runs a program that can't make a file of more than a mebibyte: EFBIG, as on a full disk.
SMALL_DISK = (
    "import os, resource, sys;"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def certificate(folder: Path, ca: trustme.CA) -> None:
    issued = ca.issue_cert("localhost")
    with (folder / "cert.pem").open("wb") as file:
        for part in issued.cert_chain_pems:
            file.write(part.bytes())
    issued.private_key_pem.write_to_path(folder / "key.pem")


# Receiving


def test_mail_lands_in_the_maildir_with_nothing_configured(tmp_path: Path) -> None:
    # The port is the only thing that a test can't leave at its default.
    with SmtpBlinker(tmp_path, SMTP_BLINKER_LISTEN="127.0.0.1:0") as server:
        with server.client() as client:
            client.sendmail("you@example.org", ["me@example.com", "her@example.net"], MESSAGE)
        [message] = server.messages()
    assert message["Subject"] == "hello"
    assert message.get_payload() == "One\n.\n..Two\n"
    assert message.keys() == ["Return-Path", "Delivered-To", "Delivered-To", "Received", "Subject"]
    assert message["Return-Path"] == "<you@example.org>"
    assert message.get_all("Delivered-To") == ["me@example.com", "her@example.net"]
    assert "[127.0.0.1]" in message["Received"]
    assert server.process.returncode == 0
    assert server.said[0] == (
        f"Listening on 127.0.0.1:{server.port} (SMTP); mail goes to ./Maildir"
    )


def test_default_address_is_local_and_unprivileged(tmp_path: Path) -> None:
    assert "127.0.0.1:2525" in run(tmp_path, "--help").stdout


@pytest.mark.parametrize(
    "options",
    [
        ANYWHERE,
        (*ANYWHERE, "--domain", "example.com"),
        ("--listen", "lmtp://127.0.0.1:0"),
        ("--listen", "lmtp:///{}/socket"),
        ("--listen", "smtps://127.0.0.1:0", "--self-signed"),
        ("--listen", "0.0.0.0:0"),
    ],
)
def test_the_line_to_try_it_works(tmp_path: Path, options: tuple[str, ...]) -> None:
    with SmtpBlinker(tmp_path, *(text.format(str(tmp_path)[1:]) for text in options)) as server:
        command = server.said[-1].removeprefix("Try: ")
        subprocess.run(command, shell=True, check=True, timeout=SECONDS)
        [message] = server.messages()
        assert message["Subject"] == "It works"
        assert message["To"] in ("me@example.com", "postmaster")


def test_several_addresses_and_protocols_at_once(tmp_path: Path) -> None:
    options = ["--listen", "127.0.0.1:0", "--listen", "smtps://127.0.0.1:0"]
    options += ["--listen", "lmtp://127.0.0.1:0", "--listen", f"lmtp://{tmp_path}/socket"]
    with SmtpBlinker(tmp_path, *options, "--self-signed") as server:
        smtp, smtps, lmtp = server.ports
        clients = [
            smtplib.SMTP("127.0.0.1", smtp, timeout=SECONDS),
            smtplib.SMTP_SSL("127.0.0.1", smtps, context=trusting(), timeout=SECONDS),
            smtplib.LMTP("127.0.0.1", lmtp),
            smtplib.LMTP(f"{tmp_path}/socket"),
        ]
        for client in clients:
            with client:
                client.sendmail("you@example.org", "me@example.com", MESSAGE)
        kinds = [
            message["Received"].partition(" with ")[2].split()[0] for message in server.messages()
        ]
    assert sorted(kinds) == ["ESMTP", "ESMTPS", "LMTP", "LMTP"]


def test_starttls_with_a_certificate_made_on_the_spot(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--self-signed") as server:
        with server.client() as client:
            client.starttls(context=trusting())
            assert isinstance(client.sock, ssl.SSLSocket)
            der = client.sock.getpeercert(binary_form=True)
            assert der is not None
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        # It is a real certificate for this host: who trusts it can verify the name.
        context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(der))
        with server.client() as client:
            client._host = "localhost"  # type: ignore[attr-defined]
            client.starttls(context=context)
        [message] = server.messages()
    assert " with ESMTPS" in message["Received"]
    assert sorted(os.listdir(tmp_path)) == ["Maildir", "log", "smtp-blinker.pem"]
    assert "PRIVATE" not in (tmp_path / "smtp-blinker.pem").read_text()  # no key was left


@pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_any_password_is_right_for_a_catcher(tmp_path: Path, method: str) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--accept-any-auth") as server, server.client() as client:
        client.ehlo()
        client.user, client.password = "ann", "whatever"
        mechanism = getattr(client, f"auth_{method.lower().replace('-', '_')}")
        assert client.auth(method, mechanism)[0] == 235
        client.sendmail("a@example.org", "b@example.com", MESSAGE)
        with server.client() as other:  # and it needn't
            other.sendmail("a@example.org", "b@example.com", MESSAGE)
        assert len(server.messages()) == 2
        assert not any("--accept-any-auth" in line for line in server.said)


def test_the_page_is_shown_below_a_path(tmp_path: Path) -> None:
    options = [*ANYWHERE, "--http", "127.0.0.1:0", "--http-path", "mail"]
    with SmtpBlinker(tmp_path, *options) as server:
        url = next(line.split()[2] for line in server.said if line.startswith("Web page:"))
        connection = HTTPConnection(url.split("/")[2], timeout=SECONDS)
        connection.request("GET", "/mail/api/messages")
        assert connection.getresponse().status == 200
        connection.close()
    ended = run(tmp_path, *ANYWHERE, "--http-path", "/a b/")
    assert ended.returncode == 2
    assert "--http-path" in ended.stderr


def test_old_mail_is_deleted_where_that_is_wanted(tmp_path: Path) -> None:
    new = tmp_path / "Maildir" / "new"
    new.mkdir(parents=True)
    for number in range(5):
        (new / f"{1_700_000_000 + number}.x").write_text(MESSAGE)
    options = ["-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--keep-messages", "2"]
    with SmtpBlinker(tmp_path, *options) as server:
        server.wait_for_log("3 messages were too old or too many")
        assert sorted(path.name for path in new.iterdir()) == ["1700000003.x", "1700000004.x"]
    for other in (["--http", "off"], ["--http", "off", "--workers", "2"]):
        assert "--http" in refused(tmp_path, *ANYWHERE, *other, "--keep-days", "1")


def test_a_certificate_made_on_the_spot_can_be_trusted(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--self-signed") as server:
        [said] = [line for line in server.said if line.startswith("Certificate to trust: ")]
        path = tmp_path / "smtp-blinker.pem"
        assert said.endswith(str(path))
        assert "PRIVATE" not in path.read_text()
        context = ssl.create_default_context(cafile=str(path))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        for host in ("localhost", "127.0.0.1"):
            with smtplib.SMTP(host, server.port, timeout=SECONDS) as client:
                client.starttls(context=context)
                assert client.ehlo()[0] == 250
    line = refused(tmp_path, *ANYWHERE, "--self-signed", "--self-signed-cert", "none/there.pem")
    assert "--self-signed-cert" in line


def test_who_is_lenient_to_everyone_is_told_so_where_others_reach_the_server(
    tmp_path: Path,
) -> None:
    with SmtpBlinker(tmp_path, "-l", "0.0.0.0:0", "--http", "off", "--lenient") as server:
        assert any("--lenient" in line for line in server.said)
    with SmtpBlinker(tmp_path, "-l", "127.0.0.1:0", "--http", "off", "--lenient") as server:
        assert not any("--lenient" in line for line in server.said)


def test_who_lets_everyone_in_is_told_so_where_others_reach_the_server(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, "-l", "0.0.0.0:0", "--http", "off", "--accept-any-auth") as server:
        assert any("any password" in line for line in server.said)
    line = refused(tmp_path, *ANYWHERE, "--users", "users", "--accept-any-auth")
    assert "not both" in line


@pytest.mark.parametrize(
    ("options", "can"),
    [
        ((), "read and delete the mail"),
        (("--deliver", "http://127.0.0.1:1/"), "see who connects, and senders and recipients"),
    ],
)
def test_the_warning_about_a_page_without_a_password_tells_what_it_shows(
    tmp_path: Path, options: tuple[str, ...], can: str
) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--http", "0.0.0.0:0", *options) as server:
        warning = f"Everyone who reaches the page can {can}: give --http-auth."
        assert warning in server.said


def test_a_lenient_server_takes_what_old_devices_write(tmp_path: Path) -> None:
    commands = [
        b"EHLO My Scanner 3000\r\n",
        b"MAIL FROM:scanner@example.org RET=HDRS ENVID=QQ314159\n",
        b"RCPT TO: b@example.com NOTIFY=NEVER\r\n",
        b"DATA\r\n",
        b"Subject: scan\n\nOne\nTwo\r\n.\r\n",
    ]
    for options, replies in (
        (["--lenient"], [b"250", b"250", b"250", b"354", b"250"]),
        ([], [b"501"]),
    ):
        with (
            SmtpBlinker(tmp_path, *ANYWHERE, *options) as server,
            socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as client,
        ):
            assert client.recv(1000).startswith(b"220")
            for command, reply in zip(commands, replies, strict=False):
                client.sendall(command)
                assert client.recv(2000).startswith(reply), command
    [message] = server.messages()
    assert message.get_payload() == "One\nTwo\n"


def test_only_users_of_the_file_get_in(tmp_path: Path) -> None:
    adduser(tmp_path, "alice", "sesame\n")
    options = [*ANYWHERE, "--self-signed", "--users", "users", "--require-auth"]
    with SmtpBlinker(tmp_path, *options) as server:
        with server.client() as client:
            client.starttls(context=trusting())
            with pytest.raises(smtplib.SMTPSenderRefused) as demanded:
                client.sendmail("you@example.org", "me@example.com", MESSAGE)
            assert demanded.value.smtp_code == 530
            with pytest.raises(smtplib.SMTPAuthenticationError) as wrong:
                client.login("alice", "wrong")
            assert wrong.value.smtp_code == 535
            client.login("alice", "sesame")
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        [message] = server.messages()
    assert " with ESMTPSA" in message["Received"]
    assert "sesame" not in server.log.read_text()


def test_recipients_elsewhere_are_refused(tmp_path: Path) -> None:
    options = [*ANYWHERE, "--domain", "Example.com", "--domain", "xn--bcher-kva.example"]
    with SmtpBlinker(tmp_path, *options) as server, server.client() as client:
        client.ehlo()
        client.mail("you@example.org", ["SMTPUTF8"])
        for address in ("me@example.com", "me@EXAMPLE.COM", "postmaster", "PostMaster"):
            assert client.rcpt(address)[0] == 250
        client.command_encoding = "utf-8"
        for domain in ("bücher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"):
            assert client.rcpt(f"me@{domain}")[0] == 250
        for address in ("me@example.net", "me@sub.example.com", "me@[127.0.0.1]"):
            code, text = client.rcpt(address)
            assert (code, text.split()[0]) == (550, b"5.7.1")
        assert client.rcpt("me")[0] >= 500


def test_limits_are_held(tmp_path: Path) -> None:
    options = [*ANYWHERE, "--size", "100000", "--max-recipients", "1", "--max-clients", "1"]
    with SmtpBlinker(tmp_path, *options) as server, server.client() as client:
        client.ehlo()
        assert client.esmtp_features["size"] == "100000"
        with pytest.raises(smtplib.SMTPConnectError) as crowded:
            server.client()
        assert crowded.value.smtp_code == 421
        with pytest.raises(smtplib.SMTPException):
            client.sendmail("you@example.org", "me@example.com", "x" * 100001)
        client.mail("you@example.org")
        client.rcpt("me@example.com")
        assert client.rcpt("her@example.com")[0] == 452


def test_trusted_proxy_says_who_the_client_is(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--trusted-proxy", "127.0.0.0/8") as server:
        with socket.create_connection(("127.0.0.1", server.port), SECONDS) as sock:
            sock.sendall(b"PROXY TCP4 192.0.2.77 192.0.2.1 1234 25\r\n")
            with smtplib.SMTP() as client:
                client.sock = sock
                client.timeout = SECONDS
                assert client.getreply()[0] == 220
                client.sendmail("you@example.org", "me@example.com", MESSAGE)
        [message] = server.messages()
    assert "[192.0.2.77]" in message["Received"]


def test_the_log_has_the_server_s_start_and_end(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--listen", "lmtp://127.0.0.1:0") as server:
        pass
    lines = [line.split(" INFO ")[1] for line in server.log.read_text().splitlines()]
    addresses = [f"127.0.0.1:{port}" for port in server.ports]
    assert lines[:2] == [f"listening on {address}" for address in addresses]
    assert sorted(lines[2:]) == sorted(f"closed {address}" for address in addresses)


def test_log_lines_can_be_json(tmp_path: Path) -> None:
    with (
        SmtpBlinker(tmp_path, *ANYWHERE, "--log-format", "json") as server,
        server.client() as client,
    ):
        client.sendmail("you@example.org", "me@example.com", MESSAGE)
        client.quit()
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    signals = [event["smtp"]["signal"] for event in events if "smtp" in event]
    assert signals == ["listening", "connect", "message", "disconnect", "close"]


def test_log_tells_what_happens(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--maildir", "box") as server:
        with server.client() as client:
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        assert len(server.messages("box")) == 1
    assert "<you@example.org> to <me@example.com>" in server.log.read_text()


def test_a_log_of_errors_has_the_errors_only(tmp_path: Path) -> None:
    words = ("--maildir", "box", "--log-level", "error", "--log-format", "json")
    with SmtpBlinker(tmp_path, *ANYWHERE, *words) as server, server.client() as client:
        client.sendmail("you@example.org", "me@example.com", MESSAGE)
        shutil.rmtree(tmp_path / "box")
        (tmp_path / "box").touch()
        with pytest.raises(smtplib.SMTPDataError):
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
    events = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {event["smtp"]["signal"] for event in events if "smtp" in event} == {"error"}


# When the disk is full, and when the power fails


def test_full_disk_refuses_the_message_and_goes_on(tmp_path: Path) -> None:
    under = (sys.executable, "-c", SMALL_DISK)
    with SmtpBlinker(tmp_path, *ANYWHERE, under=under) as server, server.client() as client:
        for _ in range(2):
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail("you@example.org", "me@example.com", "x" * 70 + "\n" * 2**21)
            assert refused.value.smtp_code == 452
            assert "4.3.1" in str(refused.value.smtp_error)
            assert os.listdir(tmp_path / "Maildir" / "tmp") == []
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        assert len(server.messages()) == 2


def test_a_maildir_that_is_removed_is_made_anew(tmp_path: Path) -> None:
    http = free_port()

    def ready() -> int:
        connection = HTTPConnection("127.0.0.1", http, timeout=SECONDS)
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status

    with (
        SmtpBlinker(tmp_path, *ANYWHERE, "--http", f"127.0.0.1:{http}") as server,
        server.client() as client,
    ):
        for removed in ("tmp", "new", "cur", "."):
            shutil.rmtree((tmp_path / "Maildir" / removed).resolve())
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
            assert server.messages()
            assert ready() == 200
        shutil.rmtree(tmp_path / "Maildir")
        (tmp_path / "Maildir").touch()
        assert ready() == 503
        with pytest.raises(smtplib.SMTPDataError, match="451"):
            client.sendmail("you@example.org", "me@example.com", MESSAGE)
        (tmp_path / "Maildir").unlink()
        client.sendmail("you@example.org", "me@example.com", MESSAGE)
        assert len(server.messages()) == 1


def test_what_can_not_be_removed_from_tmp_keeps_no_server_from_starting(tmp_path: Path) -> None:
    (tmp_path / "Maildir" / "tmp" / "folder").mkdir(parents=True)
    os.utime(tmp_path / "Maildir" / "tmp" / "folder", (0, 0))
    with SmtpBlinker(tmp_path, *ANYWHERE):
        assert os.listdir(tmp_path / "Maildir" / "tmp") == ["folder"]


def enough(messages: list[str], number: int) -> bool:
    return len(messages) >= number


def test_killed_server_has_kept_every_message_it_accepted(tmp_path: Path) -> None:
    for round_ in range(3):
        folder = tmp_path / str(round_)
        folder.mkdir()
        accepted: list[str] = []
        with SmtpBlinker(folder, *ANYWHERE, "--log-level", "error") as server:

            def send(server: SmtpBlinker, name: str, accepted: list[str]) -> None:
                number = 0
                try:
                    with server.client() as client:
                        while True:
                            number += 1
                            subject = f"{name}-{number}"
                            body = "line\n" * 5000
                            client.sendmail(
                                "a@example.org", "b@example.com", f"Subject: {subject}\n\n{body}end"
                            )
                            accepted.append(subject)
                except (OSError, smtplib.SMTPException):
                    pass

            threads = [
                threading.Thread(target=send, args=(server, str(n), accepted)) for n in range(6)
            ]
            for thread in threads:
                thread.start()
            wait_until(partial(enough, accepted, 20 * round_ + 1))
            server.process.kill()
            for thread in threads:
                thread.join(SECONDS)
        messages = server.messages()
        subjects = [message["Subject"] for message in messages]
        assert len(set(subjects)) == len(subjects)
        assert set(accepted) <= set(subjects)
        assert all(str(message).endswith("line\nend\n") for message in messages)


# Signals


#: In one process, and in several that gunicorn keeps.
WORKERS = pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])


@WORKERS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_lets_a_message_end_and_exits_0(
    tmp_path: Path, number: signal.Signals, workers: tuple[str, ...]
) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, *workers) as server:
        idle = server.client()
        client = server.client()
        client.ehlo()
        client.mail("you@example.org")
        client.rcpt("me@example.com")
        assert client.docmd("DATA")[0] == 354
        client.send(b"Subject: begun before the signal\r\n")
        server.process.send_signal(number)
        assert idle.getreply()[0] == 421
        client.send(b"\r\nand ended after it\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert client.getreply()[0] == 421
        assert server.process.wait(SECONDS) == 0
        assert len(server.messages()) == 1
        idle.close()
        client.close()


def test_sigint_of_a_terminal_lets_a_message_end_in_every_process(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE, "--workers", "2") as server:
        client = server.client()
        client.ehlo()
        client.mail("you@example.org")
        client.rcpt("me@example.com")
        assert client.docmd("DATA")[0] == 354
        for process in [server.process, *psutil.Process(server.process.pid).children()]:
            process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
        wait_until(lambda: not accepts(server.port))
        client.send(b"\r\n.\r\n")
        assert client.getreply()[0] == 250
        assert server.process.wait(SECONDS) == 0
        assert len(server.messages()) == 1
        client.close()


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def test_second_sigint_does_not_wait(tmp_path: Path) -> None:
    with SmtpBlinker(tmp_path, *ANYWHERE) as server, server.client() as idle:
        client = server.client()
        client.ehlo()
        client.mail("you@example.org")
        client.rcpt("me@example.com")
        client.docmd("DATA")
        server.process.send_signal(signal.SIGINT)
        assert idle.getreply()[0] == 421  # the first was heard
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(SECONDS) != 0
        client.close()


@pytest.mark.parametrize("module", ["click", "cryptography"])
def test_sigint_before_it_serves_ends_it_without_a_word(tmp_path: Path, module: str) -> None:
    (tmp_path / f"{module}.py").write_text(
        "import time\nprint('importing', flush=True)\ntime.sleep(3600)\n"
    )
    with subprocess.Popen(
        [sys.executable, str(SERVE), *ANYWHERE, "--self-signed"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=SECONDS) == ("", None)  # type: ignore[comparison-overlap]
        assert process.returncode == -signal.SIGINT


@WORKERS
def test_hangup_reads_users_anew_without_dropping_a_client(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    adduser(tmp_path, "alice", "sesame\n")
    options = [*ANYWHERE, "--users", "users", *workers]
    with SmtpBlinker(tmp_path, *options) as server, server.client() as client:
        client.ehlo()
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("bob", "mellon")
        adduser(tmp_path, "bob", "mellon\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("2 users", times=3 if workers else 1)
        client.login("bob", "mellon")
        client.sendmail("you@example.org", "me@example.com", MESSAGE)


def scram_login(client: smtplib.SMTP, name: str, password: str) -> int:
    """The code that ends an exchange of SCRAM-SHA-256."""
    peer = scramp.ScramClient(["SCRAM-SHA-256"], name, password)
    first = base64.b64encode(peer.get_client_first().encode()).decode()
    code, challenge = client.docmd("AUTH", f"SCRAM-SHA-256 {first}")
    assert code == 334
    peer.set_server_first(base64.b64decode(challenge).decode())
    code, challenge = client.docmd(base64.b64encode(peer.get_client_final().encode()).decode())
    if code == 334:
        peer.set_server_final(base64.b64decode(challenge).decode())
        code, _ = client.docmd("")
    return code


@WORKERS
def test_scram_is_offered_once_all_users_have_keys(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    adduser(tmp_path, "alice", "sesame\n")
    users = tmp_path / "users"
    with_keys = users.read_text()
    # As an earlier version wrote it.
    users.write_text(f"{with_keys}bob:{hash_password('mellon')}\n")
    with SmtpBlinker(tmp_path, *ANYWHERE, "--users", "users", *workers) as server:
        with server.client() as client:
            client.ehlo()
            assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
            client.login("bob", "mellon")
        adduser(tmp_path, "bob", "mellon\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("2 users", times=3 if workers else 1)
        with server.client() as client:
            client.ehlo()
            assert client.esmtp_features["auth"].split() == ["SCRAM-SHA-256", "PLAIN", "LOGIN"]
            assert scram_login(client, "bob", "sesame") == 535
            assert scram_login(client, "bob", "mellon") == 235
            client.sendmail("you@example.org", "me@example.com", MESSAGE)


@WORKERS
def test_hangup_with_a_broken_file_keeps_what_was_there(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    adduser(tmp_path, "alice", "sesame\n")
    certificate(tmp_path, trustme.CA())
    options = ["--users", "users", "--cert", "cert.pem", "--key", "key.pem", *workers]
    with SmtpBlinker(tmp_path, *ANYWHERE, *options) as server, server.client() as client:
        (tmp_path / "users").write_text("nonsense\n")
        (tmp_path / "cert.pem").write_text("nonsense\n")
        server.process.send_signal(signal.SIGHUP)
        times = 3 if workers else 1
        server.wait_for_log("users stay", times)
        server.wait_for_log("certificate stays", times)
        assert "Traceback" not in server.log.read_text()
        client.starttls(context=trusting())
        client.login("alice", "sesame")


@WORKERS
def test_hangup_shows_the_new_certificate_without_dropping_a_client(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    old, new = trustme.CA(), trustme.CA()

    def trusting(ca: trustme.CA) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(context)
        return context

    certificate(tmp_path, old)
    options = ["--listen", "localhost:0", "--listen", "smtps://localhost:0"]
    options += ["--cert", "cert.pem", "--key", "key.pem", *workers]
    with SmtpBlinker(tmp_path, *options) as server:
        smtp, smtps = server.ports
        with (
            smtplib.SMTP("localhost", smtp, timeout=SECONDS) as plain,
            smtplib.SMTP_SSL("localhost", smtps, context=trusting(old)) as encrypted,
        ):
            certificate(tmp_path, new)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("certificate read", times=3 if workers else 1)
            plain.starttls(context=trusting(new))
            for client in (plain, encrypted):
                client.sendmail("you@example.org", "me@example.com", MESSAGE)
        smtplib.SMTP_SSL("localhost", smtps, context=trusting(new), timeout=SECONDS).close()


# What can't be used


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


#: The ways to start the program from a checkout.
WAYS = pytest.mark.parametrize(
    "way", [(str(SERVE),), ("-m", "smtp_blinker")], ids=["script", "module"]
)


def start(folder: Path, way: tuple[str, ...], *args: str) -> subprocess.CompletedProcess[str]:
    return python(*way, *args, folder=folder)


@WAYS
def test_without_click_the_line_is_a_command_that_brings_it(
    tmp_path: Path, way: tuple[str, ...]
) -> None:
    # A click that can't be imported, before the real one.
    (tmp_path / "click.py").write_text("raise ModuleNotFoundError(name='click')")
    ended = python(*way, folder=tmp_path, PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert line.endswith(f": click is missing; {sys.executable} -m pip install '{ROOT}[serve]'")


@WAYS
def test_both_ways_start_the_same_program(tmp_path: Path, way: tuple[str, ...]) -> None:
    shown = start(tmp_path, way, "--version")
    assert (shown.returncode, shown.stdout) == (0, f"smtp-blinker {smtp_blinker.__version__}\n")
    usage, _, options = start(tmp_path, way, "--help").stdout.partition("\n")
    assert usage.startswith("Usage: ")
    assert options == run(tmp_path, "--help").stdout.partition("\n")[2]


def test_the_command_that_pip_makes_is_this_program() -> None:
    setup = (ROOT / "setup.py").read_text()
    [entry] = re.findall(r'"smtp-blinker = ([\w.:]+)"', setup)
    assert pkgutil.resolve_name(entry) is smtp_blinker.serve.main


def test_the_command_that_a_module_proposes_is_that_module(tmp_path: Path) -> None:
    ended = start(tmp_path, ("-m", "smtp_blinker"), *ANYWHERE, "--users", "users")
    assert ended.stderr.startswith("smtp-blinker: ")
    assert f"{sys.executable} -m smtp_blinker adduser NAME --users users" in ended.stderr


def test_help_has_a_heading_for_each_group(tmp_path: Path) -> None:
    shown = run(tmp_path, "--help").stdout
    headings = re.findall(r"^(\S.*):$", shown, re.M)
    assert headings == [
        "Listening", "Mail", "Testing programs that send mail", "TLS", "AUTH", "Limits",
        "Proxies and gateways", "Web page", "Log", "Other", "Commands",
    ]  # fmt: skip
    groups = dict(zip(headings, re.split(r"^\S.*:$", shown, flags=re.M)[1:], strict=True))
    assert "--size" in groups["Limits"]
    assert "--cert" in groups["TLS"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("10K", 10240), ("10k", 10240), ("25M", 25 * 2**20), ("2G", 2**31)],
)
def test_a_size_may_have_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "M", "-1", "+1", "1.5M", "1 M", "25MB", "1T", "\u0663", "1\n", "9" * 5000, "9" * 18 + "K"],
)
def test_a_size_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size like"):
        parse_size(text)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--listen", "2525"),
        ("--name", "bad name"),
        ("--domain", "@example.com"),
        ("--self-signed", "maybe"),
        ("--size", "much"),
        ("--max-clients", "0"),
        ("--trusted-proxy", "foo"),
        ("--http-auth", "x"),
        ("--log-level", "loud"),
        # These are found wrong after the command line was read.
        ("--maildir", "/dev/null/Maildir"),
        ("--cert", "none.pem"),
        ("--key", "none.pem"),
        ("--users", "none"),
        ("--require-auth", "yes"),
        ("--http", "192.0.2.1:80"),
    ],
)
def test_an_error_names_the_variable_that_it_is_about(
    tmp_path: Path, option: str, value: str
) -> None:
    variable = "SMTP_BLINKER_" + option[2:].replace("-", "_").upper()
    ended = run(tmp_path, *(() if option == "--listen" else ANYWHERE), **{variable: value})
    assert ended.returncode == 2
    assert f"(from {variable})" in ended.stderr.splitlines()[-1]
    assert option in ended.stderr


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [
        *(
            ("--domain", domain, "not a domain like example.com")
            for domain in (
                "example.com,example.org", "example.com.", "@example.com", "ann@example.com",
                "https://example.com", "*.example.com", ".example.com", "", "exa mple",
            )
        ),
        ("--name", "bad name", "not a host name"),
        ("--name", "b\xfcro.example", "xn--"),
        ("--trusted-proxy", "foo", "--trusted-proxy"),
        ("--xclient", "10.0.0.0/99", "--xclient"),
        ("--xforward", "foo", "--xforward"),
        ("--http", "8025", "'8025' is not HOST:PORT"),
        ("--http", "localhost:http", "'localhost:http' is not HOST:PORT"),
        ("--maildir", "", "--maildir"),
        ("--key", "key.pem", "--cert"),
        ("--release-to", "http://x", "the URL must be smtp://"),
    ],
)  # fmt: skip
def test_a_value_that_can_not_be_meant_is_told(
    tmp_path: Path, option: str, value: str, hint: str
) -> None:
    extra = ["--self-signed"] if option == "--key" else []
    ended = run(tmp_path, *ANYWHERE, option, value, *extra)
    assert ended.returncode == 2
    assert hint in ended.stderr.splitlines()[-1]
    assert option in ended.stderr or option == "--key"
    assert not os.listdir(tmp_path)


#: A value of each option that has one of its own.
VALUES = {
    "--inbox": "shop=@shop.example",
    "--http-auth": "ann:secret",
    "--release-to": "smtp://host",
}


@pytest.mark.parametrize(
    ("option", "other"),
    [
        pytest.param(option, (word, other), id=max(option.opts, key=len) + word)
        for option in command.params
        if isinstance(option, Option)
        for word, other in ((" without ", option.needs), (" with ", option.never_with))
        if other is not None
    ],
)
def test_an_option_that_would_have_no_effect_is_told(
    tmp_path: Path, option: Option, other: tuple[str, str]
) -> None:
    name = max(option.opts, key=len)
    value = [] if option.is_flag else [VALUES.get(name, "1")]
    words = [*ANYWHERE, name, *value]
    if other == (" without ", "--http"):
        words += ["--http", "off"]
    elif other == (" with ", "--deliver"):
        words += ["--deliver", "smtp://host"]
    assert refused(tmp_path, *words).endswith(f"{name} has no effect{''.join(other)}")
    assert not os.listdir(tmp_path)


def test_a_variable_can_have_values_with_spaces(tmp_path: Path) -> None:
    rates = "'1000/6 hours' connections=100/minute"
    with SmtpBlinker(tmp_path, *ANYWHERE, "--http", "off", SMTP_BLINKER_RATE=rates):
        pass
    ended = run(tmp_path, *ANYWHERE, SMTP_BLINKER_RATE="'1000/6 hours")
    assert ended.returncode == 2
    assert "'--rate' (from SMTP_BLINKER_RATE): No closing quotation" in ended.stderr


def test_an_empty_variable_of_addresses_is_told(tmp_path: Path) -> None:
    ended = run(tmp_path, SMTP_BLINKER_LISTEN=" ")
    assert ended.returncode == 2
    assert "--listen" in ended.stderr


def test_what_nobody_reads_ends_no_server(tmp_path: Path) -> None:
    port = free_port()
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            [sys.executable, str(SERVE), "--listen", f"127.0.0.1:{port}", "--http", "off"],
            cwd=tmp_path,
            env=environment(),
            stdout=full,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_until(lambda: accepts(port))
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("variable", [False, True])
def test_the_command_that_is_proposed_makes_the_users_file(tmp_path: Path, variable: bool) -> None:
    if variable:
        line = refused(tmp_path, *ANYWHERE, SMTP_BLINKER_USERS="users")
        assert "--users (from SMTP_BLINKER_USERS): there is no users" in line
    else:
        line = refused(tmp_path, *ANYWHERE, "--users", "users")
    command = line.partition("make it with: ")[2].replace("NAME", "ann")
    assert f"{SERVE} adduser" in command
    subprocess.run(
        f"echo sesame | {command} --password-stdin",
        shell=True, cwd=tmp_path, env=environment(), check=True, capture_output=True,
    )  # fmt: skip
    assert (tmp_path / "users").read_text().startswith("ann:scrypt$")


@WORKERS
def test_a_unix_socket_has_the_mode_that_the_umask_makes(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    path = tmp_path / "socket"
    under = ("sh", "-c", 'umask 027; exec "$@"', "sh")
    with SmtpBlinker(tmp_path, "--listen", f"lmtp://{path}", *workers, under=under):
        assert path.stat().st_mode & 0o777 == 0o750


def test_what_is_for_networks_is_for_unix_sockets_where_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    options = ["--listen", f"lmtp://{path}", "--trusted-proxy", "127.0.0.1", "--xforward", "unix"]
    with (
        SmtpBlinker(tmp_path, *options, "--xclient", "192.0.2.1"),
        smtplib.LMTP(str(path)) as client,  # it needs no PROXY header
    ):
        assert client.ehlo()[0] == 250
        assert client.has_extn("XFORWARD")
        assert not client.has_extn("XCLIENT")


def test_port_in_use_is_one_line(tmp_path: Path, taken_port: int) -> None:
    line = refused(tmp_path, *ANYWHERE, "--listen", f"127.0.0.1:{taken_port}")
    assert f"127.0.0.1:{taken_port} is in use" in line
    assert "--listen" in line
    assert not os.listdir(tmp_path)


def test_port_of_the_page_in_use_leaves_nothing_behind(tmp_path: Path, taken_port: int) -> None:
    line = refused(
        tmp_path, "--listen", f"lmtp://{tmp_path}/socket", "--http", f"127.0.0.1:{taken_port}"
    )
    assert f"127.0.0.1:{taken_port} is in use" in line
    assert not os.listdir(tmp_path)


def test_address_that_can_not_be_had_is_one_line(tmp_path: Path) -> None:
    for address in ("192.0.2.1:2525", f"lmtp://{tmp_path}/none/socket"):
        assert "--listen" in refused(tmp_path, "--listen", address)


def test_maildir_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listen = ["--listen", f"lmtp://{tmp_path}/socket"]
    line = refused(tmp_path, *ANYWHERE, *listen, "--maildir", "file/Maildir")
    assert "file/Maildir" in line
    assert "--maildir" in line
    assert os.listdir(tmp_path) == ["file"]


def test_certificate_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    tls = ["--cert", "cert.pem", "--key", "key.pem"]
    assert "cert.pem: No such file" in refused(tmp_path, *ANYWHERE, *tls)
    certificate(tmp_path, trustme.CA())
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "key.pem")
    assert "mismatch" in refused(tmp_path, *ANYWHERE, *tls)
    key = serialization.load_pem_private_key((tmp_path / "key.pem").read_bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"sesame"),
        )
    )
    assert "the key is encrypted" in refused(tmp_path, *ANYWHERE, *tls)
    (tmp_path / "cert.pem").write_text("nonsense")
    line = refused(tmp_path, *ANYWHERE, *tls)
    assert "cert.pem has no certificate in PEM; see --cert" in line
    assert "--cert" in refused(tmp_path, *ANYWHERE, "--key", "key.pem")
    assert "--cert" in refused(tmp_path, "--listen", "smtps://127.0.0.1:0")
    assert not (tmp_path / "Maildir").exists()
    assert "--self-signed" in refused(tmp_path, *ANYWHERE, *tls, "--self-signed")


def test_users_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    assert "adduser" in refused(tmp_path, *ANYWHERE, "--users", "none")
    assert "--users" in refused(tmp_path, *ANYWHERE, "--require-auth")
    (tmp_path / "users").write_text("alice:sesame\n")
    line = refused(tmp_path, *ANYWHERE, "--users", "users")
    assert "users, line 1" in line
    assert "sesame" not in line


@pytest.mark.parametrize(
    "address", ["2525", "::1:2525", "127.0.0.1:smtp", "127.0.0.1:65536", "http://x:1", "smtp:///x"]
)
def test_address_that_is_none_is_said(tmp_path: Path, address: str) -> None:
    ended = run(tmp_path, "--listen", address)
    assert ended.returncode == 2
    assert "--listen" in ended.stderr


# adduser


def test_adduser_makes_a_private_file_without_the_password(tmp_path: Path) -> None:
    adduser(tmp_path, "alice", "sesame\n")
    path = tmp_path / "users"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("alice:scrypt$")
    assert "sesame" not in path.read_text()


def test_adduser_refuses_in_one_line(tmp_path: Path) -> None:
    for name, password in (("a:b", "sesame"), ("alice", "")):
        ended = run(
            tmp_path, "adduser", name, "--users", "users", "--password-stdin", text=password
        )
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == []


def test_sigint_at_the_password_is_one_line(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(SERVE), "adduser", "alice", "--users", "users"],
        cwd=tmp_path,
        env=environment(),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        preexec_fn=partial(take_terminal, terminal),
        start_new_session=True,
    ) as process:
        os.close(terminal)
        said = b""
        while b"Password:" not in said:
            said += os.read(ours, 1000)
        wait_until(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO)
        os.write(ours, b"\x03")
        assert process.wait(SECONDS) == 1
    assert termios.tcgetattr(ours)[3] & termios.ECHO
    said += os.read(ours, 1000)
    os.close(ours)
    assert said.replace(b"\r", b"").split() == [b"Password:", b"Aborted!"]


def take_terminal(terminal: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_adduser_asks_which_file(tmp_path: Path) -> None:
    ended = run(tmp_path, "adduser", "alice", "--password-stdin", text="sesame\n")
    assert ended.returncode == 2
    assert "--users" in ended.stderr
