"""The table of hostile and odd input: octets a client sends, and what it must get for them.

Ids are those of the list that the server is held against (E01, L05 ...); an id with a letter
behind it ("E02a") is a further row of the same kind. test_hostile.py replays every row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from smtp_blinker import DEFAULT_EXTENSIONS

# Content


@dataclass(frozen=True)
class ContentRow:
    """What stands behind a 354, and the message that it is."""

    id: str
    #: All of the content with its end of data.
    sent: bytes
    #: The message: dots unstuffed, nothing else changed.
    content: bytes

    @property
    def clean(self) -> bool:
        """Whether no CR or LF stands alone."""
        return re.search(rb"\r(?!\n)|(?<!\r)\n", self.content) is None

    @property
    def normalized(self) -> bytes:
        return re.sub(rb"\r+\n|\r|\n", b"\r\n", self.content)


def _inside(id_: str, ending: bytes, unstuffed: bytes | None = None) -> ContentRow:
    """*ending* looks like an end of data and isn't; what follows it looks like commands."""
    tail = b"RSET\r\nb\r\n"
    content = ending if unstuffed is None else unstuffed
    return ContentRow(id_, b"a" + ending + tail + b".\r\n", b"a" + content + tail)


CONTENT_ROWS = (
    ContentRow("E01", b"a\r\n.\r\n", b"a\r\n"),
    _inside("E02", b"\n.\n"),
    _inside("E02a", b"\n.\n.\n"),
    _inside("E04", b"\r.\n"),
    _inside("E05", b"\r.\r"),
    _inside("E06", b"\n.\r\n"),
    _inside("E06a", b"\n..\r\n"),
    _inside("E06b", b"\n.x\r\n..y\r\n", b"\n.x\r\n.y\r\n"),
    _inside("E07", b"\r.\r\n"),
    _inside("E07a", b"\r.\r\n..z\r\n", b"\r.\r\n.z\r\n"),
    _inside("E08", b"\r\n\0.\r\n"),
    _inside("E08a", b"\r\n.\0\r\n", b"\r\n\0\r\n"),
    _inside("E08b", b"\r\0\n.\r\n"),
    _inside("E09", b"\r\n.\r\r\n", b"\r\n\r\r\n"),
    _inside("E09a", b"\r\n.\r\r\r\n", b"\r\n\r\r\r\n"),
    _inside("E11", b"\r\n.\n", b"\r\n\n"),
    _inside("E11a", b"\r\n..\n", b"\r\n.\n"),
    _inside("E12", b"\r\n.\r", b"\r\n\r"),
    ContentRow("E13", b"a\r\r\n.\r\n", b"a\r\r\n"),
    ContentRow("E13a", b"a\r\r\r\n.\r\n", b"a\r\r\r\n"),
    ContentRow("E13b", b"a\r\n\r\r\n.\r\n", b"a\r\n\r\r\n"),
    _inside("E15", b"\r\n. \r\n", b"\r\n \r\n"),
    _inside("E15a", b"\r\n.\t\r\n", b"\r\n\t\r\n"),
    _inside("E15b", b"\r\n .\r\n"),
    _inside("E17", b"\xc2\x85.\xc2\x85"),
    _inside("E17a", b"\xe2\x80\xa8.\xe2\x80\xa9"),
    _inside("E17b", b"\x85.\x85"),
    _inside("E19", b"\x0b.\x0b"),
    _inside("E19a", b"\x0c.\x0c"),
    _inside("E19b", b"\x1c.\x1d\x1e"),
    _inside("E20", b"\n\n.\n\n"),
    _inside("E20a", b"\r\r.\r\r"),
    _inside("E20b", b"\n\r.\n\r"),
    _inside("E21", b"\r\n..\r\n", b"\r\n.\r\n"),
    _inside("E21a", b"\r\n...\r\n", b"\r\n..\r\n"),
    ContentRow("E21b", b"..\r\n.\r\n", b".\r\n"),
    ContentRow("E23", b"a\n\r\n.\r\n", b"a\n\r\n"),
    ContentRow("E25", b".\r\n", b""),
    ContentRow("E25a", b"\r\n.\r\n", b"\r\n"),
    ContentRow("E26", b"\n.\r\nRSET\r\n.\r\n", b"\n.\r\nRSET\r\n"),
    ContentRow("E26a", b"\r.\r\nRSET\r\n.\r\n", b"\r.\r\nRSET\r\n"),
    ContentRow("E26b", b".\nRSET\r\n.\r\n", b"\nRSET\r\n"),
    ContentRow("E26c", b".\rRSET\r\n.\r\n", b"\rRSET\r\n"),
    ContentRow("E26d", b"\n\n.x\r\n..y\r\n.\r\n", b"\n\n.x\r\n.y\r\n"),
    ContentRow("E26e", b".a\r\n.\r\n", b"a\r\n"),
    ContentRow("E27", b"Subject: t\r\n\r\nx\r\n.\r\n", b"Subject: t\r\n\r\nx\r\n"),
    ContentRow("E28", b"..\r\n..a\r\n.b\r\n.\r\n", b".\r\n.a\r\nb\r\n"),
    ContentRow("L14", b"x" * 998 + b"\r\n.\r\n", b"x" * 998 + b"\r\n"),
    ContentRow("L15", b"x" * 999 + b"\r\n.\r\n", b"x" * 999 + b"\r\n"),
    ContentRow(
        "L15a",
        b"x" * 999 + b".\r\n." + b"." * 999 + b"\r\n.\r\n",
        b"x" * 999 + b".\r\n" + b"." * 999 + b"\r\n",
    ),
    ContentRow(
        "N36", b"Subject: \xe9\r\n\r\n\xff\xfe\r\n.\r\n", b"Subject: \xe9\r\n\r\n\xff\xfe\r\n"
    ),
)

# Commands


@dataclass(frozen=True)
class CommandRow:
    """What a client says after the greeting, and the replies to it.

    A status is "250", "501 5.5.4", or several of these with "|" between them.
    """

    id: str
    #: Sent whole, cut everywhere, and octet by octet; VRFY and QUIT follow in the same group.
    sent: bytes
    expected: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    #: Commands before that, each answered 2yz.
    before: tuple[str, ...] = ("EHLO client.example",)
    #: The connection ends after the expected replies; what follows isn't looked at.
    ends: bool = False
    #: The content of the message that it brings, if any.
    delivers: bytes | None = None


OK = "250 2.0.0"
SENDER_OK = "250 2.1.0"
RECIPIENT_OK = "250 2.1.5"
SYNTAX = "500 5.5.2"
ARGUMENT = "501 5.5.4"
UNKNOWN_PARAMETER = "555 5.5.4"
SEQUENCE = "503 5.5.1"
BAD_SENDER = "501 5.1.7"
BAD_RECIPIENT = "501 5.1.3"
#: To message content where a command is expected.
CONTENT = "421 4.7.0"
NO_DATA = f"{SEQUENCE}|554 5.5.1"

