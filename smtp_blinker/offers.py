"""What a session is offered: which verbs it may use, TLS, AUTH, XCLIENT and XFORWARD."""

from __future__ import annotations

from .hooks import Hooks
from .options import Options
from .session import Session
from .tls import SecureContexts


class Offers:
    """Worked out anew each time: TLS, AUTH and the program (`session.disabled_commands`,
    `update_secure_context`) change it."""

    __slots__ = ("_contexts", "_hooks", "_options", "_session", "peer")

    def __init__(
        self, options: Options, hooks: Hooks, contexts: SecureContexts, session: Session
    ) -> None:
        self._options = options
        self._hooks = hooks
        self._contexts = contexts
        self._session = session
        #: Whom use_proxy, and later XCLIENT and XFORWARD, trust or don't: what these make of
        #: `session.remote_address` doesn't count, what a PROXY header makes of it does.
        self.peer = session.remote_address

    @property
    def disabled(self) -> frozenset[str]:
        """Verbs that this session may not use."""
        disabled = self._session.disabled_commands
        if disabled is None or disabled is self._options.disabled_commands:
            return self._options.disabled_commands  # type: ignore[return-value]  # made one there
        if isinstance(disabled, str):
            disabled = (disabled,)  # its letters would disable nothing
        return frozenset(verb.upper() for verb in disabled)

    @property
    def starttls(self) -> bool:
        return (
            not self._session.secure
            and self._contexts.loaded
            and "STARTTLS" in self._options.extensions
            and "STARTTLS" not in self.disabled
        )

    @property
    def auth(self) -> bool:
        """Whether there is AUTH at all; see `auth_needs_tls`."""
        # With nobody to ask, AUTH is neither offered nor demanded.
        return (
            self._hooks.on_auth is not None
            and bool(self._options.auth_methods)
            and "AUTH" not in self.disabled
        )

    @property
    def auth_needs_tls(self) -> bool:
        """Whether AUTH has to wait for STARTTLS."""
        return self.starttls and not self._options.allow_insecure_auth

    def forwarding(self, verb: str) -> bool:
        """Whether this peer is trusted with XCLIENT or XFORWARD."""
        options = self._options
        trusted = options.use_xclient if verb == "XCLIENT" else options.use_xforward
        return (
            bool(trusted)
            and self.peer in trusted
            and not self._session.xclient.get("ADDR")
            and verb not in self.disabled
        )
