"""The pictures of the documentation: the program that makes them works, and they show this page."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from support import python

from .pages import ROOT, start_chromium

PICTURES = ROOT / "docs" / "pictures"
ADVICE = "docs/pictures is of another page: python docs/make_screenshots.py"


def size(picture: Path) -> tuple[int, int]:
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


@pytest.mark.timeout(300)
def test_the_pictures_are_of_this_page(tmp_path: Path) -> None:
    start_chromium(tmp_path / "profile").quit()  # a skip without one
    program = str(ROOT / "docs" / "make_screenshots.py")
    done = python(program, tmp_path, seconds=280)
    assert done.returncode == 0, done.stderr
    made = {path.name: size(path) for path in tmp_path.glob("*.png")}
    assert made == {path.name: size(path) for path in PICTURES.glob("*.png")}, ADVICE
    assert {"inbox.png", "inbox-dark.png", "live.png", "phone.png", "empty.png"} <= set(made)
    for folder in (tmp_path, PICTURES):
        for picture in folder.glob("*.png"):
            assert 10_000 < picture.stat().st_size < 150_000, picture
    words = [json.loads((folder / "words.json").read_text()) for folder in (PICTURES, tmp_path)]
    assert words[0] == words[1], ADVICE