EHLO = ("EHLO client.example",)
IN_MAIL = (*EHLO, "MAIL FROM:<a@example.org>")
IN_RCPT = (*IN_MAIL, "RCPT TO:<b@example.com>")

_ALL = {"extensions": DEFAULT_EXTENSIONS | {"DSN", "REQUIRETLS"}}
_QUEUE = {"extensions": DEFAULT_EXTENSIONS | {"DELIVERBY", "MT-PRIORITY", "FUTURERELEASE", "RRVS"}}
_MIB = {"size": 2**20}


def _line(id_: str, line: bytes | str, *expected: str, **rest: Any) -> CommandRow:
    octets = line.encode("utf-8") if isinstance(line, str) else line
    return CommandRow(id_, octets + b"\r\n", expected, **rest)


def _mail(id_: str, argument: str, expected: str, **rest: Any) -> CommandRow:
    return _line(id_, f"MAIL FROM:{argument}", expected, **rest)


def _rcpt(id_: str, argument: str, expected: str, **rest: Any) -> CommandRow:
    return _line(id_, f"RCPT TO:{argument}", expected, before=IN_MAIL, **rest)


LINES = (
    CommandRow("L01", b"NOOP a\nNOOP b\r\n", (SYNTAX,)),
    CommandRow("L01a", b"EHLO a\nb\r\n", (SYNTAX,), before=()),
    CommandRow("L01b", b"RSET\n\r\n", (SYNTAX,)),
    CommandRow("L01c", b"\nNOOP\r\n", (SYNTAX,)),
    CommandRow("L02", b"NOOP\rNOOP\r\n", (SYNTAX,)),
    CommandRow("L02a", b"NOOP\r\r\n", (SYNTAX,)),
    CommandRow("L02b", b"\rNOOP\r\n", (SYNTAX,)),
    CommandRow("L02c", b"NOOP\r\0\nNOOP\r\n", (SYNTAX,)),
    CommandRow("L04", b"MAIL FROM:<a@example.org>\nRCPT TO:<b@example.com>\r\n", (SYNTAX,)),
    CommandRow("L04a", b"QUIT\nRSET\r\nNOOP\r\n", (SYNTAX, OK)),
    CommandRow("L04b", b"MAIL FROM:<a@example.org\n>\r\n", (SYNTAX,)),
    CommandRow("L04c", b'MAIL FROM:<"a\nb"@example.org>\r\n', (SYNTAX,)),
    _line("L05", b"NOOP \xff\xfe", SYNTAX),
    _line("L05a", b"NO\xc3\xa9P", SYNTAX),
    _line("L05b", b"EHLO \xc3\xa9.example", SYNTAX),
    _line("L05c", b"MAIL FROM:<\xff@example.org> SMTPUTF8", SYNTAX),
    _line("L05d", b"NOOP\xc2\x85", SYNTAX),
    _line("L05e", b"NOOP a\x01b", ARGUMENT),
    _line("L05f", b"NOOP a\x7fb", ARGUMENT),
    _line("L05g", b"VRFY \xc3\xa9\x1b[31m", ARGUMENT),
    _line("L05h", b"VRFY \xc2\x85", ARGUMENT),
    _line("L05i", b"VRFY \xe2\x80\xa8", ARGUMENT),
    _line("L05j", b"EXPN \xc3\xa9\x00", ARGUMENT),
    _line("L05k", b"RCPT \xc2\x80TO:<b@example.com>", ARGUMENT, before=IN_MAIL),
    _line("L05l", b"MAIL FROM:<\xc3\xa9@example.org> SMTPUTF8 FOO=\xc2\x85", ARGUMENT),
    _line("L06", b"", SYNTAX),
    _line("L06a", b" ", SYNTAX),
    _line("L06b", b" NOOP", SYNTAX),
    _line("L06c", b"\tNOOP", SYNTAX),
    CommandRow("L06d", b"\r\n\r\nNOOP\r\n", (SYNTAX, SYNTAX, OK)),
    _line("L06e", b"NOOP ", OK),
    _line("L06f", b"RSET  ", OK),
    _line("L06g", b"noop", OK),
    _line("L06h", b"nOoP x", OK),
    _line("L08", b"NOOP " + b"a" * 505, OK),
    _line("L09", b"NOOP " + b"a" * 506, f"{OK}|{SYNTAX}"),
    _line("L09a", b"NOOP " + b"a" * (512 - 7), OK, options={"max_command_length": 512}),
    _line("L09b", b"NOOP " + b"a" * (513 - 7), SYNTAX, options={"max_command_length": 512}),
    _line("L09c", b"NOOP " + b"a" * (2048 - 7), OK),
    _line("L09d", b"NOOP " + b"a" * (2049 - 7), SYNTAX),
    _line("L11", b"A" * 2**20, SYNTAX),
    CommandRow("L11a", b"A" * 5000 + b"\nNOOP\r\n", (SYNTAX,)),
    CommandRow("L11b", b"A" * 5000 + b"\r\nNOOP\r\n", (SYNTAX, OK)),
    _mail("L12", f"<{'a' * 65}@example.org>", f"{BAD_SENDER}|{SENDER_OK}"),
    _mail("L12a", f"<{'a' * 64}@example.org>", SENDER_OK),
    _mail("L13", f"<a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 12}>", BAD_SENDER),
    _mail("L13a", f"<a@{'.'.join('b' * 63 for _ in range(10))}>", BAD_SENDER),
    _mail("L13b", f"<{'a' * 300}@example.org>", BAD_SENDER),
    _rcpt("L13c", f"<a@{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 60}.{'f' * 12}>", BAD_RECIPIENT),
)

