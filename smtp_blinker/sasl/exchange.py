"""SASL exchanges without I/O (RFC 4422, RFC 4954).

They take the client's lines, and return challenges and questions to the program.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, Final

from ..smtp.reply import AUTHENTICATED, Refusal, Reject, Reply
from .cram_md5 import cram_md5
from .external import external
from .mechanism import Facts, Mechanism, Question
from .oauth import oauthbearer, xoauth2
from .plain import login, plain
from .scram import scram_sha_1, scram_sha_256

#: The mechanisms. Each is called with the initial response or None, and the facts.
MECHANISMS: Final[dict[str, Callable[[bytes | None, Facts], Mechanism]]] = {
    "PLAIN": plain,
    "LOGIN": login,
    "CRAM-MD5": cram_md5,
    "XOAUTH2": xoauth2,
    "OAUTHBEARER": oauthbearer,
    "SCRAM-SHA-256": scram_sha_256,
    "SCRAM-SHA-1": scram_sha_1,
    "EXTERNAL": external,
}

# RFC 4648 section 4, with padding. b64decode alone would ignore octets outside the alphabet.
_BASE64: Final = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII
)


def decode_base64(text: bytes) -> bytes:
    """Decode *text*; raises Reject 501 5.5.2 unless it is base64 in its canonical form."""
    if _BASE64.fullmatch(text):
        try:
            decoded = base64.b64decode(text)
        except binascii.Error:
            pass
        else:
            if base64.b64encode(decoded) == text:
                return decoded
    raise Reject(501, "Cannot decode the response: not base64", "5.5.2")


class Exchange:
    """One AUTH exchange.

    Each method returns the next step: a 334 reply; a question to the program, after which the
    caller calls `answer` or `refuse`; or AUTHENTICATED at the end, when `user` is set. Each raises
    Refusal if the exchange fails.
    """

    __slots__ = ("_facts", "_mechanism", "has_failed", "method", "user", "username")

    def __init__(self, method: str, facts: Facts) -> None:
        self.method = method
        #: None until the client has sent it.
        self.username: str | None = None
        #: Whether the credentials were refused. The client may not have got the reply yet.
        self.has_failed = False
        self.user: Any = None
        self._facts = facts
        self._mechanism: Mechanism | None = None

    def begin(self, initial: bytes | None) -> Reply | Question:
        """Start the exchange; *initial* is the initial response in base64, or None."""
        if initial is not None:
            # RFC 4954 section 4: "=" is an empty initial response.
            initial = b"" if initial == b"=" else decode_base64(initial)
        self._mechanism = MECHANISMS[self.method](initial, self._facts)
        return self.answer(None)

    def respond(self, line: bytes) -> Reply | Question:
        """Continue with a *line* of the client, without its CRLF."""
        try:
            if line == b"*":
                raise Reject(501, "Authentication cancelled", "5.7.0")  # RFC 4954 section 4
            response = decode_base64(line)
        except Reject as refusal:
            return self.refuse(refusal)
        return self.answer(response)

    def answer(self, value: Any) -> Reply | Question:
        """Continue with the answer to a question; see `Mechanism` for the *value*."""
        assert self._mechanism is not None
        return self._go_on(self._mechanism.send, value)

    def refuse(self, refusal: Refusal) -> Reply | Question:
        """Continue with a refusal. The mechanism may send one more challenge before it raises."""
        assert self._mechanism is not None
        # Without the traceback: a program may keep the exception, whose frames hold the session.
        return self._go_on(self._mechanism.throw, refusal.with_traceback(None))

    def _go_on(self, resume: Callable[[Any], bytes | Question], value: Any) -> Reply | Question:
        try:
            yielded = resume(value)
        except StopIteration as done:
            self.user = done.value
            return AUTHENTICATED
        if isinstance(yielded, bytes):
            return Reply(334, base64.b64encode(yielded).decode("ascii"))
        return yielded
