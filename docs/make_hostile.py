"""Prints docs/hostile.md from the rows that the tests replay: python docs/make_hostile.py

A test compares its output with the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hostile_rows import COMMAND_ROWS, CONTENT_ROWS, CommandRow

HEAD = """\
# Hostile and odd input: what is sent, and what it gets

Each row is a test: its octets go to a real server over a socket, whole, octet by octet, cut at
every place and at random, and a fresh client is served afterwards. This page is made from the
rows by `docs/make_hostile.py`.

## Content

What stands behind 354. Under *reject*, the default, a message with a bare CR or LF is read to its
true end and refused with 550 5.5.2; under *normalize* the program gets CRLF throughout, under
*allow* the octets as they came. Under none of them does anything but CRLF `.` CRLF end it.

| row | octets | reject | the program gets under normalize |
| --- | --- | --- | --- |
"""

MIDDLE = """
## Commands

After the commands in the second column. A connection that ends is marked so.

| row | after | octets | replies |
| --- | --- | --- | --- |
"""

TAIL = """
## Time, number and trust

| row | what is done | what comes of it |
| --- | --- | --- |
| N01 | a command that comes an octet at a time | 421 4.4.2 when `socket_timeout` has passed since the last reply; no octet extends it |
| N02 | content that trickles | 421 4.4.2 when `data_timeout` has passed; nothing is delivered |
| N03 | silence | 421 4.4.2 after `socket_timeout` |
| N04 | a client that never reads its replies | 16 KiB of replies are kept, then reading stops; the connection ends after `socket_timeout` |
| N05, N07 | more clients than `max_clients_per_ip`, `max_clients` | 421 4.7.0, 421 4.3.2, before TLS |
| N10 | RST or FIN inside content | the hook's `read` raises `ConnectionError`; nothing is delivered; `on_close` runs |
| N11 | more than 100 Received fields | 554 5.4.6 |
| N12 | a header line of 200 KB | 250: header lines aren't parsed, and a message is held 64 KiB at a time |
| N14 | a ClientHello for TLS 1.1 or older | alert, close |
| N15 | STARTTLS and then nothing | closed after `handshake_timeout`; others are served meanwhile |
| N19 | a command in plain text to an implicit TLS port | close without a word of SMTP |
| N20 | AUTH in the segment of STARTTLS | thrown away |
| N22 | PLAIN with an authzid that isn't the authcid | `on_auth` decides; 535 5.7.8 if it doesn't look at `authzid` |
| N23 | XOAUTH2 or OAUTHBEARER that fails | 334 with the JSON, then 535 5.7.8 whatever the client answers |
| N41, N43, N47 | no, a broken or an overlong PROXY header, or one from a peer not named | close without a greeting |
| N42, N44 | PROXY UNKNOWN, LOCAL | the socket's own address counts |
| N46 | PROXY header and EHLO in one segment | EHLO is answered after the greeting |
| N48 | XCLIENT or XFORWARD in a transaction, or after XCLIENT ADDR | 503 5.5.1 |
| N49 | a hook that raises, or passes `hook_timeout` | 451 4.3.0; the connection goes on |
| N51 | LMTP, three of five recipients accepted | three replies after the dot, in their order |
| N52 | `stop` | idle clients 421 4.3.2 at once; content under way gets its reply, then 421 |
| N55 | a million empty lines | 500 5.5.2 nine times, then 421 4.7.0: ten unrecognised commands are enough |
| N56 | a command that ends with a bare LF, and silence | 500 5.5.2, close: what comes later is never read as a command |
"""


def octets(data: bytes) -> str:
    """*data* as a table cell: printable, and not longer than one reads."""
    text = data.decode("latin-1").encode("unicode_escape").decode("ascii")
    if len(text) > 90:
        text = f"{text[:60]}… ({len(data)} octets)"
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def command_cell(row: CommandRow) -> str:
    replies = ", ".join(status.replace("|", " or ") for status in row.expected)
    return replies + (", close" if row.ends else "")


def page() -> str:
    lines = [HEAD]
    for row in CONTENT_ROWS:
        verdict = "250" if row.clean else "550 5.5.2"
        lines.append(f"| {row.id} | {octets(row.sent)} | {verdict} | {octets(row.normalized)} |\n")
    lines.append(MIDDLE)
    for command in COMMAND_ROWS:
        before = ", ".join(command.before) or "the greeting"
        lines.append(
            f"| {command.id} | {before} | {octets(command.sent)} | {command_cell(command)} |\n"
        )
    lines.append(TAIL)
    return "".join(lines)


if __name__ == "__main__":
    sys.stdout.write(page())
