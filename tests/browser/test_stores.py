"""The page of a server that hands its mail on: where mail goes, and what waits."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import wait_until

from .pages import ROOT

OPTIONS = ("-l", "127.0.0.1:0", "--http", "127.0.0.1:0", "--deliver", "http://127.0.0.1:9/")


def test_live_tells_of_the_store_and_of_what_waits(chromium: Any, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "serve.py"), *OPTIONS, "--spool", "spool"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        ports: list[str] = []
        while len(ports) < 2:
            line = process.stdout.readline()
            assert line, "it ended"
            ports += re.findall(r"(?:on|page:) \S*127\.0\.0\.1:(\d+)", line)
        with smtplib.SMTP("127.0.0.1", int(ports[0]), timeout=30) as client:
            client.sendmail("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\nHello\r\n")
        chromium.get(f"http://127.0.0.1:{ports[1]}/#/live")

        def told() -> bool:
            text = chromium.execute_script(
                "return document.getElementById('stores')?.innerText || ''"
            )
            return "1 waiting" in text and "http://127.0.0.1:9/" in text and "0 accepted" in text

        wait_until(told, "it tells")
    finally:
        process.kill()
        process.communicate()
