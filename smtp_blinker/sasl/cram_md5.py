"""CRAM-MD5 (RFC 2195)."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

from ..session import Credentials
from ..smtp.reply import Reject
from .mechanism import Ask, Facts, Mechanism, check_name, decode_text, malformed

_RESPONSE: Final = re.compile(r"(.+) ([0-9A-Fa-f]{32})")


def cram_md5(initial: bytes | None, facts: Facts) -> Mechanism:
    """RFC 2195 section 2. The challenge comes from the system's random source."""
    if initial is not None:
        # RFC 4954 section 4: no initial response if the server sends the first data.
        raise Reject(501, "CRAM-MD5 takes no initial response", "5.7.0")
    text = f"<{secrets.token_hex(16)}.{int(time.time())}@{facts.server_name}>"
    challenge = text.encode("ascii", "replace")
    found = _RESPONSE.fullmatch(decode_text((yield challenge)))
    if found is None:
        raise malformed("CRAM-MD5 takes a user name, a space and a digest of 32 hex digits")
    credentials = Credentials(
        "CRAM-MD5",
        check_name(found[1]),
        challenge=challenge.decode("ascii"),
        challenge_response=found[2].lower(),
    )
    return (yield Ask(credentials))
