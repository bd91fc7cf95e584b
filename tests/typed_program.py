"""A program for mypy --strict: what SMTPServer takes passes, and what it doesn't take is an error.

``tox -e types`` checks it. An error that mypy doesn't find is an unused "type: ignore", which is an
error too. The program is never run.
"""

from __future__ import annotations

import email
import email.policy
import io
import ssl
from email.message import EmailMessage
from typing import BinaryIO

from smtp_blinker import (
    DEFAULT_EXTENSIONS,
    Address,
    Credentials,
    MessageStream,
    Policy,
    Reject,
    Session,
    SMTPServer,
    all_of,
)


def on_connect(session: Session) -> None: ...
def on_rcpt_to(address: Address, session: Session) -> None: ...


def on_auth(auth: Credentials, session: Session) -> str | None:
    return auth.username


def on_vrfy(argument: str, session: Session) -> str | None:
    return f"<{argument}>" if session.user else None


def store(stream: MessageStream, session: Session) -> str:
    return f"{len(stream.read())} bytes"


def store_for_each(stream: MessageStream, session: Session) -> list[str | Reject | None]:
    return ["stored", Reject(452), None]


def parse(stream: MessageStream) -> EmailMessage:
    """A stream is what the standard library calls a binary file."""
    file: io.BufferedIOBase = stream
    file.readline()
    io.TextIOWrapper(stream, "latin-1").readline()
    message = email.message_from_binary_file(stream, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    return message


class Limits:
    """A policy, which needs no base class."""

    def on_rcpt_to(self, address: Address, session: Session) -> None:
        session.envelope.add_header("X-Recipient", address.address)


class Named(Policy):
    def on_message(self, content: BinaryIO, session: Session) -> None:
        session.envelope.results["named"] = len(content.read())


def right() -> None:
    SMTPServer(None, on_rcpt_to=all_of(on_rcpt_to, on_rcpt_to), spool_memory=0).use(Limits())
    policies: list[Policy] = [Limits(), Named()]
    SMTPServer(None, on_data=all_of(store, store)).use(*policies)
    SMTPServer(("127.0.0.1", 2525))
    SMTPServer("unix:/run/lmtp.sock", lmtp=True, on_data=store_for_each)
    SMTPServer(
        None,
        name="mx.example.com",
        size=25 * 2**20,
        extensions=DEFAULT_EXTENSIONS - {"SMTPUTF8"} | {"DSN"},
        auth_methods=["PLAIN"],
        max_rcpt_domains=10,
        max_hold=3600,
        on_vrfy=on_vrfy,
        ssl_context=ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        sni_options={"example.org": {"certfile": "cert.pem"}},
        use_proxy=["127.0.0.1", "10.0.0.0/8"],
        bare_newline={"10.0.0.0/8": "normalize"},
        socket_timeout=30,
        data_timeout=None,
        logger=True,
        on_connect=on_connect,
        on_auth=on_auth,
        on_rcpt_to=on_rcpt_to,
        on_data=store,
    )


def wrong() -> None:
    SMTPServer()  # type: ignore[call-arg]
    SMTPServer(2525)  # type: ignore[arg-type]
    SMTPServer("127.0.0.1", 2525)  # type: ignore[call-arg, arg-type]
    SMTPServer(None, sizes=5)  # type: ignore[call-arg]
    SMTPServer(None, size="5")  # type: ignore[arg-type]
    SMTPServer(None, size=None)  # type: ignore[arg-type]
    SMTPServer(None, lmtp="yes")  # type: ignore[arg-type]
    SMTPServer(None, use_proxy=5)  # type: ignore[arg-type]
    SMTPServer(None, bare_newline="keep")  # type: ignore[arg-type]
    SMTPServer(None, resolver=object())  # type: ignore[arg-type]
    SMTPServer(None, on_dat=store)  # type: ignore[call-arg]
    SMTPServer(None, on_data=on_connect)  # type: ignore[arg-type]
    SMTPServer(None, on_rcpt_to=store)  # type: ignore[arg-type]
    SMTPServer(None, on_rcpt_to=all_of(store))  # type: ignore[arg-type]
    SMTPServer(None, on_data=all_of(5))  # type: ignore[arg-type, type-var]


class Domains(SMTPServer):
    """A constructor of its own, with some of the keywords."""

    def __init__(self, *domains: str, size: int = 0) -> None:
        super().__init__(None, size=size, on_rcpt_to=on_rcpt_to)
        self.domains = domains


Domains("example.com", "example.org", size=5)
Domains("example.com", sizes=5)  # type: ignore[call-arg]
