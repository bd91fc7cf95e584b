"""The values that hooks get: Session, Envelope, Address, Credentials."""

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

# Maps each octet to the base 32 digit of its last five bits. 256 is a multiple of 32, so all
# digits are equally likely.
_BASE32 = b"abcdefghijklmnopqrstuvwxyz234567" * 8


def new_id() -> str:
    """16 characters of base 32 from the system's random source."""
    return os.urandom(16).translate(_BASE32).decode("ascii")


@dataclass(frozen=True, slots=True)
class RecipientDSN:
    """NOTIFY= and ORCPT= of RCPT (RFC 3461 sections 4.1 and 4.2)."""

    #: "NEVER" alone, or some of "SUCCESS", "FAILURE", "DELAY"; None if RCPT had no NOTIFY=.
    notify: tuple[str, ...] | None = None
    #: "addr-type;address" with the xtext decoded, or None.
    orcpt: str | None = None


@dataclass(frozen=True, slots=True)
class EnvelopeDSN:
    """RET= and ENVID= of MAIL (RFC 3461 sections 4.3 and 4.4)."""

    #: "FULL", "HDRS" or None.
    ret: str | None = None
    envid: str | None = None


@dataclass(frozen=True, slots=True)
class DeliverBy:
    """BY= of MAIL (RFC 2852 section 4)."""

    #: Seconds from now, -999999999 to 999999999; greater than 0 if the mode is "R".
    seconds: int
    #: What to do after that time: "R" returns the message, "N" notifies the sender.
    mode: str
    #: Whether each server on the way must report that it passed the message on.
    trace: bool = False


@dataclass(frozen=True, slots=True)
class RecipientValidSince:
    """RRVS= of RCPT (RFC 7293)."""

    #: Deliver only if the mailbox has had its present owner since this time; in UTC.
    since: datetime
    #: What to do if the next server lacks RRVS: "R" rejects the message, "C" continues.
    action: str = "R"


NO_RECIPIENT_DSN = RecipientDSN()
NO_ENVELOPE_DSN = EnvelopeDSN()


