"""TLS: contexts, the SNI map, and the sans-I/O channel of one connection.

TLS runs on memory buffers (`SSLContext.wrap_bio`), never on the socket: so any context works,
gevent's or the standard library's, patched or not, and no handshake can stall the hub.
"""

from __future__ import annotations

import ssl
import unicodedata
from collections.abc import Callable, Mapping
from types import GetSetDescriptorType
from typing import Any

from ..options import CERTIFICATE_SETTINGS, Options, check_certificates
from ..session import TLSInfo


def make_context(
    certfile: Any,
    keyfile: Any = None,
    ca_certs: Any = None,
    cert_reqs: int | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """A server context; TLS 1.2 is its floor (RFC 8996), and renegotiation is refused.

    Raises OSError for a file that can't be read and ssl.SSLError for one that is no certificate
    or key and for an encrypted key, both naming the file; ssl.SSLError for unknown ciphers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    certificate = _read(certfile)
    key = certificate if keyfile is None else _read(keyfile)
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except ssl.SSLError as exc:
        if b" CERTIFICATE-----" not in certificate:
            exc.strerror = f"{certfile} has no certificate in PEM"
        elif b" PRIVATE KEY-----" not in key:
            exc.strerror = f"{keyfile or certfile} has no private key in PEM"
        else:
            exc.strerror = f"{certfile}, {keyfile or 'with its key'}: {exc.strerror}"
        raise
    if ca_certs is not None:
        _read(ca_certs)
        try:
            context.load_verify_locations(ca_certs)
        except ssl.SSLError as exc:
            exc.strerror = f"{ca_certs}: {exc.strerror}"
            raise
    if cert_reqs is not None:
        context.verify_mode = ssl.VerifyMode(cert_reqs)
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as exc:
            raise ssl.SSLError(exc.errno, f"ciphers has none that is known: {ciphers!r}") from None
    return context


def _no_password() -> str:
    """In the place of OpenSSL's own, which asks on the terminal and waits.

    A program that knows the password gives an ssl_context.
    """
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the key is encrypted, its password unknown")


def _read(path: Any) -> bytes:
    """The file; its OSError has the file's name, which those of `ssl` don't."""
    with open(path, "rb") as file:
        return file.read()


#: The alerts of a client that refuses our certificate (RFC 8446 section 6.2).
_DISTRUST = frozenset(
    {
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)


def tls_failure(exc: ssl.SSLError) -> str:
    """What went wrong, as a sentence for the operator."""
    reason = exc.reason or str(exc)
    _, alert, name = reason.rpartition("_ALERT_")
    if not alert:
        return f"TLS: {reason.replace('_', ' ').lower()}"
    words = name.replace("_", " ").lower()
    if name in _DISTRUST:
        return f"the client refused the certificate (alert {words})"
    return f"the client ended TLS (alert {words})"


class SecureContexts:
    """The certificates in use: a default context, and others by SNI name.

    `update` replaces them all at once; connections that have shaken hands keep theirs.
    """

    def __init__(self, options: Options) -> None:
        self._settings: dict[str, Any] = {
            name: getattr(options, name) for name in CERTIFICATE_SETTINGS
        }
        self._default: ssl.SSLContext | None = None
        self._by_name: dict[str, ssl.SSLContext] = {}
        if options.offers_tls:
            self._load(self._settings)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Load again with *changes* to the settings; on an error the old ones stay in use.

        Raises TypeError for an unknown setting, ValueError for a contradiction, and what
        `make_context` raises. A new ssl_context replaces all that made the old one, and a new
        certfile replaces a context.
        """
        for name in changes:
            if name not in CERTIFICATE_SETTINGS:
                known = ", ".join(CERTIFICATE_SETTINGS)
                raise TypeError(f"update_secure_context takes {known}, not {name!r}")
        settings = {**self._settings, **changes}
        if changes.get("ssl_context") is not None:
            settings.update({name: changes.get(name) for name in CERTIFICATE_SETTINGS[:5]})
        elif changes.get("certfile") is not None:
            settings["ssl_context"] = None
        check_certificates(settings)
        self._load(settings)
        self._settings = settings

    def _load(self, settings: Mapping[str, Any]) -> None:
        default = settings["ssl_context"]
        if default is None:
            if settings["certfile"] is None:
                raise ValueError("no certificate: give certfile or ssl_context")
            default = make_context(*(settings[name] for name in CERTIFICATE_SETTINGS[:5]))
        by_name = {
            _a_label(name): entry if isinstance(entry, ssl.SSLContext) else make_context(**entry)
            for name, entry in settings["sni_options"].items()
        }
        slot = _sni_slot(default)
        if not isinstance(slot.__get__(default), _Choose):
            slot.__set__(default, _Choose(default.sni_callback))
        self._default, self._by_name = default, by_name

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate."""
        return self._default is not None

    def channel(self) -> TLSChannel:
        """A channel for a new connection, its handshake not begun."""
        assert self._default is not None
        return TLSChannel(self._default, self._by_name)


def _sni_slot(context: ssl.SSLContext) -> GetSetDescriptorType:
    """OpenSSL's own sni_callback: gevent's property over it takes every peer for its SSLSocket."""
    for cls in type(context).__mro__:
        slot = vars(cls).get("sni_callback")
        if isinstance(slot, GetSetDescriptorType):
            return slot
    raise TypeError(f"{context!r} has no sni_callback")


class _Choose:
    """The callback that runs inside OpenSSL: one look-up, no I/O, no greenlet switch."""

    def __init__(self, other: Callable[..., int | None] | None) -> None:
        self._other = other

    def __call__(
        self, channel: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        if name is not None and name.isprintable():  # any octet can be sent as a name
            name = _a_label(name)
            channel.smtp_servername = name  # type: ignore[attr-defined]
            # The map hangs on the connection: servers may share a context.
            by_name: Mapping[str, ssl.SSLContext] = getattr(channel, "smtp_contexts", {})
            if name in by_name:
                channel.context = by_name[name]
                return None
        return self._other(channel, name, context) if self._other is not None else None


def _a_label(name: str) -> str:
    """*name* in lower-case A-labels, without a root dot.

    Those of IDNA 2008, which clients send: the codec "idna" is that of 2003 and makes a German
    sharp s two letters, which is another name.
    """
    name = name.lower().rstrip(".")
    if name.isascii():
        return name
    name = unicodedata.normalize("NFKC", name).replace("\u3002", ".").rstrip(".")
    return ".".join(
        label if label.isascii() else "xn--" + label.encode("punycode").decode("ascii")
        for label in name.split(".")
    )


class TLSChannel:
    """The TLS of one connection: octets of the network on one side, plain ones on the other.

    Every method may raise ssl.SSLError; what `to_send` returns afterwards (an alert) still
    belongs on the wire.
    """

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(self, context: ssl.SSLContext, by_name: Mapping[str, ssl.SSLContext]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._object.smtp_contexts = by_name  # type: ignore[attr-defined]

    def received(self, data: bytes) -> None:
        """Octets from the network; b"" for their end."""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def to_send(self) -> bytes:
        return self._outgoing.read()

    def handshake(self) -> bool:
        """Go on with the handshake; False when it needs more octets from the network."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, size: int) -> bytes | None:
        """Up to *size* plain octets; b"" at the end, None when there are none yet."""
        try:
            return self._object.read(size)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # With or without close_notify: a message that had not ended is not taken for whole.
            return b""

    def encrypt(self, data: bytes) -> None:
        self._object.write(data)

    def say_goodbye(self) -> None:
        """Put a close_notify into `to_send`; nobody waits for the peer's."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass

    @property
    def servername(self) -> str | None:
        return getattr(self._object, "smtp_servername", None)

    @property
    def info(self) -> TLSInfo:
        cipher = self._object.cipher()
        assert cipher is not None
        return TLSInfo(self._object.version() or "", cipher, self._object.getpeercert() or None)
