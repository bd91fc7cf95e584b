"""SASL exchanges as pure objects (RFC 4422, RFC 4954): lines in; challenges, and questions to the
program, out.
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

#: Each is called with the initial response, or None, and the facts.
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

# RFC 4648 section 4, with its padding and nothing else; b64decode would skip foreign octets.
_BASE64: Final = re.compile(
    rb"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?", re.ASCII
)


def decode_base64(text: bytes) -> bytes:
    """*text*'s octets; Reject 501 5.5.2 unless it is base64 in its one canonical form."""
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

    Each method returns what comes next: a 334 reply, a question to the program, which `answer` or
    `refuse` answers, or at the end AUTHENTICATED; then `user` is the user. Each raises the Refusal
    that ends the exchange otherwise.
    """

    __slots__ = ("_facts", "_mechanism", "has_failed", "method", "user", "username")

    def __init__(self, method: str, facts: Facts) -> None:
        self.method = method
        #: Known once the client has said it.
        self.username: str | None = None
        #: Whether the credentials were refused, though the client may not know that yet.
        self.has_failed = False
        self.user: Any = None
        self._facts = facts
        self._mechanism: Mechanism | None = None

    def begin(self, initial: bytes | None) -> Reply | Question:
        """*initial* is the base64 initial response of the command, or None."""
        if initial is not None:
            # RFC 4954 section 4: "=" is an empty initial response.
            initial = b"" if initial == b"=" else decode_base64(initial)
        self._mechanism = MECHANISMS[self.method](initial, self._facts)
        return self.answer(None)

    def respond(self, line: bytes) -> Reply | Question:
        """*line* is a line of the client's without its CRLF."""
        try:
            if line == b"*":
                raise Reject(501, "Authentication cancelled", "5.7.0")  # RFC 4954 section 4
            response = decode_base64(line)
        except Reject as refusal:
            return self.refuse(refusal)
        return self.answer(response)

    def answer(self, value: Any) -> Reply | Question:
        """*value* is what was asked for: see `Mechanism`."""
        assert self._mechanism is not None
        return self._go_on(self._mechanism.send, value)

    def refuse(self, refusal: Refusal) -> Reply | Question:
        """The mechanism may still have something to say before *refusal* is raised."""
        assert self._mechanism is not None
        # Without its traceback: the program may keep the exception, and the traceback the session.
        return self._go_on(self._mechanism.throw, refusal.with_traceback(None))

    def _go_on(self, resume: Callable[[Any], bytes | Question], value: Any) -> Reply | Question:
        try:
            said = resume(value)
        except StopIteration as done:
            self.user = done.value
            return AUTHENTICATED
        if isinstance(said, bytes):
            return Reply(334, base64.b64encode(said).decode("ascii"))
        return said
