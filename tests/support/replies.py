"""Replies as a client reads them; reading one checks what no reply may be."""

from __future__ import annotations

import re

_REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])([ -])([\x20-\x7e]*)\r\n")
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)")


class ClientReply(str):
    """A reply as it came: its lines joined with newlines, and what they say."""

    code: int
    #: The enhanced status code of every line, or None.
    enhanced: str | None
    #: The texts, without codes.
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def status(self) -> str:
        """For comparing: ``"501 5.5.4"``, or ``"354"`` where there is no enhanced code."""
        return f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)


def take_reply(data: bytes) -> tuple[ClientReply | None, bytes]:
    """The first reply in *data*, None when it isn't whole, and what follows it.

    Fails for what no reply may be: RFC 5321 sections 4.2.1 and 4.5.3.1.5, RFC 2034 section 4.
    """
    lines: list[str] = []
    codes: set[int] = set()
    position = 0
    while True:
        end = data.find(b"\n", position) + 1
        if not end:
            return None, data
        found = _REPLY_LINE.fullmatch(data, position, end)
        assert found, f"not a reply line: {data[position:end]!r}"
        # RFC 4954 section 4 for challenges
        longest = 12288 if found[1] == b"334" else 512
        assert end - position <= longest, f"too long: {data[position:end]!r}"
        codes.add(int(found[1]))
        lines.append(found[3].decode("ascii"))
        position = end
        if found[2] == b" ":
            break
    assert len(codes) == 1, f"different codes in one reply: {data[:position]!r}"
    code = codes.pop()
    matches = [_ENHANCED.match(line) for line in lines]
    enhanced = matches[0][1] if matches[0] else None
    assert {match[1] if match else None for match in matches} == {enhanced} or code == 214
    if enhanced is not None:
        assert enhanced[0] == str(code)[0], f"class of the enhanced code: {data[:position]!r}"
        assert code not in (334, 354), f"an enhanced code with {code}"
        lines = [line[len(enhanced) + 1 :] for line in lines]
    reply = ClientReply(data[: position - 2].decode("ascii").replace("\r\n", "\n"))
    reply.code, reply.enhanced, reply.lines = code, enhanced, tuple(lines)
    return reply, data[position:]


def take_replies(data: bytes) -> list[ClientReply]:
    """All replies that *data* consists of."""
    replies = []
    while data:
        one, data = take_reply(data)
        assert one is not None, f"ends inside a reply: {data!r}"
        replies.append(one)
    return replies
