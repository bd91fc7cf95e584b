"""An SMTP server for tests of programs that send mail: pip install 'smtp_blinker[pytest]'.

    with SMTPTestServer() as smtp_server:
        send_the_mail_of_the_program(smtp_server.host, smtp_server.port)
        [message] = smtp_server.wait_for(1)
        assert message["Subject"] == "Welcome"
        assert message.envelope.rcpt_to == ["ann@example.com"]

The fixtures for pytest are in `smtp_blinker.pytest_plugin`; docs/pytest.md is the manual.
"""

from __future__ import annotations

from ..faults import STAGES
from .message import ReceivedEnvelope, ReceivedMessage
from .server import SMTPTestServer
from .smtpdfix import SMTPDFix, SMTPDFixConfig

__all__ = [
    "STAGES",
    "ReceivedEnvelope",
    "ReceivedMessage",
    "SMTPDFix",
    "SMTPDFixConfig",
    "SMTPTestServer",
]
