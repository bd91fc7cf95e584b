"""Contents of large messages in S3 or a compatible server. Extra `s3`."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, BinaryIO, Final

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from gevent import monkey

from .contents import Draft, TemporaryDraft, checked_key

#: Timeouts in seconds of a connection and of each answer.
CONNECT_SECONDS: Final = 5
READ_SECONDS: Final = 20
#: What boto3 takes. S3 itself is stricter, compatible servers may not be.
_BUCKET: Final = re.compile("[A-Za-z0-9._-]{1,255}|arn:.+")
#: Keys to delete by one request; the limit of the protocol.
_KEYS_AT_ONCE: Final = 1000


class S3Contents:
    """Contents as objects of *bucket* whose names begin with *prefix*.

    boto3 finds credentials, region and endpoint (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, …),
    or *client* is a boto3 client for the service "s3". A message is received into a temporary file
    and put by one request (S3's limit is 5 GiB), whose SHA-256 the server checks. The methods raise
    botocore's errors, the constructor ValueError for a wrong *bucket*.

    It works with and without monkey patching: if sockets aren't patched, stores call it in threads.
    """

    def __init__(self, bucket: str, *, prefix: str = "", client: Any = None) -> None:
        if not isinstance(bucket, str) or not _BUCKET.fullmatch(bucket):
            raise ValueError(f"bucket must be the name or the ARN of a bucket, not {bucket!r}")
        self.bucket = bucket
        self.prefix = prefix
        self.client = client or boto3.client("s3", config=_config())

    @property
    def needs_thread(self) -> bool:
        return not monkey.is_module_patched("socket")

    def draft(self) -> Draft:
        return _ObjectDraft(self)

    def open(self, key: str) -> BinaryIO:
        """Open the content of *key*; the caller closes it.

        Raises FileNotFoundError if there is none, ValueError for a wrong key.
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
        """Remove contents that were put more than *seconds* ago; returns their number.

        It doesn't check the queue: choose *seconds* longer than any entry waits, dead letters
        included, so that it removes only orphans. A lifecycle rule of the bucket does the same.
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

    def check(self) -> None:
        """Raise an exception if the bucket is missing or unreachable.

        It stores nothing, so it doesn't notice a missing permission: asking for the bucket needs
        one (s3:ListBucket) that storing doesn't.
        """
        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError as exc:
            if exc.response["ResponseMetadata"]["HTTPStatusCode"] != HTTPStatus.FORBIDDEN:
                raise

    def _older_than(self, oldest: float) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix):
            for entry in page.get("Contents", ()):
                if entry["LastModified"].timestamp() < oldest:
                    yield entry["Key"]

    def object_name(self, key: str) -> str:
        """The name of the object for *key*. Raises ValueError for a wrong key."""
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
            # Otherwise boto3 computes it again, which delays all other clients.
            ChecksumSHA256=base64.b64encode(digest).decode("ascii"),
        )
        self.discard()


def _config() -> Any:
    return Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        # The checksum above protects the content already.
        s3={"payload_signing_enabled": False},
    )
