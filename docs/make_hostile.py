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

Each row is a test. It sends its octets to a real server over a socket: whole, octet by octet, cut at
every place, and cut at random. Afterwards the server must serve a new client. `docs/make_hostile.py`
makes this page from the rows.

## Content

These octets follow 354. With `bare_newline="reject"`, the default, the server reads a message with a
bare CR or LF to its true end and refuses it with 550 5.5.2. With *normalize* the program gets CRLF at
every line end, with *allow* the unchanged octets. With all three, only CRLF `.` CRLF ends a message.

| row | octets | reject | the program gets with normalize |
| --- | --- | --- | --- |
"""

MIDDLE = """
## Commands

The octets follow the commands in the second column. "close" means that the server closes the connection.

| row | after | octets | replies |
| --- | --- | --- | --- |
"""

TAIL = """
## Time, number and trust

| row | the client or program | the result |
| --- | --- | --- |
| N01 | sends a command one octet at a time | 421 4.4.2 when `socket_timeout` has passed since the last reply; single octets don't extend it |
| N02 | sends its content slowly | 421 4.4.2 when `data_timeout` has passed; nothing is delivered |
| N03 | sends nothing | 421 4.4.2 after `socket_timeout` |
| N04 | never reads its replies | the server buffers 16 KiB of replies, then stops reading; the connection ends after `socket_timeout` |
| N05, N07 | more clients than `max_clients_per_ip`, `max_clients` | 421 4.7.0, 421 4.3.2, before TLS |
| N10 | RST or FIN inside content | the hook's `read` raises `ConnectionError`; nothing is delivered; `on_close` runs |
| N11 | more than 100 Received fields | 554 5.4.6 |
| N12 | a header line of 200 KB | 250: the server doesn't parse header lines, and holds 64 KiB of a message at a time |
| N14 | a ClientHello for TLS 1.1 or older | alert, close |
| N15 | STARTTLS and then nothing | close after `handshake_timeout`; other clients are served meanwhile |
| N19 | a command in plain text to an implicit TLS port | close without an SMTP reply |
| N20 | AUTH in the same segment as STARTTLS | AUTH is discarded |
| N22 | PLAIN with an authzid that isn't the authcid | `on_auth` decides; 535 5.7.8 if it doesn't read `authzid` |
| N23 | XOAUTH2 or OAUTHBEARER that fails | 334 with the JSON, then 535 5.7.8, whatever the client answers |
| N41, N43, N47 | a missing, invalid or too long PROXY header, or one from a peer that isn't in `use_proxy` | close without a greeting |
| N42, N44 | PROXY UNKNOWN, LOCAL | the server uses the socket's own address |
| N46 | PROXY header and EHLO in one segment | EHLO is answered after the greeting |
| N48 | XCLIENT or XFORWARD in a transaction, or after XCLIENT ADDR | 503 5.5.1 |
| N49 | a hook that raises, or exceeds `hook_timeout` | 451 4.3.0; the session continues |
| N51 | LMTP, three of five recipients accepted | three replies after the dot, in the order of the recipients |
| N52 | the program calls `stop` | idle clients get 421 4.3.2 at once; a client that sends content gets its reply, then 421 |
| N55 | a million empty lines | 500 5.5.2 nine times, then 421 4.7.0: the limit is ten unrecognised commands |
| N56 | a command that ends with a bare LF, then silence | 500 5.5.2, close: later octets are never read as a command |
"""


def octets(data: bytes) -> str:
    """*data* as a table cell: printable, and at most 90 characters."""
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
