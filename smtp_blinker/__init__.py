"""An SMTP and LMTP server on gevent that reports what happens through blinker signals.

`SMTPServer` takes options, and hooks that decide what it accepts. The signals are in
`smtp_blinker.signals`. README.md has a first program.
"""

from .deciders import Policy, all_of
from .extensions import DEFAULT_EXTENSIONS
from .sasl.scram import ScramKeys
from .server import SMTPServer
from .session import Address, Credentials, Envelope, Session
from .smtp.reply import AuthenticationFailed, Reject
from .stream import MessageStream

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_EXTENSIONS",
    "Address",
    "AuthenticationFailed",
    "Credentials",
    "Envelope",
    "MessageStream",
    "Policy",
    "Reject",
    "SMTPServer",
    "ScramKeys",
    "Session",
    "all_of",
]
