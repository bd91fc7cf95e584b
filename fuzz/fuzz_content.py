"""Content: the decoder and the stream that `on_data` reads, against the plain model of the tests.

The first octet of an input chooses the policy for bare newlines, the second the pieces, the
third how the program reads; what follows is content, commands behind it, or a cut-off message.
"""

from __future__ import annotations

import io
from typing import Final

import model
from harness import Script, ScriptedTransport, cut

from smtp_blinker.connection.incoming import Incoming
from smtp_blinker.options import Options
from smtp_blinker.smtp.content import MAX_RECEIVED_FIELDS, ContentDecoder
from smtp_blinker.smtp.reply import Reject
from smtp_blinker.stream import MessageStream, TruncatedError

POLICIES: Final = ("reject", "normalize", "allow")
_NO_LIMIT: Final = Options(name="mx.example.com")
_LIMIT: Final = Options(name="mx.example.com", size=1)


def one_input(data: bytes) -> None:
    if len(data) < 3:
        return
    policy = POLICIES[data[0] % 3]
    octets = data[3:]
    expected = model.decode(octets, policy)
    pieces = cut(octets, data[1])
    _decode(pieces, policy, octets, expected)
    _read(pieces, policy, data[2], expected)


def _decode(
    pieces: list[bytes], policy: str, octets: bytes, expected: tuple[bytes, bool, bytes] | None
) -> None:
    decoder = ContentDecoder(policy)
    content = []
    rest = b""
    for piece in pieces:
        if decoder.ended:
            rest += piece
            continue
        content.append(decoder.feed(piece))
        # A pair is never cut in two, so a CR at the end is one that stands alone.
        assert policy == "allow" or not content[-1].endswith(b"\r") or decoder.bare_newline
    assert decoder.ended == (expected is not None), "the end of data"
    if expected is None:
        return
    text, bare, after = expected
    assert decoder.bare_newline == bare, "bare newlines"
    assert decoder.rest + rest == after, "what follows the end of data"
    assert b"".join(content) == text, "content"
    split = model.split_content(octets)
    assert split is not None
    assert decoder.count_received() == model.received_fields(split[0], policy), "Received fields"


def _read(
    pieces: list[bytes], policy: str, way: int, expected: tuple[bytes, bool, bytes] | None
) -> None:
    """The same through a `MessageStream`."""
    transport = ScriptedTransport(Script(pieces), 60.0, float("inf"))
    decoder = ContentDecoder(policy)
    options = _LIMIT if way & 128 else _NO_LIMIT
    incoming = Incoming(transport, decoder, b"", options)  # type: ignore[arg-type]
    stream = MessageStream(incoming)
    same = io.BytesIO(expected[0] if expected is not None else b"")
    content = b""
    raised: Exception | None = None
    size = way % 16
    try:
        while True:
            if way & 64:
                piece = stream.readline(size or -1)
                if expected is not None:
                    assert piece == same.readline(size or -1)
            elif way & 32:
                piece = stream.read1(size or -1)
                assert not size or len(piece) <= size
            elif way & 16:
                piece = b"".join(stream)
            else:
                piece = stream.read(size or -1)
                if expected is not None:
                    assert piece == same.read(size or -1)
            if not piece:
                break
            content += piece
    except TruncatedError as exc:
        raised = exc
    except Reject as exc:
        raised = exc
    stream.forget()
    incoming.drain(False)
    if expected is None:
        assert incoming.lost is not None, "a cut-off message went for a whole one"
        assert raised is not None
        return
    text, bare, _ = expected
    assert incoming.lost is None
    assert stream.byte_length == len(text)
    split = decoder.count_received() > MAX_RECEIVED_FIELDS
    must_refuse = split or (bare and policy == "reject") or (way & 128 and len(text) > 1)
    assert (incoming.refusal is not None) == bool(must_refuse), "the server's own refusal"
    assert (raised is not None) == bool(must_refuse), "the program was not told"
    if not must_refuse:
        assert content == text, "what the program read"
        assert stream.read() == b""
    assert stream.size_exceeded == bool(way & 128 and len(text) > 1)
