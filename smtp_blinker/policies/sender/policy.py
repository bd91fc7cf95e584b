"""SenderAuthentication: verifies the sender and applies the author's DMARC policy."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, BinaryIO, Final

from gevent.pool import Pool

from ...pools import SIGNATURES
from ...session import Address, Session
from ...smtp.names import ascii_domain
from ...smtp.reply import Reject
from ..base import LOOPBACK, BasePolicy, Networks, OnFailure
from ..dns import DNSFailure, Queries, Resolver
from .dmarc import check_dmarc
from .header_fields import HeaderTooLong
from .lookups import Lookups
from .message import parse_message, verify_message
from .report import forged_by, results_value
from .results import ARCResult, DMARCResult, SenderAuthenticationResult
from .signature import KeyRecords
from .spf import check_spf

_FIELD: Final = "Authentication-Results"
_AUTHSERV_ID: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
#: Keys that are looked up in parallel.
_AT_ONCE: Final = 4


class SenderAuthentication(BasePolicy):
    """Checks SPF at MAIL, and DKIM, ARC and DMARC for the message; adds Authentication-Results.

    *authserv_id*: this server's name in that field, by default the option ``name``. It removes
    existing fields with this name, except from *trusted* clients. *enforce_dmarc*: refuse with 550
    5.7.1 a message that fails DMARC if the domain's policy is reject, and a message whose author
    is unclear. *resolver*: a `dns.Resolver`, by default one with the servers of /etc/resolv.conf.
    DNS may take *timeout* seconds at MAIL and again for the message. Without an answer in this
    time the result is "temperror", and *on_failure* applies if the decision depends on it.

    The `SenderAuthenticationResult` is in ``session.envelope.results["sender_authentication"]``:
    with SPF after MAIL, and complete after the message. Needs
    ``pip install 'smtp_blinker[sender-auth]'``. Raises ValueError for a wrong *authserv_id*.
    """

    name = "sender_authentication"

    def __init__(
        self,
        authserv_id: str | None = None,
        *,
        enforce_dmarc: bool = False,
        resolver: Queries | None = None,
        trusted: Networks = LOOPBACK,
        judge_authenticated: bool = False,
        timeout: float = 5.0,
        on_failure: OnFailure = "accept",
    ) -> None:
        super().__init__(
            trusted=trusted,
            judge_authenticated=judge_authenticated,
            timeout=timeout,
            on_failure=on_failure,
        )
        self.authserv_id: str | None = None
        if authserv_id is not None:
            self.authserv_id = _checked_id(authserv_id)
        self.enforce_dmarc = enforce_dmarc
        self._resolver: Queries = Resolver() if resolver is None else resolver

    def attach(self, server: Any) -> None:
        super().attach(server)
        if self.authserv_id is None:
            self.authserv_id = _checked_id(server.options.name)

    def on_mail_from(self, address: Address, session: Session) -> None:
        if self.judges(session):
            session.envelope.results[self.name] = self._check_spf(address, session)

    def on_message(self, content: BinaryIO, session: Session) -> None:
        if self._is_trusted(session.remote_address or "127.0.0.1"):
            return
        assert self.authserv_id is not None
        envelope = session.envelope
        envelope.remove_header(_FIELD, forged_by(self.authserv_id))
        if not self.judges(session):
            return
        known = envelope.results.get(self.name)
        if known is None:  # another client by XFORWARD since MAIL
            known = self._check_spf(envelope.mail_from or Address(""), session)
        result = self._judge(content, known)
        self.note(session, envelope.results, result)
        envelope.add_header(_FIELD, results_value(self.authserv_id, result))
        self._decide(session, result)

    def _check_spf(self, address: Address, session: Session) -> SenderAuthenticationResult:
        client = session.remote_address or "127.0.0.1"
        local, at, domain = address.address.rpartition("@")
        sender = f"{local}{at}{ascii_domain(domain)}"
        helo = ascii_domain(session.host_name_appears_as or "unknown")
        lookups = Lookups(self._resolver, self.timeout)
        name = self.authserv_id or "unknown"
        spf = check_spf(client, sender, helo, lookups, name)
        # RFC 7208 section 2.3: check the HELO name too. For a bounce, `spf` is that check.
        of_helo = check_spf(client, "", helo, lookups, name) if sender else None
        return SenderAuthenticationResult(spf, helo=of_helo)

    def _judge(
        self, content: BinaryIO, result: SenderAuthenticationResult
    ) -> SenderAuthenticationResult:
        try:
            parsed = SIGNATURES.run(parse_message, content)
        except HeaderTooLong as exc:
            why = str(exc)
            arc, dmarc = ARCResult("fail", reason=why), DMARCResult("permerror", "", reason=why)
            return replace(result, arc=arc, dmarc=dmarc)
        # Half of the time for keys, half for DMARC, so that missing keys can't prevent DMARC.
        records = self._look_up(parsed.key_names, Lookups(self._resolver, self.timeout / 2))
        dkim, arc = SIGNATURES.run(verify_message, content, parsed, records)
        lookups = Lookups(self._resolver, self.timeout / 2)
        dmarc = check_dmarc(parsed.authors, result.spf, dkim, lookups)
        return replace(result, dkim=dkim, arc=arc, dmarc=dmarc)

    def _look_up(self, names: list[str], lookups: Lookups) -> dict[str, KeyRecords]:
        def ask(name: str) -> KeyRecords:
            try:
                return lookups.ask(name, "TXT")
            except DNSFailure as exc:
                return str(exc)

        return dict(zip(names, Pool(_AT_ONCE).map(ask, names), strict=True))

    def _decide(self, session: Session, result: SenderAuthenticationResult) -> None:
        spf, dmarc = result.spf, result.dmarc
        assert dmarc is not None
        if self.enforce_dmarc and dmarc.result == "fail" and dmarc.policy == "reject":
            text = f"The DMARC policy of {dmarc.domain} is to reject this message"
            raise Reject(550, text, "5.7.1")
        if self.enforce_dmarc and dmarc.result == "permerror":
            raise Reject(550, f"DMARC finds no valid author: {dmarc.reason}", "5.7.1")
        if dmarc.result == "temperror":
            self.fail(session, f"DMARC of {dmarc.domain}: {dmarc.reason}")
        elif dmarc.result != "pass" and spf.result == "temperror":
            self.fail(session, f"SPF of {spf.domain}: {spf.reason}")


def _checked_id(authserv_id: object) -> str:
    if isinstance(authserv_id, str):
        name = ascii_domain(authserv_id)
        if _AUTHSERV_ID.fullmatch(name):
            return name
    raise ValueError(f'authserv_id is a name like "mx.example.org", not {authserv_id!r}')
