"""TLS: contexts, the SNI map, and the sans-I/O channel of one connection.

TLS runs on memory buffers (`SSLContext.wrap_bio`), never on the socket: so any context works,
gevent's or the standard library's, patched or not, and no handshake can stall the hub.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, MutableMapping
from types import GetSetDescriptorType
from typing import Any, Final
from weakref import WeakKeyDictionary

from ..certificates import CERTIFICATE_SETTINGS, check_certificates, sni_settings
from ..options import Options
from ..pools import HANDSHAKES
from ..session import TLSInfo
from ..smtp.names import ascii_domain
from .client_hello import ClientHello

#: Seconds of CPU for the answer to a ClientHello, above which the next one is computed in a thread.
#: A key for P-256 needs 0.2 ms, and a thread for it 0.1 ms more; RSA needs 0.45 ms with 2048 bits
#: and 4.5 ms with 4096, eight clients at once would stop all others for 36 ms.
COSTLY: Final = 0.0003
#: On a busy machine half of the answers with a key for P-256 take longer than that. So the least of
#: the last few hundred answers counts: each answer raises it by this factor at most.
_RISE: Final = 1.002
#: Octets of an answer: one with our certificate and a signature is longer, one without (that of a
#: resumed session, a HelloRetryRequest) is shorter, and its cost is another.
_SIGNED: Final = 400

#: RFC 8446 section 6: a record with a fatal alert, unrecognized_name.
_UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"


def make_context(
    certfile: Any,
    keyfile: Any = None,
    ca_certs: Any = None,
    cert_reqs: int | None = None,
    ciphers: str | None = None,
) -> ssl.SSLContext:
    """Make a server context with TLS 1.2 or later (RFC 8996) and without renegotiation.

    Raises OSError for a file that can't be read, and ssl.SSLError for a file that isn't a
    certificate or key, for an encrypted key (both name the file) and for unknown ciphers.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # No session tickets. Mail clients rarely use one, and some fail at those of TLS 1.3. With
    # TLS 1.2 the ticket key would never change while the context lives, which RFC 9325 section 3.4
    # forbids. Without tickets OpenSSL stores 20,480 sessions at most (20 MiB).
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
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
            raise ssl.SSLError(exc.errno, f"ciphers has no known cipher: {ciphers!r}") from None
    return context


def _no_password() -> str:
    """Replaces OpenSSL's password prompt, which blocks on the terminal.

    A program that knows the password passes an ssl_context.
    """
    raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the key is encrypted, its password unknown")


def _read(path: Any) -> bytes:
    """Read a file. Its OSError names the file, unlike those of the module ssl."""
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
    """A description of the failure for the operator."""
    reason = getattr(exc, "reason", None) or str(exc)  # our own errors have no reason
    _, alert, name = reason.rpartition("_ALERT_")
    if not alert:
        return f"TLS: {reason.replace('_', ' ').lower()}"
    words = name.replace("_", " ").lower()
    if name in _DISTRUST:
        return f"the client refused the certificate (alert {words})"
    return f"the client ended TLS (alert {words})"


