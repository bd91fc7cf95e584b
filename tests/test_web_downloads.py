"""Downloads of the page: their length, a range of one, and HEAD, which has all but the content."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support import wait_until
from support.page import Folder

from smtp_blinker.faults import Faults
from smtp_blinker.web import create_app
from smtp_blinker.web.openapi import OPERATIONS

CONTENT = bytes(range(256)) * 3000
MESSAGE = (
    b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n"
    b"--b\nContent-Type: text/html\n\n<p>Hello\n"
    b"--b\nContent-Type: application/zip\nContent-Transfer-Encoding: base64\n\n"
    + base64.encodebytes(CONTENT)
    + b"--b--\n"
)


@pytest.fixture
def client(folder: Folder) -> Iterator[FlaskClient]:
    app = create_app([], folder.path, faults=Faults())
    yield app.test_client()
    app.extensions["smtp_blinker"].detach()


def test_the_length_of_a_download_is_known(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(MESSAGE)
    raw = client.get(f"/api/messages/{id}/raw")
    assert (raw.data, raw.content_length) == (MESSAGE, len(MESSAGE))
    part = client.get(f"/api/messages/{id}/parts/2")
    assert (part.data, part.content_length) == (CONTENT, len(CONTENT))
    html = client.get(f"/api/messages/{id}/html")
    assert html.content_length == len(html.data)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=700000-", 700_000, len(CONTENT)),
        ("bytes=-5", len(CONTENT) - 5, len(CONTENT)),
        (f"bytes=255-{len(CONTENT) + 9}", 255, len(CONTENT)),
    ],
)
def test_a_download_can_be_continued(
    client: FlaskClient, folder: Folder, asked: str, start: int, stop: int
) -> None:
    id = folder.put(MESSAGE)
    answer = client.get(f"/api/messages/{id}/parts/2", headers={"Range": asked})
    assert answer.status_code == 206
    assert answer.data == CONTENT[start:stop]
    assert answer.content_length == stop - start
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"


def test_a_download_is_continued_only_where_it_is_the_same(
    client: FlaskClient, folder: Folder
) -> None:
    """RFC 9110 sections 13.1.1, 13.1.2 and 13.1.5."""
    id = folder.put(MESSAGE)
    raw, part = f"/api/messages/{id}/raw", f"/api/messages/{id}/parts/2"
    tags = [client.get(path).headers["ETag"] for path in (raw, part, f"{part}?inline", raw)]
    assert len(set(tags)) == 3
    assert tags[0] == tags[3]
    again = client.get(part, headers={"Range": "bytes=5-", "If-Range": tags[1]})
    assert (again.status_code, again.data) == (206, CONTENT[5:])
    other = client.get(part, headers={"Range": "bytes=5-", "If-Range": tags[0]})
    assert (other.status_code, other.data) == (200, CONTENT)
    same = client.get(part, headers={"If-None-Match": tags[1]})
    assert (same.status_code, same.data) == (304, b"")
    changed = client.get(part, headers={"If-Match": tags[0]})
    assert (changed.status_code, list(changed.get_json())) == (412, ["error"])
    assert client.get(part, headers={"If-Match": tags[1]}).data == CONTENT


def test_a_range_that_is_not_there_is_refused(client: FlaskClient, folder: Folder) -> None:
    id = folder.put(MESSAGE)
    answer = client.get(f"/api/messages/{id}/raw", headers={"Range": f"bytes={len(MESSAGE)}-"})
    assert answer.status_code == 416
    assert answer.headers["Content-Range"] == f"bytes */{len(MESSAGE)}"
    assert "error" in answer.get_json()


def test_the_file_of_a_download_is_closed_whatever_becomes_of_it(
    client: FlaskClient, folder: Folder
) -> None:
    def is_open() -> bool:
        links = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
        return any(folder.path in each.parents for each in links)

    id = folder.put(MESSAGE)
    path = f"/api/messages/{id}/raw"
    client.head(path)
    client.get(path, headers={"Range": "bytes=0-5"})
    client.get(path, headers={"If-None-Match": client.head(path).headers["ETag"]})
    client.get(path, headers={"If-Match": '"other"'})
    client.get(path, headers={"Range": f"bytes={len(MESSAGE)}-"})
    begun = client.get(path, buffered=False)
    begun.close()
    wait_until(lambda: not is_open(), "the files are closed")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/static/app.js",
        "/nothing",
        "/api/nothing",
        *(path for method, path in OPERATIONS if method == "GET"),
    ],
)
def test_head_has_all_but_the_content(client: FlaskClient, folder: Folder, path: str) -> None:
    """RFC 9110 section 9.3.2."""
    path = path.replace("{id}", folder.put(MESSAGE)).replace("{number}", "2")
    head = client.head(path)
    assert head.data == b""
    if path == "/api/events":  # without end
        assert (head.status_code, head.mimetype) == (200, "text/event-stream")
        return
    get = client.get(path)
    assert head.status_code == get.status_code
    differs = {"Date"} if path != "/api/live" else {"Date", "Content-Length"}
    for name, value in get.headers:
        assert name in differs or head.headers[name] == value