ORDER = (
    _line("S01", "MAIL FROM:<a@example.org>", SEQUENCE, before=()),
    _line("S01a", "RCPT TO:<a@example.org>", SEQUENCE, before=()),
    _line("S01b", "DATA", SEQUENCE, before=()),
    _line("S01c", "NOOP", OK, before=()),
    _line("S01d", "RSET", OK, before=()),
    _line("S02", "RCPT TO:<b@example.com>", SEQUENCE),
    _line("S02a", "DATA", SEQUENCE),
    _line("S03", "DATA", NO_DATA, before=IN_MAIL),
    _line("S04", "MAIL FROM:<c@example.org>", SEQUENCE, before=IN_MAIL),
    _line("S04a", "MAIL FROM:<c@example.org>", SEQUENCE, before=IN_RCPT),
    _line("S05", "DATA foo", ARGUMENT, before=IN_RCPT),
    _line("S06", "RSET foo", ARGUMENT),
    CommandRow("S06a", b"RSET foo\r\nDATA bar\r\nRCPT TO:<c@example.com>\r\n",
               (ARGUMENT, ARGUMENT, RECIPIENT_OK), before=IN_RCPT),
    _line("S07", "QUIT now", ARGUMENT),
    _line("S08", "EHLO", ARGUMENT, before=()),
    _line("S08a", "EHLO ", ARGUMENT, before=()),
    _line("S08b", "EHLO a b", ARGUMENT, before=()),
    _line("S08c", f"EHLO {'a' * 256}", ARGUMENT, before=()),
    _line("S08d", "EHLO [127.0.0.1]", "250", before=()),
    _line("S08e", "ehlo [IPv6:::1]", "250", before=()),
    _line("S09", "HELO", ARGUMENT, before=()),
    CommandRow("S09a", b"HELO\r\nMAIL FROM:<a@example.org>\r\n", (ARGUMENT, SEQUENCE), before=()),
    CommandRow("S09b", b"HELO x\r\nMAIL FROM:<a@example.org>\r\n", ("250", SENDER_OK)),
    _line("S10", "FOOBAR", f"{SYNTAX}|500 5.5.1"),
    _line("S10a", "MAILFROM:<a@example.org>", SYNTAX),
    _line("S10h", "MAILFROM <a@example.org>", SYNTAX),
    _line("S10b", "__init__", SYNTAX),
    _line("S10c", "QUITX", SYNTAX),
    _line("S10d", "MAIL", "501 5.5.2"),
    _line("S10e", "MAIL TO:<a@example.org>", "501 5.5.2"),
    _line("S10f", "RCPT FROM:<a@example.org>", "501 5.5.2", before=IN_MAIL),
    _line("S10g", "NOOP\tx", SYNTAX),
    CommandRow("S11", b"EXPN x\r\nVRFY x\r\nTURN\r\n", ("502 5.5.1", "252 2.5.0", "502 5.5.1")),
    CommandRow("S11a", b"ETRN x\r\nSEND FROM:<a@b.example>\r\nSAML x\r\nSOML x\r\nATRN\r\n",
               ("502 5.5.1",) * 5),
    _line("S11b", "VRFY", ARGUMENT),
    _line("S11c", "HELP", "214 2.0.0"),
    _line("S11d", "HELP me", "214 2.0.0"),
    CommandRow("S15", b"EHLO y\r\nRCPT TO:<c@example.com>\r\n", ("250", SEQUENCE), before=IN_RCPT),
    CommandRow("S15a", b"HELO y\r\nRCPT TO:<c@example.com>\r\n", ("250", SEQUENCE), before=IN_RCPT),
    CommandRow("S15b", b"RSET\r\nRCPT TO:<c@example.com>\r\n", (OK, SEQUENCE), before=IN_RCPT),
    CommandRow("S15c", b"EHLO\r\nRCPT TO:<c@example.com>\r\n", (ARGUMENT, RECIPIENT_OK),
               before=IN_RCPT),
    CommandRow("S15d", b"FOO\r\nRCPT TO:<>\r\nRCPT TO:<c@example.com>\r\n",
               (SYNTAX, BAD_RECIPIENT, RECIPIENT_OK), before=IN_RCPT),
    CommandRow("P06", b"HELO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\n",
               ("250", SENDER_OK, RECIPIENT_OK), before=()),
    CommandRow("N50", b"LHLO x\r\n", ("500 5.5.1",), before=()),
    CommandRow("N50a", b"EHLO x\r\nHELO x\r\nLHLO x\r\nMAIL FROM:<a@example.org>\r\n",
               ("500 5.5.1", "500 5.5.1", "250", SENDER_OK), {"lmtp": True}, before=()),
)  # fmt: skip

