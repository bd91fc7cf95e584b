"""The description of the page's API: it is whole, it is right, and people can read it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from gevent import subprocess as waiting
from support import Client

from smtp_blinker import SMTPServer
from smtp_blinker.faults import Faults
from smtp_blinker.stores import MaildirStore
from smtp_blinker.web import PageServer, create_app
from smtp_blinker.web.openapi import OPERATIONS, served

#: For each operation; the run takes a few seconds.
EXAMPLES = 8
MESSAGES = 30
#: Waiting has tests of its own. No schema says which searches choose something for certain.
_SETTINGS = """
parameters = { "query.wait" = 0 }

[[operations]]
include-method = ["PUT", "DELETE"]
parameters = { "query.q" = "subject:9 -is:read" }
"""
#: What exists, by the beginning of its path, and one that doesn't.
_HOOKS = """
import itertools
import schemathesis

IDS = {ids}
FAULTS = itertools.count(1)


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    path = context.operation.path
    if path_parameters and "id" in path_parameters:
        ids = next(ids for start, ids in IDS.items() if path.startswith(start))
        path_parameters["id"] = ids[sum(str(path_parameters["id"]).encode()) % len(ids)]
        if path.endswith("/parts/{{number}}"):
            path_parameters["number"] = sum(str(path_parameters["number"]).encode()) % 5
    elif path_parameters and path.startswith("/api/faults/"):
        path_parameters["number"] = next(FAULTS)
    return path_parameters
"""


@pytest.fixture
def maildir(tmp_path: Path) -> Path:
    MaildirStore(tmp_path / "Maildir").check_folders()
    for number in range(MESSAGES):
        message = EmailMessage()
        message["Subject"] = f"Message {number}"
        message["From"] = "Bob <bob@example.org>"
        message["To"] = "ada@example.com"
        message.set_content("Hello, see https://example.org/")
        message.add_alternative("<p>Hello</p>", subtype="html")
        message.add_attachment(b"a,b\n", maintype="text", subtype="csv", filename="list.csv")
        name = f"{1_700_000_000 + number}.M0P1Q{number}.test"
        (tmp_path / "Maildir" / "new" / name).write_bytes(message.as_bytes())
    return tmp_path / "Maildir"


@pytest.fixture
def client(maildir: Path) -> Iterator[FlaskClient]:
    app = create_app([], maildir)
    yield app.test_client()
    app.extensions["smtp_blinker"].detach()


def test_what_is_served_and_what_is_described_are_the_same(client: FlaskClient) -> None:
    assert served(client.application) == set(OPERATIONS)


def test_a_page_without_an_inbox_does_not_describe_one() -> None:
    app = create_app([])
    try:
        paths = app.test_client().get("/api.json").get_json()["paths"]
    finally:
        app.extensions["smtp_blinker"].detach()
    assert "/api/live" in paths
    assert not any(path.startswith("/api/messages") for path in paths)


def test_names_of_operations_are_unique(client: FlaskClient) -> None:
    names = [each["operationId"] for each in OPERATIONS.values()]
    assert len(set(names)) == len(names)


def test_what_a_fault_needs_is_described() -> None:
    faults = {each["name"]: each for each in OPERATIONS["POST", "/api/faults"]["parameters"]}
    assert [name for name, each in faults.items() if each["required"]] == ["do"]
    with pytest.raises(ValueError, match="code"):
        Faults().refuse("a@example.com", faults["code"]["schema"]["minimum"] - 1)
    Faults().refuse("a@example.com", faults["code"]["schema"]["minimum"])
    Faults().refuse("a@example.com", faults["code"]["schema"]["maximum"])
    for stage in faults["at"]["schema"]["enum"]:
        Faults().delay(seconds=faults["seconds"]["schema"]["maximum"], at=stage)


def test_people_can_read_it(client: FlaskClient) -> None:
    answer = client.get("/api")
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    for method, path in OPERATIONS:
        assert f"{method} {path}" in answer.text
    assert "text_from_html" in answer.text
    # Nothing runs on it, and nothing comes from elsewhere, whatever the policy says.
    assert "<script" not in answer.text
    assert "<style" not in answer.text
    assert "//" not in answer.text.replace("<!doctype", "")
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


@pytest.mark.timeout(120)
def test_a_running_page_answers_as_it_is_described(maildir: Path, tmp_path: Path) -> None:
    pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip)")
    server = SMTPServer(("127.0.0.1", 0), on_data=MaildirStore(maildir))
    faults = Faults()
    for _ in range(50):
        faults.delay(seconds=1)
    app = create_app([server], maildir, faults=faults)
    page = PageServer(("127.0.0.1", 0), app)
    page.start()
    try:
        server.start()
        with Client(server) as smtp:
            assert smtp.cmd("RCPT TO:<a@example.org>").startswith("503")
            [refused] = app.extensions["smtp_blinker"].refusals.kept
            ids = {
                "/api/messages/": sorted(file.name for file in (maildir / "new").iterdir()),
                "/api/refused/": [refused.id],
            }
            _conforms(f"http://127.0.0.1:{page.server_port}/api.json", ids, tmp_path)
    finally:
        server.stop()
        page.stop(timeout=1)
        app.extensions["smtp_blinker"].detach()


def _conforms(url: str, ids: dict[str, list[str]], folder: Path) -> None:
    """Run schemathesis in a process of its own: the page is served by this one's hub."""
    (folder / "schemathesis.toml").write_text(_SETTINGS)
    (folder / "hooks.py").write_text(
        _HOOKS.format(ids={path: ["none", *known] for path, known in ids.items()})
    )
    done = waiting.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", url),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--no-shrink", "--no-color"),
            # Without end; tests of its own read it.
            *("--exclude-path", "/api/events"),
            # No schema says which words of a fault go together; these two leave nothing to look at.
            *("--exclude-operation-id", "add_fault", "--exclude-operation-id", "clear_faults"),
            *("--exclude-operation-id", "forget_refused"),
            # For these there has to be a deletion, or a relay; they have tests of their own.
            *("--exclude-operation-id", "undo_deletion"),
            *("--exclude-operation-id", "release_message"),
            *("--phases", "coverage,fuzzing", "--checks", "all"),
            # A number in a query that can't be read is as if it weren't there; and "seen" may be
            # the name of a message too, which is shown and deleted.
            *("--exclude-checks", "negative_data_rejection,allow_header_conformance"),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Missing test data" not in done.stdout, done.stdout[-6000:]


def test_a_method_that_is_not_allowed_is_told_which_are(client: FlaskClient) -> None:
    answer = client.post("/api/messages")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "DELETE"}
