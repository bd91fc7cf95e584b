"""The interface of smtpdfix 0.5 on top of `SMTPTestServer`, for tests written for smtpdfix."""

from __future__ import annotations

import email.policy
import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..extensions import DEFAULT_EXTENSIONS
from ..session import Credentials, Session
from ..smtp.reply import Reject
from .message import ReceivedMessage, parse_message
from .server import SMTPTestServer

_TRUTH: Final = {
    **dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True),
    **dict.fromkeys(("0", "false", "f", "no", "n", "off"), False),
}


def _truth(value: object) -> bool:
    """Convert a value to bool as smtpdfix does: "yes", "0", …; raises ValueError for others."""
    if not isinstance(value, str):
        return bool(value)
    try:
        return _TRUTH[value.lower()]
    except KeyError:
        raise ValueError(f"{value!r} is neither true nor false") from None


def _pem_files(value: Any) -> tuple[str, str | None] | None:
    """Convert a path or a pair (certificate, key); raises FileNotFoundError for a missing file."""
    certfile, keyfile = value if isinstance(value, tuple) else (value, None)
    if certfile is None:
        return None
    for path in filter(None, (certfile, keyfile)):
        if not os.path.isfile(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return os.fspath(certfile), keyfile and os.fspath(keyfile)


def _from_environment(*names: str, default: Any = None) -> Any:
    """A field whose default is the first non-empty one of these environment variables."""
    return field(default_factory=lambda: next(filter(None, map(os.environ.get, names)), default))


def _files_in_environment() -> Any:
    # The name that smtpdfix reads, and the name in its manual.
    names = ("SMTPD_SSL_CERTIFICATE_FILE", "SMTPD_SSL_CERT_FILE")
    certfile = next(filter(None, map(os.environ.get, names)), None)
    return certfile, os.environ.get("SMTPD_SSL_KEY_FILE") or None


@dataclass
class SMTPDFixConfig:
    """``smtpd.config``: assignments take effect for later connections.

    The defaults come from environment variables (SMTPD_HOST, SMTPD_LOGIN_NAME …). Every value may
    be text: "yes", "0", "2525".
    """

    host: str = _from_environment("SMTPD_HOST", default="127.0.0.1")
    #: 0 for a free port; the server replaces it by the number.
    port: int = _from_environment("SMTPD_PORT", default=0)
    #: Not used: the server is ready when the constructor returns.
    ready_timeout: float = _from_environment("SMTPD_READY_TIMEOUT", default=10.0)
    login_username: str = _from_environment("SMTPD_LOGIN_NAME", default="user")
    login_password: str = _from_environment("SMTPD_LOGIN_PASSWORD", default="password")
    use_ssl: bool = _from_environment("SMTPD_USE_SSL", "SMTPD_USE_TLS", default=False)
    #: Takes precedence over `use_ssl`.
    use_starttls: bool = _from_environment("SMTPD_USE_STARTTLS", default=False)
    enforce_auth: bool = _from_environment("SMTPD_ENFORCE_AUTH", default=False)
    #: Whether AUTH is available only under TLS.
    auth_require_tls: bool = _from_environment("SMTPD_AUTH_REQUIRE_TLS", default=True)
    #: A PEM file with certificate and key, or a pair of files. None for a generated certificate;
    #: when the server uses it, its path is here.
    ssl_cert_files: tuple[str, str | None] | None = field(default_factory=_files_in_environment)
    _changed: Callable[[], None] | None = field(default=None, repr=False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dataclass_fields__:
            raise AttributeError(f"smtpd.config has no {name}")
        convert = _CONVERSIONS.get(name)
        super().__setattr__(name, value if convert is None else convert(value))
        changed = self.__dict__.get("_changed")
        if changed is not None and name != "_changed":
            changed()


_CONVERSIONS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "port": int,
    "ready_timeout": float,
    "use_ssl": _truth,
    "use_starttls": _truth,
    "enforce_auth": _truth,
    "auth_require_tls": _truth,
    "ssl_cert_files": _pem_files,
}


_WITHOUT_AUTH: Final = DEFAULT_EXTENSIONS - {"AUTH"}


class SMTPDFix(SMTPTestServer):
    """The interface of smtpdfix 0.5: ``hostname``, ``port``, ``messages`` and ``config``.

    As in smtpdfix, messages are parsed with the policy compat32 and have the additional fields
    X-Peer, X-MailFrom and X-RcptTo. All of `SMTPTestServer` is available too.
    """

    def __init__(
        self,
        hostname: str | None = None,
        port: int | str | None = None,
        config: SMTPDFixConfig | None = None,
    ) -> None:
        self.config = config or SMTPDFixConfig()
        if hostname is not None:
            self.config.host = hostname
        if port is not None:
            self.config.port = port  # type: ignore[assignment]
        super().__init__(self.config.host, self.config.port)

    @property
    def hostname(self) -> str:
        return self.host

    def start(self) -> None:
        self.config._changed = None
        self._configure()
        super().start()
        self.config.port = self.port
        self.config._changed = self._configure

    def reset(self, persist_messages: bool = True) -> None:
        """Return to the state after `start`, with the same `config`.

        As in smtpdfix the messages stay, unless *persist_messages* is false.
        """
        messages = list(self.messages) if persist_messages else []
        super().reset()
        self.messages.extend(messages)
        self._configure()

    def _configure(self) -> None:
        config = self.config
        if self._front is not None and (config.host, config.port) != (self.host, self.port):
            self.stop()
            self.host, self.port = config.host, config.port
            self.start()  # calls this method again
            return
        tls = config.use_ssl or config.use_starttls
        certfile, keyfile = self._files() if tls else (None, None)
        self._demands_tls = config.use_starttls
        self._user = (config.login_username, config.login_password)
        self._change(
            certfile=certfile,
            keyfile=keyfile,
            secure=config.use_ssl and not config.use_starttls,
            auth_methods=("CRAM-MD5", "LOGIN", "PLAIN"),
            auth_optional=not config.enforce_auth,
            allow_insecure_auth=not config.auth_require_tls,
            bare_newline="allow",  # like smtpdfix: many tests send as_bytes() with LF
            extensions=DEFAULT_EXTENSIONS if tls or not config.auth_require_tls else _WITHOUT_AUTH,
        )

    def _on_auth(self, credentials: Credentials, session: Session) -> Any:
        if self.config.auth_require_tls and not session.secure:
            raise Reject(538, "Encryption required", "5.7.11")
        return super()._on_auth(credentials, session)

    def _files(self) -> tuple[str, str | None]:
        if self.config.ssl_cert_files is None:
            # Not a normal assignment, which would reconfigure the server again.
            self.config.__dict__["ssl_cert_files"] = (str(self._own_certificate.certfile), None)
        assert self.config.ssl_cert_files is not None
        return self.config.ssl_cert_files

    def _parse(self, content: bytes, session: Session) -> ReceivedMessage:
        message = parse_message(content, email.policy.compat32)
        envelope = session.envelope
        message["X-Peer"] = str((session.remote_address, session.remote_port))
        message["X-MailFrom"] = str(envelope.mail_from)
        message["X-RcptTo"] = ", ".join(map(str, envelope.rcpt_to))
        return message
