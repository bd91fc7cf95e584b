"""Opens the file of users who may log in."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from smtp_blinker.users import UserFile

from .settings import Settings, Unusable


def open_users(settings: Settings) -> UserFile | None:
    if settings.accept_any_auth:
        if settings.users is not None:
            raise Unusable("give either --users or --accept-any-auth, not both")
        return None
    if settings.users is None:
        if settings.require_auth:
            raise Unusable("--require-auth needs --users, the file of those who may log in")
        return None
    try:
        return UserFile(settings.users)
    except FileNotFoundError as exc:
        command = f"{program_command()} adduser NAME --users {shlex.quote(settings.users)}"
        raise Unusable(f"--users: there is no {settings.users}; make it with: {command}") from exc
    except OSError as exc:
        raise Unusable(f"can't read {settings.users}: {exc.strerror}; see --users") from exc
    except ValueError as exc:
        raise Unusable(f"{exc}; correct the line or write it with adduser") from exc


def program_command() -> str:
    """A shell command that runs this program."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m smtp_blinker"
    return f"{shlex.quote(sys.executable)} {shlex.quote(sys.argv[0])}"
