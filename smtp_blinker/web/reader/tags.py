"""Tags: those that a message brings, and those that people put on it.

A message brings those of its fields X-Tags and Keywords (RFC 5322 section 3.6.5), and the detail of
its recipients: ``ada+welcome@example.com`` (RFC 5233). Those by hand are letters among the flags of
the file's name, and the file ``dovecot-keywords`` says what they stand for: as Dovecot has them, so
that they are keywords for who reads the same Maildir by IMAP.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

#: Tags that a message may bring, and characters of one.
MOST: Final = 20
MAX_TAG: Final = 40
#: What a tag by hand may be: an IMAP keyword (RFC 9051 section 9, atom) that needs no quotes.
BY_HAND: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_TAG - 1}}}")
#: The letters that Dovecot has for them.
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"

_FILE: Final = "dovecot-keywords"
_NO_TAG: Final = re.compile(r"[^\w.-]+")


def brought(fields: Iterable[str], recipients: Iterable[str]) -> list[str]:
    """The tags in the texts of *fields*, between commas, and in the details of *recipients*."""
    found: dict[str, None] = {}
    for text in (*_listed(fields), *_details(recipients)):
        tag = _NO_TAG.sub("-", text.strip())[:MAX_TAG].strip("-")
        if tag:
            found[tag.casefold()] = None
        if len(found) == MOST:
            break
    return list(found)


def _listed(fields: Iterable[str]) -> Iterator[str]:
    for text in fields:
        yield from text[: MOST * MAX_TAG].split(",")[:MOST]


def _details(recipients: Iterable[str]) -> Iterator[str]:
    for address in recipients:
        _, plus, detail = address.rpartition("@")[0].partition("+")
        if plus:
            yield detail[:MAX_TAG]


class Full(Exception):
    """All letters are in use for tags by hand."""


class Keywords:
    """The tags by hand of the Maildir at *path*: which letter of a file's name is which."""

    def __init__(self, path: str) -> None:
        self._path = os.path.join(path, _FILE)
        self._stamp = 0
        self.names: dict[str, str] = {}

    def read(self) -> bool:
        """Read the file if it has changed; whether it had. One that can't be read is empty."""
        try:
            stamp = os.stat(self._path).st_mtime_ns
        except OSError:
            stamp = 0
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        self.names = {}
        with suppress(OSError), open(self._path, encoding="utf-8", errors="replace") as file:
            for line in file.read(65536).splitlines():
                number, _, name = line.partition(" ")
                if (
                    number.isascii()
                    and number.isdigit()
                    and int(number[:3]) < len(LETTERS)
                    and name
                ):
                    self.names[LETTERS[int(number[:3])]] = name[:MAX_TAG]
        return True

    def of(self, flags: str) -> list[str]:
        """The tags that a file's flags name."""
        return [self.names[letter].casefold() for letter in flags if letter in self.names]

    def letter(self, tag: str, *, add: bool) -> str | None:
        """The letter of *tag*; with *add* it gets one. Raises `Full`, or the OSError of writing."""
        for letter, name in self.names.items():
            if name.casefold() == tag.casefold():
                return letter
        if not add:
            return None
        free = [letter for letter in LETTERS if letter not in self.names]
        if not free:
            raise Full
        self._write({**self.names, free[0]: tag})
        self.read()
        return free[0]

    def _write(self, names: dict[str, str]) -> None:
        new = f"{self._path}.new"
        with open(new, "w", encoding="utf-8") as file:
            for letter, name in sorted(names.items()):
                file.write(f"{LETTERS.index(letter)} {name}\n")
        os.replace(new, self._path)
