"""What a test server received: the message, parsed, with its envelope and session."""

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
    """What SMTP said about a message."""

    #: "" for the null reverse-path.
    mail_from: str
    rcpt_to: list[str]
    #: The parameters of MAIL, such as SIZE and BODY, in upper case.
    args: Mapping[str, str | bool]


class ReceivedMessage(EmailMessage):
    """A message as it was received, with what was beside it. Its lines end with LF.

    The parts of a multipart message are of this class too, without the attributes below.

    Python's email package raises for some broken messages; these are received too. A field that it
    can't parse is unstructured: the text as it came, without attributes such as ``addresses``. A
    message that it can't divide into parts has its fields and one undivided text, and the exception
    is in ``defects``.
    """

    envelope: ReceivedEnvelope
    #: Its sender's session: user, secure, tls, host_name_appears_as, remote_address …
    session: Session
    #: The message octet for octet, dots unstuffed.
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
        # EmailMessage asks for a policy with `utf8`, which compat32 is not.
        return super().__str__() if isinstance(self.policy, EmailPolicy) else self.as_string()

    def is_attachment(self) -> bool:
        # EmailMessage asks the parsed field, which may be unstructured, or plain text by compat32.
        return self.get_content_disposition() == "attachment"


class _Headers(HeaderRegistry):
    def __call__(self, name: str, value: Any) -> Any:
        try:
            return super().__call__(name, value)
        except Exception:  # IndexError, AttributeError, ValueError … by the version of Python
            return _UNSTRUCTURED(name, value)


_UNSTRUCTURED: Final = HeaderRegistry(use_default_map=False)
#: As `email.policy.default`, for what may be broken.
POLICY: Final = email.policy.default.clone(header_factory=_Headers())


def parse_message(content: bytes, policy: Policy[Any] = POLICY) -> ReceivedMessage:
    """The message in *content*; raises nothing, see `ReceivedMessage`."""
    try:
        message = email.message_from_bytes(content, _class=ReceivedMessage, policy=policy)
    except Exception as exc:
        # Of the fields nothing but their names is looked at here.
        message = BytesHeaderParser(ReceivedMessage, policy=policy).parsebytes(content)
        message.defects.append(exc)
    assert isinstance(message, ReceivedMessage)
    return message
