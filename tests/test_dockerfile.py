"""The images of contrib/Dockerfile, as far as they can be tried without docker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import free_port
from support.cli import SmtpBlinker

DOCKERFILE = Path(__file__).resolve().parent.parent / "contrib" / "Dockerfile"


def stages() -> dict[str, str]:
    """The instructions of each target, a line for each."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.M).replace("\\\n", " ")
    found = re.split(r"^FROM \S+ AS (\w+)\n", text, flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def command(stage: str, instruction: str) -> list[str]:
    [found] = re.findall(rf"^{instruction}.*?(\[.*\])$", stages()[stage], re.M)
    words: list[str] = json.loads(found)
    return words


def test_what_is_built_without_a_target_is_the_program() -> None:
    assert list(stages()) == ["base", "catcher", "program"]


@pytest.mark.parametrize("stage", ["catcher", "program"])
def test_none_of_them_runs_as_root_and_all_have_a_volume_and_a_check(stage: str) -> None:
    text = stages()[stage]
    [folder] = re.findall(r"^VOLUME (\S+)$", text, re.M)
    assert f"install -d -o mail_server {folder}" in text
    assert re.search(r"^USER mail_server$", text, re.M)
    assert re.search(r"^HEALTHCHECK ", text, re.M)


def test_the_catcher_writes_its_certificate_into_the_volume(tmp_path: Path) -> None:
    [folder] = re.findall(r"^VOLUME (\S+)$", stages()["catcher"], re.M)
    names = dict(re.findall(r"^ENV (\w+)=(\S+)$", stages()["catcher"], re.M))
    names["SMTP_BLINKER_SELF_SIGNED"] = "1"
    environment = {name: value.replace(folder, str(tmp_path)) for name, value in names.items()}
    locked = tmp_path / "locked"  # as the image's working folder, for a user that isn't root
    locked.mkdir()
    options = ("--listen", "127.0.0.1:0", "--http", "off", "--maildir", str(tmp_path / "Maildir"))
    with SmtpBlinker(locked, *options, **environment):
        assert not list(locked.glob("*.pem"))
        assert (tmp_path / "smtp-blinker.pem").read_text().startswith("-----BEGIN CERT")


def test_the_catcher_takes_mail_from_anyone_and_its_check_is_right(tmp_path: Path) -> None:
    program, *arguments = command("catcher", "CMD")
    assert program == "smtp-blinker"
    [folder] = re.findall(r"^VOLUME (\S+)$", stages()["catcher"], re.M)
    ports = {"0.0.0.0:1025": "127.0.0.1:0", "0.0.0.0:8025": f"127.0.0.1:{free_port()}"}
    places = {**ports, folder: str(tmp_path / "Maildir")}
    assert places.keys() <= set(arguments)
    exposed = re.findall(r"^EXPOSE (\d+) (\d+)$", stages()["catcher"], re.M)
    assert exposed == [("1025", "8025")]

    _, *check = command("catcher", "HEALTHCHECK")
    check = [sys.executable, *(word.replace(":8025", ports["0.0.0.0:8025"][9:]) for word in check)]
    with SmtpBlinker(tmp_path, *(places.get(word, word) for word in arguments)) as server:
        with server.client() as client:
            client.login("anyone", "any password")
            client.sendmail("you@example.org", "me@example.com", "Subject: x\n\nx\n")
        assert len(server.messages()) == 1
        assert subprocess.run(check, timeout=60, check=False).returncode == 0
    done = subprocess.run(check, timeout=60, check=False, capture_output=True)
    assert done.returncode != 0
