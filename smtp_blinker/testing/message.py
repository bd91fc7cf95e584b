"""The messages that a test server received, parsed, with their envelopes and sessions."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import HeaderRegistry
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from email.policy import EmailPolicy, Policy
from typing import Any, Final

from ..session import Session


@dataclass(frozen=True, slots=True)
class ReceivedEnvelope:
    """The envelope of a message."""

    #: "" for the null reverse-path.
    mail_from: str
    rcpt_to: list[str]
    #: The parameters of MAIL, such as SIZE and BODY, in upper case.
    args: Mapping[str, str | bool]


class ReceivedMessage(EmailMessage):
    """A received message with its envelope and session. Its lines end with LF.

    The parts of a multipart message have this class too, but not the attributes below.

    It also holds broken messages for which Python's email package raises. A field that the package
    can't parse is unstructured: its text, without attributes such as ``addresses``. A message that
    it can't divide into parts has its fields and its text as one part, and the exception is in
    ``defects``.
    """

    envelope: ReceivedEnvelope
    #: The session of the client: user, secure, tls, host_name_appears_as, remote_address …
    session: Session
    #: The unchanged octets of the message, after dot unstuffing.
    content: bytes

    def __repr__(self) -> str:
        envelope: ReceivedEnvelope | None = getattr(self, "envelope", None)
        if envelope is None:
            return super().__repr__()
        recipients = " ".join(f"<{address}>" for address in envelope.rcpt_to[:5])
        more = "" if len(envelope.rcpt_to) <= 5 else f" and {len(envelope.rcpt_to) - 5} more"
        subject = "no subject" if self["Subject"] is None else repr(str(self["Subject"]))
        return f"<message {subject} from <{envelope.mail_from}> to {recipients}{more}>"

    def __str__(self) -> str:
        # EmailMessage needs a policy with `utf8`, which compat32 lacks.
        return super().__str__() if isinstance(self.policy, EmailPolicy) else self.as_string()

    def is_attachment(self) -> bool:
        # EmailMessage expects a parsed field, but it may be unstructured or (compat32) plain text.
        return self.get_content_disposition() == "attachment"


class _Headers(HeaderRegistry):
    def __call__(self, name: str, value: Any) -> Any:
        try:
            return super().__call__(name, value)
        except Exception:  # IndexError, AttributeError, ValueError … by Python version
            return _UNSTRUCTURED(name, value)


_UNSTRUCTURED: Final = HeaderRegistry(use_default_map=False)
#: Like `email.policy.default`, but it accepts broken fields.
POLICY: Final = email.policy.default.clone(header_factory=_Headers())


def parse_message(content: bytes, policy: Policy[Any] = POLICY) -> ReceivedMessage:
    """Parse *content*; raises nothing, see `ReceivedMessage`."""
    try:
        message = email.message_from_bytes(content, _class=ReceivedMessage, policy=policy)
    except Exception as exc:
        # This parser reads only the header, and doesn't parse the values of the fields.
        message = BytesHeaderParser(ReceivedMessage, policy=policy).parsebytes(content)
        message.defects.append(exc)
    assert isinstance(message, ReceivedMessage)
    return message
