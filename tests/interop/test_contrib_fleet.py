"""The fleet of contrib/compose, its parts as processes of this machine: HAProxy's configuration,
nodes with the options of compose.yaml, and its consumer."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import yaml
from support import HOST, LIBRARY, SECONDS, environment, free_port, program, run, wait_until

from .engines import Redis

COMPOSE = Path(__file__).parents[2] / "contrib" / "compose"


def test_haproxy_finds_nothing_wrong_with_the_configuration(tmp_path: Path) -> None:
    # The names of the nodes are known where compose runs.
    text = re.sub(r" node\d:", " 127.0.0.1:", (COMPOSE / "haproxy.cfg").read_text())
    (tmp_path / "haproxy.cfg").write_text(text)
    done = run(program("haproxy", "haproxy"), "-c", "-f", tmp_path / "haproxy.cfg")
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr


class Parts:
    """Processes until the end of the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def start(self, name: str, *words: Any, **more: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            [str(word) for word in words],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(PYTHONPATH=LIBRARY, **more),
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


def test_mail_goes_through_haproxy_to_a_node_that_is_ready_and_out_of_the_consumer(
    tmp_path: Path,
) -> None:
    haproxy = program("haproxy", "haproxy")
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    engine = Redis(tmp_path / "redis")
    away = f"redis://127.0.0.1:{free_port()}/"  # node2's
    contents = str(tmp_path / "contents")
    config = (COMPOSE / "haproxy.cfg").read_text()
    with ExitStack() as stack:
        parts = Parts(tmp_path, stack)
        stack.callback(engine.end)
        engine.start()
        for name in ("node1", "node2", "node3"):
            smtp, http = free_port(), free_port()
            config = config.replace(
                f"server {name} {name}:2525", f"server {name} {HOST}:{smtp} port {http}"
            )
            if name == "node3":
                continue  # it isn't there
            command = " ".join(services[name]["command"])
            command = command.replace("0.0.0.0:2525", f"{HOST}:{smtp}")
            command = command.replace("0.0.0.0:8025", f"{HOST}:{http}")
            values = {
                **services[name]["environment"],
                "SMTP_BLINKER_DELIVER": away if name == "node2" else engine.url,
                "SMTP_BLINKER_COUNTERS": engine.url,
                "SMTP_BLINKER_TRUSTED_PROXY": HOST,
                "SMTP_BLINKER_CONTENTS": contents,
            }
            parts.start(name, sys.executable, "-m", "smtp_blinker", *command.split(), **values)
        port = free_port()
        (tmp_path / "haproxy.cfg").write_text(config.replace("bind :2525", f"bind {HOST}:{port}"))
        parts.start("haproxy", haproxy, "-db", "-f", tmp_path / "haproxy.cfg")
        parts.start(
            "consumer",
            *(sys.executable, COMPOSE / "consumer.py"),
            MAIL_URL=engine.url,
            MAIL_CONTENTS=contents,
        )

        def send(subject: str, size: int = 10) -> bool:
            content = f"Subject: {subject}\r\n\r\n" + ("x" * 70 + "\r\n") * size
            with smtplib.SMTP(HOST, port, "client.example", SECONDS) as client:
                client.sendmail("bob@example.net", ["ann@example.com"], content)
            return True

        def is_accepted() -> bool:
            with suppress(OSError, smtplib.SMTPException):
                return send("first")
            return False

        wait_until(is_accepted, "a node is ready")
        wait_until(lambda: " DOWN" in parts.said("haproxy"), "node2 is down")
        for number in range(6):  # none of them to the node whose store is away
            send(f"message-{number}", 3000 if number == 5 else 10)
        expected = [f"bob@example.net to ann@example.com: message-{n}" for n in range(6)]
        wait_until(
            lambda: all(line in parts.said("consumer") for line in expected), "all are handled"
        )
