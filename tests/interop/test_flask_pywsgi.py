"""One process with gevent.pywsgi.WSGIServer, a Flask app and the server."""

from __future__ import annotations

import importlib.util
import json
import smtplib
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support import HOST, LIBRARY, PROGRAM_SECONDS, SECONDS, environment, missing

from .names import ASCII_CONTENT

PROGRAM = Path(__file__).resolve().parent / "programs" / "beside_flask.py"


class Site:
    """The running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "it ended"
        ports = json.loads(line)
        self.http, self.smtp = ports["http"], ports["smtp"]

    def get(self, path: str) -> Any:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"http://{HOST}:{self.http}{path}", timeout=SECONDS) as response:
            return json.load(response)

    def send(self, number: int = 0) -> None:
        with smtplib.SMTP(HOST, self.smtp, "client.example", SECONDS) as smtp:
            smtp.sendmail(f"a{number}@example.org", ["b@example.com"], ASCII_CONTENT)


@pytest.fixture
def site() -> Iterator[Site]:
    if importlib.util.find_spec("flask") is None:
        missing("Flask", "Flask (pip)")
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=LIBRARY),
    )
    ends = threading.Timer(PROGRAM_SECONDS, process.kill)
    ends.start()
    try:
        yield Site(process)
        output, _ = process.communicate("", timeout=SECONDS)
        assert output == "stopped\n"
        assert process.returncode == 0
    finally:
        ends.cancel()
        process.kill()
        process.communicate()


def test_mail_shows_on_the_web(site: Site) -> None:
    assert site.get("/mails") == {"mails": [], "clients": []}
    site.send()
    assert site.get("/mails") == {
        "mails": [
            {"from": "a0@example.org", "to": ["b@example.com"], "content": ASCII_CONTENT.decode()}
        ],
        "clients": ["client.example"],
    }


def test_mail_comes_in_while_a_request_waits_for_it(site: Site) -> None:
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(site.get, "/next")
        site.send()
        assert waiting.result(SECONDS) == {"arrived": True}


def test_both_serve_at_once(site: Site) -> None:
    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(site.send, number) for number in range(40)]
        seen = [pool.submit(site.get, "/mails") for _ in range(40)]
        for future in [*sent, *seen]:
            future.result(PROGRAM_SECONDS)
    assert sorted(mail["from"] for mail in site.get("/mails")["mails"]) == sorted(
        f"a{number}@example.org" for number in range(40)
    )
