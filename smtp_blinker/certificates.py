"""Checks the options that name certificates, before any file is opened."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from typing import Any

#: The five settings that make a context, then the two that replace it or stand beside it.
CERTIFICATE_SETTINGS = (
    "certfile", "keyfile", "ca_certs", "cert_reqs", "ciphers", "ssl_context", "sni_options",
)  # fmt: skip

#: The keys that a dict in sni_options may have.
_SNI_SETTINGS = frozenset(CERTIFICATE_SETTINGS[:5])


def check_certificates(settings: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError for a wrong setting and for contradictory settings.

    Opens no file. *settings* may lack any of CERTIFICATE_SETTINGS; None means not set.
    """
    for name in ("certfile", "keyfile", "ca_certs"):
        value = settings.get(name)
        # The standard library would take a number as a file descriptor, and close it.
        if value is not None and not isinstance(value, (str, os.PathLike)):
            raise TypeError(f"{name} takes a path, not {value!r}")
    ciphers, cert_reqs = settings.get("ciphers"), settings.get("cert_reqs")
    if ciphers is not None and not isinstance(ciphers, str):
        raise TypeError(f"ciphers takes text, not {ciphers!r}")
    if cert_reqs is not None and cert_reqs not in tuple(ssl.VerifyMode):
        raise ValueError(f"cert_reqs is one of ssl.CERT_*, not {cert_reqs!r}")
    context = settings.get("ssl_context")
    if context is not None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"ssl_context takes an ssl.SSLContext, not {context!r}")
        _check_server_context("ssl_context", context)
        for name in CERTIFICATE_SETTINGS[:5]:
            if settings.get(name) is not None:
                raise ValueError(f"give either ssl_context or {name}: set it on the context")
    if settings.get("keyfile") is not None and settings.get("certfile") is None:
        raise ValueError("keyfile is given without certfile")
    if cert_reqs == ssl.CERT_REQUIRED and context is None and settings.get("ca_certs") is None:
        raise ValueError("cert_reqs=CERT_REQUIRED needs ca_certs to verify clients' certificates")
    demanded = ssl.CERT_REQUIRED in (cert_reqs, context.verify_mode if context else None)
    by_name = settings.get("sni_options", {})
    if not isinstance(by_name, Mapping):
        raise TypeError(f"sni_options takes a mapping of host name to context, not {by_name!r}")
    for name, entry in by_name.items():
        if not isinstance(name, str):
            raise TypeError(f"sni_options has host names as its keys, not {name!r}")
        _check_entry(f"sni_options[{name!r}]", entry, settings, demanded)


def _check_entry(name: str, entry: object, settings: Mapping[str, Any], demanded: bool) -> None:
    """Check one *entry* of sni_options; errors call it *name*.

    *demanded*: whether the default certificate settings require a client certificate.
    """
    if isinstance(entry, ssl.SSLContext):
        _check_server_context(name, entry)
        if demanded and entry.verify_mode == ssl.CERT_NONE:
            # CERT_NONE is also the default of a new context, so it may be an oversight.
            raise ValueError(
                f"{name} asks for no client certificate, though the default "
                "requires one: set its verify_mode, or give a dict with cert_reqs=CERT_NONE"
            )
        return
    if (
        not isinstance(entry, Mapping)
        or not set(entry) <= _SNI_SETTINGS
        or entry.get("certfile") is None
    ):
        raise TypeError(
            f"{name} takes an ssl.SSLContext or a dict with certfile and keyfile, not {entry!r}"
        )
    try:
        check_certificates(sni_settings(settings, entry))
    except (TypeError, ValueError) as exc:
        raise type(exc)(f"{name}: {exc}") from None


def _check_server_context(name: str, context: ssl.SSLContext) -> None:
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        # Every handshake would fail.
        raise ValueError(
            f"{name} is a client's context: make a server's with "
            "ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"
        )


def sni_settings(settings: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for the context of *entry*, a dict in sni_options.

    A missing ca_certs, cert_reqs or ciphers comes from *settings*. A missing keyfile doesn't,
    because a key belongs to its own certfile.
    """
    inherited = {name: settings.get(name) for name in ("ca_certs", "cert_reqs", "ciphers")}
    return inherited | {name: value for name, value in entry.items() if value is not None}
