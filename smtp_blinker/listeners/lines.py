"""Parts of log lines: escaped text, recipients, addresses, places in the code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: The most characters of one value in a line of text. JSON has all of them.
MAX_TEXT: Final = 1000
#: The most recipients of one message that are named; further ones are only counted.
MAX_RECIPIENTS: Final = 5
#: The most frames of a traceback that are named, the innermost ones.
MAX_FRAMES: Final = 8


def one_line(value: object) -> object:
    """*value*; if it is text, with unprintable characters escaped and at most `MAX_TEXT` long."""
    if not isinstance(value, str):
        return value
    if len(value) > MAX_TEXT:
        value = value[:MAX_TEXT] + "..."
    if value.isprintable():  # also false for U+2028, bidirectional controls and lone surrogates
        return value
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value
    )


def recipients(addresses: Sequence[str]) -> str:
    if len(addresses) == 1:
        return f"<{addresses[0]}>"
    named = ", ".join(f"<{address}>" for address in addresses[:MAX_RECIPIENTS])
    more = len(addresses) - MAX_RECIPIENTS
    return f"{named} and {more} more" if more > 0 else named


def place(failure: BaseException) -> str:
    """Where *failure* was raised: file and line of its frames, the innermost last."""
    frames = []
    traceback = failure.__traceback__
    while traceback is not None:
        filename = traceback.tb_frame.f_code.co_filename
        frames.append(f"{filename.rpartition('/')[2]}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " > ".join(frames[-MAX_FRAMES:])


def address_of(server: object) -> str:
    """The server's address as text, from the attributes of gevent's servers."""
    address = getattr(server, "address", None)
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return str(address)
