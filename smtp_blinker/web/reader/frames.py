"""The protocol between the page and its processes: frames on a stream socket.

A frame has the lengths of its two parts, a JSON object, and octets that are passed on unchanged. A
file descriptor may come with the first octet.
"""

from __future__ import annotations

import array
import json
import socket
import struct
import time
from typing import Any, Final, NamedTuple

#: Octets of a frame's JSON and of its body, at most.
MAX_FIELDS: Final = 8 * 2**20
MAX_BODY: Final = 256 * 2**20

_LENGTHS: Final = struct.Struct("!II")
_FILE: Final = array.array("i", [0])


class Frame(NamedTuple):
    fields: dict[str, Any]
    body: bytes = b""
    #: An open file descriptor, the receiver's to close.
    file: int | None = None


class Broken(OSError):
    """The other side ended, or what it sent is not a frame."""


def send(sock: socket.socket, frame: Frame) -> None:
    """Send *frame*; raises the OSError of the socket."""
    fields = json.dumps(frame.fields).encode()
    lengths = _LENGTHS.pack(len(fields), len(frame.body))
    rights = [] if frame.file is None else [array.array("i", [frame.file])]
    sent = sock.sendmsg(
        [lengths, fields], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, each) for each in rights]
    )
    sock.sendall((lengths + fields)[sent:])
    sock.sendall(frame.body)


def receive(sock: socket.socket, deadline: float | None = None) -> Frame | None:
    """The next frame; None when the other side has closed the socket between two.

    Raises TimeoutError at *deadline*, a time of `time.monotonic`, and `Broken`.
    """
    _wait_until(sock, deadline)
    first, rights, _, _ = sock.recvmsg(_LENGTHS.size, socket.CMSG_SPACE(_FILE.itemsize))
    if not first:
        return None
    file = array.array("i")
    for _, _, data in rights:
        file.frombytes(data[: len(data) // file.itemsize * file.itemsize])
    lengths = first + _exactly(sock, _LENGTHS.size - len(first), deadline)
    size, body_size = _LENGTHS.unpack(lengths)
    if size > MAX_FIELDS or body_size > MAX_BODY:
        raise Broken(f"a frame of {size} and {body_size} octets")
    fields = _object(_exactly(sock, size, deadline))
    return Frame(fields, _exactly(sock, body_size, deadline), file[0] if file else None)


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except Exception as exc:  # of its errors RecursionError is not a ValueError
        raise Broken(f"what isn't JSON: {type(exc).__name__}") from exc
    if not isinstance(found, dict):
        raise Broken("JSON that is not an object")
    return found


def _exactly(sock: socket.socket, size: int, deadline: float | None) -> bytes:
    content = bytearray(size)
    view = memoryview(content)
    at = 0
    while at < size:
        _wait_until(sock, deadline)
        received = sock.recv_into(view[at:])
        if not received:
            raise Broken("it ended within a frame")
        at += received
    return bytes(content)


def _wait_until(sock: socket.socket, deadline: float | None) -> None:
    if deadline is not None:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
