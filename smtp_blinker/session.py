"""What a program sees of a client: Session, Envelope, Address, Credentials."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from . import trace
from .header import EditableHeader
from .smtp.reply import Reply

if TYPE_CHECKING:
    from .smtp.proxy import ProxyHeader

# Each octet stands for the base 32 digit of its last five bits: 256 is a multiple of 32, so
# all digits are equally likely.
_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def new_id() -> str:
    """16 characters of base 32 from the system's random source."""
    return os.urandom(16).translate(_BASE32).decode("ascii")


@dataclass(frozen=True, slots=True)
class RecipientDSN:
    """What RCPT asked about delivery status notifications (RFC 3461 sections 4.1 and 4.2)."""

    #: Of "NEVER", "SUCCESS", "FAILURE", "DELAY"; None where the client left it open.
    notify: tuple[str, ...] | None = None
    #: "addr-type;address" with the xtext decoded.
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class EnvelopeDSN:
    """What MAIL asked about delivery status notifications (RFC 3461 sections 4.3 and 4.4)."""

    #: "FULL" or "HDRS".
    ret: str | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY= of MAIL (RFC 2852 section 4)."""

    #: Seconds from now, -999999999 to 999999999; greater than 0 where the mode is "R".
    seconds: int
    #: What to do with the message after that: "R", return it, or "N", notify the sender.
    mode: str
    #: Whether each server on the way is to report that it passed the message on.
    trace: bool = False


@dataclass(frozen=True, slots=True)
class RecipientValidSince:
    """RRVS= of RCPT (RFC 7293)."""

    #: The mailbox must have had its present owner since then; in UTC.
    since: datetime
    #: What a next server without RRVS gets: "R", not the message; "C", the message.
    action: str = "R"


NO_RECIPIENT_DSN = RecipientDSN()
NO_ENVELOPE_DSN = EnvelopeDSN()


class Address:
    """A reverse-path or forward-path as the client gave it.

    ``address`` is "" for the null reverse-path; an internationalised domain is in U-labels, an
    IPv6 literal in the form of RFC 5952, all else as it came. ``args`` are the ESMTP
    parameters: keywords in upper case, values with their xtext decoded, True for a bare keyword.
    """

    __slots__ = ("_args", "address", "dsn", "rrvs")

    def __init__(
        self,
        address: str,
        args: Mapping[str, str | bool] | None = None,
        dsn: RecipientDSN = NO_RECIPIENT_DSN,
    ) -> None:
        self.address = address
        self._args = args
        self.dsn = dsn
        #: What RRVS= asked (RFC 7293), or None.
        self.rrvs: RecipientValidSince | None = None

    @property
    def args(self) -> Mapping[str, str | bool]:
        args = self._args
        if args is None:
            args = self._args = {}  # its own: a program may add to it
        return args

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"Address({self.address!r}, {dict(self.args)!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return self.address == other.address and self.args == other.args

    def __hash__(self) -> int:
        return hash(self.address)


class Envelope(EditableHeader):
    """One mail transaction: a new one begins at MAIL, RSET, EHLO, STARTTLS and after a message."""

    # The others are asked for by few clients: a new envelope needs no time for them.
    __slots__ = ("body_type", "mail_from", "rcpt_to", "results", "smtputf8")

    require_tls: bool = False
    dsn: EnvelopeDSN = NO_ENVELOPE_DSN
    #: Octets that MAIL announced with SIZE= (RFC 1870), or None.
    size: int | None = None
    #: AUTH= of MAIL (RFC 4954 section 5): a mailbox, "<>", or None. The client claims it; where
    #: `Session.user` is None, or a user who isn't trusted to, take it for "<>".
    auth: str | None = None
    #: BY= of MAIL (RFC 2852), or None.
    deliver_by: DeliverBy | None = None
    #: MT-PRIORITY= of MAIL (RFC 6710), -9 to 9, or None.
    priority: int | None = None
    #: HOLDFOR= of MAIL (RFC 4865), seconds, or None.
    hold_for: int | None = None
    #: HOLDUNTIL= of MAIL (RFC 4865), in UTC, or None. There is never both.
    hold_until: datetime | None = None
    #: When the message was received, with the time zone, where a store hands it over later;
    #: None where that is now.
    received_at: datetime | None = None
    #: The domains of the accepted recipients in lower case; kept for `max_rcpt_domains` only.
    rcpt_domains: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.mail_from: Address | None = None
        self.rcpt_to: list[Address] = []
        #: "7bit" or "8bitmime" (RFC 6152).
        self.body_type = "7bit"
        self.smtputf8 = False
        #: What policies found out about the message, by their names.
        self.results: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Envelope {self.mail_from!r} -> {self.rcpt_to!r}>"


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """The TLS of a session, as `ssl.SSLObject` tells it after the handshake."""

    #: For example "TLSv1.3".
    version: str
    #: Name, protocol, secret bits.
    cipher: tuple[str, str, int]
    #: `getpeercert()`: the client's verified certificate, or None.
    peer_certificate: Mapping[str, Any] | None = None


class Session:
    """One connection, from the greeting to its end; the same object in every hook.

    Programs may set attributes of their own on it.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_hostname",
        "_lmtp",
        "disabled_commands",
        "envelope",
        "error",
        "host_name_appears_as",
        "id",
        "local_address",
        "local_port",
        "opening_command",
        "proxy",
        "remote_address",
        "remote_port",
        "results",
        "secure",
        "servername",
        "tls",
        "transaction",
        "user",
        "xclient",
        "xforward",
    )

    def __init__(self, *, lmtp: bool = False, secure: bool = False) -> None:
        self._lmtp = lmtp
        self._hostname: str | Callable[[], str] = ""
        self.id = new_id()
        self.local_address = ""
        self.local_port = 0
        self.remote_address = ""
        self.remote_port = 0
        #: "HELO", "EHLO" or "LHLO" once it was said.
        self.opening_command: str | None = None
        #: The argument of that command in lower case.
        self.host_name_appears_as: str | None = None
        self.secure = secure
        self.tls: TLSInfo | None = None
        #: The SNI name as a lower-case A-label.
        self.servername: str | None = None
        #: What `on_auth` returned; None for a client that did not authenticate.
        self.user: Any = None
        #: 1 for the first message, and so on.
        self.transaction = 1
        #: Attributes that XCLIENT gave, by upper-case name; None for an unavailable one. Beside
        #: ADDR stands "ADDR:DEFAULT", the address before it.
        self.xclient: dict[str, str | None] = {}
        #: The same of XFORWARD.
        self.xforward: dict[str, str | None] = {}
        #: The PROXY header that introduced the client, or None.
        self.proxy: ProxyHeader | None = None
        #: Verbs that are answered 502: at first those of the option; what a program puts here
        #: replaces them. None is the option again.
        self.disabled_commands: Collection[str] | None = frozenset()
        #: The last 4yz or 5yz reply.
        self.error: Reply | None = None
        self.envelope = Envelope()
        #: What policies found out about the client, by their names.
        self.results: dict[str, Any] = {}

    @property
    def client_hostname(self) -> str:
        """The client's name by reverse DNS, or ``[address]``.

        The first access may wait for the lookup that began with the connection (1.5 s at most).
        """
        name = self._hostname
        if not isinstance(name, str):
            name = self._hostname = name()
        return name or f"[{self.remote_address}]"

    @client_hostname.setter
    def client_hostname(self, name: str | Callable[[], str]) -> None:
        self._hostname = name

    def save_client(self) -> tuple[Any, ...]:
        """Who the client is, for `restore_client`. Waits for no lookup."""
        return (
            self.remote_address,
            self.remote_port,
            self.local_address,
            self.local_port,
            self._hostname,
        )

    def restore_client(self, saved: tuple[Any, ...]) -> None:
        """Take back what was said of the client since `save_client`."""
        self.remote_address, self.remote_port, self.local_address, self.local_port = saved[:4]
        self._hostname = saved[4]

    @property
    def transmission_type(self) -> str:
        """SMTP, ESMTP, ESMTPSA, UTF8SMTPS, LMTP … (RFC 3848; RFC 6531 section 4.3)."""
        if self.opening_command == "HELO":
            return "SMTP"
        if self.envelope.smtputf8:
            name = "UTF8LMTP" if self._lmtp else "UTF8SMTP"
        else:
            name = "LMTP" if self._lmtp else "ESMTP"
        return name + ("S" if self.secure else "") + ("A" if self.user else "")

    def received_header(self, by: str, message_id: str | None = None) -> bytes:
        """The Received field of RFC 5321 section 4.4, folded, with its final CRLF.

        *by* is this server's name and *message_id* the id clause. What the client said of
        itself is cut down to characters that can't break or forge a header field. A message that
        begins with no header field needs an empty line behind it, or it would continue the field.
        It is `smtp_blinker.trace.received`.
        """
        return trace.received(self, by, message_id)

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.remote_address}:{self.remote_port}>"


