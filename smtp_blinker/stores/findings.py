"""What policies found out about a message, as trace fields of the stored file."""

from __future__ import annotations

from ..session import Session
from ..trace import policy_result
from .entry import json_ready


def findings_fields(session: Session) -> bytes:
    """A field for each policy that judged the client or the message, in CRLF lines.

    Limits that let the message pass have found nothing.
    """
    if not session.results and not session.envelope.results:
        return b""
    found = json_ready({**session.results, **session.envelope.results})
    return b"".join(
        policy_result(name, result)
        for name, result in found.items()
        if not (isinstance(result, dict) and result.get("verdict") == "allowed")
    )
