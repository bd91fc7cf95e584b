"""The TLS certificate: from files, or generated for this run."""

from __future__ import annotations

import os
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from smtp_blinker.connection.tls import make_context

from .settings import Settings, Unusable


def open_certificate(settings: Settings) -> ssl.SSLContext | None:
    if settings.self_signed:
        if settings.cert is not None or settings.key is not None:
            raise Unusable("give either --cert and --key or --self-signed, not both")
        return self_signed_context(settings.name, settings.self_signed_cert)
    if settings.cert is None:
        if settings.key is not None:
            raise Unusable("--key needs --cert, the certificate that belongs to it")
        for listen in settings.listen:
            if listen.scheme == "smtps":
                raise Unusable(f"smtps://{listen} needs --cert and --key, or --self-signed")
        return None
    try:
        return make_context(settings.cert, settings.key)
    except OSError as exc:
        raise Unusable(f"{certificate_problem(exc)}; see --cert and --key") from exc


def certificate_problem(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        return f"certificate and key can't be used: {exc.strerror}"
    return f"can't read {exc.filename}: {exc.strerror}"


def self_signed_context(name: str, path: str) -> ssl.SSLContext:
    """A context with a new certificate for localhost and *name*. The key is not kept.

    The certificate without the key is written to *path*, for clients that shall trust it.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise Unusable(
            "--self-signed needs the package cryptography; pip install 'smtp_blinker[serve]'"
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "smtp_blinker, for trying")])
    names = {"localhost"}
    with suppress(UnicodeError):  # some host names aren't possible in DNS
        names.add(name.encode("idna").decode("ascii"))
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in sorted(names)]
    alternatives += [x509.IPAddress(ip_address(text)) for text in ("127.0.0.1", "::1")]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        # Required by strict clients (Python 3.13 and later).
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    _write(path, public)
    pem = public + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    # OpenSSL reads keys only from files. This one has mode 0600 and is deleted after reading.
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem)
        file.flush()
        return make_context(file.name)


def _write(path: str, pem: bytes) -> None:
    """Replace the file *path* by *pem* atomically."""
    new = f"{path}.new"
    try:
        Path(new).write_bytes(pem)
        os.replace(new, path)
    except OSError as exc:
        raise Unusable(
            f"can't write the certificate to {path}: {exc.strerror}; choose another file with "
            "--self-signed-cert"
        ) from exc
