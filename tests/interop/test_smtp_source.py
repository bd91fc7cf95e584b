"""Postfix's load generator, over SMTP and LMTP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support import HOST, Served, program, succeed

Serve = Callable[..., Served]


@pytest.fixture(scope="session")
def smtp_source() -> str:
    return program("smtp-source", "postfix")


#: -l counts what follows the header, all but the last CRLF.
CRLF = 2

ENVELOPE = ("-M", "client.example", "-f", "a@example.org", "-t", "b@example.com")


@pytest.mark.parametrize("keep", [True, False], ids=["connections kept", "one message each"])
@pytest.mark.parametrize(
    ("protocol", "over"), [("SMTP", "TCP"), ("LMTP", "TCP"), ("LMTP", "UNIX"), ("SMTP", "UNIX")]
)
def test_smtp_source_in_parallel(
    serve: Serve, smtp_source: str, short_folder: Path, protocol: str, over: str, keep: bool
) -> None:
    path = short_folder / "s"
    served = serve(
        *([f"unix:{path}"] if over == "UNIX" else []), lmtp=protocol == "LMTP", size=100_000
    )
    where = f"unix:{path}" if over == "UNIX" else f"inet:{HOST}:{served.port}"
    succeed(
        smtp_source,
        *("-L",) * (protocol == "LMTP"),
        *("-d",) * keep,
        *(*ENVELOPE, "-s", "20", "-m", "300", "-l", "5000", "-r", "4", where),
    )
    assert Counter(len(mail.body) for mail in served.messages) == {5000 + CRLF: 300}
    assert len({mail.body for mail in served.messages}) == 1
    assert served.messages[0].body.startswith(b"1XXX")
    recipients = {"2b@example.com", "3b@example.com", "4b@example.com", "b@example.com"}
    assert all(set(mail.rcpt_to) == recipients for mail in served.messages)
    kinds = {"LMTP"} if protocol == "LMTP" else {"SMTP"}  # it says HELO
    assert {mail.transmission_type for mail in served.messages} == kinds
    connections = len({mail.session.id for mail in served.messages})
    assert connections <= 20 if keep else connections == 300


@pytest.mark.parametrize("length", [1, 79, 80, 81, 1_000, 65_536, 3_000_000])
def test_smtp_source_sends_this_length(serve: Serve, smtp_source: str, length: int) -> None:
    served = serve()
    count = 3
    succeed(
        smtp_source,
        *(*ENVELOPE, "-m", str(count), "-s", "3", "-l", str(length), f"{HOST}:{served.port}"),
    )
    assert len(served.messages) == count
    assert {len(mail.body) for mail in served.messages} == {length + CRLF}


def test_smtp_source_with_many_recipients(serve: Serve, smtp_source: str) -> None:
    served = serve()
    succeed(smtp_source, *ENVELOPE, "-m", "2", "-r", "1000", "-N", f"{HOST}:{served.port}")
    assert [len(set(mail.rcpt_to)) for mail in served.messages] == [1000, 1000]


def test_smtp_source_sends_a_file(serve: Serve, smtp_source: str, tmp_path: Path) -> None:
    served = serve()
    (tmp_path / "message").write_text("Subject: dots\n\n.\n..two\n.three\n\n")
    succeed(smtp_source, *ENVELOPE, "-F", tmp_path / "message", f"{HOST}:{served.port}")
    # It ends the content with a CRLF of its own.
    assert served.mail.content == b"Subject: dots\r\n\r\n.\r\n..two\r\n.three\r\n\r\n\r\n"
