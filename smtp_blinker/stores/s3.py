"""Contents of large messages in S3, or in a server that speaks its protocol. Extra `s3`."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from gevent import monkey

from .contents import Draft, TemporaryDraft, checked_key

#: Seconds for a connection, and for each answer.
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 20
#: Keys that one request may delete. The protocol's limit is 1000.
_KEYS_AT_ONCE: Final = 1000


class S3Contents:
    """Contents as objects of *bucket*, their names beginning with *prefix*.

    Credentials, region and endpoint are those that boto3 finds (``AWS_ACCESS_KEY_ID``,
    ``AWS_ENDPOINT_URL``, …), or *client* is a client of yours for the service "s3". A message
    arrives in a temporary file and is put with one request (5 GiB at most, says S3), whose SHA-256
    the other side checks. Each call raises the error of botocore that prevents it.

    It works with and without monkey patching: where sockets aren't patched, stores call it in
    threads.
    """

    def __init__(self, bucket: str, *, prefix: str = "", client: Any = None) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.client = client or boto3.client("s3", config=_config())

    @property
    def needs_thread(self) -> bool:
        return not monkey.is_module_patched("socket")

    def draft(self) -> Draft:
        return _ObjectDraft(self)

    def open(self, key: str) -> BinaryIO:
        """The content of *key*, which the caller closes.

        Raises FileNotFoundError where there is none, ValueError for what is not a key.
        """
        try:
            body: BinaryIO = self.client.get_object(Bucket=self.bucket, Key=self.object_name(key))[
                "Body"
            ]
        except ClientError as exc:
            if exc.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise FileNotFoundError(f"{self.bucket} has no content {key}") from exc
            raise
        return body

    def delete(self, key: str) -> None:
        """Remove the content of *key*, if it is there."""
        self.client.delete_object(Bucket=self.bucket, Key=self.object_name(key))

    def sweep(self, seconds: float) -> int:
        """Remove what was put more than *seconds* ago; how many contents that were.

        These are orphans only where no entry waits so long, dead letters included: the queue isn't
        asked. A lifecycle rule of the bucket does the same.
        """
        names = list(self._older_than(time.time() - seconds))
        for start in range(0, len(names), _KEYS_AT_ONCE):
            batch = [{"Key": name} for name in names[start : start + _KEYS_AT_ONCE]]
            done = self.client.delete_objects(
                Bucket=self.bucket, Delete={"Objects": batch, "Quiet": True}
            )
            for problem in done.get("Errors", ()):
                raise OSError(f"{problem['Key']} was not deleted: {problem.get('Message')}")
        return len(names)

    def _older_than(self, oldest: float) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
            for entry in page.get("Contents", ()):
                if entry["LastModified"].timestamp() < oldest:
                    yield entry["Key"]

    def object_name(self, key: str) -> str:
        """The name of the object for *key*. Raises ValueError for what is not a key."""
        return self.prefix + checked_key(key)


class _ObjectDraft(TemporaryDraft):
    def __init__(self, contents: S3Contents) -> None:
        super().__init__()
        self._contents = contents

    def finish(self, key: str, digest: bytes) -> None:
        self.file.seek(0)
        self._contents.client.put_object(
            Bucket=self._contents.bucket,
            Key=self._contents.object_name(key),
            Body=self.file,
            ContentType="message/rfc822",
            # Given, it isn't computed once more, at the cost of every other client.
            ChecksumSHA256=base64.b64encode(digest).decode("ascii"),
        )
        self.discard()


def _config() -> Any:
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        # The checksum above says the same.
        s3={"payload_signing_enabled": False},
    )