class Address:
    """A reverse-path or forward-path that the client sent.

    ``address`` is "" for the null reverse-path. It has internationalized domains in U-labels and
    IPv6 literals in the form of RFC 5952; the rest is unchanged. ``args`` are the ESMTP parameters:
    keywords in upper case; values with the xtext decoded, True for a keyword without a value.
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
        #: RRVS= of RCPT (RFC 7293), or None.
        self.rrvs: RecipientValidSince | None = None

    @property
    def args(self) -> Mapping[str, str | bool]:
        args = self._args
        if args is None:
            args = self._args = {}  # not a shared constant, because a program may add to it
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
    """One mail transaction. MAIL, RSET, EHLO, STARTTLS and the end of a message make a new one."""

    # Few clients use the other fields. As class attributes they cost a new envelope no time.
    __slots__ = ("body_type", "mail_from", "rcpt_to", "results", "smtputf8")

    require_tls: bool = False
    dsn: EnvelopeDSN = NO_ENVELOPE_DSN
    #: Octets that MAIL announced with SIZE= (RFC 1870), or None.
    size: int | None = None
    #: AUTH= of MAIL (RFC 4954 section 5): a mailbox, "<>", or None. It is only the client's claim.
    #: Treat it as "<>" if `Session.user` is None or a user that you don't trust with it.
    auth: str | None = None
    #: BY= of MAIL (RFC 2852), or None.
    deliver_by: DeliverBy | None = None
    #: MT-PRIORITY= of MAIL (RFC 6710), -9 to 9, or None.
    priority: int | None = None
    #: HOLDFOR= of MAIL (RFC 4865), seconds, or None.
    hold_for: int | None = None
    #: HOLDUNTIL= of MAIL (RFC 4865), in UTC, or None. Never set together with `hold_for`.
    hold_until: datetime | None = None
    #: The time of receipt with its time zone, if a store passes the message on later; None means
    #: now.
    received_at: datetime | None = None
    #: The domains of the accepted recipients in lower case; set only with `max_rcpt_domains`.
    rcpt_domains: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.mail_from: Address | None = None
        self.rcpt_to: list[Address] = []
        #: "7bit", "8bitmime" (RFC 6152) or "binarymime" (RFC 3030).
        self.body_type = "7bit"
        self.smtputf8 = False
        #: The results of policies about the message, by the names of the policies.
        self.results: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"<Envelope {self.mail_from!r} -> {self.rcpt_to!r}>"


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """The TLS parameters of a session, from `ssl.SSLObject` after the handshake."""

    #: For example "TLSv1.3".
    version: str
    #: The cipher's name, its protocol and the number of its secret bits.
    cipher: tuple[str, str, int]
    #: The client's verified certificate as `ssl.SSLSocket.getpeercert` returns it, or None.
    peer_certificate: Mapping[str, Any] | None = None


class Session:
    """One connection, from before the greeting to its end. Every hook gets the same object.

    Programs may set further attributes on it.
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
        #: "HELO", "EHLO" or "LHLO"; None before the client has sent it.
        self.opening_command: str | None = None
        #: The argument of HELO, EHLO or LHLO in lower case; None before.
        self.host_name_appears_as: str | None = None
        self.secure = secure
        self.tls: TLSInfo | None = None
        #: The name of the TLS SNI extension in lower-case A-labels, or None.
        self.servername: str | None = None
        #: The result of `on_auth`; None for a client without AUTH.
        self.user: Any = None
        #: The number of the current mail transaction: 1 for the first message.
        self.transaction = 1
        #: The attributes of XCLIENT by upper-case name; None for an unavailable one. With ADDR
        #: there is also "ADDR:DEFAULT", the client's address before XCLIENT.
        self.xclient: dict[str, str | None] = {}
        #: The same for XFORWARD.
        self.xforward: dict[str, str | None] = {}
        #: The PROXY header of the connection, or None.
        self.proxy: ProxyHeader | None = None
        #: Verbs that are answered 502. It begins as the option of this name; a program may replace
        #: it for this session, and set None to return to the option.
        self.disabled_commands: Collection[str] | None = frozenset()
        #: The last 4yz or 5yz reply, or None.
        self.error: Reply | None = None
        self.envelope = Envelope()
        #: The results of policies about the client, by the names of the policies.
        self.results: dict[str, Any] = {}

    @property
    def client_hostname(self) -> str:
        """The client's host name by reverse DNS, or ``[address]``.

        The look-up begins with the connection. The first access waits for it, 1.5 s at most.
        """
        name = self._hostname
        if not isinstance(name, str):
            name = self._hostname = name()
        return name or f"[{self.remote_address}]"

    @client_hostname.setter
    def client_hostname(self, name: str | Callable[[], str]) -> None:
        self._hostname = name

    def save_client(self) -> tuple[Any, ...]:
        """The client's addresses and name for `restore_client`. Doesn't wait for the look-up."""
        return (
            self.remote_address,
            self.remote_port,
            self.local_address,
            self.local_port,
            self._hostname,
        )

    def restore_client(self, saved: tuple[Any, ...]) -> None:
        """Set the client's addresses and name back to those of `save_client`."""
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

        *by* is this server's name and *message_id* the id clause. Characters from the client that
        could break or forge a header field are replaced. If the message doesn't begin with a
        header field, write an empty line after this field, or the message would continue it. The
        same as `smtp_blinker.trace.received`.
        """
        return trace.received(self, by, message_id)

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.remote_address}:{self.remote_port}>"


class Credentials:
    """The credentials that a client sent with AUTH, for `on_auth`. Its repr shows no secret."""

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
        #: "SCRAM-SHA-1", "EXTERNAL" (the server has verified the client's proof); or "XCLIENT" (a
        #: trusted proxy sent the name, without a password).
        self.method = method
        self.username = username
        self.password = password
        #: The authentication identity of PLAIN (RFC 4616, unchanged), SCRAM and EXTERNAL: the user
        #: who has the password, or whom the certificate names.
        self.authcid = authcid
        self._authzid = authzid
        #: Whether the program read `authzid`. If not, it hasn't allowed the client to act for
        #: another user.
        self._authzid_was_read = False
        self.access_token = access_token
        #: The challenge of CRAM-MD5 and the client's hex digest (RFC 2195).
        self.challenge = challenge
        self.challenge_response = challenge_response

    @property
    def authzid(self) -> str | None:
        """The authorization identity of PLAIN, SCRAM or EXTERNAL: the user that the client wants to
        act as; "" for `username` itself.

        A hook that reads it decides whether this is allowed. If no hook reads it, the server
        refuses an authzid other than `username`.
        """
        self._authzid_was_read = True
        return self._authzid

    def forget_reads(self) -> None:
        """Ignore that policies read `authzid`: only the program may allow it."""
        self._authzid_was_read = False

    @property
    def has_unread_authzid(self) -> bool:
        """Whether the client wants to act for another user and no program code read `authzid`."""
        return bool(self._authzid) and self._authzid != self.username and not self._authzid_was_read

    def validate_password(self, password: str | None) -> bool:
        """Whether the client knows *password*, compared in constant time.

        For PLAIN, LOGIN and CRAM-MD5; False for mechanisms without a password. *password* may be
        None for a user that doesn't exist; the result then is False after the same time.
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
