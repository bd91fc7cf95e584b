"""Where contents wait: a folder, and a bucket of a server that speaks S3."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from support import Program

from smtp_blinker.stores.contents import Contents, FolderContents
from smtp_blinker.stores.s3 import S3Contents

from .engines import S3

BUCKET = "mail-contents"
PIECES = [b"Subject: Hi\r\n\r\n", b"x" * 70000, b"\0\xff\r\n"]
CONTENT = b"".join(PIECES)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with S3(tmp_path_factory.mktemp("s3")) as engine:
        yield engine


@pytest.fixture
def client(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in settings(s3).items():
        monkeypatch.setenv(name, value)
    made = boto3.client("s3")
    made.create_bucket(Bucket=BUCKET)
    yield made
    for entry in made.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        made.delete_object(Bucket=BUCKET, Key=entry["Key"])
    made.delete_bucket(Bucket=BUCKET)


def settings(s3: S3) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@pytest.fixture(params=["folder", "s3"])
def contents(request: pytest.FixtureRequest, tmp_path: Path) -> Contents:
    if request.param == "folder":
        return FolderContents(tmp_path / "contents")
    request.getfixturevalue("client")
    return S3Contents(BUCKET, prefix="mail/")


def put(contents: Contents, key: str, pieces: list[bytes] = PIECES) -> None:
    draft = contents.draft()
    for piece in pieces:
        draft.write(piece)
    draft.finish(key, hashlib.sha256(b"".join(pieces)).digest())


def test_content_comes_back_as_it_was_and_can_be_deleted_twice(contents: Contents) -> None:
    put(contents, "abc-1")
    with contents.open("abc-1") as file:
        assert file.read() == CONTENT
    contents.delete("abc-1")
    contents.delete("abc-1")
    with pytest.raises(FileNotFoundError):
        contents.open("abc-1")


def test_a_draft_is_no_content_and_a_discarded_one_leaves_nothing(contents: Contents) -> None:
    draft = contents.draft()
    draft.write(CONTENT)
    with pytest.raises(FileNotFoundError):
        contents.open("abc-1")
    draft.discard()
    draft.discard()
    assert contents.sweep(-3600) == 0
    if isinstance(contents, FolderContents):
        assert os.listdir(contents.path) == []


@pytest.mark.parametrize("key", ["", "../secret", "a/b", ".draft-1", "a" * 81, "a\n", "é"])
def test_a_key_from_a_queue_leads_to_no_other_place(contents: Contents, key: str) -> None:
    with pytest.raises(ValueError, match="a key of contents has"):
        contents.open(key)
    with pytest.raises(ValueError, match="a key of contents has"):
        contents.delete(key)


def test_check_says_whether_contents_can_be_stored_and_leaves_nothing(contents: Contents) -> None:
    contents.check()
    assert contents.sweep(-3600) == 0
    if isinstance(contents, FolderContents):
        assert os.listdir(contents.path) == []
        os.rmdir(contents.path)
        Path(contents.path).touch()
        with pytest.raises(NotADirectoryError):
            contents.check()
    else:
        with pytest.raises(ClientError):
            S3Contents("another-bucket").check()


def test_a_bucket_that_may_not_be_asked_for_is_there(client: Any) -> None:
    """Who may put objects may lack the permission to ask for the bucket."""
    contents = S3Contents(BUCKET, client=client)

    class Forbidden:
        status_code = 403
        headers: dict[str, str] = {}
        content = b""

    asked: list[object] = []

    def answer(request: object, **extra: Any) -> Forbidden:
        asked.append(request)
        return Forbidden()

    client.meta.events.register("before-send.s3.HeadBucket", answer)
    contents.check()
    assert asked


def test_sweep_removes_what_is_old_and_nothing_else(contents: Contents) -> None:
    put(contents, "old")
    assert contents.sweep(3600) == 0
    assert contents.sweep(-3600) == 1, "that is: older than in an hour from now"
    with pytest.raises(FileNotFoundError):
        contents.open("old")


def test_sweep_of_a_folder_goes_by_age_and_leaves_what_is_not_ours(tmp_path: Path) -> None:
    contents = FolderContents(tmp_path)
    put(contents, "old")
    put(contents, "new")
    contents.draft().write(b"the rest of a crash")
    (tmp_path / "read me.txt").touch()
    (tmp_path / "backup").mkdir()
    for path in tmp_path.iterdir():
        if path.name != "new":
            os.utime(path, (time.time() - 7200, time.time() - 7200))
    assert contents.sweep(3600) == 1
    assert sorted(os.listdir(tmp_path)) == ["backup", "new", "read me.txt"]


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    contents = FolderContents(tmp_path / "contents")
    (tmp_path / "contents").rmdir()
    put(contents, "abc")
    assert contents.open("abc").read() == CONTENT
    assert (tmp_path / "contents").stat().st_mode & 0o777 == 0o700


def test_a_file_and_its_folder_are_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = FolderContents(tmp_path)
    done: list[str] = []

    def record(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(*args: Any) -> None:
            what = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else args[1]
            done.append(f"{name} {'folder' if what == str(tmp_path) else 'file'}")
            real(*args)

        return call

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, record(name))
    put(contents, "abc")
    assert done == ["fsync file", "rename file", "fsync folder"]


@pytest.mark.parametrize("removed", [False, True])
def test_each_parent_that_is_made_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed: bool
) -> None:
    path = tmp_path / "a" / "b" / "contents"
    if removed:
        contents = FolderContents(path)
        shutil.rmtree(tmp_path / "a")
    synced: list[str] = []
    fsync = os.fsync

    def record(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", record)
    if removed:
        put(contents, "abc")
    else:
        FolderContents(path)
    assert {str(parent) for parent in (tmp_path, *path.parents[:2])} <= set(synced)


def test_s3_is_told_the_checksum_of_the_object(client: Any) -> None:
    # S3 compares it with what came; the server of these tests doesn't.
    told: list[bytes] = []
    client.meta.events.register(
        "before-send.s3.PutObject",
        lambda request, **more: told.append(request.headers["x-amz-checksum-sha256"]),
    )
    put(S3Contents(BUCKET, client=client), "abc")
    assert base64.b64decode(told[0]) == hashlib.sha256(CONTENT).digest()


def test_s3_says_what_stands_in_the_way(client: Any) -> None:
    contents = S3Contents("no-such-bucket")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        put(contents, "abc")


PATCHED = """
from gevent import monkey; monkey.patch_all()
import hashlib, gevent
from smtp_blinker.stores.s3 import S3Contents
contents = S3Contents("mail-contents")
assert not contents.needs_thread
def put(key):
    draft = contents.draft()
    draft.write(b"x" * 300000)
    draft.finish(key, hashlib.sha256(b"x" * 300000).digest())
gevent.joinall([gevent.spawn(put, f"k{n}") for n in range(20)], raise_error=True)
assert all(contents.open(f"k{n}").read() == b"x" * 300000 for n in range(20))
print("done")
"""


def test_s3_works_in_greenlets_of_a_patched_program(client: Any, s3: S3) -> None:
    with Program("-c", PATCHED, variables=settings(s3)) as program:
        assert program.exit_status() == 0, program.output
        assert program.lines[-1] == "done"
