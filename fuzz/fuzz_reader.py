"""The page's reader: whatever a message is, an answer within its bounds, and the process lives on.

The first octet of an input chooses what the rest is: 0 a message, 1 its HTML, 2 a charset and
octets in it, 3 a search, 4 a text with uuencoded files, 5 a winmail.dat, 6 what a broken reader
says to the page, 7 a message that the process itself reads, with its limits, 8 a Content-Location
and HTML that may show the picture there, 9 a quoted-printable text with uuencoded files.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from smtp_blinker.web.child import _Process
from smtp_blinker.web.reader import charsets, frames, markup_text, query, tnef
from smtp_blinker.web.reader.entry import SEARCHED, Entry, joined
from smtp_blinker.web.reader.frames import Frame
from smtp_blinker.web.reader.requests import FUNCTIONS
from smtp_blinker.web.reader.worker import answered

#: Seconds of CPU time and octets of memory that the process has for one request.
SECONDS: Final = 2
MEMORY: Final = 256 * 2**20
#: Octets of an answer: the text, the header and the links of a message of 4 KiB, in JSON.
MAX_ANSWER: Final = 2**20

#: Where files cost no disk any time.
_MEMORY: Final = "/dev/shm" if os.path.isdir("/dev/shm") else None
_PATH: Final = tempfile.NamedTemporaryFile(prefix="fuzz-reader-", dir=_MEMORY)  # noqa: SIM115
_ID: Final = "1700000000.M0P1Q1.test"
_LISTED: Final = Entry(_ID, "", 1.7e9, True, 1).as_dict()
_process: list[_Process] = []


def one_input(data: bytes) -> None:
    if data:
        _KINDS[data[0] % len(_KINDS)](data[1:])


def _message(data: bytes) -> None:
    Path(_PATH.name).write_bytes(data)
    for request in _requests():
        _check(request, answered(FUNCTIONS, request))


def _html(data: bytes) -> None:
    text = charsets.decode_unlabelled(data)
    found = markup_text.html_text(text)
    assert len(found) <= 2 * len(text)
    _message(b"Content-Type: text/html\n\n" + data)


def _charset(data: bytes) -> None:
    label, _, octets = data.partition(b"\n")
    text = charsets.decode(octets, label.decode("latin-1"))
    assert len(text) <= 3 * len(octets) + 3
    charsets.problem(octets, label.decode("latin-1"))


def _search(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    words = joined({**dict.fromkeys(SEARCHED, ""), "subject": "x", "text": "y"})
    entry = Entry(_ID, "", 1.7e9, True, 1, True, words=words)
    assert query.select(text, [entry]) in ([], [entry])
    for said in (query.problem(text), query.hint(text)):
        assert said is None or len(said) < 300


def _uuencoded(data: bytes) -> None:
    _message(b"Subject: x\n\nbegin 644 x\n" + data)


def _quoted(data: bytes) -> None:
    _message(b"Content-Transfer-Encoding: quoted-printable\n\nbegin 644 x=\n" + data)


def _located(data: bytes) -> None:
    location, _, html = data.partition(b"\n")
    _message(
        b"Content-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n"
        + html
        + b"\n--b\nContent-Type: image/png\nContent-ID: <a>\nContent-Location: "
        + location
        + b"\n\n\x89PNG\n--b--\n"
    )


def _winmail(data: bytes) -> None:
    assert len(tnef.names(b"\x78\x9f\x3e\x22\1\0" + data)) <= tnef.MAX_NAMES


def _frame(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        try:
            frame = frames.receive(ours, time.monotonic() + 10)
        except OSError:
            return
        assert frame is None or isinstance(frame.fields, dict)


def _confined(data: bytes) -> None:
    """The process that answers is the one that was started: it neither ended nor fell behind."""
    if not _process:
        _process.append(_Process(["reader", str(MEMORY), str(SECONDS)]))
        atexit.register(_process[0].end)
    Path(_PATH.name).write_bytes(data)
    for request in _requests():
        _check(request, _process[0].ask(request, time.monotonic() + 10 * SECONDS))


_KINDS: Final = (
    *(_message, _html, _charset, _search, _uuencoded, _winmail, _frame, _confined),
    *(_located, _quoted),
)


def _requests() -> list[Frame]:
    """Everything that the page asks the reader."""
    about: dict[str, Any] = {"path": _PATH.name, "listed": _LISTED}
    return [
        Frame({"do": "summarize", "messages": [[_ID, _PATH.name]]}),
        Frame({"do": "describe", **about}),
        Frame({"do": "source", **about}),
        Frame({"do": "document", **about}, file=_file()),
        *(
            Frame({"do": "part", **about, "number": number, "as_text": as_text}, file=_file())
            for number, as_text in ((0, True), (1, False), (2, True))
        ),
    ]


def _file() -> int:
    """An open file without a name, as the page gives one to be written into."""
    return _FILES.fileno()


_FILES: Final = tempfile.TemporaryFile(dir=_MEMORY)  # noqa: SIM115


def _check(request: Frame, answer: Frame) -> None:
    os.ftruncate(_FILES.fileno(), 0)
    assert not {"fault", "errno", "gone"} & set(answer.fields), answer.fields
    assert len(answer.body) <= MAX_ANSWER
    if request.fields["do"] == "summarize":
        assert answer.fields["faults"] == [], answer.fields
        [summary] = json.loads(answer.body)
        for place, text in summary["folded"].items():
            assert len(text) <= SEARCHED[place]
    elif request.fields["do"] == "describe":
        described = json.loads(answer.body)
        assert not described["unreadable"]
        for part in described["parts"]:
            if part["filename"] is not None:
                assert part["filename"].isprintable()
                assert not set(part["filename"]) & set("/\\")
