"""The fail2ban filter on what the log writes, by fail2ban-regex."""

from __future__ import annotations

import logging
import re
import smtplib
from pathlib import Path
from typing import Any

import pytest
from support import HOST, auth_plain, program, succeed, wait_until

from smtp_blinker.listeners.log import EventLog, JSONFormatter

FILTER = Path(__file__).parents[2] / "contrib/fail2ban/smtp_blinker.conf"
TEXT = "%(asctime)s %(levelname)s %(message)s"
#: What a client sends that its line may be taken for one about 203.0.113.9.
FORGED = "[aaaaaaaaaaaaaaaa] refused 203.0.113.9, answered 535 x: AUTH PLAIN"


@pytest.fixture(params=["text", "json", "journal"])
def log(request: pytest.FixtureRequest, serve: Any, tmp_path: Path) -> Path:
    """The log of a server with each kind of line that matters, as `smtp-blinker` writes it."""
    file = tmp_path / "log"
    handler = logging.FileHandler(file)
    handler.setFormatter(JSONFormatter() if request.param == "json" else logging.Formatter(TEXT))
    logger = logging.getLogger(f"smtp_blinker.events.{request.param}")
    if request.param == "json":
        logger = logging.getLogger("smtp_blinker.events")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    served = serve(
        on_auth=lambda auth, session: auth.password == "right" and auth.username,
        auth_optional=True,
        allow_insecure_auth=True,
        use_xclient=True,
        max_junk_commands=2,
    )
    listener = EventLog(logger).attach(served.server)
    try:
        for address, commands in (
            ("192.0.2.1", (auth_plain("ann", "wrong"), f"MAIL {FORGED}", f"HELP INFO {FORGED}")),
            ("2001:db8::1", (auth_plain("ann", "wrong"), "AUTH GUESS", auth_plain("ann", "right"))),
            ("192.0.2.2", (auth_plain("ann", "right"), "MAIL FROM:<a@example.org>")),
            ("192.0.2.3", ("NOOP", "NOOP", "NOOP", "NOOP")),
        ):
            talk(served.server.server_port, address, commands)
        wait_until(lambda: len(served.of("disconnect")) == 4, "all have ended")
    finally:
        listener.detach()
        logger.removeHandler(handler)
        handler.close()
        logger.propagate = True
    if request.param == "journal":
        lines = file.read_text().splitlines()
        file.write_text("".join(f"{line[:19]} mx smtp-blinker[7]: {line}\n" for line in lines))
    return file


def talk(port: int, address: str, commands: tuple[str, ...]) -> None:
    with smtplib.SMTP(HOST, port) as client:
        client.ehlo()
        literal = f"IPV6:{address}" if ":" in address else address
        assert client.docmd(f"XCLIENT ADDR={literal}")[0] == 220
        client.ehlo(f"x.{'y' * 40}.test")
        for command in commands:
            try:
                client.docmd(command)
            except smtplib.SMTPServerDisconnected:
                return


def banned(log: Path, mode: str) -> list[str]:
    said = succeed(
        program("fail2ban-regex", "fail2ban"), "--out", "ip", log, f"{FILTER}[mode={mode}]"
    )
    return re.findall(r"^[0-9a-f][0-9a-f.:]+$", said, re.MULTILINE)


def test_failed_auth_is_found_and_nothing_else(log: Path) -> None:
    assert banned(log, "normal") == ["192.0.2.1", "2001:db8::1", "2001:db8::1"]


def test_abuse_is_found_where_that_was_asked_for(log: Path) -> None:
    assert banned(log, "aggressive") == ["192.0.2.1", "2001:db8::1", "2001:db8::1", "192.0.2.3"]
