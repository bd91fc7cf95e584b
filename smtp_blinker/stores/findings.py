"""The results of policies as trace fields of a stored message."""

from __future__ import annotations

from ..session import Session
from ..trace import policy_result
from .entry import json_ready


def findings_fields(session: Session) -> bytes:
    """An X-Policy-Result field for each policy that judged the client or the message, with CRLF.

    Limits have one only if they refused something.
    """
    if not session.results and not session.envelope.results:
        return b""
    found = json_ready({**session.results, **session.envelope.results})
    return b"".join(
        policy_result(name, result)
        for name, result in found.items()
        if not (isinstance(result, dict) and result.get("verdict") == "allowed")
    )
