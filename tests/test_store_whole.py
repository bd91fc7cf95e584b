"""The stores that keep a whole message before they hand it on."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import tempfile
from typing import Any

import pytest

from smtp_blinker import Reject, Session
from smtp_blinker.stores import RelayStore, WebhookStore
from smtp_blinker.stores.whole import MEMORY, whole_message


def full(*args: Any, **keywords: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("size", [0, 1000, MEMORY + 1])
def test_each_piece_is_seen_once_and_the_message_is_whole(size: int) -> None:
    content = os.urandom(size)
    digest = hashlib.sha256()
    with whole_message(io.BytesIO(content), Session(), digest.update) as message:
        assert message.read(0, 2 * MEMORY) == content
    assert digest.digest() == hashlib.sha256(content).digest()
    assert message.is_closed


@pytest.mark.parametrize(
    "store", [WebhookStore("http://127.0.0.1:9/"), RelayStore("smtp://127.0.0.1:9")]
)
def test_a_full_disk_is_452_and_no_failure_of_the_other_side(
    store: Any, monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with caplog.at_level(logging.ERROR, logger="smtp_blinker"):
        for _ in range(5):  # as many failures of the other side would have mail refused at once
            with pytest.raises(Reject) as caught:
                store(io.BytesIO(bytes(MEMORY + 1)), Session())
            assert (caught.value.code, caught.value.enhanced) == (452, "4.3.1")
    assert "No space left on device" in caplog.text
    store.circuit.check()
