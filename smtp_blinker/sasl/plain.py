"""PLAIN and LOGIN: the client sends the password itself."""

from __future__ import annotations

from ..session import Credentials
from .mechanism import Ask, Facts, Mechanism, decode_name, decode_text, malformed


def plain(initial: bytes | None, facts: Facts) -> Mechanism:
    """RFC 4616: authzid NUL authcid NUL passwd."""
    response = (yield b"") if initial is None else initial
    parts = response.split(b"\0")
    if len(parts) != 3:
        raise malformed("PLAIN takes authzid NUL authcid NUL password")
    authzid, authcid = decode_name(parts[0]), decode_name(parts[1])
    # Some clients send their name as the authzid and leave the authcid empty.
    username = authcid or authzid
    if not username:
        raise malformed("no user name")
    password = decode_text(parts[2])
    return (
        yield Ask(
            Credentials("PLAIN", username, password=password, authcid=authcid, authzid=authzid)
        )
    )


def login(initial: bytes | None, facts: Facts) -> Mechanism:
    """draft-murchison-sasl-login: two prompts. The command may contain the name already."""
    username = decode_name((yield b"Username:") if initial is None else initial)
    if not username:
        raise malformed("no user name")
    password = decode_text((yield b"Password:"))
    if "\0" in password:
        raise malformed("NUL in the password")
    return (yield Ask(Credentials("LOGIN", username, password=password)))
