"""What a session may use now: verbs, TLS, AUTH, XCLIENT and XFORWARD."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from ..hooks import Hooks
from ..options import Options
from ..sasl.scram import DIGESTS
from ..session import Session


class Certificates(Protocol):
    @property
    def loaded(self) -> bool:
        """Whether the server has a certificate."""


class Capabilities:
    """The capabilities of a session, and the `Facts` for the rows of `extensions`.

    They are computed at each access, because TLS, AUTH and the program
    (`session.disabled_commands`, `update_secure_context`) change them.
    """

    __slots__ = ("_certificates", "_hooks", "_options", "_session", "peer")

    def __init__(
        self, options: Options, hooks: Hooks, certificates: Certificates, session: Session
    ) -> None:
        self._options = options
        self._hooks = hooks
        self._certificates = certificates
        self._session = session
        #: The address that must be trusted for XCLIENT and XFORWARD. A PROXY header changes it,
        #: XCLIENT and XFORWARD don't.
        self.peer = session.remote_address

    @property
    def disabled(self) -> frozenset[str]:
        """Verbs that this session may not use."""
        disabled = self._session.disabled_commands
        if disabled is None or disabled is self._options.disabled_commands:
            return self._options.disabled_commands  # type: ignore[return-value]  # made one there
        if isinstance(disabled, str):
            disabled = (disabled,)  # one verb, not a collection of letters
        return frozenset(verb.upper() for verb in disabled)

    @property
    def secure(self) -> bool:
        return self._session.secure

    @property
    def bdat(self) -> bool:
        return "CHUNKING" in self._options.extensions and "BDAT" not in self.disabled

    @property
    def binarymime(self) -> bool:
        return "BINARYMIME" in self._options.extensions and self.bdat

    @property
    def size(self) -> int:
        return self._options.size

    @property
    def hide_size(self) -> bool:
        return self._options.hide_size

    @property
    def max_messages(self) -> int | None:
        return self._options.max_messages

    @property
    def max_recipients(self) -> int | None:
        return self._options.max_recipients

    @property
    def max_rcpt_domains(self) -> int | None:
        return self._options.max_rcpt_domains

    @property
    def max_hold(self) -> int:
        return self._options.max_hold

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def starttls(self) -> bool:
        return (
            not self._session.secure
            and self._certificates.loaded
            and "STARTTLS" in self._options.extensions
            and "STARTTLS" not in self.disabled
        )

    @property
    def auth(self) -> bool:
        """Whether the server supports AUTH; see also `auth_needs_tls`."""
        # Without the hook on_auth the server neither offers nor requires AUTH.
        return (
            self._hooks.on_auth is not None
            and bool(self._options.auth_methods)
            and "AUTH" not in self.disabled
        )

    @property
    def auth_needs_tls(self) -> bool:
        """Whether the client must send STARTTLS before AUTH."""
        return self.starttls and not self._options.allow_insecure_auth

    @property
    def mechanisms(self) -> Sequence[str]:
        """The mechanisms that AUTH offers now."""
        if self._session.user is not None or not self.auth or self.auth_needs_tls:
            return ()
        return tuple(filter(self._can_use, self._options.auth_methods))

    def _can_use(self, mechanism: str) -> bool:
        if mechanism == "EXTERNAL":
            # RFC 4422 appendix A: only the client's certificate counts. After XCLIENT the
            # certificate is that of the proxy.
            tls = self._session.tls
            certificate = None if tls is None else tls.peer_certificate
            return bool(certificate) and not self._session.xclient
        return mechanism not in DIGESTS or self._hooks.on_scram is not None

    def forwarding(self, verb: str) -> bool:
        """Whether this peer may use *verb* (XCLIENT or XFORWARD) now."""
        trusted = self._options.trust("use_xclient" if verb == "XCLIENT" else "use_xforward")
        return (
            self.peer in trusted
            and not self._session.xclient.get("ADDR")
            and verb not in self.disabled
        )
