"""The requests of the page to the reader: a function for each."""

from __future__ import annotations

import json
import mimetypes
import os
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from . import charsets, markup, signed
from .details import describe, is_text
from .entry import summarize
from .errors import in_one_line
from .files import READABLE, read_message
from .frames import Frame
from .mime import Message
from .part import Part
from .pictures import image_type

#: Octets of a message that the index reads.
INDEXED: Final = 2**20
#: Octets of source that are shown; the whole can be downloaded.
MAX_SOURCE: Final = 2**20
#: For the names of parts that have none.
_EXTENSIONS: Final = {
    "text/plain": ".txt",
    "text/html": ".html",
    "text/calendar": ".ics",
    "text/csv": ".csv",
    "text/vcard": ".vcf",
    "message/rfc822": ".eml",
    "message/global": ".eml",
    "message/delivery-status": ".txt",
    "application/pdf": ".pdf",
    "application/json": ".json",
    "application/zip": ".zip",
    "application/ms-tnef": ".dat",
    "application/pgp-signature": ".asc",
    "application/pkcs7-signature": ".p7s",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/svg+xml": ".svg",
}
#: Seconds after which the rest of a batch is left for another request.
BATCH_SECONDS: Final = 0.2


def _summarize(request: Frame) -> Frame:
    """What the index keeps of ``messages``, pairs of id and path; of the first at least."""
    end = time.monotonic() + BATCH_SECONDS
    found = []
    faults = []
    for id, path in request.fields["messages"]:
        try:
            summary = _summary(path)
        except FileNotFoundError:  # the next scan finds out
            summary = {"unreadable": True}
        except MemoryError:
            raise
        except Exception as exc:  # one message must not hide the others
            summary = {"unreadable": True}
            faults.append([id, in_one_line(exc)])
        found.append({"id": id, **summary})
        if time.monotonic() >= end:
            break
    return Frame({"faults": faults}, json.dumps(found).encode())


def _summary(path: str) -> dict[str, Any]:
    """The beginning of a message, `INDEXED` octets or more behind the trace fields, summarized."""
    limit = INDEXED
    while True:
        data, size = read_message(path, limit)
        message, content = signed.read(data)
        if len(data) < limit or message.trace.end <= limit - INDEXED // 2 or limit >= READABLE:
            return summarize(size, content, message)
        limit *= 4


def _read(request: Frame) -> tuple[Message, bytes]:
    """The message of *request*, and the octets in which its parts lie."""
    data, _ = read_message(request.fields["path"])
    return signed.read(data)


def _describe(request: Frame) -> Frame:
    """All that is shown of a message, behind what the index knows of it, as JSON."""
    message, content = _read(request)
    listed = request.fields["listed"]
    return Frame({}, json.dumps(describe(listed, content, message)).encode())


def _envelope(request: Frame) -> Frame:
    """The envelope, and where the trace fields of the last hop end: what may be passed on."""
    message, _ = _read(request)
    trace = message.trace
    return Frame(
        {
            "mail_from": trace.mail_from,
            "rcpt_to": trace.rcpt_to,
            "trace_end": trace.end,
        }
    )


def _document(request: Frame) -> Frame:
    """Write a message's HTML for its frame into the file of *request*; ``size`` is 0 without."""
    return _written(request, markup.document(*_read(request)), {})


def _part(request: Frame) -> Frame:
    """Write a part, decoded, into the file of *request*, and say what it is, if there is one."""
    message, data = _read(request)
    number = request.fields["number"]
    parts = message.parts
    if number >= len(parts) or parts[number].is_multipart:
        return Frame({"found": False})
    part = parts[number]
    about = {
        "content_type": part.content_type,
        "filename": part.filename or _name_of(part),
        "image": image_type(part, data),
    }
    if request.fields.get("as_text") and is_text(part):
        text = part.text(data, MAX_SOURCE).encode("utf-8", "replace")
        return _written(request, [text], {"found": True, "is_text": True, **about})
    return _written(request, part.pieces(data), {"found": True, **about})


def _name_of(part: Part) -> str:
    """The name of a part without one: its extension says what it is."""
    extension = _EXTENSIONS.get(part.content_type) or mimetypes.guess_extension(part.content_type)
    return f"part-{part.number}{extension or ''}"


def _source(request: Frame) -> Frame:
    """The beginning of a message as text."""
    data, _ = read_message(request.fields["path"], MAX_SOURCE)
    return Frame({}, charsets.decode(data, "utf-8").encode())


def _written(request: Frame, pieces: Iterable[bytes], fields: dict[str, Any]) -> Frame:
    assert request.file is not None
    size = 0
    with os.fdopen(os.dup(request.file), "wb") as file:
        for piece in pieces:
            size += file.write(piece)
    return Frame({"size": size, **fields})


FUNCTIONS: Final[dict[str, Callable[[Frame], Frame]]] = {
    "summarize": _summarize,
    "describe": _describe,
    "envelope": _envelope,
    "document": _document,
    "part": _part,
    "source": _source,
}