PARAMETERS = (
    _mail("M01", "<a@example.org> SIZE=abc", ARGUMENT),
    _mail("M01a", "<a@example.org> SIZE=", ARGUMENT),
    _mail("M01b", "<a@example.org> SIZE", ARGUMENT),
    _mail("M01c", "<a@example.org> SIZE=0", SENDER_OK),
    _mail("M01d", "<a@example.org> size=1 body=8bitmime", SENDER_OK),
    _mail("M01e", "<a@example.org> SIZE=1 SIZE=1", ARGUMENT),
    _mail("M01f", "<a@example.org> SIZE=\uff11", ARGUMENT),
    _mail("M01g", "<a@example.org> SIZE=+1", ARGUMENT),
    _mail("M02", "<a@example.org> SIZE=99999999999999999999", "552 5.3.4"),
    _mail("M02a", "<a@example.org> SIZE=999999999999999999999", ARGUMENT),
    _mail("M04", "<a@example.org> FOO=1", UNKNOWN_PARAMETER),
    _mail("M04a", "<a@example.org> FOO", UNKNOWN_PARAMETER),
    _mail("M04b", "<a@example.org> FOO==1", ARGUMENT),
    _mail("M04c", "<a@example.org> =1", ARGUMENT),
    _mail("M04d", "<a@example.org> -A=1", ARGUMENT),
    _mail("M04e", "<a@example.org> NOTIFY=NEVER", UNKNOWN_PARAMETER, options=_ALL),
    _mail("M04f", f"<a@example.org> FOO={'a' * 1000}", UNKNOWN_PARAMETER),
    _mail("M05", "<a@example.org> BODY=FOO", f"{ARGUMENT}|{UNKNOWN_PARAMETER}"),
    _mail("M05a", "<a@example.org> BODY=7BIT", SENDER_OK),
    _mail("M05b", "<a@example.org> BODY", ARGUMENT),
    _mail("B13", "<a@example.org> BODY=BINARYMIME", f"{ARGUMENT}|{UNKNOWN_PARAMETER}"),
    _mail("M06", "<a@example.org> SMTPUTF8=1", ARGUMENT),
    _mail("M06a", "<a@example.org> SMTPUTF8", SENDER_OK),
    _mail("M07", "<a@example.org> REQUIRETLS", "530 5.7.10|550 5.7.10", options=_ALL),
    _mail("M07a", "<a@example.org> REQUIRETLS", UNKNOWN_PARAMETER),
    _mail("N33", "<a@example.org> REQUIRETLS=1", ARGUMENT, options={**_ALL, "secured": True}),
    _mail("N33a", "<a@example.org> REQUIRETLS", SENDER_OK, options={**_ALL, "secured": True}),
    _mail("M08", "<a@example.org> RET=FOO", ARGUMENT, options=_ALL),
    _mail("M08a", "<a@example.org> RET=hdrs ENVID=x", SENDER_OK, options=_ALL),
    _mail("M08b", "<a@example.org> RET=FULL", UNKNOWN_PARAMETER),
    _mail("M09", "<a@example.org> ENVID=a+0D+0AX", ARGUMENT, options=_ALL),
    _mail("M09a", "<a@example.org> ENVID=a+0d+0aX", ARGUMENT, options=_ALL),
    _mail("M09b", "<a@example.org> ENVID=a+00", ARGUMENT, options=_ALL),
    _mail("M09c", "<a@example.org> ENVID=a+1", ARGUMENT, options=_ALL),
    _mail("M09d", "<a@example.org> ENVID=a+2Bb", SENDER_OK, options=_ALL),
    _mail("N26", f"<a@example.org> ENVID={'a' * 101}", ARGUMENT, options=_ALL),
    _mail("N26a", f"<a@example.org> ENVID={'a' * 100}", SENDER_OK, options=_ALL),
    _mail("M11", "<a@example.org> SIZE=-1", ARGUMENT),
    _mail("M12", "<a@example.org> SIZE=2000000", "552 5.3.4", options=_MIB),
    _mail("M12a", f"<a@example.org> SIZE={2**20}", SENDER_OK, options=_MIB),
    _mail("M12b", f"<a@example.org> SIZE={2**20 + 1}", "552 5.3.4", options=_MIB),
    _mail("M13", "<é@example.org>", "550 5.6.7"),
    _mail("M13a", "<a@exämple.org>", "550 5.6.7"),
    _mail("M13b", "<é@example.org> SMTPUTF8", SENDER_OK),
    _mail("M13c", "<a@exämple.org> smtputf8", SENDER_OK),
    _mail("M13n", "<a@example\u3002org> SMTPUTF8", BAD_SENDER),
    _mail("M13o", "<a@example\uff0eorg> SMTPUTF8", BAD_SENDER),
    _mail("M13p", "<a@\u2488org> SMTPUTF8", BAD_SENDER),
    _mail("M13q", "<a@x\uff20example.org> SMTPUTF8", BAD_SENDER),
    _mail("M13r", "<a@x\u2100.org> SMTPUTF8", BAD_SENDER),
    _mail("M13s", "<a@exa\u200bmple.org> SMTPUTF8", BAD_SENDER),
    _mail("M13t", "<a@exa\u00admple.org> SMTPUTF8", BAD_SENDER),
    _mail("M13u", "<a@b\u00fccher.example> SMTPUTF8", SENDER_OK),
    _mail("M13v", "<a@xn--com-ge4a> SMTPUTF8", SENDER_OK),
    _rcpt("M13d", "<é@example.org>", "550 5.6.7|553 5.6.7"),
    _mail("M13e", "<é@example.org> SMTPUTF8=1", ARGUMENT + "|550 5.6.7"),
    _mail("M13f", "<é@example.org> BODY=SMTPUTF8", ARGUMENT + "|550 5.6.7"),
    _mail("M13g", '<"é SMTPUTF8 x"@example.org>', "550 5.6.7"),
    _mail("M13h", '<"é SMTPUTF8 x"@example.org> SIZE=1', "550 5.6.7"),
    _mail("M13i", '<"é SMTPUTF8 x"@example.org> SMTPUTF8', SENDER_OK),
    _mail("M13j", "<a@example.org> ENVID=é", f"{ARGUMENT}|{SYNTAX}", options=_ALL),
    _mail("M13k", "<a@example.org> AUTH=é@example.org", f"{ARGUMENT}|{SYNTAX}"),
    _mail("M13l", "<a@example.org> SIZE=é", f"{ARGUMENT}|{SYNTAX}"),
    _rcpt("M13m", "<b@example.com> ORCPT=rfc822;é@example.com", f"{ARGUMENT}|{SYNTAX}|550 5.6.7"
          "|553 5.6.7", options=_ALL),
    _mail("M29", "<a@example.org> BODY=8BITMIME", UNKNOWN_PARAMETER,
          options={"extensions": DEFAULT_EXTENSIONS - {"8BITMIME", "SMTPUTF8"}}),
    _mail("M29a", "<a@example.org> SIZE=1", UNKNOWN_PARAMETER,
          options={"extensions": DEFAULT_EXTENSIONS - {"SIZE"}}),
    _mail("M29b", "<é@example.org> SMTPUTF8", f"{UNKNOWN_PARAMETER}|550 5.6.7",
          options={"extensions": DEFAULT_EXTENSIONS - {"SMTPUTF8"}}),
    _mail("N25", "<a@b.example> AUTH=<>", SENDER_OK),
    _mail("N25a", "<a@b.example> AUTH=e+3Dmc2@example.com", SENDER_OK),
    _mail("N25b", "<a@b.example> AUTH=bad+ZZ", ARGUMENT),
    _mail("N25c", "<a@b.example> AUTH", ARGUMENT),
    _mail("N25d", "<a@b.example> AUTH=me", ARGUMENT),
    _mail("N25e", "<a@b.example> AUTH=<a@b.example>", ARGUMENT),
    _mail("N28", "<a@example.org> BY=0;R", ARGUMENT, options=_QUEUE),
    _mail("N28a", "<a@example.org> BY=-1;R", ARGUMENT, options=_QUEUE),
    _mail("N28b", "<a@example.org> BY=0;N", SENDER_OK, options=_QUEUE),
    _mail("N28c", "<a@example.org> BY=1234567890;R", ARGUMENT, options=_QUEUE),
    _mail("N28d", "<a@example.org> BY=120;R", UNKNOWN_PARAMETER),
    # No smallest time is announced.
    _mail("N29", "<a@example.org> BY=120;R", SENDER_OK, options=_QUEUE),
    _mail("N30", "<a@example.org> MT-PRIORITY=10", ARGUMENT, options=_QUEUE),
    _mail("N30a", "<a@example.org> MT-PRIORITY=-9", SENDER_OK, options=_QUEUE),
    _mail("N30b", "<a@example.org> MT-PRIORITY=+1", ARGUMENT, options=_QUEUE),
    _mail("N31", "<a@example.org> HOLDFOR=60 HOLDUNTIL=2026-12-01T00:00:00Z", ARGUMENT,
          options=_QUEUE),
    _mail("N31a", "<a@example.org> HOLDUNTIL=2020-01-01T00:00:00Z", ARGUMENT, options=_QUEUE),
    _mail("N31b", "<a@example.org> HOLDUNTIL=9999-12-31T23:59:60Z", ARGUMENT, options=_QUEUE),
    _mail("N32", "<a@example.org> HOLDFOR=604801", ARGUMENT, options=_QUEUE),
    _mail("N32a", "<a@example.org> HOLDFOR=604800", SENDER_OK, options=_QUEUE),
    _mail("N32b", "<a@example.org> HOLDFOR=0", ARGUMENT, options=_QUEUE),
    CommandRow("N35", b"RCPT TO:<c@EXAMPLE.com>\r\nRCPT TO:<c@example.net>\r\n",
               (RECIPIENT_OK, "452 4.5.3"), {"max_rcpt_domains": 1}, before=IN_RCPT),
    CommandRow("H01", b"HELO x\r\nMAIL FROM:<a@example.org> SIZE=1\r\n",
               ("250", f"{UNKNOWN_PARAMETER}|{ARGUMENT}"), before=()),
    CommandRow("H01a", b"HELO x\r\nMAIL FROM:<a@example.org> SIZE=1\r\n",
               ("250", f"{UNKNOWN_PARAMETER}|{ARGUMENT}")),
    CommandRow("H01b", b"EHLO x\r\nMAIL FROM:<a@example.org> SIZE=1\r\n", ("250", SENDER_OK),
               before=("HELO x",)),
    CommandRow("H01c", b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com> NOTIFY=NEVER\r\n",
               (SENDER_OK, f"{UNKNOWN_PARAMETER}|{ARGUMENT}"), _ALL, before=("HELO x",)),
    # A refused MAIL leaves nothing behind.
    CommandRow("M28", b"MAIL FROM:<a@example.org> SMTPUTF8 FOO=1\r\nMAIL FROM:<a@example.org>\r\n"
               b"RCPT TO:<\xc3\xa9@example.org>\r\n",
               (UNKNOWN_PARAMETER, SENDER_OK, "550 5.6.7|553 5.6.7")),
)  # fmt: skip

