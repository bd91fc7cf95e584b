"""Errors about URLs from the command line or a program."""

from __future__ import annotations


def wrong_url(wanted: str, url: str) -> ValueError:
    """The error for *url*; *wanted* says how one looks. It shows no password."""
    return ValueError(f"the URL must be {wanted}, not {shown(url)!r}")


def shown(url: str) -> str:
    """*url*, which may be no URL at all, without the user and the password."""
    before, at, host = url.rpartition("@")
    scheme, slashes, _ = before.partition("//")
    return f"{scheme if slashes else ''}{slashes}***{at}{host}" if at else url