class Credentials:
    """What `on_auth` decides on. Its repr never shows a secret."""

    __slots__ = (
        "_authzid",
        "_authzid_was_read",
        "access_token",
        "authcid",
        "challenge",
        "challenge_response",
        "method",
        "password",
        "username",
    )

    def __init__(
        self,
        method: str,
        username: str,
        *,
        password: str | None = None,
        authcid: str | None = None,
        authzid: str | None = None,
        access_token: str | None = None,
        challenge: str | None = None,
        challenge_response: str | None = None,
    ) -> None:
        #: The mechanism: "PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2", "OAUTHBEARER"; "SCRAM-SHA-256",
        #: "SCRAM-SHA-1", "EXTERNAL" (the client has proved who it is); or "XCLIENT" (no password).
        self.method = method
        self.username = username
        self.password = password
        #: Of the two identities of PLAIN (RFC 4616, as they came), SCRAM and EXTERNAL the one that
        #: knows the password, or that the certificate names.
        self.authcid = authcid
        self._authzid = authzid
        #: Whether a program asked for `authzid`. One that didn't has not allowed another identity.
        self._authzid_was_read = False
        self.access_token = access_token
        #: CRAM-MD5's challenge, and the hex digest that answered it (RFC 2195).
        self.challenge = challenge
        self.challenge_response = challenge_response

    @property
    def authzid(self) -> str | None:
        """The user that a client of PLAIN, SCRAM or EXTERNAL wants to act as; "" for itself.

        The hook that reads it decides; where none does, acting for another than `username` is
        refused.
        """
        self._authzid_was_read = True
        return self._authzid

    def forget_reads(self) -> None:
        """Policies have looked at it, and the program not yet."""
        self._authzid_was_read = False

    @property
    def is_unasked_for_another(self) -> bool:
        """Whether the client wants to act for another, and the program has not read `authzid`."""
        return bool(self._authzid) and self._authzid != self.username and not self._authzid_was_read

    def validate_password(self, password: str | None) -> bool:
        """Whether the client knows *password*; takes the same time for any wrong one.

        For PLAIN, LOGIN and CRAM-MD5; False for mechanisms that carry no password. None, which
        a look-up gives for a user that isn't there, is as wrong as any other.
        """
        expected = (password or "").encode()
        if self.challenge is not None and self.challenge_response is not None:
            digest = hmac.new(expected, self.challenge.encode("ascii"), "md5").hexdigest()
            same = hmac.compare_digest(digest.encode(), self.challenge_response.encode())
        elif self.password is not None:
            same = hmac.compare_digest(self.password.encode(), expected)
        else:
            same = False
        return same and password is not None

    def __repr__(self) -> str:
        return f"<Credentials {self.method} {self.username!r}>"


__all__ = [
    "Address",
    "Credentials",
    "DeliverBy",
    "Envelope",
    "EnvelopeDSN",
    "RecipientDSN",
    "RecipientValidSince",
    "Session",
    "TLSInfo",
]