PATHS = (
    _mail("M15", "a@example.org", BAD_SENDER),
    _mail("M15a", "", BAD_SENDER),
    _mail("M15b", "<a@example.org", BAD_SENDER),
    _mail("M15c", "a@example.org>", BAD_SENDER),
    _mail("M15d", "<>", SENDER_OK),
    _mail("M15e", "<> SIZE=1", SENDER_OK),
    _mail("M15f", "< >", BAD_SENDER),
    _mail("M16", " <a@example.org>", f"501 5.5.2|{SENDER_OK}"),
    _line("M16a", "MAIL  FROM:<a@example.org>", "501 5.5.2|" + SENDER_OK),
    _line("M16b", "MAIL FROM :<a@example.org>", "501 5.5.2"),
    _line("M16c", "mail from:<a@example.org>  ", SENDER_OK),
    _mail("M17", "<@x.example,@y.example:a@example.org>", SENDER_OK),
    _mail("M17a", "<@x.example:a@example.org>", SENDER_OK),
    _mail("M17b", "<@x.example,y.example:a@example.org>", BAD_SENDER),
    _mail("M17c", "<@x.example:>", f"{BAD_SENDER}|{SENDER_OK}"),
    _mail("M18", "<a@example.org>junk", ARGUMENT),
    _mail("M18a", "<a@example.org>SIZE=1", ARGUMENT),
    _mail("M19", "<<a@example.org>>", BAD_SENDER),
    _mail("M19a", "<a@example.org>>", f"{ARGUMENT}|{BAD_SENDER}"),
    _mail("M20", '<"a b"@example.org>', SENDER_OK),
    _mail("M20a", '<"a\\"b>c"@example.org>', SENDER_OK),
    _mail("M20b", '<"a@example.org>', BAD_SENDER),
    _mail("M20c", '<"a"b@example.org>', BAD_SENDER),
    _mail("M20d", '<""@example.org>', SENDER_OK),
    _mail("M20e", "<a b@example.org>", BAD_SENDER),
    _mail("M20f", "<a..b@example.org>", BAD_SENDER),
    _mail("M20g", "<.a@example.org>", BAD_SENDER),
    _mail("M20h", "<a.@example.org>", BAD_SENDER),
    _mail("M20i", "<a(x)@example.org>", BAD_SENDER),
    _mail("M20j", "<a,b@example.org>", BAD_SENDER),
    _mail("M20k", "<!#$%&'*+-/=?^_`{|}~@example.org>", SENDER_OK),
    _mail("M22", "<a@[IPv6:::1]>", SENDER_OK),
    _mail("M22a", "<a@[ipv6:2001:DB8::1]>", SENDER_OK),
    _mail("M22b", "<a@[IPv6:::ffff:192.0.2.1]>", SENDER_OK),
    _mail("M22c", "<a@[192.0.2.1]>", SENDER_OK),
    _mail("M22d", "<a@[::1]>", BAD_SENDER),
    _mail("M22e", "<a@[IPv6:1:2:3:4:5:6:7:8:9]>", BAD_SENDER),
    _mail("M22f", "<a@[IPv6:fe80::1%eth0]>", BAD_SENDER),
    _mail("M22g", "<a@[IPv6:12345::1]>", BAD_SENDER),
    _mail("M22h", "<a@[]>", BAD_SENDER),
    _mail("M23", "<a@[999.1.1.1]>", BAD_SENDER),
    _mail("M23a", "<a@[1.1.1]>", BAD_SENDER),
    _mail("M23b", "<a@[1.1.1.1>", BAD_SENDER),
    _mail("M23c", "<a@1.1.1.1]>", BAD_SENDER),
    _mail("M25", "<a@b@example.org>", BAD_SENDER),
    _mail("M25a", "<a@>", BAD_SENDER),
    _mail("M25b", "<@example.org>", BAD_SENDER),
    _mail("M25c", "<a>", BAD_SENDER),
    _mail("M25d", "<a@-example.org>", BAD_SENDER),
    _mail("M25e", "<a@example-.org>", BAD_SENDER),
    _mail("M25f", "<a@example..org>", BAD_SENDER),
    _mail("M25g", "<a@exam_ple.org>", BAD_SENDER),
    _mail("M26", "<postmaster>", BAD_SENDER),
    _mail("M27", "<a@example.org>\tSIZE=1", ARGUMENT),
    _mail("M27a", "\t<a@example.org>", f"{ARGUMENT}|{BAD_SENDER}|501 5.5.2"),
    _mail("M27b", "<a\x01@example.org>", f"{ARGUMENT}|{BAD_SENDER}"),
    _mail("M27c", "<a\x00@example.org>", f"{ARGUMENT}|{BAD_SENDER}"),
    _rcpt("R01", "<>", BAD_RECIPIENT),
    _rcpt("R01a", "< >", BAD_RECIPIENT),
    _rcpt("R01b", "b@example.com", BAD_RECIPIENT),
    _rcpt("R02", "<postmaster>", RECIPIENT_OK),
    _rcpt("R02a", "<PostMaster>", RECIPIENT_OK),
    _rcpt("R02b", "<root>", BAD_RECIPIENT),
    _rcpt("R02c", "<@x.example:b@example.com>", RECIPIENT_OK),
    _rcpt("R03", "<b@example.com> NOTIFY=NEVER,SUCCESS", ARGUMENT, options=_ALL),
    _rcpt("R03a", "<b@example.com> NOTIFY=NEVER", RECIPIENT_OK, options=_ALL),
    _rcpt("R03b", "<b@example.com> NOTIFY=success,FAILURE,delay", RECIPIENT_OK, options=_ALL),
    _rcpt("R03c", "<b@example.com> NOTIFY=SUCCESS", UNKNOWN_PARAMETER),
    _rcpt("R03d", "<b@example.com> NOTIFY=SUCCESS NOTIFY=DELAY", ARGUMENT, options=_ALL),
    _rcpt("R03e", "<b@example.com> NOTIFY", ARGUMENT, options=_ALL),
    _rcpt("R05", "<b@example.com> FOO=1", UNKNOWN_PARAMETER),
    _rcpt("R05b", "<b@example.com> RRVS=2014-04-03T23:01:00Z;C", RECIPIENT_OK, options=_QUEUE),
    _rcpt("R05c", "<b@example.com> RRVS=2014-04-03", ARGUMENT, options=_QUEUE),
    _rcpt("R05a", "<b@example.com> SIZE=1", UNKNOWN_PARAMETER),
    _rcpt("R06", "<b@example.com> NOTIFY=FOO", ARGUMENT, options=_ALL),
    _rcpt("R06a", "<b@example.com> NOTIFY=SUCCESS,", ARGUMENT, options=_ALL),
    _rcpt("R07", "<b@example.com> ORCPT=rfc822;b+40example.com", RECIPIENT_OK, options=_ALL),
    _rcpt("R07a", "<b@example.com> ORCPT=b@example.com", ARGUMENT, options=_ALL),
    _rcpt("R07b", "<b@example.com> ORCPT=rfc822;a+0D+0Ab", ARGUMENT, options=_ALL),
    _rcpt("N27", f"<b@example.com> ORCPT=rfc822;{'a' * 501}", ARGUMENT, options=_ALL),
    _rcpt("N27a", f"<b@example.com> ORCPT=rfc822;{'a' * 493}", RECIPIENT_OK, options=_ALL),
    _rcpt("N27b", f"<b@example.com> ORCPT=rfc822;{'a' * 494}", ARGUMENT, options=_ALL),
)

