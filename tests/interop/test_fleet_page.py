"""The commands of docs/howto/fleet.md, as they stand but for the port numbers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support import LIBRARY, environment, free_port, program

DOCS = Path(__file__).parents[2] / "docs"
#: Ends all that the commands have started: the process group is the script's own.
END = "echo finished; kill -KILL 0\n"
#: Messages that consumers have handled in the end: all but the first one, which is in a Maildir.
HANDLED = 6


def with_ports(text: str, ports: dict[str, int]) -> str:
    for number, port in ports.items():
        text = re.sub(rf"\b{number}\b", str(port), text)
    # The node's number is the last figure of its ports.
    for kind in ("252", "802"):
        text = text.replace(f"{kind}$1", f"$(eval echo \\${{port_{kind}_$1}})")
    return text


@pytest.mark.timeout(300)  # for what takes 20 s on an idle machine
def test_the_commands_of_the_page_take_mail_from_one_machine_to_many(tmp_path: Path) -> None:
    program("redis-server", "redis-server")
    program("haproxy", "haproxy")
    page = (DOCS / "howto" / "fleet.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    numbers = ["2525", "6379", *(f"{kind}{n}" for kind in ("252", "802") for n in (6, 7, 8))]
    ports = {number: free_port() for number in numbers}
    for name in ("mail_consumer.py", "fleet.cfg"):
        text = (DOCS / "programs" / name).read_text()
        (tmp_path / name).write_text(with_ports(text, ports))
    numbered = "".join(
        f"port_{number[:3]}_{number[3]}={port}\n"
        for number, port in ports.items()
        if number[3] in "678"
    )
    handled = f"until [ $(cat consumer-?.log | wc -l) -ge {HANDLED} ]; do sleep 0.2; done\n"
    script = "set -eu\n" + numbered + with_ports("\n".join(blocks), ports) + handled + END
    binary = tmp_path / "bin"
    binary.mkdir()
    for name, words in (("python3", ""), ("smtp-blinker", "-m smtp_blinker")):
        file = binary / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        file.chmod(0o755)
    path = os.pathsep.join((str(binary), os.environ["PATH"], "/usr/sbin"))
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=environment(PYTHONPATH=LIBRARY, PATH=path),
    )
    try:
        output, _ = process.communicate(timeout=200)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert "finished" in output, output