class SecureContexts:
    """The certificates in use: a default context, and others by SNI name.

    `update` replaces all of them together; connections after their handshake keep the old ones.
    """

    def __init__(self, options: Options) -> None:
        self._settings: dict[str, Any] = {
            name: getattr(options, name) for name in CERTIFICATE_SETTINGS
        }
        self._default: ssl.SSLContext | None = None
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._costs: WeakKeyDictionary[ssl.SSLContext, float] = WeakKeyDictionary()
        if options.offers_tls:
            self._load(self._settings)

    def update(self, changes: Mapping[str, Any]) -> None:
        """Load the certificates again, with *changes* to the settings. After an error the old
        certificates stay in use.

        Raises TypeError for an unknown setting, ValueError for a contradiction, and what
        `make_context` raises. A new ssl_context replaces the settings of the old context, and a new
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
        by_name = {}
        for name, entry in settings["sni_options"].items():
            context = entry
            if not isinstance(entry, ssl.SSLContext):
                context = make_context(**sni_settings(settings, entry))
                if settings["ssl_context"] is not None:
                    _inherit(context, default, entry, name)
            by_name[_server_name(ascii_domain(name))] = context
        for context in (default, *by_name.values()):
            _guard_sni_callback(context)
        self._default, self._by_name = default, by_name

    @property
    def loaded(self) -> bool:
        """Whether there is a certificate."""
        return self._default is not None

    def channel(self) -> TLSChannel:
        """A channel for a new connection, its handshake not begun."""
        assert self._default is not None
        return TLSChannel(self._default, self._by_name, self._costs)


def _inherit(
    context: ssl.SSLContext, default: ssl.SSLContext, entry: Mapping[str, Any], name: str
) -> None:
    """Copy settings from *default* to *context*, which was made from the dict *entry* for *name*,
    as far as *entry* doesn't set them.

    Raises ValueError if the CA certificates can't be copied.
    """
    context.options |= default.options
    context.minimum_version = default.minimum_version
    context.maximum_version = default.maximum_version
    if entry.get("ciphers") is None:
        # Python can't set the ciphers of TLS 1.3.
        ciphers = [one["name"] for one in default.get_ciphers() if one["protocol"] != "TLSv1.3"]
        if ciphers:
            context.set_ciphers(":".join([*ciphers, f"@SECLEVEL={default.security_level}"]))
    if entry.get("cert_reqs") is not None or default.verify_mode == ssl.CERT_NONE:
        return
    context.verify_mode = default.verify_mode
    context.verify_flags = default.verify_flags
    if entry.get("ca_certs") is None:
        authorities = default.get_ca_certs(binary_form=True)
        known = default.cert_store_stats()
        if not authorities or known["crl"] or known["x509"] != len(authorities):
            raise ValueError(
                f"sni_options[{name!r}]: the CA certificates of ssl_context can't be copied; "
                "give ca_certs and cert_reqs here, or an ssl.SSLContext"
            )
        context.load_verify_locations(cadata=b"".join(authorities))


class _GuardedCallback:
    """Wraps a context's own sni_callback, so that its exceptions end the handshake with an alert.

    Otherwise Python prints the traceback to standard error, and no logger gets it.
    """

    def __init__(self, callback: Callable[..., int | None]) -> None:
        self._callback = callback

    def __call__(
        self, channel: ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> int | None:
        try:
            result = self._callback(channel, name, context)
            if result is not None and not isinstance(result, int):
                raise TypeError(f"sni_callback returns None or an alert's number, not {result!r}")
            return result
        except Exception as exc:
            channel.smtp_failure = exc  # type: ignore[attr-defined]
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR


def _guard_sni_callback(context: ssl.SSLContext) -> None:
    slot = _sni_slot(context)
    callback = context.sni_callback
    if callback is not None and not isinstance(slot.__get__(context), _GuardedCallback):
        slot.__set__(context, _GuardedCallback(callback))


def _sni_slot(context: ssl.SSLContext) -> GetSetDescriptorType:
    """Set OpenSSL's own sni_callback: gevent's property expects each peer to be its SSLSocket."""
    for cls in type(context).__mro__:
        slot = vars(cls).get("sni_callback")
        if isinstance(slot, GetSetDescriptorType):
            return slot
    raise TypeError(f"{context!r} has no sni_callback")


def _server_name(name: str) -> str:
    """*name* in the form for comparisons: A-labels in lower case, without a root dot."""
    return name.lower().rstrip(".")


class TLSChannel:
    """The TLS of one connection, without I/O: network octets on one side, plain ones on the other.

    It uses the context in *by_name* for the client's server name, else *default*. *costs* keeps
    for each context the CPU time of its answer to a ClientHello. Every method may raise
    ssl.SSLError; the caller must still send what `to_send` returns after that (an alert).
    """

    __slots__ = (
        "_answering",
        "_by_name",
        "_costs",
        "_default",
        "_has_rest",
        "_hello",
        "_in_thread",
        "_incoming",
        "_object",
        "_outgoing",
        "servername",
    )

    def __init__(
        self,
        default: ssl.SSLContext,
        by_name: Mapping[str, ssl.SSLContext],
        costs: MutableMapping[ssl.SSLContext, float],
    ) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._default = default
        self._by_name = by_name
        self._costs = costs
        #: Whether a thread uses the buffers; perhaps still after its waiting greenlet was killed.
        self._in_thread = False
        #: Whether a record may have more octets than were asked for.
        self._has_rest = False
        #: None once the context is chosen.
        self._hello: ClientHello | None = ClientHello()
        #: The context, until our certificate was sent.
        self._answering: ssl.SSLContext | None = None
        #: The server name that the client requested, in lower-case A-labels, or None.
        self.servername: str | None = None
        # Set after the ClientHello.
        self._object: ssl.SSLObject

    def received(self, data: bytes) -> None:
        """Add octets from the network; b"" at their end."""
        if self._hello is not None:
            self._hello.feed(data)
        elif data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    @property
    def has_to_send(self) -> bool:
        return self._outgoing.pending > 0

    def to_send(self) -> bytes:
        return b"" if self._in_thread else self._outgoing.read()

    def handshake(self) -> bool:
        """Continue the handshake; False if it needs more octets from the network."""
        if self._hello is not None:
            if not self._hello.complete:
                return False
            self._answering = self._begin(self._hello)
            self._hello = None
        if self._answering is not None:
            return self._answer(self._answering)
        return self._go_on()

    def _answer(self, context: ssl.SSLContext) -> bool:
        """Answer the ClientHello. The signature with our key is the largest cost of a handshake."""
        # An sni_callback belongs to the program, which may use gevent in it.
        if self._costs.get(context, 0.0) < COSTLY or context.sni_callback is not None:
            return self._timed(context)
        self._in_thread = True
        return HANDSHAKES.run(self._timed, context)

    def _timed(self, context: ssl.SSLContext) -> bool:
        started = time.thread_time()
        try:
            done = self._go_on()
            signed = self._outgoing.pending > _SIGNED
            if signed:
                cost = time.thread_time() - started
                self._costs[context] = min(cost, self._costs.get(context, cost) * _RISE)
            if signed or done:
                self._answering = None
            return done
        finally:
            self._in_thread = False

    def _go_on(self) -> bool:
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as exc:
            failure = getattr(self._object, "smtp_failure", None)
            if failure is None:
                raise
            raise ssl.SSLError(exc.errno, f"the sni_callback raised {failure!r}") from failure
        return True

    def _begin(self, hello: ClientHello) -> ssl.SSLContext:
        """Choose the context by the name, and return it, before OpenSSL has seen anything.

        In its callback a context could still be exchanged, but OpenSSL's SSL_set_SSL_CTX keeps
        the old one's verify mode, versions and session tickets.
        """
        context = self._default
        name = hello.server_name
        if name is not None and name.isascii():
            text = _server_name(name.decode("ascii"))
            if text.isprintable():
                self.servername = text
                context = self._by_name.get(text, context)
        elif name is not None and context.sni_callback is not None:
            # RFC 6066 section 3: a name is ASCII. Python's `ssl` can't pass this one to the
            # callback, and would print a traceback to standard error.
            self._outgoing.write(_UNRECOGNIZED_NAME)
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, "the server name isn't ASCII")
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(hello.octets)
        return context

    def has_data(self) -> bool:
        """Whether `decrypt` has something to do; otherwise it would raise, which costs time."""
        incoming = self._incoming
        return self._has_rest or incoming.pending > 0 or incoming.eof

    def decrypt(self, size: int) -> bytes | None:
        """Up to *size* plain octets; b"" at the end, None when there are none yet."""
        self._has_rest = False
        try:
            data: bytes = self._object.read(size)
        except ssl.SSLWantReadError:
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # With or without close_notify: an unfinished message never counts as complete.
            return b""
        self._has_rest = len(data) == size
        return data

    def encrypt(self, data: bytes) -> bytes:
        """*data* as it is sent, after what has to be sent before it."""
        self._object.write(data)
        return self._outgoing.read()

    def say_goodbye(self) -> None:
        """Add a close_notify to `to_send`, without waiting for that of the peer."""
        try:
            self._object.unwrap()
        except ssl.SSLError:
            pass

    @property
    def info(self) -> TLSInfo:
        cipher = self._object.cipher()
        assert cipher is not None
        return TLSInfo(self._object.version() or "", cipher, self._object.getpeercert() or None)