ENDINGS = (
    CommandRow("P05", b"QUIT\r\nMAIL FROM:<evil@example.org>\r\n", ("221 2.0.0",), ends=True),
    CommandRow("P05a", b"quit \r\nMAIL FROM:<evil@example.org>\r\n", ("221 2.0.0",), ends=True),
    CommandRow("S12", b"FOO\r\n" * 30, (SYNTAX,) * 9 + ("421 4.7.0",), ends=True),
    CommandRow("S12a", b"RCPT TO:<a@b.example>\r\n" * 30, (SEQUENCE,) * 20 + ("421 4.7.0",),
               ends=True),
    CommandRow("S12b", b"RSET\r\n" * 120, (OK,) * 100 + ("421 4.7.0",), ends=True),
    CommandRow("S12c", b"NOOP\r\n" * 3, (OK, OK, "421 4.7.0"), {"max_junk_commands": 2}, ends=True),
    CommandRow("S13", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", ("421 4.7.0",), before=(), ends=True),
    CommandRow("S13a", b"post /x HTTP/1.0\r\nMAIL FROM:<evil@example.org>\r\n", ("421 4.7.0",),
               ends=True),
    CommandRow("S13c", b"POST /" + b"x" * 2048 + b" HTTP/1.1\r\nHost: x\r\n\r\nRSET\r\n",
               ("421 4.7.0",), before=(), ends=True),
    CommandRow("S13d", b"GET / HTTP/1.1\nHost: x\r\nRSET\r\n", ("421 4.7.0",), before=(),
               ends=True),
    CommandRow("S13b", b"CONNECT mx:25 HTTP/1.1\r\n\r\n", ("421 4.7.0",), before=(), ends=True),
    CommandRow("B01", b"BDAT 18 LAST\r\nSubject: x\r\n\r\nabcd", (OK,), before=IN_RCPT,
               delivers=b"Subject: x\r\n\r\nabcd"),
    CommandRow("B03", b"BDAT -1\r\n", (ARGUMENT,), before=IN_RCPT, ends=True),
    CommandRow("B04", b"BDAT 99999999999999999999\r\n", (f"{ARGUMENT}|552 5.3.4",), before=IN_RCPT,
               ends=True),
    CommandRow("B05", b"BDAT 0\r\n" * 3, (OK,) * 3, before=IN_RCPT),
    CommandRow("B05a", b"BDAT 0 LAST\r\n", (OK,), before=IN_RCPT,
               delivers=b""),
    CommandRow("B06", b"BDAT 4\r\nabcdDATA\r\n", (OK, SEQUENCE), before=IN_RCPT),
    CommandRow("B08", b"BDAT 2000\r\n" + b"x" * 2000, ("552 5.3.4",), {"size": 1024},
               before=IN_RCPT),
    CommandRow("B08a", b"BDAT 2000\r\n" + b"RSET\r\nx\n" * 250 + b"BDAT 6 LAST\r\nRSET\r\n",
               ("552 5.3.4", SEQUENCE), {"size": 1024}, before=IN_RCPT),
    CommandRow("B09", b"BDAT +5\r\nQUIT\r\n", (ARGUMENT,), before=IN_RCPT, ends=True),
    CommandRow("B10", b"bdat 5 last\r\nQUIT\r", (OK,), before=IN_RCPT,
               delivers=b"QUIT\r\n"),
    CommandRow("B10a", b"BDAT\r\nQUIT\r\n", (ARGUMENT,), before=(), ends=True),
    CommandRow("B10b", b"BDAT 5 \xff\r\nQUIT\r\n", (ARGUMENT,), before=IN_RCPT, ends=True),
    CommandRow("B10c", b"BDAT 5\x01\r\nQUIT\r\n", (ARGUMENT,), before=IN_RCPT, ends=True),
    CommandRow("B10d", b"BDAT 6 LAST\r\nRSET\r\n", ("502 5.5.1",), {"disabled_commands": ("BDAT",)},
               before=IN_RCPT),
    CommandRow("B10e", b"BDAT 6 LAST\r\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10f", b"bdat 6 LAST\nRSET\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10g", b"BDAT 6 " + b" " * 2048 + b"LAST\r\nRSET\r\n", (SYNTAX,),
               before=IN_RCPT, ends=True),
    CommandRow("B10h", b"BDAT 6 LAST\r\nRSET\r\n", (SEQUENCE,), before=()),
    CommandRow("B10i", b"BDAT 6 LAST\r\nRSET\r\n", (SEQUENCE,), before=IN_MAIL),
    CommandRow("B10j", b"BDAT " + b"0" * 30 + b"6 LAST\r\nRSET\r\n", (OK,), before=IN_RCPT,
               delivers=b"RSET\r\n"),
    CommandRow("B10k", b"BDAT 6 LAST x\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n", (ARGUMENT, SEQUENCE),
               before=IN_RCPT),
    CommandRow("B10l", b"BDAT 4\r\nRSETBDAT 6 FIRST\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\n",
               (OK, ARGUMENT, SEQUENCE), before=IN_RCPT),
    CommandRow("B10m", b"BDAT 6  LAST\r\nRSET\r\n", (ARGUMENT,), before=()),
    CommandRow("B10n", b"BDAT\t6\tLAST\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10o", b" BDAT 6 LAST\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10p", b"bdat: 6 LAST\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10q", b"BDAT6 LAST\nRSET\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("B10r", b"HELO me\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.com>\r\n"
               b"BDAT 6 LAST\r\nRSET\r\n", ("250", SENDER_OK, RECIPIENT_OK, SEQUENCE), before=()),
    CommandRow("B11", b"BDAT 4\r\nabcdRSET\r\nRCPT TO:<b@example.com>\r\n", (OK, OK, SEQUENCE),
               before=IN_RCPT),
    CommandRow("B12", b"BDAT 4\r\nRSETMAIL FROM:<evil@example.org>\r\n", (OK, SEQUENCE),
               before=IN_RCPT),
    CommandRow("B13b", b"MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@example.com>\r\nDATA\r\n",
               (SENDER_OK, RECIPIENT_OK, SEQUENCE),
               {"extensions": DEFAULT_EXTENSIONS | {"BINARYMIME"}}),
    CommandRow("B13a", b"MAIL FROM:<> BODY=BINARYMIME\r\n", (f"{ARGUMENT}|555 5.5.4",)),
    CommandRow("B14", b"BDAT 84 LAST\r\nRSET\r\nMAIL FROM:<evil@example.org>\r\n"
               b"RCPT TO:<b@example.com>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n", (OK,),
               before=IN_RCPT,
               delivers=b"RSET\r\nMAIL FROM:<evil@example.org>\r\nRCPT TO:<b@example.com>\r\n"
               b"DATA\r\nSubject: x\r\n\r\n.\r\n"),
    CommandRow("B14a", b"BDAT 6\r\nRSET\r\nBDAT 6 LAST\r\nQUIT\r\nBDAT 4 LAST\r\nRSET",
               (OK, OK, SEQUENCE), before=IN_RCPT,
               delivers=b"RSET\r\nQUIT\r\n"),
    CommandRow("N38", b"BDAT 6 LAST\r\na\nb\r\r\n", (OK,), before=IN_RCPT,
               delivers=b"a\r\nb\r\n"),
    CommandRow("N38a", b"BDAT 6 LAST\r\na\nb\r\r\n", ("550 5.5.2",),
               {"chunk_bare_newline": "reject"}, before=IN_RCPT),
    CommandRow("X02", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + b"\x7f" * 12,
               (SYNTAX, SYNTAX, SYNTAX), before=(), ends=True),
)  # fmt: skip

# The beginning of a TLS 1.3 ClientHello; its random octets may be any.
_CLIENT_HELLO = b"\x16\x03\x01\x00\x47\x01\x00\x00\x43\x03\x03\n\r\nRSET\r\nNOOP\r\n"

# What a client sends that believes to be somewhere else: in TLS, or in the content of a message.
# What follows may have lines that are commands.
ELSEWHERE = (
    CommandRow("F01", _CLIENT_HELLO, (SYNTAX,), ends=True),
    CommandRow("F01a", _CLIENT_HELLO, (SYNTAX,), before=(), ends=True),
    CommandRow("F01b", _CLIENT_HELLO, (SYNTAX,), {"bare_newline": "normalize"}, ends=True),
    CommandRow("F01c", _CLIENT_HELLO, (SYNTAX,), {"bare_newline": "allow"}, ends=True),
    CommandRow("F01d", b"\x16\x03\x03\r\nRSET\r\n", (SYNTAX,), before=IN_RCPT, ends=True),
    CommandRow("F01e", b"\x03\0\0\x2aCookie: mstshash=x\r\nRSET\r\n", (SYNTAX,), ends=True),
    CommandRow("F02", b"Subject: x\r\n\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F02a", b"Received: from x\r\nRSET\r\n", (CONTENT,), before=(), ends=True),
    CommandRow("F02b", b"x-odd_name! \t:\r\nRSET\r\n", (CONTENT,), before=IN_RCPT, ends=True),
    CommandRow("F02c", b"RSET:\r\nRSET\r\n", (SYNTAX, OK)),
    _line("F02d", "From sender: x", SYNTAX),
    _line("F02e", ": x", SYNTAX),
    CommandRow("F02f", b"Sender: x\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F02g", b"Authentication-Results: x\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F02h", b"Mail-Followup-To: x\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F02i", b"RCPT-TO:<b@example.com>\r\nRSET\r\n", (SYNTAX, OK)),
    CommandRow("F02j", b"Subject: x\nRSET\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F02k", b"Received: " + b"x" * 2048 + b"\r\nRSET\r\n", (CONTENT,), ends=True),
    CommandRow("F03", b"DATA\r\nSubject: x\r\n\r\nRSET\r\n.\r\n", (NO_DATA, CONTENT),
               before=IN_MAIL, ends=True),
    CommandRow("F03a", b"DATA\r\nX-A: b\r\n\r\nRSET\r\n.\r\n", (SEQUENCE, CONTENT), ends=True),
    CommandRow("F03h", b"DATA\r\nDATA\r\nRSET\r\nFOO\r\n", (NO_DATA, NO_DATA, OK, SYNTAX),
               before=IN_MAIL),
)  # fmt: skip

PROXIES = (
    _line("X01", "PROXY TCP4 192.0.2.1 192.0.2.2 1 25", SYNTAX, before=()),
    _line("X01a", "PROXY UNKNOWN", SYNTAX, before=()),
    _line("X03", "XCLIENT ADDR=192.0.2.1", "550 5.7.0|502 5.5.1|500 5.5.2"),
    _line("X03a", "XFORWARD ADDR=192.0.2.1", "550 5.7.0|502 5.5.1|500 5.5.2"),
    _line(
        "X03b",
        "XCLIENT ADDR=192.0.2.1",
        "550 5.7.0",
        options={"use_xclient": ["192.0.2.0/24"]},
    ),
    _line("N48", "XCLIENT ADDR=192.0.2.1", SEQUENCE, before=IN_MAIL, options={"use_xclient": True}),
    _line(
        "N48a",
        "XFORWARD ADDR=192.0.2.2",
        SEQUENCE,
        options={"use_xclient": True, "use_xforward": True},
        before=(*EHLO, "XCLIENT ADDR=192.0.2.1", *EHLO),
    ),
    _line("N48b", "XCLIENT FOO=1", ARGUMENT, options={"use_xclient": True}),
    _line("N48c", "XCLIENT ADDR=nonsense", ARGUMENT, options={"use_xclient": True}),
    _line("N48d", "XCLIENT", ARGUMENT, options={"use_xclient": True}),
    _line("N48e", "XCLIENT NAME=a+0D+0Ab", ARGUMENT, options={"use_xclient": True}),
    _line("N48f", "XCLIENT ADDR=192.0.2.1 PORT=99999", ARGUMENT, options={"use_xclient": True}),
    CommandRow(
        "N48g",
        b"XCLIENT ADDR=IPv6:2001:DB8::1 NAME=x.example\r\nMAIL FROM:<a@example.org>\r\n",
        ("220", SEQUENCE),
        {"use_xclient": True},
    ),
    CommandRow(
        "N48h",
        b"XCLIENT ADDR=192.0.2.1\r\nXCLIENT ADDR=192.0.2.2\r\n",
        ("220", SEQUENCE),
        {"use_xclient": True},
    ),
)

_ACCEPT_ALL = {"on_auth": lambda auth, session: auth.username, "auth_optional": True}
_CRAM = {**_ACCEPT_ALL, "auth_methods": ("PLAIN", "CRAM-MD5")}
_DEMANDED = {"on_auth": lambda auth, session: auth.username}
PLAIN = b"AGFsaWNlAHNlY3JldA=="  # NUL alice NUL secret

AUTHENTICATION = (
    _line("A02", "AUTH FOO", "504 5.5.4", options=_ACCEPT_ALL),
    _line("A02a", "AUTH", ARGUMENT, options=_ACCEPT_ALL),
    _line("A02b", "AUTH PLAIN a b", ARGUMENT, options=_ACCEPT_ALL),
    _line("A02c", "AUTH CRAM-MD5", "504 5.5.4", options=_ACCEPT_ALL),
    _line("A02d", "AUTH PLAIN", "502 5.5.1"),
    CommandRow("A03", b"AUTH PLAIN\r\n*\r\n", ("334", "501 5.7.0"), _ACCEPT_ALL),
    CommandRow("A03a", b"AUTH LOGIN\r\nYWxpY2U=\r\n*\r\n", ("334", "334", "501 5.7.0"),
               _ACCEPT_ALL),
    CommandRow("A03b", b"AUTH PLAIN\r\nNOOP x\r\nNOOP\r\n", ("334", "501 5.5.2", OK), _ACCEPT_ALL),
    _line("A04", "AUTH PLAIN !!!!", "501 5.5.2", options=_ACCEPT_ALL),
    _line("A04a", "AUTH PLAIN AGFsaWNlAHNlY3JldA", "501 5.5.2", options=_ACCEPT_ALL),
    _line("A04b", "AUTH PLAIN AGFsaWNlAHNlY3JldB==", "501 5.5.2", options=_ACCEPT_ALL),
    CommandRow("A04c", b"AUTH PLAIN\r\n!!!!\r\n", ("334", "501 5.5.2"), _ACCEPT_ALL),
    CommandRow("A04d", b"AUTH PLAIN\r\n \r\n", ("334", "501 5.5.2"), _ACCEPT_ALL),
    CommandRow("A04e", b"AUTH PLAIN\r\n" + PLAIN + b" \r\n", ("334", "501 5.5.2"), _ACCEPT_ALL),
    CommandRow("A04f", b"AUTH PLAIN\r\nAGF\nsaWNlAHNlY3JldA==\r\n", ("334", SYNTAX), _ACCEPT_ALL),
    CommandRow("A04g", b"AUTH PLAIN\r\n\xff\xfe\r\n", ("334", "501 5.5.2|500 5.5.2"), _ACCEPT_ALL),
    _line("A06", "AUTH PLAIN =", "501 5.5.2|535 5.7.8", options=_ACCEPT_ALL),
    CommandRow("A06a", b"AUTH PLAIN\r\n\r\n", ("334", "501 5.5.2|535 5.7.8"), _ACCEPT_ALL),
    CommandRow("A08", b"AUTH PLAIN\r\n" + b"A" * 20000 + b"\r\n", ("334", "500 5.5.6"),
               _ACCEPT_ALL),
    CommandRow("A08a", b"AUTH PLAIN " + b"A" * 20000 + b"\r\n", ("500 5.5.2|500 5.5.6",),
               _ACCEPT_ALL),
    CommandRow("A08b", b"AUTH LOGIN\r\nYWxpY2U=\r\n" + b"QUFB" * 3072 + b"\r\n",
               ("334", "334", "500 5.5.6"), _ACCEPT_ALL),
    CommandRow("A08c", b"AUTH LOGIN\r\nYWxpY2U=\r\n" + b"QUFB" * 3071 + b"\r\n",
               ("334", "334", "235 2.7.0"), _ACCEPT_ALL),
    CommandRow("A09", b"AUTH PLAIN " + PLAIN + b"\r\nAUTH PLAIN " + PLAIN + b"\r\n",
               ("235 2.7.0", SEQUENCE), _ACCEPT_ALL),
    CommandRow("A09a", b"auth plain " + PLAIN + b"\r\n", ("235 2.7.0",), _ACCEPT_ALL),
    CommandRow("A09b", b"AUTH PLAIN\r\n" + PLAIN + b"\r\nEHLO y\r\n", ("334", "235 2.7.0", "250"),
               _ACCEPT_ALL),
    _line("A10", b"AUTH PLAIN " + PLAIN, SEQUENCE, options=_ACCEPT_ALL, before=IN_MAIL),
    _line("A10a", b"AUTH PLAIN " + PLAIN, SEQUENCE, options=_ACCEPT_ALL, before=()),
    _line("A12", b"MAIL FROM:<a@example.org>", "530 5.7.0", options=_DEMANDED),
    _line("A12a", b"RCPT TO:<a@example.org>", "530 5.7.0", options=_DEMANDED),
    _line("A13", b"AUTH CRAM-MD5 " + PLAIN, "501 5.7.0", options=_CRAM),
    CommandRow("A13a", b"AUTH CRAM-MD5\r\n" + PLAIN + b"\r\n", ("334", "501 5.5.2"), _CRAM),
    CommandRow("A14", b"AUTH PLAIN\r\n" + PLAIN + b"\r\nMAIL FROM:<a@example.org>\r\n",
               ("334", "235 2.7.0", SENDER_OK), _DEMANDED),
)  # fmt: skip

COMMAND_ROWS = (
    *LINES,
    *ORDER,
    *PARAMETERS,
    *PATHS,
    *ENDINGS,
    *ELSEWHERE,
    *PROXIES,
    *AUTHENTICATION,
)
